//! Reads a configuration and refuses what cannot work, naming the key.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Config, control::check_control, network::check_network, tenants::check_tenants, workers::check_workers};
use crate::jail::WAIVABLE;

/// A configuration that is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Toml(String),
    #[error("`{key}` is {value}: it must be at least {floor} and at most {ceiling}")]
    Limit { key: String, value: u64, floor: u64, ceiling: u64 },
    #[error("`{key}`: the default {default} is above the maximum {max}")]
    DefaultAboveMaximum { key: String, default: u64, max: u64 },
    #[error("`{key}` is {address}: only loopback addresses are served until there is TLS; use 127.0.0.1 or [::1]")]
    NotLoopback { key: &'static str, address: std::net::SocketAddr },
    #[error("`{key}` {problem}")]
    Value { key: &'static str, problem: String },
    #[error("`{key}` is `{}`: it must be an absolute path", path.display())]
    RelativePath { key: &'static str, path: PathBuf },
    #[error("two mounts are named `{0}`")]
    MountTwice(String),
    #[error("mount `{name}`: `{}` {problem}", path.display())]
    MountPath { name: String, path: PathBuf, problem: String },
    #[error(
        "mounts `{0}` and `{1}` share a directory tree, and one of them is writable: a file could be changed through one that the other shows as read-only; give each its own tree"
    )]
    MountsOverlap(String, String),
    #[error(
        "mounts `{0}` and `{1}` share a directory tree and have other labels: what is read through one would not have those of the other; give both the same"
    )]
    MountsLabelled(String, String),
    #[error("mount `{name}` and `data_dir` share a directory tree: {}", path.display())]
    MountOverData { name: String, path: PathBuf },
    #[error("`jail.allow_missing` names `{0}`; the walls that may be missing are {walls}", walls = WAIVABLE.join(", "))]
    NotWaivable(String),
    #[error("`listen.socket` lies in the writable mount `{0}`: a step could take its place")]
    SocketInMount(String),
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, BadConfig> {
    let text = fs::read_to_string(path).map_err(|source| BadConfig::Unreadable { path: path.into(), source })?;
    parse(&text)
}

/// Reads and checks a text.
pub fn parse(text: &str) -> Result<Config, BadConfig> {
    let mut config: Config = toml::from_str(text).map_err(|e| BadConfig::Toml(e.to_string().trim_end().into()))?;
    check(&mut config)?;
    Ok(config)
}

/// Checks a configuration and resolves the mounts' paths, so that what is checked is what is mounted.
pub fn check(config: &mut Config) -> Result<(), BadConfig> {
    let limits = config.limits.rows().into_iter().map(|row| (format!("limits.{}", row.name), row));
    let budgets = config.budgets.rows().into_iter().map(|row| (row.name.to_owned(), row));
    let workers = config.workers.rows().into_iter().map(|row| (row.name.to_owned(), row));
    for (key, row) in limits.chain(budgets).chain(workers) {
        if row.max < row.floor || row.max > row.ceiling {
            return Err(BadConfig::Limit { key, value: row.max, floor: row.floor, ceiling: row.ceiling });
        }
        if row.default < row.floor {
            return Err(BadConfig::Limit { key, value: row.default, floor: row.floor, ceiling: row.max });
        }
        if row.default > row.max {
            return Err(BadConfig::DefaultAboveMaximum { key, default: row.default, max: row.max });
        }
    }
    for (key, address) in [("listen.tcp", config.listen.tcp), ("listen.metrics", config.listen.metrics)] {
        if let Some(address) = address
            && !address.ip().is_loopback()
        {
            return Err(BadConfig::NotLoopback { key, address });
        }
    }
    check_journal(config)?;
    check_workers(config)?;
    let paths = [("data_dir", Some(&config.data_dir)), ("listen.socket", Some(&config.listen.socket))];
    let paths = paths.into_iter().chain([("policy.dir", config.policy.dir.as_ref())]);
    for (key, path) in paths.filter_map(|(key, path)| Some((key, path?))) {
        if !path.is_absolute() {
            return Err(BadConfig::RelativePath { key, path: path.clone() });
        }
    }
    if let Some(unknown) = config.jail.allow_missing.iter().find(|name| !WAIVABLE.contains(&name.as_str())) {
        return Err(BadConfig::NotWaivable(unknown.clone()));
    }
    check_tenants(config)?;
    check_control(config)?;
    check_mounts(config)?;
    check_network(config)
}

