//! What an operator asks for, and the evidence that comes back.

use std::{sync::Arc, time::Duration};

use super::{
    hold::{Action, Hold},
    scope::Scope,
};
use crate::step::Name;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Order {
    /// `holds/<128-bit id>`: of a hold that there is, the same is done once more to whatever is left.
    pub id: String,
    pub action: Action,
    pub scope: Scope,
    pub reason: String,
    /// The caller.
    pub by: String,
    /// None: until it is lifted.
    pub expire: Option<Duration>,
    /// How long what runs may go on, if it is drained.
    pub drain_timeout: Duration,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Imposed {
    pub hold: Arc<Hold>,
    pub evidence: Evidence,
}

/// What was stopped. What is not in it was not running, or had ended, or waited to begin.
#[derive(Debug, Clone)]
pub struct Evidence {
    pub steps: Vec<StoppedStep>,
    /// Calls that were cut off, or waited.
    pub calls: Vec<StoppedCall>,
    /// Credentials whose cached values were dropped.
    pub leases: Vec<Name>,
    /// `steps/<id>`, or `steps/<id>/<call>`: what was told to stop and has not in time. There is a record when it has.
    pub still_running: Vec<String>,
    /// From the order until all this was so.
    pub took: Duration,
    /// The number of the record that says that it was imposed; those of what was stopped come later. Or what is not
    /// recorded, and why: it was done all the same.
    pub record: Result<u64, String>,
    /// Why a restart would lift the hold.
    pub unkept: Option<String>,
}

/// A step that was stopped.
#[derive(Debug, Clone)]
pub struct StoppedStep {
    /// `steps/<id>`.
    pub step: String,
    pub tenant: Name,
    /// `name@version`; empty without an agent.
    pub agent: String,
    /// Milliseconds since 1970, when its guest ran no more.
    pub stop_ms: u64,
    /// From the order until then.
    pub took: Duration,
    pub last_effect: Option<LastEffect>,
}

/// The last thing that a step did outside: its newest intent that was not only to read.
#[derive(Debug, Clone)]
pub struct LastEffect {
    /// Number of the intent's record.
    pub record: u64,
    /// Number of the call in its step.
    pub call: u64,
    /// In words.
    pub what: String,
    /// Milliseconds since 1970.
    pub time_ms: u64,
}

/// A call that was cut off, or waited.
#[derive(Debug, Clone)]
pub struct StoppedCall {
    /// `steps/<id>`.
    pub step: String,
    pub call: u64,
    /// In words.
    pub what: String,
    /// From the order until then.
    pub took: Duration,
}
