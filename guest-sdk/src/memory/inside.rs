//! Memory inside the sandbox: the host's.

use std::time::{Duration, SystemTime};

use super::{Item, Listed, PutOptions};
use crate::{CallError, bindings::palisade::agent::memory as host};

pub fn get(space: &str, key: &str) -> Result<Option<Item<Vec<u8>>>, CallError> {
    let item = |item: host::Item| Item {
        value: item.value,
        version: item.version,
        written_by: item.written_by,
        written_in: item.written_in,
        written_at: time(item.written_at),
        expires_at: item.expires_at.map(time),
    };
    Ok(host::get(space, key)?.map(item))
}

pub fn list(space: &str, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Listed>, CallError> {
    let listed = |listed: host::Listed| Listed {
        key: listed.key,
        size: listed.size,
        version: listed.version,
        written_by: listed.written_by,
        written_in: listed.written_in,
        written_at: time(listed.written_at),
        expires_at: listed.expires_at.map(time),
    };
    Ok(host::list(space, prefix, after, limit)?.into_iter().map(listed).collect())
}

pub fn put(space: &str, key: &str, value: &[u8], options: PutOptions) -> Result<u64, CallError> {
    let ttl_ms = options.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    Ok(host::put(space, key, value, host::PutOptions { ttl_ms, if_version: options.if_version })?)
}

pub fn delete(space: &str, key: &str, if_version: Option<u64>) -> Result<bool, CallError> {
    Ok(host::delete(space, key, if_version)?)
}

fn time(unix_ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms)
}
