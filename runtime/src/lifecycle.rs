//! The story of a step, and of a component on its way to be one. The only module that knows the order.

mod push;
mod step;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use push::{Push, PushError};
pub use step::{Accepted, MountUse, RunError, StepRequest, StepRun};

use crate::{
    config::{Config, Mount},
    store::{Components, Workspaces},
    worker::{Compiler, Hello, Workers},
};

/// Everything that a step needs, introduced to each other.
#[derive(Clone)]
pub struct Lifecycle(Arc<Inner>);

struct Inner {
    config: Config,
    components: Components,
    workspaces: Workspaces,
    workers: Workers,
    compiler: Compiler,
    hello: Hello,
    compiling: push::Compiling,
    slots: Arc<Semaphore>,
    queued: AtomicU64,
    /// Cancelled: no new steps.
    draining: CancellationToken,
    /// Cancelled: running steps stop.
    stopping: CancellationToken,
    running: TaskTracker,
}

/// No slot for a step.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    #[error(
        "{running} steps run and {queued} wait, which are the limits `concurrent_steps` and `queued_steps`: retry later"
    )]
    QueueFull { running: u64, queued: u64 },
    #[error("the daemon is shutting down: retry later, or elsewhere")]
    ShuttingDown,
}

impl Lifecycle {
    /// Introduces everything to each other. `hello` is what the first worker said of itself.
    pub fn new(
        config: Config,
        components: Components,
        workspaces: Workspaces,
        workers: Workers,
        compiler: Compiler,
        hello: Hello,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(config.limits.concurrent_steps as usize));
        Self(Arc::new(Inner {
            config,
            components,
            workspaces,
            workers,
            compiler,
            hello,
            compiling: push::Compiling::default(),
            slots,
            queued: AtomicU64::new(0),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            running: TaskTracker::new(),
        }))
    }

    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub fn components(&self) -> &Components {
        &self.0.components
    }

    pub fn workspaces(&self) -> &Workspaces {
        &self.0.workspaces
    }

    /// Returns what the first worker said of itself: its walls and its engine.
    pub fn hello(&self) -> &Hello {
        &self.0.hello
    }

    /// Takes no new steps, waits up to `grace` for the running ones, then cancels them and waits for their results.
    pub async fn drain(&self, grace: Duration) {
        self.0.draining.cancel();
        self.0.running.close();
        if tokio::time::timeout(grace, self.0.running.wait()).await.is_err() {
            self.0.stopping.cancel();
            let _ = tokio::time::timeout(grace, self.0.running.wait()).await; // callers that do not read are left
        }
    }

    /// Waits for a slot, in a queue that is bounded too.
    async fn admit(&self) -> Result<OwnedSemaphorePermit, AdmitError> {
        if self.0.draining.is_cancelled() {
            return Err(AdmitError::ShuttingDown);
        }
        if let Ok(slot) = self.0.slots.clone().try_acquire_owned() {
            return Ok(slot);
        }
        let limits = &self.0.config.limits;
        let place = Place(&self.0.queued);
        if self.0.queued.fetch_add(1, Ordering::Relaxed) >= limits.queued_steps {
            return Err(AdmitError::QueueFull { running: limits.concurrent_steps, queued: limits.queued_steps });
        }
        let slot = tokio::select! {
            slot = self.0.slots.clone().acquire_owned() => slot.map_err(|_| AdmitError::ShuttingDown),
            () = self.0.draining.cancelled() => Err(AdmitError::ShuttingDown),
        };
        drop(place);
        slot
    }

    fn mount(&self, name: &str) -> Option<&Mount> {
        self.0.config.mounts.iter().find(|mount| mount.name.as_str() == name)
    }
}

/// A place in the queue, given back however the wait ends.
struct Place<'a>(&'a AtomicU64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
