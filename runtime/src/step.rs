//! A step as plain data: what it is asked to do, what holds it, how it ended. Imports nothing of ours.

mod bounded;
mod call;
mod digest;
mod http;
mod limits;
mod name;
mod outcome;
mod spec;
#[cfg(test)]
mod tests;

pub use call::{Answer, BadEffect, Call, CallError, Denial, Effect, Exhaustion, Item, Listed, Mark, ToolInfo};
pub use digest::{BadDigest, Digest};
pub use http::{
    BODY_WINDOW_BYTES, Headers, HttpRequest, HttpResponse, PIECE_BYTES_MAX, Patience, Piece, field_bytes, header_bytes,
};
pub use limits::{BadLimit, FIELD_BYTES, FIXED, Fixed, Range, StepLimits};
pub use name::{BadName, Name, ToolName, Version};
pub use outcome::{Event, Failure, GUEST_STOPPED, Level, Outcome, Stream, Usage};
pub use spec::{Kind, Mount, Origin, Quota, StepSpec, Task, ToolDescription};
