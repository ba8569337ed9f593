//! What has entered a job stays with it, and policies see it at every way out.

use std::{fs, os::unix::fs::PermissionsExt as _};

use palisade_proto::v1::{self, Effect, run_step_response::Message, step_event::Kind};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{ALL, answered, ask_in, code, get, of_job, rule, upstream};
use crate::harness::{
    Daemon, PATIENCE, asked, tester,
    upstream::{Piece, Reply, Upstream},
    within,
};

const MORE: &str =
    "permit (principal, action in [Palisade::Action::\"CallTool\", Palisade::Action::\"UseMemory\"], resource);\n";

/// A daemon on which there is something confidential of each kind, with the starter's policies; an upstream for what is
/// confidential and for everything else; and one for the public.
struct Office {
    daemon: Daemon,
    inside: Upstream,
    public: Upstream,
    _dir: TempDir,
}

impl Office {
    async fn open() -> Self {
        let (dir, inside, public) = (tempfile::tempdir().unwrap(), upstream().await, upstream().await);
        let (token, mount) = (dir.path().join("token"), dir.path().join("mount"));
        fs::write(&token, "canary-b1a0").unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(&mount).unwrap();
        fs::write(mount.join("file"), "in the mount").unwrap();
        let confidential = "labels = [\"confidential\"]\n";
        let config = [
            rule("secrets", &inside, &format!("paths = [\"/secrets/**\"]\n{confidential}")),
            rule("keyed", &inside, "paths = [\"/keyed\"]\ncredentials = [\"token\"]\n"),
            rule("plain", &inside, "paths = [\"/plain\"]\n"),
            rule("public", &public, "labels = [\"public\"]\n"),
            format!(
                "[[credential]]\nname = \"token\"\ntype = \"bearer\"\nsource = {{ file = {token:?} }}\n{confidential}"
            ),
            format!("[[mount]]\nname = \"papers\"\npath = {mount:?}\n{confidential}"),
            format!("[[space]]\nname = \"vault\"\n{confidential}"),
        ];
        let policies = format!("{ALL}{MORE}{}", palisade::policy::STARTER);
        let daemon = Daemon::governed(&policies, &config.concat()).await;
        for (name, labels) in [("reveals", vec!["confidential".to_owned()]), ("plain.tool", Vec::new())] {
            let request = v1::RegisterToolRequest {
                name: name.into(),
                version: "1".into(),
                component: "tool".into(),
                effect: Effect::Read.into(),
                labels,
            };
            daemon.tools().register_tool(request).await.unwrap();
        }
        let egress = "[[egress]]\nrule = \"secrets\"\n[[egress]]\nrule = \"keyed\"\ncredential = \"token\"\n\
                      [[egress]]\nrule = \"plain\"\n[[egress]]\nrule = \"public\"\n";
        let more = "[[tool]]\nname = \"reveals\"\n[[tool]]\nname = \"plain.tool\"\negress = [\"secrets\"]\n\
                    [[memory]]\nspace = \"vault\"\n[[memory]]\nspace = \"notes\"\nwritable = true\n";
        daemon.agent(&format!("{egress}{more}")).await.unwrap();
        let reader = tester("1", &format!("{egress}[[mount]]\nname = \"papers\"\npath = \"/papers\"\n"));
        daemon.register(&reader.replace("\"tester\"", "\"reader\""), false).await.unwrap();
        Self { daemon, inside, public, _dir: dir }
    }

    fn publish(&self) -> Value {
        get(&self.public, "/")
    }

    fn read(&self) -> Value {
        get(&self.inside, "/secrets/1")
    }

    /// Says whether a job still may send something to the public.
    async fn is_clean(&self, job: &str) -> bool {
        let before = self.public.seen().len();
        let said = ask_in(&self.daemon, job, json!([self.publish()])).await;
        let sent = self.public.seen().len() > before;
        if !sent {
            assert_eq!(code(&said[0]), "POLICY_FORBIDS");
            assert!(said[0].contains("starter.confidential-stays-inside"), "{said:?}");
        }
        sent
    }

