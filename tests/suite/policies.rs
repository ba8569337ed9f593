use std::fs;

use palisade_proto::v1::{self, Effect, policy_set::Mode};
use serde_json::json;
use tonic::Code;

use crate::harness::{Daemon, data_dir, eventually, palisade, probe, reason, write_policies};

const READ: &str = "@id(\"read\") permit (principal, action == Palisade::Action::\"tool:desk.read\", resource);";

/// A daemon with one tool that nobody may call, and an agent that has it.
async fn desk(extra: &str) -> Daemon {
    let daemon = Daemon::governed("", extra).await;
    daemon.tool("desk.read", Effect::Read).await.unwrap();
    daemon.agent("[[tool]]\nname = \"desk.read\"\n").await.unwrap();
    daemon
}

fn call() -> serde_json::Value {
    json!([{ "call-tool": { "name": "desk.read", "arguments": {} } }])
}

/// Returns how often policies were put in force.
fn changes(daemon: &Daemon) -> usize {
    daemon.log().matches("policies in force").count()
}

async fn in_force(daemon: &Daemon) -> v1::PolicySet {
    daemon.policies().get_policies(v1::GetPoliciesRequest {}).await.unwrap().into_inner()
}

#[tokio::test]
async fn without_a_directory_anybody_runs_steps_and_no_step_does_anything_outside() {
    let daemon = Daemon::start().await;
    daemon.tool("desk.read", Effect::Read).await.unwrap();
    daemon.agent("[[tool]]\nname = \"desk.read\"\n").await.unwrap();
    assert!(daemon.ask(call()).await[0].contains("POLICY_NO_PERMIT"));
}

#[tokio::test]
async fn who_is_not_permitted_to_run_a_step_does_not() {
    let daemon =
        Daemon::governed("@id(\"never\") forbid (principal, action == Palisade::Action::\"RunStep\", resource);", "")
            .await;
    let refused = daemon.run(probe(json!([]))).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "POLICY_FORBIDS"));
    assert!(refused.message().contains("`never`"), "{}", refused.message());
    assert_eq!(daemon.records(&["denial"]).await.len(), 1);
    assert_eq!(daemon.records(&["step"]).await.len(), 0);
}

#[tokio::test]
async fn a_changed_file_takes_effect_as_a_whole() {
    let daemon = desk("").await;
    let (before, seen) = (in_force(&daemon).await.revision, changes(&daemon));
    write_policies(daemon.dir.path(), READ);
    eventually("the change is seen", || changes(&daemon) > seen).await;
    assert_ne!(in_force(&daemon).await.revision, before);
    assert!(daemon.ask(call()).await[0].starts_with("ok: "));
}

#[tokio::test]
async fn a_set_that_is_not_valid_is_refused_loudly_and_the_old_one_stays() {
    let daemon = desk("").await;
    write_policies(daemon.dir.path(), READ);
    daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
    let before = in_force(&daemon).await.revision;
    for bad in [
        "permit (principal, action, resource",
        "permit (principal, action == Palisade::Action::\"tool:no.such\", resource);",
        "permit (principal, action == Palisade::Action::\"tool:desk.read\", resource) when { context.arguments.nothing == 1 };",
    ] {
        write_policies(daemon.dir.path(), bad);
        let refused = daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap_err();
        assert_eq!(reason(&refused), "POLICY_INVALID");
        assert!(refused.message().contains("test.cedar"), "it names the file: {}", refused.message());
    }
    let now = in_force(&daemon).await;
    assert_eq!(now.revision, before);
    assert!(!now.refused.is_empty() && daemon.log().contains("policies refused"));
    assert!(daemon.ask(call()).await[0].starts_with("ok: "));
}

#[tokio::test]
async fn a_hangup_reads_the_policies_again() {
    let daemon = desk("").await;
    // Longer than a look at the directory takes is not waited for: the signal does it.
    let seen = changes(&daemon);
    write_policies(daemon.dir.path(), READ);
    let hangup = std::process::Command::new("kill").args(["-HUP", &daemon.child.id().to_string()]).status().unwrap();
    assert!(hangup.success());
    eventually("the signal is taken", || changes(&daemon) > seen).await;
    assert!(daemon.ask(call()).await[0].starts_with("ok: "));
}

#[tokio::test]
async fn a_daemon_does_not_start_with_policies_that_are_not_valid() {
    let dir = data_dir();
    fs::create_dir(dir.path().join("policies")).unwrap();
    write_policies(dir.path(), "permit (");
    let config = dir.path().join("palisade.toml");
    let (data, policies) = (dir.path().join("data"), dir.path().join("policies"));
    fs::write(&config, format!("data_dir = {data:?}\n[policy]\ndir = {policies:?}\n")).unwrap();
    let socket = dir.path().join("p.sock");
    let mut serve = palisade();
    serve.arg("serve").arg("--config").arg(config).arg("--socket").arg(socket);
    let ended = serve.output().unwrap();
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("test.cedar"), "{said}");
}

