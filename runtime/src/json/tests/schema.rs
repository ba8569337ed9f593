//! Tests of schemas: what they check, what is refused, and that a check ends soon whatever is thrown at it.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::json::{BadSchema, Canonical, Problem, Schema};

fn refusal(schema: &Value) -> BadSchema {
    Schema::compile(schema).unwrap_err()
}

fn problems(schema: &Value, value: &Value) -> Vec<Problem> {
    Schema::compile(schema).unwrap().check(value).unwrap_err()
}

#[test]
fn a_value_that_fits_passes_and_one_that_does_not_says_where() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Append",
        "type": "object",
        "properties": {
            "ticket": {"type": "integer", "minimum": 1},
            "note": {"$ref": "#/$defs/Note"},
        },
        "required": ["ticket", "note"],
        "additionalProperties": false,
        "$defs": {"Note": {"type": "string", "minLength": 1, "pattern": "^[^<>]*$", "format": "email"}},
    });
    let compiled = Schema::compile_input(&schema).unwrap();
    assert_eq!(compiled.check(&json!({"ticket": 7, "note": "called back"})), Ok(()));
    let found = compiled.check(&json!({"ticket": 0, "note": "<b>", "more": 1})).unwrap_err();
    let mut places: Vec<_> = found.iter().map(|problem| problem.pointer.as_str()).collect();
    places.sort_unstable();
    assert_eq!(places, ["", "/note", "/ticket"]);
    assert_eq!(
        compiled.check(&json!({"ticket": 7})).unwrap_err()[0].to_string(),
        "the top: \"note\" is a required property"
    );
}

#[test]
fn a_problem_is_short_and_does_not_repeat_the_value() {
    let secret = "s3cret".repeat(1000);
    for (schema, value) in [
        (json!({"type": "integer"}), json!(secret)),
        (json!({"enum": [1, 2]}), json!([secret])),
        (json!({"maxLength": 3}), json!(secret)),
        (json!({"not": {}}), json!({"a": secret})),
        (json!({"propertyNames": {"maxLength": 3}}), json!({"abcd": secret})),
        (json!({"oneOf": [{"type": "null"}, {"type": "boolean"}]}), json!(secret)),
        (json!({"const": "x".repeat(5000)}), json!(secret)),
        (json!({"enum": ["ä".repeat(5000)]}), json!(secret)),
        (json!({"properties": {"a": false}}), json!({"a": secret})),
        (json!(false), json!(secret)),
    ] {
        for problem in problems(&schema, &value) {
            assert!(!problem.message.contains("s3cret"), "{schema}: {problem}");
            assert!(!problem.message.is_empty() && problem.message.len() <= 300, "{}", problem.message.len());
        }
    }
    let named = problems(&json!({"additionalProperties": false}), &json!({secret.clone(): 1}));
    assert!(named[0].message.len() <= 300);
    let deep = problems(&json!({"additionalProperties": {"type": "null"}}), &json!({secret: 1}));
    assert!(deep[0].pointer.len() <= 200);
}

#[test]
fn at_most_five_problems_are_reported() {
    assert_eq!(problems(&json!({"items": {"type": "null"}}), &json!([1, 2, 3, 4, 5, 6, 7])).len(), 5);
}

#[test]
fn the_schema_of_an_input_must_be_of_an_object() {
    for schema in [json!({}), json!(true), json!({"type": "array"}), json!({"type": ["object", "null"]})] {
        assert!(matches!(Schema::compile_input(&schema), Err(BadSchema::NoObject)));
        assert!(Schema::compile(&schema).is_ok());
    }
}

#[test]
fn keywords_that_are_not_supported_are_refused_by_name() {
    for name in [
        "$id",
        "$anchor",
        "$dynamicRef",
        "$dynamicAnchor",
        "$recursiveRef",
        "$recursiveAnchor",
        "$vocabulary",
        "id",
        "definitions",
        "dependencies",
        "additionalItems",
        "unevaluatedProperties",
        "unevaluatedItems",
        "contentSchema",
        "requried",
        "discriminator",
    ] {
        let nested = json!({"properties": {"a": {"items": [true], "allOf": [{name: "#"}]}}});
        assert!(matches!(refusal(&nested), BadSchema::Keyword { keyword, at, .. }
            if keyword == name && at.as_str() == "/properties/a/allOf/0"));
    }
    assert!(matches!(refusal(&json!({"not": {"$defs": {}}})), BadSchema::Keyword { .. }));
    let names = json!({"properties": {"$id": {"type": "string"}}, "const": {"$id": "x", "$ref": "http://x"}});
    assert!(Schema::compile(&names).is_ok());
}

