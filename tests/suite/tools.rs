use std::fs;

use palisade_proto::v1::{self, Effect, step_event::Kind, step_result::Outcome};
use serde_json::json;
use tonic::Code;

use crate::harness::{Daemon, asked, guest, limited, probe, reason, tester, within};

/// Everybody may call everything.
const ALL: &str = "@id(\"all\") permit (principal, action in Palisade::Action::\"CallTool\", resource);";

fn call(name: &str, arguments: serde_json::Value) -> serde_json::Value {
    json!({ "call-tool": { "name": name, "arguments": arguments } })
}

/// A daemon with the tools `desk.read` and `desk.append`, and an agent that has both.
async fn desk(policies: &str) -> Daemon {
    let daemon = Daemon::governed(policies, "").await;
    daemon.tool("desk.read", Effect::Read).await.unwrap();
    daemon.tool("desk.append", Effect::Append).await.unwrap();
    let append = "[[tool]]\nname = \"desk.append\"\nworkspace = \"write\"\n";
    daemon.agent(&format!("[[tool]]\nname = \"desk.read\"\nworkspace = \"read\"\n{append}")).await.unwrap();
    daemon
}

#[tokio::test]
async fn a_step_calls_a_tool_that_policy_permits() {
    let daemon = desk(ALL).await;
    let said = daemon.ask(json!([call("desk.read", json!({ "queue": "billing", "act": "echo" }))])).await;
    assert!(said[0].starts_with("ok: ") && said[0].contains("billing"), "{said:?}");
}

#[tokio::test]
async fn a_list_holds_only_what_policy_might_let_the_guest_call() {
    let only = "permit (principal, action == Palisade::Action::\"tool:desk.read\", resource) when { context.arguments has queue };";
    let daemon = Daemon::governed("", "").await;
    daemon.tool("desk.read", Effect::Read).await.unwrap();
    daemon.tool("desk.append", Effect::Append).await.unwrap();
    crate::harness::write_policies(daemon.dir.path(), only);
    daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
    daemon.agent("[[tool]]\nname = \"desk.read\"\n[[tool]]\nname = \"desk.append\"\n").await.unwrap();
    let said = daemon.ask(json!(["list-tools"])).await;
    assert!(said[0].contains("desk.read") && !said[0].contains("desk.append"), "{said:?}");
}

#[tokio::test]
async fn without_an_agent_there_are_no_tools() {
    let daemon = desk(ALL).await;
    let said = daemon.probe(json!([call("desk.read", json!({})), "list-tools"])).await;
    assert!(said[0].starts_with("error: ") && said[0].contains("NOT_IN_MANIFEST"), "{said:?}");
    assert_eq!(said[1], "ok: ");
}

#[tokio::test]
async fn arguments_are_checked_before_anything_else_sees_them() {
    let daemon = desk(ALL).await;
    let raw = |arguments: &str| json!({ "call-tool-raw": { "name": "desk.read", "arguments": arguments } });
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let bad = [
        "{\"queue\":\"a\",\"queue\":\"b\"}",
        "{\"number\":9007199254740993}",
        "{\"queue\":\"\\ud800\"}",
        "{\"number\":\"7\"}",
        "{\"queue\":7}",
        "[]",
        "not json",
        &deep,
    ];
    let said = daemon.ask(bad.iter().map(|arguments| raw(arguments)).collect()).await;
    for (arguments, said) in bad.iter().zip(&said) {
        assert!(said.contains("ARGUMENTS_INVALID"), "{arguments}: {said}");
    }
    // Nothing of it was done, and all of it is on record.
    assert_eq!(daemon.records(&["intent"]).await.len(), 0);
    assert_eq!(daemon.records(&["denial"]).await.len(), bad.len());
}

#[tokio::test]
async fn the_bytes_that_are_judged_are_recorded_and_executed() {
    let daemon = desk(ALL).await;
    let arguments = "{ \"queue\" : \"\\u0062illing\", \"number\": 7.0 }";
    let said = daemon.ask(json!([{ "call-tool-raw": { "name": "desk.read", "arguments": arguments } }])).await;
    assert!(said[0].starts_with("ok: "), "{said:?}");
    let intent = &daemon.records(&["intent"]).await[0];
    let digest = intent["body"]["arguments"].as_str().unwrap().to_owned();
    let payload = daemon.audit().get_payload(v1::GetPayloadRequest { digest }).await.unwrap().into_inner();
    assert_eq!(payload.content, b"{\"number\":7,\"queue\":\"billing\"}");
}

