//! Does what it is told, and takes no for an answer.

use palisade_guest::{CallError, Denial, events};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Tools,
    instructions::{self, Instruction},
};

/// What the agent was told to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attempt {
    /// The ticket that says so.
    pub said_in: String,
    pub does: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    Done {
        result: Value,
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
        code: String,
        message: String,
    },
    /// It was denied before, and would be again.
    NotAskedAgain,
}

#[derive(Default)]
pub struct Attempts {
    pub made: Vec<Attempt>,
    denied: Vec<Instruction>,
}

impl Attempts {
    /// Does what a text says, and returns what came of it.
    pub fn follow(&mut self, tools: &mut dyn Tools, said_in: &str, text: &str) -> Vec<Attempt> {
        let first = self.made.len();
        for instruction in instructions::in_text(text) {
            let outcome = self.outcome(tools, &instruction);
            self.made.push(Attempt { said_in: said_in.into(), does: instruction.does, outcome });
        }
        self.made[first..].to_vec()
    }

    fn outcome(&mut self, tools: &mut dyn Tools, instruction: &Instruction) -> Outcome {
        // The agent may know of a tool that it was not shown. Asking does no harm: nobody trusts it not to.
        if self.denied.contains(instruction) {
            return Outcome::NotAskedAgain;
        }
        match tools.call(instruction.tool, &instruction.arguments) {
            Ok(result) => Outcome::Done { result },
            Err(CallError::Denied(Denial { code, message, rule, missing, alternative, decision })) => {
                events::warn!("denied", tool = instruction.tool, code = code, decision = decision);
                self.denied.push(instruction.clone());
                Outcome::Denied { code, message, rule, missing, alternative, decision }
            }
            Err(error) => Outcome::Failed { code: error.code().into(), message: error.to_string() },
        }
    }
}
