//! Containment: the operator's rules are shown what agents do, and an agent that triggers one is held at once.

use std::sync::Arc;

use serde_json::json;
use tokio::task::block_in_place;
use tracing::{error, warn};

use super::{
    Lifecycle,
    execution::{Execution, unix_ms},
    trail::Number,
};
use crate::{
    containment::{Observation, Seen, Triggered},
    control::{Hold, ImposeError, Scope, hold_id},
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
        for triggered in self.lifecycle.containment().observe(&seen) {
            // Records are numbered once they are durable. One that never is has no number, and the agent is held all the same.
            let _ = self.step.trail.settled().await;
            self.lifecycle.contain(tenant.clone(), agent.clone(), triggered).await;
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
    /// Holds an agent because of a rule. Done whole, also if the step that triggered it ends meanwhile.
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
        let this = self.clone();
        let held = self.whole(async move {
            let hold = Arc::new(hold);
            match block_in_place(|| this.0.holds.impose(Hold::clone(&hold))) {
                Ok(_) => {}
                Err(error @ ImposeError::Unkept(_)) => error!(%error, hold = hold.id, "a restart would lift a hold"),
                Err(error) => {
                    error!(%error, hold = hold.id, "an agent that is to be held is not");
                    return;
                }
            }
            if let Err(error) = this.record_hold("imposed", &hold, json!({})).await {
                error!(%error, hold = hold.id, "a hold is not recorded");
            }
        });
        if let Err(error) = held.await {
            error!(%error, "an agent that is to be held may not be");
        }
    }

    /// Lets the rule whose hold was lifted count from nothing.
    pub(super) fn forgive(&self, hold: &Hold) {
        let rule = hold.by.strip_prefix(CONTAINMENT).and_then(|rule| rule.parse::<Name>().ok());
        if let (Some(rule), Scope::Agent { tenant: Some(tenant), name, .. }) = (rule, &hold.scope) {
            self.containment().forget(tenant, name, &rule);
        }
    }
}
