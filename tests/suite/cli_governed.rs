use std::fs;

use clap::CommandFactory as _;
use palisade_proto::v1::Effect;
use serde_json::json;

use crate::harness::{Daemon, asked, palisade, tester};

const READ: &str = "@id(\"read\") permit (principal, action == Palisade::Action::\"tool:desk.read\", resource) \
                    when { context.arguments has queue && context.arguments.queue == \"billing\" };";

/// Runs the command line against a daemon; returns the exit code and what it said, data and words.
fn cli(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = palisade().args(arguments).args(["--endpoint", &daemon.endpoint()]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn desk() -> Daemon {
    let daemon = Daemon::governed("", "").await;
    daemon.tool("desk.read", Effect::Read).await.unwrap();
    crate::harness::write_policies(daemon.dir.path(), READ);
    daemon.policies().reload_policies(palisade_proto::v1::ReloadPoliciesRequest {}).await.unwrap();
    daemon.agent("[[tool]]\nname = \"desk.read\"\n").await.unwrap();
    daemon
}

#[test]
fn no_two_options_have_one_name() {
    palisade::cli::Arguments::command().debug_assert();
}

#[tokio::test]
async fn an_agent_that_reaches_further_is_shown_before_it_is_registered() {
    let daemon = desk().await;
    let manifest = daemon.dir.path().join("agent.toml");
    let file = manifest.to_str().unwrap();
    fs::write(&manifest, tester("2", "[[tool]]\nname = \"desk.read\"\nworkspace = \"write\"\n")).unwrap();
    let (code, _, words) = cli(&daemon, &["agent", "register", file]);
    assert_eq!(code, Some(4), "{words}");
    assert!(
        words.contains("+ tool desk.read sees the workspace, read-write") && words.contains("--allow-wider"),
        "{words}"
    );
    let (code, ..) = cli(&daemon, &["agent", "register", file, "--allow-wider"]);
    assert_eq!(code, Some(0));
    let (_, listed, _) = cli(&daemon, &["agent", "list", "-o", "json"]);
    assert_eq!(listed.lines().count(), 2);
    let (_, difference, _) = cli(&daemon, &["agent", "diff", "tester@1", "tester@2"]);
    assert!(difference.contains("read-write"), "{difference}");
}

#[tokio::test]
async fn policies_are_checked_and_tested_for_continuous_integration() {
    let daemon = desk().await;
    let dir = daemon.dir.path().join("new");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a.cedar"), READ).unwrap();
    assert_eq!(cli(&daemon, &["policy", "check", dir.to_str().unwrap()]).0, Some(0));
    let cases = daemon.dir.path().join("cases.toml");
    let case = |expect: &str| {
        format!(
            "[[case]]\nname = \"billing\"\nagent = {{ name = \"tester\" }}\naction = \"call-tool\"\n\
             tool = \"desk.read\"\narguments = {{ queue = \"billing\" }}\nexpect = \"{expect}\"\n"
        )
    };
    fs::write(&cases, case("allow")).unwrap();
    let file = cases.to_str().unwrap();
    let (code, said, _) = cli(&daemon, &["policy", "test", file]);
    assert!(code == Some(0) && said.contains("PASS billing"), "{said}");
    fs::write(&cases, case("deny")).unwrap();
    let (code, said, _) = cli(&daemon, &["policy", "test", file]);
    assert!(code == Some(5) && said.contains("FAIL billing"), "{said}");
    fs::write(dir.join("b.cedar"), "permit (").unwrap();
    let (code, _, words) = cli(&daemon, &["policy", "check", dir.to_str().unwrap()]);
    assert!(code == Some(2) && words.contains("b.cedar"), "{words}");
}

#[tokio::test]
async fn a_denial_is_explained_and_a_timeline_is_readable_whatever_guests_say() {
    let daemon = desk().await;
    let call = |name: &str, queue: &str| json!({ "call-tool": { "name": name, "arguments": { "queue": queue } } });
    let steers = "\u{1b}[2J\u{202e}steers";
    let ran =
        daemon.run(asked(json!([call("desk.read", "legal"), call(steers, "x"), call("desk.read", "billing")]))).await;
    let step = ran.unwrap().accepted.step;
    let decision = daemon.records(&["denial"]).await[0]["body"]["error"]["decision"].as_str().unwrap().to_owned();
    let (code, explained, _) = cli(&daemon, &["policy", "explain", &decision]);
    assert_eq!(code, Some(0));
    for words in ["POLICY_NO_PERMIT", "read", "\"legal\"", "permit("] {
        assert!(explained.contains(words), "{words}: {explained}");
    }
    for arguments in [vec!["audit", "timeline", &step], vec!["audit", "list", "--all"]] {
        let (code, told, _) = cli(&daemon, &arguments);
        assert!(code == Some(0) && told.contains("desk.read@1") && told.contains("POLICY_NO_PERMIT"), "{told}");
        assert!(!told.contains(['\u{1b}', '\u{202e}']), "{told:?}");
    }
}

#[tokio::test]
async fn an_export_is_verified_offline_and_a_changed_one_is_not() {
    let daemon = desk().await;
    let held = daemon.dir.path().join("checkpoint");
    let (held_at, file) = (held.to_str().unwrap(), daemon.dir.path().join("export"));
    let (code, ..) = cli(&daemon, &["run", "agents/tester", "-q", "--input", "{\"acts\":[]}", "--checkpoint", held_at]);
    assert_eq!(code, Some(0));
    let (_, key, _) = cli(&daemon, &["audit", "key"]);
    let (_, export, _) = cli(&daemon, &["audit", "export"]);
    fs::write(&file, &export).unwrap();
    let verify = |file: &std::path::Path| {
        let mut command = palisade();
        command.args(["audit", "verify", file.to_str().unwrap(), "--key", key.trim(), "--checkpoint", held_at]);
        command.output().unwrap()
    };
    assert!(verify(&file).status.success(), "{:?}", verify(&file));
    fs::write(&file, export.replacen("tester", "testes", 1)).unwrap();
    let changed = verify(&file);
    assert_eq!(changed.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&changed.stderr).contains("record"), "{changed:?}");
}
