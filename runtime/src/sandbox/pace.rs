//! Who of several workers comes next: one whose guests computed little lately asks the kernel for short slices, and so
//! comes on soon; one whose guests compute all the time has the usual ones. Longer ones would keep it from seeing that it
//! is told to stop. Linux 6.12 and later listen to that. Nobody gets more of the processors for it, or less.

use std::{
    cell::Cell,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The processor time that a worker may use at once and stay one that comes soon.
const BURST: Duration = Duration::from_millis(100);

/// Of the time that passes, this part is added, up to that: an eighth.
const PART: u32 = 8;

thread_local! {
    /// What this thread asked for last.
    static ASKED: Cell<Option<Slice>> = const { Cell::new(None) };
}

/// How long a thread computes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slice {
    /// As short as the kernel makes them.
    Short,
    /// About as long as without being asked.
    Usual,
}

/// What the guests of a worker may still use and come soon.
pub struct Pace {
    left: Mutex<(Duration, Instant)>,
    nice: i32,
}

impl Pace {
    /// Returns the pace of a worker that did nothing yet, and whose threads have this nice value.
    pub fn new(nice: i32) -> Self {
        Self { left: Mutex::new((BURST, Instant::now())), nice }
    }

    /// Takes what a guest used of this thread, and asks for what the next one shall have.
    pub fn used(&self, time: Duration) {
        let slice = {
            let mut state = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            let (left, since) = &mut *state;
            let now = Instant::now();
            let earned = now.duration_since(*since) / PART;
            (*left, *since) = ((*left + earned).min(BURST).saturating_sub(time), now);
            if left.is_zero() { Slice::Usual } else { Slice::Short }
        };
        if ASKED.replace(Some(slice)) != Some(slice) {
            slice.ask(self.nice);
        }
    }
}

impl Slice {
    /// Asks for it, for this thread, which has this nice value. A kernel that does not listen is as well.
    fn ask(self, nice: i32) {
        let attributes = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: libc::SCHED_OTHER as u32,
            sched_flags: 0,
            sched_nice: nice,
            sched_priority: 0,
            sched_runtime: match self {
                Self::Short => 100_000,
                Self::Usual => 3_000_000,
            },
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: reads the attributes, whose size is in them, during the call.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    }
}
