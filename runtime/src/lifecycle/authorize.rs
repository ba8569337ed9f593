//! Asks the tenant's policy about one call, and says why not.

use std::fmt::Display;

use serde_json::{Value, json};

use super::{
    act::{Act, Verb},
    execution::Execution,
    tools,
};
use crate::{
    config::Mode,
    policy::{self, Explanation, MemoryVerb, PolicySet, Question, RequestFacts, Surroundings},
    step::Denial,
    telemetry,
};

/// What was decided about a call.
pub struct Verdict {
    /// `None`: there is nothing to ask, because the answer holds only what policy allows.
    pub decision: Option<policy::Decision>,
    /// Why policy says no.
    pub denied: Option<Denial>,
    /// Whether a no is a no.
    pub enforced: bool,
    /// The smallest policy that would allow it.
    addition: Option<String>,
}

/// Asks.
pub fn authorize(execution: &Execution, act: &Act, question: &str, name: &str) -> Verdict {
    let Some(agent) = execution.agent_facts() else { return nothing(execution) };
    let asked = match act {
        Act::ListTools => return nothing(execution),
        Act::CallTool { tool, arguments, .. } => {
            Question::CallTool { agent: &agent, tool: &tool.facts, arguments: arguments.value() }
        }
        Act::Memory { space, key, verb, .. } => {
            Question::Memory { agent: &agent, verb: memory_verb(verb), space: space.as_str(), key }
        }
        Act::SendRequest(sending) => Question::SendRequest { agent: &agent, request: &sending.facts },
    };
    let verdict = decide(execution, &asked, question, name, |set, now| alternative(execution, act, set, now));
    // What no grant has is denied before policy is asked, where it is enforced.
    match act {
        Act::SendRequest(sending) => Verdict { denied: sending.lacking.clone().or(verdict.denied), ..verdict },
        Act::Memory { lacking, .. } => Verdict { denied: lacking.clone().or(verdict.denied), ..verdict },
        _ => verdict,
    }
}

/// Asks about a request that is under way already.
pub fn request(execution: &Execution, request: &RequestFacts, question: &str, name: &str) -> Verdict {
    let Some(agent) = execution.agent_facts() else { return nothing(execution) };
    decide(execution, &Question::SendRequest { agent: &agent, request }, question, name, |_, _| None)
}

/// There is nothing to ask.
fn nothing(execution: &Execution) -> Verdict {
    Verdict { decision: None, denied: None, enforced: enforced(execution), addition: None }
}

fn enforced(execution: &Execution) -> bool {
    execution.lifecycle.config().policy.mode == Mode::Enforce
}

fn decide(
    execution: &Execution,
    asked: &Question<'_>,
    words: &str,
    name: &str,
    alternative: impl FnOnce(&PolicySet, &Surroundings) -> Option<String>,
) -> Verdict {
    let set = execution.lifecycle.policies();
    let surroundings = execution.surroundings();
    let decision = set.decide(asked, &surroundings);
    let explanation = set.explain(asked, &surroundings, &decision, &execution.lifecycle.config().journal.redact);
    let addition = explanation.as_ref().map(|explanation| explanation.addition.clone());
    let denied = explanation.map(|explanation| denial(words, explanation, alternative(&set, &surroundings), name));
    Verdict { decision: Some(decision), denied, enforced: enforced(execution), addition }
}

/// Says a denial in words and as data.
pub fn denial(question: &str, explanation: Explanation, alternative: Option<String>, decision: &str) -> Denial {
    let Explanation { code, rule, missing, .. } = explanation;
    let why = match (&code, &rule) {
        (policy::Code::Forbids, Some(rule)) => format!("policy `{rule}` forbids it"),
        (policy::Code::Error, Some(rule)) => format!("policy `{rule}` could not be evaluated"),
        (_, Some(rule)) => format!("no policy permits it; the nearest, `{rule}`, needs what does not hold"),
        (_, None) => "no policy permits it".into(),
    };
    let missing_words = if missing.is_empty() { String::new() } else { format!(": {}", missing.join("; ")) };
    let other = alternative.as_ref().map(|other| format!("; {other}")).unwrap_or_default();
    Denial {
        code: code.as_str().into(),
        message: format!("{question} is denied: {why}{missing_words}{other}; do not retry"),
        rule,
        missing,
        alternative,
        decision: decision.into(),
    }
}

/// Returns the nearest thing that is allowed.
fn alternative(execution: &Execution, act: &Act, set: &PolicySet, surroundings: &Surroundings) -> Option<String> {
    match act {
        Act::ListTools => None,
        Act::CallTool { tool, .. } => tools::nearest(execution, tool.tool.name.as_str()),
        Act::Memory { verb: Verb::Put { .. } | Verb::Delete { .. }, space, key, .. } => {
            let agent = execution.agent_facts()?;
            let reading = Question::Memory { agent: &agent, verb: MemoryVerb::Read, space: space.as_str(), key };
            let allowed = set.decide(&reading, surroundings).allowed;
            allowed.then(|| format!("reading memory space `{space}` is allowed"))
        }
        Act::Memory { .. } | Act::SendRequest(_) => None,
    }
}

fn memory_verb(verb: &Verb) -> MemoryVerb {
    match verb {
        Verb::Get | Verb::List { .. } => MemoryVerb::Read,
        Verb::Put { .. } => MemoryVerb::Write,
        Verb::Delete { .. } => MemoryVerb::Delete,
    }
}

impl Verdict {
    /// Returns the word that is recorded.
    pub fn word(&self) -> &'static str {
        match (&self.denied, self.enforced) {
            (None, _) => "allow",
            (Some(_), true) => "deny",
            (Some(_), false) => "would-deny",
        }
    }

    /// Returns what is recorded.
    pub fn record(&self) -> Value {
        let mut record = json!({ "verdict": self.word() });
        if let Some(decision) = &self.decision {
            record["policies"] = json!(decision.policies);
            record["revision"] = json!(&*decision.revision);
            if !decision.errors.is_empty() {
                record["errors"] = json!(decision.errors);
            }
        }
        if let Some(denial) = &self.denied {
            record["code"] = json!(denial.code);
            record["message"] = json!(denial.message);
            record["rule"] = json!(denial.rule);
            record["missing"] = json!(denial.missing);
            record["alternative"] = json!(denial.alternative);
            record["addition"] = json!(self.addition);
        }
        record
    }

    /// Returns what a span shows.
    pub fn telemetry(&self) -> telemetry::Verdict<'_, String> {
        let decision = match self.word() {
            "allow" => telemetry::Decision::Allow,
            "deny" => telemetry::Decision::Deny,
            _ => telemetry::Decision::WouldDeny,
        };
        let policies = self.decision.as_ref().map(|decision| decision.policies.as_slice()).unwrap_or_default();
        let revision: &dyn Display = match &self.decision {
            Some(decision) => &decision.revision,
            None => &"",
        };
        telemetry::Verdict { decision, policies, revision }
    }
}
