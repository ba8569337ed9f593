//! From files to policies: parsed, named and checked against the schema, or refused with all that is wrong.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use cedar_policy::{
    Effect, Policy, PolicyId, PolicySet, Schema, SchemaFragment, ValidationMode, ValidationWarning, Validator,
    ffi::DetailedError,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    argument_types::RecordType,
    facts::ToolFacts,
    nesting,
    problems::{BadPolicies, Problem},
    schema::schema,
};

/// Bytes of all files of a set together.
pub const BYTES_MAX: usize = 1 << 20;

/// Policies of a set.
pub const POLICIES_MAX: usize = 1_000;

/// Tools that a set can be checked against: each may be checked with each policy.
pub const TOOLS_MAX: usize = 500;

/// Bytes of a file's name, and of an id.
const NAME_BYTES_MAX: usize = 128;

/// Warnings that are kept.
const WARNINGS_MAX: usize = 100;

/// A policy file to start with: every caller may run every step, and nothing else is permitted.
pub const STARTER: &str = include_str!("starter.cedar");

/// A policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name for messages and ids, 1 to 128 bytes, without control characters.
    pub file: String,
    pub text: String,
}

/// What was read and found good.
pub struct Loaded {
    /// Sorted by file, then by place.
    pub policies: Vec<Placed>,
    pub schema: Schema,
    pub schema_text: String,
    pub warnings: Vec<String>,
    pub revision: String,
}

/// A policy and where it comes from.
pub struct Placed {
    pub policy: Policy,
    pub file: String,
}

/// Reads a policy set.
pub fn load(mut sources: Vec<Source>, tools: &[(&ToolFacts, RecordType)]) -> Result<Loaded, BadPolicies> {
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    let mut bad = BadPolicies::new();
    check_sizes(&sources, tools, &mut bad);
    bad.check()?;
    let json = schema(tools.iter().map(|(facts, arguments)| (*facts, arguments)));
    let revision = revision(&sources, &json);
    let (schema, schema_text) = read_schema(json)?;
    let mut policies = Vec::new();
    for source in &sources {
        parse(source, &mut policies, &mut bad);
    }
    bad.check()?;
    let warnings = validate(&sources, &policies, tools, &schema, &mut bad);
    bad.check()?;
    Ok(Loaded { policies, schema, schema_text, warnings, revision })
}

/// Finds what must not even be parsed.
fn check_sizes(sources: &[Source], tools: &[(&ToolFacts, RecordType)], bad: &mut BadPolicies) {
    if tools.len() > TOOLS_MAX {
        bad.add(Problem::new("", format!("there are {} tools: at most {TOOLS_MAX} are possible", tools.len())));
    }
    let bytes: usize = sources.iter().map(|source| source.text.len()).sum();
    if bytes > BYTES_MAX {
        bad.add(Problem::new("", format!("the files have {bytes} bytes together: at most {BYTES_MAX} are possible")));
        return;
    }
    let mut room = POLICIES_MAX;
    for (at, source) in sources.iter().enumerate() {
        let file = &source.file;
        if file.is_empty() || file.len() > NAME_BYTES_MAX || file.contains(char::is_control) {
            let shown: String = file.chars().take(NAME_BYTES_MAX).collect();
            bad.add(Problem::new("", format!("`{}` is no name for a policy file", shown.escape_debug())));
        }
        if at > 0 && sources[at - 1].file == *file {
            bad.add(Problem::new(file, "this file is there twice"));
        }
        match nesting::check(&source.text, room) {
            Ok(policies) => room -= policies,
            Err(error) => bad.add(Problem::at(file, &source.text, error.offset(), error)),
        }
    }
}

fn read_schema(json: Value) -> Result<(Schema, String), BadPolicies> {
    let refused = |error: &dyn std::fmt::Display| BadPolicies {
        problems: vec![Problem::new("", format!("the registered tools make no schema: {error}"))],
    };
    // Cedar writes built-in types with a prefix. A reader can do without it, unless it stands in a name of ours.
    let has_prefix = json.to_string().contains("__cedar");
    let fragment = SchemaFragment::from_json_value(json).map_err(|error| refused(&error))?;
    let mut text = fragment.to_cedarschema().map_err(|error| refused(&error))?;
    if !has_prefix {
        text = text.replace("__cedar::", "");
    }
    let schema = Schema::from_schema_fragments([fragment]).map_err(|error| refused(&error))?;
    Ok((schema, text))
}

