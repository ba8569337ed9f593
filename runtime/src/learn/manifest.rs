//! A manifest, written with what each part of it was made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::Serialize;

use super::{
    draft::Basis,
    evidence::{Evidence, comment},
    seen::{RuleUse, Seen, SpaceUse, ToolUse},
    warnings::Warnings,
};
use crate::{
    budget::Amounts,
    egress::{HostPattern, MethodName, Narrow, PathPattern},
    manifest::{ENTRIES_MAX, Manifest, PowerName, SpaceGrant, ToolGrant},
    step::{Name, ToolName, Version},
};

/// Hosts and names that a comment tells.
const TOLD: usize = 8;

/// What a manifest is written of.
pub struct Parts<'a> {
    basis: &'a Basis<'a>,
    tools: Vec<(&'a ToolName, &'a ToolUse)>,
    spaces: Vec<(&'a Name, &'a SpaceUse)>,
    rules: Vec<(&'a Name, &'a RuleUse)>,
    spent: Amounts,
}

impl<'a> Parts<'a> {
    /// Takes what a manifest can hold.
    pub fn of(seen: &'a Seen, basis: &'a Basis<'a>, warnings: &mut Warnings) -> Self {
        Self {
            basis,
            tools: most_used(&seen.tools, |used| &used.evidence, "tools", warnings),
            spaces: most_used(&seen.spaces, |used| &used.evidence, "memory spaces", warnings),
            rules: most_used(&seen.rules, |used| &used.evidence, "egress rules", warnings),
            spent: seen.spent,
        }
    }

    /// Writes the manifest, with at most `paths` patterns for each rule.
    pub fn write(&self, version: &Version, head: &str, paths: usize) -> String {
        let Manifest { name, owner, description, labels, mounts, limits, budget, component, .. } = self.basis.manifest;
        let mut text = format!("{head}\n");
        entry(&mut text, "name", name);
        entry(&mut text, "version", version);
        if component != self.basis.component {
            remark(&mut text, &format!("What `{component}` meant when this version was registered."));
        }
        entry(&mut text, "component", &self.basis.component);
        entry(&mut text, "owner", owner);
        entry(&mut text, "description", description);
        entry(&mut text, "labels", labels);
        entry(&mut text, "powers", &self.powers());
        self.unused(&mut text);
        if !mounts.is_empty() || self.basis.manifest.powers.contains(&PowerName::Filesystem) {
            text.push('\n');
            remark(&mut text, "No record tells of files: mounts, and what tools see of files, are as they were.");
        }
        for mount in mounts {
            text += "\n[[mount]]\n";
            entries(&mut text, mount, &["name", "path", "writable"]);
        }
        self.tools.iter().for_each(|(name, used)| self.tool(&mut text, name, used));
        for (space, used) in &self.spaces {
            text.push('\n');
            remark(&mut text, &from(&used.evidence.words()));
            text += "[[memory]]\n";
            let grant = SpaceGrant { space: (*space).clone(), writable: used.written };
            entries(&mut text, &grant, &["space", "writable"]);
        }
        self.rules.iter().for_each(|(rule, used)| self.rule(&mut text, rule, used, paths));
        table(&mut text, "limits", limits);
        table(&mut text, "budget", budget);
        self.spent(&mut text);
        text
    }

    /// Returns the powers of before, which the component imports, and those that the draft needs.
    fn powers(&self) -> Vec<PowerName> {
        let mut powers = self.basis.manifest.powers.clone();
        let needed = [
            (PowerName::Http, self.rules.iter().any(|(_, used)| used.direct)),
            (PowerName::Memory, self.spaces.iter().any(|(_, used)| used.direct)),
            (PowerName::Tools, !self.tools.is_empty()),
        ];
        powers
            .extend(needed.into_iter().filter(|(power, needed)| *needed && !self.has(*power)).map(|(power, _)| power));
        powers
    }

    fn has(&self, power: PowerName) -> bool {
        self.basis.manifest.powers.contains(&power)
    }

