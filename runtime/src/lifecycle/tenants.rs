//! Tenants: what each of them has for itself, and who calls for whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    Lifecycle,
    jobs::{Jobs, spent},
};
use crate::{
    budget::Account,
    config::{Config, DEFAULT_TENANT},
    journal::{Filter, Journal, ReadError},
    step::Name,
    store::{DataDir, Workspaces},
};

/// What is apart for each tenant in the daemon. Its memory and its records are apart by its name, its workers by what
/// they can reach.
pub struct Tenant {
    pub name: Name,
    pub workspaces: Workspaces,
    /// What it may use in each window of time.
    pub(super) account: Account,
    pub(super) jobs: Jobs,
}

/// All tenants of a daemon.
pub struct Tenants {
    tenants: BTreeMap<Name, Arc<Tenant>>,
    /// Who may call for whom. Nothing is listed where there is one tenant for everybody.
    callers: BTreeMap<String, BTreeSet<Name>>,
}

/// Tenants that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenTenants {
    #[error("cannot open the workspaces of tenant `{0}`: {1}")]
    Workspaces(Name, io::Error),
    #[error("the journal cannot be read: {0}")]
    Journal(#[from] ReadError),
}

/// A caller whose tenant is not clear, or not its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    #[error("`{0}` calls for no tenant: the operator names callers in `[[tenant]]`")]
    Nobody(String),
    #[error("`{caller}` calls for the tenants {}: say for which in the metadata `palisade-tenant`", names(.tenants))]
    Unsaid { caller: String, tenants: BTreeSet<Name> },
    /// There may be one of this name: who does not call for it cannot know.
    #[error("`{caller}` does not call for a tenant `{tenant}`")]
    NotAllowed { caller: String, tenant: String },
}

impl Tenants {
    /// Opens what each tenant has, with what the journal says that it spent within the last window.
    pub fn open(config: &Config, data_dir: &DataDir, journal: &Journal) -> Result<Self, OpenTenants> {
        let mut tenants = BTreeMap::new();
        for name in config.tenant_names() {
            let workspaces =
                data_dir.tenant(&name).and_then(|folder| Workspaces::open(&folder, config.limits.workspaces));
            let workspaces = workspaces.map_err(|error| OpenTenants::Workspaces(name.clone(), error))?;
            let account = account(config, &name, journal)?;
            let tenant = Tenant { name: name.clone(), workspaces, account, jobs: Jobs::default() };
            tenants.insert(name, Arc::new(tenant));
        }
        let mut callers = BTreeMap::<String, BTreeSet<Name>>::new();
        for tenant in &config.tenants {
            for caller in &tenant.callers {
                callers.entry(caller.clone()).or_default().insert(tenant.name.clone());
            }
        }
        Ok(Self { tenants, callers })
    }

    /// Returns the tenant that `caller` calls for: the one that it says, or its only one.
    fn of(&self, caller: &str, said: &str) -> Result<&Arc<Tenant>, TenantError> {
        let refused = || TenantError::NotAllowed { caller: caller.into(), tenant: said.chars().take(80).collect() };
        if self.callers.is_empty() {
            let only = self.tenants.values().next().ok_or_else(|| TenantError::Nobody(caller.into()))?;
            return if said.is_empty() || said == only.name.as_str() { Ok(only) } else { Err(refused()) };
        }
        let own = self.callers.get(caller).ok_or_else(|| TenantError::Nobody(caller.into()))?;
        let mut matching = own.iter().filter(|name| said.is_empty() || name.as_str() == said);
        match (matching.next(), matching.next()) {
            (Some(name), None) => self.tenants.get(name).ok_or_else(refused),
            (None, _) => Err(refused()),
            (Some(_), Some(_)) => Err(TenantError::Unsaid { caller: caller.into(), tenants: own.clone() }),
        }
    }
}

impl Lifecycle {
    /// Returns the tenant that `caller` calls for: the one that it `said`, or its only one if it said nothing.
    pub fn tenant(&self, caller: &str, said: &str) -> Result<Arc<Tenant>, TenantError> {
        self.0.tenants.of(caller, said).cloned()
    }
}

fn account(config: &Config, name: &Name, journal: &Journal) -> Result<Account, ReadError> {
    let budget = &config.budgets.tenant;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = now.saturating_sub(budget.window()).as_millis() as u64;
    let of_tenant = Filter { tenant: Some(name.to_string()), since_ms: Some(since), ..Filter::default() };
    let prior = spent(journal, of_tenant)?;
    // Accounts are told apart by their level in metrics and errors; the name follows it where there are several.
    let level = if name.as_str() == DEFAULT_TENANT { "tenant".into() } else { format!("tenant `{name}`") };
    Ok(Account::windowed(level, budget.amounts(), budget.window()).with_spent(prior))
}

fn names(tenants: &BTreeSet<Name>) -> String {
    tenants.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
