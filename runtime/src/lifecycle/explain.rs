//! Explains a decision from its record.

use serde_json::Value;
use tokio::task::spawn_blocking;

use super::Lifecycle;
use crate::journal::{Kind, ReadError};

/// What the journal says of one decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explained {
    pub decision: String,
    pub sequence: u64,
    /// allow, deny or would-deny.
    pub verdict: String,
    pub question: String,
    pub policies: Vec<String>,
    pub revision: String,
    /// Of a denial.
    pub code: String,
    pub message: String,
    pub rule: String,
    pub missing: Vec<String>,
    pub alternative: String,
    pub addition: String,
}

/// A decision that cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error("`{0}` is not a decision: use `decisions/<step>/<call>`, as a denial names it")]
    BadReference(String),
    #[error("there is no decision `{0}`")]
    NotFound(String),
    #[error("the journal cannot be read: {0}")]
    Read(#[from] ReadError),
}

impl Lifecycle {
    /// Explains a decision: `decisions/<step>/<call>`.
    pub async fn explain(&self, reference: &str) -> Result<Explained, ExplainError> {
        let shown: String = reference.chars().take(120).collect();
        let bad = || ExplainError::BadReference(shown.clone());
        let path = reference.strip_prefix("decisions/").unwrap_or(reference);
        let (step, call) = path.rsplit_once('/').ok_or_else(bad)?;
        let call: u64 = call.parse().map_err(|_| bad())?;
        let step = format!("steps/{}", step.trim_start_matches("steps/"));
        let journal = self.journal().clone();
        let found = spawn_blocking(move || {
            // A step that was allowed to run has its decision in the record of its acceptance.
            let kinds = if call == 0 {
                [(None, Kind::Step), (Some(0), Kind::Denial)]
            } else {
                [(Some(call), Kind::Intent), (Some(call), Kind::Denial)]
            };
            for (call, kind) in kinds {
                if let Some(stored) = journal.find(&step, call, kind)? {
                    return Ok(Some((stored.sequence, stored.record()?.body)));
                }
            }
            Ok::<_, ReadError>(None)
        });
        let found = found.await.map_err(|_| ExplainError::NotFound(shown.clone()))??;
        let (sequence, body) = found.ok_or_else(|| ExplainError::NotFound(shown.clone()))?;
        let decision = format!("decisions/{path}");
        Ok(explained(decision, sequence, &Value::Object(body)))
    }
}

fn explained(decision: String, sequence: u64, body: &Value) -> Explained {
    // What policy said; where it was not even asked, what the grant or the budget said.
    let (policy, error) = (&body["decision"], &body["error"]);
    let text = |key: &str| {
        let found = policy[key].as_str().or_else(|| error[key].as_str()).or_else(|| body[key].as_str());
        found.unwrap_or_default().to_owned()
    };
    let list = |key: &str| {
        let found = policy[key].as_array().or_else(|| error[key].as_array());
        found.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let verdict = policy["verdict"].as_str().unwrap_or("deny").to_owned();
    Explained {
        decision,
        sequence,
        verdict,
        question: text("question"),
        policies: list("policies"),
        revision: text("revision"),
        code: text("code"),
        message: text("message"),
        rule: text("rule"),
        missing: list("missing"),
        alternative: text("alternative"),
        addition: text("addition"),
    }
}
