//! Effective rights: the platform's ceiling ∩ the tenant's policy ∩ the agent's manifest ∩ the request. This file
//! intersects all but policy, which is asked at each call. Each level can only take away.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config::{AskedBudget, AskedLimits, Ceiling},
    manifest::{Access, Manifest, ToolGrant},
    step::{Effect, Name, Range, ToolName},
};

/// What one execution, of a step or of a tool, may ask for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    /// Tools, and what each gets.
    pub tools: BTreeMap<ToolName, ToolGrant>,
    /// Memory spaces, and whether they are writable.
    pub spaces: BTreeMap<Name, bool>,
    /// Egress rules, by name.
    pub egress: BTreeSet<Name>,
    /// Mounts that a tool sees; a step's are mounted as the manifest says.
    pub mounts: BTreeSet<Name>,
    pub workspace: Access,
    pub effects: BTreeSet<Effect>,
}

/// Why a grant does not hold something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// The manifest does not give it, or there is no agent.
    NotInManifest,
    /// The request, or the grant of the tool that asks, leaves it out.
    Narrowed,
    /// The manifest gives it for reading only.
    ReadOnly,
    /// The configuration's ceiling.
    Ceiling,
    /// The operator disabled it.
    Disabled,
    /// Too many tools around it.
    TooDeep,
}

/// What a request leaves of an agent's rights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrowing {
    pub tools: BTreeSet<String>,
    pub spaces: BTreeSet<String>,
    pub egress: BTreeSet<String>,
}

impl Grant {
    /// Returns the rights of a step of an agent. Without an agent there are none.
    pub fn of_step(ceiling: &Ceiling, manifest: Option<&Manifest>, narrow: Option<&Narrowing>) -> Self {
        let Some(manifest) = manifest else { return Self::default() };
        let keep_tool = |name: &ToolName| narrow.is_none_or(|narrow| narrow.tools.contains(name.as_str()));
        let keep_space = |name: &Name| narrow.is_none_or(|narrow| narrow.spaces.contains(name.as_str()));
        let keep_rule = |name: &Name| narrow.is_none_or(|narrow| narrow.egress.contains(name.as_str()));
        let egress = manifest.egress.iter().map(|narrow| &narrow.rule).filter(|name| keep_rule(name));
        let tools = manifest.tools.iter().filter(|tool| keep_tool(&tool.name));
        let spaces = manifest.spaces.iter().filter(|space| ceiling.memory && keep_space(&space.space));
        Self {
            tools: tools.map(|tool| (tool.name.clone(), tool.clone())).collect(),
            spaces: spaces.map(|space| (space.space.clone(), space.writable)).collect(),
            egress: egress.cloned().collect(),
            mounts: manifest.mounts.iter().map(|mount| mount.name.clone()).collect(),
            workspace: Access::Write,
            effects: ceiling.effects.iter().copied().collect(),
        }
    }

    /// Returns the rights of a tool that is called with these: what its grant names, of what its caller has.
    pub fn of_tool(&self, tool: &ToolGrant) -> Self {
        Self {
            tools: pick(&self.tools, &tool.tools),
            spaces: pick(&self.spaces, &tool.spaces),
            egress: tool.egress.iter().filter(|name| self.egress.contains(*name)).cloned().collect(),
            mounts: tool.mounts.iter().filter(|name| self.mounts.contains(*name)).cloned().collect(),
            workspace: narrower(self.workspace, tool.workspace),
            effects: self.effects.clone(),
        }
    }
}

fn pick<K: Ord + Clone, V: Clone>(from: &BTreeMap<K, V>, names: &[K]) -> BTreeMap<K, V> {
    names.iter().filter_map(|name| Some((name.clone(), from.get(name)?.clone()))).collect()
}

fn narrower(one: Access, other: Access) -> Access {
    match (one, other) {
        (Access::None, _) | (_, Access::None) => Access::None,
        (Access::Read, _) | (_, Access::Read) => Access::Read,
        (Access::Write, Access::Write) => Access::Write,
    }
}

/// Returns what a request may ask: it gets the manifest's values if it does not say, and never more than them.
pub fn narrowed(range: Range, manifest: Option<i64>) -> Range {
    match manifest.and_then(|value| u64::try_from(value).ok()) {
        Some(value) => Range { default: value.min(range.max), max: value.min(range.max) },
        None => range,
    }
}

/// Applies [`narrowed`] to each limit.
pub fn narrowed_limits(limits: &crate::config::Limits, manifest: &AskedLimits) -> crate::config::Limits {
    crate::config::Limits {
        fuel: narrowed(limits.fuel, manifest.fuel),
        memory_bytes: narrowed(limits.memory_bytes, manifest.memory_bytes),
        timeout_ms: narrowed(limits.timeout_ms, manifest.timeout_ms),
        output_bytes: narrowed(limits.output_bytes, manifest.output_bytes),
        stdio_bytes: narrowed(limits.stdio_bytes, manifest.stdio_bytes),
        events: narrowed(limits.events, manifest.events),
        ..limits.clone()
    }
}

/// Applies [`narrowed`] to each budget.
pub fn narrowed_budget(budget: &crate::config::StepBudgets, manifest: &AskedBudget) -> crate::config::StepBudgets {
    crate::config::StepBudgets {
        fuel: narrowed(budget.fuel, manifest.fuel),
        wall_ms: narrowed(budget.wall_ms, manifest.wall_ms),
        host_calls: narrowed(budget.host_calls, manifest.host_calls),
        tool_calls: narrowed(budget.tool_calls, manifest.tool_calls),
        bytes_in: narrowed(budget.bytes_in, manifest.bytes_in),
        bytes_out: narrowed(budget.bytes_out, manifest.bytes_out),
    }
}
