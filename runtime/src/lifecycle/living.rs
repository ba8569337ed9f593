//! What runs now: guests and their calls, as far as they can be stopped from outside. Nobody asks them.
//!
//! Whoever begins is listed here first and looks for holds then; who imposes a hold does it first and looks here then. So
//! one of the two sees the other.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use super::{
    act::Act,
    execution::{Execution, unix_ms},
};
use crate::{
    control::{Hold, LastEffect, Scope, Subject, Target},
    step::{CallError, Denial, Digest, Failure, Name, ToolName, Version},
};

/// All guests that run, or are about to.
#[derive(Default)]
pub struct Living {
    guests: Mutex<HashMap<u64, Arc<Guest>>>,
    next: AtomicU64,
}

/// Who a guest is, as holds see it.
#[derive(Debug, Clone)]
pub struct Identity {
    pub tenant: Name,
    pub job: Option<Name>,
    pub agent: Option<(Name, Version)>,
    /// Of the guest itself: of the tool, where a tool runs.
    pub component: Digest,
    pub caller: String,
    pub step: String,
    /// It is a tool: who calls it waits for it.
    pub tool: bool,
}

/// A guest, a step or a tool inside one.
pub struct Guest {
    pub identity: Identity,
    stop: Stop,
    /// It runs no more.
    ended: CancellationToken,
    calls: Mutex<HashMap<u64, Arc<LiveCall>>>,
    /// Of the step, its tools included: what it did last outside.
    last_effect: Arc<Mutex<Option<LastEffect>>>,
}

/// A call on its way.
pub struct LiveCall {
    pub call: u64,
    /// In words.
    pub what: String,
    about: About,
    stop: Stop,
    ended: CancellationToken,
}

/// What a call is about, kept for whoever looks while it is under way.
#[derive(Debug, Clone, Default)]
pub struct About {
    pub tool: Option<(ToolName, Version)>,
    pub component: Option<Digest>,
    pub rule: Option<Name>,
    pub host: Option<String>,
    pub credential: Option<Name>,
}

/// The end that a hold puts to something.
#[derive(Default)]
struct Stop {
    by: OnceLock<Arc<Hold>>,
    told: CancellationToken,
}

/// A place among the living. Dropping it says that the guest runs no more.
pub struct Life {
    pub guest: Arc<Guest>,
    number: u64,
    living: Arc<Living>,
}

/// A place among a guest's calls. Dropping it says that nothing of the call goes on.
pub struct Calling {
    pub live: Arc<LiveCall>,
    guest: Arc<Guest>,
}

