//! Streams of chunks from a caller: bounded in size, and in how long they may stand still.

use std::time::Duration;

use tonic::{Code, Status, Streaming};

use super::status;
use crate::wire::CHUNK_BYTES_MAX;

/// How long a caller may take for its next chunk: until then it holds a workspace, or room in the spool.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the next message, or `None` at the end of the stream.
pub async fn next<T>(messages: &mut Streaming<T>) -> Result<Option<T>, Status> {
    match tokio::time::timeout(IDLE_TIMEOUT, messages.message()).await {
        Ok(message) => message,
        Err(_) => {
            let message = format!("no chunk came for {} seconds: begin again", IDLE_TIMEOUT.as_secs());
            Err(status::refuse(Code::Aborted, "UPLOAD_STALLED", message))
        }
    }
}

/// Returns a message's header, which must be the first.
pub fn header<H>(header: Option<H>) -> Result<H, Status> {
    header.ok_or_else(|| status::bad_field("FIELD_INVALID", "header", "the first message must be `header`"))
}

/// Returns a message's chunk, which must not be too large.
pub fn chunk(chunk: Option<Vec<u8>>) -> Result<Vec<u8>, Status> {
    let wrong = |message: String| Err(status::bad_field("FIELD_INVALID", "chunk", message));
    match chunk {
        None => wrong("every message after the first must be `chunk`".into()),
        Some(chunk) if chunk.len() > CHUNK_BYTES_MAX => {
            wrong(format!("`chunk` has {} bytes; at most {CHUNK_BYTES_MAX} are allowed", chunk.len()))
        }
        Some(chunk) => Ok(chunk),
    }
}
