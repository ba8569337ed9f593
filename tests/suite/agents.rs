use palisade_proto::v1::{self, Effect};
use serde_json::json;
use tonic::Code;

use crate::harness::{Daemon, asked, reason, tester};

#[tokio::test]
async fn a_component_that_imports_more_than_its_manifest_is_refused_by_name() {
    let daemon = Daemon::start().await;
    let manifest = tester("1", "").replace("\"tools\", ", "");
    let refused = daemon.register(&manifest, false).await.unwrap_err();
    assert_eq!(reason(&refused), "IMPORT_NOT_IN_MANIFEST");
    assert!(
        refused.message().contains("palisade:agent/tools@0.1.0") && refused.message().contains("`tools`"),
        "{}",
        refused.message()
    );
    assert!(daemon.agents().get_agent(v1::GetAgentRequest { name: "tester".into() }).await.is_err());
}

#[tokio::test]
async fn what_a_manifest_names_must_be_there() {
    let daemon = Daemon::start().await;
    for (tail, expected) in [
        ("[[tool]]\nname = \"no.such\"\n", "TOOL_NOT_FOUND"),
        ("[[mount]]\nname = \"nowhere\"\npath = \"/m\"\n", "MOUNT_NOT_FOUND"),
        ("[limits]\nfuel = 9_000_000_000_000_000\n", "LIMIT_INVALID"),
        ("[limits]\nfuel = -1\n", "LIMIT_INVALID"),
        ("colour = \"red\"\n", "MANIFEST_INVALID"),
    ] {
        assert_eq!(reason(&daemon.agent(tail).await.unwrap_err()), expected, "{tail}");
    }
    let gone = tester("1", "").replace("component = \"probe\"", "component = \"gone\"");
    assert_eq!(reason(&daemon.register(&gone, false).await.unwrap_err()), "COMPONENT_NOT_FOUND");
    let tool = tester("1", "").replace("component = \"probe\"", "component = \"tool\"");
    assert_eq!(reason(&daemon.register(&tool, false).await.unwrap_err()), "NOT_RUNNABLE");
}

#[tokio::test]
async fn a_version_that_reaches_further_shows_it_before_it_replaces_the_old_one() {
    let daemon = Daemon::start().await;
    daemon.tool("desk.read", Effect::Read).await.unwrap();
    daemon.agent("").await.unwrap();
    let wider = tester("2", "[[tool]]\nname = \"desk.read\"\n");
    let request = v1::RegisterAgentRequest { manifest: wider.clone(), allow_wider: false, validate_only: true };
    let shown = daemon.agents().register_agent(request).await.unwrap().into_inner().difference.unwrap();
    assert!(shown.added.iter().any(|line| line == "tool desk.read@1 (read)"), "{shown:?}");
    let refused = daemon.register(&wider, false).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "REACH_WIDER"));
    assert!(refused.message().contains("desk.read"), "{}", refused.message());
    let newest = async || {
        daemon.agents().get_agent(v1::GetAgentRequest { name: "tester".into() }).await.unwrap().into_inner().name
    };
    assert_eq!(newest().await, "agents/tester@1");
    daemon.register(&wider, true).await.unwrap();
    assert_eq!(newest().await, "agents/tester@2");
    // Less is no reason to ask.
    daemon.register(&tester("3", ""), false).await.unwrap();
    let request = v1::DiffAgentsRequest { from: "tester@1".into(), to: "tester@2".into() };
    let difference = daemon.agents().diff_agents(request).await.unwrap().into_inner().difference.unwrap();
    assert_eq!(difference, shown);
}

#[tokio::test]
async fn a_version_is_immutable_and_registering_it_again_is_a_success() {
    let daemon = Daemon::start().await;
    daemon.agent("").await.unwrap();
    daemon.agent("").await.unwrap();
    let other = daemon.agent("description = \"another\"\n").await.unwrap_err();
    assert_eq!((other.code(), reason(&other).as_str()), (Code::AlreadyExists, "VERSION_EXISTS"));
    assert_eq!(daemon.records(&["agent"]).await.len(), 1);
}

