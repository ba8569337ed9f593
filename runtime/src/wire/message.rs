//! The messages, all of them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::step::{Answer, Call, CallError, Event, Kind, Outcome, Piece, StepSpec, Usage};

/// Bytes of the largest `Chunk`.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// From the daemon to a worker. `Setup` comes first and once, before the worker enters its jail.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    Setup(WorkerSetup, Confinement),
    Run {
        step: u64,
        /// The step that called the tool which this is.
        caller: Option<u64>,
        spec: Box<StepSpec>,
    },
    /// What a host call came to.
    Answer {
        step: u64,
        call: u64,
        /// When it was given, in milliseconds after the step's start: so late it is for the guest then.
        at_ms: u64,
        answer: Result<Answer, CallError>,
    },
    /// A piece of a response's body. The last piece ends the call.
    Body {
        step: u64,
        call: u64,
        piece: Piece,
    },
    /// So much of a request's body was taken: so much more may be sent.
    Taken {
        step: u64,
        call: u64,
        weight: u32,
    },
    /// The caller took so many events of the step: so many more may be sent.
    Credit {
        step: u64,
        events: u32,
    },
    Cancel {
        step: u64,
    },
}

/// Events of one step that may be on their way to a caller that does not read: a slow caller holds up its own step
/// and no other.
pub const EVENT_WINDOW: usize = 64;

/// What a worker may reach, for life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerSetup {
    /// Read-only: compiled artifacts, in a folder for each engine.
    pub artifacts: PathBuf,
    /// Read-write: the tenant's workspaces and the mounts that the configuration makes writable.
    pub read_write: Vec<PathBuf>,
    /// Read-only mounts.
    pub read_only: Vec<PathBuf>,
    /// Steps at once.
    pub slots: u32,
    /// Bytes of memory of the largest step.
    pub memory_bytes_max: u64,
    /// Bytes of the largest file that a step may write.
    pub file_bytes_max: u64,
}

/// What a jailed process has to be told of its jail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Confinement {
    /// The process without which it must not be.
    pub daemon: u32,
    /// Whom it becomes. `None`: it stays who the daemon is.
    pub user: Option<Ids>,
    /// The end of its cgroup's path, or why it has none.
    pub group: Result<String, String>,
}

/// A user and its one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

/// From a worker to the daemon. `Ready` comes first and once, from inside the jail; `Done` is the last of its step.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// `engine` is the hash of what its artifacts depend on.
    Ready {
        walls: Vec<Wall>,
        engine: String,
    },
    Event {
        step: u64,
        event: Event,
    },
    /// A host call. `call` is a number that the step has not used before; every call is answered, unless the step ends.
    Call {
        step: u64,
        call: u64,
        asked: Call,
    },
    /// A piece of a request's body.
    Body {
        step: u64,
        call: u64,
        piece: Piece,
    },
    /// The guest took so much of a response's body: so much more may be sent.
    Taken {
        step: u64,
        call: u64,
        weight: u32,
    },
    /// The guest wants no more of a request. The call still ends.
    Drop {
        step: u64,
        call: u64,
    },
    Done {
        step: u64,
        outcome: Outcome,
        usage: Usage,
    },
}

/// One wall of the jail, as it was found from inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wall {
    pub name: String,
    pub state: WallState,
    /// What was attempted, or why the wall is missing.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WallState {
    /// Built, and the forbidden act failed.
    Verified,
    /// Not built, or the forbidden act succeeded.
    Missing,
    /// Not built, because the host leaves it to nobody: it is built only where it is delegated.
    NotDelegated,
}

/// From the daemon to a compiler: `Start`; then, once its walls have been judged, the component in chunks.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToCompiler {
    Start {
        component_bytes: u64,
        artifact_bytes_max: u64,
        /// Of a step: what declares more can never run.
        memory_bytes_max: u64,
        /// Of the compiler itself.
        cpu_seconds: u64,
        memory_bytes: u64,
        confinement: Confinement,
    },
    Chunk(Vec<u8>),
}

/// From a compiler to the daemon: `Ready`, from inside the jail and before it is sent a byte of the component; then
/// `Refused`, or `Inspected`, the artifact in chunks, and `Done`.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromCompiler {
    Ready { walls: Vec<Wall> },
    Refused(Refusal),
    Inspected { inspection: Inspection, engine: String },
    Chunk(Vec<u8>),
    Done,
}

/// What a component is and asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    pub kind: Kind,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// It was a WASI 0.1 core module.
    pub adapted: bool,
}

/// Why a component is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("not WebAssembly: the bytes do not begin with `\\0asm`")]
    NotWasm,
    #[error("invalid WebAssembly: {0}")]
    Invalid(String),
    #[error("imports that Palisade does not provide: {}", .0.join(", "))]
    UnknownImports(Vec<String>),
    #[error("exports nothing that can be run: expected `palisade:agent/run`, `palisade:agent/invoke` or `wasi:cli/run`; it exports {}", list(.0))]
    NothingToRun(Vec<String>),
    #[error("{name} is {asked}; at most {max} are allowed")]
    TooMuch { name: String, asked: u64, max: u64 },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}
