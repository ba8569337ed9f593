//! A request that a guest makes and what it is answered, as plain data.

use serde::{Deserialize, Serialize};

use super::{CallError, FIELD_BYTES, bounded};

/// A request as a guest made it. Nothing in it is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    pub method: String,
    pub scheme: String,
    pub authority: String,
    pub path_with_query: String,
    #[serde(deserialize_with = "bounded::headers")]
    pub headers: Headers,
    /// A body follows, in pieces.
    pub has_body: bool,
    pub patience: Patience,
}

/// Names and values, in order.
pub type Headers = Vec<(String, Vec<u8>)>;

/// How long a guest is willing to wait, in milliseconds. It cannot make a rule's time-outs longer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    pub connect_ms: Option<u64>,
    pub first_byte_ms: Option<u64>,
    pub between_bytes_ms: Option<u64>,
}

/// What a request is answered, before its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpResponse {
    pub status: u16,
    pub headers: Headers,
}

/// A piece of a body. The last is `End` or `Broken`, and comes always.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// At most [`PIECE_BYTES_MAX`] of it.
    Data(Vec<u8>),
    End {
        #[serde(deserialize_with = "bounded::headers")]
        trailers: Headers,
    },
    /// There is no more of it, and why. The guest's own is said by the daemon.
    Broken(CallError),
}

/// Bytes of the largest piece: half of the window, as what is taken is told by halves.
pub const PIECE_BYTES_MAX: usize = BODY_WINDOW_BYTES as usize / 2;

/// Bytes of a body that may be on their way to somebody who does not take them.
pub const BODY_WINDOW_BYTES: u32 = 64 << 10;

/// What a piece counts beside its bytes: many small ones are not free.
const PIECE_BYTES: u32 = 64;

// What is not told yet is less than half: so there is room for a piece, always.
const _: () = assert!(PIECE_BYTES_MAX as u32 <= BODY_WINDOW_BYTES / 2);

impl Piece {
    /// Returns what the piece takes of the window. The last takes nothing: there is always room for it.
    pub fn weight(&self) -> u32 {
        match self {
            Self::Data(data) => (data.len() as u32).saturating_add(PIECE_BYTES).min(BODY_WINDOW_BYTES / 2),
            Self::End { .. } | Self::Broken(_) => 0,
        }
    }

    /// Returns whether no other follows.
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Data(_))
    }
}

/// Returns what headers, or trailers, count that come from a guest: many empty ones are not free.
pub fn field_bytes(headers: &[(String, Vec<u8>)]) -> u64 {
    header_bytes(headers) + (headers.len() * FIELD_BYTES) as u64
}

/// Returns the bytes of names and values.
pub fn header_bytes(headers: &[(String, Vec<u8>)]) -> u64 {
    headers.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
}
