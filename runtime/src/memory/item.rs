//! What is kept, as plain data. Times are milliseconds since 1970.

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub value: Vec<u8>,
    /// Grows with each change of the key, also across its deletion.
    pub version: u64,
    pub written_by: Writer,
    pub written_ms: u64,
    /// The item is gone from then on.
    pub expires_ms: Option<u64>,
}

/// An item without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    /// Bytes of the value.
    pub size: u64,
    pub version: u64,
    pub written_by: Writer,
    pub written_ms: u64,
    pub expires_ms: Option<u64>,
}

/// Who wrote an item: an agent, in one of its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    pub agent: String,
    pub step: String,
    /// What the writer's job had gathered: it may be in what is written. Names without spaces.
    pub labels: Vec<String>,
}

/// How to put a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// The item expires so many milliseconds after it is put.
    pub ttl_ms: Option<u64>,
    /// Put only if the key has this version; with 0, only if there is no such key.
    pub if_version: Option<u64>,
}

/// What a tenant may keep. Expired items do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of all keys and values of a space.
    pub bytes: u64,
    /// Keys of a space.
    pub keys: u64,
    /// Bytes of one value.
    pub value_bytes: u64,
    /// Spaces of a tenant that have keys.
    pub spaces: u64,
}

/// A space that has keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceInfo {
    pub name: String,
    pub keys: u64,
    /// Bytes of all keys and values.
    pub bytes: u64,
}
