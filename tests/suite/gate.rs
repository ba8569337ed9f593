//! Every power that reaches beyond the sandbox passes one gate.

use std::{collections::BTreeSet, fs};

use palisade::host::{POWERS, Way, power_of};
use palisade_proto::v1::{self, Effect};
use serde_json::{Value, json};

use crate::harness::{Daemon, root};

/// One act of the probe for each function of each gated interface.
fn acts() -> Vec<(&'static str, Value)> {
    vec![
        ("tools.list", json!("list-tools")),
        ("tools.call", json!({ "call-tool": { "name": "t", "arguments": {} } })),
        ("memory.get", json!({ "memory-get": { "space": "s", "key": "k" } })),
        ("memory.list", json!({ "memory-list": { "space": "s", "prefix": "" } })),
        ("memory.put", json!({ "memory-put": { "space": "s", "key": "k", "value": "v" } })),
        ("memory.delete", json!({ "memory-delete": { "space": "s", "key": "k" } })),
        ("http.handle", json!({ "http": { "scheme": "http", "authority": "127.0.0.1:1" } })),
    ]
}

/// Functions of gated powers that ask the daemon nothing, and why not.
const PURE: [(&str, &str); 1] = [("http.why", "it tells what the step was told already")];

/// Where nobody listens.
const RULE: &str =
    "[[egress]]\nname = \"r\"\nscheme = \"http\"\nhost = \"127.0.0.1\"\nport = 1\ncidrs = [\"127.0.0.1/32\"]\n";

/// Returns the functions of an interface of ours, from its contract.
fn functions(word: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(format!("wit/{word}.wit"))).unwrap();
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("///"));
    lines
        .filter_map(|line| line.split_once(": func"))
        .map(|(name, _)| format!("{word}.{}", name.trim_start_matches('%')))
        .collect()
}

#[test]
fn every_function_that_is_linked_passes_the_gate_or_is_pure_for_a_reason() {
    let gated = POWERS.iter().filter(|power| power.way == Way::Gated);
    let mut functions: BTreeSet<_> = gated.flat_map(|power| functions(power.word)).collect();
    // Its interface is WASI's.
    functions.insert("http.handle".into());
    for (pure, reason) in PURE {
        assert!(functions.remove(pure) && reason.len() > 10, "{pure}");
    }
    let exercised: BTreeSet<_> = acts().into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(functions, exercised, "each function of a gated power needs an act in this file");
    for power in POWERS {
        if let Way::Pure(reason) = power.way {
            assert!(reason.len() > 10, "{} needs a reason", power.word);
        }
    }
    // Nothing is linked anywhere but in the list.
    for (file, text) in crate::tidy::runtime() {
        let links = ["add_to_linker", "func_wrap", "func_new", "LinkerInstance"];
        let linked = links.iter().any(|link| text.contains(link));
        let home = ["host.rs", "host/clocks.rs", "host/poll.rs", "host/sockets.rs"].contains(&file.as_str());
        assert!(!linked || home, "{file} links something outside the list of powers");
        for name in text.split(".instance(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(power_of(name).is_some(), "{file} links {name}, which is of no power");
        }
    }
}

#[tokio::test]
async fn each_gated_function_leaves_its_records_whether_it_is_allowed_or_not() {
    let allow = "permit (principal, action, resource) when { action in [Palisade::Action::\"CallTool\", Palisade::Action::\"UseMemory\"] || action == Palisade::Action::\"SendRequest\" };";
    for (policies, kinds) in [(allow, vec!["intent", "outcome"]), ("", vec!["denial"])] {
        let daemon = Daemon::governed(policies, RULE).await;
        daemon.tool("t", Effect::Read).await.unwrap();
        let grants = "[[tool]]\nname = \"t\"\n[[memory]]\nspace = \"s\"\nwritable = true\n[[egress]]\nrule = \"r\"\n";
        daemon.agent(grants).await.unwrap();
        for (name, act) in acts() {
            let before = daemon.records(&["intent", "outcome", "denial"]).await.len();
            daemon.ask(json!([act])).await;
            let records = daemon.records(&["intent", "outcome", "denial"]).await;
            let left: Vec<_> = records[before..].iter().map(|record| record["kind"].as_str().unwrap()).collect();
            // A list holds only what is allowed, so there is nothing to deny.
            let expected = if name == "tools.list" { vec!["intent", "outcome"] } else { kinds.clone() };
            assert_eq!(left, expected, "{name} with policies {policies:?}");
        }
    }
}

#[tokio::test]
async fn a_denied_call_costs_no_more_than_the_call() {
    let daemon = Daemon::governed("", "").await;
    daemon.tool("t", Effect::Read).await.unwrap();
    daemon.agent("[[tool]]\nname = \"t\"\n").await.unwrap();
    let call = json!({ "call-tool": { "name": "t", "arguments": { "queue": "x".repeat(1000) } } });
    let ran = daemon.run(crate::harness::asked(json!([call, call, call]))).await.unwrap();
    let spent = ran.result.spent.unwrap();
    assert_eq!((spent.host_calls, spent.tool_calls, spent.bytes_out), (Some(3), Some(0), Some(0)));
}

#[tokio::test]
async fn a_denial_says_what_would_help() {
    let own = "@id(\"own-queue\") permit (principal, action == Palisade::Action::\"tool:desk.read\", resource) \
               when { context.arguments has queue && context.arguments.queue == \"billing\" };";
    let daemon = Daemon::governed("", "").await;
    daemon.tool("desk.read", Effect::Read).await.unwrap();
    daemon.tool("desk.delete", Effect::Destroy).await.unwrap();
    crate::harness::write_policies(daemon.dir.path(), own);
    daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
    daemon.agent("[[tool]]\nname = \"desk.read\"\n[[tool]]\nname = \"desk.delete\"\n").await.unwrap();
    let call = |name: &str, queue: &str| json!({ "call-tool": { "name": name, "arguments": { "queue": queue } } });
    let acts = json!([call("desk.read", "billing"), call("desk.read", "legal"), call("desk.delete", "billing")]);
    let said = daemon.ask(acts).await;
    assert!(said[0].starts_with("ok: "), "{said:?}");
    for words in ["POLICY_NO_PERMIT", "own-queue", "billing", "do not retry"] {
        assert!(said[1].contains(words), "{words}: {said:?}");
    }
    assert!(said[2].contains("POLICY_NO_PERMIT") && said[2].contains("`desk.read` is available"), "{said:?}");
    // The same words are on record, and explained.
    let denials = daemon.records(&["denial"]).await;
    let message = denials[0]["body"]["error"]["message"].as_str().unwrap();
    assert!(said[1].contains(message), "{said:?} {message}");
    let decision = denials[0]["body"]["error"]["decision"].as_str().unwrap().to_owned();
    let explained =
        daemon.policies().explain_decision(v1::ExplainDecisionRequest { decision }).await.unwrap().into_inner();
    assert_eq!((explained.verdict.as_str(), explained.rule.as_str()), ("deny", "own-queue"));
    assert!(explained.addition.contains("legal") && explained.addition.contains("permit"), "{explained:?}");
    // What is said to be the smallest addition is one.
    crate::harness::write_policies(daemon.dir.path(), &format!("{own}\n{}", explained.addition));
    daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
    assert!(daemon.ask(json!([call("desk.read", "legal")])).await[0].starts_with("ok: "));
}
