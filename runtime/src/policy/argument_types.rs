//! The arguments of a tool as policies see them: from JSON Schema to a type, and from a value to that type.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cedar_policy::RestrictedExpression;
use serde_json::{Map, Value, json};

/// How deep a type nests, and how many `$ref`s and levels lead to it.
const DEPTH_MAX: usize = 8;

/// Attributes of one tool, all levels together. Policies do not see those beyond.
const ATTRIBUTES_MAX: usize = 256;

/// A record of named values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordType(BTreeMap<String, Attribute>);

/// A value that policies can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    r#type: ArgumentType,
    required: bool,
    /// `null` counts as absent.
    nullable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ArgumentType {
    Text,
    Long,
    Bool,
    Set(Box<ArgumentType>),
    Record(RecordType),
}

/// A value that does not have the type that its schema promises.
#[derive(Debug, thiserror::Error)]
#[error("the argument `{path}` is not {expected}, so no policy can judge it")]
pub struct Misfit {
    path: String,
    expected: &'static str,
}

impl RecordType {
    /// Returns what policies see of arguments that are valid by `schema`. What has no exact counterpart in Cedar
    /// (`number`, `anyOf` and the like) is left out.
    pub fn of_schema(schema: &Value) -> Self {
        let mut reader = Reader { root: schema, attributes_left: ATTRIBUTES_MAX };
        // Arguments are always an object, so the top level need not say it.
        reader.resolve(schema, DEPTH_MAX).map(|(schema, depth)| reader.record(schema, depth)).unwrap_or_default()
    }

    /// Returns the type as Cedar's JSON schema format has it.
    pub fn cedar(&self) -> Value {
        let attributes: Map<String, Value> = self.0.iter().map(|(name, a)| (name.clone(), a.cedar())).collect();
        json!({ "type": "Record", "attributes": attributes })
    }

    /// Returns the attributes of this type that `value` has.
    pub fn expression(&self, value: &Value) -> Result<RestrictedExpression, Misfit> {
        record(self, value).map_err(|mut misfit| {
            let name = if misfit.path.is_empty() { "arguments" } else { &misfit.path };
            misfit.path = name.chars().take(120).collect();
            misfit
        })
    }

    /// Returns whether every value has the attribute at `path`, or `None` if there is none.
    pub fn requires(&self, path: &[String]) -> Option<bool> {
        let (name, rest) = path.split_first()?;
        let attribute = self.0.get(name)?;
        match (&attribute.r#type, rest) {
            (_, []) => Some(attribute.required),
            (ArgumentType::Record(inner), rest) => inner.requires(rest),
            _ => None,
        }
    }
}

impl Attribute {
    fn cedar(&self) -> Value {
        let mut described = self.r#type.cedar();
        described["required"] = json!(self.required);
        described
    }
}

impl ArgumentType {
    fn cedar(&self) -> Value {
        match self {
            Self::Text => json!({ "type": "String" }),
            Self::Long => json!({ "type": "Long" }),
            Self::Bool => json!({ "type": "Boolean" }),
            Self::Set(element) => json!({ "type": "Set", "element": element.cedar() }),
            Self::Record(record) => record.cedar(),
        }
    }

    fn expression(&self, value: &Value) -> Result<RestrictedExpression, Misfit> {
        let misfit = |expected| Misfit { path: String::new(), expected };
        match self {
            Self::Text => {
                let text = value.as_str().ok_or(misfit("a text"))?;
                Ok(RestrictedExpression::new_string(text.into()))
            }
            Self::Long => {
                let number = whole(value).ok_or(misfit("a whole number of 64 bits"))?;
                Ok(RestrictedExpression::new_long(number))
            }
            Self::Bool => Ok(RestrictedExpression::new_bool(value.as_bool().ok_or(misfit("true or false"))?)),
            Self::Set(element) => {
                let values = value.as_array().ok_or(misfit("a list"))?;
                let elements = values.iter().map(|v| element.expression(v).map_err(|m| m.below("[]")));
                Ok(RestrictedExpression::new_set(elements.collect::<Result<Vec<_>, _>>()?))
            }
            Self::Record(inner) => record(inner, value),
        }
    }
}

impl Misfit {
    fn below(mut self, name: &str) -> Self {
        if !self.path.is_empty() {
            self.path.insert(0, '.');
        }
        self.path.insert_str(0, name);
        self
    }
}

