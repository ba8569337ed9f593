//! Stopping what runs, from outside: nothing that is stopped is asked. What comes back says what was stopped, and when.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    Lifecycle,
    act::cut,
    execution::unix_ms,
    living::{Guest, LiveCall, Living},
};
use crate::{
    control::{Action, Evidence, Hold, LastEffect, Scope, StoppedCall, StoppedStep},
    step::Name,
};

/// How long an answer waits for what is stopped. A worker that does not end it is killed much sooner; what not even that
/// ends, a process that waits for a disk, must not keep the answer from everybody.
const WAIT: Duration = Duration::from_secs(10);

/// Bytes of what one record lists: a part of what it can have.
const LISTED_BYTES_MAX: usize = 128 << 10;

/// What was stopped.
#[derive(Default)]
pub struct Stopped {
    pub steps: Vec<StoppedStep>,
    pub calls: Vec<StoppedCall>,
    pub leases: Vec<Name>,
    /// What runs still.
    pub left: Vec<Part>,
}

/// Something that was told to stop. It has when the tools inside it have, too.
pub struct Part {
    guest: Arc<Guest>,
    /// Only this call of the guest.
    call: Option<Arc<LiveCall>>,
    tools: Vec<Arc<Guest>>,
}

impl Lifecycle {
    /// Does to what runs what a hold that has just come into force says, and waits until it is so.
    pub(super) async fn stop(&self, hold: &Arc<Hold>, drain_timeout: Duration, started: Instant) -> Stopped {
        match hold.action {
            Action::Kill => self.stop_now(hold, started).await,
            Action::Drain => tokio::select! {
                biased;
                // Whoever lifts it wants what runs to go on.
                () = self.over(hold) => Stopped::default(),
                () = self.drained(&hold.scope) => Stopped::default(),
                () = sleep(drain_timeout) => self.stop_now(hold, started).await,
            },
            // Calls are blocked, or wait, where they are made; whoever only computes reaches nothing.
            Action::Freeze | Action::Cordon | Action::Quarantine | Action::ReadOnly | Action::Throttle { .. } => {
                Stopped::default()
            }
        }
    }

    /// Waits until nothing runs any more that a scope covers now.
    async fn drained(&self, scope: &Scope) {
        let (steps, tools) = (self.living().steps_in(scope), self.living().tools_in(scope));
        let calls = self.living().calls_in(scope);
        join_all(steps.iter().chain(&tools).map(|guest| guest.ended())).await;
        join_all(calls.iter().map(|(_, call)| call.ended())).await;
    }

    async fn stop_now(&self, hold: &Arc<Hold>, started: Instant) -> Stopped {
        let parts = tell(self.living(), hold);
        let leases = self.drop_leases(hold, &parts);
        Stopped { leases, ..stopped(parts, WAIT, started).await }
    }

    /// Drops cached values of credentials: what was read for those who may not have it any more is not kept for the next.
    fn drop_leases(&self, hold: &Hold, stopped: &[Part]) -> Vec<Name> {
        let mut leases: BTreeSet<Name> = match &hold.scope {
            // Whatever is cached may have been read for one of them.
            Scope::Node | Scope::Tenant(_) | Scope::Caller(_) | Scope::Job { .. } => {
                self.credentials().list().into_iter().map(|status| status.name).collect()
            }
            Scope::Agent { name, version, .. } => {
                let agents = self.agents().all();
                let held = agents.iter().map(|agent| &agent.manifest).filter(|manifest| {
                    manifest.name == *name && version.as_ref().is_none_or(|version| manifest.version == *version)
                });
                held.flat_map(|manifest| &manifest.egress).filter_map(|grant| grant.credential.clone()).collect()
            }
            Scope::Credential(name) => [name.clone()].into(),
            Scope::Step(_) | Scope::Component(_) | Scope::Tool { .. } | Scope::Rule(_) | Scope::Host(_) => {
                BTreeSet::new()
            }
        };
        leases.extend(stopped.iter().filter_map(|part| part.call.as_ref()?.credential().cloned()));
        leases.into_iter().filter(|name| self.credentials().forget(name.as_str())).collect()
    }
}

