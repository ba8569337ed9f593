//! A value that is fetched when somebody needs it, by one at a time, and used until it expires.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use super::source::Unreadable;

/// Tells the time. Expiry goes by it: when it jumps, values are fetched again.
pub type Clock = fn() -> SystemTime;

/// The most that a value is used without being fetched again, whatever its server says.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

/// For how long a failure stands, so that a crowd of waiting calls does not ask a broken server one after the other.
const RETRY: Duration = Duration::from_secs(1);

/// What was fetched.
pub struct Fresh<T> {
    pub value: Arc<T>,
    /// How long it may be used, from before it was asked for.
    pub life: Duration,
    /// When the next one is fetched, while this one is good still.
    pub renew: Duration,
}

/// Holds at most one value.
pub struct Cache<T> {
    clock: Clock,
    slot: Mutex<Slot<T>>,
    /// Held while fetching.
    turn: tokio::sync::Mutex<()>,
}

struct Slot<T> {
    kept: Option<Kept<T>>,
    failed: Option<(SystemTime, Unreadable)>,
    /// How often the value was dropped: what was asked for before is not kept after.
    dropped: u64,
}

struct Kept<T> {
    value: Arc<T>,
    since: SystemTime,
    renew: Duration,
    life: Duration,
}

/// What to do.
enum Look<T> {
    Use(Arc<T>),
    /// It is good, but not for long.
    Renew(Arc<T>),
    Fail(Unreadable),
    Fetch,
}

impl<T> Cache<T> {
    /// Returns an empty cache.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            slot: Mutex::new(Slot { kept: None, failed: None, dropped: 0 }),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Returns the value, perhaps by `fetch`, which is not polled otherwise. A failed renewal keeps what is good still.
    pub async fn get(&self, fetch: impl Future<Output = Result<Fresh<T>, Unreadable>>) -> Result<Arc<T>, Unreadable> {
        let first = self.look();
        let _turn = match first {
            Look::Use(value) => return Ok(value),
            Look::Fail(why) => return Err(why),
            // One is enough to renew, and nobody needs to wait for it.
            Look::Renew(value) => match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(value),
            },
            Look::Fetch => self.turn.lock().await,
        };
        // Somebody else may have been first.
        let good = match self.look() {
            Look::Use(value) => return Ok(value),
            Look::Fail(why) => return Err(why),
            Look::Renew(value) => Some(value),
            Look::Fetch => None,
        };
        let (since, dropped) = ((self.clock)(), self.slot().dropped);
        match fetch.await {
            Ok(fresh) => {
                let life = fresh.life.min(LIFE_MAX);
                let kept = Kept { value: fresh.value.clone(), since, life, renew: fresh.renew.min(life) };
                let mut slot = self.slot();
                if slot.dropped == dropped {
                    (slot.kept, slot.failed) = (Some(kept), None);
                }
                Ok(fresh.value)
            }
            Err(why) => {
                self.slot().failed = Some(((self.clock)(), why.clone()));
                good.ok_or(why)
            }
        }
    }

    /// Returns the last value, expired or not.
    pub fn last(&self) -> Option<Arc<T>> {
        self.slot().kept.as_ref().map(|kept| kept.value.clone())
    }

    /// Drops the value: the next one is fetched, also by who comes while one is being fetched. Returns whether there was
    /// one.
    pub fn forget(&self) -> bool {
        let mut slot = self.slot();
        slot.dropped += 1;
        slot.failed = None;
        slot.kept.take().is_some()
    }

    /// Drops the value if it is this one.
    pub fn forget_this(&self, value: &Arc<T>) {
        let mut slot = self.slot();
        if slot.kept.as_ref().is_some_and(|kept| Arc::ptr_eq(&kept.value, value)) {
            (slot.kept, slot.failed) = (None, None);
        }
    }

    fn look(&self) -> Look<T> {
        let now = (self.clock)();
        let slot = self.slot();
        let failed = slot.failed.as_ref().filter(|(at, _)| within(now, *at, RETRY));
        match (&slot.kept, failed) {
            (Some(kept), _) if within(now, kept.since, kept.renew) => Look::Use(kept.value.clone()),
            (Some(kept), None) if within(now, kept.since, kept.life) => Look::Renew(kept.value.clone()),
            (Some(kept), Some(_)) if within(now, kept.since, kept.life) => Look::Use(kept.value.clone()),
            (_, Some((_, why))) => Look::Fail(why.clone()),
            _ => Look::Fetch,
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether `now` is in the time from `since` on. Not if the clock went back before it.
fn within(now: SystemTime, since: SystemTime, length: Duration) -> bool {
    now.duration_since(since).is_ok_and(|age| age < length)
}
