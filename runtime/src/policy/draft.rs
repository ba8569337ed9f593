//! Permits that are written from what was seen, for people to review.

#[cfg(test)]
mod tests;

use cedar_policy::{Effect, EntityId, EntityUid, Policy};
use serde_json::{Value, json};

use super::{
    conjuncts::{self, Unsplittable, split},
    explain::TEXT_BYTES_MAX,
    nesting,
    schema::NAMESPACE,
};

/// A condition, in Cedar's JSON format: no text that it compares with can be anything but a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition(Value);

/// A permit to be written, for one principal, action and resource.
#[derive(Debug, Clone)]
pub struct Permit<'a> {
    pub id: &'a str,
    pub description: &'a str,
    /// The type, without its namespace, and the name.
    pub principal: (&'a str, &'a str),
    pub action: &'a str,
    pub resource: (&'a str, &'a str),
    /// One of these must hold whole. None: nothing must hold.
    pub alternatives: &'a [Vec<Condition>],
}

/// A permit that cannot be written so that a set takes it.
#[derive(Debug, thiserror::Error)]
pub enum Unwritable {
    #[error(transparent)]
    Form(#[from] Unsplittable),
    #[error(transparent)]
    TooComplex(#[from] nesting::TooComplex),
    #[error("{0}")]
    Cedar(String),
}

impl Condition {
    /// `context.ATTRIBUTE == VALUE`
    pub fn equals(attribute: &str, value: &str) -> Self {
        Self(json!({ "==": { "left": context(attribute), "right": { "Value": value } } }))
    }

    /// `[VALUES].contains(context.ATTRIBUTE)`
    pub fn one_of<'a>(attribute: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let values: Vec<Value> = values.into_iter().map(|value| json!({ "Value": value })).collect();
        Self(json!({ "contains": { "left": { "Set": values }, "right": context(attribute) } }))
    }

    /// `context.ATTRIBUTE like PATTERN`, in which any text stands between two of `pieces`.
    pub fn like<'a>(attribute: &str, pieces: impl IntoIterator<Item = &'a str>) -> Self {
        let mut pattern = Vec::new();
        for (at, piece) in pieces.into_iter().enumerate() {
            if at > 0 {
                pattern.push(json!("Wildcard"));
            }
            if !piece.is_empty() {
                pattern.push(json!({ "Literal": piece }));
            }
        }
        Self(json!({ "like": { "left": context(attribute), "pattern": pattern } }))
    }

    /// Returns whether it looks at `context.ATTRIBUTE`, or at the context as a whole.
    pub fn sees(&self, attribute: &str) -> bool {
        conjuncts::paths(&self.0).iter().any(|path| path.sees(attribute))
    }

    fn text(&self) -> Result<String, Unsplittable> {
        let text = conjuncts::print(&self.0)?;
        let weak = ["||", "if-then-else"].iter().any(|operator| self.0.get(operator).is_some());
        Ok(if weak { format!("({text})") } else { text })
    }
}

/// Returns what must hold by the addition of an [`Explanation`](super::Explanation). `None`: it is no policy but a comment
/// that says why there is none.
pub fn conditions(addition: &str) -> Option<Vec<Condition>> {
    if addition.len() > TEXT_BYTES_MAX || nesting::check(addition, 1).is_err() {
        return None;
    }
    let policy = Policy::parse(None, addition).ok().filter(|policy| policy.effect() == Effect::Permit)?;
    let json = policy.to_json().ok()?;
    let mut conditions = Vec::new();
    for condition in json["conditions"].as_array().into_iter().flatten() {
        if condition["kind"] != "when" {
            return None; // we write none
        }
        split(&condition["body"], "&&", &mut |part| conditions.push(Condition(part.clone())));
    }
    Some(conditions)
}

impl Permit<'_> {
    /// Writes the permit as Cedar, as a set takes it.
    pub fn text(&self) -> Result<String, Unwritable> {
        let Self { id, description, .. } = self;
        let [principal, action, resource] =
            [entity(self.principal)?, entity(("Action", self.action))?, entity(self.resource)?];
        let head = format!(
            "@id({id:?})\n@description({description:?})\npermit (\n  principal == {principal},\n  action == {action},\n  \
             resource == {resource}\n)"
        );
        let mut alternatives = Vec::new();
        for alternative in self.alternatives {
            let conditions = alternative.iter().map(Condition::text).collect::<Result<Vec<_>, _>>()?;
            alternatives.push(conditions.join(" && "));
        }
        let always = alternatives.is_empty() || alternatives.iter().any(String::is_empty);
        let text = match always {
            true => format!("{head};\n"),
            false => format!("{head}\nwhen {{\n  {}\n}};\n", alternatives.join(" ||\n  ")),
        };
        nesting::check(&text, 1)?;
        // What is written must be what a set reads.
        Policy::parse(None, &text).map_err(unwritable)?;
        Ok(text)
    }
}

fn entity((kind, id): (&str, &str)) -> Result<EntityUid, Unwritable> {
    let kind = format!("{NAMESPACE}::{kind}").parse().map_err(unwritable)?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn unwritable(error: impl ToString) -> Unwritable {
    Unwritable::Cedar(error.to_string())
}

fn context(attribute: &str) -> Value {
    json!({ ".": { "left": { "Var": "context" }, "attr": attribute } })
}
