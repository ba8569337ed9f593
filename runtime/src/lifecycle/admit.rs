//! When and where a step may run.

mod queue;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::sleep};

use super::Lifecycle;
use crate::{
    config::{Isolation, Limits},
    manifest::Manifest,
    step::{FIXED, Name, StepLimits},
    telemetry::AdmissionStatus,
    worker::{Home, Whose},
};
use queue::{Bounds, Need, Queue, Refused, Ticket};

/// The node's slots and memory, and who waits for them.
#[derive(Clone)]
pub struct Admission(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    patience: Duration,
}

struct State {
    queue: Queue,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
}

/// A step's slot, and the memory that is set aside for it and its tools. Free again when this is dropped; a place in the
/// line as well.
pub struct Slot {
    admission: Admission,
    ticket: Ticket,
}

/// No slot for a step.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    #[error("as many steps wait as the limit `{limit}` allows, which is {max}: retry later")]
    QueueFull { limit: &'static str, max: u64 },
    #[error("there was no room for the step within the limit `queue_timeout_ms` of {0}: retry later")]
    QueueTimeout(u64),
    #[error(
        "`limits.memory_bytes`: the step and the tools inside it need {asked} bytes at once; the limit `{limit}` is {max}"
    )]
    TooLarge { asked: u64, limit: &'static str, max: u64 },
    #[error("the daemon is shutting down: retry later, or elsewhere")]
    ShuttingDown,
}

impl AdmitError {
    /// Returns the limit that it names.
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            Self::QueueFull { limit, .. } | Self::TooLarge { limit, .. } => Some(limit),
            Self::QueueTimeout(_) => Some("queue_timeout_ms"),
            Self::ShuttingDown => None,
        }
    }
}

impl Admission {
    /// Returns what these limits admit.
    pub fn new(limits: &Limits) -> Self {
        let queue = Queue::new(Bounds {
            steps: limits.concurrent_steps,
            tenant_steps: limits.tenant_concurrent_steps,
            job_steps: limits.job_concurrent_steps,
            memory_bytes: limits.node_memory_bytes,
            tenant_memory_bytes: limits.tenant_memory_bytes,
            queued: limits.queued_steps,
            tenant_queued: limits.tenant_queued_steps,
        });
        let state = Mutex::new(State { queue, waiting: HashMap::new() });
        Self(Arc::new(Inner { state, patience: Duration::from_millis(limits.queue_timeout_ms) }))
    }

    /// Waits for a slot, in a line that is bounded too. Who is dropped while it waits leaves the line.
    async fn slot(&self, need: Need) -> Result<Slot, AdmitError> {
        let (go, gone) = oneshot::channel();
        let slot = {
            let mut state = self.state();
            let asked = need.memory_bytes;
            let ticket = state.queue.enter(need).map_err(|refused| match refused {
                Refused::Full(limit, max) => AdmitError::QueueFull { limit, max },
                Refused::TooLarge(limit, max) => AdmitError::TooLarge { asked, limit, max },
            })?;
            state.waiting.insert(ticket, go);
            state.admit();
            Slot { admission: self.clone(), ticket }
        };
        tokio::select! {
            biased;
            Ok(()) = gone => Ok(slot),
            () = sleep(self.0.patience) => Err(AdmitError::QueueTimeout(self.0.patience.as_millis() as u64)),
        }
    }

    /// Returns what waits and what is set aside.
    pub fn status(&self) -> AdmissionStatus {
        let state = self.state();
        AdmissionStatus { waiting: state.queue.waiting(), memory_bytes: state.queue.memory_bytes() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admit(&mut self) {
        for ticket in self.queue.admit() {
            if let Some(go) = self.waiting.remove(&ticket) {
                let _ = go.send(()); // fails if it just gave up: then its slot is on its way back
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.waiting.remove(&self.ticket);
        state.queue.leave(self.ticket);
        state.admit();
    }
}

impl Lifecycle {
    /// Waits for a slot and for `memory_bytes` of the node's memory.
    pub(super) async fn admit(&self, tenant: &Name, job: Option<&Name>, memory_bytes: u64) -> Result<Slot, AdmitError> {
        let draining = &self.0.draining;
        if draining.is_cancelled() {
            return Err(AdmitError::ShuttingDown);
        }
        let need = Need { tenant: tenant.clone(), job: job.cloned(), memory_bytes };
        let admitted = tokio::select! {
            slot = self.0.admission.slot(need) => slot,
            () = draining.cancelled() => Err(AdmitError::ShuttingDown),
        };
        admitted.inspect_err(|error| {
            if let Some(limit) = error.limit() {
                self.telemetry().meters().limit_hit(limit);
            }
        })
    }

    /// Returns the memory that a step can need at once: its own, and that of the largest tools that can run inside each
    /// other. All of it is set aside before the step runs, so that none of them ever waits for memory while it holds some.
    pub(super) fn memory_at_once(&self, limits: &StepLimits, manifest: Option<&Manifest>) -> u64 {
        let tools = manifest.map(|manifest| manifest.tools.as_slice()).unwrap_or_default();
        let all = &self.config().limits;
        let of_tool = |granted: Option<i64>| all.memory_bytes.grant("limits.memory_bytes", granted);
        let largest = tools.iter().map(|tool| of_tool(tool.limits.memory_bytes).unwrap_or(all.memory_bytes.max)).max();
        let nested = tools.iter().any(|tool| !tool.tools.is_empty());
        let depth: u64 = if nested { FIXED.tool_depth.into() } else { 1 };
        limits.memory_bytes + largest.unwrap_or(0) * depth
    }

    /// Returns whose worker runs a step.
    pub(super) fn home(&self, tenant: &Name, job: Option<&Name>) -> Home {
        let whose = match (self.config().jail.isolation, job) {
            (Isolation::Tenant, _) => Whose::Tenant,
            (Isolation::Job, Some(job)) => Whose::Job(job.clone()),
            (Isolation::Job, None) | (Isolation::Step, _) => Whose::Step,
        };
        Home { tenant: tenant.clone(), whose }
    }
}
