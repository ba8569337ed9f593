//! Memory outside the sandbox, for tests: maps of the thread's own.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    ops::Bound,
    time::SystemTime,
};

use super::{Item, Listed, PAGE_MAX, PutOptions};
use crate::{CallError, Error};

/// Bytes of the longest key.
const KEY_BYTES_MAX: usize = 512;

/// Whom values outside the sandbox are from.
const OUTSIDE: &str = "outside-sandbox";

thread_local! {
    static SPACES: RefCell<HashMap<String, Space>> = RefCell::default();
}

#[derive(Default)]
struct Space {
    /// The highest version that was given out.
    version: u64,
    items: BTreeMap<String, Item<Vec<u8>>>,
}

pub fn get(space: &str, key: &str) -> Result<Option<Item<Vec<u8>>>, CallError> {
    check_key(key)?;
    within(space, |space| Ok(space.items.get(key).cloned()))
}

pub fn list(space: &str, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Listed>, CallError> {
    if limit == 0 || limit > PAGE_MAX {
        return Err(invalid(format!("`limit` is {limit}: use 1 to {PAGE_MAX}")));
    }
    let listed = |(key, item): (&String, &Item<Vec<u8>>)| Listed {
        key: key.clone(),
        size: item.value.len() as u64,
        version: item.version,
        written_by: item.written_by.clone(),
        written_in: item.written_in.clone(),
        written_at: item.written_at,
        expires_at: item.expires_at,
    };
    let after = after.map_or(Bound::Unbounded, Bound::Excluded);
    within(space, |space| {
        let beyond = space.items.range::<str, _>((after, Bound::Unbounded));
        Ok(beyond.filter(|(key, _)| key.starts_with(prefix)).take(limit as usize).map(listed).collect())
    })
}

pub fn put(space: &str, key: &str, value: &[u8], options: PutOptions) -> Result<u64, CallError> {
    check_key(key)?;
    within(space, |space| {
        space.check_version(key, options.if_version)?;
        space.version += 1;
        let written_at = SystemTime::now();
        let item = Item {
            value: value.to_vec(),
            version: space.version,
            written_by: OUTSIDE.into(),
            written_in: OUTSIDE.into(),
            written_at,
            // What expires beyond all time does not expire.
            expires_at: options.ttl.and_then(|ttl| written_at.checked_add(ttl)),
        };
        space.items.insert(key.into(), item);
        Ok(space.version)
    })
}

pub fn delete(space: &str, key: &str, if_version: Option<u64>) -> Result<bool, CallError> {
    check_key(key)?;
    within(space, |space| {
        space.check_version(key, if_version)?;
        Ok(space.items.remove(key).is_some())
    })
}

impl Space {
    fn check_version(&self, key: &str, expected: Option<u64>) -> Result<(), CallError> {
        let found = self.items.get(key).map_or(0, |item| item.version);
        match expected {
            Some(expected) if expected != found => {
                let message = format!(
                    "the key has version {found}, not {expected} (0 stands for no such key): get it and try again"
                );
                Err(CallError::Failed(Error::new("MEMORY_CONFLICT", message)))
            }
            _ => Ok(()),
        }
    }
}

/// Does something in a space, from which what has expired is gone.
fn within<T>(space: &str, act: impl FnOnce(&mut Space) -> Result<T, CallError>) -> Result<T, CallError> {
    SPACES.with_borrow_mut(|spaces| {
        let space = spaces.entry(space.into()).or_default();
        let now = SystemTime::now();
        space.items.retain(|_, item| item.expires_at.is_none_or(|expires_at| expires_at > now));
        act(space)
    })
}

fn check_key(key: &str) -> Result<(), CallError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(invalid(format!("the key: use 1 to {KEY_BYTES_MAX} bytes without control characters")));
    }
    Ok(())
}

fn invalid(message: String) -> CallError {
    CallError::Invalid(Error::new("KEY_INVALID", message))
}
