//! Calls of tools for the targets: a schema, arguments and a policy's condition that fit each other much more often
//! than bytes would.
#![cfg(feature = "targets")]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};

/// What a tool takes, what it is given, and when a policy allows that. All are texts that nobody has checked.
pub struct Call {
    pub schema: String,
    pub arguments: String,
    pub condition: String,
}

/// Names of members: plain, hidden, Cedar's own, and those that need quotes.
const NAMES: [&str; 8] = ["a", "b", "secret", "in", "type", "__entity", "a b", "\"\\\n"];

/// Texts. One of them is a value to be hidden.
const TEXTS: [&str; 4] = ["x", "test", HIDDEN, "*\"\\\u{202e}"];

/// A value that must not be shown if only members that are called `secret` have it.
pub const HIDDEN: &str = "hunter2hunter2";

/// How deep schemas nest; conditions half of it.
const LEVELS: u32 = 4;

impl Call {
    /// Reads three lines if the bytes look like them, and else takes the bytes for choices.
    pub fn of(data: &[u8]) -> Option<Self> {
        if data.first() != Some(&b'{') {
            return Self::chosen(&mut Unstructured::new(data)).ok();
        }
        let mut lines = str::from_utf8(data).ok()?.splitn(3, '\n').map(String::from);
        let mut line = || lines.next().unwrap_or_default();
        Some(Self { schema: line(), arguments: line(), condition: line() })
    }

    fn chosen(u: &mut Unstructured) -> Result<Self> {
        let mut defs = Map::new();
        let (mut schema, arguments) = object(u, LEVELS, &mut defs)?;
        schema["$defs"] = Value::Object(defs);
        let mut condition = condition(u, LEVELS / 2, &arguments)?;
        let forbid = "};\nforbid (principal, action == Palisade::Action::\"tool:t\", resource) when {";
        if let Some(more) = u.choose(&[None, Some("} unless {"), Some(forbid)])? {
            condition += &format!(" {more} {}", self::condition(u, LEVELS / 2, &arguments)?);
        }
        Ok(Self { schema: schema.to_string(), arguments: arguments.to_string(), condition })
    }
}

/// Returns a schema and a value that it mostly allows.
fn pair(u: &mut Unstructured, levels: u32, defs: &mut Map<String, Value>) -> Result<(Value, Value)> {
    let Some(levels) = levels.checked_sub(1) else { return plain(u) };
    Ok(match u.int_in_range(0..=15)? {
        0..=6 => plain(u)?,
        7 => {
            let value = leaf(u)?;
            (u.choose(&[json!({ "enum": ["x", value] }), json!({ "const": value }), json!({})])?.clone(), value)
        }
        8 => {
            let (schema, value) = plain(u)?;
            let both = if u.arbitrary()? { json!([schema["type"], "null"]) } else { json!(["null", schema["type"]]) };
            (json!({ "type": both }), if u.arbitrary()? { Value::Null } else { value })
        }
        9 => {
            let ((schema, value), null) = (pair(u, levels, defs)?, json!({ "type": "null" }));
            let both = if u.arbitrary()? { [schema, null] } else { [null, schema] };
            (json!({ *u.choose(&["anyOf", "oneOf"])?: both }), if u.arbitrary()? { Value::Null } else { value })
        }
        10 | 11 => {
            let ((first, one), (rest, other)) = (pair(u, levels, defs)?, pair(u, levels, defs)?);
            let mut schema = json!({ "type": "array", "items": rest });
            let mut values = vec![other; u.int_in_range(0..=2)?];
            if u.arbitrary()? {
                schema["prefixItems"] = json!([first]);
                values.insert(0, one);
            }
            (schema, json!(values))
        }
        12 | 13 => object(u, levels, defs)?,
        14 => {
            let (schema, value) = pair(u, levels, defs)?;
            let name = format!("d{}", defs.len());
            let reference = json!({ "$ref": format!("#/$defs/{name}") });
            defs.insert(name, schema);
            (u.choose(&[reference.clone(), json!({ "allOf": [reference] })])?.clone(), value)
        }
        _ => {
            // What two schemas say, as one.
            let ((mut schema, value), (other, _)) = (pair(u, levels, defs)?, pair(u, levels, defs)?);
            if let (Value::Object(schema), Value::Object(other)) = (&mut schema, other) {
                for (keyword, held) in other {
                    schema.entry(keyword).or_insert(held);
                }
            }
            (schema, value)
        }
    })
}

