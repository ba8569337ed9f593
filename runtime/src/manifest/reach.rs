//! What an agent can reach, in lines that can be read and compared.

use super::{Access, Manifest, PowerName, SpaceGrant};
use crate::{
    config::{AskedBudget, AskedLimits},
    egress::{Narrow, Route},
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
///
/// `routes` are what the egress of the manifest comes down to.
pub fn reach(
    manifest: &Manifest,
    routes: &[Route],
    tool: impl Fn(&str) -> Option<(String, Digest, Effect)>,
) -> Vec<String> {
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
        lines.extend(grant.egress.iter().map(|rule| format!("tool {name} may send by egress {rule}")));
    }
    for SpaceGrant { space, writable } in &manifest.spaces {
        lines.push(format!("memory {space}{}", mode(*writable)));
    }
    for route in routes {
        let rule = route.rule();
        lines.extend(route.each_in_words().into_iter().map(|each| format!("egress {rule}: {each}")));
        lines.extend(route.credential().map(|credential| format!("egress {rule} carries credential {credential}")));
    }
    lines.extend(manifest.egress.iter().flat_map(egress_bounds));
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

fn egress_bounds(narrow: &Narrow) -> Vec<String> {
    let bounds = [
        ("request_bytes", narrow.request_bytes),
        ("response_bytes", narrow.response_bytes),
        ("concurrency", narrow.concurrency.map(u64::from)),
        ("timeouts.total_ms", narrow.timeouts.total_ms),
    ];
    let rule = &narrow.rule;
    bounds.into_iter().filter_map(|(key, value)| Some(format!("egress {rule} {key}{AT_MOST}{}", value?))).collect()
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
    let of = ["limits.", "budget.", "tool ", "egress "].iter().any(|start| key.starts_with(start));
    if of { Some((key, value.parse().ok()?)) } else { None }
}

/// How the lines end of what can be read, and of what can be written as well.
const READ_ONLY: &str = ", read-only";
const READ_WRITE: &str = ", read-write";

fn mode(writable: bool) -> &'static str {
    if writable { READ_WRITE } else { READ_ONLY }
}