#[tokio::test]
async fn a_tool_sees_what_it_was_given_and_nothing_else() {
    let daemon = desk(ALL).await;
    let write = json!({ "write": { "path": "/workspace/ticket", "bytes": 5 } });
    let read = json!({ "act": { "read": "/workspace/ticket" } });
    let append = json!({ "act": { "append": { "path": "/workspace/ticket", "text": "note" } } });
    let said = daemon
        .ask(json!([
            write,
            call("desk.read", read.clone()),
            call("desk.read", append.clone()),
            call("desk.append", append),
            { "read": "/workspace/ticket" },
        ]))
        .await;
    assert!(said[1].starts_with("ok: "), "it reads: {said:?}");
    assert!(said[2].starts_with("error: "), "it does not write: {said:?}");
    assert!(said[3].starts_with("ok: ") && said[4].contains("note"), "the other one does: {said:?}");
}

#[tokio::test]
async fn a_tool_without_the_workspace_does_not_see_it() {
    let daemon = Daemon::governed(ALL, "").await;
    daemon.tool("blind", Effect::Read).await.unwrap();
    daemon.agent("[[tool]]\nname = \"blind\"\n").await.unwrap();
    let said = daemon
        .ask(json!([
            { "write": { "path": "/workspace/secret", "bytes": 5 } },
            call("blind", json!({ "act": { "read": "/workspace/secret" } })),
        ]))
        .await;
    assert!(said[1].starts_with("error: "), "{said:?}");
}

#[tokio::test]
async fn a_tool_and_its_step_share_one_quota() {
    let daemon = desk(ALL).await;
    let request =
        v1::CreateWorkspaceRequest { workspace_id: "small".into(), quota_bytes: Some(4096), ..Default::default() };
    daemon.workspaces().create_workspace(request).await.unwrap();
    let text = "x".repeat(1500);
    let append = call("desk.append", json!({ "act": { "append": { "path": "/workspace/log", "text": text } } }));
    let write = json!({ "write": { "path": "/workspace/own", "bytes": 1500 } });
    let acts = json!([write, append.clone(), append, { "append": { "path": "/workspace/own", "bytes": 1500 } }]);
    let said = daemon.run(within("small", asked(acts))).await.unwrap().outcomes();
    assert!(said[0].starts_with("ok: ") && said[1].starts_with("ok: "), "{said:?}");
    assert!(said[2].starts_with("error: ") && said[3].starts_with("error: "), "4,096 bytes are 4,096 bytes: {said:?}");
}

#[tokio::test]
async fn a_tool_within_a_tool_has_no_more_than_the_manifest_gives_it() {
    let daemon = Daemon::governed(ALL, "").await;
    for name in ["outer", "inner", "other"] {
        daemon.tool(name, Effect::Read).await.unwrap();
    }
    let tools =
        "[[tool]]\nname = \"outer\"\ntools = [\"inner\"]\n[[tool]]\nname = \"inner\"\n[[tool]]\nname = \"other\"\n";
    daemon.agent(tools).await.unwrap();
    let nested =
        |name: &str| call("outer", json!({ "act": { "call": { "name": name, "arguments": { "queue": "deep" } } } }));
    let said = daemon.ask(json!([nested("inner"), nested("other"), call("other", json!({}))])).await;
    assert!(said[0].contains("deep"), "{said:?}");
    assert!(said[1].contains("NARROWED"), "{said:?}");
    assert!(said[2].starts_with("ok: "), "{said:?}");
    // What the inner one did is the step's, by way of the outer one.
    let intents = daemon.records(&["intent"]).await;
    assert!(intents.iter().any(|intent| intent["body"]["tool"] == "inner@1" && intent["body"]["via"] == "outer"));
}

#[tokio::test]
async fn tools_cannot_call_each_other_for_ever() {
    let daemon = Daemon::governed(ALL, "").await;
    daemon.tool("self", Effect::Read).await.unwrap();
    daemon.agent("[[tool]]\nname = \"self\"\ntools = [\"self\"]\n").await.unwrap();
    let mut arguments = json!({ "queue": "bottom" });
    for _ in 0..6 {
        arguments = json!({ "act": { "call": { "name": "self", "arguments": arguments } } });
    }
    let said = daemon.ask(json!([call("self", arguments)])).await;
    assert!(said[0].contains("TOO_DEEP") && !said[0].contains("bottom"), "{said:?}");
}

