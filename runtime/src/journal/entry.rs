//! What callers append.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::payload::Payload;

/// What an entry tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The daemon started.
    Started,
    /// The daemon stops.
    Stopped,
    /// The configuration that holds from here on.
    Configuration,
    /// The policies that hold from here on.
    Policy,
    /// An agent was registered, changed or disabled.
    Agent,
    /// A tool was registered or changed.
    Tool,
    /// A credential was revoked or restored.
    Credential,
    /// A hold was imposed or lifted, or ended.
    Control,
    /// A step was accepted. Needs `step`, and a `result` in the end.
    Step,
    /// A call will act. Needs `step` and `call`, and an `outcome` in the end.
    Intent,
    /// How an intended call ended. Needs `step` and `call`.
    Outcome,
    /// Something with labels entered a job. Needs `step`, and `call` if a call brought it.
    Label,
    /// A call was refused.
    Denial,
    /// How a step ended. Needs `step`.
    Result,
    /// A payload was deleted.
    Deletion,
}

impl Kind {
    pub(super) const ALL: [Self; 15] = [
        Self::Started,
        Self::Stopped,
        Self::Configuration,
        Self::Policy,
        Self::Agent,
        Self::Tool,
        Self::Credential,
        Self::Control,
        Self::Step,
        Self::Intent,
        Self::Outcome,
        Self::Label,
        Self::Denial,
        Self::Result,
        Self::Deletion,
    ];

    /// Returns the kind as it is written in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Configuration => "configuration",
            Self::Policy => "policy",
            Self::Agent => "agent",
            Self::Tool => "tool",
            Self::Credential => "credential",
            Self::Control => "control",
            Self::Step => "step",
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Label => "label",
            Self::Denial => "denial",
            Self::Result => "result",
            Self::Deletion => "deletion",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no kind of record.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no kind of record: write one of started, stopped, configuration, policy, agent, tool, credential, step, intent, outcome, label, denial, result, deletion"
)]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| UnknownKind(text.chars().take(80).collect()))
    }
}

/// One thing to record.
#[derive(Debug, Clone)]
pub struct Entry {
    pub kind: Kind,
    pub tenant: String,
    pub step: Option<String>,
    /// The number of the host call in its step, below 2^53.
    pub call: Option<u64>,
    pub job: Option<String>,
    pub agent: Option<String>,
    /// The trace and the span that tell the same, as hex digits.
    pub trace: Option<String>,
    pub span: Option<String>,
    /// An object without the key `payloads`, at most 64 levels deep, its integers within ±(2^53 − 1).
    pub body: Value,
    /// What the record names by digest; kept beside it as far as the policy for payloads lets it.
    pub payloads: Vec<Payload>,
    /// Whether the receipt is to come with a signed checkpoint that covers the record.
    pub checkpointed: bool,
    /// Nobody waits for it: it may wait a little for others, to be written together with them.
    pub patient: bool,
}

impl Entry {
    /// Returns an entry with nothing but these.
    pub fn new(kind: Kind, tenant: impl Into<String>, body: Value) -> Self {
        Self {
            kind,
            tenant: tenant.into(),
            step: None,
            call: None,
            job: None,
            agent: None,
            trace: None,
            span: None,
            body,
            payloads: Vec::new(),
            checkpointed: false,
            patient: false,
        }
    }
}
