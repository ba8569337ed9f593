//! The steps that a worker runs now: where their messages go, and what they hold until they end.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::sleep_until,
};

use super::{
    bodies::{Ends, Loose},
    checks::is_suspicious,
    entry::Entry,
    wear::Reason,
};
use crate::step::{Call, Event, Failure, Outcome, Piece, StepLimits, Usage};

/// How much later than its deadline or its cancellation a step may end before its worker counts as hung.
pub const GRACE: Duration = Duration::from_secs(2);

/// A worker that has less time than this to end a step is in a hurry: after a deadline, when half of the grace is over.
const HURRY: Duration = Duration::from_secs(1);

/// Frames of one HTTP request that can come after its end: of both bodies what was on its way, in the smallest pieces.
const STRAYS_MAX: u64 = 4_096;

/// What comes from a step. The events end before the end comes.
pub struct Received {
    pub events: mpsc::Receiver<Event>,
    pub calls: mpsc::Receiver<Asked>,
    pub ended: oneshot::Receiver<(Outcome, Usage)>,
}

/// A host call, by a number of the worker's own, and the bodies of one that has any.
pub struct Asked {
    pub call: u64,
    pub asked: Call,
    pub bodies: Option<Loose>,
}

/// A worker that broke the rules.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    #[error("a message for a step that does not run")]
    UnknownStep,
    #[error("more events than there was room for")]
    Window,
    #[error("more host calls at a time than a guest can make")]
    Calls,
    #[error("more than the step's limit `{0}`")]
    Limit(&'static str),
    #[error("an end that it cannot know of: {0}")]
    End(&'static str),
    #[error("more frames for calls that have ended than can have been on their way")]
    Strays,
}

/// All steps of one worker.
pub struct Steps {
    table: Mutex<Table>,
    /// Something changed that somebody here waits for.
    changed: Notify,
    /// A step was told to stop that has little time for it.
    hurries: Notify,
}

struct Table {
    entries: HashMap<u64, Entry>,
    /// How many more it takes.
    left: u64,
    /// HTTP requests that it sent, and frames of theirs that came after their ends.
    requests: u64,
    strays: u64,
    taking: Taking,
    /// When a step was last taken, or the last one ended.
    used: Instant,
    /// When it is looked next whether a step is overdue.
    look: Option<Instant>,
}

/// What a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taking {
    Steps,
    /// What the steps need that it runs.
    Tools(Reason),
    Nothing,
}

impl Steps {
    /// Returns the steps of a worker that takes `most` of them.
    pub fn new(most: u64) -> Self {
        let (entries, used) = (HashMap::new(), Instant::now());
        let table = Table { entries, left: most, requests: 0, strays: 0, taking: Taking::Steps, used, look: None };
        Self { table: Mutex::new(table), changed: Notify::new(), hurries: Notify::new() }
    }

    /// Registers a step before it is sent to the worker, or gives back what it holds: the worker takes no more, or does
    /// not run the step `caller` any more that needs it.
    pub fn add(
        &self,
        step: u64,
        caller: Option<u64>,
        limits: StepLimits,
        input_bytes: u64,
        holds: Box<dyn Any + Send>,
    ) -> Result<Received, Box<dyn Any + Send>> {
        let mut table = self.table();
        let taken = match (table.taking, caller) {
            (Taking::Nothing, _) => false,
            (_, Some(caller)) => table.entries.contains_key(&caller),
            (taking, None) => taking == Taking::Steps,
        };
        if !taken {
            return Err(holds);
        }
        let (entry, received) = Entry::new(limits, input_bytes, holds);
        let (since, overdue) = (Instant::now(), entry.overdue);
        table.entries.insert(step, entry);
        (table.used, table.left) = (since, table.left.saturating_sub(1));
        if table.left == 0 {
            table.retire(Reason::Steps, &self.changed);
        }
        if table.look.is_none_or(|look| overdue < look) {
            self.changed.notify_waiters();
        }
        Ok(received)
    }

    /// Forgets a step that was never sent.
    pub fn forget(&self, step: u64) {
        self.remove(step);
    }

    /// Takes no new steps from here on.
    pub fn retire(&self, reason: Reason) {
        self.table().retire(reason, &self.changed);
    }

    /// Takes no new steps from here on if it runs none; returns whether that is so.
    pub fn retire_idle(&self, reason: Reason) -> bool {
        let mut table = self.table();
        let idle = table.is_idle();
        if idle {
            table.retire(reason, &self.changed);
        }
        idle
    }

    /// Returns once no new steps are taken, and why.
    pub async fn retired(&self) -> Reason {
        loop {
            let changed = self.changed.notified();
            if let Taking::Tools(reason) = self.table().taking {
                return reason;
            }
            changed.await;
        }
    }

    /// Returns once no steps are taken and the last one has ended: there will be none.
    pub async fn drained(&self) {
        loop {
            let changed = self.changed.notified();
            if self.leaves() {
                return;
            }
            changed.await;
        }
    }

    /// Returns whether the worker has nothing to do any more.
    pub fn leaves(&self) -> bool {
        let table = self.table();
        table.taking != Taking::Steps && table.entries.is_empty()
    }

    /// Returns for how long nothing has run, unless something runs or the worker leaves.
    pub fn idle(&self) -> Option<Duration> {
        let table = self.table();
        table.is_idle().then(|| table.used.elapsed())
    }

    /// Returns whether the worker runs this step.
    pub fn runs(&self, step: u64) -> bool {
        self.table().entries.contains_key(&step)
    }

    /// Takes an event from the worker.
    pub fn event(&self, step: u64, event: Event) -> Result<(), Violation> {
        self.table().entry(step)?.event(event)
    }

