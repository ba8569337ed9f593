//! Reads records in their order, and tells which calls happened and inside what.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::{
    call::{Call, Said, What},
    evidence::counted,
    seen::Seen,
    warnings::{self, Warnings},
};
use crate::{budget::Amounts, journal::Record, step::ToolName};

/// Learns from the records of one agent.
pub struct Learner {
    /// The agent's name.
    agent: String,
    /// `name@version`, if only steps of this version count.
    version: Option<String>,
    open: HashMap<String, Step>,
    /// Steps that were learned from, and their records: how many, the first and the last.
    steps: u32,
    records: (u64, u64, u64),
    pub(super) seen: Seen,
    pub(super) warnings: Warnings,
    /// Records of steps whose beginning is not among the records.
    headless: u64,
    /// Steps that were not started.
    refused: u32,
}

/// A step of which the end was not read yet.
#[derive(Default)]
struct Step {
    /// `None`: it does not count.
    number: Option<u32>,
    /// Tools that run, those inside others last.
    tools: Vec<Tool>,
    /// Calls of which the outcome was not read yet.
    calls: BTreeMap<u64, Call>,
}

struct Tool {
    call: u64,
    /// It, and the tools around it before.
    inside: Vec<ToolName>,
    orphaned: bool,
}

impl Learner {
    /// Learns about the agent of this name; with `version`, only from steps of this one.
    pub fn new(agent: &str, version: Option<&str>) -> Self {
        Self {
            agent: agent.to_owned(),
            version: version.map(|version| format!("{agent}@{version}")),
            open: HashMap::new(),
            steps: 0,
            records: (0, 0, 0),
            seen: Seen::default(),
            warnings: Warnings::default(),
            headless: 0,
            refused: 0,
        }
    }

    /// Takes the next record, of any kind.
    pub fn take(&mut self, record: &Record) {
        let Some(step) = &record.step else { return };
        let counts = |this: &Self| this.open.get(step).is_some_and(|known| known.number.is_some());
        let before = counts(self);
        self.take_of(step, record);
        if before || counts(self) {
            let (records, first, _) = self.records;
            self.records = (records + 1, if records == 0 { record.sequence } else { first }, record.sequence);
        }
    }

    fn take_of(&mut self, step: &str, record: &Record) {
        match record.kind.as_str() {
            "step" => self.began(step, record),
            "intent" => self.intended(step, record),
            "outcome" => self.ended_call(step, record),
            "denial" => self.denied(step, record),
            "result" => self.ended(step, record),
            _ => {}
        }
    }

    /// Returns how many steps were learned from.
    pub fn steps(&self) -> u64 {
        self.steps.into()
    }

    /// Says how much was learned from, for people.
    pub(super) fn made_of(&self) -> String {
        let (records, first, last) = self.records;
        let (records, steps) = (counted(records, "record"), counted(self.steps.into(), "step"));
        format!("{records} of {steps}, {first} to {last}")
    }

    /// Takes what is still open for what happened: it was intended, and nothing says that it was not done.
    pub(super) fn finish(&mut self) {
        let calls = std::mem::take(&mut self.open).into_values().flat_map(|step| step.calls.into_values());
        let mut calls: Vec<Call> = calls.collect();
        calls.sort_by_key(|call| call.sequence);
        calls.iter().for_each(|call| self.happened(call));
        if self.headless > 0 {
            let text =
                format!("{} records are of steps that began before the first record that was read", self.headless);
            self.warnings.note(text);
        }
    }

    fn began(&mut self, step: &str, record: &Record) {
        let reference = word(&record.body, "agent");
        let counts = self.version.as_ref().is_none_or(|version| version == reference);
        let number = self.steps;
        let mut known = Step { number: counts.then_some(number), ..Step::default() };
        if counts {
            self.steps += 1;
            let said = Said::of(record.body.get("decision").unwrap_or(&Value::Null));
            if said.is_final() {
                known.number = None;
                let text = forbidden(&said, &format!("running {reference}, and all that this step did"));
                self.warnings.add(text, record.sequence, number);
            } else {
                self.seen.run(&self.agent, word(&record.body, "caller"), &said, (record.sequence, number));
            }
        }
        self.open.insert(step.to_owned(), known);
    }

