use std::{io::Cursor, process::Command, time::Duration};

use palisade::journal::{PublicKey, verify};
use palisade_proto::v1::{self, Effect, step_result::Outcome};
use serde_json::{Value, json};

use crate::harness::{Daemon, PATIENCE, asked, palisade, probe, reason};

const ALL: &str =
    "permit (principal, action in [Palisade::Action::\"CallTool\", Palisade::Action::\"UseMemory\"], resource);";

async fn desk(extra: &str) -> Daemon {
    let daemon = Daemon::governed(ALL, extra).await;
    daemon.tool("desk.append", Effect::Append).await.unwrap();
    daemon
        .agent("[[tool]]\nname = \"desk.append\"\nworkspace = \"write\"\n[[memory]]\nspace = \"s\"\nwritable = true\n")
        .await
        .unwrap();
    daemon
}

fn append(text: &str) -> Value {
    let act = json!({ "append": { "path": "/workspace/log", "text": text } });
    json!({ "call-tool": { "name": "desk.append", "arguments": { "act": act } } })
}

async fn export(daemon: &Daemon) -> Vec<u8> {
    let request = v1::ExportRecordsRequest::default();
    let mut chunks = daemon.audit().export_records(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        bytes.extend(chunk.data);
    }
    bytes
}

async fn checkpoint(daemon: &Daemon) -> (String, PublicKey) {
    let checkpoint = daemon.audit().get_checkpoint(v1::GetCheckpointRequest {}).await.unwrap().into_inner();
    (checkpoint.text, checkpoint.public_key.parse().unwrap())
}

