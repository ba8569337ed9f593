//! What a worker is asked to run. Everything in it was decided by the daemon; the caller's words stop there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Digest, StepLimits};

/// What a component is, by what it exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Exports `palisade:agent/run`.
    Step,
    /// Exports `palisade:agent/invoke`.
    Tool,
    /// Exports `wasi:cli/run`, or was a WASI 0.1 command.
    Command,
}

/// One step, ready to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepSpec {
    /// The compiled artifact to run, by the digest of the component.
    pub component: Digest,
    pub task: Task,
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub limits: StepLimits,
    pub origin: Origin,
}

/// What a step's random bytes and its clocks are made of. With the same origin and the same outcomes of its host calls,
/// a step does the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub seed: [u8; 32],
    /// What the time is to the step when it begins, in milliseconds since 1970.
    pub start_ms: u64,
}

impl Origin {
    /// The latest time at which a step can begin: the end of the year 9999.
    pub const START_MS_MAX: u64 = 253_402_300_799_999;

    /// Returns the origin of the tool that is called by host call number `call`, `at_ms` milliseconds after the start.
    pub fn of_tool(&self, call: u64, at_ms: u64) -> Self {
        let hash =
            Sha256::new().chain_update(b"palisade tool\0").chain_update(self.seed).chain_update(call.to_be_bytes());
        Self { seed: hash.finalize().into(), start_ms: self.start_ms.saturating_add(at_ms) }
    }

    /// Returns the seed as 64 hex digits.
    pub fn seed_hex(&self) -> String {
        self.seed.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a component is called for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// `palisade:agent/run`, with a payload.
    Run { payload: Vec<u8>, content_type: String },
    /// `wasi:cli/run`, with this standard input.
    Command { stdin: Vec<u8> },
    /// `palisade:agent/invoke`, with canonical JSON.
    Invoke { arguments: String },
    /// `palisade:agent/invoke`: what the tool says of itself.
    Describe,
}

impl Task {
    /// Returns the bytes that the component is given.
    pub fn input_bytes(&self) -> u64 {
        let bytes = match self {
            Self::Run { payload, .. } => payload.len(),
            Self::Command { stdin } => stdin.len(),
            Self::Invoke { arguments } => arguments.len(),
            Self::Describe => 0,
        };
        bytes as u64
    }
}

/// What a tool says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolDescription {
    pub text: String,
    /// JSON Schemas, as texts.
    pub input_schema: String,
    pub output_schema: Option<String>,
}

/// A directory of the host, as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub guest_path: String,
    pub host_path: PathBuf,
    /// How much the step may add below it; `None` is read-only. A tool that writes where the step that calls it writes
    /// shares that step's count instead.
    pub writable: Option<Quota>,
    /// Others may write below it at the same time. A workspace belongs to its step alone.
    pub shared: bool,
}

/// What may still be added to a writable tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}
