//! Containment: the operator's rules are shown what agents do, and an agent that triggers one is held at once.

use std::io;

use serde_json::json;
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use super::{
    Lifecycle,
    execution::{Execution, unix_ms},
    trail::Number,
};
use crate::{
    containment::{Observation, Seen, Triggered},
    control::{Hold, Scope, hold_id},
    step::{Call, CallError, Digest, Name},
};

/// What stands before the name of a rule in `by` of its holds.
const CONTAINMENT: &str = "containment/";

impl Execution {
    /// Shows the containment rules what the agent did, and the record that says so. Whoever triggers one is held when this
    /// returns.
    pub async fn show(&self, record: &Number, what: Seen<'_>) {
        let Some(agent) = self.step.agent.as_deref() else { return };
        let (tenant, agent) = (&self.step.tenant.name, &agent.manifest.name);
        let seen = Observation { tenant, agent, record, at_ms: unix_ms(), what };
        let triggered = self.lifecycle.containment().observe(&seen);
        if triggered.is_empty() {
            return;
        }
        // Whole: the rules count from nothing now, and whoever waits here is dropped when the guest ends.
        let (lifecycle, step, tenant, agent) =
            (self.lifecycle.clone(), self.step.clone(), tenant.clone(), agent.clone());
        let contained = self.lifecycle.whole(async move {
            // Records are numbered once they are durable. One that never is has no number, and the agent is held all the same.
            let _ = step.trail.settled().await;
            for triggered in triggered {
                lifecycle.contain(tenant.clone(), agent.clone(), triggered).await;
            }
        });
        if let Err(error) = contained.await {
            error!(%error, "an agent that is to be held may not be");
        }
    }

    /// Shows them that labels joined the agent's job.
    pub async fn show_labels(&self, record: &Number, labels: &[Name]) {
        for label in labels {
            self.show(record, Seen::Labelled(label)).await;
        }
    }

    /// Shows them a call that was made, by what [`Execution::asked`] said of it.
    pub async fn show_call(&self, record: &Number, asked: Option<Digest>) {
        if let Some(asked) = asked {
            self.show(record, Seen::Call(asked)).await;
        }
    }

    /// Shows them that a call was denied; not if it was by a hold, which would then prolong itself.
    pub async fn show_refusal(&self, record: &Number, error: &CallError) {
        if matches!(error, CallError::Denied(denial) if denial.code != "HELD") {
            self.show(record, Seen::Denial).await;
        }
    }

    /// Returns the digest of what a call asks, if there are rules to show it. Of a request over HTTP its headers are left
    /// out: what differs in each of them would hide that the rest is the same.
    pub fn asked(&self, call: &Call) -> Option<Digest> {
        if !self.lifecycle.containment().watches_calls() || self.step.agent.is_none() {
            return None;
        }
        let text = match call {
            Call::SendRequest(request) => {
                format!("{} {}://{}{}", request.method, request.scheme, request.authority, request.path_with_query)
            }
            other => format!("{other:?}"),
        };
        Some(Digest::of(text.as_bytes()))
    }
}

impl Lifecycle {
    /// Holds an agent because of a rule.
    async fn contain(&self, tenant: Name, agent: Name, triggered: Triggered) {
        let records = triggered.records();
        let Triggered { rule, action, until_ms, .. } = triggered;
        warn!(%tenant, %agent, %rule, %action, "a containment rule was triggered");
        let by = format!("{CONTAINMENT}{rule}");
        let hold = Hold {
            id: hold_id(&by, &format!("{tenant}/{agent}")),
            reason: format!("the agent did what the containment rule `{rule}` is for"),
            action,
            scope: Scope::Agent { tenant: Some(tenant), name: agent, version: None },
            by,
            since_ms: unix_ms(),
            until_ms,
            records,
        };
        let recorded = match self.0.holds.impose(hold.clone()) {
            Ok(hold) => {
                let this = self.clone();
                let kept = spawn_blocking(move || this.0.holds.keep()).await;
                if let Err(error) = kept.map_err(io::Error::from).flatten() {
                    error!(%error, hold = hold.id, "a restart would lift a hold");
                }
                // The one that is in force: one of before may end later.
                self.record_hold("imposed", &hold, json!({})).await
            }
            Err(error) => {
                error!(%error, hold = hold.id, "an agent that is to be held is not");
                // It is not held, so the rule goes on to watch it.
                self.forgive(&hold);
                self.record_hold("refused", &hold, json!({ "why": error.to_string() })).await
            }
        };
        if let Err(error) = recorded {
            error!(%error, hold = hold.id, "a hold is not recorded");
        }
    }

    /// Lets the rule whose hold was lifted, or never imposed, count from nothing.
    pub(super) fn forgive(&self, hold: &Hold) {
        let rule = hold.by.strip_prefix(CONTAINMENT).and_then(|rule| rule.parse::<Name>().ok());
        if let (Some(rule), Scope::Agent { tenant: Some(tenant), name, .. }) = (rule, &hold.scope) {
            self.containment().forget(tenant, name, &rule);
        }
    }
}
