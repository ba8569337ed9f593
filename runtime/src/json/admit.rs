//! Decides whether a schema may be compiled: from an allow-list of keywords, and from how far it unfolds.

use std::{collections::HashMap, io, ptr};

use serde_json::{Map, Value};

use super::{
    place::{self, Place},
    schema::{BadSchema, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX},
};

/// Schemas that may apply to one value, after following references, and how long a chain of them may be.
pub(super) const SAME_VALUE_MAX: u64 = 10_000;
pub(super) const SAME_VALUE_CHAIN_MAX: u64 = 32;

pub(super) const PATTERNS_MAX: usize = 32;
pub(super) const PATTERN_BYTES_MAX: usize = 1 << 10;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What a keyword holds, and so where there are schemas in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// No schema.
    Data,
    /// Schemas for the same value: one, a list, or by name.
    Same(Shape),
    /// Schemas for parts of the value.
    Part(Shape),
    /// The name of a schema for the same value.
    Reference,
    /// Schemas to refer to.
    Definitions,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    Named,
}

/// Returns what a keyword holds, or [`None`] if it is refused.
pub(super) fn keyword(name: &str) -> Option<Holds> {
    Some(match name {
        "$schema" | "$comment" | "title" | "description" | "default" | "examples" | "deprecated" | "readOnly"
        | "writeOnly" | "format" | "contentEncoding" | "contentMediaType" => Holds::Data,
        "type" | "enum" | "const" | "multipleOf" | "maximum" | "exclusiveMaximum" | "minimum" | "exclusiveMinimum"
        | "maxLength" | "minLength" | "pattern" | "maxItems" | "minItems" | "uniqueItems" | "maxContains"
        | "minContains" | "maxProperties" | "minProperties" | "required" | "dependentRequired" => Holds::Data,
        "not" | "if" | "then" | "else" => Holds::Same(Shape::One),
        "allOf" | "anyOf" | "oneOf" => Holds::Same(Shape::List),
        "dependentSchemas" => Holds::Same(Shape::Named),
        "items" | "contains" | "additionalProperties" | "propertyNames" => Holds::Part(Shape::One),
        "prefixItems" => Holds::Part(Shape::List),
        "properties" | "patternProperties" => Holds::Part(Shape::Named),
        "$ref" => Holds::Reference,
        "$defs" => Holds::Definitions,
        _ => return None,
    })
}

/// Where a schema is within what its keyword holds.
pub(super) enum Key<'a> {
    Only,
    Index(usize),
    Name(&'a str),
}

/// Returns the schemas that a keyword of this shape holds. A value of another shape holds none: the meta-schema refuses
/// it later.
pub(super) fn schemas(shape: Shape, value: &Value) -> Vec<(Key<'_>, &Value)> {
    match (shape, value) {
        (Shape::One, schema) => vec![(Key::Only, schema)],
        (Shape::List, Value::Array(list)) => list.iter().enumerate().map(|(i, s)| (Key::Index(i), s)).collect(),
        (Shape::Named, Value::Object(named)) => named.iter().map(|(name, s)| (Key::Name(name), s)).collect(),
        _ => Vec::new(),
    }
}

/// Returns the schema that a reference names.
pub(super) fn resolve<'a>(document: &'a Value, reference: &str) -> Option<&'a Value> {
    match reference.strip_prefix('#')? {
        "" => Some(document),
        pointer => {
            let name = pointer.strip_prefix("/$defs/")?;
            // Names that every reader of pointers and of URIs understands in the same way.
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
            if plain { document.get("$defs")?.get(name) } else { None }
        }
    }
}

/// Checks everything that can be said before compiling.
pub(super) fn admit(document: &Value) -> Result<(), BadSchema> {
    check_depth(document, 0, &mut String::new())?;
    serde_json::to_writer(Room(SCHEMA_BYTES_MAX), document).map_err(|_| BadSchema::TooLong)?;
    let mut survey = Survey { document, pointer: String::new(), patterns: 0, unfolded: HashMap::new() };
    survey.walk(document)
}

fn check_depth(value: &Value, depth: usize, pointer: &mut String) -> Result<(), BadSchema> {
    let here = pointer.len();
    match value {
        Value::Array(_) | Value::Object(_) if depth == SCHEMA_DEPTH_MAX => {
            Err(BadSchema::TooDeep { at: Place::new(pointer) })
        }
        Value::Array(items) => items.iter().enumerate().try_for_each(|(index, item)| {
            place::push(pointer, &index.to_string());
            check_depth(item, depth + 1, pointer)?;
            pointer.truncate(here);
            Ok(())
        }),
        Value::Object(members) => members.iter().try_for_each(|(key, member)| {
            place::push(pointer, key);
            check_depth(member, depth + 1, pointer)?;
            pointer.truncate(here);
            Ok(())
        }),
        _ => Ok(()),
    }
}

/// A writer that only counts down the room that is left.
struct Room(usize);