    /// Returns what the records of a job say that joined, and in which kind of record.
    async fn joined(&self, job: &str) -> Vec<(String, Value)> {
        let records = self.daemon.records(&["step", "label"]).await;
        let joined = |record: &Value| Some(record["body"].get("labels_joined")?.clone());
        let of_job = records.iter().filter(|record| record["job"] == job);
        of_job.filter_map(|record| Some((record["kind"].as_str()?.to_owned(), joined(record)?))).collect()
    }
}

fn put(space: &str, key: &str) -> Value {
    json!({ "memory-put": { "space": space, "key": key, "value": "v" } })
}

fn get_memory(space: &str, key: &str) -> Value {
    json!({ "memory-get": { "space": space, "key": key } })
}

fn call(tool: &str, arguments: Value) -> Value {
    json!({ "call-tool": { "name": tool, "arguments": arguments } })
}

#[tokio::test]
async fn after_reading_what_is_confidential_nothing_leaves_to_the_public() {
    let office = Office::open().await;
    let fetch = json!({ "act": { "fetch": format!("http://{}/secrets/2", office.inside.address) } });
    let sources = [
        ("by-rule", office.read()),
        ("by-credential", get(&office.inside, "/keyed")),
        ("by-space", get_memory("vault", "k")),
        ("by-listing", json!({ "memory-list": { "space": "vault", "prefix": "" } })),
        ("by-tool", call("reveals", json!({}))),
        ("through-a-tool", call("plain.tool", fetch)),
    ];
    for (job, read) in sources {
        let acts = json!([
            office.publish(),
            get(&office.inside, "/plain"),
            read,
            office.publish(),
            get(&office.inside, "/plain")
        ]);
        let said = ask_in(&office.daemon, job, acts).await;
        assert!(said[2].starts_with("ok: "), "{job}: {said:?}");
        assert!(said[0].starts_with("ok: ") && said[1].starts_with("ok: "), "{job}: before it may: {said:?}");
        assert_eq!(code(&said[3]), "POLICY_FORBIDS", "{job}");
        assert!(said[4].starts_with("ok: "), "{job}: what is not public stays open: {said:?}");
        assert!(!office.is_clean(job).await, "{job}: nor from another step");
        let joined = office.joined(job).await;
        let confidential = joined.iter().filter(|(_, labels)| labels.to_string().contains("confidential"));
        assert_eq!(confidential.count(), 1, "{job}: {joined:?}");
    }
    let request = v1::RunStepRequest { agent: "reader".into(), ..of_job("by-mount", asked(json!([office.publish()]))) };
    let said = office.daemon.run(request).await.unwrap().outcomes();
    assert_eq!(code(&said[0]), "POLICY_FORBIDS");
    assert_eq!(office.joined("by-mount").await, [("step".to_owned(), json!(["confidential"]))]);
    // Nothing was read of what was refused, nor put into somebody else's job.
    assert!(office.is_clean("another").await);
}

#[tokio::test]
async fn what_was_refused_labels_nobody() {
    let office = Office::open().await;
    let elsewhere = get(&office.inside, "/beyond");
    let said = ask_in(&office.daemon, "refused", json!([elsewhere, call("no.such", json!({}))])).await;
    assert!(said.iter().all(|said| said.starts_with("error: ")));
    assert!(office.is_clean("refused").await);
}

#[tokio::test]
async fn labels_stay_with_a_job_across_steps_and_restarts_and_with_a_step_that_has_none() {
    let mut office = Office::open().await;
    ask_in(&office.daemon, "kept", json!([office.read()])).await;
    assert!(!office.is_clean("kept").await && office.is_clean("other").await);
    office.daemon = office.daemon.restart().await;
    assert!(!office.is_clean("kept").await && office.is_clean("other").await);
    let said = office.daemon.ask(json!([office.read(), office.publish()])).await;
    assert_eq!(code(&said[1]), "POLICY_FORBIDS");
    assert!(office.daemon.ask(json!([office.publish()])).await[0].starts_with("ok: "), "each by itself");
}

