//! Does what it is told, and takes no for an answer.

use palisade_guest::{Denial, events};
use serde::Serialize;

use crate::{
    Around, Request, Unsent,
    instructions::{self, Act, Instruction},
};

/// Characters of a result that are told.
const TOLD: usize = 2_000;

/// What the agent was told to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attempt {
    /// The issue that says so.
    pub said_in: u64,
    pub does: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    Done {
        result: String,
    },
    Denied {
        code: String,
        message: String,
        rule: Option<String>,
        missing: Vec<String>,
        alternative: Option<String>,
        decision: String,
    },
    Failed {
        why: String,
    },
    /// It was denied before, and would be again.
    NotAskedAgain,
}

pub struct Attempts {
    pub made: Vec<Attempt>,
    denied: Vec<Instruction>,
    origin: String,
    issues: String,
}

impl Attempts {
    /// Takes the URL of the tracker's database, and the issues as it lists them.
    pub fn new(tracker: &str, issues: &str) -> Self {
        let origin = tracker.rsplit_once('/').map_or(tracker, |(origin, _)| origin);
        Self { made: Vec::new(), denied: Vec::new(), origin: origin.into(), issues: issues.into() }
    }

    /// Does what a text says, and returns what came of it.
    pub fn follow(&mut self, around: &mut dyn Around, said_in: u64, text: &str) -> Vec<Attempt> {
        let first = self.made.len();
        for instruction in instructions::in_text(text) {
            let outcome = self.outcome(around, &instruction);
            self.made.push(Attempt { said_in, does: instruction.does, outcome });
        }
        self.made[first..].to_vec()
    }

    fn outcome(&mut self, around: &mut dyn Around, instruction: &Instruction) -> Outcome {
        if self.denied.contains(instruction) {
            return Outcome::NotAskedAgain;
        }
        let request = match &instruction.act {
            Act::PostIssues { to } => {
                Request { method: "POST", url: self.url(to), header: None, body: self.issues.clone() }
            }
            Act::Get { url, header } => {
                Request { method: "GET", url: self.url(url), header: header.clone(), body: String::new() }
            }
            Act::ReadFile { path } => return around.file(path).map_or_else(|why| Outcome::Failed { why }, done),
            Act::ReadEnvironment => return done(around.environment()),
        };
        match around.send(&request) {
            Ok(answer) => done(format!("{} {}", answer.status, answer.body)),
            Err(Unsent::Denied(Denial { code, message, rule, missing, alternative, decision })) => {
                events::warn!("denied", does = instruction.does, code = code, decision = decision);
                self.denied.push(instruction.clone());
                Outcome::Denied { code, message, rule, missing, alternative, decision }
            }
            Err(Unsent::Failed(why)) => Outcome::Failed { why },
        }
    }

    fn url(&self, said: &str) -> String {
        if said.starts_with('/') { format!("{}{said}", self.origin) } else { said.into() }
    }
}

fn done(result: String) -> Outcome {
    Outcome::Done { result: result.chars().take(TOLD).collect() }
}
