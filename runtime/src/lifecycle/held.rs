//! Calls that a hold blocks, delays or stops for a while.

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

/// When the next call under each hold that slows calls down may be made.
#[derive(Default)]
pub struct Pace(Mutex<HashMap<String, Instant>>);

impl Pace {
    /// Returns when one more call may be made: `per_minute`, evenly.
    fn next(&self, hold: &str, per_minute: u32) -> Instant {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Of holds that slow nothing down any more nothing is kept.
        turns.retain(|_, next| *next > now);
        let next = turns.get(hold).copied().unwrap_or(now);
        turns.insert(hold.into(), next + Duration::from_secs(60) / per_minute.max(1));
        next
    }
}

/// Waits as long as a call is frozen or not its turn. Fails with the hold that blocks it. A guest that is stopped, or whose
/// time is up, waits no longer: what awaits this is dropped then.
pub async fn clear(execution: &Execution, call: &LiveCall, effect: Effect) -> Result<(), Arc<Hold>> {
    let lifecycle = &execution.lifecycle;
    let mut changed = lifecycle.holds_changed();
    let mut had_its_turn = false;
    loop {
        changed.mark_unchanged();
        match lifecycle.call_standing(execution.guest(), call, effect == Effect::Read) {
            Standing::Free => return Ok(()),
            Standing::Blocked(hold) => return Err(hold),
            Standing::Throttled(..) if had_its_turn => return Ok(()),
            Standing::Throttled(hold, per_minute) => {
                let turn = lifecycle.pace().next(&hold.id, per_minute);
                tokio::select! {
                    () = sleep_until(turn) => had_its_turn = true,
                    _ = changed.changed() => {}
                }
            }
            Standing::Frozen(hold) => {
                tokio::select! {
                    _ = changed.changed() => {}
                    () = ends(&hold) => {}
                    hold = call.stopped() => return Err(hold),
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