    fn intended(&mut self, step: &str, record: &Record) {
        let Some(known) = self.open.get_mut(step) else {
            self.headless += 1;
            return;
        };
        let (Some(number), Some(call)) = (known.number, record.call) else { return };
        let (body, via) = (&record.body, word(&record.body, "via"));
        let around = known.tools.iter().rev().find(|tool| tool.inside.last().is_some_and(|last| last.as_str() == via));
        let (mut inside, mut orphaned) = match (via, around) {
            ("", _) => (Vec::new(), false),
            (_, Some(tool)) => (tool.inside.clone(), tool.orphaned),
            (via, None) => (via.parse().into_iter().collect(), false),
        };
        let Some(what) = What::of(body) else {
            // Listing tools needs no grant of its own.
            if word(body, "verb") != "list" || word(body, "power") != "tools" {
                let text = format!("{}: its record cannot be read by this version", word(body, "question"));
                self.warnings.add(text, record.sequence, number);
            }
            return;
        };
        let said = Said::of(body.get("decision").unwrap_or(&Value::Null));
        let (sequence, around) = (record.sequence, inside.clone());
        let intended = Call { sequence, step: number, inside: around, orphaned, unauthorized: false, what, said };
        if let What::Tool { name, .. } = &intended.what {
            orphaned |= intended.said.is_final();
            inside.push(name.clone());
            known.tools.push(Tool { call, inside, orphaned });
        }
        if intended.said.is_final() {
            let text = forbidden(&intended.said, word(body, "question"));
            self.warnings.add(text, record.sequence, number);
            return;
        }
        known.calls.insert(call, intended);
    }

    fn ended_call(&mut self, step: &str, record: &Record) {
        let (Some(known), Some(call)) = (self.open.get_mut(step), record.call) else { return };
        known.tools.retain(|tool| tool.call != call);
        let Some(mut ended) = known.calls.remove(&call) else { return };
        let status = record.body.get("http").and_then(|http| http["answered"]["status"].as_u64());
        ended.unauthorized = matches!(status, Some(401 | 403));
        let error = record.body.get("error").unwrap_or(&Value::Null);
        if error["class"] == "denied" {
            let mut about = record.body.clone();
            about.insert("question".into(), describe(&ended.what).into());
            if let Some(text) = warnings::refused(&about, error) {
                self.warnings.add(text, record.sequence, ended.step);
            }
            return;
        }
        if word(&record.body, "status") != "not-done" {
            self.happened(&ended);
        }
    }

    fn denied(&mut self, step: &str, record: &Record) {
        let number = match (self.open.get(step), record.call) {
            (Some(known), _) => known.number,
            // The start of a step, which has no other record.
            (None, Some(0)) => {
                self.refused += 1;
                Some(u32::MAX - self.refused)
            }
            (None, _) => {
                self.headless += 1;
                None
            }
        };
        let Some(number) = number else { return };
        let body = &record.body;
        let text = match (body.get("error"), body.get("decision")) {
            (Some(error), _) => warnings::refused(body, error),
            (None, Some(Value::Object(decision))) => {
                let (mut about, mut error) = (body.clone(), decision.clone());
                about.insert("question".into(), error.remove("question").unwrap_or_default());
                error.insert("class".into(), "denied".into());
                warnings::refused(&about, &error.into())
            }
            (None, _) => None,
        };
        if let Some(text) = text {
            self.warnings.add(text, record.sequence, number);
        }
    }

    fn ended(&mut self, step: &str, record: &Record) {
        let Some(known) = self.open.remove(step) else { return };
        known.calls.values().for_each(|call| self.happened(call));
        let spent = record.body.get("spent").cloned().map(serde_json::from_value::<Amounts>);
        if let (Some(_), Some(Ok(spent))) = (known.number, spent) {
            self.seen.spent(spent);
        }
    }

    fn happened(&mut self, call: &Call) {
        if call.orphaned {
            let text = format!("{} happened inside a tool that is not in this draft", describe(&call.what));
            return self.warnings.add(text, call.sequence, call.step);
        }
        self.seen.add(&self.agent, call);
    }
}

/// Says that no permit can allow what happened.
fn forbidden(said: &Said, question: &str) -> String {
    match said {
        Said::Forbidden { by } => {
            format!(
                "POLICY_FORBIDS: {question} happened, and the policy `{}` forbids it: no permit can allow it",
                by.join("`, `")
            )
        }
        _ => format!("POLICY_ERROR: {question} happened, and a policy failed on it: mend that policy"),
    }
}

fn describe(what: &What) -> String {
    match what {
        What::Tool { name, .. } => format!("calling tool `{name}`"),
        What::Memory { space, .. } => format!("using memory space `{space}`"),
        What::Request(request) => {
            format!("{} {}{} by the egress rule `{}`", request.method, request.host, request.path, request.rule)
        }
    }
}

fn word<'a>(body: &'a Map<String, Value>, key: &str) -> &'a str {
    body.get(key).and_then(Value::as_str).unwrap_or_default()
}