#[test]
fn references_lead_to_definitions_of_the_same_document_only() {
    for reference in [
        "http://127.0.0.1/x",
        "file:///etc/passwd",
        "other.json",
        "",
        "#foo",
        "#/properties/a",
        "#/$defs/none",
        "#/$defs/a/b",
        "#/$defs/%61",
        "#/$defs/a~0",
        "#/$defs/a~",
        "https://json-schema.org/draft/2020-12/schema",
        "//x",
        "?#/$defs/a",
    ] {
        let schema = json!({"properties": {"a": {"$ref": reference}}, "$defs": {"a": {}, "a~": {}, "a~0": {}, "%61": {}, "a/b": {}}});
        assert!(matches!(refusal(&schema), BadSchema::Reference { .. }), "{reference}");
    }
}

#[test]
fn other_drafts_are_refused_by_name() {
    let schema = json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"});
    assert!(matches!(refusal(&schema), BadSchema::Draft { found } if found.contains("draft-07")));
    assert!(Schema::compile(&json!({"$schema": 7})).is_err());
}

#[test]
fn schemas_that_are_wrong_are_refused() {
    for schema in [
        json!(7),
        json!(null),
        json!([]),
        json!("x"),
        json!({"type": "objekt"}),
        json!({"properties": []}),
        json!({"$ref": 5}),
        json!({"allOf": {}}),
        json!({"allOf": []}),
        json!({"items": [{}]}),
        json!({"minimum": "1"}),
        json!({"required": "a"}),
        json!({"pattern": "("}),
        json!({"pattern": "(?=a)"}),
        json!({"pattern": "(a)\\1"}),
        json!({"pattern": "\\p{L}{1,100}"}),
        json!({"patternProperties": {"[": {}}}),
        json!({"multipleOf": 0}),
        json!({"not": 3}),
        json!({"$defs": {"a": 3}}),
        json!({"if": []}),
    ] {
        let message = refusal(&schema).to_string();
        assert!(matches!(refusal(&schema), BadSchema::Invalid { .. }) && message.len() < 600, "{message}");
    }
}

#[test]
fn a_schema_that_refers_to_itself_for_one_value_is_refused() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"if": {"$ref": "#/$defs/a"}}}}),
        json!({"$defs": {"unused": {"dependentSchemas": {"x": {"$ref": "#/$defs/unused"}}}}}),
        json!({"properties": {"a": {"anyOf": [{"else": {"oneOf": [{"then": {"$ref": "#/$defs/a"}}]}}]}}, "$defs": {"a": {"$ref": "#/$defs/a"}}}),
    ] {
        assert!(matches!(refusal(&schema), BadSchema::Cycle { .. }), "{schema}");
    }
    let tree = Schema::compile(&json!({"properties": {"next": {"$ref": "#"}, "n": {"type": "integer"}}})).unwrap();
    assert_eq!(tree.check(&json!({"next": {"next": {"n": 1}}})), Ok(()));
    assert_eq!(tree.check(&json!({"next": {"next": {"n": "1"}}})).unwrap_err()[0].pointer, "/next/next/n");
}

/// Definitions `a0` to `a<count>`, each made from a reference to the next.
fn chain(count: usize, link: impl Fn(Value) -> Value) -> Value {
    let mut definitions: Map<_, _> =
        (0..count).map(|i| (format!("a{i}"), link(json!({"$ref": format!("#/$defs/a{}", i + 1)})))).collect();
    definitions.insert(format!("a{count}"), json!({"type": "integer"}));
    json!({"$ref": "#/$defs/a0", "$defs": definitions})
}

