//! An agent's manifest: all that it may reach, in one file of TOML, every key documented in `manifest/sample.toml`.

mod reach;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use reach::{Difference, difference, reach};

use crate::{
    config::{AskedBudget, AskedLimits},
    egress::Narrow,
    step::{FIXED, Name, ToolName, Version},
};

/// The sample that ships: what `palisade agent sample` prints and the tests load.
pub const SAMPLE: &str = include_str!("manifest/sample.toml");

/// Bytes of the largest manifest.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;

/// Entries of each list of a manifest.
pub const ENTRIES_MAX: usize = 64;

/// Bytes of an owner or a description.
const TEXT_BYTES_MAX: usize = 1024;

/// What an agent is and may reach. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub name: Name,
    pub version: Version,
    /// A digest or an alias; the digest that it means is fixed when the manifest is registered.
    pub component: String,
    /// Whom to ask.
    pub owner: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub labels: Vec<Name>,
    /// Powers beyond the pure ones that the component may import.
    #[serde(default)]
    pub powers: Vec<PowerName>,
    #[serde(default, rename = "mount")]
    pub mounts: Vec<MountGrant>,
    #[serde(default, rename = "tool")]
    pub tools: Vec<ToolGrant>,
    #[serde(default, rename = "memory")]
    pub spaces: Vec<SpaceGrant>,
    /// What it takes of the daemon's egress rules.
    #[serde(default)]
    pub egress: Vec<Narrow>,
    #[serde(default)]
    pub limits: AskedLimits,
    #[serde(default)]
    pub budget: AskedBudget,
}

/// A power that reaches something, by its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerName {
    Filesystem,
    Http,
    Memory,
    Tools,
}

/// A mount of the daemon's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountGrant {
    pub name: Name,
    pub path: String,
    #[serde(default)]
    pub writable: bool,
}

/// A tool, and what it gets of what the agent has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolGrant {
    pub name: ToolName,
    /// Which version; without it, the newest when the manifest is registered. It is fixed then.
    pub version: Option<Version>,
    /// Whether it sees the step's workspace.
    #[serde(default)]
    pub workspace: Access,
    /// Of the agent's mounts: those that the tool sees, as the agent does.
    #[serde(default)]
    pub mounts: Vec<Name>,
    /// Of the agent's tools: those that the tool may call itself.
    #[serde(default)]
    pub tools: Vec<ToolName>,
    /// Of the agent's memory spaces: those that the tool may use itself.
    #[serde(default)]
    pub spaces: Vec<Name>,
    /// Of the agent's egress rules: those by which the tool may send requests itself.
    #[serde(default)]
    pub egress: Vec<Name>,
    #[serde(default)]
    pub limits: AskedLimits,
    /// Of the step's budget, for one call.
    #[serde(default)]
    pub budget: AskedBudget,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    #[default]
    None,
    Read,
    Write,
}

/// A memory space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceGrant {
    pub space: Name,
    /// Without it, the agent can only get and list.
    #[serde(default)]
    pub writable: bool,
}

/// A manifest that is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum BadManifest {
    #[error("the manifest has {0} bytes; at most {MANIFEST_BYTES_MAX} are allowed")]
    TooLarge(usize),
    #[error("{0}")]
    Toml(String),
    #[error("`{key}` {problem}")]
    Value { key: String, problem: String },
}

/// Reads and checks a manifest, by itself: whether what it names is there is for the registry to say.
pub fn parse(text: &str) -> Result<Manifest, BadManifest> {
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(BadManifest::TooLarge(text.len()));
    }
    let manifest: Manifest = toml::from_str(text).map_err(|e| {
        let mut message = e.to_string();
        message.truncate(message.floor_char_boundary(1024));
        BadManifest::Toml(message.trim_end().into())
    })?;
    check(&manifest)?;
    Ok(manifest)
}

