#![allow(clippy::unwrap_used)]

mod left_out;
mod properties;
mod story;

use serde_json::{Value, json};

use self::story::{COMPONENT, Story, agent, bare, memory, now, remembers, request, sends, tool, unpermitted};
use crate::{
    policy::{MemoryVerb, Question, Surroundings, ToolFacts},
    step::{Digest, Effect},
};

#[test]
fn requests_become_a_rule_that_is_as_narrow_as_they_were() {
    let mut story = Story::of_one_step();
    for issue in [7, 8, 1042] {
        story.done(request("GET", &format!("/v1/issues/{issue}")));
    }
    let call = story.intent(request("POST", "/v1/issues/7/comments"));
    story.outcome(call, json!({ "status": "done", "http": { "answered": { "status": 401 } } }));
    story.end();
    let (manifest, set, draft) = story.drafted();
    let toml = &draft.manifest;
    assert_eq!((manifest.version.as_str(), manifest.component.as_str()), ("4", COMPONENT));
    assert_eq!(manifest.egress.len(), 1);
    for line in [
        "host = \"api.example.com\"",
        "methods = [\"GET\", \"POST\"]",
        "paths = [\"/v1/issues/*\", \"/v1/issues/*/comments\"]",
        "request_bytes = 1000",
        "timeouts = { total_ms = 5000 }",
        "# From 4 records of 1 step: 2, 4, 6, 8.",
        "# [budget]\n# fuel = 2000000 # 812345",
        "by 10 records of 1 step, 1 to 10",
        "# 1 of them was answered 401 or 403",
        "tool outer, tool idle, memory notes",
    ] {
        assert!(toml.contains(line), "{line} in\n{toml}");
    }
    assert!(manifest.tools.is_empty() && manifest.spaces.is_empty() && manifest.mounts.len() == 1);
    let here = "api.example.com";
    assert!(sends(&set, "GET", here, "/v1/issues/99") && sends(&set, "POST", here, "/v1/issues/99/comments"));
    assert!(!sends(&set, "POST", here, "/v1/issues/99") && !sends(&set, "DELETE", here, "/v1/issues/7"));
    assert!(!sends(&set, "GET", here, "/v1/users/7") && !sends(&set, "GET", "evil.example.com", "/v1/issues/7"));
}

#[test]
fn a_credential_stays_granted_and_no_condition_compares_it() {
    let mut story = Story::of_one_step();
    let mut body = request("GET", "/");
    body["credential"] = json!("tracker-token");
    story.done(body);
    let (manifest, _, draft) = story.drafted();
    assert_eq!(manifest.egress[0].credential, Some("tracker-token".parse().unwrap()));
    assert!(!draft.policy.contains("credential"), "{}", draft.policy);
}

#[test]
fn a_rule_with_many_hosts_is_told_apart_by_policies() {
    let mut story = Story::of_one_step();
    for host in ["a.example.com", "b.example.com"] {
        let mut body = request("GET", "/");
        body["host"] = json!(host);
        body["decision"] = bare("SendRequest", &format!("Host::\"{host}\""));
        story.done(body);
    }
    let (manifest, set, draft) = story.drafted();
    assert!(manifest.egress[0].host.is_none() && draft.manifest.contains("a.example.com, b.example.com"));
    assert!(sends(&set, "GET", "a.example.com", "/") && !sends(&set, "GET", "c.example.com", "/"));
}

#[test]
fn a_space_is_writable_only_if_it_was_written() {
    let mut story = Story::of_one_step();
    story.done(memory("get", ""));
    let (manifest, set, _) = story.drafted();
    assert!(!manifest.spaces[0].writable);
    assert!(remembers(&set, MemoryVerb::Read, "") && !remembers(&set, MemoryVerb::Write, ""));
    story.done(memory("put", ""));
    let (manifest, set, _) = story.drafted();
    assert!(manifest.spaces[0].writable);
    assert!(remembers(&set, MemoryVerb::Write, "") && !remembers(&set, MemoryVerb::Delete, ""));
}

