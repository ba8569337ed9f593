//! Enums without fields, as lists of words. Schemars also writes them in forms that no policy can look into: `oneOf` if
//! a variant has a comment, `anyOf` if the enum is optional.

use schemars::{
    Schema,
    transform::{RecursiveTransform, Transform as _},
};
use serde_json::{Map, Value, json};

/// What the schema of a list of words may say beside the words.
const REMARKS: [&str; 4] = ["type", "title", "description", "deprecated"];

/// Replaces `oneOf` some words by `enum`. The comments of the variants go into the description.
pub fn join(schema: &mut Schema) {
    let Some(Value::Array(branches)) = schema.get("oneOf") else { return };
    let Some(found) = branches.iter().map(words).collect::<Option<Vec<_>>>() else { return };
    let comment = |(branch, words): (&Value, &Vec<Value>)| Some(format!("{}: {}", words.first()?, text(branch)?));
    let comments: Vec<_> = branches.iter().zip(&found).filter_map(comment).collect();
    let own = schema.get("description").and_then(Value::as_str).map(String::from);
    let description = own.into_iter().chain(comments).collect::<Vec<_>>().join("\n");
    schema.remove("oneOf");
    schema.insert("type".into(), "string".into());
    schema.insert("enum".into(), found.concat().into());
    if !description.is_empty() {
        schema.insert("description".into(), description.into());
    }
}

/// Replaces `anyOf` a reference to words and `null` by the words and `null`.
pub fn inline_optional(root: &mut Schema) {
    let Some(Value::Object(definitions)) = root.get("$defs").cloned() else { return };
    RecursiveTransform(|schema: &mut Schema| {
        let Some((mut words, definition)) = optional_words(schema, &definitions) else { return };
        words.push(Value::Null);
        schema.remove("anyOf");
        schema.insert("type".into(), json!(["string", "null"]));
        schema.insert("enum".into(), words.into());
        if let (None, Some(description)) = (schema.get("description"), text(definition)) {
            schema.insert("description".into(), description.into());
        }
    })
    .transform(root);
}

fn optional_words<'a>(schema: &Schema, definitions: &'a Map<String, Value>) -> Option<(Vec<Value>, &'a Value)> {
    let [reference, null] = schema.get("anyOf")?.as_array()?.as_slice() else { return None };
    let name = reference.as_object().filter(|only| only.len() == 1)?.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
    let definition = definitions.get(name).filter(|_| *null == json!({ "type": "null" }))?;
    Some((words(definition)?, definition))
}

/// Returns the words of a schema that allows some and nothing else.
fn words(schema: &Value) -> Option<Vec<Value>> {
    let keywords = schema.as_object()?;
    let plain = keywords.keys().all(|key| REMARKS.contains(&key.as_str()) || key == "const" || key == "enum");
    match (keywords.get("const"), keywords.get("enum")) {
        _ if !plain || keywords.get("type")? != "string" => None,
        (Some(word), None) => Some(vec![word.clone()]),
        (None, Some(Value::Array(words))) => Some(words.clone()),
        _ => None,
    }
}

fn text(schema: &Value) -> Option<&str> {
    schema.get("description")?.as_str()
}