/// Returns a schema of one type that policies can see, and a value of it.
fn plain(u: &mut Unstructured) -> Result<(Value, Value)> {
    Ok(match u.int_in_range(0..=2)? {
        0 => (json!({ "type": "string" }), json!(u.choose(&TEXTS)?)),
        1 => (json!({ "type": "integer" }), json!(number(u)?)),
        _ => (json!({ "type": "boolean" }), json!(u.arbitrary::<bool>()?)),
    })
}

fn object(u: &mut Unstructured, levels: u32, defs: &mut Map<String, Value>) -> Result<(Value, Value)> {
    let (mut properties, mut required, mut members) = (Map::new(), Vec::new(), Map::new());
    for _ in 0..u.int_in_range(1..=4)? {
        let name = *u.choose(&NAMES)?;
        let (schema, value) = pair(u, levels, defs)?;
        properties.insert(name.into(), schema);
        if u.ratio(3, 4)? {
            members.insert(name.into(), value);
            required.extend(u.arbitrary::<bool>()?.then_some(name));
        }
    }
    required.sort_unstable();
    required.dedup();
    Ok((json!({ "type": "object", "properties": properties, "required": required }), Value::Object(members)))
}

fn leaf(u: &mut Unstructured) -> Result<Value> {
    Ok(match u.int_in_range(0..=5)? {
        0 => Value::Null,
        1 => json!(u.arbitrary::<bool>()?),
        2 => json!(number(u)?),
        3 => json!(number(u)? as f64 / 8.0),
        4 => json!({}),
        _ => json!(u.choose(&TEXTS)?),
    })
}

/// Returns a number that strict JSON takes.
fn number(u: &mut Unstructured) -> Result<i64> {
    let most = palisade::json::INTEGER_MAX as i64;
    Ok(if u.arbitrary()? { i64::from(u.arbitrary::<i8>()?) } else { *u.choose(&[most, -most, 1 << 32])? })
}

/// Returns a condition, most often about an argument.
fn condition(u: &mut Unstructured, levels: u32, arguments: &Value) -> Result<String> {
    let others = [
        "context.environment == \"test\"",
        "resource.effect == \"append\"",
        "principal.labels.contains(\"l\")",
        "context.budget.fuel_left + 1 > 0",
        "context.arguments == context.arguments",
        "[context.arguments].isEmpty()",
    ];
    let Some(levels) = levels.checked_sub(1) else { return about(u, arguments) };
    Ok(match u.int_in_range(0..=7)? {
        0 => (*u.choose(&others)?).into(),
        1 => format!("!({})", condition(u, levels, arguments)?),
        2 => format!("({} || {})", condition(u, levels, arguments)?, condition(u, levels, arguments)?),
        3 | 4 => format!("{} && {}", condition(u, levels, arguments)?, condition(u, levels, arguments)?),
        _ => about(u, arguments)?,
    })
}

/// Returns a condition about an argument that is there, or may be.
fn about(u: &mut Unstructured, arguments: &Value) -> Result<String> {
    let (mut path, mut asked, mut value) = ("context.arguments".to_owned(), String::new(), arguments);
    while let Value::Object(members) = value
        && u.ratio(7, 8)?
    {
        let names: Vec<&str> = members.keys().map(String::as_str).collect();
        let name = if names.is_empty() || u.ratio(1, 8)? { u.choose(&NAMES)? } else { u.choose(&names)? };
        let quoted = name.escape_default();
        asked += &format!("{path} has \"{quoted}\" && ");
        path += &format!("[\"{quoted}\"]");
        value = &value[*name];
    }
    let ends: &[&str] = match value {
        Value::String(_) => &[" == L", " != L", " like \"x*\"", " == context.via"],
        Value::Number(_) => &[" == L", " > 3", " + 9223372036854775807 > 0"],
        Value::Bool(_) => &["", " == L"],
        Value::Array(_) => &[".isEmpty()", " == P", ".containsAll(P)"],
        Value::Object(_) => &[" == P", " != P"],
        Value::Null => &[" == \"x\"", " > 3", ""],
    };
    let literal = match value {
        Value::String(text) => format!("\"{}\"", text.escape_default()),
        other => other.to_string(),
    };
    Ok(format!("({asked}{path}{})", u.choose(ends)?.replace('L', &literal).replace('P', &path)))
}
