//! What the texts of a rule stand for: methods, hosts, paths, media types, headers.

use std::{fmt, str::FromStr};

use http::{HeaderName, Method};
use serde::{Deserialize, Serialize};

use super::{
    headers,
    host::{BadHost, Host},
    path::{self, BadPath},
    text::{as_text, is_token, shown},
};

#[cfg(test)]
mod tests;

/// The longest text of a pattern.
const PATTERN_BYTES_MAX: usize = 1024;

/// The longest name of a method.
const METHOD_BYTES_MAX: usize = 32;

/// A method that can be asked for: upper case, and neither CONNECT nor TRACE nor TRACK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MethodName(Method);

/// A host, or all hosts that have exactly one label to the left of a name: `api.example.com`, `*.example.com`,
/// `10.1.2.3`, `[2001:db8::1]`. That a name is a public suffix, like `co.uk`, is not known here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    Exact(Host),
    /// What comes after `*.`: two labels or more.
    OneLabelOf(String),
}

/// A path of whole segments: `*` stands for one that is not empty, `**` at the end for any rest, also for none. All else
/// is itself, to the case and the slash at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(String);

/// A media type without parameters, or all of a type: `application/json`, `text/*`. Lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediaPattern(String);

/// The name of a header that the daemon may fill: none that belongs to the connection, the body or a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldName(HeaderName);

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    #[error("`{0}` is not a method: write it in upper case, `GET`")]
    Method(String),
    #[error("the method {0} cannot be sent: it is made for proxies")]
    ProxyMethod(String),
    #[error(transparent)]
    Host(#[from] BadHost),
    #[error("`{0}` is not a wildcard: write `*.` before a name of two labels or more, `*.example.com`")]
    Wildcard(String),
    #[error("the path pattern `{text}` can match nothing: {why}")]
    Path { text: String, why: BadPath },
    #[error("`{0}` is not a path pattern: `*` stands for one whole segment, `**` for the rest and only at the end")]
    Star(String),
    #[error("the path pattern `{0}` … is too long: at most {PATTERN_BYTES_MAX} bytes")]
    TooLong(String),
    #[error("`{0}` is not a media type: write `application/json` or `text/*`, lower case, without parameters")]
    Media(String),
    #[error("`{0}` is not a header that can be filled: use a name of its own, like `idempotency-key`")]
    Field(String),
}

impl MethodName {
    pub fn as_method(&self) -> &Method {
        &self.0
    }
}

impl FromStr for MethodName {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let upper = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        if !upper || !text.starts_with(|c: char| c.is_ascii_uppercase()) || text.len() > METHOD_BYTES_MAX {
            return Err(BadPattern::Method(shown(text)));
        }
        if let "CONNECT" | "TRACE" | "TRACK" = text {
            return Err(BadPattern::ProxyMethod(text.into()));
        }
        Method::from_bytes(text.as_bytes()).map(Self).map_err(|_| BadPattern::Method(shown(text)))
    }
}

impl HostPattern {
    /// Returns whether the pattern stands for `host`.
    pub fn admits(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(exact), host) => exact == host,
            (Self::OneLabelOf(name), Host::Name(host)) => {
                let left = host.strip_suffix(name.as_str()).and_then(|left| left.strip_suffix('.'));
                left.is_some_and(|left| !left.contains('.'))
            }
            (Self::OneLabelOf(_), Host::V4(_) | Host::V6(_)) => false,
        }
    }

    /// Returns whether the pattern stands for names, which are to be looked up.
    pub fn is_named(&self) -> bool {
        !matches!(self, Self::Exact(Host::V4(_) | Host::V6(_)))
    }

    /// Returns whether every host that the pattern stands for is one of `outer`.
    pub fn within(&self, outer: &Self) -> bool {
        match self {
            Self::Exact(host) => outer.admits(host),
            Self::OneLabelOf(_) => self == outer,
        }
    }
}

impl FromStr for HostPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let Some(name) = text.strip_prefix("*.") else {
            // A star elsewhere deserves a better answer than that it is no host.
            let star = text.contains('*');
            return if star { Err(BadPattern::Wildcard(shown(text))) } else { Ok(Self::Exact(text.parse()?)) };
        };
        match name.parse()? {
            Host::Name(name) if name.contains('.') => Ok(Self::OneLabelOf(name)),
            _ => Err(BadPattern::Wildcard(shown(text))),
        }
    }
}

impl PathPattern {
    /// Returns whether the pattern stands for `path`, which is in its normal form.
    pub fn admits(&self, path: &str) -> bool {
        let (mut parts, mut segments) = (self.0.split('/'), path.split('/'));
        loop {
            match (parts.next(), segments.next()) {
                (Some("**"), _) | (None, None) => return true,
                (Some("*"), Some(segment)) if !segment.is_empty() => {}
                (Some(part), Some(segment)) if part == segment => {}
                _ => return false,
            }
        }
    }
}

impl FromStr for PathPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(BadPattern::TooLong(shown(text)));
        }
        let fixed = text.strip_suffix("**").filter(|fixed| fixed.ends_with('/')).unwrap_or(text);
        if fixed.split('/').any(|part| part.contains('*') && part != "*") {
            return Err(BadPattern::Star(shown(text)));
        }
        // A star is a character of paths, so what is left is judged as a path: in another form it would match nothing.
        path::check(fixed).map_err(|why| BadPattern::Path { text: shown(text), why })?;
        Ok(Self(text.into()))
    }
}

impl MediaPattern {
    /// Returns whether the pattern stands for `media_type`, which has no parameters and is in lower case.
    pub fn admits(&self, media_type: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => media_type.starts_with(start),
            None => media_type == self.0,
        }
    }
}

impl FromStr for MediaPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let is =
            |half: &str| !half.is_empty() && half.bytes().all(|b| is_token(b) && b != b'*' && !b.is_ascii_uppercase());
        match text.split_once('/') {
            Some((kind, part)) if text.len() <= PATTERN_BYTES_MAX && is(kind) && (part == "*" || is(part)) => {
                Ok(Self(text.into()))
            }
            _ => Err(BadPattern::Media(shown(text))),
        }
    }
}

impl FieldName {
    pub fn as_header(&self) -> &HeaderName {
        &self.0
    }
}

impl FromStr for FieldName {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| BadPattern::Field(shown(text)))?;
        if text.len() > PATTERN_BYTES_MAX || headers::is_forbidden_trailer(&name) {
            return Err(BadPattern::Field(shown(text)));
        }
        Ok(Self(name))
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => host.fmt(f),
            Self::OneLabelOf(name) => write!(f, "*.{name}"),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MediaPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

as_text!(
    MethodName: BadPattern,
    HostPattern: BadPattern,
    PathPattern: BadPattern,
    MediaPattern: BadPattern,
    FieldName: BadPattern
);
