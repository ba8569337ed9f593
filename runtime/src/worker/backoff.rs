//! How long a tenant's workers are not started again after they died.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::{Duration, Instant},
};

/// The pause after the second worker in a row that came to a bad end; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(100);

/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(30);

/// A worker that lived so long was a good one, and so were those of a time that long in which none failed: what came
/// before is forgotten.
pub const GOOD: Duration = Duration::from_secs(30);

/// What a tenant's workers came to lately.
#[derive(Default)]
pub struct Backoff {
    failures: u32,
    until: Option<Instant>,
    why: String,
}

impl Backoff {
    /// Counts a worker that could not be started, or came to a bad end after it `lived` so long.
    pub fn failed(&mut self, now: Instant, lived: Duration, why: &str) {
        // Where workers are there for one step, none lives long: so a time without a bad end is as good.
        let calm = self.until.is_none_or(|until| now.saturating_duration_since(until) >= GOOD);
        self.failures = if calm || lived >= GOOD { 1 } else { self.failures.saturating_add(1) };
        // One accident is no loop.
        let pause = match self.failures {
            0 | 1 => Duration::ZERO,
            failures => FIRST.saturating_mul(1 << (failures - 2).min(20)).min(LONGEST),
        };
        self.until = Some(now + jittered(pause));
        self.why = why.into();
    }

    /// Returns how long no worker may be started, and why the last one died.
    pub fn pause(&self, now: Instant) -> Option<(Duration, &str)> {
        let left = self.until?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some((left, &self.why))
    }
}

/// Returns between half of `pause` and all of it: what fails together must not come back together.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() as u32;
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}
