//! What a credential makes of a request.

mod aws;
mod hmac;
mod made;
mod mtls;
mod oauth;
mod plain;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::{Zeroize, Zeroizing};

use super::{
    config::Kind,
    percent,
    scrub::Scrubber,
    secret::Secret,
    source::{Opening, Unreadable},
};
use crate::step::Name;

/// Bytes of a value that is sent. Below, it would be guessed, and found by chance in everything that comes back.
const SENT_BYTES_MIN: usize = 8;

/// Bytes of a value that is sent. Servers take no more in a header, and its encodings take 60 times as much memory.
const SENT_BYTES_MAX: usize = 8 << 10;

/// A request that is about to be sent, as it will be on the wire.
pub struct Signing<'a> {
    pub method: &'a Method,
    pub scheme: &'a str,
    /// As in a URL: IPv6 addresses in brackets.
    pub host: &'a str,
    pub port: u16,
    /// Percent-encoded.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// All of it, if [`Credentials::needs_body`](super::Credentials::needs_body); `None` if there is none.
    pub body: Option<&'a [u8]>,
}

impl Signing<'_> {
    /// Returns the `host` header: without a port that the scheme implies.
    fn authority(&self) -> String {
        match (self.scheme, self.port) {
            ("https", 443) | ("http", 80) => self.host.into(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

/// What is put on a request. It is secret, and goes to the pinned connection only.
#[derive(Clone, Default)]
pub struct Attached {
    /// Replace the request's own of these names. Marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// To append to the query: `name=value`, percent-encoded.
    pub query: Option<Arc<Zeroizing<String>>>,
    pub identity: Option<Arc<ClientIdentity>>,
    /// For everything that comes back.
    pub scrubber: Scrubber,
}

/// A client certificate. Whoever needs the key takes `key.clone_key()`: this one is wiped when it is dropped.
pub struct ClientIdentity {
    /// 64 hex digits, others for other certificates: for the key of a connection pool.
    pub id: String,
    /// The client's own first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Drop for ClientIdentity {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Why a credential was not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("there is no credential `{0}`")]
    Unknown(String),
    #[error("the credential `{0}` is revoked")]
    Revoked(Name),
    /// The guest sent what the credential is for.
    #[error("the request has {what} of its own, and the credential `{name}` sets it: leave it out")]
    Clash { name: Name, what: String },
    /// `why` is for the operator: it names paths, programs and servers, and never a value.
    #[error("the credential `{name}` cannot be read now: its status says why")]
    Unavailable { name: Name, why: String },
}

/// One kind of credential, opened.
#[async_trait]
pub trait Attach: Send + Sync {
    /// Returns what a request with this credential must not have of its own.
    fn sets(&self) -> Sets;

    /// Returns whether the whole body is needed.
    fn needs_body(&self) -> bool {
        false
    }

    /// Returns what is attached to a request, and how often the values changed until now.
    async fn attach(&self, to: &Signing<'_>) -> Result<(Attached, u64), Unreadable>;

    /// Drops every value that can be read again. Returns whether there was one.
    fn forget(&self) -> bool;
}

/// What a credential sets.
#[derive(Default)]
pub struct Sets {
    pub headers: Vec<HeaderName>,
    pub parameters: Vec<String>,
}

impl Sets {
    fn header(name: HeaderName) -> Self {
        Self { headers: vec![name], parameters: Vec::new() }
    }

    /// Returns the first thing that a request has of its own, in words. Any `authorization` is one: what the guest
    /// says of itself must not stand beside what we say.
    pub fn clash(&self, headers: &HeaderMap, query: Option<&str>) -> Option<String> {
        // To many servers an underscore is a hyphen.
        let sent = |name: &HeaderName| headers.keys().any(|sent| sent.as_str().replace('_', "-") == name.as_str());
        let own = self.headers.iter().chain(&[header::AUTHORIZATION]).find(|name| sent(name));
        if let Some(name) = own {
            return Some(format!("the header `{name}`"));
        }
        let names = query.unwrap_or_default().split(['&', ';']).filter_map(|pair| pair.split('=').next());
        let names: Vec<_> = names.map(percent::decode).collect();
        let same = |own: &&String| names.iter().any(|name| name.eq_ignore_ascii_case(own.as_bytes()));
        self.parameters.iter().find(same).map(|name| format!("the query parameter `{name}`"))
    }
}

/// Opens a kind that was checked. The error is in words.
pub fn open(kind: &Kind, opening: &mut Opening<'_>) -> Result<Arc<dyn Attach>, String> {
    Ok(match kind {
        Kind::Bearer { source } => Arc::new(plain::Plain::bearer(opening.open(source)?)),
        Kind::Basic { username, source } => Arc::new(plain::Plain::basic(username.clone(), opening.open(source)?)),
        Kind::Header { header, prefix, source } => {
            Arc::new(plain::Plain::header(name(header)?, prefix.clone(), opening.open(source)?))
        }
        Kind::Query { parameter, source } => Arc::new(plain::Plain::query(parameter.clone(), opening.open(source)?)),
        Kind::Hmac { key_id, source, headers } => {
            Arc::new(hmac::Signer::new(key_id.clone(), headers, opening.open(source)?, opening.clock)?)
        }
        Kind::AwsSigv4 { region, service, keys } => Arc::new(aws::Signer::new(region, service, keys, opening)?),
        Kind::Mtls { certificates, key } => {
            Arc::new(mtls::Client::new(opening.open(certificates)?, opening.open(key)?))
        }
        Kind::OauthClientCredentials { source, .. } => {
            Arc::new(oauth::Client::new(kind, opening.open(source)?, opening)?)
        }
    })
}

fn name(header: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(header).map_err(|_| "a header has a bad name".into())
}

/// Checks a value that is sent.
fn check_sent(value: &Secret) -> Result<(), Unreadable> {
    match value.expose().len() {
        0..SENT_BYTES_MIN => Err(Unreadable(format!("its value has less than {SENT_BYTES_MIN} bytes"))),
        SENT_BYTES_MIN..=SENT_BYTES_MAX => Ok(()),
        _ => Err(Unreadable(format!("its value has more than {SENT_BYTES_MAX} bytes"))),
    }
}

/// Returns what is not secret itself as a header's value: a signature, a time. Nobody needs to see it all the same.
fn marked(text: &str) -> Result<HeaderValue, Unreadable> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Unreadable("a header would be malformed".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the parts, which are secret, as one header's value.
fn sensitive(parts: &[&[u8]]) -> Result<HeaderValue, Unreadable> {
    let value = super::fetch::sensitive(Secret::of(parts).map_err(no_memory)?);
    value.ok_or_else(|| Unreadable("its value has a control character, which no header may have".into()))
}

fn no_memory(e: std::io::Error) -> Unreadable {
    Unreadable(format!("there is no memory for it: {e}"))
}
