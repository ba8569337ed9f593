//! What a worker is asked to run. Everything in it was decided by the daemon; the caller's words stop there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
    pub kind: Kind,
    /// Payload of a step, standard input of a command.
    pub input: Vec<u8>,
    pub content_type: String,
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub limits: StepLimits,
}

/// A directory of the host, as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub guest_path: String,
    pub host_path: PathBuf,
    /// How much the step may add below it; `None` is read-only.
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
