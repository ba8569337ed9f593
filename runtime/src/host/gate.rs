//! A guest's end of the gate: every power that reaches beyond the sandbox sends its calls through here to the daemon,
//! which charges, authorises, records and does them.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Semaphore, oneshot};
use wasmtime::component::HasData;

use super::{
    Exceeded,
    bindings::palisade::agent::types,
    exchange::{Exchange, Receiving},
};
use crate::{
    step::{Answer, Call, CallError, FIXED, Failure, HttpRequest, Piece},
    wire::{FromWorker, Outbox, WireError, encode},
};

/// The gate of one step. It keeps nothing but the calls that wait.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    step: u64,
    frames: Outbox,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
    /// A place for each HTTP request that the daemon has not ended.
    requests: Arc<Semaphore>,
    /// Why the last request that failed did.
    why: Mutex<Option<CallError>>,
    /// When the daemon gave the latest answer that the guest has, in milliseconds after the step's start.
    answered_ms: AtomicU64,
    /// When the latest response over HTTP began, which the guest may not have looked at.
    responded_ms: AtomicU64,
}

/// What a call waits for.
enum Waiting {
    Answer(oneshot::Sender<(u64, Result<Answer, CallError>)>),
    /// A response, and its body.
    Response(Receiving),
}

impl Gate {
    /// Returns the gate of `step`, whose calls leave through `frames`.
    pub fn new(step: u64, frames: Outbox) -> Self {
        Self(Arc::new(Inner {
            step,
            frames,
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            requests: Arc::new(Semaphore::new(FIXED.requests_under_way as usize)),
            why: Mutex::default(),
            answered_ms: AtomicU64::new(0),
            responded_ms: AtomicU64::new(0),
        }))
    }

    /// Asks the daemon and waits for its answer. Whoever stops waiting is not answered.
    pub async fn ask(&self, asked: Call) -> wasmtime::Result<Result<Answer, CallError>> {
        // A text may take more bytes here than it took in the guest.
        let value = FIXED.hostcall_bytes;
        if asked.bytes() > value {
            return Err(Exceeded { limit: "hostcall_bytes", value }.into());
        }
        let call = self.next_call();
        let (answer, answered) = oneshot::channel();
        self.waiting().insert(call, Waiting::Answer(answer));
        let _unanswered = Unanswered { gate: self, call };
        self.send(&FromWorker::Call { step: self.0.step, call, asked }).await.map_err(wasmtime::Error::new)?;
        let (at_ms, answer) = answered.await.map_err(wasmtime::Error::new)?;
        self.0.answered_ms.fetch_max(at_ms, Ordering::Relaxed);
        Ok(answer)
    }

    /// Returns when the daemon gave the latest answer that the guest has, in milliseconds after the step's start.
    pub fn answered_ms(&self) -> u64 {
        self.0.answered_ms.load(Ordering::Relaxed)
    }

