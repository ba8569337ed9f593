//! Fixed windows of time that follow each other.

use std::time::{Duration, Instant};

/// A row of windows of equal length, by a clock that only goes forward.
pub(super) struct Window {
    length: Duration,
    began: Instant,
    clock: Box<dyn Fn() -> Instant + Send>,
}

impl Window {
    /// Begins the first window now.
    pub(super) fn new(length: Duration) -> Self {
        Self::by(length, Instant::now)
    }

    pub(super) fn by(length: Duration, clock: impl Fn() -> Instant + Send + 'static) -> Self {
        Self { length, began: clock(), clock: Box::new(clock) }
    }

    /// Returns whether the window is another than at the last call, and goes on to it.
    pub(super) fn begins_anew(&mut self) -> bool {
        let now = (self.clock)();
        let elapsed = now.saturating_duration_since(self.began);
        if elapsed < self.length {
            return false;
        }
        // Windows that nobody looked at are skipped. One without a length never ends, rather than always.
        let Some(into) = elapsed.as_nanos().checked_rem(self.length.as_nanos()) else { return false };
        let into = Duration::from_nanos_u128(into);
        self.began = now.checked_sub(into).unwrap_or(now);
        true
    }

    /// Returns how much of the window remains.
    pub(super) fn remaining(&self) -> Duration {
        self.length.saturating_sub((self.clock)().saturating_duration_since(self.began))
    }
}