    /// Tells what the manifest had and nothing used.
    fn unused(&self, text: &mut String) {
        let Manifest { tools, spaces, egress, .. } = self.basis.manifest;
        let tools = tools.iter().filter(|tool| !self.tools.iter().any(|(name, _)| **name == tool.name));
        let spaces = spaces.iter().filter(|space| !self.spaces.iter().any(|(name, _)| **name == space.space));
        let rules = egress.iter().filter(|egress| !self.rules.iter().any(|(name, _)| **name == egress.rule));
        let unused: Vec<String> = tools
            .map(|tool| format!("tool {}", tool.name))
            .chain(spaces.map(|space| format!("memory {}", space.space)))
            .chain(rules.map(|egress| format!("egress {}", egress.rule)))
            .collect();
        if !unused.is_empty() {
            text.push('\n');
            remark(text, &format!("It had these as well, and no record used them: {}.", told(unused.iter())));
        }
    }

    fn tool(&self, text: &mut String, name: &ToolName, used: &ToolUse) {
        let before = self.basis.manifest.tools.iter().find(|tool| tool.name == *name);
        let grant = ToolGrant {
            name: name.clone(),
            version: used.version.clone().or_else(|| before.and_then(|tool| tool.version.clone())),
            workspace: before.map(|tool| tool.workspace).unwrap_or_default(),
            mounts: before.map(|tool| tool.mounts.clone()).unwrap_or_default(),
            tools: self.tools.iter().map(|(name, _)| *name).filter(|name| used.tools.contains(name)).cloned().collect(),
            spaces: self
                .spaces
                .iter()
                .map(|(name, _)| *name)
                .filter(|name| used.spaces.contains(name))
                .cloned()
                .collect(),
            egress: self
                .rules
                .iter()
                .map(|(name, _)| *name)
                .filter(|name| used.rules.contains(name))
                .cloned()
                .collect(),
            limits: before.map(|tool| tool.limits).unwrap_or_default(),
            budget: before.map(|tool| tool.budget).unwrap_or_default(),
        };
        text.push('\n');
        remark(text, &from(&used.evidence.words()));
        *text += "[[tool]]\n";
        entries(
            text,
            &grant,
            &["name", "version", "workspace", "mounts", "tools", "spaces", "egress", "limits", "budget"],
        );
    }

    fn rule(&self, text: &mut String, rule: &Name, used: &RuleUse, paths: usize) {
        let before = self.basis.manifest.egress.iter().find(|egress| egress.rule == *rule);
        let mut narrow = before.cloned().unwrap_or_else(|| Narrow::nothing(rule.clone()));
        text.push('\n');
        remark(text, &from(&used.evidence.words()));
        let hosts: Vec<HostPattern> = used.hosts.iter().filter_map(|host| host.parse().ok()).collect();
        narrow.host = match hosts.as_slice() {
            [host] if used.hosts.len() == 1 => Some(host.clone()),
            _ => {
                remark(
                    text,
                    &format!("Of its hosts, these: {}. The policies tell them apart.", told(used.hosts.iter())),
                );
                narrow.host
            }
        };
        let methods: Vec<MethodName> =
            used.methods.iter().filter_map(|method| method.parse().ok()).take(ENTRIES_MAX).collect();
        narrow.methods = Some(methods).filter(|methods| !methods.is_empty()).or(narrow.methods);
        let (patterns, left_out) = used.paths.patterns(paths);
        if left_out > 0 {
            remark(
                text,
                &format!("{left_out} requests had paths that are not here: too long, or too many different ones."),
            );
        }
        let patterns: Vec<PathPattern> = patterns.iter().filter_map(|pattern| pattern.parse().ok()).collect();
        narrow.paths = Some(patterns).filter(|patterns| !patterns.is_empty()).or(narrow.paths);
        if used.unauthorized > 0 && used.credential.is_none() {
            let were = if used.unauthorized == 1 { "was" } else { "were" };
            let told =
                "answered 401 or 403. What no manifest grants goes without a credential, also while a daemon observes";
            remark(text, &format!("{} of them {were} {told}.", used.unauthorized));
        }
        narrow.credential = used.credential.clone().or(narrow.credential);
        *text += "[[egress]]\n";
        entries(text, &narrow, &["rule", "host", "methods", "paths", "credential"]);
    }

