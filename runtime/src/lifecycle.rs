//! The story of a step, and of everything on its way to be part of one. The only module that knows the order.

mod act;
mod admit;
mod authorize;
mod conduct;
mod contain;
mod control;
mod credentials;
mod denial;
mod ended;
mod exchange;
mod execution;
mod exhausted;
mod explain;
mod fetch;
mod flow;
mod forget;
mod gate;
mod grant;
mod held;
mod http;
mod jobs;
mod labels;
mod living;
mod memory;
mod mounts;
mod policies;
mod push;
mod recover;
mod registry;
mod request;
mod routes;
mod standing;
mod step;
mod stop;
mod tenants;
#[cfg(test)]
mod tests;
mod tools;
mod traffic;
mod trail;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinError,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use admit::AdmitError;
pub use control::ControlError;
pub use credentials::{CredentialError, Revoking};
pub use denial::CODES;
pub use ended::{Finished, Message, StepRun};
pub use explain::{ExplainError, Explained};
pub use fetch::OwnRequests;
pub use forget::ForgetError;
pub use grant::Narrowing;
pub use policies::{Policies, PolicyError};
pub use push::{Push, PushError};
pub use recover::{RecoverError, recover};
pub use registry::{NewTool, RegisterError};
pub use request::{MountUse, StepRequest};
pub use routes::BadEgress;
pub use step::{Accepted, RunError};
pub use tenants::{OpenTenants, Tenant, TenantError, Tenants};
pub use tools::ReadyTool;

use crate::{
    config::{Config, Mount},
    containment::Engine,
    control::Holds,
    credentials::Credentials,
    egress::Egress,
    journal::Journal,
    memory::MemoryStore,
    step::FIXED,
    store::{Agent, Components, Tool, Versions},
    telemetry::Telemetry,
    wire::Wall,
    worker::{Compiler, Hello, Workers},
};

/// How long steps that shutting down cancels have to end and to be recorded.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// Everything that a step needs, introduced to each other.
#[derive(Clone)]
pub struct Lifecycle(Arc<Inner>);

/// What a [`Lifecycle`] is made of.
pub struct Parts {
    pub config: Config,
    pub components: Components,
    pub agents: Versions<Agent>,
    pub tools: Versions<Tool>,
    pub memory: MemoryStore,
    pub journal: Arc<Journal>,
    pub policies: Policies,
    pub egress: Egress,
    pub credentials: Credentials,
    pub revoking: Revoking,
    pub holds: Holds,
    pub telemetry: Telemetry,
    pub tenants: Tenants,
    pub workers: Workers,
    pub compiler: Compiler,
    /// What the first worker said of itself.
    pub hello: Hello,
}

struct Inner {
    config: Config,
    components: Components,
    agents: Versions<Agent>,
    tools: Versions<Tool>,
    memory: MemoryStore,
    journal: Arc<Journal>,
    policies: Policies,
    egress: Egress,
    credentials: Credentials,
    revoking: Revoking,
    holds: Holds,
    routes: routes::Routes,
    traffic: traffic::Traffic,
    /// A place for each request over HTTP that is under way.
    requests: Arc<Semaphore>,
    telemetry: Telemetry,
    tenants: Tenants,
    workers: Workers,
    compiler: Compiler,
    hello: Hello,
    /// What can be stopped.
    living: Arc<living::Living>,
    /// Of calls that a hold slows down.
    pace: held::Pace,
    containment: Engine,
    /// Steps whose records are still to come.
    live_steps: Mutex<HashSet<String>>,
    ready_tools: Mutex<HashMap<String, Arc<ReadyTool>>>,
    /// Held while something is registered, so that what was checked still holds when it is kept.
    registering: tokio::sync::Mutex<()>,
    compiling: push::Compiling,
    admission: admit::Admission,
    /// Cancelled: no new steps.
    draining: CancellationToken,
    /// Cancelled: running steps stop.
    stopping: CancellationToken,
    running: TaskTracker,
}