impl Living {
    /// Lists a guest. A tool shares the last effect of the guest that called it.
    pub fn begin(self: &Arc<Self>, identity: Identity, caller: Option<&Guest>) -> Life {
        let last_effect = caller.map(|caller| caller.last_effect.clone()).unwrap_or_default();
        let guest = Arc::new(Guest {
            identity,
            stop: Stop::default(),
            ended: CancellationToken::new(),
            calls: Mutex::default(),
            last_effect,
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.guests().insert(number, guest.clone());
        Life { guest, number, living: self.clone() }
    }

    /// Returns whether a step runs, or is about to.
    pub fn has(&self, step: &str) -> bool {
        self.guests().values().any(|guest| guest.identity.step == step)
    }

    /// Returns the steps that a scope covers by who they are.
    pub fn steps_in(&self, scope: &Scope) -> Vec<Arc<Guest>> {
        let guests = self.guests();
        let steps = guests.values().filter(|guest| !guest.identity.tool && guest.subject().is_in(scope));
        steps.cloned().collect()
    }

    /// Returns the calls that a scope covers, by what they are about or by who makes them.
    pub fn calls_in(&self, scope: &Scope) -> Vec<(Arc<Guest>, Arc<LiveCall>)> {
        let guests: Vec<_> = self.guests().values().cloned().collect();
        let mut found = Vec::new();
        for guest in guests {
            let all = guest.subject().is_in(scope);
            let calls: Vec<_> = guest.calls().values().cloned().collect();
            let covered = calls.into_iter().filter(|call| all || call.target().is_in(scope));
            found.extend(covered.map(|call| (guest.clone(), call)));
        }
        found
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<u64, Arc<Guest>>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    pub fn subject(&self) -> Subject<'_> {
        let Identity { tenant, job, agent, component, caller, step, .. } = &self.identity;
        let agent = agent.as_ref().map(|(name, version)| (name, version));
        Subject { tenant, job: job.as_ref(), agent, component: *component, caller, step }
    }

    /// Stops it because of a hold. It has no say in it.
    pub fn stop(&self, hold: &Arc<Hold>) {
        self.stop.tell(hold);
    }

    /// Waits until it is to stop.
    pub async fn stopped(&self) -> Arc<Hold> {
        self.stop.told().await
    }

    /// Returns why it was stopped, if it was.
    pub fn stopped_by(&self) -> Option<&Arc<Hold>> {
        self.stop.by.get()
    }

    /// Waits until it runs no more.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Lists a call of it.
    pub fn call(self: &Arc<Self>, call: u64, what: &str, about: About) -> Calling {
        let (stop, ended) = (Stop::default(), CancellationToken::new());
        let live = Arc::new(LiveCall { call, what: what.into(), about, stop, ended });
        self.calls().insert(call, live.clone());
        Calling { live, guest: self.clone() }
    }

    /// Says that the intent of an effect is on record, and that it is done now.
    pub fn acts(&self, record: u64, call: u64, what: &str) {
        let effect = LastEffect { record, call, what: what.into(), time_ms: unix_ms() };
        *self.last_effect.lock().unwrap_or_else(PoisonError::into_inner) = Some(effect);
    }

    pub fn last_effect(&self) -> Option<LastEffect> {
        self.last_effect.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<u64, Arc<LiveCall>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveCall {
    pub fn target(&self) -> Target<'_> {
        self.about.target()
    }

    /// Returns the credential that it carries.
    pub fn credential(&self) -> Option<&Name> {
        self.about.credential.as_ref()
    }

    /// Cuts it off because of a hold.
    pub fn stop(&self, hold: &Arc<Hold>) {
        self.stop.tell(hold);
    }

    /// Waits until it is to be cut off.
    pub async fn stopped(&self) -> Arc<Hold> {
        self.stop.told().await
    }

    /// Returns why it was cut off, if it was.
    pub fn stopped_by(&self) -> Option<&Arc<Hold>> {
        self.stop.by.get()
    }

    /// Waits until nothing of it goes on.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl About {
    /// Returns what an act is about.
    pub fn of(act: &Act) -> Self {
        match act {
            Act::CallTool { tool, .. } => Self {
                tool: Some((tool.tool.name.clone(), tool.tool.version.clone())),
                component: Some(tool.tool.component),
                ..Self::default()
            },
            Act::SendRequest(sending) => Self {
                rule: Some(sending.route.rule().clone()),
                host: Some(sending.request.host.to_string()),
                credential: sending.route.credential().cloned(),
                ..Self::default()
            },
            Act::ListTools | Act::Memory { .. } => Self::default(),
        }
    }

    fn target(&self) -> Target<'_> {
        Target {
            tool: self.tool.as_ref().map(|(name, version)| (name, version)),
            component: self.component,
            rule: self.rule.as_ref(),
            host: self.host.as_deref(),
            credential: self.credential.as_ref(),
        }
    }
}

impl Stop {
    fn tell(&self, hold: &Arc<Hold>) {
        let _ = self.by.set(hold.clone()); // the first one counts
        self.told.cancel();
    }

    async fn told(&self) -> Arc<Hold> {
        self.told.cancelled().await;
        match self.by.get() {
            Some(hold) => hold.clone(),
            // It is told only after it was set.
            None => std::future::pending().await,
        }
    }
}

impl Life {
    /// Says that the guest runs no more, before what is left to do about it is done.
    pub fn end(&self) {
        self.guest.ended.cancel();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.living.guests().remove(&self.number);
        self.guest.ended.cancel();
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        self.guest.calls().remove(&self.live.call);
        self.live.ended.cancel();
    }
}

/// Returns why something is held, for people.
pub fn why(hold: &Hold) -> String {
    format!("`{}` holds {}: {} ({})", hold.action, hold.scope, hold.reason, hold.id)
}

/// Returns how a guest ended that was stopped.
pub fn failure(hold: &Hold) -> Failure {
    Failure::new("HELD", format!("it was stopped: {}", why(hold)))
}

/// Returns the denial of a call that is held.
pub fn denied(execution: &Execution, call: u64, hold: &Hold) -> CallError {
    CallError::Denied(Denial {
        code: "HELD".into(),
        message: format!("{}; do not retry", why(hold)),
        rule: Some(hold.id.clone()),
        missing: Vec::new(),
        alternative: None,
        decision: execution.step.decision(call),
    })
}
