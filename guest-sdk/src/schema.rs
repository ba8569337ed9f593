//! JSON Schemas of Rust types, as the daemon takes them: draft 2020-12, and only keywords that limit a value by itself.

mod words;

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    transform::{RecursiveTransform, ReplaceUnevaluatedProperties},
};
use serde_json::Value;

/// The largest magnitude of an integer that the daemon takes, in schemas as in values: beyond it, readers disagree.
const INTEGER_MAX: f64 = ((1_u64 << 53) - 1) as f64;

/// Returns the schema of a tool's arguments.
pub fn of_arguments<A: JsonSchema>() -> Value {
    let mut schema = generator(SchemaSettings::draft2020_12().for_deserialize()).into_root_schema_for::<A>();
    name_the_object(&mut schema);
    schema.into()
}

/// Returns the schema of a tool's result.
pub fn of_result<O: JsonSchema>() -> Value {
    generator(SchemaSettings::draft2020_12().for_serialize()).into_root_schema_for::<O>().into()
}

fn generator(settings: SchemaSettings) -> SchemaGenerator {
    settings
        .with_transform(ReplaceUnevaluatedProperties::default())
        .with_transform(RecursiveTransform(drop_large_numbers))
        .with_transform(RecursiveTransform(words::join))
        .with_transform(words::inline_optional)
        .into_generator()
}

/// Drops what says nothing of the values that can come: bounds, defaults and examples with too large a number.
fn drop_large_numbers(schema: &mut Schema) {
    let large = |value: &Value| value.as_f64().is_some_and(|number| number.abs() > INTEGER_MAX);
    for keyword in ["default", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
        if schema.get(keyword).is_some_and(large) {
            schema.remove(keyword);
        }
    }
    if let Some(Value::Array(examples)) = schema.get_mut("examples") {
        examples.retain(|example| !large(example));
    }
}

/// Arguments are an object, and their schema says so at its top, also where it is that of an enum.
fn name_the_object(schema: &mut Schema) {
    let object = Value::from("object");
    match schema.get("type") {
        None => {}
        Some(Value::Array(types)) if types.contains(&object) => {}
        Some(_) => return,
    }
    schema.insert("type".into(), object);
}
