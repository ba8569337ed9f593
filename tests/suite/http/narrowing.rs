//! Each level takes away from what the one above gives: tenant, manifest, request, tool.

use palisade_proto::v1::{self, Effect};
use serde_json::{Value, json};

use super::{ALL, API, answered, code, get, reload_egress, rule, upstream};
use crate::harness::{Daemon, asked, reason, tester};

const TOOLS: &str = "permit (principal, action in Palisade::Action::\"CallTool\", resource);";

#[tokio::test]
async fn a_tenant_takes_less_of_a_rule_and_an_agent_less_of_that() {
    let (one, other) = (upstream().await, upstream().await);
    let config = format!("{}{}", rule("api", &one, "methods = [\"GET\", \"HEAD\"]"), rule("other", &other, ""));
    let daemon = Daemon::governed(ALL, &config).await;
    daemon.agent(&format!("{API}paths = [\"/a/**\"]\n[[egress]]\nrule = \"other\"\n")).await.unwrap();
    let acts = json!([get(&one, "/a/x"), get(&one, "/a/y"), get(&one, "/b/x"), get(&other, "/")]);
    let allowed =
        async || -> Vec<bool> { daemon.ask(acts.clone()).await.iter().map(|said| said.starts_with("ok: ")).collect() };
    assert_eq!(allowed().await, [true, true, false, true]);
    // The tenant leaves one rule out, and takes of the other less than the agent would.
    reload_egress(&daemon, "[[egress]]\nrule = \"api\"\npaths = [\"/*/x\"]\n").await;
    assert_eq!(allowed().await, [true, false, false, false]);
    assert_eq!(
        reason(&daemon.register(&tester("2", "[[egress]]\nrule = \"other\"\n"), true).await.unwrap_err()),
        "EGRESS_INVALID"
    );
    // What asks for more than there is is refused, and the old one stays.
    std::fs::write(
        daemon.dir.path().join("policies/egress.toml"),
        "[[egress]]\nrule = \"api\"\nmethods = [\"DELETE\"]\n",
    )
    .unwrap();
    assert!(daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.is_err());
    assert_eq!(allowed().await, [true, false, false, false]);
    for wider in
        ["methods = [\"POST\"]", "response_bytes = 99_999_999", "host = \"*.example.com\"", "credential = \"no\""]
    {
        let manifest = tester("3", &format!("{API}{wider}\n"));
        assert!(daemon.register(&manifest, true).await.is_err(), "{wider}");
    }
}

#[tokio::test]
async fn a_request_leaves_rules_out_and_adds_none() {
    let (one, other) = (upstream().await, upstream().await);
    let config = format!("{}{}", rule("api", &one, ""), rule("other", &other, ""));
    let daemon = Daemon::governed(&format!("{ALL}{TOOLS}"), &config).await;
    daemon.tool("t", Effect::Read).await.unwrap();
    daemon.agent(&format!("{API}[[egress]]\nrule = \"other\"\n[[tool]]\nname = \"t\"\n")).await.unwrap();
    let acts = json!([get(&one, "/"), get(&other, "/"), { "call-tool": { "name": "t", "arguments": {} } }]);
    let narrowed = |egress: &[&str]| v1::RunStepRequest {
        narrow: Some(v1::Narrowing { egress: egress.iter().map(ToString::to_string).collect(), ..Default::default() }),
        ..asked(acts.clone())
    };
    let said = daemon.run(asked(acts.clone())).await.unwrap().outcomes();
    assert!(said.iter().all(|said| said.starts_with("ok: ")), "{said:?}");
    let said = daemon.run(narrowed(&["api"])).await.unwrap().outcomes();
    assert_eq!((&answered(&said[0])["status"], code(&said[1]).as_str()), (&json!(200), "NARROWED"));
    assert!(said[2].contains("NARROWED"), "what is not named is left out, tools as well: {said:?}");
    let said = daemon.run(narrowed(&[])).await.unwrap().outcomes();
    assert!(said.iter().all(|said| said.contains("NARROWED")), "{said:?}");
    assert_eq!(reason(&daemon.run(narrowed(&["api", "beyond"])).await.err().unwrap()), "NOT_IN_MANIFEST");
    assert_eq!((one.seen().len(), other.seen().len()), (2, 1));
}

#[tokio::test]
async fn a_tool_sends_only_by_the_rules_of_its_grant() {
    let (one, other) = (upstream().await, upstream().await);
    let config = format!("{}{}", rule("api", &one, ""), rule("other", &other, ""));
    let daemon = Daemon::governed(&format!("{ALL}{TOOLS}"), &config).await;
    for name in ["sender", "outer", "mute"] {
        daemon.tool(name, Effect::Read).await.unwrap();
    }
    let tools = "[[tool]]\nname = \"sender\"\negress = [\"api\"]\n[[tool]]\nname = \"mute\"\n\
                 [[tool]]\nname = \"outer\"\ntools = [\"sender\"]\negress = [\"other\"]\n";
    daemon.agent(&format!("{API}[[egress]]\nrule = \"other\"\n{tools}")).await.unwrap();
    let fetch = |upstream: &super::Upstream| json!({ "act": { "fetch": format!("http://{}/", upstream.address) } });
    let call = |name: &str, arguments: Value| json!({ "call-tool": { "name": name, "arguments": arguments } });
    let through = json!({ "act": { "call": { "name": "sender", "arguments": fetch(&one) } } });
    let acts = json!([
        call("sender", fetch(&one)),
        call("sender", fetch(&other)),
        call("mute", fetch(&one)),
        call("outer", fetch(&other)),
        call("outer", through),
        get(&other, "/"),
    ]);
    let said = daemon.ask(acts).await;
    assert!(said[0].starts_with("ok: ") && said[3].starts_with("ok: ") && said[5].starts_with("ok: "), "{said:?}");
    assert!(said[1].contains("NARROWED") && said[2].contains("NARROWED"), "{said:?}");
    // What a tool inside a tool gets is what both have.
    assert!(said[4].contains("NARROWED"), "{said:?}");
    assert_eq!((one.seen().len(), other.seen().len()), (1, 2));
    let intents = daemon.records(&["intent"]).await;
    assert!(intents.iter().any(|intent| intent["body"]["power"] == "http" && intent["body"]["via"] == "sender"));
    // A rule that the agent has not cannot be granted.
    let beyond = tester("2", &format!("{API}[[tool]]\nname = \"mute\"\negress = [\"other\"]\n"));
    assert!(daemon.register(&beyond, true).await.is_err());
}
