//! Whose guests compute first. The kernel shares processors out fairly, but who wants one for a millisecond waits for
//! several slices of those who want all they can get. So the workers of a tenant that computes much come last: they have
//! what processors are idle, and while others use the node, all but one.
//!
//! This is done from outside: it holds for a worker that a guest broke out into as well.

mod processors;
mod ranks;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    processors::Processors,
    ranks::{Rank, Ranks},
};
use super::{process::ProcessRef, steps::Steps, wear::Reason};
use crate::step::Name;

/// How often is looked at who computed how much.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The workers of a node, by what their guests compute.
#[derive(Clone)]
pub struct Precedence(Arc<Mutex<State>>);

struct State {
    processors: Processors,
    ranks: Ranks,
    workers: Vec<Computing>,
    next: u64,
    /// That the kernel does not let this be done was said.
    warned: bool,
}

/// A worker whose process runs.
struct Computing {
    number: u64,
    tenant: Name,
    process: ProcessRef,
    steps: Arc<Steps>,
    used: Duration,
    /// What it was given. Nothing is known of one for which that failed.
    given: Option<Rank>,
    /// Whether it comes before those who come last.
    first: bool,
}

/// A worker that counts until this is dropped, which has to be before its process is waited for: the number of one that is
/// gone may be another's.
pub struct Counted {
    precedence: Precedence,
    number: u64,
}

impl Precedence {
    pub fn new() -> Self {
        let processors = Processors::of_this_process();
        let ranks = Ranks::new(processors.count(), Instant::now());
        Self(Arc::new(Mutex::new(State { processors, ranks, workers: Vec::new(), next: 0, warned: false })))
    }

    /// Counts what a worker of `tenant` computes from now on.
    pub fn count(&self, tenant: Name, process: ProcessRef, steps: Arc<Steps>) -> Counted {
        let used = processors::used(process.id);
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.workers.push(Computing { number, tenant, process, steps, used, given: Some(Rank::First), first: true });
        state.place(Instant::now());
        Counted { precedence: self.clone(), number }
    }

    /// Looks again and again, until it is stopped.
    pub async fn watch(self, stop: CancellationToken) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.state().look(Instant::now()),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn look(&mut self, now: Instant) {
        for worker in &mut self.workers {
            worker.counts(&mut self.ranks);
        }
        for (tenant, last) in self.ranks.look(now) {
            info!(%tenant, last, "whether a tenant computes much has changed");
        }
        self.place(now);
    }

    /// Gives each worker its tenant's rank. One that has little time to end a step comes first until it has: those who wait
    /// for the same processors, and whoever comes before them, would keep it from that until it counts as hung. After a
    /// hold that is at once, after a deadline late: guests that could be in a hurry all the time would always come first.
    fn place(&mut self, now: Instant) {
        let Self { processors, ranks, workers, warned, .. } = self;
        for worker in workers {
            let rank = ranks.of(&worker.tenant);
            let given = if worker.steps.in_a_hurry(now) { Rank::First } else { rank };
            if worker.given != Some(given) {
                (worker.given, worker.first) = match processors.give(&worker.process, given) {
                    Ok(first) => (Some(given), first),
                    Err(error) => {
                        let gone = error.raw_os_error() == Some(libc::ESRCH);
                        if !gone && !std::mem::replace(warned, true) {
                            warn!(%error, "workers of tenants that compute much cannot come last: others wait for them");
                        }
                        (None, false)
                    }
                };
            }
            if rank == Rank::First && !worker.first {
                // Nothing takes it back that needs no privilege: a new one comes first.
                worker.steps.retire(Reason::Precedence);
            }
        }
    }
}

impl Computing {
    /// Counts what it used since the last time.
    fn counts(&mut self, ranks: &mut Ranks) {
        let used = processors::used(self.process.id);
        ranks.used(&self.tenant, used.saturating_sub(self.used));
        self.used = used;
    }
}

impl Counted {
    /// Lets the worker come on now that has to stop a step, and not when it is looked next.
    pub fn hurry(&self) {
        self.precedence.state().place(Instant::now());
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = self.precedence.state();
        let State { ranks, workers, .. } = &mut *state;
        // One that lived between two looks counts as well.
        workers.extract_if(.., |worker| worker.number == self.number).for_each(|mut worker| worker.counts(ranks));
    }
}