    /// The guest looks whether a response has come.
    pub fn notice_responses(&self) {
        self.0.answered_ms.fetch_max(self.0.responded_ms.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Makes an HTTP request. Waits while the guest has as many under way as it can have.
    pub async fn request(&self, request: HttpRequest) -> Result<Exchange, CallError> {
        let closed = |_| CallError::Unavailable(Failure::new("WORKER_UNAVAILABLE", "the daemon is gone"));
        let asked = Call::SendRequest(Box::new(request));
        let (bytes, max) = (asked.bytes(), FIXED.request_head_bytes);
        if bytes > max {
            let message =
                format!("method, URL and headers have {bytes} bytes; the limit `request_head_bytes` is {max}");
            return Err(CallError::Invalid(Failure::new("REQUEST_INVALID", message)));
        }
        let place = self.0.requests.clone().acquire_owned().await.map_err(|_| closed(()))?;
        let call = self.next_call();
        let (exchange, receiving) = Exchange::new(self.clone(), call, place);
        self.waiting().insert(call, Waiting::Response(receiving));
        // A guest that drops the request before the daemon has heard of it keeps no place.
        let unsent = Unanswered { gate: self, call };
        self.send(&FromWorker::Call { step: self.0.step, call, asked }).await.map_err(|_| closed(()))?;
        std::mem::forget(unsent);
        Ok(exchange)
    }

    /// Takes an answer from the daemon, given so many milliseconds after the step's start.
    pub fn answer(&self, call: u64, at_ms: u64, answer: Result<Answer, CallError>) {
        let mut waiting = self.waiting();
        match waiting.remove(&call) {
            // Fails if the guest stopped waiting.
            Some(Waiting::Answer(sender)) => drop(sender.send((at_ms, answer))),
            Some(Waiting::Response(mut receiving)) => {
                let begins = answer.is_ok();
                self.0.responded_ms.fetch_max(at_ms, Ordering::Relaxed);
                receiving.head(answer);
                if begins {
                    waiting.insert(call, Waiting::Response(receiving));
                }
            }
            None => {}
        }
    }

    /// Takes a piece of a response's body from the daemon.
    pub fn piece(&self, call: u64, piece: Piece) {
        let mut waiting = self.waiting();
        let last = piece.is_last();
        if let Some(Waiting::Response(receiving)) = waiting.get(&call) {
            receiving.piece(piece);
            if last {
                waiting.remove(&call);
            }
        }
    }

    /// The daemon took so much of a request's body.
    pub fn taken(&self, call: u64, weight: u32) {
        if let Some(Waiting::Response(receiving)) = self.waiting().get(&call) {
            receiving.room(weight);
        }
    }

    /// Returns whether the daemon has not ended a call.
    pub(super) fn is_under_way(&self, call: u64) -> bool {
        self.waiting().contains_key(&call)
    }

    /// Sends a message, whole and in order.
    pub(super) async fn send(&self, message: &FromWorker) -> Result<(), WireError> {
        self.0.frames.send(&encode(message)?).await
    }

    /// Sends a message, now or as soon as there is room for it.
    pub(super) fn send_later(&self, message: &FromWorker) {
        let Ok(frame) = encode(message) else { return };
        if let Ok(false) = self.0.frames.try_send(&frame)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let frames = self.0.frames.clone();
            runtime.spawn(async move { frames.send(&frame).await });
        }
    }

    pub(super) fn step(&self) -> u64 {
        self.0.step
    }

    /// Remembers why a request failed, for whoever asks.
    pub(super) fn failed_because(&self, error: CallError) {
        *self.0.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Returns why the last request that failed did, once: who asks of another failure hears nothing of this.
    pub fn last_failure(&self) -> Option<CallError> {
        self.0.why.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn next_call(&self) -> u64 {
        self.0.next.fetch_add(1, Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that waits for its answer.
struct Unanswered<'a> {
    gate: &'a Gate,
    call: u64,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.gate.waiting().remove(&self.call);
    }
}

/// Marks the linked interfaces: their data is the step's [`Gate`].
pub struct Guest;

impl HasData for Guest {
    type Data<'a> = &'a mut Gate;
}

/// An answer of another kind than was asked for: the daemon is of another version, or broken.
pub fn mismatch() -> wasmtime::Error {
    wasmtime::Error::msg("the daemon answered another question")
}

impl From<CallError> for types::CallError {
    fn from(error: CallError) -> Self {
        let plain = |failure: crate::step::Failure| types::Error { code: failure.code, message: failure.message };
        match error {
            CallError::Denied(denial) => Self::Denied(types::Denial {
                code: denial.code,
                message: denial.message,
                rule: denial.rule,
                missing: denial.missing,
                alternative: denial.alternative,
                decision: denial.decision,
            }),
            CallError::Exhausted(e) => Self::Exhausted(types::Exhaustion {
                account: e.account,
                dimension: e.dimension,
                limit: e.limit,
                left: e.left,
                asked: e.asked,
            }),
            CallError::Invalid(failure) => Self::Invalid(plain(failure)),
            CallError::Failed(failure) => Self::Failed(plain(failure)),
            CallError::Unavailable(failure) => Self::Unavailable(plain(failure)),
        }
    }
}
