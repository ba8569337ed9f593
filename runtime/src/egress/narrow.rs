//! What a tenant or an agent takes of a rule: never more than there is.

use serde::{Deserialize, Serialize};

use super::{
    pattern::{HostPattern, MediaPattern, MethodName, PathPattern},
    rule::{self, BadRule, Rate, Timeouts},
};
use crate::step::Name;

#[cfg(test)]
mod tests;

/// One `[[egress]]` table of a tenant's `egress.toml` or of a manifest. What it leaves out stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Narrow {
    pub rule: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostPattern>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<MethodName>>,
    /// A path must match one of these, and one of every level above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<PathPattern>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,
    /// As with paths, a type must match one of these, and one of every level above that has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_types: Option<Vec<MediaPattern>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_types: Option<Vec<MediaPattern>>,
    #[serde(default, skip_serializing_if = "NarrowTimeouts::is_empty")]
    pub timeouts: NarrowTimeouts,
    /// Holds beside the rates of the levels above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// The one that requests carry. No level below can pick another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Name>,
}

/// The time-outs that are to be shorter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NarrowTimeouts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u64>,
}

/// A table that asks for more than the levels above give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNarrow {
    #[error("it names the rule `{asked}`, and narrows `{rule}`")]
    OtherRule { asked: Name, rule: Name },
    #[error("`host` is `{asked}`, which is not within `{given}`")]
    Host { asked: HostPattern, given: HostPattern },
    #[error("`methods` has {asked}: the rule `{rule}` does not give it")]
    Method { asked: MethodName, rule: Name },
    #[error("`credential` is `{asked}`: the rule `{rule}` does not list it")]
    Credential { asked: Name, rule: Name },
    #[error("`credential` is `{asked}`: it is `{given}` already, on the level above")]
    OtherCredential { asked: Name, given: Name },
    #[error("`{key}` is {asked}: at most {given} is given, and at least 1")]
    More { key: &'static str, asked: u64, given: u64 },
    #[error(transparent)]
    Bad(#[from] BadRule),
}

impl Narrow {
    /// Takes the whole of a rule.
    pub fn nothing(rule: Name) -> Self {
        Self {
            rule,
            host: None,
            methods: None,
            paths: None,
            request_bytes: None,
            response_bytes: None,
            request_types: None,
            response_types: None,
            timeouts: NarrowTimeouts::default(),
            rate: None,
            concurrency: None,
            credential: None,
        }
    }

    /// Finds the first problem that no rule could help.
    pub(super) fn check(&self) -> Result<(), BadRule> {
        self.methods.as_deref().map_or(Ok(()), |methods| rule::check_some("methods", methods))?;
        self.paths.as_deref().map_or(Ok(()), |paths| rule::check_some("paths", paths))?;
        self.request_types.as_deref().map_or(Ok(()), |types| rule::check_some("request_types", types))?;
        self.response_types.as_deref().map_or(Ok(()), |types| rule::check_some("response_types", types))?;
        self.rate.map_or(Ok(()), |rate| rate.check())?;
        self.concurrency.map_or(Ok(()), rule::check_concurrency)
    }
}

impl NarrowTimeouts {
    /// Returns `given`, shortened.
    pub(super) fn shorten(&self, given: Timeouts) -> Result<Timeouts, BadNarrow> {
        Ok(Timeouts {
            connect_ms: at_most("timeouts.connect_ms", self.connect_ms, given.connect_ms)?,
            first_byte_ms: at_most("timeouts.first_byte_ms", self.first_byte_ms, given.first_byte_ms)?,
            idle_ms: at_most("timeouts.idle_ms", self.idle_ms, given.idle_ms)?,
            total_ms: at_most("timeouts.total_ms", self.total_ms, given.total_ms)?,
        })
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Returns what holds where `asked` narrows `given`.
pub(super) fn at_most(key: &'static str, asked: Option<u64>, given: u64) -> Result<u64, BadNarrow> {
    match asked {
        None => Ok(given),
        Some(asked) if (1..=given).contains(&asked) => Ok(asked),
        Some(asked) => Err(BadNarrow::More { key, asked, given }),
    }
}
