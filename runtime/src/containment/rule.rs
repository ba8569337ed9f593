//! A containment rule, as the configuration has it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{control::Action, step::Name};

/// Names of agents in one rule.
const AGENTS_MAX: usize = 256;

/// The longest time that a rule looks back: a day.
const WITHIN_SECONDS_MAX: u64 = 86_400;

/// The highest number of denials or calls.
const COUNT_MAX: u64 = 10_000;

/// The lowest number of the same call: with fewer, many different calls would soon look like it.
const SAME_CALL_MIN: u64 = 10;

/// The highest number of bytes: 1 PiB.
pub const BYTES_MAX: u64 = 1 << 50;

/// How long a hold lasts if the rule does not say, and at most: an hour, 31 days.
const FOR_SECONDS: u64 = 3_600;
const FOR_SECONDS_MAX: u64 = 31 * 86_400;

/// Calls in a minute to which an agent can be throttled.
const PER_MINUTE_MAX: u32 = 60_000;

/// When an agent is held, and how. Each tenant's use of an agent is watched by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct Rule {
    pub name: Name,
    /// None: all of them.
    pub agents: Option<BTreeSet<Name>>,
    pub trigger: Trigger,
    /// How far back it looks.
    pub within_ms: u64,
    /// Throttle, read-only or quarantine.
    pub action: Action,
    /// How long it holds. None: until an operator lifts it.
    pub for_ms: Option<u64>,
}

/// What makes a rule hold an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// So many denials.
    Denials(u64),
    /// A label joins a job, and then something is sent.
    LabelThenEgress(Name),
    /// So many bytes that were sent.
    BytesOut(u64),
    /// So many calls that ask the same.
    SameCall(u64),
}

/// A containment rule that says nothing sensible.
#[derive(Debug, thiserror::Error)]
#[error("containment rule `{rule}`: {problem}")]
pub struct BadRule {
    rule: Name,
    problem: String,
}

/// A rule as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: Name,
    agents: Vec<String>,
    when: When,
    then: Then,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_minute: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    for_seconds: Option<u64>,
    #[serde(default)]
    until_lifted: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct When {
    #[serde(skip_serializing_if = "Option::is_none")]
    denials: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    then: Option<Next>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_out: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    same_call: Option<u64>,
    within_seconds: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Next {
    Egress,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Then {
    Throttle,
    ReadOnly,
    Quarantine,
}

impl Rule {
    /// Returns whether it watches an agent.
    pub fn watches(&self, agent: &Name) -> bool {
        self.agents.as_ref().is_none_or(|agents| agents.contains(agent))
    }
}

impl TryFrom<Table> for Rule {
    type Error = BadRule;

    fn try_from(table: Table) -> Result<Self, BadRule> {
        let rule = table.name.clone();
        read(table).map_err(|problem| BadRule { rule, problem })
    }
}

fn read(table: Table) -> Result<Rule, String> {
    let Table { name, agents, when, then, per_minute, for_seconds, until_lifted } = table;
    let within_seconds = within("when.within_seconds", when.within_seconds, 1, WITHIN_SECONDS_MAX)?;
    let action = match (then, per_minute) {
        (Then::Throttle, Some(rate)) => {
            within("per_minute", rate.into(), 1, PER_MINUTE_MAX.into())?;
            Action::Throttle { per_minute: rate }
        }
        (Then::Throttle, None) => return Err("`then = \"throttle\"` needs `per_minute`".into()),
        (_, Some(_)) => return Err("`per_minute` is for `then = \"throttle\"`".into()),
        (Then::ReadOnly, None) => Action::ReadOnly,
        (Then::Quarantine, None) => Action::Quarantine,
    };
    let for_ms = match (until_lifted, for_seconds) {
        (true, Some(_)) => return Err("name `for_seconds` or `until_lifted`, not both".into()),
        (true, None) if action == Action::Quarantine => None,
        (true, None) => return Err("only `then = \"quarantine\"` can hold `until_lifted`: name `for_seconds`".into()),
        (false, asked) => Some(1_000 * within("for_seconds", asked.unwrap_or(FOR_SECONDS), 1, FOR_SECONDS_MAX)?),
    };
    let (trigger, agents) = (trigger(when)?, named(&agents)?);
    Ok(Rule { name, agents, trigger, within_ms: 1_000 * within_seconds, action, for_ms })
}

fn trigger(when: When) -> Result<Trigger, String> {
    match when {
        When { denials: Some(count), label: None, then: None, bytes_out: None, same_call: None, .. } => {
            Ok(Trigger::Denials(within("when.denials", count, 1, COUNT_MAX)?))
        }
        When {
            label: Some(label), then: Some(Next::Egress), denials: None, bytes_out: None, same_call: None, ..
        } => Ok(Trigger::LabelThenEgress(label)),
        When { bytes_out: Some(bytes), denials: None, label: None, then: None, same_call: None, .. } => {
            Ok(Trigger::BytesOut(within("when.bytes_out", bytes, 1, BYTES_MAX)?))
        }
        When { same_call: Some(count), denials: None, label: None, then: None, bytes_out: None, .. } => {
            Ok(Trigger::SameCall(within("when.same_call", count, SAME_CALL_MIN, COUNT_MAX)?))
        }
        _ => {
            Err("`when` must be one of `denials`, `bytes_out`, `same_call`, or `label` with `then = \"egress\"`".into())
        }
    }
}

fn named(agents: &[String]) -> Result<Option<BTreeSet<Name>>, String> {
    match agents {
        [all] if all == "*" => Ok(None),
        [] => Err("`agents` is empty: name agents, or `*` for all of them".into()),
        _ if agents.len() > AGENTS_MAX => {
            Err(format!("`agents` names {}; at most {AGENTS_MAX} are allowed", agents.len()))
        }
        _ => {
            let names: Result<_, _> = agents.iter().map(|agent| agent.parse::<Name>()).collect();
            names.map(Some).map_err(|error| format!("`agents`: {error}; or `*` alone, for all of them"))
        }
    }
}

fn within(key: &str, asked: u64, min: u64, max: u64) -> Result<u64, String> {
    if (min..=max).contains(&asked) {
        return Ok(asked);
    }
    Err(format!("`{key}` is {asked}: it must be at least {min} and at most {max}"))
}

impl From<Rule> for Table {
    fn from(rule: Rule) -> Self {
        let Rule { name, agents, trigger, within_ms, action, for_ms } = rule;
        let mut when = When { within_seconds: within_ms / 1_000, ..When::default() };
        match trigger {
            Trigger::Denials(count) => when.denials = Some(count),
            Trigger::LabelThenEgress(label) => (when.label, when.then) = (Some(label), Some(Next::Egress)),
            Trigger::BytesOut(bytes) => when.bytes_out = Some(bytes),
            Trigger::SameCall(count) => when.same_call = Some(count),
        }
        let (then, per_minute) = match action {
            Action::Throttle { per_minute } => (Then::Throttle, Some(per_minute)),
            Action::ReadOnly => (Then::ReadOnly, None),
            // What operators impose is in no rule.
            Action::Quarantine | Action::Kill | Action::Freeze | Action::Cordon | Action::Drain => {
                (Then::Quarantine, None)
            }
        };
        let agents = agents.map_or_else(|| vec!["*".into()], |names| names.iter().map(ToString::to_string).collect());
        let for_seconds = for_ms.map(|for_ms| for_ms / 1_000);
        Self { name, agents, when, then, per_minute, for_seconds, until_lifted: for_ms.is_none() }
    }
}