#[tokio::test]
async fn labels_flow_through_memory_to_who_reads_what_was_written() {
    let office = Office::open().await;
    let said =
        ask_in(&office.daemon, "writer", json!([put("notes", "before"), office.read(), put("notes", "after")])).await;
    assert!(said.iter().all(|said| said.starts_with("ok: ")), "{said:?}");
    ask_in(&office.daemon, "reader-of-before", json!([get_memory("notes", "before")])).await;
    ask_in(&office.daemon, "reader-of-after", json!([get_memory("notes", "after")])).await;
    ask_in(&office.daemon, "lister", json!([{ "memory-list": { "space": "notes", "prefix": "after" } }])).await;
    assert!(office.is_clean("reader-of-before").await, "it was written before anything was read");
    assert!(!office.is_clean("reader-of-after").await && !office.is_clean("lister").await);
    // A clean job that writes over it makes it clean.
    ask_in(&office.daemon, "clean", json!([put("notes", "after")])).await;
    ask_in(&office.daemon, "reader-again", json!([get_memory("notes", "after")])).await;
    assert!(office.is_clean("reader-again").await);
}

#[tokio::test]
async fn labels_flow_through_a_workspace_that_is_kept() {
    let office = Office::open().await;
    for id in ["labelled", "clean"] {
        let request = v1::CreateWorkspaceRequest { workspace_id: id.into(), ..Default::default() };
        office.daemon.workspaces().create_workspace(request).await.unwrap();
    }
    let write = json!({ "append": { "path": "/workspace/note", "bytes": 5 } });
    let labelled = asked(json!([office.read(), write]));
    office.daemon.run(within("labelled", of_job("writer", labelled))).await.unwrap();
    office.daemon.run(within("clean", of_job("clean-writer", asked(json!([write]))))).await.unwrap();
    for (workspace, allowed) in [("clean", true), ("labelled", false)] {
        let acts = json!([{ "read": "/workspace/note" }, office.publish()]);
        let request = within(workspace, of_job(&format!("reader-of-{workspace}"), asked(acts)));
        let said = office.daemon.run(request).await.unwrap().outcomes();
        assert!(said[0].starts_with("ok: "), "{said:?}");
        assert_eq!(said[1].starts_with("ok: "), allowed, "{workspace}: {said:?}");
    }
}

#[tokio::test]
async fn what_was_read_of_a_response_that_never_ended_stays_with_the_job() {
    let office = Office::open().await;
    office.inside.on("/secrets/endless", |_| Reply::text("").body(vec![Piece::Bytes(b"begun".to_vec()), Piece::Hang]));
    let endless = super::with(&office.inside, "/secrets/endless", json!({ "hold": true }));
    let said = ask_in(&office.daemon, "held", json!([endless])).await;
    assert_eq!(answered(&said[0])["held"], true);
    assert!(!office.is_clean("held").await);
}

#[tokio::test]
async fn what_was_read_before_the_daemon_was_killed_stays_with_the_job() {
    let mut office = Office::open().await;
    office.inside.on("/secrets/endless", |_| Reply::text("").body(vec![Piece::Bytes(b"begun".to_vec()), Piece::Hang]));
    let endless = super::with(&office.inside, "/secrets/endless", json!({ "hold": true }));
    let acts = json!([endless, { "print": { "text": "read", "count": 1 } }, { "sleep": { "milliseconds": 60_000 } }]);
    let mut stream = office.daemon.steps().run_step(of_job("killed", asked(acts))).await.unwrap().into_inner();
    loop {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        let Some(Message::Event(event)) = next.message else { continue };
        if matches!(&event.kind, Some(Kind::Output(chunk)) if chunk.data.starts_with(b"read")) {
            break; // its caller has what it read
        }
    }
    office.daemon.child.kill().unwrap();
    office.daemon.child.wait().unwrap();
    office.daemon = office.daemon.again().await;
    assert!(!office.is_clean("killed").await);
    assert!(office.is_clean("other").await);
}