impl Lifecycle {
    /// Introduces everything to each other.
    pub fn new(parts: Parts) -> Self {
        let Parts { config, components, agents, tools, memory, journal, policies, telemetry, .. } = parts;
        let Parts { egress, credentials, revoking, holds, tenants, workers, compiler, hello, .. } = parts;
        let containment = Engine::new(&config.containment);
        let admission = admit::Admission::new(&config.limits);
        let watched = admission.clone();
        telemetry.meters().watch_admission(move || watched.status());
        let requests = Arc::new(Semaphore::new(config.limits.http_requests as usize));
        Self(Arc::new(Inner {
            config,
            components,
            agents,
            tools,
            memory,
            journal,
            policies,
            egress,
            credentials,
            revoking,
            holds,
            routes: routes::Routes::default(),
            traffic: traffic::Traffic::default(),
            requests,
            telemetry,
            tenants,
            workers,
            compiler,
            hello,
            living: Arc::default(),
            pace: held::Pace::default(),
            containment,
            live_steps: Mutex::default(),
            ready_tools: Mutex::default(),
            registering: tokio::sync::Mutex::default(),
            compiling: push::Compiling::default(),
            admission,
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

    pub fn agents(&self) -> &Versions<Agent> {
        &self.0.agents
    }

    pub fn tools(&self) -> &Versions<Tool> {
        &self.0.tools
    }

    pub fn journal(&self) -> &Arc<Journal> {
        &self.0.journal
    }

    pub fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    /// Returns the walls of the worker that was started last.
    pub fn walls(&self) -> Vec<Wall> {
        self.workers().walls()
    }

    /// Returns what the first worker said of itself: its walls and its engine.
    pub fn hello(&self) -> &Hello {
        &self.0.hello
    }

    /// Cancelled once the daemon stops taking steps.
    pub fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    /// Does something whole, whether or not whoever asked for it still waits: hanging up must not leave a record without
    /// its deed, or half of a change. Shutting down waits for it.
    async fn whole<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, JoinError> {
        self.0.running.spawn(work).await
    }

    fn memory(&self) -> &MemoryStore {
        &self.0.memory
    }

    /// Returns what requests can carry.
    pub fn credentials(&self) -> &Credentials {
        &self.0.credentials
    }

    fn egress(&self) -> &Egress {
        &self.0.egress
    }

    fn traffic(&self) -> &traffic::Traffic {
        &self.0.traffic
    }

    /// Waits for a place among the requests over HTTP that are under way. `None`: the daemon ends.
    async fn request_place(&self) -> Option<OwnedSemaphorePermit> {
        self.0.requests.clone().acquire_owned().await.ok()
    }

    /// Returns how many bytes of a body over HTTP are kept with its record.
    fn kept_body_bytes(&self) -> usize {
        let journal = &self.0.config.journal;
        if journal.keep_payloads { journal.payload_bytes.min(FIXED.kept_body_bytes) as usize } else { 0 }
    }

    fn living(&self) -> &Arc<living::Living> {
        &self.0.living
    }

    fn containment(&self) -> &Engine {
        &self.0.containment
    }

    fn pace(&self) -> &held::Pace {
        &self.0.pace
    }

    fn workers(&self) -> &Workers {
        &self.0.workers
    }

    fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// Takes no new steps, waits up to `grace` for the running ones, then cancels them and waits for their results.
    pub async fn drain(&self, grace: Duration) {
        self.0.draining.cancel();
        self.0.running.close();
        if tokio::time::timeout(grace, self.0.running.wait()).await.is_err() {
            self.0.stopping.cancel();
            let _ = tokio::time::timeout(CANCEL_GRACE, self.0.running.wait()).await; // callers that do not read are left
        }
    }

    fn mount(&self, name: &str) -> Option<&Mount> {
        self.0.config.mounts.iter().find(|mount| mount.name.as_str() == name)
    }
}
