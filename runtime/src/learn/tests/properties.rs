//! Whatever the records say, a draft is a manifest and a set of policies.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::story::{Story, load};
use crate::manifest;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("notes".to_owned()),
        Just("tracker".to_owned()),
        Just("outer".to_owned()),
        Just(String::new()),
        Just("\"\"\"\n[[tool]]\nname = \"x\"\n# \u{2028}// permit (principal, action, resource);".to_owned()),
        any::<String>(),
    ]
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof!["(/([a-e]|[0-9]{1,3}|x\\*y)){0,4}/?", "/[a-z]{190,200}…", "/a/[a-z]{1,5}…", any::<String>()]
}

fn decision() -> impl Strategy<Value = Value> {
    let addition = prop_oneof![
        Just(Value::Null),
        text().prop_map(|text| json!(format!("// {text}"))),
        text().prop_map(Value::from),
        "[a-z]{0,20}".prop_map(|value| {
            json!(format!(
                "permit(principal == Palisade::Agent::\"desk\", action, resource) when {{ context.environment == {value:?} }};"
            ))
        }),
        Just(json!("permit(principal, action, resource);")),
    ];
    let policies = prop_oneof![Just(json!([])), Just(json!(["p"])), Just(json!([7]))];
    let errors = prop_oneof![4 => Just(json!([])), 1 => Just(json!(["failed"]))];
    (addition, policies, errors).prop_map(
        |(addition, policies, errors)| json!({ "addition": addition, "policies": policies, "errors": errors }),
    )
}

fn body() -> impl Strategy<Value = Value> {
    let power = prop_oneof![Just("tools"), Just("memory"), Just("http"), Just("other")];
    let verb =
        prop_oneof![Just("call"), Just("get"), Just("put"), Just("delete"), Just("GET"), Just("POST"), Just("gEt")];
    let tool = prop_oneof![Just("outer@1"), Just("inner@1"), Just("t.read@2+x"), Just("bad"), Just("B AD@1")];
    let via = prop_oneof![Just(""), Just("outer"), Just("inner"), Just("no one")];
    let host = prop_oneof![Just("a.example.com".to_owned()), Just("[2001:db8::1]".to_owned()), text()];
    let class = prop_oneof![Just("denied"), Just("failed"), Just("exhausted")];
    let status = prop_oneof![Just("done"), Just("failed"), Just("not-done"), Just("unknown")];
    let words = (text(), text(), path(), text());
    (power, verb, tool, via, host, decision(), words, (class, status, any::<u64>())).prop_map(
        |(power, verb, tool, via, host, decision, (space, rule, path, question), (class, status, spent))| {
            json!({
                "power": power, "verb": verb, "tool": tool, "via": via, "host": host, "decision": decision,
                "space": space, "rule": rule, "path": path, "question": question, "credential": rule, "status": status,
                "error": { "class": class, "code": space, "rule": rule }, "spent": { "fuel": spent },
                "agent": "desk@2", "caller": question,
            })
        },
    )
}

fn story() -> impl Strategy<Value = Story> {
    let kind = prop_oneof![
        1 => Just("step"), 6 => Just("intent"), 4 => Just("outcome"), 2 => Just("denial"), 1 => Just("result"), 1 => Just("new")
    ];
    proptest::collection::vec((kind, 0..3_u64, any::<bool>(), body()), 0..60).prop_map(|records| {
        let mut story = Story::of_one_step();
        for (kind, back, misplaced, body) in records {
            match kind {
                "intent" => drop(story.intent(body)),
                "outcome" => story.outcome(story.call().saturating_sub(back), body),
                "step" => story.begin("desk@2", body["decision"].clone()),
                kind if misplaced => story.record(kind, None, body),
                kind => story.record(kind, Some(back), body),
            }
        }
        story
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_draft_is_a_manifest_and_a_set(story in story()) {
        let draft = story.learn(Some("2")).unwrap();
        let manifest = manifest::parse(&draft.manifest).unwrap();
        prop_assert_eq!(manifest.name.as_str(), "desk");
        prop_assert!(manifest.tools.iter().all(|tool| ["outer", "inner", "t.read"].contains(&tool.name.as_str())));
        let set = load(&draft.policy);
        prop_assert!(set.policies().iter().all(|policy| policy.id.starts_with("learned.desk.4.")));
    }
}