fn check_journal(config: &Config) -> Result<(), BadConfig> {
    let value = |key, problem: &str| Err(BadConfig::Value { key, problem: problem.into() });
    let journal = &config.journal;
    if !(1..=86_400).contains(&journal.checkpoint_seconds) {
        return value("journal.checkpoint_seconds", "must be at least 1 and at most 86400");
    }
    if journal.payload_bytes > 1 << 20 {
        return value("journal.payload_bytes", "must be at most 1048576");
    }
    if journal.redact.len() > 100 || journal.redact.iter().any(|key| key.is_empty() || key.len() > 100) {
        return value("journal.redact", "must be at most 100 keys of 1 to 100 bytes");
    }
    if config.policy.environment.len() > 64 {
        return value("policy.environment", "must have at most 64 bytes");
    }
    Ok(())
}

fn check_mounts(config: &mut Config) -> Result<(), BadConfig> {
    for mount in &mut config.mounts {
        let problem =
            |problem: String| BadConfig::MountPath { name: mount.name.to_string(), path: mount.path.clone(), problem };
        if !mount.path.is_absolute() {
            return Err(problem("must be an absolute path".into()));
        }
        let resolved = fs::canonicalize(&mount.path).map_err(|e| problem(format!("cannot be resolved: {e}")))?;
        if !resolved.is_dir() {
            return Err(problem("is not a directory".into()));
        }
        if resolved == Path::new("/") {
            return Err(problem("is the whole file system: name a directory of its own".into()));
        }
        mount.path = resolved;
    }
    let (data_dir, socket) = (resolved(&config.data_dir), resolved(&config.listen.socket));
    for (index, mount) in config.mounts.iter().enumerate() {
        if overlap(&mount.path, &data_dir) {
            return Err(BadConfig::MountOverData { name: mount.name.to_string(), path: mount.path.clone() });
        }
        // What decides is not for steps to write.
        let decides = config.policy.dir.iter().map(|path| ("policy.dir", path));
        let decides = decides.chain(config.network.ca_files.iter().map(|path| ("network.ca_files", path)));
        for (key, path) in decides {
            if mount.writable.is_some() && overlap(&resolved(path), &mount.path) {
                let problem = format!("has `{}`, which lies in the writable mount `{}`", path.display(), mount.name);
                return Err(BadConfig::Value { key, problem });
            }
        }
        if mount.writable.is_some() && socket.starts_with(&mount.path) {
            return Err(BadConfig::SocketInMount(mount.name.to_string()));
        }
        for other in &config.mounts[index + 1..] {
            if mount.name == other.name {
                return Err(BadConfig::MountTwice(mount.name.to_string()));
            }
            if overlap(&mount.path, &other.path) && mount.labels != other.labels {
                return Err(BadConfig::MountsLabelled(mount.name.to_string(), other.name.to_string()));
            }
            if overlap(&mount.path, &other.path) && (mount.writable.is_some() || other.writable.is_some()) {
                return Err(BadConfig::MountsOverlap(mount.name.to_string(), other.name.to_string()));
            }
        }
    }
    Ok(())
}

/// Returns where a path that may not exist yet will be.
pub fn resolved(path: &Path) -> PathBuf {
    for (depth, ancestor) in path.ancestors().enumerate() {
        if let Ok(found) = fs::canonicalize(ancestor) {
            let rest: Vec<_> = path.iter().rev().take(depth).collect();
            return rest.into_iter().rev().fold(found, |path, name| path.join(name));
        }
    }
    path.into()
}

fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}