/// Tells all that a scope covers to stop. Returns what is to end.
fn tell(living: &Living, hold: &Arc<Hold>) -> Vec<Part> {
    let (mut steps, mut calls) = (living.steps_in(&hold.scope), living.calls_in(&hold.scope));
    steps.retain(|guest| guest.stop.tell(hold));
    calls.retain(|(_, call)| call.stop.tell(hold));
    // After what is around them: a tool that begins now is listed, or sees that.
    let tools = living.tools_in(&hold.scope);
    let tools: Vec<_> = tools.into_iter().filter(|guest| guest.stop.tell(hold) || !guest.has_ended()).collect();
    let inside = |covers: &dyn Fn(&Guest) -> bool| tools.iter().filter(|tool| covers(tool)).cloned().collect();
    let mut parts = Vec::new();
    for guest in steps {
        let tools = inside(&|tool| tool.identity.step == guest.identity.step);
        parts.push(Part { guest, call: None, tools });
    }
    for (guest, call) in calls {
        let tools = inside(&|tool| tool.is_part_of(&call));
        parts.push(Part { guest, call: Some(call), tools });
    }
    // Those that nobody waits for any more, and those that are registered.
    parts.extend(tools.iter().map(|guest| Part { guest: guest.clone(), call: None, tools: Vec::new() }));
    parts
}

/// Waits until parts have stopped, but not for longer than `bound`: nothing is said to be stopped that is not.
pub async fn stopped(parts: Vec<Part>, bound: Duration, started: Instant) -> Stopped {
    let ended = join_all(parts.into_iter().map(async |part| {
        let in_time = timeout(bound, part.ended()).await.is_ok();
        (part, in_time, unix_ms(), started.elapsed())
    }));
    let mut stopped = Stopped::default();
    for (part, in_time, stop_ms, took) in ended.await {
        if !in_time {
            stopped.left.push(part);
            continue;
        }
        let Part { guest, call, .. } = part;
        let identity = &guest.identity;
        match call {
            Some(call) => {
                let (step, what) = (identity.step.clone(), cut(&call.what));
                stopped.calls.push(StoppedCall { step, call: call.call, what, took });
            }
            // A step that waited to begin is refused; tools are stopped with their calls.
            None if identity.tool || !guest.began() => {}
            None => {
                let agent = identity.agent.as_ref().map(|(name, version)| format!("{name}@{version}"));
                let last_effect = guest.last_effect().map(|last| LastEffect { what: cut(&last.what), ..last });
                let (step, tenant) = (identity.step.clone(), identity.tenant.clone());
                let agent = agent.unwrap_or_default();
                stopped.steps.push(StoppedStep { step, tenant, agent, stop_ms, took, last_effect });
            }
        }
    }
    stopped
}

impl Part {
    async fn ended(&self) {
        match &self.call {
            Some(call) => call.ended().await,
            None => self.guest.ended().await,
        }
        join_all(self.tools.iter().map(|tool| tool.ended())).await;
    }

    /// Returns what it is: `steps/<id>`, or `steps/<id>/<call>`.
    pub fn name(&self) -> String {
        let step = &self.guest.identity.step;
        self.call.as_ref().map_or_else(|| step.clone(), |call| format!("{step}/{}", call.call))
    }
}

/// Returns what records say of what a hold stopped: as many as it takes, and none of nothing.
pub fn evidence_records(evidence: &Evidence) -> Vec<Value> {
    let micros = |took: Duration| took.as_micros() as u64;
    let step = |stopped: &StoppedStep| {
        let effect = stopped.last_effect.as_ref();
        let effect = effect.map(|last| json!({ "record": last.record, "call": last.call, "what": last.what }));
        ("steps", json!({ "step": stopped.step, "took_us": micros(stopped.took), "last_effect": effect }))
    };
    let call = |stopped: &StoppedCall| {
        let StoppedCall { step, call, what, took } = stopped;
        ("calls", json!({ "step": step, "call": call, "what": what, "took_us": micros(*took) }))
    };
    let leases = evidence.leases.iter().map(|name| ("leases", json!(name)));
    let still_running = evidence.still_running.iter().map(|name| ("still_running", json!(name)));
    let steps = evidence.steps.iter().map(step);
    let all = steps.chain(evidence.calls.iter().map(call)).chain(leases).chain(still_running);
    let mut records: Vec<Value> = Vec::new();
    let mut bytes = 0;
    for (list, entry) in all {
        let more = entry.to_string().len();
        bytes += more;
        if records.is_empty() || bytes > LISTED_BYTES_MAX {
            let took_us = micros(evidence.took);
            records.push(json!({ "steps": [], "calls": [], "leases": [], "still_running": [], "took_us": took_us }));
            bytes = more;
        }
        if let Some(Value::Array(list)) = records.last_mut().and_then(|record| record.get_mut(list)) {
            list.push(entry);
        }
    }
    records
}
