//! A step that a worker runs, as the daemon holds it.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::{
    bodies::{Bodies, Ends},
    steps::{Asked, GRACE, Received, Steps},
};
use crate::{
    step::{Answer, Call, CallError, Event, Failure, Outcome, Piece, Usage},
    wire::{Outbox, ToWorker, encode},
};

/// Events that a caller takes before the worker is told so.
const CREDIT_EVENTS: u32 = 16;

/// A step that was handed to a worker. Dropping it cancels the step.
pub struct Running {
    handle: Handle,
    events: Option<Events>,
    calls: mpsc::Receiver<Asked>,
    ended: oneshot::Receiver<(Outcome, Usage)>,
    over: bool,
}

/// What comes of a step next.
pub enum Next {
    /// A host call, by a number of the worker's own, and the bodies of one that has any.
    Call(u64, Call, Option<Bodies>),
    Ended(Outcome, Usage),
}

/// What a step says while it runs, to whoever reads it. Who does not read holds it up.
pub struct Events {
    received: mpsc::Receiver<Event>,
    handle: Handle,
    taken: u32,
}

/// The way to a step's worker.
#[derive(Clone)]
pub struct Handle {
    step: u64,
    frames: Outbox,
    steps: Arc<Steps>,
}

impl Running {
    pub(super) fn new(step: u64, received: Received, frames: Outbox, steps: Arc<Steps>) -> Self {
        let handle = Handle { step, frames, steps };
        let events = Events { received: received.events, handle: handle.clone(), taken: 0 };
        Self { handle, events: Some(events), calls: received.calls, ended: received.ended, over: false }
    }

    /// Returns the step's events, once.
    pub fn take_events(&mut self) -> Option<Events> {
        self.events.take()
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns what the step asks next, if `listening`, or how it ended. After the end there is nothing.
    pub async fn next(&mut self, listening: bool) -> Next {
        tokio::select! {
            biased;
            ended = &mut self.ended, if !self.over => {
                self.over = true;
                let (outcome, usage) = ended.unwrap_or_else(|_| {
                    let failure = Failure::new("WORKER_LOST", "the worker sent no result");
                    (Outcome::WorkerLost(failure), Usage::default())
                });
                Next::Ended(outcome, usage)
            }
            Some(Asked { call, asked, bodies }) = self.calls.recv(), if listening && !self.over => {
                let bodies = bodies.map(|bodies| bodies.tied(call, &self.handle));
                Next::Call(call, asked, bodies)
            }
            else => std::future::pending().await,
        }
    }
}

impl Events {
    /// Returns the next event, or `None` once the step has ended.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.received.recv().await?;
        self.taken += 1;
        self.give_credit();
        Some(event)
    }

    /// Returns an event that is there.
    pub fn try_next(&mut self) -> Option<Event> {
        self.received.try_recv().ok()
    }

    /// Never waits: a message that was received must not be lost because the caller stopped waiting. Credit that finds
    /// no room goes with the next.
    fn give_credit(&mut self) {
        if self.taken < CREDIT_EVENTS {
            return;
        }
        if let Ok(frame) = encode(&ToWorker::Credit { step: self.handle.step, events: self.taken })
            && let Ok(true) = self.handle.frames.try_send(&frame)
        {
            self.taken = 0;
        }
    }
}

impl Handle {
    /// Returns the worker's number of the step.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Tells the step to stop. It still ends.
    pub fn cancel(&self) {
        self.kill_within(GRACE);
    }

    /// Tells the step to stop. If its worker has not reported its end within `bound`, the worker is killed. Neither
    /// guest nor worker is trusted to do anything.
    pub fn kill_within(&self, bound: Duration) {
        let Self { step, frames, steps } = self;
        steps.ends_within(*step, bound);
        if let Ok(frame) = encode(&ToWorker::Cancel { step: *step })
            && let Ok(false) = frames.try_send(&frame)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let frames = frames.clone();
            runtime.spawn(async move { frames.send(&frame).await });
        }
    }

    /// Answers a host call, `at_ms` milliseconds after the step's start. Of one whose response has begun, this is the
    /// end.
    pub async fn answer(&self, call: u64, at_ms: u64, answer: Result<Answer, CallError>) {
        let step = self.step;
        let begins = matches!(answer, Ok(Answer::Response(_)));
        let begun = !begins && self.steps.end_call(step, call);
        let message = match answer {
            Ok(Answer::Ended { trailers }) => ToWorker::Body { step, call, piece: Piece::End { trailers } },
            Err(error) if begun => ToWorker::Body { step, call, piece: Piece::Broken(error) },
            answer => ToWorker::Answer { step, call, at_ms, answer },
        };
        if let Ok(frame) = encode(&message) {
            return self.frame(&frame).await;
        }
        // A guest that waits must hear something.
        let failure = Failure::new("ANSWER_TOO_LARGE", "the answer does not fit into a message: ask for less");
        self.send(&ToWorker::Answer { step, call, at_ms, answer: Err(CallError::Failed(failure)) }).await;
    }

    pub(super) async fn send(&self, request: &ToWorker) {
        if let Ok(frame) = encode(request) {
            self.frame(&frame).await;
        }
    }

    pub(super) async fn frame(&self, frame: &[u8]) {
        let _ = self.frames.send(frame).await; // fails if the worker is gone; then the end is on its way
    }

    pub(super) fn stream(&self, call: u64, with: impl FnOnce(&mut Ends)) {
        self.steps.stream(self.step, call, with);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.handle.cancel();
        }
    }
}