impl io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Survey<'a> {
    document: &'a Value,
    pointer: String,
    patterns: usize,
    /// What each schema unfolds to, by its address. [`None`] while it is being unfolded.
    unfolded: HashMap<*const Value, Option<Unfolded>>,
}

/// How many schemas apply to one value because of one schema, and the longest chain among them.
#[derive(Clone, Copy)]
struct Unfolded {
    schemas: u64,
    depth: u64,
}

impl<'a> Survey<'a> {
    /// Visits each schema of the document once.
    fn walk(&mut self, schema: &'a Value) -> Result<(), BadSchema> {
        let Value::Object(keywords) = schema else { return Ok(()) };
        for (name, value) in keywords {
            let Some(holds) = keyword(name) else {
                let why = "the keyword is unknown or not supported here";
                return Err(self.refuse(name, why));
            };
            self.check_keyword(schema, name, value)?;
            let shape = match holds {
                Holds::Same(shape) | Holds::Part(shape) => shape,
                Holds::Definitions if ptr::eq(schema, self.document) => Shape::Named,
                Holds::Definitions => return Err(self.refuse(name, "definitions belong to the top")),
                Holds::Data | Holds::Reference => continue,
            };
            for (key, inner) in schemas(shape, value) {
                let here = self.pointer.len();
                place::push(&mut self.pointer, name);
                match key {
                    Key::Only => {}
                    Key::Index(index) => place::push(&mut self.pointer, &index.to_string()),
                    Key::Name(key) => place::push(&mut self.pointer, key),
                }
                self.walk(inner)?;
                self.pointer.truncate(here);
            }
        }
        self.unfold(schema, 0).map(drop)
    }

    fn check_keyword(&mut self, schema: &Value, name: &str, value: &Value) -> Result<(), BadSchema> {
        match (name, value) {
            ("$schema", Value::String(draft)) if draft.trim_end_matches('#') != DRAFT => {
                Err(BadSchema::Draft { found: place::cut(draft, 80).into() })
            }
            ("$schema", _) if !ptr::eq(schema, self.document) => Err(self.refuse(name, "it belongs to the top")),
            ("pattern", Value::String(pattern)) => self.check_pattern(pattern),
            ("patternProperties", Value::Object(named)) => named.keys().try_for_each(|p| self.check_pattern(p)),
            _ => Ok(()),
        }
    }

    fn check_pattern(&mut self, pattern: &str) -> Result<(), BadSchema> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            Err(BadSchema::TooManyPatterns { at: self.place() })
        } else if pattern.len() > PATTERN_BYTES_MAX {
            Err(BadSchema::LongPattern { at: self.place() })
        } else {
            Ok(())
        }
    }

    /// Counts the schemas that apply to the same value as this one.
    fn unfold(&mut self, schema: &'a Value, depth: u64) -> Result<Unfolded, BadSchema> {
        match self.unfolded.get(&ptr::from_ref(schema)) {
            Some(Some(known)) => return Ok(*known),
            Some(None) => return Err(BadSchema::Cycle { at: self.place() }),
            None if depth > SAME_VALUE_CHAIN_MAX => return Err(BadSchema::TooWide { at: self.place() }),
            None => {}
        }
        self.unfolded.insert(ptr::from_ref(schema), None);
        let mut sum = Unfolded { schemas: 1, depth: 1 };
        if let Value::Object(keywords) = schema {
            for inner in self.same(keywords)? {
                let inner = self.unfold(inner, depth + 1)?;
                sum.schemas = sum.schemas.saturating_add(inner.schemas);
                sum.depth = sum.depth.max(inner.depth + 1);
            }
        }
        if sum.schemas > SAME_VALUE_MAX || sum.depth > SAME_VALUE_CHAIN_MAX {
            return Err(BadSchema::TooWide { at: self.place() });
        }
        self.unfolded.insert(ptr::from_ref(schema), Some(sum));
        Ok(sum)
    }

    /// Returns the schemas that these keywords apply to the same value.
    fn same(&self, keywords: &'a Map<String, Value>) -> Result<Vec<&'a Value>, BadSchema> {
        let mut same = Vec::new();
        for (name, value) in keywords {
            match (keyword(name), value) {
                (Some(Holds::Same(shape)), _) => same.extend(schemas(shape, value).into_iter().map(|(_, s)| s)),
                (Some(Holds::Reference), Value::String(reference)) => {
                    let found = resolve(self.document, reference);
                    same.push(found.ok_or_else(|| BadSchema::Reference {
                        reference: place::cut(reference, 80).into(),
                        at: self.place(),
                    })?);
                }
                _ => {}
            }
        }
        Ok(same)
    }

    fn refuse(&self, keyword: &str, why: &'static str) -> BadSchema {
        BadSchema::Keyword { keyword: place::cut(keyword, 80).into(), at: self.place(), why }
    }

    fn place(&self) -> Place {
        Place::new(&self.pointer)
    }
}
