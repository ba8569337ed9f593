//! What can go wrong with memory.

use std::io;

use rusqlite::ErrorCode;

use super::KEY_BYTES_MAX;

/// Why a call of the store failed. Nothing was changed then, though after [`MemoryError::Io`] a crash can show otherwise.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("`{0}` is not a key: use 1 to {KEY_BYTES_MAX} bytes without control characters")]
    BadKey(String),
    #[error("the value has {bytes} bytes: the limit is {max}")]
    ValueTooLarge { bytes: u64, max: u64 },
    #[error("the memory space `{space}` is full: its limit `{limit}` is {max}, so delete keys first")]
    SpaceFull { space: String, limit: &'static str, max: u64 },
    #[error("there are {max} memory spaces with keys already, which is the limit")]
    TooManySpaces { max: u64 },
    /// Version 0 stands for no such key.
    #[error("the key has version {found}, not {expected} (0 stands for no such key): get it and try again")]
    Conflict { expected: u64, found: u64 },
    /// Worth trying again when there is room.
    #[error("the disk of the memory store is full: try again later")]
    Full,
    #[error("the memory store has version {0}, which this program does not know: use the one that wrote it")]
    UnknownVersion(i64),
    #[error("the memory store cannot be used: {0}")]
    Io(#[from] io::Error),
}

impl From<rusqlite::Error> for MemoryError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Io(io::Error::other(error)),
        }
    }
}
