//! A login to a vault, shared by the sources that log in alike.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::super::{Read, Unreadable, value_of};
use crate::credentials::{
    cache::{Cache, Clock, Fresh},
    config::{Vault, VaultAuth},
    fetch::{self, Fetch, Fetched, FetchedReply, REPLY_BYTES_MAX, REPLY_TIME_MAX},
    secret::Secret,
};

const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE_HEADER: HeaderName = HeaderName::from_static("x-vault-namespace");

/// What a server must see of a request that it should answer itself, and not a cache.
const REQUEST_HEADER: HeaderName = HeaderName::from_static("x-vault-request");

/// A login. It renews its token, or logs in again, when a third of the token's life is left.
pub struct Session {
    vault: Vault,
    /// The token, the secret id or the JWT.
    source: Arc<dyn Read>,
    fetch: Arc<dyn Fetch>,
    cache: Cache<Token>,
}

/// What a login gives.
pub struct Token {
    pub secret: Arc<Secret>,
    renewable: bool,
}

/// What a vault answers to a login and to a renewal.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    auth: Auth<'a>,
}

#[derive(Deserialize)]
struct Auth<'a> {
    #[serde(borrow)]
    client_token: Cow<'a, str>,
    /// Seconds. Zero: it does not expire.
    lease_duration: u64,
    renewable: bool,
}

impl Session {
    /// Returns the login of `vault`, whose secret is in `source`.
    pub fn new(vault: Vault, source: Arc<dyn Read>, fetch: Arc<dyn Fetch>, clock: Clock) -> Self {
        Self { vault, source, fetch, cache: Cache::new(clock) }
    }

    /// Returns a token that is good now, as far as we know.
    pub async fn token(&self) -> Result<Arc<Token>, String> {
        if let VaultAuth::Token(_) = self.vault.auth {
            let secret = self.source.read().await.map_err(|why| why.0)?;
            return Ok(Arc::new(Token { secret, renewable: false }));
        }
        self.cache.get(self.renew_or_log_in()).await.map_err(|why| why.0)
    }

    /// Says that the vault refused a token: the next one comes from a login.
    pub fn forget(&self, token: &Arc<Token>) {
        self.cache.forget_this(token);
    }

    /// Sends a request to `/v1/<path>`.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&Secret>,
        body: Bytes,
    ) -> Result<FetchedReply, String> {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_HEADER, HeaderValue::from_static("true"));
        if !body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(namespace) = &self.vault.namespace {
            headers.insert(NAMESPACE_HEADER, HeaderValue::from_str(namespace).map_err(|e| e.to_string())?);
        }
        if let Some(token) = token {
            let token = Secret::of(&[token.expose()]).map_err(|e| e.to_string())?;
            headers.insert(TOKEN_HEADER, fetch::sensitive(token).ok_or("the token is not fit for a header")?);
        }
        let url = format!("{}/v1/{path}", self.vault.address.trim_end_matches('/'));
        let sent = self.fetch.fetch(Fetched { method, url, headers, body });
        let reply =
            tokio::time::timeout(REPLY_TIME_MAX, sent).await.map_err(|_| "the vault did not answer in time")??;
        if reply.body.len() > REPLY_BYTES_MAX {
            return Err(format!("the vault's answer has more than {REPLY_BYTES_MAX} bytes"));
        }
        Ok(reply)
    }

    async fn renew_or_log_in(&self) -> Result<Fresh<Token>, Unreadable> {
        // A renewal spares a secret id that can be used a few times only. It fails when the token is too old.
        if let Some(old) = self.cache.last().filter(|token| token.renewable)
            && let Ok(reply) = self.send(Method::POST, "auth/token/renew-self", Some(&old.secret), body(&[b"{}"])?).await
            && let Ok(fresh) = fresh(&reply)
            // Near its end, a renewal gives almost nothing.
            && fresh.life > REPLY_TIME_MAX
        {
            return Ok(fresh);
        }
        self.log_in().await.map_err(|why| Unreadable(format!("the login failed: {why}")))
    }

    async fn log_in(&self) -> Result<Fresh<Token>, String> {
        let (mount, public, private) = match &self.vault.auth {
            VaultAuth::Token(_) => return Err("there is none".into()),
            VaultAuth::Approle { role_id, mount, .. } => (mount, ("role_id", role_id), "secret_id"),
            VaultAuth::Jwt { role, mount, .. } => (mount, ("role", role), "jwt"),
        };
        let secret = self.source.read().await.map_err(|why| why.0)?;
        let secret = std::str::from_utf8(secret.expose()).map_err(|_| format!("the {private} is not a text"))?;
        let secret = Zeroizing::new(serde_json::to_string(secret).map_err(|e| e.to_string())?);
        let name = serde_json::to_string(public.1).map_err(|e| e.to_string())?;
        let text = format!("{{\"{}\":{name},\"{private}\":", public.0);
        let body = body(&[text.as_bytes(), secret.as_bytes(), b"}"]).map_err(|why| why.0)?;
        let reply = self.send(Method::POST, &format!("auth/{mount}/login"), None, body).await?;
        match reply.status {
            200 => fresh(&reply),
            400 | 403 => Err(format!("the vault refused the {private} or the {}", public.0)),
            404 => Err(format!("nothing is mounted at `{mount}`")),
            status => Err(format!("the vault answered with status {status}")),
        }
    }
}

fn fresh(reply: &FetchedReply) -> Result<Fresh<Token>, String> {
    if reply.status != 200 {
        return Err(format!("the vault answered with status {}", reply.status));
    }
    let Answer { auth } =
        serde_json::from_slice::<Answer>(&reply.body).map_err(|_| "the vault answered with something else")?;
    let secret = Arc::new(value_of(auth.client_token.as_bytes()).map_err(|why| format!("the token {why}"))?);
    let life = match auth.lease_duration {
        0 => Duration::MAX,
        seconds => Duration::from_secs(seconds),
    };
    Ok(Fresh { value: Arc::new(Token { secret, renewable: auth.renewable }), life, renew: life / 3 * 2 })
}

fn body(parts: &[&[u8]]) -> Result<Bytes, Unreadable> {
    fetch::body(parts).map_err(|e| Unreadable(format!("no memory: {e}")))
}
