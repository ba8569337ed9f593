//! The daemon's configuration: one file of TOML, every key documented in `config/sample.toml`.

mod check;
mod limits;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use check::{BadConfig, check, load, parse};
pub use limits::{AskedLimits, Limits, Row};

use crate::step::{Name, Quota};

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
    pub jail: Jail,
    #[serde(rename = "mount")]
    pub mounts: Vec<Mount>,
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
}

/// What the operator accepts of the jail.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jail {
    /// Walls that may be missing, by name.
    pub allow_missing: Vec<String>,
}

/// A directory of the host that steps may ask for by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    pub name: Name,
    pub path: PathBuf,
    /// Set: a step may write, and add so much. Not set: read-only.
    pub writable: Option<Quota>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/palisade".into(),
            listen: Listen::default(),
            limits: Limits::default(),
            jail: Jail::default(),
            mounts: Vec::new(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { socket: "/run/palisade/palisade.sock".into(), group: None, tcp: None }
    }
}