#[tokio::test]
async fn a_tool_that_misbehaves_ends_itself_and_not_its_step() {
    let daemon = Daemon::governed(ALL, "").await;
    daemon.tool("bad", Effect::Read).await.unwrap();
    daemon
        .agent("[[tool]]\nname = \"bad\"\nlimits = { fuel = 50_000_000, timeout_ms = 5_000, output_bytes = 1_000 }\n")
        .await
        .unwrap();
    let fails = json!({ "act": { "fail": { "code": "NO_TICKET", "message": "there is none" } } });
    let said = daemon
        .ask(json!([
            call("bad", json!({ "act": "spin" })),
            call("bad", json!({ "act": "panic" })),
            call("bad", json!({ "act": { "output": 5_000 } })),
            call("bad", fails),
            call("bad", json!({ "queue": "still here" })),
        ]))
        .await;
    for stopped in &said[..3] {
        assert!(stopped.contains("TOOL_STOPPED"), "{said:?}");
    }
    assert!(said[3].contains("NO_TICKET"), "{said:?}");
    assert!(said[4].starts_with("ok: "), "{said:?}");
}

#[tokio::test]
async fn what_a_tool_says_reaches_the_caller_under_its_name() {
    let daemon = desk(ALL).await;
    let ran = daemon.run(asked(json!([call("desk.read", json!({ "act": { "log": "from inside" } }))]))).await.unwrap();
    let said = ran.events.iter().find(|event| event.tool == "desk.read@1").expect("an event of the tool");
    assert!(matches!(&said.kind, Some(Kind::Log(log)) if log.message == "from inside"), "{said:?}");
}

#[tokio::test]
async fn a_step_that_times_out_in_a_tool_takes_the_tool_along() {
    let daemon = desk(ALL).await;
    let limits = v1::StepLimits {
        timeout: Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 }),
        ..Default::default()
    };
    let ran = daemon.run(limited(asked(json!([call("desk.append", json!({ "act": "spin" }))])), limits)).await.unwrap();
    // Either clock may be first; nobody is left behind.
    assert!(matches!(ran.outcome(), Outcome::LimitExceeded | Outcome::Succeeded), "{:?}", ran.result);
    let outcomes = daemon.records(&["outcome"]).await;
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    assert_eq!(daemon.probe(json!([{ "output": 1 }])).await, ["ok: x"]);
}

#[tokio::test]
async fn each_call_that_a_tool_sees_is_an_intent_with_an_outcome() {
    let daemon = desk(ALL).await;
    let acts: Vec<_> = (0..40)
        .map(|n| {
            let text = format!("seen {n}\n");
            match n % 4 {
                // Denied, wrong, or a tool that fails: the canary counts only what was executed.
                0 => call("desk.gone", json!({})),
                1 => json!({ "call-tool-raw": { "name": "desk.append", "arguments": "{" } }),
                _ => call("desk.append", json!({ "act": { "append": { "path": "/workspace/canary", "text": text } } })),
            }
        })
        .chain([json!({ "read": "/workspace/canary" })])
        .collect();
    let said = daemon.ask(json!(acts)).await;
    let seen = said.last().unwrap().matches("seen").count();
    assert_eq!(seen, 20, "{said:?}");
    let (intents, outcomes) = (daemon.records(&["intent"]).await, daemon.records(&["outcome"]).await);
    assert_eq!((intents.len(), outcomes.len(), daemon.records(&["denial"]).await.len()), (seen, seen, 20));
    for intent in &intents {
        let of = |outcome: &&serde_json::Value| outcome["step"] == intent["step"] && outcome["call"] == intent["call"];
        let outcome = outcomes.iter().find(of).expect("an outcome");
        assert_eq!(outcome["body"]["status"], "done");
        assert!(outcome["sequence"].as_u64() > intent["sequence"].as_u64());
    }
}

#[tokio::test]
async fn a_disabled_tool_is_denied_at_once() {
    let daemon = desk(ALL).await;
    let request = v1::SetToolDisabledRequest { name: "tools/desk.read@1".into(), disabled: true };
    daemon.tools().set_tool_disabled(request).await.unwrap();
    let said = daemon.ask(json!([call("desk.read", json!({}))])).await;
    assert!(said[0].contains("TOOL_DISABLED") && said[0].contains("`desk.append` is available"), "{said:?}");
}

#[tokio::test]
async fn an_agent_keeps_the_version_that_it_was_registered_with() {
    let daemon = desk(ALL).await;
    daemon.tool_version("desk.read", "2", Effect::Destroy).await.unwrap();
    let said = daemon.ask(json!([call("desk.read", json!({ "queue": "old" }))])).await;
    assert!(said[0].contains("old"), "{said:?}");
    assert_eq!(daemon.records(&["intent"]).await[0]["body"]["tool"], "desk.read@1");
}