fn check(manifest: &Manifest) -> Result<(), BadManifest> {
    let bad = |key: &str, problem: String| Err(BadManifest::Value { key: key.into(), problem });
    for (key, text) in [("owner", &manifest.owner), ("description", &manifest.description)] {
        if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            return bad(key, format!("must be one line of at most {TEXT_BYTES_MAX} bytes"));
        }
    }
    if manifest.owner.is_empty() {
        return bad("owner", "is empty: say whom to ask about this agent".into());
    }
    let counts = [
        ("labels", manifest.labels.len(), 16),
        ("mount", manifest.mounts.len(), FIXED.mounts as usize),
        ("tool", manifest.tools.len(), ENTRIES_MAX),
        ("memory", manifest.spaces.len(), ENTRIES_MAX),
        ("egress", manifest.egress.len(), ENTRIES_MAX),
    ];
    if let Some((key, count, max)) = counts.into_iter().find(|(_, count, max)| count > max) {
        return bad(key, format!("has {count} entries; at most {max} are allowed"));
    }
    if let Some(name) = twice(manifest.mounts.iter().map(|mount| mount.name.as_str())) {
        return bad("mount", format!("names `{name}` twice"));
    }
    if let Some(name) = twice(manifest.tools.iter().map(|tool| tool.name.as_str())) {
        return bad("tool", format!("names `{name}` twice"));
    }
    if let Some(name) = twice(manifest.spaces.iter().map(|space| space.space.as_str())) {
        return bad("memory", format!("names `{name}` twice"));
    }
    if let Some(name) = twice(manifest.egress.iter().map(|egress| egress.rule.as_str())) {
        return bad("egress", format!("names the rule `{name}` twice"));
    }
    for (power, used, key) in [
        (PowerName::Tools, !manifest.tools.is_empty(), "tool"),
        (PowerName::Memory, !manifest.spaces.is_empty(), "memory"),
        (PowerName::Http, !manifest.egress.is_empty(), "egress"),
    ] {
        // A tool may use what the step itself does not.
        let by_tool = manifest.tools.iter().any(|tool| match power {
            PowerName::Memory => !tool.spaces.is_empty(),
            PowerName::Http => !tool.egress.is_empty(),
            PowerName::Filesystem | PowerName::Tools => false,
        });
        if used && !manifest.powers.contains(&power) && !by_tool {
            let word = power.as_str();
            return bad(key, format!("is given, but `powers` does not list \"{word}\": add it, or remove `[[{key}]]`"));
        }
    }
    manifest.tools.iter().try_for_each(|tool| check_tool(manifest, tool))
}

/// A tool's grant is within the agent's.
fn check_tool(manifest: &Manifest, tool: &ToolGrant) -> Result<(), BadManifest> {
    let beyond = |key: &str, name: &str| {
        let (key, problem) =
            (format!("tool.{key}"), format!("of `{}` names `{name}`, which the agent does not have", tool.name));
        Err(BadManifest::Value { key, problem })
    };
    if let Some(name) = tool.mounts.iter().find(|name| !manifest.mounts.iter().any(|mount| mount.name == **name)) {
        return beyond("mounts", name.as_str());
    }
    if let Some(name) = tool.tools.iter().find(|name| !manifest.tools.iter().any(|other| other.name == **name)) {
        return beyond("tools", name.as_str());
    }
    if let Some(name) = tool.spaces.iter().find(|name| !manifest.spaces.iter().any(|space| space.space == **name)) {
        return beyond("spaces", name.as_str());
    }
    if let Some(name) = tool.egress.iter().find(|name| !manifest.egress.iter().any(|rule| rule.rule == **name)) {
        return beyond("egress", name.as_str());
    }
    Ok(())
}

fn twice<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_owned())
}

impl PowerName {
    /// Returns the power's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "filesystem",
            Self::Http => "http",
            Self::Memory => "memory",
            Self::Tools => "tools",
        }
    }
}
