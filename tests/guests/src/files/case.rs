//! One act on files, as the tests tell it. The evil worker takes the same ones (`tests/hostile/programs/raw.rs`).

use serde::Deserialize;

/// `{"act": "open-read", "at": "/rw", "path": "../secret"}`.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    pub act: Act,
    /// The mount that the path begins at, by the path at which the guest sees it.
    pub at: String,
    pub path: String,
    /// A link at the end of the path is followed.
    #[serde(default)]
    pub follow: bool,
    /// The mount and the path of a second file, or a link's target.
    #[serde(default)]
    pub to: (String, String),
    /// Seconds and nanoseconds of times to set; a size to set, in place of seconds.
    #[serde(default)]
    pub time: (u64, u32),
}

/// What is done. An act that opens something then takes all that it can: it reads, lists, and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    OpenRead,
    OpenWrite,
    OpenReadWrite,
    /// With `create`, for writing.
    Create,
    /// With `create` and `exclusive`, for writing.
    Exclusive,
    /// With `create`, for reading only; then written to.
    CreateUnasked,
    /// With `truncate`, for writing.
    Truncate,
    /// With `truncate`, for reading only; then written to.
    TruncateUnasked,
    Append,
    OpenDirectory,
    /// With the right to change the directory.
    OpenMutable,
    Stat,
    ReadLink,
    Unlink,
    RemoveDirectory,
    MakeDirectory,
    /// To `to`.
    Rename,
    /// To `to`.
    Link,
    /// With `to`'s path as the target.
    Symlink,
    SetTimes,
    /// Opens for reading, then sets the size.
    SetSizeUnasked,
    /// Opens for writing, then sets the size.
    SetSize,
    MetadataHash,
    Sync,
    Advise,
}

/// What an act that got hold of a file writes into it.
pub const WRITTEN: &[u8] = b"written from inside";

/// Entries of a directory that an act looks into.
pub const ENTRIES_READ: usize = 32;

/// Bytes that are read of a file.
pub const BYTES_READ: u64 = 4096;