#[tokio::test]
async fn a_step_leaves_its_story_in_order() {
    let daemon = desk("").await;
    let ran =
        daemon.run(asked(json!([append("a"), { "call-tool": { "name": "no.such", "arguments": {} } }]))).await.unwrap();
    let records = daemon.records(&["step", "intent", "outcome", "denial", "result"]).await;
    let kinds: Vec<_> = records.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["step", "intent", "outcome", "denial", "result"]);
    for record in &records {
        assert_eq!(record["step"], json!(ran.accepted.step));
        assert_eq!(record["agent"], "tester");
        assert_eq!(record["tenant"], "default");
    }
    let sequences: Vec<_> = records.iter().map(|record| record["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]), "{sequences:?}");
    assert!(records[0]["body"]["caller"].as_str().unwrap().starts_with("unix:"));
    assert_eq!(records[4]["body"]["spent"]["tool_calls"], 1);
}

#[tokio::test]
async fn an_export_verifies_with_the_public_key_alone_and_a_changed_byte_does_not() {
    let daemon = desk("").await;
    daemon.ask(json!([append("a")])).await;
    let (held, key) = checkpoint(&daemon).await;
    daemon.ask(json!([append("b")])).await;
    let whole = export(&daemon).await;
    let verified = verify(Cursor::new(&whole), &key, Some(&held)).unwrap();
    assert!(verified.anchored && verified.records > 10, "{verified:?}");
    let mut changed = whole.clone();
    let at = whole.windows(6).position(|w| w == b"intent").unwrap();
    changed[at] ^= 1;
    let found = verify(Cursor::new(&changed), &key, Some(&held)).unwrap_err();
    assert!(found.sequence.is_some(), "{found:?}");
}

#[tokio::test]
async fn a_results_checkpoint_covers_its_record() {
    let daemon = desk("").await;
    let ran = daemon.run(asked(json!([append("a")]))).await.unwrap();
    let (_, key) = checkpoint(&daemon).await;
    let signed = palisade::journal::Checkpoint::open(&ran.result.checkpoint, &key).unwrap();
    let result = &daemon.records(&["result"]).await[0];
    assert!(signed.size >= result["sequence"].as_u64().unwrap());
    let whole = export(&daemon).await;
    assert!(verify(Cursor::new(&whole), &key, Some(&ran.result.checkpoint)).unwrap().anchored);
}

#[tokio::test]
async fn records_are_streamed_as_they_become_durable() {
    let daemon = Daemon::start().await;
    let filter = Some(v1::RecordFilter { kinds: vec!["result".into()], ..Default::default() });
    let request = v1::StreamRecordsRequest { filter, after: 0 };
    let mut stream = daemon.audit().stream_records(request).await.unwrap().into_inner();
    for _ in 0..3 {
        let ran = daemon.run(probe(json!([]))).await.unwrap();
        let record = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        let parsed: Value = serde_json::from_str(&record.canonical).unwrap();
        assert_eq!(parsed["step"], json!(ran.accepted.step));
    }
}

#[tokio::test]
async fn pages_and_filters_give_each_record_once() {
    let daemon = desk("").await;
    for _ in 0..5 {
        daemon.ask(json!([append("x")])).await;
    }
    let all = daemon.records(&[]).await.len();
    for descending in [false, true] {
        let (mut token, mut found) = (String::new(), Vec::new());
        loop {
            let request = v1::ListRecordsRequest { page_size: 3, page_token: token, descending, ..Default::default() };
            let page = daemon.audit().list_records(request).await.unwrap().into_inner();
            found.extend(page.records.iter().map(|record| record.sequence));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        if descending {
            found.reverse();
        }
        assert_eq!(found, (1..=all as i64).collect::<Vec<_>>());
    }
    let bad = v1::RecordFilter { kinds: vec!["nonsense".into()], ..Default::default() };
    let request = v1::ListRecordsRequest { filter: Some(bad), ..Default::default() };
    assert_eq!(reason(&daemon.audit().list_records(request).await.unwrap_err()), "FIELD_INVALID");
}

#[tokio::test]
async fn a_payload_can_be_deleted_without_breaking_the_chain() {
    let daemon = desk("").await;
    daemon.ask(json!([append("personal data")])).await;
    let digest = daemon.records(&["intent"]).await[0]["body"]["arguments"].as_str().unwrap().to_owned();
    let get = async || daemon.audit().get_payload(v1::GetPayloadRequest { digest: digest.clone() }).await;
    assert!(String::from_utf8(get().await.unwrap().into_inner().content).unwrap().contains("personal data"));
    let request = v1::DeletePayloadRequest { digest: digest.clone(), reason: "asked to".into() };
    daemon.audit().delete_payload(request.clone()).await.unwrap();
    assert_eq!(reason(&get().await.unwrap_err()), "PAYLOAD_NOT_FOUND");
    assert_eq!(reason(&daemon.audit().delete_payload(request).await.unwrap_err()), "PAYLOAD_NOT_FOUND");
    assert_eq!(daemon.records(&["deletion"]).await[0]["body"]["reason"], "asked to");
    let (held, key) = checkpoint(&daemon).await;
    let whole = export(&daemon).await;
    assert!(!String::from_utf8_lossy(&whole).contains("personal data"));
    verify(Cursor::new(&whole), &key, Some(&held)).unwrap();
}

#[tokio::test]
async fn secrets_in_arguments_are_not_kept() {
    let daemon = Daemon::start().await;
    let input = json!({ "acts": [], "nested": { "Password": "hunter2-canary" } });
    let request = v1::RunStepRequest { input: serde_json::to_vec(&input).unwrap(), ..probe(json!([])) };
    daemon.run(request).await.unwrap();
    assert!(!String::from_utf8_lossy(&export(&daemon).await).contains("hunter2-canary"));
    let database = std::fs::read(daemon.dir.path().join("data/journal/journal.db-wal")).unwrap_or_default();
    assert!(!database.windows(14).any(|window| window == b"hunter2-canary"));
}

#[tokio::test]
async fn proofs_are_those_of_rfc_6962() {
    let daemon = Daemon::start().await;
    for _ in 0..4 {
        daemon.probe(json!([])).await;
    }
    let size = daemon.records(&[]).await.len() as i64;
    let request = v1::ProveInclusionRequest { sequence: 3, tree_size: size };
    let proof = daemon.audit().prove_inclusion(request).await.unwrap().into_inner();
    assert!(!proof.hashes.is_empty() && proof.hashes.iter().all(|hash| hash.len() == 32));
    let request = v1::ProveConsistencyRequest { from_size: 3, to_size: size };
    assert!(!daemon.audit().prove_consistency(request).await.unwrap().into_inner().hashes.is_empty());
    let request = v1::ProveInclusionRequest { sequence: size + 99, tree_size: size };
    assert_eq!(reason(&daemon.audit().prove_inclusion(request).await.unwrap_err()), "RECORD_NOT_FOUND");
}

#[tokio::test]
async fn a_kill_between_intent_and_outcome_is_an_unknown_outcome_and_never_done_again() {
    let mut daemon = desk("").await;
    let spin = json!({ "call-tool": { "name": "desk.append", "arguments": { "act": "spin" } } });
    let running = daemon.steps().run_step(asked(json!([spin]))).await.unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while daemon.records(&["intent"]).await.is_empty() {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    drop(running);
    let daemon = daemon.again().await;
    let (outcomes, results) = (daemon.records(&["outcome"]).await, daemon.records(&["result"]).await);
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0]["body"]["status"], "unknown");
    assert_eq!(results.last().unwrap()["body"]["failure"]["code"], "DAEMON_LOST");
    assert_eq!(daemon.records(&["intent"]).await.len(), 1);
    // And it stays one: the next start has nothing to add.
    let daemon = daemon.restart().await;
    assert_eq!(daemon.records(&["outcome"]).await.len(), 1);
    let (held, key) = checkpoint(&daemon).await;
    verify(Cursor::new(export(&daemon).await), &key, Some(&held)).unwrap();
}

#[tokio::test]
async fn callers_that_hang_up_at_any_moment_leave_no_intent_without_its_one_outcome() {
    let daemon = desk("").await;
    let put = json!({ "memory-put": { "space": "s", "key": "k", "value": "v" } });
    let acts: Vec<_> = (0..4).flat_map(|_| [append("x"), put.clone()]).collect();
    for delay in 0..60 {
        let mut stream = daemon.steps().run_step(asked(json!(acts))).await.unwrap().into_inner();
        // The moment is what differs, so it is a delay and no signal.
        let _ = tokio::time::timeout(Duration::from_millis(delay), async {
            while stream.message().await.is_ok_and(|message| message.is_some()) {}
        })
        .await;
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while daemon.records(&["result"]).await.len() < 60 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let named = |records: Vec<Value>| -> Vec<(String, u64)> {
        let name = |record: Value| (record["step"].to_string(), record["call"].as_u64().unwrap());
        let mut named: Vec<_> = records.into_iter().map(name).collect();
        named.sort_unstable();
        named
    };
    let (intents, outcomes) = (named(daemon.records(&["intent"]).await), named(daemon.records(&["outcome"]).await));
    assert_eq!(intents, outcomes);
    assert!(intents.len() > 50, "{}", intents.len());
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_a_change_that_is_on_record_and_done_or_neither() {
    let daemon = desk("").await;
    for round in 0..40 {
        let disabled = round % 2 == 0;
        let request = v1::SetToolDisabledRequest { name: "desk.append@1".into(), disabled };
        let mut tools = daemon.tools();
        let _ = tokio::time::timeout(Duration::from_micros(200 * round), tools.set_tool_disabled(request)).await;
    }
    // Whatever is under way ends first.
    let request = v1::SetToolDisabledRequest { name: "desk.append@1".into(), disabled: false };
    let last = daemon.tools().set_tool_disabled(request).await.unwrap().into_inner();
    let records = daemon.records(&["tool"]).await;
    let said = records.last().unwrap()["body"]["change"].as_str().unwrap().to_owned();
    assert_eq!((last.disabled, said.as_str()), (false, "enabled"));
}

#[tokio::test]
async fn a_journal_that_was_tampered_with_does_not_start() {
    let mut daemon = desk("").await;
    daemon.ask(json!([append("a")])).await;
    daemon.stop().await;
    let database = daemon.dir.path().join("data/journal/journal.db");
    let tamper = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                  c.execute(\"update records set bytes = cast(replace(cast(bytes as text), 'tester', 'somebody') as blob) where kind = 'intent'\"); c.commit()";
    assert!(Command::new("python3").args(["-c", tamper]).arg(&database).status().unwrap().success());
    let (config, socket) = (daemon.dir.path().join("palisade.toml"), daemon.dir.path().join("p.sock"));
    let ended = palisade().arg("serve").arg("--config").arg(config).arg("--socket").arg(socket).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && said.contains("record"), "{said}");
}

#[tokio::test]
async fn an_asynchronous_result_does_not_wait_and_is_recorded_all_the_same() {
    let daemon = desk("[journal]\nacknowledge = \"asynchronous\"\n").await;
    let ran = daemon.run(asked(json!([append("a")]))).await.unwrap();
    assert_eq!((ran.outcome(), ran.result.checkpoint.as_str()), (Outcome::Succeeded, ""));
    let mut daemon = daemon;
    daemon.stop().await;
    let daemon = daemon.again().await;
    assert_eq!(daemon.records(&["result"]).await.len(), 1);
}

#[tokio::test]
async fn a_stopped_daemon_signs_what_it_leaves() {
    let mut daemon = Daemon::start().await;
    daemon.probe(json!([])).await;
    daemon.stop().await;
    let daemon = daemon.again().await;
    let kinds: Vec<_> = daemon.records(&["started", "stopped", "configuration"]).await;
    let kinds: Vec<_> = kinds.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert!(kinds.ends_with(&["started", "configuration", "stopped", "started", "configuration"]), "{kinds:?}");
}

#[tokio::test]
async fn a_full_disk_stops_effects_before_they_happen_and_they_go_on_without_a_restart() {
    let daemon = crate::disk_full::on_a_small_disk(crate::disk_full::seeded_bytes() + (6 << 20), ALL).await;
    daemon.tool("desk.append", Effect::Append).await.unwrap();
    daemon.agent("[[tool]]\nname = \"desk.append\"\nworkspace = \"write\"\n").await.unwrap();
    let acts = json!([
        append("before\n"),
        { "write": { "path": "/workspace/filler", "bytes": 64 << 20 } },
        append("must not happen\n"),
        { "remove": "/workspace/filler" },
        append("after\n"),
        { "read": "/workspace/log" },
    ]);
    let said = daemon.ask(acts).await;
    assert!(said[1].starts_with("error"), "the disk is full: {said:?}");
    assert!(said[2].contains("JOURNAL_UNAVAILABLE"), "{said:?}");
    assert!(said[0].starts_with("ok: ") && said[4].starts_with("ok: "), "{said:?}");
    assert!(said[5].contains("before") && said[5].contains("after") && !said[5].contains("must not"), "{said:?}");
    assert_eq!((daemon.records(&["intent"]).await.len(), daemon.records(&["outcome"]).await.len()), (2, 2));
    // A step that ends while the disk is full has no result; once there is room, it is said to be unknown.
    let fills = json!([append("x\n"), { "write": { "path": "/workspace/filler", "bytes": 64 << 20 } }]);
    let ran = daemon.run(asked(fills)).await.unwrap();
    assert!(matches!(ran.outcome(), Outcome::Unrecorded | Outcome::Succeeded), "{:?}", ran.result);
    let deadline = std::time::Instant::now() + PATIENCE;
    let results =
        async || daemon.records(&["result"]).await.iter().filter(|r| r["step"] == json!(ran.accepted.step)).count();
    while results().await == 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(results().await, 1);
    let (held, key) = checkpoint(&daemon).await;
    verify(Cursor::new(export(&daemon).await), &key, Some(&held)).unwrap();
}
