//! What runs now: guests and their calls, as far as they can be stopped from outside. Nobody asks them.
//!
//! Whoever begins is listed here first and looks for holds then; who imposes a hold does it first and looks here then. So
//! one of the two sees the other.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
    /// Of a tool: whose call runs it, and which.
    within: Option<(Arc<Guest>, Arc<LiveCall>)>,
    pub stop: Stop,
    /// A worker has, or had, it.
    began: AtomicBool,
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
    pub stop: Stop,
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

/// The end that a hold puts to something, unless it ends by itself before.
#[derive(Default)]
pub struct Stop {
    course: Mutex<Course>,
    told: CancellationToken,
}

#[derive(Default)]
enum Course {
    #[default]
    Open,
    Stopped(Arc<Hold>),
    Ended,
}

/// A guest that is listed. Dropping it says that its story goes on without it.
pub struct Life {
    pub guest: Arc<Guest>,
    place: Option<Arc<Place>>,
}

/// A place among the living. A guest runs no more when the last one who keeps it drops it: the daemon, and its worker.
pub struct Place {
    guest: Arc<Guest>,
    number: u64,
    living: Arc<Living>,
}

/// A call on its way. Nothing of it goes on when the last one who keeps it drops it.
#[derive(Clone)]
pub struct Calling {
    pub live: Arc<LiveCall>,
    _place: Arc<CallPlace>,
}

/// A place among a guest's calls.
struct CallPlace {
    live: Arc<LiveCall>,
    guest: Arc<Guest>,
}

impl Living {
    /// Lists a guest; a tool, with the call that runs it. A tool shares the last effect of the guest that called it.
    pub fn begin(self: &Arc<Self>, identity: Identity, within: Option<(Arc<Guest>, Arc<LiveCall>)>) -> Life {
        let last_effect = within.as_ref().map(|(caller, _)| caller.last_effect.clone()).unwrap_or_default();
        let guest = Arc::new(Guest {
            identity,
            within,
            stop: Stop::default(),
            began: AtomicBool::default(),
            ended: CancellationToken::new(),
            calls: Mutex::default(),
            last_effect,
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.guests().insert(number, guest.clone());
        let place = Place { guest: guest.clone(), number, living: self.clone() };
        Life { guest, place: Some(Arc::new(place)) }
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

    /// Returns the tools that a scope covers, by who they are or by a call that they are part of.
    pub fn tools_in(&self, scope: &Scope) -> Vec<Arc<Guest>> {
        let guests: Vec<_> = self.guests().values().cloned().collect();
        guests.into_iter().filter(|guest| guest.identity.tool && guest.is_in(scope)).collect()
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

    /// Returns why it was stopped, or a call that it is part of was cut off.
    pub fn cut_by(&self) -> Option<Arc<Hold>> {
        let around = || self.within.as_ref().and_then(|(caller, call)| call.stop.by().or_else(|| caller.cut_by()));
        self.stop.by().or_else(around)
    }

    /// Says that a worker has it.
    pub fn begins(&self) {
        self.began.store(true, Ordering::Release);
    }

    /// Returns whether a worker has, or had, it.
    pub fn began(&self) -> bool {
        self.began.load(Ordering::Acquire)
    }

    /// Returns whether it is part of a call.
    pub fn is_part_of(&self, call: &Arc<LiveCall>) -> bool {
        self.within.as_ref().is_some_and(|(caller, own)| Arc::ptr_eq(own, call) || caller.is_part_of(call))
    }

    fn is_in(&self, scope: &Scope) -> bool {
        let around = |(caller, call): &(Arc<Self>, Arc<LiveCall>)| call.target().is_in(scope) || caller.is_in(scope);
        self.subject().is_in(scope) || self.within.as_ref().is_some_and(around)
    }

    /// Waits until it runs no more.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Returns whether it runs no more.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Lists a call of it.
    pub fn call(self: &Arc<Self>, call: u64, what: &str, about: About) -> Calling {
        let (stop, ended) = (Stop::default(), CancellationToken::new());
        let live = Arc::new(LiveCall { call, what: what.into(), about, stop, ended });
        self.calls().insert(call, live.clone());
        let place = CallPlace { live: live.clone(), guest: self.clone() };
        Calling { live, _place: Arc::new(place) }
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
    /// Stops it because of a hold; returns whether it had not ended by itself. The first hold counts.
    pub fn tell(&self, hold: &Arc<Hold>) -> bool {
        let mut course = self.course();
        match &*course {
            Course::Open => *course = Course::Stopped(hold.clone()),
            Course::Stopped(_) => {}
            Course::Ended => return false,
        }
        drop(course);
        self.told.cancel();
        true
    }

    /// Waits until it is to stop.
    pub async fn told(&self) -> Arc<Hold> {
        self.told.cancelled().await;
        match self.by() {
            Some(hold) => hold,
            // It is told only after it was set.
            None => std::future::pending().await,
        }
    }

    /// Returns why it was stopped, if it was.
    pub fn by(&self) -> Option<Arc<Hold>> {
        if let Course::Stopped(hold) = &*self.course() { Some(hold.clone()) } else { None }
    }

    /// Says that it ended by itself: nothing stops it from here on. Returns why it was stopped, if that was before.
    pub fn finish(&self) -> Option<Arc<Hold>> {
        let mut course = self.course();
        if let Course::Stopped(hold) = &*course {
            return Some(hold.clone());
        }
        *course = Course::Ended;
        None
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Life {
    /// Returns what says, once it is dropped too, that the guest runs no more: for its worker.
    pub fn place(&self) -> Option<Arc<Place>> {
        self.place.clone()
    }

    /// Says that the guest's story goes on without it, before what is left to do about it is done.
    pub fn end(&mut self) {
        self.guest.stop.finish();
        self.place = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guest.stop.finish();
        self.living.guests().remove(&self.number);
        self.guest.ended.cancel();
    }
}

impl Drop for CallPlace {
    fn drop(&mut self) {
        self.live.stop.finish();
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
