//! A policy taken apart: the conditions that must all hold, and what each of them looks at.

use cedar_policy::{Expression, Policy, PolicyId};
use serde_json::{Value, json};

use super::problems::cut;

/// Bytes of a condition's text.
const TEXT_BYTES_MAX: usize = 1024;

/// The variable of a path that starts at an entity that the policy names.
const LITERAL: &str = "literal";

/// A variable of the request and a chain of attributes, such as `context.arguments.queue`. Where a policy names an
/// entity, that stands for the variable: the request may be about the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub variable: String,
    pub attributes: Vec<String>,
}

/// One of the conditions of a policy that must all hold.
pub struct Conjunct {
    /// At most 1 KiB.
    pub text: String,
    pub expression: Expression,
    pub paths: Vec<Path>,
}

/// A policy in its parts.
pub struct Anatomy {
    /// The policy without its conditions.
    pub scope: Policy,
    pub conjuncts: Vec<Conjunct>,
    /// What the policy comes to for some arguments: `None` if it applies to none that we can know of now.
    pub relaxed: Option<Relaxed>,
    pub paths: Vec<Path>,
}

/// A policy that does not look at the arguments.
pub struct Relaxed {
    pub policy: Policy,
    /// Nothing had to be left out.
    pub exact: bool,
}

/// A policy that cannot be taken apart. There should be none.
#[derive(Debug, thiserror::Error)]
#[error("cannot be taken apart: {0}")]
pub struct Unsplittable(String);

impl Anatomy {
    /// Takes a policy apart. Its nesting is bounded by `nesting::check`.
    pub fn of(policy: &Policy) -> Result<Self, Unsplittable> {
        let id = policy.id();
        let json = policy.to_json().map_err(unsplittable)?;
        let mut bodies = Vec::new();
        for condition in json["conditions"].as_array().into_iter().flatten() {
            match condition["kind"].as_str() {
                Some("when") => split(&condition["body"], "&&", &mut |part| bodies.push(part.clone())),
                // None of several alternatives may hold.
                _ => split(&condition["body"], "||", &mut |part| bodies.push(json!({ "!": { "arg": part } }))),
            }
        }
        let conjuncts = bodies.iter().map(Conjunct::of).collect::<Result<Vec<_>, _>>()?;
        let with = |bodies: Vec<&Value>| with_conditions(id, &json, &bodies);
        let free: Vec<&Value> =
            bodies.iter().zip(&conjuncts).filter(|(_, c)| !c.sees_arguments()).map(|(b, _)| b).collect();
        let exact = free.len() == bodies.len();
        // A forbid may let some arguments pass, so it only counts if it looks at none. A permit counts if the rest of
        // it holds.
        let relaxed = match policy.effect() {
            cedar_policy::Effect::Forbid if !exact => None,
            _ => Some(Relaxed { policy: with(free)?, exact }),
        };
        let paths = conjuncts.iter().flat_map(|c| c.paths.iter().cloned()).collect();
        Ok(Self { scope: with(Vec::new())?, conjuncts, relaxed, paths })
    }
}

impl Conjunct {
    fn of(body: &Value) -> Result<Self, Unsplittable> {
        let text = print(body)?;
        let expression = text.parse().map_err(unsplittable)?;
        Ok(Self { text: cut(text, TEXT_BYTES_MAX), expression, paths: paths(body) })
    }

    fn sees_arguments(&self) -> bool {
        self.paths.iter().any(|path| path.sees("arguments"))
    }
}

impl Path {
    /// Returns the path as Cedar's JSON format has it.
    pub fn json(&self) -> Value {
        let variable = json!({ "Var": self.variable });
        self.attributes.iter().fold(variable, |left, name| json!({ ".": { "left": left, "attr": name } }))
    }

    /// Returns the path as text.
    pub fn text(&self) -> Result<String, Unsplittable> {
        print(&self.json())
    }