#[tokio::test]
async fn a_request_names_an_agent_by_name_or_by_version() {
    let daemon = Daemon::start().await;
    daemon.agent("").await.unwrap();
    daemon.register(&tester("2", "description = \"newer\"\n"), true).await.unwrap();
    for (name, expected) in
        [("tester", "agents/tester@2"), ("agents/tester", "agents/tester@2"), ("tester@1", "agents/tester@1")]
    {
        let request = v1::RunStepRequest { agent: name.into(), ..asked(json!([])) };
        assert_eq!(daemon.run(request).await.unwrap().accepted.agent, expected);
    }
    for (name, component, expected) in [
        ("nobody", "", "AGENT_NOT_FOUND"),
        ("tester@9", "", "AGENT_NOT_FOUND"),
        ("tester", "probe", "FIELD_INVALID"),
        ("", "", "FIELD_INVALID"),
    ] {
        let request = v1::RunStepRequest { agent: name.into(), component: component.into(), ..asked(json!([])) };
        assert_eq!(reason(&daemon.run(request).await.err().unwrap()), expected, "{name} {component}");
    }
}

#[tokio::test]
async fn a_disabled_agent_does_not_start() {
    let daemon = Daemon::start().await;
    daemon.agent("").await.unwrap();
    let disable = |disabled| v1::SetAgentDisabledRequest { name: "agents/tester@1".into(), disabled };
    daemon.agents().set_agent_disabled(disable(true)).await.unwrap();
    let refused = daemon.run(asked(json!([]))).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "AGENT_DISABLED"));
    let daemon = daemon.restart().await;
    assert_eq!(reason(&daemon.run(asked(json!([]))).await.err().unwrap()), "AGENT_DISABLED", "also after a restart");
    daemon.agents().set_agent_disabled(disable(false)).await.unwrap();
    daemon.ask(json!([])).await;
}

#[tokio::test]
async fn the_manifests_limits_bound_what_a_request_can_ask() {
    let daemon = Daemon::start().await;
    daemon.agent("[limits]\nfuel = 1_000_000_000\n[budget]\nhost_calls = 7\n").await.unwrap();
    let ran = daemon.run(asked(json!([]))).await.unwrap();
    assert_eq!(ran.accepted.limits.unwrap().fuel, Some(1_000_000_000));
    assert_eq!(ran.accepted.budget.unwrap().host_calls, Some(7));
    let more = v1::StepLimits { fuel: Some(1_000_000_001), ..Default::default() };
    let request = v1::RunStepRequest { limits: Some(more), ..asked(json!([])) };
    assert_eq!(reason(&daemon.run(request).await.err().unwrap()), "LIMIT_INVALID");
    let more = v1::Budget { host_calls: Some(8), ..Default::default() };
    let request = v1::RunStepRequest { budget: Some(more), ..asked(json!([])) };
    assert_eq!(reason(&daemon.run(request).await.err().unwrap()), "LIMIT_INVALID");
}

#[tokio::test]
async fn an_agent_sees_its_manifests_mounts_and_a_request_adds_none() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("page"), "handbook").unwrap();
    let mount = format!("[[mount]]\nname = \"handbook\"\npath = {:?}\n", outside.path());
    let daemon = Daemon::with(&mount).await;
    daemon.agent("[[mount]]\nname = \"handbook\"\npath = \"/handbook\"\n").await.unwrap();
    assert!(daemon.ask(json!([{ "read": "/handbook/page" }])).await[0].contains("handbook"));
    let more = v1::MountUse { mount: "handbook".into(), path: "/again".into(), read_only: true };
    let request = v1::RunStepRequest { mounts: vec![more], ..asked(json!([])) };
    assert_eq!(reason(&daemon.run(request).await.err().unwrap()), "FIELD_INVALID");
    let writable = "[[mount]]\nname = \"handbook\"\npath = \"/handbook\"\nwritable = true\n";
    assert_eq!(reason(&daemon.register(&tester("2", writable), true).await.unwrap_err()), "MANIFEST_INVALID");
}
