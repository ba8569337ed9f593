//! Stopping what runs, from outside: nothing that is stopped is asked. What comes back says what was stopped, and when.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    Lifecycle,
    execution::unix_ms,
    living::{Guest, LiveCall},
};
use crate::{
    control::{Action, Evidence, Hold, StoppedCall, StoppedStep},
    step::Name,
};

/// What was stopped.
#[derive(Default)]
pub struct Stopped {
    pub steps: Vec<StoppedStep>,
    pub calls: Vec<StoppedCall>,
    pub leases: Vec<Name>,
}

impl Lifecycle {
    /// Does to what runs what a hold that has just come into force says, and waits until it is so.
    pub(super) async fn stop(&self, hold: &Arc<Hold>, drain_timeout: Duration, started: Instant) -> Stopped {
        match hold.action {
            Action::Kill => self.stop_now(hold, started).await,
            Action::Drain => {
                let running = self.living().steps_in(&hold.scope);
                let ended = async |guest: Arc<Guest>| guest.ended().await;
                let drained = join_all(running.into_iter().map(ended));
                match timeout(drain_timeout, drained).await {
                    Ok(_) => Stopped::default(),
                    Err(_) => self.stop_now(hold, started).await,
                }
            }
            // Calls are blocked, or wait, where they are made; whoever only computes reaches nothing.
            Action::Freeze | Action::Cordon | Action::Quarantine | Action::ReadOnly | Action::Throttle { .. } => {
                Stopped::default()
            }
        }
    }

    async fn stop_now(&self, hold: &Arc<Hold>, started: Instant) -> Stopped {
        let (steps, calls) = (self.living().steps_in(&hold.scope), self.living().calls_in(&hold.scope));
        steps.iter().for_each(|guest| guest.stop(hold));
        calls.iter().for_each(|(_, call)| call.stop(hold));
        // What was read for those who may not have it any more is not kept for the next.
        let carried = calls.iter().filter_map(|(_, call)| call.credential());
        let mut leases: Vec<Name> = carried.chain(hold.scope.credential()).cloned().collect();
        leases.sort();
        leases.dedup();
        leases.retain(|name| self.credentials().forget(name.as_str()));
        let steps = join_all(steps.into_iter().map(|guest| stopped_step(guest, started)));
        let calls = join_all(calls.into_iter().map(|(guest, call)| stopped_call(guest, call, started)));
        let (steps, calls) = tokio::join!(steps, calls);
        Stopped { steps, calls, leases }
    }
}

/// Waits until a guest runs no more, however long: nothing is said to be stopped that is not. A worker that does not end
/// it is killed.
async fn stopped_step(guest: Arc<Guest>, started: Instant) -> StoppedStep {
    guest.ended().await;
    let identity = &guest.identity;
    let agent = identity.agent.as_ref().map(|(name, version)| format!("{name}@{version}"));
    StoppedStep {
        step: identity.step.clone(),
        tenant: identity.tenant.clone(),
        agent: agent.unwrap_or_default(),
        stop_ms: unix_ms(),
        took: started.elapsed(),
        last_effect: guest.last_effect(),
    }
}

async fn stopped_call(guest: Arc<Guest>, call: Arc<LiveCall>, started: Instant) -> StoppedCall {
    call.ended().await;
    let (step, what) = (guest.identity.step.clone(), call.what.clone());
    StoppedCall { step, call: call.call, what, took: started.elapsed() }
}

/// Returns what the record of a hold says of what it stopped.
pub fn evidence_record(evidence: &Evidence) -> Value {
    let micros = |took: Duration| took.as_micros() as u64;
    let step = |stopped: &StoppedStep| {
        let effect = stopped.last_effect.as_ref();
        let effect = effect.map(|last| json!({ "record": last.record, "call": last.call, "what": last.what }));
        json!({ "step": stopped.step, "took_us": micros(stopped.took), "last_effect": effect })
    };
    let call = |stopped: &StoppedCall| json!({ "step": stopped.step, "call": stopped.call, "what": stopped.what, "took_us": micros(stopped.took) });
    json!({
        "steps": evidence.steps.iter().map(step).collect::<Vec<_>>(),
        "calls": evidence.calls.iter().map(call).collect::<Vec<_>>(),
        "leases": evidence.leases,
        "took_us": micros(evidence.took),
    })
}
