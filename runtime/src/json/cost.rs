//! Counts what a check would cost before it is made, by visiting each pair of schema and value that it would visit.
//!
//! Schemas and values are each small, but together they can multiply: references that double at every level of the
//! value, long lists against long lists, long strings against patterns. A count that runs over its limit ends, and the
//! check is refused. The count knows the keywords that [`super::admit`] lets through, and treats each branch as taken.

use serde_json::{Map, Value};

use super::admit::{Holds, Key, keyword, resolve, schemas};

/// Units of work of one check. A unit is in the order of 100 ns.
const WORK_MAX: u64 = 1_000_000;

/// Bytes that the descriptions of all problems of a value may take while they are collected.
const PROBLEM_BYTES_MAX: u64 = 32 << 20;

/// About what a value takes in memory, beside its text.
const NODE_BYTES: u64 = 64;

/// How many schemas may be entered inside each other, which takes stack for each.
const NESTED_MAX: u32 = 192;

/// Units for each byte that one pattern reads. The largest patterns take more time, the usual ones much less.
const PATTERN_BYTE: u64 = 20;

/// Units for a division by a fraction, which takes long arithmetic.
const FRACTION: u64 = 10;

/// Why a check is not made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum TooMuch {
    #[error("too much work to check against the schema: send less at once, or simplify the schema")]
    Work,
    #[error("nested too deeply to check against the schema: the limit is {NESTED_MAX} schemas inside each other")]
    Nested,
}

/// Refuses a check of `value` against the schema `document` that would take too much.
pub(super) fn measure(document: &Value, value: &Value) -> Result<(), TooMuch> {
    let mut meter = Meter { document, units: 0, max: WORK_MAX, nested: 0, path_bytes: 0, describing: false };
    meter.visit(document, value, 0)
}

/// Returns whether all problems of `value` can be collected. There can be one for each keyword that is visited, and each
/// can hold its own copy of the value, of what the keyword says and of the paths to both.
pub(super) fn describable(document: &Value, value: &Value) -> bool {
    let max = PROBLEM_BYTES_MAX;
    let mut meter = Meter { document, units: 0, max, nested: 0, path_bytes: 0, describing: true };
    meter.visit(document, value, 0).is_ok()
}

struct Meter<'a> {
    document: &'a Value,
    /// Units of work, or bytes of problems.
    units: u64,
    max: u64,
    nested: u32,
    /// Bytes of the paths to the present schema and value.
    path_bytes: u64,
    describing: bool,
}

