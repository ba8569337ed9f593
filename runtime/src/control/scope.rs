//! What a hold is about, by its resource name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    egress::{BadHost, Host},
    step::{BadDigest, BadName, Digest, Name, ToolName, Version},
};

/// Hex digits of a step's id.
const STEP_DIGITS: usize = 32;

/// What a hold is about, written as the name of that resource. What runs is held by who runs it; what is called, by what
/// the call needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// `steps/<id>`, whole.
    Step(String),
    /// `jobs/<name>`: the job of that name of every tenant. `tenants/<name>/jobs/<name>`: of one.
    Job { tenant: Option<Name>, job: Name },
    /// `agents/<name>` or `agents/<name>@<version>`, for every tenant; behind `tenants/<name>/`, for one.
    Agent { tenant: Option<Name>, name: Name, version: Option<Version> },
    /// `components/<digest>`, as a step and as a tool.
    Component(Digest),
    /// `tools/<name>` or `tools/<name>@<version>`.
    Tool { name: ToolName, version: Option<Version> },
    /// `credentials/<name>`: requests that carry it.
    Credential(Name),
    /// `rules/<name>`: requests that the egress rule admits.
    Rule(Name),
    /// `hosts/<host>`, as a URL has it in its normal form. `hosts/*.<name>` stands for every name below that one, at any
    /// depth: wider than the star of a rule, so that nothing slips by.
    Host(String),
    /// `callers/<caller>`: steps that the caller started.
    Caller(String),
    /// `tenants/<name>`.
    Tenant(Name),
    /// `node`: everything.
    Node,
}

impl Scope {
    /// Returns the tenant outside which it covers nothing.
    pub fn tenant(&self) -> Option<&Name> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            Self::Job { tenant, .. } | Self::Agent { tenant, .. } => tenant.as_ref(),
            _ => None,
        }
    }
}

/// A text that names nothing that can be held.
#[derive(Debug, thiserror::Error)]
pub enum BadScope {
    #[error(
        "`{0}` names nothing that can be held: write node, tenants/NAME, callers/CALLER, agents/NAME[@VERSION], jobs/NAME, steps/ID, components/DIGEST, tools/NAME[@VERSION], credentials/NAME, rules/NAME or hosts/HOST"
    )]
    Unknown(String),
    #[error("`{0}` is not a step: write `steps/` and all 32 hex digits of its id")]
    Step(String),
    #[error("`{0}` is not a caller: write `unix:` and a user's number, or `loopback`")]
    Caller(String),
    #[error(transparent)]
    Name(#[from] BadName),
    #[error(transparent)]
    Digest(#[from] BadDigest),
    #[error("{0}; or `*.` and a name, for all names below it")]
    Host(#[from] BadHost),
}

/// Returns whether a text names a caller as records do: `unix:<uid>` or `loopback`.
pub fn is_caller(text: &str) -> bool {
    let uid = text.strip_prefix("unix:").and_then(|uid| Some((uid, uid.parse::<u32>().ok()?)));
    text == "loopback" || uid.is_some_and(|(text, uid)| text == uid.to_string())
}

impl FromStr for Scope {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Self, BadScope> {
        if text == "node" {
            return Ok(Self::Node);
        }
        let unknown = || BadScope::Unknown(shown(text));
        let (collection, rest) = text.split_once('/').ok_or_else(unknown)?;
        match collection {
            "tenants" => match rest.split_once('/') {
                None => Ok(Self::Tenant(rest.parse()?)),
                Some((tenant, within)) => of_tenant(Some(tenant.parse()?), within, unknown),
            },
            "agents" | "jobs" => of_tenant(None, text, unknown),
            "steps" => {
                let digits = rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                let whole = digits && rest.len() == STEP_DIGITS;
                if whole { Ok(Self::Step(text.into())) } else { Err(BadScope::Step(shown(text))) }
            }
            "components" => Ok(Self::Component(rest.parse()?)),
            "tools" => {
                let (name, version) = versioned(rest)?;
                Ok(Self::Tool { name: name.parse()?, version })
            }
            "credentials" => Ok(Self::Credential(rest.parse()?)),
            "rules" => Ok(Self::Rule(rest.parse()?)),
            "hosts" => host(rest),
            "callers" if is_caller(rest) => Ok(Self::Caller(rest.into())),
            "callers" => Err(BadScope::Caller(shown(rest))),
            _ => Err(unknown()),
        }
    }
}

fn of_tenant(tenant: Option<Name>, text: &str, unknown: impl Fn() -> BadScope) -> Result<Scope, BadScope> {
    match text.split_once('/') {
        Some(("jobs", job)) => Ok(Scope::Job { tenant, job: job.parse()? }),
        Some(("agents", agent)) => {
            let (name, version) = versioned(agent)?;
            Ok(Scope::Agent { tenant, name: name.parse()?, version })
        }
        _ => Err(unknown()),
    }
}

fn versioned(text: &str) -> Result<(&str, Option<Version>), BadName> {
    match text.split_once('@') {
        Some((name, version)) => Ok((name, Some(version.parse()?))),
        None => Ok((text, None)),
    }
}

/// Reads a host only in the form that requests are compared in: a hold that matches nothing would hold nothing.
fn host(text: &str) -> Result<Scope, BadScope> {
    let host = text.strip_prefix("*.").unwrap_or(text);
    match (host.parse::<Host>()?, host.len() == text.len()) {
        (Host::Name(_), _) | (_, true) => Ok(Scope::Host(text.into())),
        (Host::V4(_) | Host::V6(_), false) => Err(BadHost::NotAName(shown(text)).into()),
    }
}

/// Cuts a text for a message, and escapes what only looks like something else.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Job { tenant: Some(tenant), .. } | Self::Agent { tenant: Some(tenant), .. } = self {
            write!(f, "tenants/{tenant}/")?;
        }
        if let Self::Agent { version: Some(version), name, .. } = self {
            return write!(f, "agents/{name}@{version}");
        }
        match self {
            Self::Step(step) => f.write_str(step),
            Self::Job { job, .. } => write!(f, "jobs/{job}"),
            Self::Agent { name, .. } => write!(f, "agents/{name}"),
            Self::Component(digest) => write!(f, "components/{digest}"),
            Self::Tool { name, version: Some(version) } => write!(f, "tools/{name}@{version}"),
            Self::Tool { name, version: None } => write!(f, "tools/{name}"),
            Self::Credential(name) => write!(f, "credentials/{name}"),
            Self::Rule(name) => write!(f, "rules/{name}"),
            Self::Host(host) => write!(f, "hosts/{host}"),
            Self::Caller(caller) => write!(f, "callers/{caller}"),
            Self::Tenant(name) => write!(f, "tenants/{name}"),
            Self::Node => f.write_str("node"),
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = BadScope;

    fn try_from(text: String) -> Result<Self, BadScope> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}
