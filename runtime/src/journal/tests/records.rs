use proptest::prelude::*;
use serde_json::{Value, json};

use super::text_payload;
use crate::journal::{
    Entry, Hash, Kind, PayloadPolicy, Record,
    record::{Moment, Prepared},
};

const MOMENT: Moment = Moment { time_ms: 1_700_000_000_000, boot_us: 12_345 };

fn bytes(entry: Entry) -> Vec<u8> {
    Prepared::new(entry, &PayloadPolicy::default()).unwrap().record(7, &Hash::ZERO, MOMENT)
}

/// Any body that can be recorded.
fn body() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1_i64 << 53) + 1..1 << 53).prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |n| serde_json::Number::from_f64(n).map(Value::from)),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    });
    prop::collection::hash_map(any::<String>(), value, 0..4).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_bytes_of_a_record_are_canonical_and_say_what_was_appended(
        tenant in any::<String>(), ids in prop::collection::vec(prop::option::of(any::<String>()), 5),
        call in prop::option::of(0_u64..1 << 53), body in body(),
    ) {
        let [step, job, agent, trace, span] = ids.try_into().unwrap();
        let entry = Entry {
            step: step.clone(), call, job: job.clone(), agent: agent.clone(), trace: trace.clone(), span: span.clone(),
            ..Entry::new(Kind::Policy, tenant.clone(), body.clone())
        };
        let bytes = bytes(entry);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(serde_json_canonicalizer::to_vec(&value).unwrap(), bytes.clone());
        prop_assert!(!bytes.contains(&b'\n'));
        let record: Record = serde_json::from_slice(&bytes).unwrap();
        let canonical = |value: &Value| serde_json_canonicalizer::to_vec(value).unwrap();
        prop_assert_eq!(canonical(&Value::Object(record.body.clone())), canonical(&body));
        let expected = Record {
            version: 1, sequence: 7, previous: "0".repeat(64), time_ms: MOMENT.time_ms, boot_us: MOMENT.boot_us,
            kind: "policy".to_owned(), tenant, step, call, job, agent, trace, span, body: record.body.clone(),
        };
        prop_assert_eq!(record, expected);
    }
}

#[test]
fn a_record_has_this_form() {
    let text = |text: &str| Some(text.to_owned());
    let entry = Entry {
        step: text("s"),
        call: Some(3),
        job: text("j"),
        agent: text("a"),
        trace: text("t"),
        span: text("p"),
        payloads: vec![text_payload("hello")],
        ..Entry::new(Kind::Intent, "acme", json!({ "tool": "crm.read", "cost": 1.0 }))
    };
    let expected = concat!(
        r#"{"agent":"a","body":{"cost":1,"payloads":[{"digest":"sha256:"#,
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        r#"","kept":"whole","media_type":"text/plain","size":5}],"tool":"crm.read"},"boot_us":12345,"call":3,"job":"j","#,
        r#""kind":"intent","previous":"0000000000000000000000000000000000000000000000000000000000000000","sequence":7,"#,
        r#""span":"p","step":"s","tenant":"acme","time_ms":1700000000000,"trace":"t","version":1}"#,
    );
    assert_eq!(String::from_utf8(bytes(entry)).unwrap(), expected);
    let least = concat!(
        r#"{"body":{},"boot_us":12345,"kind":"started","#,
        r#""previous":"0000000000000000000000000000000000000000000000000000000000000000","sequence":7,"#,
        r#""tenant":"","time_ms":1700000000000,"version":1}"#,
    );
    assert_eq!(String::from_utf8(bytes(Entry::new(Kind::Started, "", json!({})))).unwrap(), least);
}

#[test]
fn kinds_are_read_as_they_are_written() {
    for kind in Kind::ALL {
        assert_eq!(kind.as_str().parse::<Kind>().unwrap(), kind);
        assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.as_str()));
    }
    let unknown = "x".repeat(1_000).parse::<Kind>().unwrap_err().to_string();
    assert!(unknown.len() < 300 && unknown.contains("intent"));
}
