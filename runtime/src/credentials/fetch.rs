//! How token servers and vaults are reached: whoever opens the credentials lends a way.

use std::{io, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use zeroize::Zeroize;

use super::secret::Secret;

/// Bytes of an answer's body.
pub const REPLY_BYTES_MAX: usize = 256 << 10;

/// How long an answer may take, all in all.
pub const REPLY_TIME_MAX: Duration = Duration::from_secs(10);

/// Sends a request of our own. It must follow no redirect, answer within [`REPLY_TIME_MAX`], and read no more than
/// [`REPLY_BYTES_MAX`] of the body.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// Returns the answer whatever its status. The error is in words for the operator, and without what was sent.
    async fn fetch(&self, request: Fetched) -> Result<FetchedReply, String>;
}

/// A request. Its headers and its body hold secrets.
pub struct Fetched {
    pub method: Method,
    /// `https`, or `http` to a loopback address. Without anything secret.
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer. Its body holds secrets.
pub struct FetchedReply {
    pub status: u16,
    pub body: Bytes,
}

impl Drop for FetchedReply {
    fn drop(&mut self) {
        // Best effort: somebody else may hold the bytes too.
        if let Ok(mut body) = std::mem::take(&mut self.body).try_into_mut() {
            body.zeroize();
        }
    }
}

/// Returns a header's value that is in a secret's pages, and marked sensitive. `None`: the value has bytes that no
/// header may have.
pub fn sensitive(secret: Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(secret)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns the parts as a body in a secret's pages.
pub fn body(parts: &[&[u8]]) -> io::Result<Bytes> {
    Ok(Bytes::from_owner(Secret::of(parts)?))
}
