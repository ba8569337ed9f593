//! How a step ends, what it used, and what it said on the way.

use serde::{Deserialize, Serialize};

use super::bounded;

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The step returned an output.
    Succeeded { output: Vec<u8>, content_type: String },
    /// The command ended by itself, with 0 or another code.
    Exited { code: u8 },
    /// The step returned an error of its own.
    Failed(Failure),
    /// The guest trapped.
    Trapped(Failure),
    /// A limit ended the step.
    LimitExceeded { failure: Failure, limit: String, value: u64 },
    /// The caller hung up or the daemon shuts down.
    Cancelled(Failure),
    /// The worker died or hung.
    WorkerLost(Failure),
    /// Its records could not be made durable, so nothing of it is given out.
    Unrecorded(Failure),
}

impl Outcome {
    /// Returns the word that is recorded and measured.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } | Self::Exited { code: 0 } => "succeeded",
            Self::Exited { .. } | Self::Failed(_) => "failed",
            Self::Trapped(_) => "trapped",
            Self::LimitExceeded { .. } => "limit-exceeded",
            Self::Cancelled(_) => "cancelled",
            Self::WorkerLost(_) => "worker-lost",
            Self::Unrecorded(_) => "unrecorded",
        }
    }

    /// Returns why it did not succeed, if it has more to say than its word.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Succeeded { .. } | Self::Exited { .. } => None,
            Self::LimitExceeded { failure, .. }
            | Self::Failed(failure)
            | Self::Trapped(failure)
            | Self::Cancelled(failure)
            | Self::WorkerLost(failure)
            | Self::Unrecorded(failure) => Some(failure),
        }
    }
}

/// The code of a guest that the engine stopped for what is neither a trap of WebAssembly nor a limit.
pub const GUEST_STOPPED: &str = "GUEST_STOPPED";

/// Why a step did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub message: String,
}

impl Failure {
    /// Returns a failure.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

/// What a step used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub fuel: u64,
    pub memory_peak_bytes: u64,
    pub wall_time_us: u64,
    pub cpu_time_us: u64,
    pub input_bytes: u64,
    pub output_bytes: u64,
    pub stdio_bytes: u64,
    pub events: u64,
    /// Net growth of the writable trees.
    pub disk_bytes: i64,
    pub disk_entries: i64,
}

/// What a step says while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    Log {
        level: Level,
        message: String,
        #[serde(deserialize_with = "bounded::event_fields")]
        fields: Vec<(String, String)>,
    },
    Progress {
        fraction: f64,
        message: String,
    },
    Output {
        stream: Stream,
        data: Vec<u8>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    Stdout,
    Stderr,
}
