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
    checks::{check_size, is_suspicious, text_bytes},
    wear::Reason,
};
use crate::{
    step::{Call, Event, FIXED, Failure, Outcome, Piece, StepLimits, Usage},
    wire::{CHUNK_BYTES_MAX, EVENT_WINDOW},
};

/// How much later than its deadline or its cancellation a step may end before its worker counts as hung.
pub const GRACE: Duration = Duration::from_secs(2);

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
}

/// All steps of one worker.
pub struct Steps {
    table: Mutex<Table>,
    /// Something changed that somebody here waits for.
    changed: Notify,
}

struct Table {
    entries: HashMap<u64, Entry>,
    /// How many more it takes.
    left: u64,
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

struct Entry {
    messages: mpsc::Sender<Event>,
    calls: mpsc::Sender<Asked>,
    /// Of the HTTP requests that have not ended.
    bodies: HashMap<u64, Ends>,
    ended: oneshot::Sender<(Outcome, Usage)>,
    limits: StepLimits,
    events: u64,
    stdio_bytes: u64,
    since: Instant,
    /// The worker is killed if the step has not ended by then.
    overdue: Instant,
    /// What the step holds: its slot and its workspace. Free again when the worker is done with them.
    _holds: Box<dyn Any + Send>,
}

impl Entry {
    /// Returns the usage as far as it can be true: what was seen here is counted here, and nothing exceeds its limit.
    fn possible(&self, outcome: &Outcome, said: Usage) -> Usage {
        // What JSON carries exactly: usage is recorded.
        const MOST: u64 = (1 << 53) - 1;
        let elapsed = self.since.elapsed().as_micros() as u64;
        Usage {
            fuel: said.fuel.min(self.limits.fuel),
            memory_peak_bytes: said.memory_peak_bytes.min(self.limits.memory_bytes),
            wall_time_us: said.wall_time_us.min(elapsed),
            cpu_time_us: said.cpu_time_us.min(elapsed),
            input_bytes: said.input_bytes.min(MOST),
            output_bytes: if let Outcome::Succeeded { output, .. } = outcome { output.len() as u64 } else { 0 },
            stdio_bytes: self.stdio_bytes,
            events: self.events,
            disk_bytes: said.disk_bytes.clamp(-(MOST as i64), MOST as i64),
            disk_entries: said.disk_entries.clamp(-(MOST as i64), MOST as i64),
        }
    }
}

impl Steps {
    /// Returns the steps of a worker that takes `most` of them.
    pub fn new(most: u64) -> Self {
        let (entries, used) = (HashMap::new(), Instant::now());
        let table = Table { entries, left: most, taking: Taking::Steps, used, look: None };
        Self { table: Mutex::new(table), changed: Notify::new() }
    }

    /// Registers a step before it is sent to the worker, or gives back what it holds: the worker takes no more, or does
    /// not run the step `caller` any more that needs it.
    pub fn add(
        &self,
        step: u64,
        caller: Option<u64>,
        limits: StepLimits,
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
        // Room for all that a worker may send, so that delivering never waits.
        let (messages, events) = mpsc::channel(EVENT_WINDOW);
        let (asked, calls) = mpsc::channel(FIXED.calls_under_way as usize);
        let (end, ended) = oneshot::channel();
        let since = Instant::now();
        let overdue = since + Duration::from_millis(limits.timeout_ms) + GRACE;
        let entry = Entry {
            messages,
            calls: asked,
            bodies: HashMap::new(),
            ended: end,
            limits,
            events: 0,
            stdio_bytes: 0,
            since,
            overdue,
            _holds: holds,
        };
        table.entries.insert(step, entry);
        (table.used, table.left) = (since, table.left.saturating_sub(1));
        if table.left == 0 {
            table.retire(Reason::Steps, &self.changed);
        }
        if table.look.is_none_or(|look| overdue < look) {
            self.changed.notify_waiters();
        }
        Ok(Received { events, calls, ended })
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
        let mut table = self.table();
        let entry = table.entries.get_mut(&step).ok_or(Violation::UnknownStep)?;
        match &event {
            Event::Output { data, .. } => {
                entry.stdio_bytes += data.len() as u64;
                if entry.stdio_bytes > entry.limits.stdio_bytes || data.len() > CHUNK_BYTES_MAX {
                    return Err(Violation::Limit("stdio_bytes"));
                }
            }
            Event::Log { .. } | Event::Progress { .. } => {
                entry.events += 1;
                if entry.events > entry.limits.events {
                    return Err(Violation::Limit("events"));
                }
                if text_bytes(&event) > FIXED.event_bytes as usize {
                    return Err(Violation::Limit("event_bytes"));
                }
            }
        }
        match entry.messages.try_send(event) {
            // The caller hung up: the step is being cancelled and may still say something.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Violation::Window),
        }
    }

    /// Takes a host call from the worker.
    pub fn call(&self, step: u64, call: u64, asked: Call) -> Result<(), Violation> {
        let mut table = self.table();
        let entry = table.entries.get_mut(&step).ok_or(Violation::UnknownStep)?;
        let bodies = if matches!(asked, Call::SendRequest(_)) {
            if entry.bodies.len() as u64 >= FIXED.requests_under_way || entry.bodies.contains_key(&call) {
                return Err(Violation::Calls);
            }
            if asked.bytes() > FIXED.request_head_bytes {
                return Err(Violation::Limit("request_head_bytes"));
            }
            let (ends, loose) = Ends::new();
            entry.bodies.insert(call, ends);
            Some(loose)
        } else {
            None
        };
        match entry.calls.try_send(Asked { call, asked, bodies }) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Violation::Calls),
        }
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
        if let Some(ends) = self.table().entries.get_mut(&step).and_then(|entry| entry.bodies.get_mut(&call)) {
            with(ends);
        }
    }

    /// Ends the bodies of a call; returns whether its response had begun.
    pub fn end_call(&self, step: u64, call: u64) -> bool {
        let ended = self.table().entries.get_mut(&step).and_then(|entry| entry.bodies.remove(&call));
        ended.is_some_and(|ends| ends.begun)
    }

    fn bodies(
        &self,
        step: u64,
        call: u64,
        with: impl FnOnce(&mut Ends) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        // What is sent for a call comes from others than its step, and can come after the end of either: it is nobody's.
        let mut table = self.table();
        let bodies = table.entries.get_mut(&step).and_then(|entry| entry.bodies.get_mut(&call));
        bodies.map_or(Ok(()), with)
    }

    /// Takes the end of a step from the worker.
    pub fn done(&self, step: u64, outcome: Outcome, usage: Usage) -> Result<(), Violation> {
        // A worker that breaks the rules keeps what its step holds until it is dead.
        check_size(&outcome, &self.table().entries.get(&step).ok_or(Violation::UnknownStep)?.limits)?;
        if is_suspicious(&outcome) {
            self.retire(Reason::Suspicion);
        }
        let entry = self.remove(step).ok_or(Violation::UnknownStep)?;
        let usage = entry.possible(&outcome, usage);
        let _ = entry.ended.send((outcome, usage)); // fails if nobody waits any more
        Ok(())
    }

    /// Starts the clock of a step that was told to stop: it ends within `bound`, or its worker does.
    pub fn ends_within(&self, step: u64, bound: Duration) {
        let mut table = self.table();
        let Some(entry) = table.entries.get_mut(&step) else { return };
        entry.overdue = entry.overdue.min(Instant::now() + bound);
        self.changed.notify_waiters();
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
            let _ = entry.ended.send((Outcome::WorkerLost(failure), Usage::default()));
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
