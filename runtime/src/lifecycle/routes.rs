//! Where an agent may send requests: the operator's rules, narrowed by the tenant, narrowed by the manifest.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Deserialize;

use super::Lifecycle;
use crate::{
    egress::{BadNarrow, Narrow, Route, Rule},
    store::Agent,
};

/// The tenant's file, beside its policies.
pub const TENANT_FILE: &str = "egress.toml";

/// What a tenant takes of the operator's rules.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TenantEgress {
    /// Without a file it takes all of them.
    rules: Option<Vec<Narrow>>,
    pub text: Option<String>,
}

/// A tenant's egress that cannot be put in force, or a manifest's.
#[derive(Debug, thiserror::Error)]
pub enum BadEgress {
    #[error("`{TENANT_FILE}`: {0}")]
    Toml(String),
    #[error("there is no egress rule `{name}`: this daemon has {}", super::step::listed(.known))]
    NoRule { name: String, known: Vec<String> },
    #[error("the egress rule `{0}` is not given to this tenant")]
    NotTheTenants(String),
    #[error("it names the egress rule `{0}` twice: narrow it once")]
    Twice(String),
    #[error("the egress rule `{rule}`: {problem}")]
    Narrow { rule: String, problem: BadNarrow },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    egress: Vec<Narrow>,
}

impl TenantEgress {
    /// Reads a tenant's file, and checks it against the operator's rules.
    pub fn parse(text: Option<String>, rules: &[Rule]) -> Result<Self, BadEgress> {
        let Some(text) = text else { return Ok(Self::default()) };
        let file: File = toml::from_str(&text).map_err(|error| {
            let mut message = error.to_string();
            message.truncate(message.floor_char_boundary(1024));
            BadEgress::Toml(message.trim_end().into())
        })?;
        for (index, narrow) in file.egress.iter().enumerate() {
            if file.egress[..index].iter().any(|other| other.rule == narrow.rule) {
                return Err(BadEgress::Twice(narrow.rule.to_string()));
            }
            route(rules, &Self::default(), Some(narrow))?;
        }
        Ok(Self { rules: Some(file.egress), text: Some(text) })
    }
}

/// Returns a rule's route for a tenant, narrowed by what an agent takes of it.
fn route(rules: &[Rule], tenant: &TenantEgress, narrow: Option<&Narrow>) -> Result<Route, BadEgress> {
    let name = narrow.map(|narrow| narrow.rule.clone());
    let rule = rules.iter().find(|rule| Some(&rule.name) == name.as_ref()).ok_or_else(|| BadEgress::NoRule {
        name: name.map(String::from).unwrap_or_default(),
        known: rules.iter().map(|rule| rule.name.to_string()).collect(),
    })?;
    let given = given(rule, tenant).ok_or_else(|| BadEgress::NotTheTenants(rule.name.to_string()))?;
    let narrowed = |problem| BadEgress::Narrow { rule: rule.name.to_string(), problem };
    let given = given.map_err(narrowed)?;
    narrow.map_or(Ok(given.clone()), |narrow| given.clone().narrow(narrow)).map_err(narrowed)
}

/// Returns what the tenant has of a rule.
fn given(rule: &Rule, tenant: &TenantEgress) -> Option<Result<Route, BadNarrow>> {
    match &tenant.rules {
        // A level of its own, so that levels are counted alike.
        None => Some(Route::of(rule).narrow(&Narrow::nothing(rule.name.clone()))),
        Some(rules) => {
            let narrow = rules.iter().find(|narrow| narrow.rule == rule.name)?;
            Some(Route::of(rule).narrow(narrow))
        }
    }
}

/// Routes that were worked out, as long as the tenant's file stays the same.
#[derive(Default)]
pub struct Routes(Mutex<HashMap<String, Worked>>);

struct Worked {
    tenant: Arc<TenantEgress>,
    routes: Arc<[Route]>,
}

/// Agents whose routes are kept.
const WORKED_MAX: usize = 1_024;

impl Lifecycle {
    /// Returns an agent's routes, in the order of its manifest. Rules that are gone, or not the tenant's any more, have
    /// none.
    pub fn routes(&self, agent: &Agent) -> Arc<[Route]> {
        let tenant = self.tenant_egress();
        let reference = agent.reference();
        let mut known = self.0.routes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worked) = known.get(&reference).filter(|worked| Arc::ptr_eq(&worked.tenant, &tenant)) {
            return worked.routes.clone();
        }
        let rules = &self.config().egress;
        let routes = agent.manifest.egress.iter().filter_map(|narrow| route(rules, &tenant, Some(narrow)).ok());
        let routes: Arc<[Route]> = routes.collect();
        if known.len() >= WORKED_MAX {
            known.clear();
        }
        known.insert(reference, Worked { tenant, routes: routes.clone() });
        routes
    }

    /// Returns everything that the tenant has, as routes without a credential.
    pub fn tenant_routes(&self) -> Vec<Route> {
        let tenant = self.tenant_egress();
        let routes = self.config().egress.iter().filter_map(|rule| given(rule, &tenant)?.ok());
        routes.map(Route::without_credential).collect()
    }

    /// Checks what a manifest takes of the rules.
    pub fn check_egress(&self, egress: &[Narrow]) -> Result<Vec<Route>, BadEgress> {
        let tenant = self.tenant_egress();
        egress.iter().map(|narrow| route(&self.config().egress, &tenant, Some(narrow))).collect()
    }
}
