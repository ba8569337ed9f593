//! Frames: bounded, length-prefixed, nothing left over.

use std::io::{Read, Write};

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes of the largest frame: an input or output of the largest size that a limit allows, and its envelope.
pub const FRAME_BYTES_MAX: usize = 5 << 20;

/// A frame that is not one.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("a frame of {0} bytes; at most {FRAME_BYTES_MAX} are allowed")]
    TooLong(usize),
    #[error("a frame that does not decode: {0}")]
    Malformed(String),
    #[error("a frame with {0} bytes after its value")]
    Trailing(usize),
    #[error("the other end is gone")]
    Closed,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Returns the frame of `message`.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let frame = postcard::to_extend(message, vec![0; 4]).map_err(|e| WireError::Malformed(e.to_string()))?;
    let mut frame = frame;
    let length = frame.len() - 4;
    if length > FRAME_BYTES_MAX {
        return Err(WireError::TooLong(length));
    }
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(frame)
}

/// Returns the next message. The end of the stream between two frames is [`WireError::Closed`].
pub async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<T, WireError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.map_err(closed)?;
    let mut frame = vec![0; checked(length)?];
    stream.read_exact(&mut frame).await.map_err(closed)?;
    decode(&frame)
}

/// As [`read`], for processes that have no async runtime yet or never.
pub fn read_blocking<T: DeserializeOwned>(stream: &mut impl Read) -> Result<T, WireError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(closed)?;
    let mut frame = vec![0; checked(length)?];
    stream.read_exact(&mut frame).map_err(closed)?;
    decode(&frame)
}

/// Writes one message.
pub fn write_blocking<T: Serialize>(stream: &mut impl Write, message: &T) -> Result<(), WireError> {
    stream.write_all(&encode(message)?)?;
    Ok(())
}

pub(super) fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(frame) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(WireError::Trailing(rest.len())),
        Err(e) => Err(WireError::Malformed(e.to_string())),
    }
}

fn checked(length: [u8; 4]) -> Result<usize, WireError> {
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX { Err(WireError::TooLong(length)) } else { Ok(length) }
}

fn closed(error: std::io::Error) -> WireError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => WireError::Closed,
        _ => WireError::Io(error),
    }
}