    /// Takes a host call from the worker.
    pub fn call(&self, step: u64, call: u64, asked: Call) -> Result<(), Violation> {
        let mut table = self.table();
        let requests = u64::from(matches!(asked, Call::SendRequest(_)));
        table.entry(step)?.call(call, asked)?;
        table.requests += requests;
        Ok(())
    }

    /// Takes a piece of a request's body from the worker. One of a call that ended meanwhile is nobody's.
    pub fn piece(&self, step: u64, call: u64, piece: Piece) -> Result<(), Violation> {
        self.bodies(step, call, |ends| ends.piece(piece))
    }

    /// Takes from the worker that the guest took so much of a response's body.
    pub fn taken(&self, step: u64, call: u64, weight: u32) -> Result<(), Violation> {
        self.bodies(step, call, |ends| ends.taken(weight))
    }

    /// Takes from the worker that the guest wants no more of a call.
    pub fn drop_call(&self, step: u64, call: u64) -> Result<(), Violation> {
        self.bodies(step, call, |ends| {
            ends.drop_call();
            Ok(())
        })
    }

    /// Does something with the bodies of a call, if it has not ended.
    pub fn stream(&self, step: u64, call: u64, with: impl FnOnce(&mut Ends)) {
        if let Some(ends) = self.table().bodies(step, call) {
            with(ends);
        }
    }

    /// Ends a call; returns whether it is a request whose response had begun.
    pub fn end_call(&self, step: u64, call: u64) -> bool {
        self.table().entries.get_mut(&step).is_some_and(|entry| entry.end_call(call))
    }

    fn bodies(
        &self,
        step: u64,
        call: u64,
        with: impl FnOnce(&mut Ends) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let mut table = self.table();
        if let Some(ends) = table.bodies(step, call) {
            return with(ends);
        }
        // What is sent for a call comes from others than its step, and can come after the end of either: it is nobody's.
        // Of each call there is no more of that than was on its way.
        table.strays += 1;
        let most = table.requests.saturating_add(1).saturating_mul(STRAYS_MAX);
        if table.strays > most { Err(Violation::Strays) } else { Ok(()) }
    }

    /// Takes the end of a step from the worker.
    pub fn done(&self, step: u64, outcome: Outcome, usage: Usage) -> Result<(), Violation> {
        // A worker that breaks the rules keeps what its step holds until it is dead.
        self.table().entry(step)?.check(&outcome)?;
        if is_suspicious(&outcome) {
            self.retire(Reason::Suspicion);
        }
        let entry = self.remove(step).ok_or(Violation::UnknownStep)?;
        let usage = entry.possible(&outcome, usage);
        entry.end(outcome, usage);
        Ok(())
    }

    /// Starts the clock of a step that is told to stop: it ends within `bound`, or its worker does.
    pub fn ends_within(&self, step: u64, bound: Duration) {
        let mut table = self.table();
        let Ok(entry) = table.entry(step) else { return };
        entry.ends_within(bound);
        self.changed.notify_waiters();
        if bound < HURRY {
            self.hurries.notify_one();
        }
    }

    /// Returns once a step was told to stop that has little time for it.
    pub async fn hurries(&self) {
        self.hurries.notified().await;
    }

    /// Returns whether a step has little time left until its worker counts as hung, at `now`.
    pub fn in_a_hurry(&self, now: Instant) -> bool {
        self.table().entries.values().any(|entry| entry.overdue < now + HURRY)
    }

    /// Returns a step that should have ended, once there is one.
    pub async fn overdue(&self) -> u64 {
        loop {
            let changed = self.changed.notified();
            let Some((overdue, step)) = self.next_overdue() else {
                changed.await;
                continue;
            };
            if overdue <= Instant::now() {
                return step;
            }
            tokio::select! {
                () = sleep_until(overdue.into()) => {}
                () = changed => {}
            }
        }
    }

    fn next_overdue(&self) -> Option<(Instant, u64)> {
        let mut table = self.table();
        let next = table.entries.iter().map(|(step, entry)| (entry.overdue, *step)).min();
        table.look = next.map(|(overdue, _)| overdue);
        next
    }

    /// Takes nothing any more: the worker is about to be ended.
    pub fn close(&self) {
        self.table().taking = Taking::Nothing;
    }

    /// Ends all steps: their worker is gone. `hung` is the step that made it go.
    pub fn lose_all(&self, hung: Option<u64>, why: &str) {
        self.close();
        let lost: Vec<_> = self.table().entries.drain().collect();
        for (step, entry) in lost {
            let failure = if hung == Some(step) {
                Failure::new("WORKER_HUNG", "the worker did not end the step in time, and was killed")
            } else {
                Failure::new("WORKER_LOST", format!("the worker that ran the step is gone: {why}"))
            };
            entry.end(Outcome::WorkerLost(failure), Usage::default());
        }
    }

    fn remove(&self, step: u64) -> Option<Entry> {
        let mut table = self.table();
        let entry = table.entries.remove(&step);
        if table.entries.is_empty() {
            table.used = Instant::now();
            self.changed.notify_waiters();
        }
        entry
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn entry(&mut self, step: u64) -> Result<&mut Entry, Violation> {
        self.entries.get_mut(&step).ok_or(Violation::UnknownStep)
    }

    fn bodies(&mut self, step: u64, call: u64) -> Option<&mut Ends> {
        self.entries.get_mut(&step)?.bodies(call)
    }

    fn is_idle(&self) -> bool {
        self.taking == Taking::Steps && self.entries.is_empty()
    }

    fn retire(&mut self, reason: Reason, changed: &Notify) {
        if self.taking == Taking::Steps {
            self.taking = Taking::Tools(reason);
            changed.notify_waiters();
        }
    }
}