    /// Tells what one step spent at most, with room.
    fn spent(&self, text: &mut String) {
        text.push('\n');
        remark(
            text,
            "Twice the most that one step spent, rounded up. To bind it to that, take the first # of a line away.",
        );
        let set = toml::Value::try_from(self.basis.manifest.budget).ok();
        let is_set = |name: &str| set.as_ref().is_some_and(|set| set.get(name).is_some());
        if !Amounts::names().into_iter().any(is_set) {
            remark(text, "[budget]");
        }
        for (name, most) in Amounts::names().into_iter().zip(self.spent.to_array()) {
            match (most, is_set(name)) {
                (0, _) => {}
                (_, true) => remark(text, &format!("{name}, which has a bound above: {most}")),
                (_, false) => remark(text, &format!("{name} = {} # {most}", generous(most))),
            }
        }
    }
}

/// Returns what was used the most, as much as a manifest can hold, by name.
fn most_used<'a, K: Ord, V>(
    all: &'a BTreeMap<K, V>,
    evidence: impl Fn(&V) -> &Evidence,
    what: &str,
    warnings: &mut Warnings,
) -> Vec<(&'a K, &'a V)> {
    let mut used: Vec<_> = all.iter().collect();
    if used.len() > ENTRIES_MAX {
        warnings.note(format!(
            "{} {what} were used, and a manifest holds {ENTRIES_MAX}: the least used are left out",
            used.len()
        ));
        used.sort_by_key(|(_, used)| std::cmp::Reverse(evidence(used).records()));
        used.truncate(ENTRIES_MAX);
        used.sort_by_key(|(name, _)| *name);
    }
    used
}

/// Returns twice as much, rounded up to one, two or five and zeros.
fn generous(most: u64) -> u64 {
    let enough = most.saturating_mul(2);
    let mut unit: u64 = 1;
    loop {
        if let Some(round) =
            [1, 2, 5].into_iter().map(|times| unit.saturating_mul(times)).find(|round| *round >= enough)
        {
            return round;
        }
        unit = unit.saturating_mul(10);
    }
}

fn told<T: ToString>(names: impl ExactSizeIterator<Item = T>) -> String {
    let more = names.len().saturating_sub(TOLD);
    let shown: Vec<String> = names.take(TOLD).map(|name| name.to_string()).collect();
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

fn from(words: &str) -> String {
    format!("From {words}.")
}

fn remark(text: &mut String, words: &str) {
    let _ = writeln!(text, "# {}", comment(words)); // a text takes everything
}

/// Writes a table, if it says anything.
fn table(text: &mut String, name: &str, value: &impl Serialize) {
    let mut body = String::new();
    entries(&mut body, value, &[]);
    if !body.is_empty() {
        let _ = write!(text, "\n[{name}]\n{body}");
    }
}

/// Writes what a value has, the keys of `first` first.
fn entries(text: &mut String, value: &impl Serialize, first: &[&str]) {
    let Ok(toml::Value::Table(table)) = toml::Value::try_from(value) else { return };
    let rest: BTreeSet<&str> = table.keys().map(String::as_str).filter(|key| !first.contains(key)).collect();
    for key in first.iter().copied().chain(rest) {
        if let Some(value) = table.get(key) {
            entry(text, key, value);
        }
    }
}

/// Writes a key and its value, unless that says nothing.
fn entry(text: &mut String, key: &str, value: &(impl Serialize + ?Sized)) {
    let Ok(value) = toml::Value::try_from(value) else { return };
    let says_nothing = match &value {
        toml::Value::Array(values) => values.is_empty(),
        toml::Value::Table(table) => table.is_empty(),
        toml::Value::String(text) => text.is_empty() || (key == "workspace" && text == "none"),
        toml::Value::Boolean(value) => !value,
        _ => false,
    };
    if !says_nothing {
        let _ = writeln!(text, "{key} = {value}");
    }
}
