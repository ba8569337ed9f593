//! The rules of the operator: where requests may go at all, and how.

use std::time::Duration;

use http::Method;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    address::{self, Forbidden},
    pattern::{FieldName, HostPattern, MediaPattern, MethodName, PathPattern},
    request::Scheme,
};
use crate::step::{Effect, Name};

#[cfg(test)]
mod tests;

/// One `[[egress]]` table of the configuration. What `check` has passed can be made a `Route`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub name: Name,
    #[serde(default)]
    pub scheme: Scheme,
    pub host: HostPattern,
    /// The scheme's, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(default = "read_methods")]
    pub methods: Vec<MethodName>,
    #[serde(default = "every_path")]
    pub paths: Vec<PathPattern>,
    #[serde(default = "request_bytes")]
    pub request_bytes: u64,
    #[serde(default = "response_bytes")]
    pub response_bytes: u64,
    /// What a body may be; anything, if there are none.
    #[serde(default)]
    pub request_types: Vec<MediaPattern>,
    #[serde(default)]
    pub response_types: Vec<MediaPattern>,
    #[serde(default)]
    pub timeouts: Timeouts,
    #[serde(default)]
    pub rate: Rate,
    /// Requests that are under way at the same time.
    #[serde(default = "concurrency")]
    pub concurrency: u32,
    /// What every request does; its method tells, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    #[serde(default)]
    pub labels: Vec<Name>,
    /// The credentials of which a grant may pick one.
    #[serde(default)]
    pub credentials: Vec<Name>,
    /// The header that the daemon fills with the call's effect id. A request that carries it may be sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_header: Option<FieldName>,
    /// Special-purpose addresses that the host may have all the same.
    #[serde(default)]
    pub cidrs: Vec<IpNet>,
}

/// How long an exchange and its parts may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To resolve, to connect and to shake hands.
    pub connect_ms: u64,
    /// From the request's last byte to the response's first.
    pub first_byte_ms: u64,
    /// Between two pieces of a body.
    pub idle_ms: u64,
    pub total_ms: u64,
}

/// How many requests may start within a window of so many seconds. A window begins with the first request after the last
/// one, so around its end twice as many can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub requests: u64,
    pub seconds: u64,
}

