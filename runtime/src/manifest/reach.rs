//! What an agent can reach, in lines that can be read and compared.

use super::{Access, Manifest, PowerName, SpaceGrant};
use crate::{
    config::{AskedBudget, AskedLimits},
    step::{Digest, Effect},
};

/// What one version reaches beyond another, and what it no longer does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    pub added: Vec<String>,
    pub removed: Vec<String>,
}

/// Returns everything that an agent may reach, a line for each. `tool` tells the version, digest and effect to which a
/// tool is pinned.
pub fn reach(manifest: &Manifest, tool: impl Fn(&str) -> Option<(String, Digest, Effect)>) -> Vec<String> {
    let mut lines: Vec<String> = manifest.powers.iter().map(|power| format!("power {}", power.as_str())).collect();
    if manifest.powers.contains(&PowerName::Filesystem) {
        lines.push("workspace, read-write".into());
    }
    for mount in &manifest.mounts {
        lines.push(format!("mount {} at {}{}", mount.name, mount.path, mode(mount.writable)));
    }
    for grant in &manifest.tools {
        let name = &grant.name;
        match tool(name.as_str()) {
            Some((version, digest, effect)) => {
                lines.push(format!("tool {name}@{version} ({effect})"));
                lines.push(format!("tool {name} is {digest}"));
            }
            None => lines.push(format!("tool {name}, which is gone")),
        }
        match grant.workspace {
            Access::None => {}
            Access::Read => lines.push(format!("tool {name} sees the workspace, read-only")),
            Access::Write => lines.push(format!("tool {name} sees the workspace, read-write")),
        }
        lines.extend(grant.mounts.iter().map(|mount| format!("tool {name} sees mount {mount}")));
        lines.extend(grant.tools.iter().map(|other| format!("tool {name} may call {other}")));
        lines.extend(grant.spaces.iter().map(|space| format!("tool {name} may use memory {space}")));
    }
    for SpaceGrant { space, writable } in &manifest.spaces {
        lines.push(format!("memory {space}{}", mode(*writable)));
    }
    lines.extend(bounds("", &manifest.limits, &manifest.budget));
    for tool in &manifest.tools {
        lines.extend(bounds(&format!("tool {} ", tool.name), &tool.limits, &tool.budget));
    }
    lines.push(format!("component {}", manifest.component));
    lines.sort();
    lines
}

/// Stands between a bound and its value. A bound that is not there is the configuration's.
const AT_MOST: &str = " at most ";

fn bounds(of: &str, limits: &AskedLimits, budget: &AskedBudget) -> Vec<String> {
    let bounds = [
        ("limits.fuel", limits.fuel),
        ("limits.memory_bytes", limits.memory_bytes),
        ("limits.timeout_ms", limits.timeout_ms),
        ("limits.output_bytes", limits.output_bytes),
        ("limits.stdio_bytes", limits.stdio_bytes),
        ("limits.events", limits.events),
        ("budget.fuel", budget.fuel),
        ("budget.wall_ms", budget.wall_ms),
        ("budget.host_calls", budget.host_calls),
        ("budget.tool_calls", budget.tool_calls),
        ("budget.bytes_in", budget.bytes_in),
        ("budget.bytes_out", budget.bytes_out),
    ];
    bounds.into_iter().filter_map(|(key, value)| Some(format!("{of}{key}{AT_MOST}{}", value?))).collect()
}

/// Compares two reaches. A bound that is raised or gone is added reach, one that is lowered or new is removed reach.
pub fn difference(from: &[String], to: &[String]) -> Difference {
    Difference { added: beyond(to, from), removed: beyond(from, to) }
}

/// Returns what `these` reach and `those` do not.
fn beyond(these: &[String], those: &[String]) -> Vec<String> {
    let further = these.iter().filter(|line| !those.contains(line));
    let further = further.filter(|line| match as_bound(line) {
        // A bound takes away: it reaches further only where another is tighter.
        Some((key, value)) => bound(those, key).is_some_and(|other| value > other),
        // Nor does reading where there was writing.
        None => !line.strip_suffix(READ_ONLY).is_some_and(|of| those.contains(&format!("{of}{READ_WRITE}"))),
    });
    let unbound = those.iter().filter_map(|line| as_bound(line)).filter(|(key, _)| bound(these, key).is_none());
    further.cloned().chain(unbound.map(|(key, _)| format!("{key} as much as the configuration allows"))).collect()
}

fn bound(lines: &[String], key: &str) -> Option<u64> {
    lines.iter().filter_map(|line| as_bound(line)).find(|(of, _)| *of == key).map(|(_, value)| value)
}

/// Returns what a line bounds, and by how much. Paths are people's words, and can look like a bound: only lines of limits
/// and budgets, the agent's or a tool's, are.
fn as_bound(line: &str) -> Option<(&str, u64)> {
    let (key, value) = line.split_once(AT_MOST)?;
    let of = ["limits.", "budget.", "tool "].iter().any(|start| key.starts_with(start));
    if of { Some((key, value.parse().ok()?)) } else { None }
}

/// How the lines end of what can be read, and of what can be written as well.
const READ_ONLY: &str = ", read-only";
const READ_WRITE: &str = ", read-write";

fn mode(writable: bool) -> &'static str {
    if writable { READ_WRITE } else { READ_ONLY }
}
