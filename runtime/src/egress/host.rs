//! The host of a URL, in the one form in which we take it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::text::{as_text, shown};

#[cfg(test)]
mod tests;

/// The longest name that DNS has, without the dot at its end.
const NAME_BYTES_MAX: usize = 253;

/// A host: a name in A-labels, lower case, without a trailing dot, or an IP address. It is written as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    Name(String),
    V4(Ipv4Addr),
    /// Written in brackets.
    V6(Ipv6Addr),
}

/// A text that is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    #[error("the host is empty")]
    Empty,
    #[error(
        "the host `{0}` is not a host name: use labels of a-z, 0-9 and `-` with dots between them, no dot at the end"
    )]
    NotAName(String),
    #[error("the host `{given}` is not in its normal form: write `{normal}`")]
    NotNormal { given: String, normal: String },
    #[error(
        "the host `{0}` ends in a number and is not an IPv4 address: write all four numbers, decimal, no leading zeros"
    )]
    NotV4(String),
    #[error("the host `{0}` is not an IPv6 address in brackets, without a zone")]
    NotV6(String),
}

impl Host {
    /// Returns the address, if the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(v4) => Some((*v4).into()),
            Self::V6(v6) => Some((*v6).into()),
        }
    }
}

impl FromStr for Host {
    type Err = BadHost;

    /// Takes a host only in its normal form: what a resolver, a certificate, a log and a person see is the same text.
    fn from_str(text: &str) -> Result<Self, BadHost> {
        if text.is_empty() {
            return Err(BadHost::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(BadHost::NotAName(shown(text)));
        }
        if text.starts_with('[') {
            let v6 = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')?.parse().ok());
            return normal(text, Self::V6(v6.ok_or_else(|| BadHost::NotV6(shown(text)))?));
        }
        // UTS-46 maps look-alikes of digits and dots to digits and dots: it comes before the look at what is a number.
        let name = idna::domain_to_ascii_strict(text).map_err(|_| BadHost::NotAName(shown(text)))?;
        if !ends_in_a_number(&name) {
            return normal(text, Self::Name(name));
        }
        normal(text, Self::V4(name.parse().map_err(|_| BadHost::NotV4(shown(text)))?))
    }
}

/// Refuses a host that is not written as we write it.
fn normal(text: &str, host: Host) -> Result<Host, BadHost> {
    let normal = host.to_string();
    if normal == text { Ok(host) } else { Err(BadHost::NotNormal { given: shown(text), normal: shown(&normal) }) }
}

/// Returns whether the last label is a number to somebody: decimal, octal, or hexadecimal after `0x`. Whatever
/// `getaddrinfo` or a browser takes for an IPv4 address ends so.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let decimal = last.bytes().all(|byte| byte.is_ascii_digit());
    decimal || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(v4) => v4.fmt(f),
            Self::V6(v6) => write!(f, "[{v6}]"),
        }
    }
}

as_text!(Host: BadHost);
