//! Tenants: who they are, and who calls for them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{BadConfig, Config};
use crate::{control::is_caller, step::Name};

/// The tenant of everybody where the configuration names none, and of what the daemon records of itself.
pub const DEFAULT_TENANT: &str = "default";

/// Tenants of one daemon: each keeps folders open, and has workers of its own once it runs something.
const TENANTS_MAX: usize = 256;

/// Callers of one tenant.
const CALLERS_MAX: usize = 256;

/// A tenant. What it keeps is apart from that of others: workspaces, memory, jobs, budgets, records and workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    pub name: Name,
    /// Who calls for it: `unix:<uid>` or `loopback`. A caller may be of several tenants.
    pub callers: BTreeSet<String>,
}

/// Refuses tenants that could not be told apart.
pub(super) fn check_tenants(config: &Config) -> Result<(), BadConfig> {
    let bad = |problem: String| Err(BadConfig::Value { key: "tenant", problem });
    if config.tenants.len() > TENANTS_MAX {
        return bad(format!("is there {} times; at most {TENANTS_MAX} are allowed", config.tenants.len()));
    }
    let mut names = BTreeSet::new();
    for Tenant { name, callers } in &config.tenants {
        if name.as_str() == DEFAULT_TENANT {
            return bad(format!(
                "is named `{DEFAULT_TENANT}`, which is the tenant of a daemon without any: name it otherwise"
            ));
        }
        if !names.insert(name) {
            return bad(format!("`{name}` is there twice"));
        }
        if callers.is_empty() || callers.len() > CALLERS_MAX {
            return bad(format!(
                "`{name}` has {} callers: it must have at least 1 and at most {CALLERS_MAX}",
                callers.len()
            ));
        }
        if let Some(unknown) = callers.iter().find(|caller| !is_caller(caller)) {
            return bad(format!("`{name}` has the caller `{unknown}`: it must be `unix:<uid>` or `loopback`"));
        }
    }
    Ok(())
}
