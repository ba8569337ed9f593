//! Keeps values between steps, in named spaces that the agent's manifest names and that policy allows.
//!
//! Values are bytes. The typed functions read and write them as JSON.
//!
//! Outside the sandbox each thread has spaces of its own, so that `cargo test` tests a step that remembers; they know
//! versions and expiry, and no limits.

#[cfg(target_arch = "wasm32")]
mod inside;
#[cfg(not(target_arch = "wasm32"))]
mod outside;

use std::{
    time::{Duration, SystemTime},
    vec,
};

use serde::{Serialize, de::DeserializeOwned};

#[cfg(target_arch = "wasm32")]
use self::inside as host;
#[cfg(not(target_arch = "wasm32"))]
use self::outside as host;
use crate::{CallError, Error};

/// Keys that one call lists at most.
const PAGE_MAX: u32 = 1_000;

/// A memory space. Naming one asks for nothing; each call is decided when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    name: String,
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<T> {
    pub value: T,
    /// Grows with each change of the key, also across its deletion.
    pub version: u64,
    /// The agent that wrote it.
    pub written_by: String,
    /// The step in which it did.
    pub written_in: String,
    pub written_at: SystemTime,
    /// The item is gone from then on.
    pub expires_at: Option<SystemTime>,
}

/// A key, and what is known of its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    /// Bytes of the value.
    pub size: u64,
    pub version: u64,
    pub written_by: String,
    pub written_in: String,
    pub written_at: SystemTime,
    pub expires_at: Option<SystemTime>,
}

/// How to put a value. The default puts it for good, whatever was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// The value is gone after so long; milliseconds count.
    pub ttl: Option<Duration>,
    /// Put only if the key has this version; 0: only if there is no such key. Otherwise the call fails with the code
    /// `MEMORY_CONFLICT`.
    pub if_version: Option<u64>,
}

/// The keys of a space, page by page. Each page is a host call; an error is the last that it returns.
#[derive(Debug)]
pub struct Listing<'a> {
    space: &'a Space,
    prefix: String,
    page: vec::IntoIter<Listed>,
    after: Option<String>,
    ended: bool,
}

/// Returns the space of this name.
pub fn space(name: impl Into<String>) -> Space {
    Space { name: name.into() }
}

impl Space {
    /// Returns the JSON value of a key, if there is one. A value that is no `T` has failed (`VALUE_INVALID`).
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Item<T>>, CallError> {
        let Some(item) = self.get_bytes(key)? else { return Ok(None) };
        let value = serde_json::from_slice(&item.value).map_err(|e| {
            let message = format!("the value of `{key}` in memory space `{}` is not what was expected: {e}", self.name);
            CallError::Failed(Error::new("VALUE_INVALID", message))
        })?;
        let Item { version, written_by, written_in, written_at, expires_at, .. } = item;
        Ok(Some(Item { value, version, written_by, written_in, written_at, expires_at }))
    }

    /// Returns the value of a key, if there is one.
    pub fn get_bytes(&self, key: &str) -> Result<Option<Item<Vec<u8>>>, CallError> {
        host::get(&self.name, key)
    }

    /// Puts a value as JSON, whatever was there, and returns its version.
    pub fn put<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<u64, CallError> {
        self.put_with(key, value, PutOptions::default())
    }

    /// Puts a value as JSON and returns its version. One that cannot be serialised is invalid (`VALUE_INVALID`).
    pub fn put_with<T: Serialize + ?Sized>(&self, key: &str, value: &T, options: PutOptions) -> Result<u64, CallError> {
        let value = serde_json::to_vec(value).map_err(|e| CallError::Invalid(Error::new("VALUE_INVALID", e)))?;
        self.put_bytes(key, &value, options)
    }

    /// Puts a value and returns its version.
    pub fn put_bytes(&self, key: &str, value: &[u8], options: PutOptions) -> Result<u64, CallError> {
        host::put(&self.name, key, value, options)
    }

    /// Deletes a key and returns whether it was there.
    pub fn delete(&self, key: &str) -> Result<bool, CallError> {
        host::delete(&self.name, key, None)
    }

    /// Deletes a key if it has this version, as in [`PutOptions::if_version`].
    pub fn delete_if(&self, key: &str, version: u64) -> Result<bool, CallError> {
        host::delete(&self.name, key, Some(version))
    }

    /// Lists the keys that begin with `prefix`, sorted.
    pub fn list(&self, prefix: impl Into<String>) -> Listing<'_> {
        Listing { space: self, prefix: prefix.into(), page: Vec::new().into_iter(), after: None, ended: false }
    }

    /// Lists one page of the keys that begin with `prefix`: after the key `after`, at most `limit` (1 to 1,000).
    pub fn list_page(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Listed>, CallError> {
        host::list(&self.name, prefix, after, limit)
    }
}

impl Iterator for Listing<'_> {
    type Item = Result<Listed, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(listed) = self.page.next() {
            return Some(Ok(listed));
        }
        if self.ended {
            return None;
        }
        match self.space.list_page(&self.prefix, self.after.as_deref(), PAGE_MAX) {
            Ok(page) => {
                self.ended = page.len() < PAGE_MAX as usize;
                self.after = page.last().map(|listed| listed.key.clone());
                self.page = page.into_iter();
                self.page.next().map(Ok)
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}
