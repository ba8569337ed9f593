//! How often and how many at once: the rates and the concurrency of egress rules, at every level that sets one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::egress::Rate;

/// The traffic of all rules.
#[derive(Default)]
pub struct Traffic(Mutex<HashMap<String, Lane>>);

/// One rule at one level: everybody's, or one agent's.
struct Lane {
    window_began: Instant,
    sent: u64,
    concurrency: u32,
    places: Arc<Semaphore>,
}

/// A rate that is used up.
#[derive(Debug, PartialEq, Eq)]
pub struct TooOften {
    pub rate: Rate,
    pub wait: Duration,
}

impl Traffic {
    /// Counts one request in `lane`, if its rate allows one now.
    pub fn count(&self, lane: &str, rate: Rate) -> Result<(), TooOften> {
        let window = Duration::from_secs(rate.seconds);
        self.lane(lane, |lane| {
            let elapsed = lane.window_began.elapsed();
            if elapsed >= window {
                (lane.window_began, lane.sent) = (Instant::now(), 0);
            } else if lane.sent >= rate.requests {
                return Err(TooOften { rate, wait: window - elapsed });
            }
            lane.sent += 1;
            Ok(())
        })
    }

    /// Waits for a place among the requests of `lane` that are under way.
    pub async fn place(&self, lane: &str, concurrency: u32) -> Option<OwnedSemaphorePermit> {
        let places = self.lane(lane, |lane| {
            // Another number than before: those under way keep their places, and do not count.
            if lane.concurrency != concurrency {
                (lane.concurrency, lane.places) = (concurrency, Arc::new(Semaphore::new(concurrency as usize)));
            }
            lane.places.clone()
        });
        places.acquire_owned().await.ok()
    }

    /// Lanes are as many as rules and agents, which are limited.
    fn lane<T>(&self, lane: &str, with: impl FnOnce(&mut Lane) -> T) -> T {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get_mut(lane) {
            return with(lane);
        }
        let new = Lane { window_began: Instant::now(), sent: 0, concurrency: 0, places: Arc::new(Semaphore::new(0)) };
        with(lanes.entry(lane.to_owned()).or_insert(new))
    }
}
