//! Calls that a hold blocks, delays or stops for a while.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    execution::{Execution, unix_ms},
    living::LiveCall,
};
use crate::{
    control::{Hold, Standing},
    step::Effect,
};

/// Longer than any step.
pub const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// The lines of those that wait under each hold that slows calls down.
#[derive(Default)]
pub struct Pace(Mutex<HashMap<String, Lane>>);

/// When the next call may be made: of whoever has the lock. The others wait for it in the order in which they came.
type Lane = Arc<tokio::sync::Mutex<Instant>>;

impl Pace {
    /// Waits until one more call may be made: `per_minute`, evenly. Whoever is dropped before takes no turn.
    pub async fn turn(&self, hold: String, per_minute: u32) {
        let lane = self.lane(hold);
        let mut next = lane.lock().await;
        sleep_until(*next).await;
        *next = Instant::now() + Duration::from_secs(60) / per_minute.max(1);
    }

    fn lane(&self, hold: String) -> Lane {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Of holds that slow nothing down any more nothing is kept.
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1 || lane.try_lock().is_ok_and(|next| *next > now));
        lanes.entry(hold).or_insert_with(|| Arc::new(tokio::sync::Mutex::new(now))).clone()
    }
}

/// Waits as long as a call is frozen or not its turn. Fails with the hold that blocks it. A guest that is stopped, or whose
/// time is up, waits no longer: what awaits this is dropped then.
pub async fn clear(execution: &Execution, call: &LiveCall, effect: Effect) -> Result<(), Arc<Hold>> {
    let lifecycle = &execution.lifecycle;
    let mut changed = lifecycle.holds_changed();
    let mut had_its_turn = false;
    // Kept while other holds come and go, and with it the place in the line.
    let mut line = None;
    loop {
        changed.mark_unchanged();
        match lifecycle.call_standing(execution.guest(), call, effect == Effect::Read) {
            Standing::Free => return Ok(()),
            Standing::Blocked(hold) => return Err(hold),
            Standing::Throttled(..) if had_its_turn => return Ok(()),
            Standing::Throttled(hold, per_minute) => {
                let of = (hold.id.clone(), per_minute);
                let (_, mut turn) = match line.take() {
                    Some((waits_for, turn)) if waits_for == of => (waits_for, turn),
                    _ => (of.clone(), Box::pin(lifecycle.pace().turn(hold.id.clone(), per_minute))),
                };
                tokio::select! {
                    () = &mut turn => had_its_turn = true,
                    _ = changed.changed() => line = Some((of, turn)),
                }
            }
            Standing::Frozen(hold) => {
                // Others that are not frozen may be behind it.
                line = None;
                tokio::select! {
                    _ = changed.changed() => {}
                    () = ends(&hold) => {}
                    hold = call.stop.told() => return Err(hold),
                }
            }
        }
    }
}

/// Waits until a hold ends by itself, by what its time says now.
pub async fn ends(hold: &Hold) {
    let left = hold.until_ms.map(|until| Duration::from_millis(until.saturating_sub(unix_ms())));
    sleep(left.unwrap_or(FOR_EVER)).await;
}
