//! The steps that a worker runs now: where their messages go, and what they hold until they end.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    step::{Event, FIELD_BYTES, FIXED, Failure, Outcome, StepLimits, Usage},
    wire::{CHUNK_BYTES_MAX, EVENT_WINDOW, Outbox, ToWorker, encode},
};

/// How much later than its deadline or its cancellation a step may end before its worker counts as hung.
const GRACE: Duration = Duration::from_secs(2);

/// Events that a caller takes before the worker is told so.
const CREDIT_EVENTS: u32 = 16;

/// Bytes of a failure's code or message, which a worker cuts well below.
const TEXT_BYTES_MAX: usize = 32 << 10;

/// What a step sends.
#[derive(Debug)]
pub enum Message {
    Event(Event),
    /// The last message.
    Done(Outcome, Usage),
}

/// A worker that broke the rules.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    #[error("a message for a step that does not run")]
    UnknownStep,
    #[error("more events than there was room for")]
    Window,
    #[error("more than the step's limit `{0}`")]
    Limit(&'static str),
}

/// All steps of one worker.
#[derive(Default)]
pub struct Steps(Mutex<HashMap<u64, Entry>>);

struct Entry {
    messages: mpsc::Sender<Message>,
    limits: StepLimits,
    events: u64,
    stdio_bytes: u64,
    /// The worker is killed if the step has not ended by then.
    overdue: Instant,
    /// What the step holds: its slot and its workspace. Free again when the worker is done with them.
    _holds: Box<dyn Any + Send>,
}

impl Steps {
    /// Registers a step before it is sent to the worker. Returns its messages.
    pub fn add(&self, step: u64, limits: StepLimits, holds: Box<dyn Any + Send>) -> mpsc::Receiver<Message> {
        // Room for the window and for the end, so that delivering never waits.
        let (messages, received) = mpsc::channel(EVENT_WINDOW + 1);
        let overdue = Instant::now() + Duration::from_millis(limits.timeout_ms) + GRACE;
        let entry = Entry { messages, limits, events: 0, stdio_bytes: 0, overdue, _holds: holds };
        self.entries().insert(step, entry);
        received
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
        // The last place is the result's.
        if entry.messages.capacity() <= 1 && !entry.messages.is_closed() {
            return Err(Violation::Window);
        }
        match entry.messages.try_send(Message::Event(event)) {
            // The caller hung up: the step is being cancelled and may still say something.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Violation::Window),
        }
    }

    /// Takes the end of a step from the worker.
    pub fn done(&self, step: u64, outcome: Outcome, usage: Usage) -> Result<(), Violation> {
        let mut entries = self.entries();
        // A worker that breaks the rules keeps what its step holds until it is dead.
        check_size(&outcome, &entries.get(&step).ok_or(Violation::UnknownStep)?.limits)?;
        let entry = entries.remove(&step).ok_or(Violation::UnknownStep)?;
        drop(entries);
        let _ = entry.messages.try_send(Message::Done(outcome, usage)); // fails if the caller hung up
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
            let _ = entry.messages.try_send(Message::Done(Outcome::WorkerLost(failure), Usage::default()));
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
        | Outcome::WorkerLost(failure) => failure,
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

/// A step that was handed to a worker. Dropping it cancels the step.
pub struct Running {
    pub(super) step: u64,
    pub(super) messages: mpsc::Receiver<Message>,
    pub(super) frames: Outbox,
    pub(super) steps: Arc<Steps>,
    pub(super) taken: u32,
    pub(super) done: bool,
}

impl Running {
    /// Returns the next message. After [`Message::Done`] there is none.
    pub async fn next(&mut self) -> Option<Message> {
        if self.done {
            return None;
        }
        let message = self.messages.recv().await.unwrap_or_else(|| {
            let failure = Failure::new("WORKER_LOST", "the worker sent no result");
            Message::Done(Outcome::WorkerLost(failure), Usage::default())
        });
        match message {
            Message::Done(..) => self.done = true,
            Message::Event(_) => {
                self.taken += 1;
                self.give_credit();
            }
        }
        Some(message)
    }

    /// Tells the step to stop. It still ends with a message.
    pub async fn cancel(&self) {
        self.steps.cancelled(self.step);
        self.send(&ToWorker::Cancel { step: self.step }).await;
    }

    /// Never waits: a message that was received must not be lost because the caller stopped waiting. Credit that finds no
    /// room goes with the next.
    fn give_credit(&mut self) {
        if self.taken < CREDIT_EVENTS {
            return;
        }
        if let Ok(frame) = encode(&ToWorker::Credit { step: self.step, events: self.taken })
            && let Ok(true) = self.frames.try_send(&frame)
        {
            self.taken = 0;
        }
    }

    async fn send(&self, request: &ToWorker) {
        if let Ok(frame) = encode(request) {
            let _ = self.frames.send(&frame).await; // fails if the worker is gone; then the end is on its way
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.steps.cancelled(self.step);
        if let Ok(frame) = encode(&ToWorker::Cancel { step: self.step })
            && let Ok(false) = self.frames.try_send(&frame)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let frames = self.frames.clone();
            runtime.spawn(async move { frames.send(&frame).await });
        }
    }
}