impl Meter<'_> {
    /// Visits a schema with a value. Paths are longer by `step_bytes` than those to the schema around it.
    fn visit(&mut self, schema: &Value, value: &Value, step_bytes: usize) -> Result<(), TooMuch> {
        // A chain of references takes part in the path, too.
        let step_bytes = step_bytes as u64 + NODE_BYTES;
        self.path_bytes += step_bytes;
        self.nested += 1;
        if self.nested > NESTED_MAX {
            return Err(TooMuch::Nested);
        }
        if self.describing {
            let each = weigh(value) + weigh(schema) + self.path_bytes;
            self.charge(problems(schema).saturating_mul(each))?;
        }
        match schema {
            Value::Object(keywords) => self.visit_keywords(keywords, value)?,
            _ => self.charge(1)?,
        }
        self.nested -= 1;
        self.path_bytes -= step_bytes;
        Ok(())
    }

    fn visit_keywords(&mut self, keywords: &Map<String, Value>, value: &Value) -> Result<(), TooMuch> {
        self.charge(1 + keywords.len() as u64)?;
        for (name, held) in keywords {
            match keyword(name) {
                Some(Holds::Data) => self.visit_data(name, held, value)?,
                Some(Holds::Part(_)) => match value {
                    Value::Array(items) => self.visit_items(name, held, keywords, items)?,
                    Value::Object(members) => self.visit_members(name, held, keywords, members)?,
                    _ => {}
                },
                Some(Holds::Same(shape)) => {
                    for (key, inner) in schemas(shape, held) {
                        let step_bytes = if let Key::Name(name) = key { name.len() } else { 0 };
                        self.visit(inner, value, step_bytes)?;
                    }
                }
                Some(Holds::Reference) => {
                    if let Some(reference) = held.as_str()
                        && let Some(inner) = resolve(self.document, reference)
                    {
                        self.visit(inner, value, reference.len())?;
                    }
                }
                Some(Holds::Definitions) | None => {}
            }
        }
        Ok(())
    }

    fn visit_data(&mut self, name: &str, held: &Value, value: &Value) -> Result<(), TooMuch> {
        match (name, held, value) {
            ("pattern", _, Value::String(text)) => self.charge_pattern(text),
            ("minLength" | "maxLength", _, Value::String(text)) => self.charge(text.len() as u64 / 64),
            ("multipleOf", Value::Number(divisor), Value::Number(_)) if !divisor.is_u64() => self.charge(FRACTION),
            ("const", _, _) => self.charge(nodes(value)),
            ("enum", Value::Array(choices), _) => self.charge(nodes(value).saturating_mul(choices.len() as u64)),
            ("required", Value::Array(names), Value::Object(_)) => self.charge(names.len() as u64),
            ("dependentRequired", _, Value::Object(_)) => self.charge(nodes(held)),
            ("uniqueItems", _, Value::Array(items)) => {
                // Items that are no scalars may all have one hash, and are then compared in pairs.
                let nested = items.iter().filter(|item| item.is_array() || item.is_object()).count() as u64;
                self.charge(nodes(value).saturating_mul(1 + nested / 32))
            }
            _ => Ok(()),
        }
    }

    fn visit_items(
        &mut self,
        name: &str,
        held: &Value,
        keywords: &Map<String, Value>,
        items: &[Value],
    ) -> Result<(), TooMuch> {
        match (name, held) {
            ("prefixItems", Value::Array(schemas)) => {
                schemas.iter().zip(items).try_for_each(|(schema, item)| self.visit(schema, item, 0))
            }
            ("items", schema) => {
                let before = keywords.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
                items.iter().skip(before).try_for_each(|item| self.visit(schema, item, 0))
            }
            ("contains", schema) => items.iter().try_for_each(|item| self.visit(schema, item, 0)),
            _ => Ok(()),
        }
    }

    fn visit_members(
        &mut self,
        name: &str,
        held: &Value,
        keywords: &Map<String, Value>,
        members: &Map<String, Value>,
    ) -> Result<(), TooMuch> {
        let named = |keyword| keywords.get(keyword).and_then(Value::as_object);
        match (name, held) {
            ("properties", Value::Object(schemas)) => {
                self.charge(schemas.len() as u64)?;
                schemas.iter().try_for_each(|(name, schema)| match members.get(name) {
                    Some(member) => self.visit(schema, member, 2 * name.len()),
                    None => Ok(()),
                })
            }
            ("patternProperties", Value::Object(schemas)) => schemas.iter().try_for_each(|(pattern, schema)| {
                members.iter().try_for_each(|(key, member)| {
                    self.charge_pattern(key)?;
                    self.visit(schema, member, pattern.len() + key.len())
                })
            }),
            ("additionalProperties", schema) => {
                let patterns = named("patternProperties").map_or(0, Map::len);
                let others =
                    members.iter().filter(|(key, _)| !named("properties").is_some_and(|p| p.contains_key(*key)));
                others.into_iter().try_for_each(|(key, member)| {
                    (0..patterns).try_for_each(|_| self.charge_pattern(key))?;
                    self.visit(schema, member, key.len())
                })
            }
            ("propertyNames", schema) => {
                members.keys().try_for_each(|key| self.visit(schema, &Value::String(key.clone()), 0))
            }
            _ => Ok(()),
        }
    }

    fn charge_pattern(&mut self, text: &str) -> Result<(), TooMuch> {
        self.charge((1 + text.len() as u64).saturating_mul(PATTERN_BYTE))
    }

    fn charge(&mut self, units: u64) -> Result<(), TooMuch> {
        self.units = self.units.saturating_add(units);
        if self.units > self.max { Err(TooMuch::Work) } else { Ok(()) }
    }
}

/// Counts a value and all that is in it.
fn nodes(value: &Value) -> u64 {
    let mut count = 0;
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        count += 1;
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(members) => open.extend(members.values()),
            _ => {}
        }
    }
    count
}

/// Counts the problems that one schema can report with one value.
fn problems(schema: &Value) -> u64 {
    match schema {
        Value::Object(keywords) => {
            let names = |keyword| keywords.get(keyword).map_or(0, nodes);
            keywords.len() as u64 + names("required") + names("dependentRequired")
        }
        Value::Bool(false) => 1,
        _ => 0,
    }
}

/// Returns about how many bytes a copy of a value takes.
fn weigh(value: &Value) -> u64 {
    let mut bytes = 0;
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        bytes += NODE_BYTES;
        match value {
            Value::String(text) => bytes += text.len() as u64,
            Value::Array(items) => open.extend(items),
            Value::Object(members) => {
                bytes += members.keys().map(|key| key.len() as u64 + NODE_BYTES).sum::<u64>();
                open.extend(members.values());
            }
            _ => {}
        }
    }
    bytes
}
