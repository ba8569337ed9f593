//! What the writer and the callers share.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

use super::{
    key::Key,
    merkle::Frontier,
    queue::{Health, JournalError, Queue},
};

/// What the writer and the callers share.
pub struct Shared {
    pub queue: Queue,
    pub key: Key,
    /// The tree of the durable records.
    frontier: Mutex<Frontier>,
    health: Mutex<Health>,
    /// The last durable sequence number.
    pub durable: watch::Sender<u64>,
    poisoned: AtomicBool,
}

impl Shared {
    pub fn new(queue: Queue, key: Key, frontier: Frontier) -> Self {
        Self {
            queue,
            key,
            durable: watch::Sender::new(frontier.size()),
            frontier: Mutex::new(frontier),
            health: Mutex::new(Health::Healthy),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Returns the tree of the durable records.
    pub fn frontier(&self) -> Frontier {
        self.lock_frontier().clone()
    }

    pub fn health(&self) -> Health {
        self.lock_health().clone()
    }

    /// Fails once nothing can be recorded any more.
    pub fn check(&self) -> Result<(), JournalError> {
        match self.poisoned.load(Ordering::Relaxed) {
            false => Ok(()),
            true => match self.health() {
                Health::Poisoned(why) => Err(JournalError::Poisoned(why)),
                Health::Healthy | Health::Full => Ok(()),
            },
        }
    }

    /// Takes over the tree after a commit, and tells those who follow it.
    pub fn advance(&self, frontier: Frontier) {
        let durable = frontier.size();
        *self.lock_frontier() = frontier;
        self.durable.send_replace(durable);
    }

    /// Notes that something was written.
    pub fn succeeded(&self) {
        let mut health = self.lock_health();
        if *health == Health::Full {
            *health = Health::Healthy;
            tracing::info!("the journal has room again");
        }
    }

    /// Notes that something was not written, once for a disk that stays full.
    pub fn failed(&self, failure: &JournalError) {
        let mut health = self.lock_health();
        match failure {
            JournalError::Full if *health == Health::Full => {}
            JournalError::Full => {
                *health = Health::Full;
                tracing::error!("{failure}");
            }
            JournalError::Poisoned(why) => {
                *health = Health::Poisoned(why.clone());
                self.poisoned.store(true, Ordering::Relaxed);
                tracing::error!("{failure}");
            }
            _ => tracing::warn!("{failure}"),
        }
    }

    fn lock_frontier(&self) -> MutexGuard<'_, Frontier> {
        self.frontier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
