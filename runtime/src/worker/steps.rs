//! The steps that a worker runs now: where their messages go, and what they hold until they end.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::bodies::{Ends, Loose};
use crate::{
    step::{Call, Event, FIELD_BYTES, FIXED, Failure, Outcome, Piece, StepLimits, Usage},
    wire::{CHUNK_BYTES_MAX, EVENT_WINDOW},
};

/// How much later than its deadline or its cancellation a step may end before its worker counts as hung.
const GRACE: Duration = Duration::from_secs(2);

/// Bytes of a failure's code or message, which a worker cuts well below.
const TEXT_BYTES_MAX: usize = 32 << 10;

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
#[derive(Default)]
pub struct Steps(Mutex<HashMap<u64, Entry>>);

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
    /// Registers a step before it is sent to the worker.
    pub fn add(&self, step: u64, limits: StepLimits, holds: Box<dyn Any + Send>) -> Received {
        // Room for all that a worker may send, so that delivering never waits.
        let (messages, events) = mpsc::channel(EVENT_WINDOW);
        let (asked, calls) = mpsc::channel(FIXED.calls_under_way as usize);
        let (end, ended) = oneshot::channel();
        let overdue = Instant::now() + Duration::from_millis(limits.timeout_ms) + GRACE;
        let entry = Entry {
            messages,
            calls: asked,
            bodies: HashMap::new(),
            ended: end,
            limits,
            events: 0,
            stdio_bytes: 0,
            since: Instant::now(),
            overdue,
            _holds: holds,
        };
        self.entries().insert(step, entry);
        Received { events, calls, ended }
    }

    /// Forgets a step that was never sent.
    pub fn forget(&self, step: u64) {
        self.entries().remove(&step);
    }

    /// Takes an event from the worker.
    pub fn event(&self, step: u64, event: Event) -> Result<(), Violation> {
        let mut entries = self.entries();
        let entry = entries.get_mut(&step).ok_or(Violation::UnknownStep)?;
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
        let mut entries = self.entries();
        let entry = entries.get_mut(&step).ok_or(Violation::UnknownStep)?;
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
        if let Some(ends) = self.entries().get_mut(&step).and_then(|entry| entry.bodies.get_mut(&call)) {
            with(ends);
        }
    }

    /// Ends the bodies of a call; returns whether its response had begun.
    pub fn end_call(&self, step: u64, call: u64) -> bool {
        let ended = self.entries().get_mut(&step).and_then(|entry| entry.bodies.remove(&call));
        ended.is_some_and(|ends| ends.begun)
    }

    fn bodies(
        &self,
        step: u64,
        call: u64,
        with: impl FnOnce(&mut Ends) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        // What is sent for a call comes from others than its step, and can come after the end of either: it is nobody's.
        let mut entries = self.entries();
        let bodies = entries.get_mut(&step).and_then(|entry| entry.bodies.get_mut(&call));
        bodies.map_or(Ok(()), with)
    }

    /// Takes the end of a step from the worker.
    pub fn done(&self, step: u64, outcome: Outcome, usage: Usage) -> Result<(), Violation> {
        let mut entries = self.entries();
        // A worker that breaks the rules keeps what its step holds until it is dead.
        check_size(&outcome, &entries.get(&step).ok_or(Violation::UnknownStep)?.limits)?;
        let entry = entries.remove(&step).ok_or(Violation::UnknownStep)?;
        drop(entries);
        let usage = entry.possible(&outcome, usage);
        let _ = entry.ended.send((outcome, usage)); // fails if nobody waits any more
        Ok(())
    }

    /// Starts the clock of a step that was told to stop.
    pub fn cancelled(&self, step: u64) {
        if let Some(entry) = self.entries().get_mut(&step) {
            entry.overdue = entry.overdue.min(Instant::now() + GRACE);
        }
    }

    /// Returns whether a step should have ended by now.
    pub fn overdue(&self) -> bool {
        let now = Instant::now();
        self.entries().values().any(|entry| now > entry.overdue)
    }

    /// Ends all steps: their worker is gone.
    pub fn lose_all(&self, why: &str) {
        for (_, entry) in self.entries().drain() {
            let failure = Failure::new("WORKER_LOST", format!("the worker that ran the step is gone: {why}"));
            let _ = entry.ended.send((Outcome::WorkerLost(failure), Usage::default()));
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A result must fit into a message to the caller.
fn check_size(outcome: &Outcome, limits: &StepLimits) -> Result<(), Violation> {
    let failure = match outcome {
        Outcome::Succeeded { output, content_type } => {
            let fits = output.len() as u64 <= limits.output_bytes && content_type.len() <= TEXT_BYTES_MAX;
            return if fits { Ok(()) } else { Err(Violation::Limit("output_bytes")) };
        }
        Outcome::Exited { .. } => return Ok(()),
        Outcome::LimitExceeded { failure, limit, .. } if limit.len() <= TEXT_BYTES_MAX => failure,
        Outcome::LimitExceeded { .. } => return Err(Violation::Limit("output_bytes")),
        Outcome::Failed(failure)
        | Outcome::Trapped(failure)
        | Outcome::Cancelled(failure)
        | Outcome::WorkerLost(failure)
        // Said by the daemon alone.
        | Outcome::Unrecorded(failure) => failure,
    };
    let fits = failure.code.len() <= TEXT_BYTES_MAX && failure.message.len() <= TEXT_BYTES_MAX;
    if fits { Ok(()) } else { Err(Violation::Limit("output_bytes")) }
}

fn text_bytes(event: &Event) -> usize {
    match event {
        Event::Log { message, fields, .. } => {
            message.len() + fields.iter().map(|(k, v)| k.len() + v.len() + FIELD_BYTES).sum::<usize>()
        }
        Event::Progress { message, .. } => message.len(),
        Event::Output { data, .. } => data.len(),
    }
}
