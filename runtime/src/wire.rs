//! What the daemon and its jailed processes say to each other, over one socketpair each.
//!
//! A frame is a 4-byte little-endian length and that many bytes of postcard. The daemon treats every frame from
//! a worker or a compiler as hostile: its length is bounded before a byte is read, its type is closed, nothing may
//! follow the value, and what the value means is checked by the receiver.

mod frame;
mod message;
mod outbox;
#[cfg(test)]
mod tests;

pub use frame::{FRAME_BYTES_MAX, WireError, encode, read, read_blocking, write_blocking};
pub use message::{
    CHUNK_BYTES_MAX, Confinement, EVENT_WINDOW, FromCompiler, FromWorker, Ids, Inspection, Refusal, ToCompiler,
    ToWorker, Wall, WallState, WorkerSetup,
};
pub use outbox::Outbox;
