//! A hold: what is done to whom, by whom, why, and for how long.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::scope::Scope;
use crate::step::Digest;

/// Bytes of the longest reason.
pub const REASON_BYTES_MAX: usize = 1024;

/// Bytes of the longest name of whoever imposed it.
pub const BY_BYTES_MAX: usize = 256;

/// Records that a hold can name.
pub const RECORDS_MAX: usize = 64;

/// What is done to a scope. Operators impose the first four, containment rules the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// What runs is stopped, calls are cut off, nothing new begins.
    Kill,
    /// Calls wait until it is lifted, nothing new begins.
    Freeze,
    /// What runs goes on, nothing new begins.
    Cordon,
    /// As cordon; and what still runs after a while is stopped.
    Drain,
    /// No call is made, nothing new begins.
    Quarantine,
    /// Only calls that change nothing are made.
    ReadOnly,
    /// Calls are made no faster.
    Throttle { per_minute: u32 },
}

/// One hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// `holds/<128-bit id>`.
    pub id: String,
    pub action: Action,
    pub scope: Scope,
    /// 1 to 1,024 bytes.
    pub reason: String,
    /// The caller, or `containment/<rule>`: 1 to 256 bytes.
    pub by: String,
    /// Milliseconds since 1970.
    pub since_ms: u64,
    /// Milliseconds since 1970 from which it holds no more. None: until it is lifted.
    pub until_ms: Option<u64>,
    /// Numbers of the journal's records that triggered it, at most 64.
    pub records: Vec<u64>,
}

/// A hold that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHold {
    #[error("`reason` has {0} bytes: say in 1 to {REASON_BYTES_MAX} bytes why")]
    Reason(usize),
    #[error("`by` has {0} bytes: it must have 1 to {BY_BYTES_MAX}")]
    By(usize),
    #[error("it names {0} records; at most {RECORDS_MAX} are allowed")]
    Records(usize),
    #[error("`per_minute` must be at least 1: quarantine whoever may make no call")]
    PerMinute,
}

impl Action {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Cordon => "cordon",
            Self::Drain => "drain",
            Self::Quarantine => "quarantine",
            Self::ReadOnly => "read-only",
            Self::Throttle { .. } => "throttle",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Hold {
    /// Returns whether it holds at a time.
    pub fn in_force(&self, now_ms: u64) -> bool {
        self.until_ms.is_none_or(|until_ms| now_ms < until_ms)
    }

    /// Returns whether it holds longer than another.
    pub(super) fn ends_after(&self, other: &Self) -> bool {
        other.until_ms.is_some_and(|other| self.until_ms.is_none_or(|own| own > other))
    }

    /// Returns whether a containment rule imposed it.
    pub fn of_containment(&self) -> bool {
        self.by.starts_with("containment/")
    }

    pub(super) fn check(&self) -> Result<(), BadHold> {
        match self {
            Self { reason, .. } if !(1..=REASON_BYTES_MAX).contains(&reason.len()) => {
                Err(BadHold::Reason(reason.len()))
            }
            Self { by, .. } if !(1..=BY_BYTES_MAX).contains(&by.len()) => Err(BadHold::By(by.len())),
            Self { records, .. } if records.len() > RECORDS_MAX => Err(BadHold::Records(records.len())),
            Self { action: Action::Throttle { per_minute: 0 }, .. } => Err(BadHold::PerMinute),
            _ => Ok(()),
        }
    }
}

/// Returns the id of the hold that `by` asks for with `request_id`: the same for the same, so that who asks once more
/// after a lost answer has one hold and not two.
pub fn hold_id(by: &str, request_id: &str) -> String {
    let mut hex = Digest::of(format!("{by}\n{request_id}").as_bytes()).hex();
    hex.truncate(32);
    format!("holds/{hex}")
}
