//! Egress: where a guest's HTTP requests may go, and how they get there.

pub mod address;
mod client;
mod connection;
mod dial;
mod error;
mod exchange;
pub mod headers;
mod host;
mod narrow;
mod path;
mod pattern;
mod pool;
mod reply;
mod request;
mod resolve;
mod route;
mod rule;
mod text;
mod tls;
mod upload;
mod wire;

pub use client::{Attachment, Egress, Outgoing, Settings};
pub use connection::EXCHANGE_BYTES_MAX;
pub use error::{BodyError, Code, SendError, StartError};
pub use host::{BadHost, Host};
pub use narrow::{BadNarrow, Narrow, NarrowTimeouts};
pub use path::{BadPath, TARGET_BYTES_MAX};
pub use pattern::{BadPattern, FieldName, HostPattern, MediaPattern, MethodName, PathPattern};
pub use reply::{PIECE_BYTES, Piece, Reply, ReplyBody};
pub use request::{BadRequest, RawRequest, Request, Scheme};
pub use route::{Mismatch, Route};
pub use rule::{BadRule, Rate, Rule, Timeouts};
pub use tls::Identity;
pub use upload::RequestBody;
