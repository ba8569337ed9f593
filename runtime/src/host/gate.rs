//! A guest's end of the gate: every power that reaches beyond the sandbox sends its calls through here to the daemon,
//! which charges, authorises, records and does them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::oneshot;
use wasmtime::component::HasData;

use super::bindings::palisade::agent::types;
use crate::{
    step::{Answer, Call, CallError},
    wire::{FromWorker, Outbox, encode},
};

/// The gate of one step. It keeps nothing but the calls that wait.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    step: u64,
    frames: Outbox,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<Answer, CallError>>>>,
}

impl Gate {
    /// Returns the gate of `step`, whose calls leave through `frames`.
    pub fn new(step: u64, frames: Outbox) -> Self {
        Self(Arc::new(Inner { step, frames, next: AtomicU64::new(1), waiting: Mutex::default() }))
    }

    /// Asks the daemon and waits for its answer. Whoever stops waiting is not answered.
    pub async fn ask(&self, asked: Call) -> wasmtime::Result<Result<Answer, CallError>> {
        let call = self.0.next.fetch_add(1, Ordering::Relaxed);
        let frame = encode(&FromWorker::Call { step: self.0.step, call, asked }).map_err(wasmtime::Error::new)?;
        let (answer, answered) = oneshot::channel();
        self.waiting().insert(call, answer);
        let _waiting = Waiting { gate: self, call };
        self.0.frames.send(&frame).await.map_err(wasmtime::Error::new)?;
        answered.await.map_err(wasmtime::Error::new)
    }

    /// Takes an answer from the daemon.
    pub fn answer(&self, call: u64, answer: Result<Answer, CallError>) {
        if let Some(waiting) = self.waiting().remove(&call) {
            let _ = waiting.send(answer); // fails if the guest stopped waiting
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Answer, CallError>>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that waits for its answer.
struct Waiting<'a> {
    gate: &'a Gate,
    call: u64,
}

impl Drop for Waiting<'_> {
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