#[test]
fn a_schema_that_unfolds_too_far_is_refused() {
    assert!(Schema::compile(&chain(10, |next| json!({"allOf": [next, next]}))).is_ok());
    assert!(matches!(refusal(&chain(14, |next| json!({"allOf": [next, next]}))), BadSchema::TooWide { .. }));
    assert!(matches!(refusal(&chain(1000, |next| next)), BadSchema::TooWide { .. }));
    assert!(matches!(refusal(&chain(100, |next| json!({"oneOf": [next]}))), BadSchema::TooWide { .. }));
}

#[test]
fn large_schemas_are_refused_and_large_chains_compile() {
    assert!(matches!(refusal(&json!({"description": "x".repeat(65 << 10)})), BadSchema::TooLong));
    let deep = (0..40).fold(json!({}), |inner, _| json!({"not": inner}));
    assert!(matches!(refusal(&deep), BadSchema::TooDeep { .. }));
    let patterns: Vec<_> = (0..33).map(|i| json!({"pattern": format!("^{i}[a-z]")})).collect();
    assert!(matches!(refusal(&json!({"anyOf": patterns})), BadSchema::TooManyPatterns { .. }));
    assert!(matches!(refusal(&json!({"pattern": "a".repeat(1025)})), BadSchema::LongPattern { .. }));
    let wide = chain(400, |next| json!({"properties": {"x": next, "y": next}, "items": next}));
    soon(move || assert!(Schema::compile(&wide).is_ok()));
}

/// Runs what must neither hang nor overflow a small stack.
fn soon<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let start = Instant::now();
    let run = std::thread::Builder::new().stack_size(1 << 20).spawn(what).unwrap();
    let result = run.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    result
}

fn nested(depth: usize, level: impl Fn(Value) -> Value) -> Value {
    (0..depth).fold(json!(1), |inner, _| level(inner))
}

#[test]
fn a_schema_that_doubles_with_each_level_of_the_value_is_not_followed() {
    let both = |name: &str| json!({"allOf": [{name: {"$ref": "#"}}, {name: {"$ref": "#"}}]});
    for schema in [both("items"), both("contains"), both("additionalProperties")] {
        let compiled = Schema::compile(&schema).unwrap();
        let found = soon(move || {
            [nested(60, |v| json!([v])), nested(60, |v| json!({"a": v}))].map(|value| compiled.check(&value))
        });
        assert!(found.iter().any(|f| f.as_ref().is_err_and(|p| p[0].message.contains("too much work"))), "{schema}");
    }
}

