//! The smallest policy that would have allowed what was denied.

use cedar_policy::{EntityUid, EvalResult, Policy};
use serde_json::{Value, json};

use super::{
    conjuncts::Path,
    explain::{Scene, TEXT_BYTES_MAX},
};

/// Attributes that are compared. More than this would not fit into the text.
const PATHS_MAX: usize = 32;

/// Bytes of a text that is compared with.
const LITERAL_BYTES_MAX: usize = 128;

/// Returns a permit for exactly this principal, action and resource, and for the values that `paths` have now.
pub fn policy<'a>(scene: &Scene, paths: impl Iterator<Item = &'a Path>) -> String {
    let mut conditions: Vec<Value> = Vec::new();
    let paths: Vec<&Path> = paths.filter(|path| lasts(path)).collect();
    if paths.iter().any(|path| scene.hides(path)) {
        return "// A policy that would allow this has a value in it that is not to be shown.".into();
    }
    for condition in paths.into_iter().take(PATHS_MAX).filter_map(|path| condition(scene, path)) {
        if !conditions.contains(&condition) {
            conditions.push(condition);
        }
    }
    let texts = [conditions, Vec::new()].map(|conditions| text(scene, conditions));
    let fits = texts.into_iter().flatten().find(|text| text.len() <= TEXT_BYTES_MAX);
    fits.unwrap_or_else(|| "// The names are too long to show a policy that would allow this.".into())
}

/// Returns whether a value can be the same again. Clocks and budgets only fall.
fn lasts(path: &Path) -> bool {
    let names: Vec<&str> = path.attributes.iter().map(String::as_str).collect();
    path.variable == "context" && !matches!(names.as_slice(), ["budget", ..] | ["time", "unix_ms", ..])
}

/// Returns the condition that a path has the value that it has, or that it is absent, if that can be said shortly.
fn condition(scene: &Scene, path: &Path) -> Option<Value> {
    let mut conditions = Vec::new();
    for length in 1..path.attributes.len() {
        let inner = path.first(length + 1);
        // Only arguments can be absent.
        let (_, beneath) = inner.attributes.split_first()?;
        let required = match scene.asked.arguments {
            Some((types, _)) if path.sees("arguments") => types.requires(beneath)?,
            _ => true,
        };
        if required {
            continue;
        }
        let is_there = json!({ "has": { "left": path.first(length).json(), "attr": inner.attributes[length] } });
        if scene.value(&inner).is_none() {
            conditions.push(json!({ "!": { "arg": is_there } }));
            return all(conditions);
        }
        conditions.push(is_there);
    }
    let literal = match scene.value(path)? {
        EvalResult::Bool(value) => json!({ "Value": value }),
        EvalResult::Long(value) => json!({ "Value": value }),
        EvalResult::String(value) if value.len() <= LITERAL_BYTES_MAX => json!({ "Value": value }),
        EvalResult::EntityUid(uid) => json!({ "Value": { "__entity": entity(&uid) } }),
        _ => return None,
    };
    conditions.push(json!({ "==": { "left": path.json(), "right": literal } }));
    all(conditions)
}

fn text(scene: &Scene, conditions: Vec<Value>) -> Option<String> {
    let is = |uid: &EntityUid| json!({ "op": "==", "entity": entity(uid) });
    let conditions: Vec<Value> =
        all(conditions).into_iter().map(|body| json!({ "kind": "when", "body": body })).collect();
    let json = json!({
        "effect": "permit",
        "principal": is(&scene.asked.principal),
        "action": is(scene.asked.action.uid()),
        "resource": is(&scene.asked.resource),
        "conditions": conditions,
    });
    Policy::from_json(None, json).ok().map(|policy| policy.to_string())
}

fn all(conditions: Vec<Value>) -> Option<Value> {
    conditions.into_iter().reduce(|left, right| json!({ "&&": { "left": left, "right": right } }))
}

fn entity(uid: &EntityUid) -> Value {
    json!({ "type": uid.type_name().to_string(), "id": uid.id().unescaped() })
}
