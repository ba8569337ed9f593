use std::{fs, path::Path};

use palisade_proto::v1::{self, Effect};
use serde_json::{Value, json};

use crate::harness::{Daemon, palisade, tester, write_policies};

const OBSERVE: &str = "mode = \"observe\"\n";

/// Learns about the agent `tester`; returns the exit code, the files that were written, and what was said.
fn learn(daemon: &Daemon, dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String, String) {
    let ended = palisade()
        .args(["agent", "learn"])
        .args(arguments)
        .args(["--endpoint", &daemon.endpoint(), "--write"])
        .arg(dir)
        .output()
        .unwrap();
    let file = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    (ended.status.code(), file("tester.toml"), file("tester.cedar"), said)
}

/// A daemon that observes, with a tool of which the manifest knows, and an agent that has nothing else.
async fn observing() -> Daemon {
    // `governed` ends its configuration with the table of policies.
    let daemon = Daemon::governed("", "").await;
    let config = daemon.dir.path().join("palisade.toml");
    fs::write(&config, fs::read_to_string(&config).unwrap() + OBSERVE).unwrap();
    let daemon = daemon.restart().await;
    daemon.tool("desk.read", Effect::Read).await.unwrap();
    daemon.tool("desk.append", Effect::Append).await.unwrap();
    daemon.agent("[[tool]]\nname = \"desk.read\"\n[[tool]]\nname = \"desk.append\"\n").await.unwrap();
    daemon
}

fn put(space: &str) -> Value {
    json!({ "memory-put": { "space": space, "key": "k", "value": "v" } })
}

fn get(space: &str) -> Value {
    json!({ "memory-get": { "space": space, "key": "k" } })
}

fn call(tool: &str) -> Value {
    json!({ "call-tool": { "name": tool, "arguments": { "queue": "billing" } } })
}

#[tokio::test]
async fn a_memory_space_beyond_the_manifest_can_be_observed_but_not_beyond_the_ceiling() {
    let daemon = observing().await;
    let said = daemon.ask(json!([put("notes"), get("notes"), get("Not A Name")])).await;
    assert!(said[0].starts_with("ok: ") && said[1].contains("\"v\""), "{said:?}");
    assert!(said[2].contains("NOT_IN_MANIFEST"), "{said:?}");
    let decision = &daemon.records(&["intent"]).await[0]["body"]["decision"];
    assert_eq!((&decision["verdict"], &decision["code"]), (&json!("would-deny"), &json!("NOT_IN_MANIFEST")));
    assert!(decision["addition"].as_str().unwrap().contains("WriteMemory"), "{decision}");
    assert!(daemon.probe(json!([get("notes")])).await[0].contains("NOT_IN_MANIFEST"), "without an agent there is none");

    let ceiling = Daemon::with("[ceiling]\nmemory = false\n[policy]\nmode = \"observe\"\n").await;
    ceiling.agent("").await.unwrap();
    assert!(ceiling.ask(json!([put("notes")])).await[0].starts_with("error: "));
}

#[tokio::test]
async fn a_space_given_for_reading_is_written_while_a_daemon_observes() {
    let daemon = Daemon::with("[policy]\nmode = \"observe\"\n").await;
    daemon.agent("[[memory]]\nspace = \"notes\"\n").await.unwrap();
    assert!(daemon.ask(json!([put("notes")])).await[0].starts_with("ok: "));
    assert_eq!(daemon.records(&["intent"]).await[0]["body"]["decision"]["code"], "READ_ONLY");
}

#[tokio::test]
async fn what_was_learned_is_enough_and_no_more() {
    let observed = observing().await;
    observed.ask(json!([call("desk.read"), put("notes"), get("plans"), call("desk.secret")])).await;
    let drafts = tempfile::tempdir().unwrap();
    let (code, manifest, policy, said) = learn(&observed, drafts.path(), &["tester"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("desk.secret") && manifest.contains("desk.secret") && said.contains("stays denied"),
        "{said}"
    );
    assert!(manifest.contains("version = \"2\"") && manifest.contains("tool desk.append"), "{manifest}");

    // A daemon that enforces, and has nothing but what was learned.
    let enforced = Daemon::governed("", "").await;
    enforced.tool("desk.read", Effect::Read).await.unwrap();
    enforced.tool("desk.append", Effect::Append).await.unwrap();
    write_policies(enforced.dir.path(), &policy);
    enforced.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
    enforced.register(&manifest, true).await.unwrap();
    let said = enforced.ask(json!([call("desk.read"), put("notes"), get("plans")])).await;
    assert!(said.iter().all(|said| said.starts_with("ok: ")), "{said:?}\n{manifest}\n{policy}");
    let more = json!([call("desk.append"), get("notes"), put("plans"), get("others")]);
    let said = enforced.ask(more).await;
    assert!(said.iter().all(|said| said.starts_with("error: ")), "{said:?}");

    let (code, _, _, said) = learn(&observed, drafts.path(), &["tester"]);
    assert!(code == Some(2) && said.contains("is there already"), "{said}");
}

#[tokio::test]
async fn what_a_policy_forbids_is_not_learned() {
    let daemon = observing().await;
    let forbid = "@id(\"never\") forbid (principal, action == Palisade::Action::\"tool:desk.read\", resource);";
    write_policies(daemon.dir.path(), forbid);
    daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
    assert!(daemon.ask(json!([call("desk.read")])).await[0].starts_with("ok: "));
    let drafts = tempfile::tempdir().unwrap();
    let (code, manifest, policy, said) = learn(&daemon, drafts.path(), &["tester@1", "--since", "1h"]);
    assert!(code == Some(0) && said.contains("`never` forbids it"), "{said}");
    assert!(!manifest.contains("[[tool]]") && !policy.contains("permit("), "{manifest}\n{policy}");
}

#[tokio::test]
async fn only_what_is_asked_for_is_learned_from() {
    let daemon = observing().await;
    let drafts = tempfile::tempdir().unwrap();
    let (code, _, _, said) = learn(&daemon, drafts.path(), &["tester"]);
    assert!(code == Some(3) && said.contains("let it work"), "{said}");
    daemon
        .run(v1::RunStepRequest { job: "trial".into(), ..crate::harness::asked(json!([put("tried")])) })
        .await
        .unwrap();
    daemon.ask(json!([put("else")])).await;
    daemon.register(&tester("2", ""), true).await.unwrap();
    assert_eq!(learn(&daemon, drafts.path(), &["tester"]).0, Some(3), "the newest version did nothing");
    let (code, manifest, ..) = learn(&daemon, drafts.path(), &["tester", "--job", "trial", "--all-versions"]);
    assert!(code == Some(0) && manifest.contains("\"tried\"") && !manifest.contains("\"else\""), "{manifest}");
    let told = palisade().args(["agent", "learn", "tester@1", "-o", "json", "--endpoint", &daemon.endpoint()]).output();
    let told: Value = serde_json::from_slice(&told.unwrap().stdout).unwrap();
    assert_eq!(told["steps"], 2);
    assert!(told["manifest"].as_str().unwrap().contains("version = \"3\""), "{told}");
}