#[tokio::test]
async fn what_observe_would_deny_happens_and_is_on_record() {
    let daemon = Daemon::start().await;
    let observed = Daemon::with("[policy]\nmode = \"observe\"\n").await;
    drop(daemon);
    observed.tool("desk.read", Effect::Read).await.unwrap();
    observed.agent("[[tool]]\nname = \"desk.read\"\n").await.unwrap();
    assert!(observed.ask(call()).await[0].starts_with("ok: "));
    let decision = observed.records(&["intent"]).await[0]["body"]["decision"].clone();
    assert_eq!((&decision["verdict"], &decision["code"]), (&json!("would-deny"), &json!("POLICY_NO_PERMIT")));
    assert_eq!(in_force(&observed).await.mode(), Mode::Observe);
    // The manifest is no policy: it holds.
    let said = observed.ask(json!([{ "call-tool": { "name": "other", "arguments": {} } }])).await;
    assert!(said[0].contains("NOT_IN_MANIFEST"), "{said:?}");
}

#[tokio::test]
async fn a_forbid_wins_over_every_permit_and_one_that_fails_denies_too() {
    for forbid in [
        "@id(\"no\") forbid (principal, action in Palisade::Action::\"CallTool\", resource);",
        "@id(\"no\") forbid (principal, action in Palisade::Action::\"CallTool\", resource) when { context.time.unix_ms * 9223372036854775807 > 0 };",
    ] {
        let daemon = Daemon::governed("", "").await;
        daemon.tool("desk.read", Effect::Read).await.unwrap();
        write_policies(daemon.dir.path(), &format!("{READ}\n{forbid}"));
        daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
        daemon.agent("[[tool]]\nname = \"desk.read\"\n").await.unwrap();
        let said = daemon.ask(call()).await;
        assert!(said[0].contains("POLICY_FORBIDS") || said[0].contains("POLICY_ERROR"), "{said:?}");
        assert_eq!(daemon.records(&["intent"]).await.len(), 0);
    }
}

#[tokio::test]
async fn a_tool_that_would_make_the_policies_invalid_is_not_registered() {
    let numbered = "permit (principal, action == Palisade::Action::\"tool:desk.read\", resource) when { context.arguments has number && context.arguments.number < 10 };";
    let daemon = desk("").await;
    write_policies(daemon.dir.path(), numbered);
    daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
    let header = v1::PushHeader { alias: "liar".into(), ..Default::default() };
    daemon.push_as(&fs::read(crate::harness::guest("liar")).unwrap(), header).await.unwrap();
    let request = v1::RegisterToolRequest {
        name: "desk.read".into(),
        version: "2".into(),
        component: "liar".into(),
        effect: Effect::Read.into(),
        labels: Vec::new(),
    };
    // The liar's schema has no such attribute, or has it as another type, unless it is the same.
    if let Err(refused) = daemon.tools().register_tool(request).await {
        assert_eq!(reason(&refused), "POLICY_INVALID");
        assert!(daemon.tools().get_tool(v1::GetToolRequest { name: "desk.read@2".into() }).await.is_err());
    }
    assert!(in_force(&daemon).await.refused.is_empty());
}

#[tokio::test]
async fn cases_run_against_given_policies_without_putting_them_in_force() {
    let daemon = desk("").await;
    let files = vec![v1::PolicyFile { name: "new.cedar".into(), text: READ.into() }];
    let cases = r#"
        [[case]]
        name = "reading"
        agent = { name = "tester" }
        action = "call-tool"
        tool = "desk.read"
        arguments = { queue = "billing" }
        expect = "allow"
        policy = "read"

        [[case]]
        name = "wrong on purpose"
        agent = { name = "tester" }
        action = "read-memory"
        space = "notes"
        key = "k"
        expect = "allow"
    "#;
    let request = v1::TestPoliciesRequest { files, cases: cases.into() };
    let results = daemon.policies().test_policies(request).await.unwrap().into_inner().results;
    assert_eq!(results.iter().map(|result| result.passed).collect::<Vec<_>>(), [true, false]);
    assert!(results[1].explanation.contains("permit"), "{:?}", results[1]);
    assert!(daemon.ask(call()).await[0].contains("POLICY_NO_PERMIT"), "they are not in force");
    let bad = v1::TestPoliciesRequest { files: Vec::new(), cases: "[[case]]\nnmae = 1".into() };
    assert_eq!(reason(&daemon.policies().test_policies(bad).await.unwrap_err()), "CASES_INVALID");
}

#[tokio::test]
async fn a_decision_that_was_not_made_is_not_explained() {
    let daemon = Daemon::start().await;
    let explain = async |decision: &str| {
        let request = v1::ExplainDecisionRequest { decision: decision.into() };
        reason(&daemon.policies().explain_decision(request).await.unwrap_err())
    };
    assert_eq!(explain("decisions/0000/1").await, "DECISION_NOT_FOUND");
    assert_eq!(explain("nonsense").await, "FIELD_INVALID");
    assert_eq!(explain("decisions/x/y").await, "FIELD_INVALID");
}

#[tokio::test]
async fn each_change_of_policy_is_on_record_with_its_text() {
    let daemon = desk("").await;
    write_policies(daemon.dir.path(), READ);
    daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
    let records = daemon.records(&["policy"]).await;
    let last = &records.last().unwrap()["body"];
    assert_eq!(last["revision"], json!(in_force(&daemon).await.revision));
    assert_eq!(last["before"], records[records.len() - 2]["body"]["revision"]);
    let digest = last["files"][0]["digest"].as_str().unwrap().to_owned();
    let text = daemon.audit().get_payload(v1::GetPayloadRequest { digest }).await.unwrap().into_inner().content;
    assert!(String::from_utf8(text).unwrap().contains(READ));
}
