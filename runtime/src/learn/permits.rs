//! Policies, written with what each of them was made of.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    draft::Basis,
    evidence::comment,
    seen::{Action, Judged, Seen},
    warnings::Warnings,
};
use crate::{
    policy::{Condition, Permit, Unwritable},
    step::Version,
};

/// Alternatives of one permit: more are written as another one.
const ALTERNATIVES: usize = 12;

/// Patterns of paths for one rule and method.
const PATTERNS_MAX: usize = 64;

/// Permits of a draft, and its bytes: a set takes as much, and a little more.
const PERMITS_MAX: usize = 400;
const BYTES_MAX: usize = 512 << 10;

/// Characters of an id.
const ID_CHARS_MAX: usize = 110;

/// Writes a permit for each action and resource that was used and that no policy permits.
pub fn write(seen: &Seen, version: &Version, basis: &Basis<'_>, warnings: &mut Warnings) -> String {
    let mut writer = Writer { text: String::new(), ids: BTreeSet::new(), prefix: prefix(basis, version) };
    for (action, judged) in &seen.actions {
        if writer.ids.len() >= PERMITS_MAX || writer.text.len() >= BYTES_MAX {
            warnings.note(format!("more than {PERMITS_MAX} permits would be needed: the draft has the first of them"));
            break;
        }
        writer.action(action, judged, warnings);
    }
    writer.text
}

struct Writer {
    text: String,
    ids: BTreeSet<String>,
    /// `learned.desk.2`
    prefix: String,
}

impl Writer {
    fn action(&mut self, action: &Action, judged: &Judged, warnings: &mut Warnings) {
        let asked = words(action);
        if judged.permitted.records() > 0 {
            let by = match judged.by.is_empty() {
                true => "nobody had to be asked".to_owned(),
                false => format!("permitted by `{}`", judged.by.iter().cloned().collect::<Vec<_>>().join("`, `")),
            };
            self.remark(&format!("{asked}: {by}, from {}. No permit of its own.", judged.permitted.words()));
        }
        if judged.unsaid.records() > 0 {
            let why = "what would permit it cannot be shown, or not shortly: write that permit by hand";
            warnings.note(format!("{asked}: {why} ({})", judged.unsaid.words()));
        }
        if judged.alternatives.is_empty() {
            return;
        }
        let (alternatives, left_out) = alternatives(judged);
        if left_out > 0 {
            warnings.note(format!("{asked}: {left_out} requests had paths that no permit has, too long or too many"));
        }
        self.remark(&format!("{asked}: from {}.", judged.unpermitted.words()));
        let mut size = ALTERNATIVES;
        let mut rest = alternatives.as_slice();
        while !rest.is_empty() {
            let (these, others) = rest.split_at(size.min(rest.len()));
            match self.permit(action, &asked, these) {
                Ok(()) => rest = others,
                Err(_) if size > 1 => size /= 2,
                Err(error) => {
                    warnings.note(format!("{asked}: a permit cannot be written: {error}"));
                    rest = others;
                }
            }
        }
    }

    fn permit(&mut self, action: &Action, asked: &str, alternatives: &[Vec<Condition>]) -> Result<(), Unwritable> {
        let id = self.id(action);
        let permit = Permit {
            id: &id,
            description: &comment(&format!("Learned, to be reviewed: {asked}.")),
            principal: (action.principal.0, &action.principal.1),
            action: &action.action,
            resource: (action.resource.0, &action.resource.1),
            alternatives,
        };
        self.text += &permit.text()?;
        self.text.push('\n');
        self.ids.insert(id);
        Ok(())
    }

    /// Returns an id that no other permit of the draft has.
    fn id(&self, action: &Action) -> String {
        let of = match action.principal {
            ("Caller", ref caller) => caller,
            _ => &action.resource.1,
        };
        let named = format!("{}.{}.{of}", self.prefix, action.action.split(':').next().unwrap_or_default());
        let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-:/".contains(c) { c } else { '-' };
        let id: String = named.chars().take(ID_CHARS_MAX).map(allowed).collect();
        let mut free = id.clone();
        let mut number = 1;
        while self.ids.contains(&free) {
            number += 1;
            free = format!("{id}.{number}");
        }
        free
    }

    fn remark(&mut self, words: &str) {
        let _ = writeln!(self.text, "// {}", comment(words)); // a text takes everything
    }
}

/// Returns what must hold, as many ways as there are, and how many requests none of them holds for.
fn alternatives(judged: &Judged) -> (Vec<Vec<Condition>>, u64) {
    let mut alternatives = Vec::new();
    let mut beyond = 0;
    // What only tools asked, only tools may.
    let via = (!judged.vias.contains("")).then(|| Condition::one_of("via", judged.vias.iter().map(String::as_str)));
    for alternative in judged.alternatives.values() {
        let conditions: Vec<Condition> = via.iter().chain(&alternative.conditions).cloned().collect();
        if alternative.requests.is_empty() {
            alternatives.push(conditions);
            continue;
        }
        for ((rule, method), paths) in &alternative.requests {
            let (patterns, left_out) = paths.patterns(PATTERNS_MAX);
            beyond += left_out;
            for pattern in patterns {
                let own = [Condition::equals("rule", rule), Condition::equals("method", method), path(&pattern)];
                alternatives.push(conditions.iter().cloned().chain(own).collect());
            }
        }
    }
    // Where nothing must hold, nothing else matters.
    match alternatives.iter().any(Vec::is_empty) {
        true => (vec![Vec::new()], beyond),
        false => (alternatives, beyond),
    }
}

/// Cedar's star also stands for slashes: the manifest is what holds a segment to be one.
fn path(pattern: &str) -> Condition {
    match pattern.contains('*') {
        true => Condition::like("path", pattern.replace("**", "*").split('*')),
        false => Condition::equals("path", pattern),
    }
}

fn prefix(basis: &Basis<'_>, version: &Version) -> String {
    format!("learned.{}.{version}", basis.manifest.name)
}

fn words(action: &Action) -> String {
    let (principal, resource) = (&action.principal.1, &action.resource.1);
    match action.action.as_str() {
        "RunStep" => format!("{principal} runs {resource}"),
        "ReadMemory" => format!("{principal} reads memory {resource}"),
        "WriteMemory" => format!("{principal} writes memory {resource}"),
        "DeleteMemory" => format!("{principal} deletes from memory {resource}"),
        "SendRequest" => format!("{principal} sends requests to {resource}"),
        _ => format!("{principal} calls tool {resource}"),
    }
}
