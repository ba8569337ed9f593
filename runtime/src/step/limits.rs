//! The limits of a step. `docs/limits.md` is their table, and a test compares the two.

use serde::{Deserialize, Serialize};

/// Limits that hold for one step. Each is above zero; none can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLimits {
    /// Units of fuel, about one for each WebAssembly instruction.
    pub fuel: u64,
    /// Bytes of linear memory, all memories together.
    pub memory_bytes: u64,
    /// Wall-clock time in a worker.
    pub timeout_ms: u64,
    /// Bytes of the output payload.
    pub output_bytes: u64,
    /// Bytes of standard output and standard error together.
    pub stdio_bytes: u64,
    /// Number of log and progress events.
    pub events: u64,
}

/// What a request may ask of one limit: nothing (the default) or a value up to the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub default: u64,
    pub max: u64,
}

/// A limit that cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLimit {
    #[error("`{name}` is {asked}: it must be at least 1 and at most {max}")]
    OutOfRange { name: &'static str, asked: i64, max: u64 },
}

impl Range {
    /// Returns the value that holds for a request that asks for `asked`.
    pub fn grant(&self, name: &'static str, asked: Option<i64>) -> Result<u64, BadLimit> {
        match asked {
            None => Ok(self.default),
            Some(asked) => match u64::try_from(asked) {
                Ok(value) if (1..=self.max).contains(&value) => Ok(value),
                _ => Err(BadLimit::OutOfRange { name, asked, max: self.max }),
            },
        }
    }
}

/// Limits that are the same for every step and cannot be configured: they bound what one guest can make the
/// engine and the host do, whatever it is allowed to use.
pub struct Fixed {
    /// Core instances of one component. Interpreters built by componentize-py have about twenty.
    pub core_instances: u32,
    /// Linear memories of one component.
    pub memories: u32,
    /// Tables of one component.
    pub tables: u32,
    /// Elements of one table.
    pub table_elements: u64,
    /// Bytes of guest stack.
    pub stack_bytes: u64,
    /// Bytes that one host call can move from the guest to the host.
    pub hostcall_bytes: u64,
    /// Live entries of the host's table of files, streams and pollables.
    pub resources: u64,
    /// Live directory streams: each holds a whole listing.
    pub directory_streams: u64,
    /// Entries of all these listings together.
    pub listed_entries: u64,
    /// Files of which a step asks what stands for them: each is remembered.
    pub objects: u64,
    /// Live component-model handles.
    pub handles: u64,
    /// Bytes that one call of wasi:random returns.
    pub random_bytes: u64,
    /// Bytes of one log or progress event.
    pub event_bytes: u64,
    /// Number of arguments of a request, and bytes of arguments and environment together.
    pub args: u64,
    pub args_bytes: u64,
    /// Mounts of one step.
    pub mounts: u64,
    /// Tools within tools: a step calls the first.
    pub tool_depth: u32,
    /// Bytes of a tool's arguments.
    pub arguments_bytes: u64,
    /// Host calls of one step, or of one tool, that are under way at the same time.
    pub calls_under_way: u64,
    /// HTTP requests of one step, or of one tool, that are under way at the same time. Fewer than calls: a guest that waits
    /// for responses can still call.
    pub requests_under_way: u64,
    /// Bytes of names and values of the headers, or of the trailers, of one request or response, counted as they lie in
    /// memory.
    pub header_fields_bytes: u64,
    /// Bytes of a request's method, URL, and headers together, each header with [`FIELD_BYTES`] more.
    pub request_head_bytes: u64,
    /// Bytes of the largest body that is held to be signed by a credential.
    pub signed_body_bytes: u64,
    /// Bytes of the largest body over HTTP that is kept with its record.
    pub kept_body_bytes: u64,
    /// Units of fuel between two looks at the clock and at cancellation.
    pub yield_fuel: u64,
}

/// What a field of an event, or a header, counts beside its texts: many empty ones are not free.
pub const FIELD_BYTES: usize = 16;

/// The fixed limits.
pub const FIXED: Fixed = Fixed {
    core_instances: 64,
    memories: 4,
    tables: 32,
    table_elements: 262_144,
    stack_bytes: 1 << 20,
    hostcall_bytes: 4 << 20,
    resources: 1_000,
    directory_streams: 64,
    listed_entries: 262_144,
    objects: 262_144,
    handles: 10_000,
    random_bytes: 64 << 10,
    event_bytes: 64 << 10,
    args: 256,
    args_bytes: 64 << 10,
    mounts: 16,
    tool_depth: 3,
    arguments_bytes: 256 << 10,
    calls_under_way: 32,
    requests_under_way: 24,
    header_fields_bytes: 128 << 10,
    request_head_bytes: 128 << 10,
    signed_body_bytes: 256 << 10,
    kept_body_bytes: 16 << 10,
    yield_fuel: 500_000,
};