#[test]
fn a_tool_gets_what_was_used_inside_it_and_so_do_the_tools_around_it() {
    let mut story = Story::of_one_step();
    let outer = story.intent(tool("outer", "", bare("tool:outer", "Tool::\"outer\"")));
    let inner = story.intent(tool("inner", "outer", bare("tool:inner", "Tool::\"inner\"")));
    story.done(memory("get", "inner"));
    story.outcome(inner, json!({ "status": "done" }));
    story.outcome(outer, json!({ "status": "done" }));
    let (manifest, set, _) = story.drafted();
    let grant = |name: &str| manifest.tools.iter().find(|tool| tool.name.as_str() == name).unwrap();
    let names = |names: &[crate::step::Name]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&grant("outer").spaces), ["notes"]);
    assert_eq!(names(&grant("inner").spaces), ["notes"]);
    assert_eq!(grant("outer").tools, ["inner".parse().unwrap()]);
    assert_eq!(names(&grant("outer").mounts), ["handbook"], "as it was");
    assert!(grant("inner").mounts.is_empty() && grant("inner").tools.is_empty());
    // The step itself did not read: only the tool that did may.
    assert!(remembers(&set, MemoryVerb::Read, "inner") && !remembers(&set, MemoryVerb::Read, ""));
}

#[test]
fn the_conditions_of_an_addition_are_the_permits() {
    let mut story = Story::of_one_step();
    for queue in ["billing", "legal", "billing"] {
        let when = format!("when {{ context.arguments has queue && context.arguments.queue == \"{queue}\" }}");
        let addition = format!(
            "permit(\n  principal == Palisade::Agent::\"desk\",\n  action == Palisade::Action::\"tool:t.read\",\n  \
             resource == Palisade::Tool::\"t.read\"\n) {when};"
        );
        story.done(tool("t.read", "", unpermitted(&addition)));
    }
    let (_, set, draft) = story.drafted();
    assert_eq!(set.policies().len(), 1, "{}", draft.policy);
    let (facts, agent, now) = (
        ToolFacts {
            name: "t.read".into(),
            version: "1".into(),
            digest: Digest::of(b"tool"),
            effect: Effect::Read,
            labels: Vec::new(),
            input_schema: Value::Null,
        },
        agent(),
        now(""),
    );
    let calls = |queue: &str| {
        let arguments = json!({ "queue": queue });
        set.decide(&Question::CallTool { agent: &agent, tool: &facts, arguments: &arguments }, &now).allowed
    };
    assert!(calls("billing") && calls("legal") && !calls("sales"));
}

#[test]
fn what_policies_permit_already_gets_no_permit() {
    let mut story = Story::of_one_step();
    story.done(tool("t.read", "", json!({ "verdict": "allow", "policies": ["desk.read"] })));
    let (manifest, set, draft) = story.drafted();
    assert_eq!(manifest.tools[0].name.as_str(), "t.read");
    assert!(set.policies().is_empty());
    assert!(draft.policy.contains("// desk calls tool t.read: permitted by `desk.read`, from 1 record of 1 step: 2."));
}

#[test]
fn what_is_not_in_the_manifest_and_permitted_needs_the_manifest_alone() {
    let mut story = Story::of_one_step();
    let mut body = memory("get", "");
    body["decision"] =
        json!({ "verdict": "would-deny", "code": "NOT_IN_MANIFEST", "policies": ["notes"], "addition": null });
    story.done(body);
    let (manifest, set, _) = story.drafted();
    assert_eq!(manifest.spaces.len(), 1);
    assert!(set.policies().is_empty());
}

#[test]
fn who_started_steps_that_nobody_may_start_is_permitted_to() {
    let mut story = Story::new();
    let addition = "permit(\n  principal == Palisade::Caller::\"unix:1000\",\n  action == Palisade::Action::\"RunStep\",\n  \
                    resource == Palisade::Agent::\"desk\"\n);";
    story.begin("desk@2", json!({ "verdict": "would-deny", "policies": [], "addition": addition }));
    let (_, set, draft) = story.drafted();
    let runs = |caller: &str| {
        let now = Surroundings { caller: caller.into(), ..now("") };
        set.decide(&Question::RunAgent { agent: &agent() }, &now).allowed
    };
    assert!(runs("unix:1000") && !runs("unix:0"), "{}", draft.policy);
}

#[test]
fn more_than_a_permit_can_bear_becomes_several() {
    let mut story = Story::of_one_step();
    for one in 0..30 {
        story.done(request("GET", &format!("/v1/s{one}/x{one}")));
    }
    let (_, set, draft) = story.drafted();
    assert!(set.policies().len() > 1, "{}", draft.policy);
    assert!((0..30).all(|one| sends(&set, "GET", "api.example.com", &format!("/v1/s{one}/x{one}"))));
    assert!(!sends(&set, "GET", "api.example.com", "/v1/s1/x2"));
}