    /// Returns the path as something that can be evaluated.
    pub fn expression(&self) -> Result<Expression, Unsplittable> {
        self.text()?.parse().map_err(unsplittable)
    }

    /// Returns the path up to its first `length` attributes.
    pub fn first(&self, length: usize) -> Self {
        Self { variable: self.variable.clone(), attributes: self.attributes.iter().take(length).cloned().collect() }
    }

    /// Returns whether the path looks at an attribute of the context, or at the context as a whole.
    pub fn sees(&self, attribute: &str) -> bool {
        self.variable == "context" && self.attributes.first().is_none_or(|first| first == attribute)
    }
}

/// Returns a condition in Cedar's JSON format as text.
pub fn print(body: &Value) -> Result<String, Unsplittable> {
    let any = json!({ "op": "All" });
    let empty = json!({ "effect": "permit", "principal": any, "action": any, "resource": any });
    let text = with_conditions(&PolicyId::new("condition"), &empty, &[body])?.to_string();
    let condition = text.split_once("when {").and_then(|(_, rest)| rest.rsplit_once('}'));
    condition.map(|(condition, _)| condition.trim().into()).ok_or_else(|| unsplittable(text))
}

fn with_conditions(id: &PolicyId, policy: &Value, bodies: &[&Value]) -> Result<Policy, Unsplittable> {
    let conditions: Vec<Value> = bodies.iter().map(|body| json!({ "kind": "when", "body": body })).collect();
    let mut json = policy.clone();
    json["conditions"] = Value::Array(conditions);
    Policy::from_json(Some(id.clone()), json).map_err(unsplittable)
}

/// Returns what an expression in Cedar's JSON format looks at.
pub fn paths(expression: &Value) -> Vec<Path> {
    let mut paths = Vec::new();
    collect_paths(expression, &mut paths);
    paths
}

/// Splits an expression at the operators `operator` that nothing but the same operator surrounds.
pub fn split<'a>(expression: &'a Value, operator: &str, part: &mut impl FnMut(&'a Value)) {
    match expression.get(operator) {
        Some(operands) => {
            split(&operands["left"], operator, part);
            split(&operands["right"], operator, part);
        }
        None => part(expression),
    }
}

fn collect_paths(expression: &Value, found: &mut Vec<Path>) {
    if let Some(path) = path(expression) {
        return found.push(path);
    }
    let Some((operator, operands)) = operation(expression) else { return };
    match (operator, operands) {
        ("Value", literal) => {
            if literal.get("__entity").is_some() {
                found.push(Path { variable: LITERAL.into(), attributes: Vec::new() });
            }
        }
        ("Record", Value::Object(attributes)) => attributes.values().for_each(|value| collect_paths(value, found)),
        (_, Value::Array(elements)) => elements.iter().for_each(|element| collect_paths(element, found)),
        (_, operands) => {
            for name in ["left", "right", "arg", "if", "then", "else", "in"] {
                operands.get(name).into_iter().for_each(|operand| collect_paths(operand, found));
            }
        }
    }
}

/// Reads a chain of attributes, also if it is only asked whether the last ones are there.
fn path(expression: &Value) -> Option<Path> {
    match operation(expression)? {
        ("Var", Value::String(variable)) => Some(Path { variable: variable.clone(), attributes: Vec::new() }),
        ("." | "has", operands) => {
            let mut path = path(operands.get("left")?)?;
            match operands.get("attr")? {
                Value::Array(names) => path.attributes.extend(names.iter().filter_map(Value::as_str).map(String::from)),
                name => path.attributes.push(name.as_str()?.into()),
            }
            Some(path)
        }
        _ => None,
    }
}

fn operation(expression: &Value) -> Option<(&str, &Value)> {
    expression.as_object()?.iter().next().map(|(operator, operands)| (operator.as_str(), operands))
}

fn unsplittable(why: impl ToString) -> Unsplittable {
    Unsplittable(cut(why.to_string(), TEXT_BYTES_MAX))
}
