use cedar_policy::{Context, Schema};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    policy::{schema::schema, tests::tool},
    step::Effect,
};

fn cedar(schema: Value) -> Value {
    RecordType::of_schema(&schema).cedar()["attributes"].take()
}

#[test]
fn what_cedar_has_a_type_for_is_seen_and_the_rest_is_left_out() {
    let seen = cedar(json!({
        "properties": {
            "text": { "type": "string", "pattern": "x" },
            "choice": { "enum": ["a", "b"] },
            "fixed": { "const": "a" },
            "count": { "type": "integer" },
            "flag": { "type": "boolean" },
            "list": { "type": "array", "items": { "type": "integer" } },
            "inner": { "type": "object", "properties": { "x": { "type": "string" } }, "required": ["x"] },
            "maybe": { "type": ["null", "string"] },
            "perhaps": { "anyOf": [{ "$ref": "#/$defs/name~1of" }, { "type": "null" }] },
            "referred": { "$ref": "#/$defs/name~1of" },
            "ratio": { "type": "number" },
            "either": { "anyOf": [{ "type": "string" }, { "type": "integer" }] },
            "both": { "type": ["string", "integer"] },
            "holes": { "type": "array", "items": { "type": ["string", "null"] } },
            "mixed": { "enum": ["a", 1] },
            "pair": { "type": "array", "prefixItems": [{ "type": "string" }], "items": { "type": "integer" } },
            "any": true,
            "lost": { "$ref": "#/$defs/lost" },
            "elsewhere": { "$ref": "https://example.com/schema" },
        },
        "required": ["text", "maybe", "ratio"],
        "$defs": { "name/of": { "type": "string" } },
    }));
    let expected = json!({
        "text": { "type": "String", "required": true },
        "choice": { "type": "String", "required": false },
        "perhaps": { "type": "String", "required": false },
        "fixed": { "type": "String", "required": false },
        "count": { "type": "Long", "required": false },
        "flag": { "type": "Boolean", "required": false },
        "list": { "type": "Set", "element": { "type": "Long" }, "required": false },
        "inner": {
            "type": "Record",
            "attributes": { "x": { "type": "String", "required": true } },
            "required": false,
        },
        "maybe": { "type": "String", "required": false },
        "referred": { "type": "String", "required": false },
    });
    assert_eq!(seen, expected);
}

#[test]
fn references_in_circles_end() {
    let seen = cedar(json!({
        "$defs": { "node": { "type": "object", "properties": { "next": { "$ref": "#/$defs/node" } } } },
        "properties": { "itself": { "$ref": "#/properties/itself" }, "node": { "$ref": "#/$defs/node" } },
    }));
    assert!(seen.get("itself").is_none());
    assert!(seen["node"].to_string().len() < 1000);
    assert_eq!(cedar(json!({ "$ref": "#" })), json!({}));
}

#[test]
fn references_do_not_make_a_small_schema_large() {
    let many = |name: &str| -> Value {
        let properties = (0..100).map(|n| (format!("p{n}"), json!({ "$ref": format!("#/$defs/{name}") })));
        json!({ "type": "object", "properties": Value::Object(properties.collect()) })
    };
    let seen = cedar(json!({ "$defs": { "b": many("c"), "c": many("d"), "d": many("d") }, "$ref": "#/$defs/b" }));
    assert!(seen.to_string().matches("required").count() <= ATTRIBUTES_MAX);
}

#[test]
fn values_that_do_not_fit_are_refused_by_name() {
    let types = RecordType::of_schema(&json!({
        "properties": {
            "count": { "type": "integer" },
            "list": { "type": "array", "items": { "type": "object", "properties": { "x": { "type": "boolean" } } } },
        },
        "required": ["count"],
    }));
    let refused = |value: Value| types.expression(&value).map(|_| ()).unwrap_err().to_string();
    assert!(refused(json!({})).contains("`count`"));
    assert!(refused(json!({ "count": null })).contains("`count`"));
    assert!(refused(json!({ "count": 9_223_372_036_854_775_808_u64 })).contains("whole number"));
    assert!(refused(json!({ "count": 1.5 })).contains("whole number"));
    assert!(refused(json!({ "count": 1e300 })).contains("whole number"));
    assert!(refused(json!({ "count": 1, "list": [{ "x": 1 }] })).contains("`list.[].x`"));
    assert!(refused(json!([])).contains("an object"));
    assert!(types.expression(&json!({ "count": 2.0, "unseen": [{}] })).is_ok());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,4}", inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Schemas that mostly mean something, with names that could break out of a text.
fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({ "type": "string" })),
        Just(json!({ "type": "integer" })),
        Just(json!({ "type": ["boolean", "null"] })),
        Just(json!({ "$ref": "#" })),
        Just(json!({ "$ref": "#/properties/a" })),
        any_json(),
    ];
    leaf.prop_recursive(5, 32, 4, |inner| {
        let name = prop_oneof![Just("a".to_owned()), Just("__entity".into()), Just("in".into()), ".{0,6}"];
        prop_oneof![
            inner.clone().prop_map(|items| json!({ "type": "array", "items": items })),
            (prop::collection::vec((name, inner), 0..4), any::<bool>()).prop_map(|(properties, required)| {
                let properties: Map<String, Value> = properties.into_iter().collect();
                let required: Vec<String> = properties.keys().filter(|_| required).cloned().collect();
                json!({ "type": "object", "properties": properties, "required": required })
            }),
        ]
    })
}

/// A value that is valid by a type.
fn example(r#type: &RecordType) -> Value {
    fn of(r#type: &ArgumentType) -> Value {
        match r#type {
            ArgumentType::Text => json!("\"x\u{202e}"),
            ArgumentType::Long => json!(i64::MIN),
            ArgumentType::Bool => json!(true),
            ArgumentType::Set(element) => json!([of(element), of(element)]),
            ArgumentType::Record(record) => example(record),
        }
    }
    r#type.0.iter().map(|(name, attribute)| (name.clone(), of(&attribute.r#type))).collect()
}

proptest! {
    #[test]
    fn no_schema_and_no_value_panics(schema in prop_oneof![any_schema(), any_json()], value in any_json()) {
        let types = RecordType::of_schema(&schema);
        let _ = types.expression(&value);
        prop_assert!(types.expression(&example(&types)).is_ok());
    }

    #[test]
    fn every_type_makes_a_schema_that_its_values_conform_to(input in any_schema(), name in ".{1,8}") {
        let facts = tool(&name, Effect::Read, input);
        let types = RecordType::of_schema(&facts.input_schema);
        let schema = Schema::from_json_value(schema([(&facts, &types)])).unwrap();
        let arguments = types.expression(&example(&types)).unwrap();
        // The other attributes of the context are missing: what is complained of must not be the arguments.
        let context = Context::from_pairs([("arguments".to_owned(), arguments)]).unwrap();
        let type_name = "Palisade::Action".parse().unwrap();
        let action = cedar_policy::EntityUid::from_type_name_and_id(type_name, format!("tool:{name}").parse().unwrap());
        let whole = schema.action_entities().unwrap();
        prop_assert!(whole.get(&action).is_some());
        let types_only = json!({ "": { "entityTypes": { "E": {} }, "actions": { "a": { "appliesTo": {
            "principalTypes": ["E"], "resourceTypes": ["E"],
            "context": { "type": "Record", "attributes": { "arguments": types.cedar() } },
        } } } } });
        let types_only = Schema::from_json_value(types_only).unwrap();
        prop_assert!(context.validate(&types_only, &"Action::\"a\"".parse().unwrap()).is_ok());
    }
}
