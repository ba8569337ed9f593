//! Checks egress rules and credentials against each other and against everything else.

use super::{BadConfig, Config};
use crate::{credentials, step::Name};

/// Entries of each list.
const ENTRIES_MAX: usize = 256;

/// Checks what leaves the node, and with what.
pub fn check_network(config: &Config) -> Result<(), BadConfig> {
    let value = |key, problem: String| Err(BadConfig::Value { key, problem });
    let counts = [
        ("egress", config.egress.len()),
        ("credential", config.credentials.len()),
        ("space", config.spaces.len()),
        ("network.dns_servers", config.network.dns_servers.len()),
        ("network.ca_files", config.network.ca_files.len()),
    ];
    if let Some((key, count)) = counts.into_iter().find(|(_, count)| *count > ENTRIES_MAX) {
        return value(key, format!("has {count} entries; at most {ENTRIES_MAX} are allowed"));
    }
    if let Some(path) = config.network.ca_files.iter().find(|path| !path.is_absolute()) {
        return Err(BadConfig::RelativePath { key: "network.ca_files", path: path.clone() });
    }
    for (index, space) in config.spaces.iter().enumerate() {
        if config.spaces[..index].iter().any(|other| other.name == space.name) {
            return value("space", format!("names `{}` twice", space.name));
        }
    }
    for (index, credential) in config.credentials.iter().enumerate() {
        let name = &credential.name;
        if config.credentials[..index].iter().any(|other| other.name == *name) {
            return value("credential", format!("names `{name}` twice"));
        }
        // What a step can read is no secret.
        for file in credential.files() {
            if let Some(mount) =
                config.mounts.iter().find(|mount| super::check::resolved(file).starts_with(&mount.path))
            {
                let (file, mount) = (file.display(), &mount.name);
                return value(
                    "credential",
                    format!("`{name}`: `{file}` lies in the mount `{mount}`, which steps can read"),
                );
            }
        }
    }
    if let Err(problem) = credentials::check(&config.credentials) {
        return value("credential", problem.to_string());
    }
    for (index, rule) in config.egress.iter().enumerate() {
        let name = &rule.name;
        if config.egress[..index].iter().any(|other| other.name == *name) {
            return value("egress", format!("names `{name}` twice"));
        }
        if let Err(problem) = rule.check() {
            return value("egress", format!("`{name}`: {problem}"));
        }
        let known = |credential: &Name| config.credentials.iter().any(|known| known.name == *credential);
        if let Some(credential) = rule.credentials.iter().find(|credential| !known(credential)) {
            return value("egress", format!("`{name}`: there is no credential `{credential}`"));
        }
    }
    Ok(())
}
