//! A guest's HTTP request, parsed once: what passes here is what policies judge, records keep and the network sends.

use std::fmt;

use http::{HeaderMap, Method, header::CONTENT_LENGTH};
use serde::{Deserialize, Serialize};

use super::{
    headers::{self, BadHeader},
    host::{BadHost, Host},
    path::{self, BadPath},
    pattern::{BadPattern, MethodName},
    text::shown,
};

#[cfg(test)]
mod tests;

/// What a guest asked. Nothing in it can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawRequest {
    pub method: String,
    pub scheme: String,
    pub authority: String,
    pub path_with_query: String,
    pub headers: Vec<(String, Vec<u8>)>,
    /// Whether a body follows.
    pub body: bool,
}

/// A request that everybody reads in the same way.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
    /// Begins with `/`, and has one spelling.
    pub path: String,
    /// What comes after `?`.
    pub query: Option<String>,
    /// Without `host` and `content-length`: the daemon writes them.
    pub headers: HeaderMap,
    pub body: bool,
    /// The length that the guest declared for its body.
    pub content_length: Option<u64>,
    /// In lower case, without parameters.
    pub content_type: Option<String>,
}

/// How an upstream is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    Http,
    #[default]
    Https,
}

/// A request that is refused, whatever the rules say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    #[error(transparent)]
    Method(BadPattern),
    #[error("the scheme `{0}` is not spoken: use `https` or `http`")]
    Scheme(String),
    #[error("the authority has `@`: a user or a password in a URL is not sent")]
    UserInfo,
    #[error(transparent)]
    Host(#[from] BadHost),
    #[error("`{0}` is not a port: write 1 to 65535, decimal, no leading zeros")]
    Port(String),
    #[error(transparent)]
    Path(#[from] BadPath),
    #[error(transparent)]
    Header(#[from] BadHeader),
    #[error("`content-length` is {0}, and there is no body")]
    NoBody(u64),
}

impl Request {
    /// Reads a request. Refuses what could be read in two ways, and repairs nothing.
    pub fn parse(raw: RawRequest) -> Result<Self, BadRequest> {
        let method: MethodName = raw.method.parse().map_err(BadRequest::Method)?;
        let scheme = Scheme::parse(&raw.scheme).ok_or_else(|| BadRequest::Scheme(shown(&raw.scheme)))?;
        let (host, port) = parse_authority(&raw.authority)?;
        let (path, query) = path::split(&raw.path_with_query)?;
        let mut headers = headers::parse(&raw.headers)?;
        let content_type = headers::content_type(&headers)?;
        let content_length = headers::content_length(&headers)?;
        headers.remove(CONTENT_LENGTH);
        if let (false, Some(length @ 1..)) = (raw.body, content_length) {
            return Err(BadRequest::NoBody(length));
        }
        Ok(Self {
            method: method.as_method().clone(),
            scheme,
            host,
            port: port.unwrap_or(scheme.port()),
            path: path.into(),
            query: query.map(Into::into),
            headers,
            body: raw.body,
            content_length,
            content_type,
        })
    }

    /// Returns host and port as a `Host` header has them: without the port that the scheme implies.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.port() { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Returns the URL without its query, which can hold secrets.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority(), self.path)
    }
}

impl Scheme {
    /// Returns the port that the scheme implies.
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// Returns the word before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Http, Self::Https].into_iter().find(|scheme| scheme.as_str() == text)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn parse_authority(authority: &str) -> Result<(Host, Option<u16>), BadRequest> {
    if authority.contains('@') {
        return Err(BadRequest::UserInfo);
    }
    // The colons of an IPv6 address are in brackets.
    let end = authority.find(']').map_or(0, |end| end + 1);
    let (host, port) = match authority[end..].split_once(':') {
        Some((rest, port)) => (&authority[..end + rest.len()], Some(parse_port(port)?)),
        None => (authority, None),
    };
    Ok((host.parse()?, port))
}

fn parse_port(text: &str) -> Result<u16, BadRequest> {
    let port = text.parse().ok().filter(|port: &u16| *port > 0 && port.to_string() == text);
    port.ok_or_else(|| BadRequest::Port(shown(text)))
}
