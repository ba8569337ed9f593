//! What is in no draft, and why: for whoever reviews it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::evidence::{Evidence, comment};

/// Different warnings that are kept.
const WARNINGS_MAX: usize = 50;

/// Warnings, each with its records.
#[derive(Default)]
pub struct Warnings {
    known: BTreeMap<String, Evidence>,
    /// Of warnings that were not kept.
    more: u64,
}

impl Warnings {
    /// Adds a warning, or a record to one that there is.
    pub fn add(&mut self, text: String, sequence: u64, step: u32) {
        if let Some(evidence) = self.known.get_mut(&text) {
            return evidence.add(sequence, step);
        }
        if self.known.len() >= WARNINGS_MAX {
            self.more += 1;
            return;
        }
        self.known.entry(text).or_default().add(sequence, step);
    }

    /// Adds what is of no record.
    pub fn note(&mut self, text: String) {
        self.known.entry(text).or_default();
    }

    /// Returns each on a line.
    pub fn lines(&self) -> Vec<String> {
        let known = self.known.iter().map(|(text, evidence)| match evidence.records() {
            0 => comment(text),
            _ => format!("{} ({})", comment(text), evidence.words()),
        });
        let more = (self.more > 0).then(|| format!("{} records of other kinds were left out, too", self.more));
        known.chain(more).collect()
    }
}

/// Says why a call that was refused is in no draft. `None`: it was wrong or too early, which no draft can mend.
pub fn refused(body: &Map<String, Value>, error: &Value) -> Option<String> {
    let word = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let power = body.get("power").and_then(Value::as_str).unwrap_or_default();
    let question = body.get("question").and_then(Value::as_str).unwrap_or(power);
    let code = word(error, "code");
    if error["class"] == "exhausted" {
        return Some(format!("BUDGET_EXHAUSTED: {question} was refused for want of budget"));
    }
    if error["class"] != "denied" {
        return None;
    }
    let why = match (code.as_str(), power) {
        ("NOT_IN_MANIFEST", "tools") => {
            "a tool outside of the manifest stays denied, also while a daemon observes: add it by hand if it is meant"
                .into()
        }
        ("NOT_IN_MANIFEST", "http") => {
            "no egress rule that it has admits it; if the daemon observed, the tenant has none either".into()
        }
        ("ABOVE_CEILING", _) => "the operator allows it to nobody".into(),
        ("POLICY_FORBIDS", _) => format!("the policy `{}` forbids it, whatever is permitted", word(error, "rule")),
        _ => match word(error, "rule").as_str() {
            "" => "it was denied".into(),
            rule => format!("it was denied by `{rule}`"),
        },
    };
    Some(format!("{code}: {question}: {why}"))
}
