//! Who is held: which hold is in force against what runs, and against one call of it.

use std::sync::Arc;

use super::{
    hold::{Action, Hold},
    scope::Scope,
};
use crate::step::{Digest, Name, ToolName, Version};

/// Who runs, or would.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub tenant: &'a Name,
    pub job: Option<&'a Name>,
    pub agent: Option<(&'a Name, &'a Version)>,
    /// Of the guest itself: of the tool, where a tool runs.
    pub component: Digest,
    /// Who started the step: `unix:<uid>` or `loopback`.
    pub caller: &'a str,
    /// `steps/<id>`.
    pub step: &'a str,
}

/// What a call is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Target<'a> {
    pub tool: Option<(&'a ToolName, &'a Version)>,
    /// Of the tool.
    pub component: Option<Digest>,
    /// The egress rule that admits the request.
    pub rule: Option<&'a Name>,
    /// As the URL names it, in its normal form.
    pub host: Option<&'a str>,
    /// What the request will carry.
    pub credential: Option<&'a Name>,
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Free,
    /// It is not made.
    Blocked(Arc<Hold>),
    /// It waits until the hold is lifted, or ends.
    Frozen(Arc<Hold>),
    /// It is one of at most so many in a minute.
    Throttled(Arc<Hold>, u32),
}

/// Returns the strictest hold that keeps `subject` from beginning.
pub(super) fn step(holds: &[Arc<Hold>], subject: &Subject, now_ms: u64) -> Option<Arc<Hold>> {
    let against = holds.iter().filter(|hold| hold.in_force(now_ms) && subject.is_in(&hold.scope));
    let severity = |hold: &&Arc<Hold>| match hold.action {
        Action::Kill => Some(0),
        Action::Quarantine => Some(1),
        Action::Freeze => Some(2),
        Action::Cordon | Action::Drain => Some(3),
        Action::ReadOnly | Action::Throttle { .. } => None,
    };
    against.filter(|hold| severity(hold).is_some()).min_by_key(severity).cloned()
}

/// Returns what becomes of a call of `subject` about `target`: by the strictest hold of all.
pub(super) fn call(holds: &[Arc<Hold>], subject: &Subject, target: &Target, reads: bool, now_ms: u64) -> Standing {
    let (mut blocked, mut frozen, mut throttled) = (None, None, None);
    for hold in holds.iter().filter(|hold| hold.in_force(now_ms)) {
        let of_target = target.is_in(&hold.scope);
        if !of_target && !subject.is_in(&hold.scope) {
            continue;
        }
        match hold.action {
            Action::Kill => return Standing::Blocked(hold.clone()),
            Action::Quarantine => blocked = Some(hold),
            Action::ReadOnly if !reads => blocked = blocked.or(Some(hold)),
            // What a call is about is begun with the call; who makes it has begun already.
            Action::Cordon | Action::Drain if of_target => blocked = blocked.or(Some(hold)),
            Action::Freeze => frozen = frozen.or(Some(hold)),
            Action::Throttle { per_minute } if throttled.is_none_or(|(_, least)| per_minute < least) => {
                throttled = Some((hold, per_minute));
            }
            Action::ReadOnly | Action::Cordon | Action::Drain | Action::Throttle { .. } => {}
        }
    }
    match (blocked, frozen, throttled) {
        (Some(hold), _, _) => Standing::Blocked(hold.clone()),
        (None, Some(hold), _) => Standing::Frozen(hold.clone()),
        (None, None, Some((hold, per_minute))) => Standing::Throttled(hold.clone(), per_minute),
        (None, None, None) => Standing::Free,
    }
}

impl Subject<'_> {
    /// Returns whether a scope covers it.
    pub fn is_in(&self, scope: &Scope) -> bool {
        let of_tenant = |tenant: &Option<Name>| tenant.as_ref().is_none_or(|tenant| tenant == self.tenant);
        match scope {
            Scope::Node => true,
            Scope::Tenant(tenant) => tenant == self.tenant,
            Scope::Caller(caller) => caller == self.caller,
            Scope::Agent { tenant, name, version } => {
                let is = |(own, of): (&Name, &Version)| own == name && version.as_ref().is_none_or(|v| v == of);
                of_tenant(tenant) && self.agent.is_some_and(is)
            }
            Scope::Job { tenant, job } => of_tenant(tenant) && self.job == Some(job),
            Scope::Step(step) => step == self.step,
            Scope::Component(digest) => *digest == self.component,
            Scope::Tool { .. } | Scope::Credential(_) | Scope::Rule(_) | Scope::Host(_) => false,
        }
    }
}

impl Target<'_> {
    /// Returns whether a scope covers it.
    pub fn is_in(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Tool { name, version } => {
                let is = |(own, of): (&ToolName, &Version)| own == name && version.as_ref().is_none_or(|v| v == of);
                self.tool.is_some_and(is)
            }
            Scope::Component(digest) => self.component == Some(*digest),
            Scope::Rule(rule) => self.rule == Some(rule),
            Scope::Credential(credential) => self.credential == Some(credential),
            Scope::Host(held) => self.host.is_some_and(|host| host_is_in(host, held)),
            Scope::Node
            | Scope::Tenant(_)
            | Scope::Caller(_)
            | Scope::Agent { .. }
            | Scope::Job { .. }
            | Scope::Step(_) => false,
        }
    }
}

fn host_is_in(host: &str, held: &str) -> bool {
    match held.strip_prefix("*.") {
        Some(parent) => host.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => host == held,
    }
}