#[tokio::test]
async fn a_registered_version_does_not_change() {
    let daemon = desk(ALL).await;
    daemon.tool("desk.read", Effect::Read).await.unwrap();
    let refused = daemon.tool("desk.read", Effect::Destroy).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "VERSION_EXISTS"));
}

#[tokio::test]
async fn what_is_no_tool_cannot_be_registered_or_run_as_one() {
    let daemon = desk(ALL).await;
    let request = v1::RegisterToolRequest {
        name: "x".into(),
        version: "1".into(),
        component: "probe".into(),
        effect: Effect::Read.into(),
        labels: Vec::new(),
    };
    let refused = daemon.tools().register_tool(request.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_A_TOOL");
    for (name, version, field) in
        [("X", "1", "name"), ("x..y", "1", "name"), ("x", "", "version"), ("x", "a b", "version")]
    {
        let request = v1::RegisterToolRequest {
            name: name.into(),
            version: version.into(),
            component: "tool".into(),
            ..request.clone()
        };
        let refused = daemon.tools().register_tool(request).await.unwrap_err();
        assert_eq!((reason(&refused).as_str(), crate::harness::field(&refused).as_str()), ("FIELD_INVALID", field));
    }
    let refused = daemon.run(v1::RunStepRequest { component: "tool".into(), ..probe(json!([])) }).await.err().unwrap();
    assert_eq!(reason(&refused), "NOT_RUNNABLE");
}

#[tokio::test]
async fn the_platforms_ceiling_holds_whatever_policy_and_manifest_say() {
    let daemon = Daemon::governed(ALL, "[ceiling]\neffects = [\"read\"]\nmemory = false\n").await;
    daemon.tool("wipe", Effect::Destroy).await.unwrap();
    daemon.tool("look", Effect::Read).await.unwrap();
    daemon
        .agent("[[tool]]\nname = \"wipe\"\n[[tool]]\nname = \"look\"\n[[memory]]\nspace = \"notes\"\nwritable = true\n")
        .await
        .unwrap();
    let put = json!({ "memory-put": { "space": "notes", "key": "k", "value": "v" } });
    let said = daemon.ask(json!([call("wipe", json!({})), call("look", json!({})), put, "list-tools"])).await;
    assert!(
        said[0].contains("ABOVE_CEILING") && said[1].starts_with("ok: ") && said[2].contains("ABOVE_CEILING"),
        "{said:?}"
    );
    assert!(!said[3].contains("wipe"), "{said:?}");
}

#[tokio::test]
async fn a_request_can_leave_less_and_never_more() {
    let daemon = desk(ALL).await;
    let narrow = |tools: &[&str]| {
        Some(v1::Narrowing {
            tools: tools.iter().map(ToString::to_string).collect(),
            spaces: Vec::new(),
            egress: Vec::new(),
        })
    };
    let acts = json!([call("desk.read", json!({})), call("desk.append", json!({}))]);
    let request = v1::RunStepRequest { narrow: narrow(&["desk.read"]), ..asked(acts.clone()) };
    let said = daemon.run(request).await.unwrap().outcomes();
    assert!(said[0].starts_with("ok: ") && said[1].contains("NARROWED"), "{said:?}");
    let wider = daemon.run(v1::RunStepRequest { narrow: narrow(&["desk.delete"]), ..asked(acts) }).await.err().unwrap();
    assert_eq!(reason(&wider), "NOT_IN_MANIFEST");
}

#[tokio::test]
async fn a_tool_whose_result_is_not_what_it_promised_has_failed() {
    let daemon = Daemon::governed(ALL, "").await;
    let header = v1::PushHeader { alias: "liar".into(), ..Default::default() };
    daemon.push_as(&fs::read(guest("liar")).unwrap(), header).await.unwrap();
    let request = v1::RegisterToolRequest {
        name: "liar".into(),
        version: "1".into(),
        component: "liar".into(),
        effect: Effect::Read.into(),
        labels: Vec::new(),
    };
    daemon.tools().register_tool(request).await.unwrap();
    daemon.register(&tester("1", "[[tool]]\nname = \"liar\"\n"), false).await.unwrap();
    let said = daemon.ask(json!([call("liar", json!({ "number": 1 })), call("liar", json!({ "number": 2 }))])).await;
    assert!(said.iter().all(|said| said.contains("RESULT_INVALID")), "{said:?}");
}