/// Reads types out of a schema, within bounds.
struct Reader<'a> {
    root: &'a Value,
    attributes_left: usize,
}

impl<'a> Reader<'a> {
    /// Returns the type of values that are valid by `schema`, and whether they can be `null`.
    fn read(&mut self, schema: &'a Value, depth: usize) -> Option<(ArgumentType, bool)> {
        let (schema, depth) = self.resolve(schema, depth.checked_sub(1)?)?;
        if let Some(present) = or_null(schema) {
            return self.read(present, depth).map(|(found, _)| (found, true));
        }
        let (name, nullable) = type_name(schema)?;
        let found = match name {
            "string" => ArgumentType::Text,
            "integer" => ArgumentType::Long,
            "boolean" => ArgumentType::Bool,
            // Its first elements have types of their own.
            "array" if schema.get("prefixItems").is_some() => return None,
            "array" => match self.read(schema.get("items")?, depth)? {
                (element, false) => ArgumentType::Set(Box::new(element)),
                (_, true) => return None,
            },
            "object" => ArgumentType::Record(self.record(schema, depth)),
            _ => return None,
        };
        Some((found, nullable))
    }

    fn record(&mut self, schema: &'a Value, depth: usize) -> RecordType {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut record = BTreeMap::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            // Counted whether policies see it or not: references can make a small schema large.
            let Some(left) = self.attributes_left.checked_sub(1) else { break };
            self.attributes_left = left;
            if let Some((r#type, nullable)) = self.read(property, depth) {
                let required = required.contains(&name.as_str()) && !nullable;
                record.insert(name.clone(), Attribute { r#type, required, nullable });
            }
        }
        RecordType(record)
    }

    /// Follows references within the schema. Each costs a level, so that circles end.
    fn resolve(&self, mut schema: &'a Value, mut depth: usize) -> Option<(&'a Value, usize)> {
        while let Some(reference) = schema.get("$ref") {
            depth = depth.checked_sub(1)?;
            schema = self.root.pointer(reference.as_str()?.strip_prefix('#')?)?;
        }
        Some((schema, depth))
    }
}

/// Returns the one type that a schema allows beside `null`, and whether it allows `null`.
fn type_name(schema: &Value) -> Option<(&str, bool)> {
    match schema.get("type") {
        Some(Value::String(name)) => Some((name, false)),
        Some(Value::Array(names)) => match names.as_slice() {
            [Value::String(name), Value::String(null)] | [Value::String(null), Value::String(name)]
                if null == "null" =>
            {
                Some((name, true))
            }
            _ => None,
        },
        Some(_) => None,
        None => {
            let values = match (schema.get("enum"), schema.get("const")) {
                (Some(values), None) => values.as_array()?.as_slice(),
                (None, Some(value)) => std::slice::from_ref(value),
                _ => return None,
            };
            (!values.is_empty() && values.iter().all(Value::is_string)).then_some(("string", false))
        }
    }
}

fn record(r#type: &RecordType, value: &Value) -> Result<RestrictedExpression, Misfit> {
    let object = value.as_object().ok_or(Misfit { path: String::new(), expected: "an object" })?;
    let mut pairs = Vec::with_capacity(r#type.0.len());
    for (name, attribute) in &r#type.0 {
        match object.get(name) {
            Some(Value::Null) if attribute.nullable => {}
            Some(value) => {
                pairs.push((name.clone(), attribute.r#type.expression(value).map_err(|m| m.below(name))?));
            }
            None if attribute.required => return Err(Misfit { path: name.clone(), expected: "there" }),
            None => {}
        }
    }
    // Fails only if a name is there twice.
    RestrictedExpression::new_record(pairs).map_err(|_| Misfit { path: String::new(), expected: "an object" })
}

/// Returns the schema of values that are not `null`, where it is one of two that a value may have.
fn or_null(schema: &Value) -> Option<&Value> {
    let is_null = |schema: &Value| schema.get("type").and_then(Value::as_str) == Some("null");
    match schema.get("anyOf")?.as_array()?.as_slice() {
        [present, null] | [null, present] if is_null(null) && !is_null(present) && schema.get("type").is_none() => {
            Some(present)
        }
        _ => None,
    }
}

/// JSON Schema takes `1.0` for an integer. Doubles are whole and exact up to 2^53.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let float = value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() <= (1_u64 << 53) as f64)?;
        (!value.is_u64()).then_some(float as i64)
    })
}
