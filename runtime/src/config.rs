//! The daemon's configuration: one file of TOML, every key documented in `config/sample.toml`.

mod budgets;
mod check;
mod control;
mod limits;
mod network;
mod tenants;
#[cfg(test)]
mod tests;
mod workers;

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use budgets::{AskedBudget, Budgets, StepBudgets};
pub use check::{BadConfig, check, load, parse};
pub use control::Control;
pub use limits::{AskedLimits, Limits, Row};
pub use tenants::{DEFAULT_TENANT, Tenant};
pub use workers::{Isolation, Workers};

use crate::{
    containment::Rule as ContainmentRule,
    credentials::CredentialConfig,
    egress::Rule,
    step::{Effect, Name, Quota},
};

/// The sample that ships: what `palisade config show --sample` prints and the tests load.
pub const SAMPLE: &str = include_str!("config/sample.toml");

/// What `palisade serve` is told. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Components, workspaces and compiled artifacts. One daemon at a time.
    pub data_dir: PathBuf,
    pub listen: Listen,
    pub limits: Limits,
    pub budgets: Budgets,
    pub policy: Policy,
    pub ceiling: Ceiling,
    pub journal: Journal,
    pub jail: Jail,
    pub control: Control,
    pub containment: Vec<ContainmentRule>,
    pub workers: Workers,
    pub network: Network,
    #[serde(rename = "tenant")]
    pub tenants: Vec<Tenant>,
    #[serde(rename = "mount")]
    pub mounts: Vec<Mount>,
    #[serde(rename = "space")]
    pub spaces: Vec<Space>,
    pub egress: Vec<Rule>,
    #[serde(rename = "credential")]
    pub credentials: Vec<CredentialConfig>,
}

/// How requests reach where they go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Name servers; those of the system if there are none.
    pub dns_servers: Vec<SocketAddr>,
    /// PEM files of certificates that are trusted beside those of the system.
    pub ca_files: Vec<PathBuf>,
}

/// A memory space that has labels. Spaces that are not listed have none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    pub name: Name,
    pub labels: Vec<Name>,
}

impl Config {
    /// Returns the names of the tenants; there is always one.
    pub fn tenant_names(&self) -> Vec<Name> {
        match self.tenants.as_slice() {
            [] => DEFAULT_TENANT.parse().into_iter().collect(),
            tenants => tenants.iter().map(|tenant| tenant.name.clone()).collect(),
        }
    }

    /// Returns the labels of a memory space.
    pub fn space_labels(&self, space: &Name) -> &[Name] {
        self.spaces.iter().find(|known| known.name == *space).map(|known| known.labels.as_slice()).unwrap_or_default()
    }
}

/// Where callers connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    pub socket: PathBuf,
    /// A group whose members may call, beside the daemon's own user.
    pub group: Option<String>,
    /// A loopback address. Every local user can connect to it.
    pub tcp: Option<SocketAddr>,
    /// A loopback address for `GET /metrics`.
    pub metrics: Option<SocketAddr>,
}

/// Who decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// A directory of `*.cedar` files. Without it, any caller may run any step, and no step may do anything outside.
    pub dir: Option<PathBuf>,
    pub mode: Mode,
    /// What policies see as `context.environment`.
    pub environment: String,
}

/// What becomes of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// What policy denies does not happen.
    Enforce,
    /// What policy would deny is recorded, and happens.
    Observe,
}

/// What no policy and no manifest can go beyond.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ceiling {
    /// Effects that a tool may have here.
    pub effects: Vec<Effect>,
    /// Whether steps may keep memory here.
    pub memory: bool,
}

/// What is recorded, and when a caller is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    pub acknowledge: Acknowledge,
    /// A checkpoint is signed and kept so often, if there is something new.
    pub checkpoint_seconds: u64,
    /// Whether the bytes of arguments, inputs and results are kept beside the records.
    pub keep_payloads: bool,
    /// The largest payload that is kept; of a larger one the record has digest and size.
    pub payload_bytes: u64,
    /// Keys of JSON payloads whose values are replaced before they are kept.
    pub redact: Vec<String>,
}

/// When a step's result is given to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acknowledge {
    /// Once all its records are durable.
    Durable,
    /// At once; its records follow. What it did outside was durable before it was done, either way.
    Asynchronous,
}

/// What the operator accepts of the jail.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jail {
    /// Walls that may be missing, by name.
    pub allow_missing: Vec<String>,
    /// Which steps may share a process.
    pub isolation: Isolation,
    /// Whom workers and compilers become if the daemon is started as root. Not set: `nobody`.
    pub user: Option<String>,
    pub cgroup: Cgroup,
}

/// Whether jailed processes must have cgroups with bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cgroup {
    /// They have them where the host delegates that to the daemon.
    #[default]
    IfDelegated,
    /// The daemon does not start without.
    Required,
}

/// A directory of the host that steps may ask for by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    pub name: Name,
    pub path: PathBuf,
    /// Set: a step may write, and add so much. Not set: read-only.
    pub writable: Option<Quota>,
    /// What a job gathers that sees it.
    #[serde(default)]
    pub labels: Vec<Name>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/palisade".into(),
            listen: Listen::default(),
            limits: Limits::default(),
            budgets: Budgets::default(),
            policy: Policy::default(),
            ceiling: Ceiling::default(),
            journal: Journal::default(),
            jail: Jail::default(),
            control: Control::default(),
            containment: Vec::new(),
            workers: Workers::default(),
            network: Network::default(),
            tenants: Vec::new(),
            mounts: Vec::new(),
            spaces: Vec::new(),
            egress: Vec::new(),
            credentials: Vec::new(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { socket: "/run/palisade/palisade.sock".into(), group: None, tcp: None, metrics: None }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { dir: None, mode: Mode::Enforce, environment: "default".into() }
    }
}

impl Default for Ceiling {
    fn default() -> Self {
        Self { effects: Effect::ALL.into(), memory: true }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            acknowledge: Acknowledge::Durable,
            checkpoint_seconds: 60,
            keep_payloads: true,
            payload_bytes: 64 << 10,
            redact: ["password", "secret", "token", "api_key", "authorization"].map(String::from).into(),
        }
    }
}
