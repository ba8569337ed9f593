//! A guest that runs, a step or a tool inside one, as the gate sees it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::mpsc;

use super::{
    Lifecycle, Tenant,
    admit::Slot,
    denial::unavailable,
    grant::Grant,
    labels::Labels,
    living::{Guest, Life},
    trail::Trail,
};
use crate::{
    budget::Account,
    policy::{AgentFacts, BudgetLeft, Surroundings},
    step::{CallError, Event, Name, Origin},
    store::{Agent, Lease},
    telemetry::Context,
};

/// What a step and all the tools inside it share.
pub struct StepFacts {
    /// `steps/<128-bit id>`.
    pub id: String,
    /// Who started it: `unix:<uid>` or `loopback`.
    pub caller: String,
    pub tenant: Arc<Tenant>,
    pub agent: Option<Arc<Agent>>,
    pub trail: Trail,
    /// Numbers the host calls of the step and of its tools, from 1.
    pub calls: AtomicU64,
    /// What tools say, and which tool.
    pub said: mpsc::Sender<(String, Event)>,
    /// Where the workspace lies on the host.
    pub workspace: crate::step::Mount,
    /// The workspace's name, if it outlives the step.
    pub kept_workspace: Option<Name>,
    /// What has entered the job.
    pub labels: Arc<Labels>,
    /// The step's slot and its workspace, as long as a guest of the step runs: its tools hold them as well.
    pub held: Weak<Held>,
}

/// What is free again when the last guest of a step has ended.
pub type Held = (Slot, Lease);

/// One guest that runs.
pub struct Execution {
    pub lifecycle: Lifecycle,
    pub step: Arc<StepFacts>,
    pub grant: Grant,
    pub account: Account,
    /// The tool that this is; empty for the step itself.
    pub via: String,
    /// Tools around this.
    pub depth: u32,
    /// What its random bytes and its clocks are made of.
    pub origin: Origin,
    pub started: Instant,
    pub deadline: Instant,
    /// Its span.
    pub context: Context,
    /// Until this is dropped, it runs.
    pub life: Life,
}

impl StepFacts {
    /// Returns the number of the step's next host call.
    pub fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns the name of the decision about a call.
    pub fn decision(&self, call: u64) -> String {
        format!("decisions/{}/{call}", self.id.trim_start_matches("steps/"))
    }
}

impl Execution {
    /// Returns the milliseconds since the guest was started.
    pub fn elapsed_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Returns it as holds see it.
    pub fn guest(&self) -> &Arc<Guest> {
        &self.life.guest
    }

    /// Returns what policy knows of the agent, if there is one.
    pub fn agent_facts(&self) -> Option<AgentFacts> {
        self.step.agent.as_deref().map(agent_facts)
    }

    /// Says that something with `labels` enters, before it does; returns those that are to be recorded. What the job writes
    /// into a workspace that outlives it is labelled from then on.
    pub async fn join<'a>(&self, labels: impl IntoIterator<Item = &'a Name>) -> Result<Vec<Name>, CallError> {
        let new = self.step.labels.join(labels);
        // Another step of the job may have brought the label, with another workspace.
        let labelled = self.step.tenant.label_workspace(self.step.kept_workspace.as_ref(), &self.step.labels).await;
        labelled.map_err(|error| {
            tracing::error!(%error, "a workspace cannot be labelled");
            unavailable("STORAGE_UNAVAILABLE", "the workspace's labels cannot be kept now: see the daemon's log")
        })?;
        Ok(new)
    }

    /// Returns what policy knows of the moment.
    pub fn surroundings(&self) -> Surroundings {
        let left = self.account.left();
        Surroundings {
            caller: self.step.caller.clone(),
            environment: self.lifecycle.config().policy.environment.clone(),
            unix_ms: unix_ms(),
            budget_left: BudgetLeft {
                fuel: left.fuel,
                wall_ms: left.wall_ms,
                host_calls: left.host_calls,
                tool_calls: left.tool_calls,
                bytes_in: left.bytes_in,
                bytes_out: left.bytes_out,
            },
            via: self.via.clone(),
            labels: self.step.labels.texts(),
        }
    }
}

pub fn agent_facts(agent: &Agent) -> AgentFacts {
    AgentFacts {
        name: agent.manifest.name.to_string(),
        version: agent.manifest.version.to_string(),
        owner: agent.manifest.owner.clone(),
        labels: agent.manifest.labels.iter().map(ToString::to_string).collect(),
        component: agent.component,
    }
}

/// Returns the milliseconds since 1970.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}