fn parse(source: &Source, policies: &mut Vec<Placed>, bad: &mut BadPolicies) {
    let Source { file, text } = source;
    let set: PolicySet = match text.parse() {
        Ok(set) => set,
        Err(errors) => {
            for error in errors.iter() {
                bad.add(Problem::from_cedar(file, text, &DetailedError::from(error)));
            }
            return;
        }
    };
    for template in set.templates() {
        bad.add(Problem::new(file, format!("templates cannot be used: write out `{}`", template.id())));
    }
    let mut parsed: Vec<&Policy> = set.policies().collect();
    // Cedar numbers the policies of a text in its order: `policy0`, `policy1` and so on.
    parsed.sort_by_key(|policy| AsRef::<str>::as_ref(policy.id()).trim_start_matches("policy").parse::<u64>().ok());
    for (at, policy) in parsed.into_iter().enumerate() {
        let id = match policy.annotation("id") {
            Some(id) if is_id(id) => id.to_owned(),
            Some(id) => {
                let id: String = id.chars().take(80).collect();
                let message = "is not an id: use 1 to 128 characters of A-Z, a-z, 0-9 and `._-:/`";
                bad.add(Problem::new(file, format!("`{}` {message}", id.escape_debug())));
                continue;
            }
            None => format!("{file}:{}", at + 1),
        };
        if policies.iter().any(|other| AsRef::<str>::as_ref(other.policy.id()) == id) {
            bad.add(Problem::new(file, format!("the id `{id}` is there twice")));
        }
        policies.push(Placed { policy: policy.new_id(PolicyId::new(id)), file: file.clone() });
    }
}

fn is_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:/".contains(c);
    (1..=NAME_BYTES_MAX).contains(&id.len()) && id.chars().all(allowed)
}

/// Checks each policy in every request that it can meet. Returns the warnings.
fn validate(
    sources: &[Source],
    policies: &[Placed],
    tools: &[(&ToolFacts, RecordType)],
    schema: &Schema,
    bad: &mut BadPolicies,
) -> Vec<String> {
    let texts: HashMap<&str, &str> = sources.iter().map(|s| (s.file.as_str(), s.text.as_str())).collect();
    let validator = Validator::new(schema.clone());
    let mut warnings = Vec::new();
    for Placed { policy, file } in policies {
        let text = texts.get(file.as_str()).copied().unwrap_or_default();
        let named = |error: &DetailedError| {
            let mut problem = Problem::from_cedar(file, text, error);
            if let Some(message) = problem.message.strip_prefix("for ") {
                problem.message = message.into();
            }
            problem
        };
        // One at a time, so that a set with many mistakes does not hold all of them in memory.
        let result = match PolicySet::from_policies([policy.clone()]) {
            Ok(single) => validator.validate(&single, ValidationMode::Strict),
            Err(error) => {
                bad.add(Problem::new(file, error));
                continue;
            }
        };
        for error in result.validation_errors() {
            bad.add(named(&DetailedError::from(error)));
        }
        for warning in result.validation_warnings() {
            // A permit that never applies is a mistake; a forbid that never applies is a hole. While there is no tool, no
            // policy about tools can apply.
            let forbids = policy.effect() == Effect::Forbid && !tools.is_empty();
            if forbids && matches!(warning, ValidationWarning::ImpossiblePolicy(_)) {
                bad.add(named(&DetailedError::from(warning)));
                continue;
            }
            let warning = named(&DetailedError::from(warning)).to_string();
            if warnings.len() < WARNINGS_MAX && !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        if bad.is_full() {
            break;
        }
    }
    warnings
}

/// The first 16 hex digits of the SHA-256 of the files, in order of their names, and the schema.
fn revision(sources: &[Source], schema: &Value) -> String {
    let mut hasher = Sha256::new();
    let schema = schema.to_string();
    for part in sources.iter().flat_map(|source| [&source.file, &source.text]).chain([&schema]) {
        // With the length, so that no other parts give the same bytes.
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
