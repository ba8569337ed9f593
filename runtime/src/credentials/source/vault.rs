//! A field of a secret in Vault or OpenBao: KV version 2.

mod session;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{Read, Unreadable, keep, value_of};
use crate::credentials::{
    cache::{Cache, Clock, Fresh},
    config::Vault,
    fetch::FetchedReply,
    secret::Secret,
};
pub use session::Session;

/// A field, and what it was last.
pub struct Field {
    vault: Vault,
    session: Arc<Session>,
    cache: Cache<Secret>,
}

impl Field {
    /// Returns the source.
    pub fn new(vault: Vault, session: Arc<Session>, clock: Clock) -> Self {
        Self { vault, session, cache: Cache::new(clock) }
    }

    async fn fetch(&self) -> Result<Fresh<Secret>, Unreadable> {
        let value = self.ask().await.map_err(|why| {
            let Vault { address, mount, path, field, .. } = &self.vault;
            Unreadable(format!("the vault `{address}`, `{field}` of `{path}` in `{mount}`: {why}"))
        })?;
        let life = Duration::from_millis(self.vault.cache_ms);
        Ok(Fresh { value: keep(self.cache.last(), value), life, renew: life })
    }

    async fn ask(&self) -> Result<Secret, String> {
        let mut token = self.session.token().await?;
        let mut reply = self.read_with(&token.secret).await?;
        if reply.status == 403 {
            // Perhaps the token was revoked before its time: once more, with a new one.
            self.session.forget(&token);
            token = self.session.token().await?;
            reply = self.read_with(&token.secret).await?;
        }
        match reply.status {
            200 => {
                let value = find(&reply.body, &self.vault.field)?;
                value_of(value.as_bytes()).map_err(|why| format!("the field {why}"))
            }
            403 => Err("the login may not read it: check its policies".into()),
            404 => Err("there is no such secret, or its latest version is deleted".into()),
            status => Err(format!("the vault answered with status {status}")),
        }
    }

    async fn read_with(&self, token: &Secret) -> Result<FetchedReply, String> {
        let path = format!("{}/data/{}", self.vault.mount, self.vault.path);
        self.session.send(Method::GET, &path, Some(token), Bytes::new()).await
    }
}

#[async_trait]
impl Read for Field {
    async fn read(&self) -> Result<Arc<Secret>, Unreadable> {
        self.cache.get(self.fetch()).await
    }

    fn forget(&self) -> bool {
        self.cache.forget()
    }
}

/// What a vault answers to a read.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Version<'a>,
}

#[derive(Deserialize)]
struct Version<'a> {
    /// The other fields are secret too, and stay where they are.
    #[serde(borrow)]
    data: HashMap<String, &'a RawValue>,
}

/// Returns a field of an answer. The errors do not quote it, as those of the parser would.
fn find(answer: &[u8], field: &str) -> Result<Zeroizing<String>, String> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| "the vault answered with something else")?;
    let value = answer.data.data.get(field).ok_or("the secret has no such field")?;
    serde_json::from_str(value.get()).map(Zeroizing::new).map_err(|_| "the field is not a text".into())
}