/// A rule that cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    #[error("`{key}` is {value}: it must be at least 1 and at most {max}")]
    OutOfRange { key: &'static str, value: u64, max: u64 },
    #[error("`{key}` is empty: nothing would be allowed")]
    Empty { key: &'static str },
    #[error("`{key}` has {count} entries: at most {LIST_MAX}")]
    TooMany { key: &'static str, count: usize },
    #[error("`cidrs` has `{0}`, which is not in its normal form: write `{1}`")]
    CidrNotNormal(IpNet, IpNet),
    #[error("`cidrs` has `{0}`, which is no special-purpose network: list `/{1}` or longer")]
    CidrTooWide(IpNet, u8),
    #[error("`cidrs` has `{0}`, which no address is compared with: list the IPv4 network")]
    CidrMapped(IpNet),
    #[error("`host` can never be reached: {0}")]
    Host(Forbidden),
}

/// Entries of any list of a rule.
const LIST_MAX: usize = 64;

const REQUEST_BYTES_MAX: u64 = 1 << 30;
const RESPONSE_BYTES_MAX: u64 = 16 << 30;
const TIMEOUT_MS_MAX: u64 = 3_600_000;
const REQUESTS_MAX: u64 = 1_000_000_000;
const SECONDS_MAX: u64 = 86_400;
const CONCURRENCY_MAX: u64 = 10_000;

impl Rule {
    /// Finds the first problem.
    pub fn check(&self) -> Result<(), BadRule> {
        check_some("methods", &self.methods)?;
        check_some("paths", &self.paths)?;
        check_count("request_types", &self.request_types)?;
        check_count("response_types", &self.response_types)?;
        check_count("labels", &self.labels)?;
        check_count("credentials", &self.credentials)?;
        check_count("cidrs", &self.cidrs)?;
        within("port", self.port().into(), u16::MAX.into())?;
        within("request_bytes", self.request_bytes, REQUEST_BYTES_MAX)?;
        within("response_bytes", self.response_bytes, RESPONSE_BYTES_MAX)?;
        for (key, value) in self.timeouts.keys() {
            within(key, value, TIMEOUT_MS_MAX)?;
        }
        self.rate.check()?;
        check_concurrency(self.concurrency)?;
        self.cidrs.iter().try_for_each(check_cidr)?;
        match &self.host {
            HostPattern::Exact(host) => {
                let allowed = |ip| address::allowed(ip, &self.cidrs, &[], self.port());
                host.address().map_or(Ok(()), allowed).map_err(BadRule::Host)
            }
            HostPattern::OneLabelOf(_) => Ok(()),
        }
    }

    /// Returns whether a credential can leave this machine without TLS.
    pub fn sends_in_clear(&self) -> bool {
        let here = matches!(&self.host, HostPattern::Exact(host) if host.address().is_some_and(|ip| ip.is_loopback()));
        self.scheme == Scheme::Http && !self.credentials.is_empty() && !here
    }

    /// Returns the port that the rule is about.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(self.scheme.port())
    }

    /// Returns what a request with this method does.
    pub fn effect(&self, method: &Method) -> Effect {
        self.effect.unwrap_or(match *method {
            Method::GET | Method::HEAD | Method::OPTIONS => Effect::Read,
            Method::DELETE => Effect::Destroy,
            _ => Effect::ExternalSend,
        })
    }
}

impl Timeouts {
    pub fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    pub fn first_byte(&self) -> Duration {
        Duration::from_millis(self.first_byte_ms)
    }

    pub fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    pub fn total(&self) -> Duration {
        Duration::from_millis(self.total_ms)
    }

    fn keys(&self) -> [(&'static str, u64); 4] {
        [
            ("timeouts.connect_ms", self.connect_ms),
            ("timeouts.first_byte_ms", self.first_byte_ms),
            ("timeouts.idle_ms", self.idle_ms),
            ("timeouts.total_ms", self.total_ms),
        ]
    }
}

impl Rate {
    pub(super) fn check(&self) -> Result<(), BadRule> {
        within("rate.requests", self.requests, REQUESTS_MAX)?;
        within("rate.seconds", self.seconds, SECONDS_MAX)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 5_000, first_byte_ms: 30_000, idle_ms: 15_000, total_ms: 120_000 }
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self { requests: 600, seconds: 60 }
    }
}

/// Refuses a list that allows nothing, or is too long.
pub(super) fn check_some<T>(key: &'static str, list: &[T]) -> Result<(), BadRule> {
    if list.is_empty() { Err(BadRule::Empty { key }) } else { check_count(key, list) }
}

pub(super) fn check_count<T>(key: &'static str, list: &[T]) -> Result<(), BadRule> {
    if list.len() > LIST_MAX { Err(BadRule::TooMany { key, count: list.len() }) } else { Ok(()) }
}

pub(super) fn check_concurrency(concurrency: u32) -> Result<(), BadRule> {
    within("concurrency", concurrency.into(), CONCURRENCY_MAX)
}

pub(super) fn within(key: &'static str, value: u64, max: u64) -> Result<(), BadRule> {
    if (1..=max).contains(&value) { Ok(()) } else { Err(BadRule::OutOfRange { key, value, max }) }
}

fn check_cidr(cidr: &IpNet) -> Result<(), BadRule> {
    // No block of private addresses is wider.
    let shortest = match cidr {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 7,
    };
    if *cidr != cidr.trunc() {
        Err(BadRule::CidrNotNormal(*cidr, cidr.trunc()))
    } else if cidr.prefix_len() < shortest {
        Err(BadRule::CidrTooWide(*cidr, shortest))
    } else if cidr.addr() != cidr.addr().to_canonical() {
        Err(BadRule::CidrMapped(*cidr))
    } else {
        Ok(())
    }
}

fn read_methods() -> Vec<MethodName> {
    ["GET", "HEAD"].iter().filter_map(|method| method.parse().ok()).collect()
}

fn every_path() -> Vec<PathPattern> {
    "/**".parse().into_iter().collect()
}

fn request_bytes() -> u64 {
    1 << 20
}

fn response_bytes() -> u64 {
    8 << 20
}

fn concurrency() -> u32 {
    16
}
