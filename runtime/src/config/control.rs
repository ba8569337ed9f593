//! Who may stop and hold what runs here: operators, and containment rules.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{BadConfig, Config};
use crate::{containment::Rule, control::is_caller};

/// Callers that can be operators.
const OPERATORS_MAX: usize = 256;

/// Containment rules: every call is shown to each.
const CONTAINMENT_MAX: usize = 16;

/// Who may stop and hold what runs here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Callers beside the daemon's own user: `unix:<uid>` or `loopback`.
    pub operators: Vec<String>,
}

/// Refuses what could hold nobody, or could not be told apart.
pub(super) fn check_control(config: &Config) -> Result<(), BadConfig> {
    check_operators(&config.control.operators)?;
    check_containment(&config.containment)
}

/// Refuses containment rules that could not be told apart, or are too many to look at with every call.
fn check_containment(rules: &[Rule]) -> Result<(), BadConfig> {
    let bad = |problem: String| Err(BadConfig::Value { key: "containment", problem });
    if rules.len() > CONTAINMENT_MAX {
        return bad(format!("is there {} times; at most {CONTAINMENT_MAX} are allowed", rules.len()));
    }
    let mut names = BTreeSet::new();
    match rules.iter().find(|rule| !names.insert(&rule.name)) {
        Some(twice) => bad(format!("names `{}` twice", twice.name)),
        None => Ok(()),
    }
}

/// Refuses operators that no caller can be.
fn check_operators(operators: &[String]) -> Result<(), BadConfig> {
    let bad = |problem: String| Err(BadConfig::Value { key: "control.operators", problem });
    if operators.len() > OPERATORS_MAX {
        return bad(format!("names {} callers; at most {OPERATORS_MAX} are allowed", operators.len()));
    }
    match operators.iter().find(|operator| !is_caller(operator)) {
        Some(unknown) => bad(format!("names `{unknown}`: it must be `unix:<uid>`, or `loopback` for every local user")),
        None => Ok(()),
    }
}