#[test]
fn the_deepest_value_against_the_deepest_chain_does_not_exhaust_the_stack() {
    let mut schema = chain(9, |next| json!({"oneOf": [next]}));
    schema["$defs"]["a9"] = json!({"items": {"$ref": "#/$defs/a0"}});
    let compiled = Schema::compile(&schema).unwrap();
    assert_eq!(compiled.check(&nested(8, |v| json!([v]))), Ok(()));
    let found = soon(move || compiled.check(&nested(64, |v| json!([v]))).unwrap_err());
    assert!(found[0].message.contains("nested too deeply"));
    let usual = json!({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#"}}]});
    let compiled = Schema::compile(&usual).unwrap();
    soon(move || {
        assert_eq!(compiled.check(&nested(60, |v| json!([v]))), Ok(()));
        let wrong = (0..60).fold(json!("x"), |inner, _| json!([inner]));
        assert!(compiled.check(&wrong).is_err());
    });
}

/// A JSON text of about 256 KiB: the same items over and over.
fn many(item: impl Fn(usize) -> Value) -> Value {
    let mut items = Vec::new();
    let mut bytes = 2;
    while bytes < 256 << 10 {
        let next = item(items.len());
        bytes += next.to_string().len() + 1;
        items.push(next);
    }
    Canonical::parse(&Value::Array(items).to_string(), 300 << 10).unwrap().value().clone()
}

#[test]
fn the_largest_values_are_checked_or_refused_soon() {
    let ones = many(|_| json!(1));
    let brackets =
        many(|i| (0..12).fold(json!([]), |v, bit| if i >> bit & 1 == 1 { json!([v]) } else { json!([[], v]) }));
    let words = many(|i| json!("ab".repeat(i % 500)));
    let objects = many(|i| json!({"id": i, "on": true}));
    let long = json!("ab".repeat(128 << 10));
    let choices: Vec<_> = (2..5000).collect();
    let lists: Vec<_> = (2..5000).map(|i| json!([i])).collect();
    for (schema, value, checked) in [
        (json!({"items": {"type": "integer"}}), &ones, true),
        (json!({"items": {"type": "string"}}), &ones, true),
        (json!({"items": {"enum": choices}}), &ones, false),
        (json!({"items": {"enum": lists}}), &brackets, false),
        (json!({"uniqueItems": true}), &ones, true),
        (json!({"uniqueItems": true}), &brackets, false),
        (json!({"contains": {"not": {"uniqueItems": true}}}), &objects, true),
        (json!({"items": {"multipleOf": 1e-300}}), &ones, false),
        (json!({"items": {"pattern": "[ab]{600}c"}}), &words, false),
        (json!({"pattern": "[ab]{600}c"}), &long, false),
        (json!({"minLength": 9}), &long, true),
        (
            json!({"items": {"patternProperties": {"[a-z]{600}c": true}, "additionalProperties": false}}),
            &objects,
            false,
        ),
        (json!({"items": {"propertyNames": {"minLength": 2}, "dependentRequired": {"id": ["on"]}}}), &objects, true),
        (
            json!({"items": {"required": (0..5000).collect::<Vec<_>>().iter().map(|i| i.to_string()).collect::<Vec<_>>()}}),
            &objects,
            false,
        ),
    ] {
        let compiled = Schema::compile(&schema).unwrap();
        let value = value.clone();
        let found = soon(move || compiled.check(&value));
        let refused = found.is_err_and(|found| found[0].message.contains("too much work"));
        assert_eq!(refused, !checked, "{schema}");
    }
}

#[test]
fn problems_are_not_collected_where_they_would_fill_the_memory() {
    let ones = many(|_| json!(1));
    let branches: Vec<_> = (0..300).map(|_| json!({"type": "string"})).collect();
    let names: Vec<_> = (0..300).map(|i| i.to_string()).collect();
    let text = "x".repeat(50 << 10);
    let rows = json!(vec![json!({}); 3000]);
    let keyed = Value::Object(Map::from_iter([(text.clone(), json!(vec![1; 3000]))]));
    for (schema, value) in [
        (json!({"anyOf": branches}), ones.clone()),
        (json!({"oneOf": branches}), ones),
        (json!({"items": {"not": {"enum": [1, text]}}}), json!(vec![1; 3000])),
        (json!({"items": {"required": names}}), rows.clone()),
        (json!({"items": {"required": [text]}}), rows),
        (json!({"additionalProperties": {"items": {"type": "null"}}}), keyed),
    ] {
        let compiled = Schema::compile(&schema).unwrap();
        let found = soon(move || compiled.check(&value)).unwrap_err();
        assert!(found[0].message.contains("too much of it to say where"), "{}", found[0]);
    }
}

#[test]
fn usual_schemas_check_large_values() {
    let schema = json!({
        "type": "object",
        "properties": {"rows": {"type": "array", "items": {"$ref": "#/$defs/Row"}, "uniqueItems": true}},
        "$defs": {"Row": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "pattern": "^[0-9a-f-]{36}$"},
                "kind": {"enum": ["a", "b", "c"]},
                "parent": {"anyOf": [{"$ref": "#/$defs/Row"}, {"type": "null"}]},
            },
            "required": ["id", "kind"],
            "additionalProperties": false,
        }},
    });
    let row = |i: usize| json!({"id": format!("{i:08x}-0000-4000-8000-000000000000"), "kind": "b", "parent": null});
    let mut value = json!({"rows": (0..500).map(row).collect::<Vec<_>>()});
    let compiled = Schema::compile_input(&schema).unwrap();
    assert_eq!(compiled.check(&value), Ok(()));
    value["rows"][400]["kind"] = json!("d");
    assert_eq!(compiled.check(&value).unwrap_err()[0].pointer, "/rows/400/kind");
}
