//! What happened, gathered by what grants it: tools, memory spaces and egress rules for the manifest, actions and resources
//! for the policies.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    call::{Call, Request, Said, What},
    evidence::Evidence,
    paths::Paths,
};
use crate::{
    budget::Amounts,
    policy::{self, Condition, MemoryVerb},
    step::{Name, ToolName, Version},
};

/// Different conditions of one action on one resource that are kept.
const ALTERNATIVES_MAX: usize = 128;

/// Texts of a context that a request's own conditions hold already.
const OWN: [&str; 5] = ["method", "path", "rule", "scheme", "port"];

/// Everything that goes into a draft.
#[derive(Default)]
pub struct Seen {
    pub tools: BTreeMap<ToolName, ToolUse>,
    pub spaces: BTreeMap<Name, SpaceUse>,
    pub rules: BTreeMap<Name, RuleUse>,
    pub actions: BTreeMap<Action, Judged>,
    /// The most that one step spent, in each dimension.
    pub spent: Amounts,
}

/// A tool that was called, and what was used inside it.
#[derive(Default)]
pub struct ToolUse {
    pub evidence: Evidence,
    /// The one that was called last.
    pub version: Option<Version>,
    pub tools: BTreeSet<ToolName>,
    pub spaces: BTreeSet<Name>,
    pub rules: BTreeSet<Name>,
}

/// A memory space that was used.
#[derive(Default)]
pub struct SpaceUse {
    pub evidence: Evidence,
    pub written: bool,
    /// Not only inside tools.
    pub direct: bool,
}

/// An egress rule by which requests were sent.
#[derive(Default)]
pub struct RuleUse {
    pub evidence: Evidence,
    pub hosts: BTreeSet<String>,
    pub methods: BTreeSet<String>,
    pub paths: Paths,
    pub credential: Option<Name>,
    /// Requests that were answered 401 or 403.
    pub unauthorized: u64,
    pub direct: bool,
}

/// What a policy's scope names: principal, action and resource, each entity by type and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Action {
    pub principal: (&'static str, String),
    pub action: String,
    pub resource: (&'static str, String),
}

/// What policies said of an action on a resource.
#[derive(Default)]
pub struct Judged {
    /// By what is in force.
    pub permitted: Evidence,
    pub by: BTreeSet<String>,
    /// By nobody.
    pub unpermitted: Evidence,
    /// By what must hold, written as JSON.
    pub alternatives: BTreeMap<String, Alternative>,
    /// The tools inside which it was asked; empty for the step itself.
    pub vias: BTreeSet<String>,
    /// What cannot be said as a condition, or was too much.
    pub unsaid: Evidence,
}

/// What must hold, and what was asked while it held.
#[derive(Default)]
pub struct Alternative {
    pub conditions: Vec<Condition>,
    /// By rule and method.
    pub requests: BTreeMap<(String, String), Paths>,
}

impl Seen {
    /// Adds a call that happened.
    pub fn add(&mut self, agent: &str, call: &Call) {
        let (sequence, step) = (call.sequence, call.step);
        let direct = call.inside.is_empty();
        match &call.what {
            What::Tool { name, version } => {
                let tool = self.tools.entry(name.clone()).or_default();
                tool.evidence.add(sequence, step);
                tool.version = Some(version.clone());
                self.inside(call, |around| {
                    around.tools.insert(name.clone());
                });
            }
            What::Memory { space, verb } => {
                let used = self.spaces.entry(space.clone()).or_default();
                used.evidence.add(sequence, step);
                used.written |= *verb != MemoryVerb::Read;
                used.direct |= direct;
                self.inside(call, |around| {
                    around.spaces.insert(space.clone());
                });
            }
            What::Request(Request { rule, host, method, path, credential }) => {
                let used = self.rules.entry(rule.clone()).or_default();
                used.evidence.add(sequence, step);
                used.hosts.insert(host.clone());
                used.methods.insert(method.clone());
                used.paths.add(path);
                used.credential = credential.clone().or(used.credential.take());
                used.unauthorized += u64::from(call.unauthorized);
                used.direct |= direct;
                self.inside(call, |around| {
                    around.rules.insert(rule.clone());
                });
            }
        }
        let (action, resource) = call.what.judged();
        let via = call.inside.last().map(ToString::to_string).unwrap_or_default();
        let request = if let What::Request(request) = &call.what { Some(request) } else { None };
        let action = Action { principal: ("Agent", agent.to_owned()), action, resource };
        self.judge(action, &call.said, via, request, (sequence, step));
    }

    /// Adds a step that was started.
    pub fn run(&mut self, agent: &str, caller: &str, said: &Said, at: (u64, u32)) {
        let action = Action {
            principal: ("Caller", caller.to_owned()),
            action: "RunStep".into(),
            resource: ("Agent", agent.to_owned()),
        };
        self.judge(action, said, String::new(), None, at);
    }

    /// Adds what a step spent.
    pub fn spent(&mut self, spent: Amounts) {
        // The larger in each dimension.
        let beyond = spent.saturating_sub(self.spent);
        self.spent = self.spent.saturating_add(beyond);
    }

    fn inside(&mut self, call: &Call, grant: impl Fn(&mut ToolUse)) {
        // What a tool gets, the tools around it must have.
        for around in &call.inside {
            grant(self.tools.entry(around.clone()).or_default());
        }
    }

    fn judge(&mut self, action: Action, said: &Said, via: String, request: Option<&Request>, at: (u64, u32)) {
        let judged = self.actions.entry(action).or_default();
        let (sequence, step) = at;
        let addition = match said {
            Said::Permitted { by } => {
                judged.permitted.add(sequence, step);
                judged.by.extend(by.iter().cloned());
                return;
            }
            Said::Unpermitted { addition } => addition,
            Said::Forbidden { .. } | Said::Failed => return,
        };
        let conditions = policy::conditions(addition).map(|conditions| {
            let own =
                |condition: &Condition| request.is_some() && OWN.iter().any(|attribute| condition.sees(attribute));
            conditions.into_iter().filter(|condition| !own(condition)).collect::<Vec<_>>()
        });
        let Some(conditions) = conditions else { return judged.unsaid.add(sequence, step) };
        let key = format!("{conditions:?}");
        if judged.alternatives.len() >= ALTERNATIVES_MAX && !judged.alternatives.contains_key(&key) {
            return judged.unsaid.add(sequence, step);
        }
        judged.unpermitted.add(sequence, step);
        judged.vias.insert(via);
        let alternative = judged.alternatives.entry(key).or_default();
        alternative.conditions = conditions;
        if let Some(Request { rule, method, path, .. }) = request {
            alternative.requests.entry((rule.to_string(), method.clone())).or_default().add(path);
        }
    }
}
