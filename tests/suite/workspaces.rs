use std::os::unix::fs::symlink;

use palisade_proto::v1::{self, put_file_request::Message, step_result::Outcome};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::harness::{Daemon, eventually, field, limited, probe, reason, seconds, within};

async fn create(daemon: &Daemon, id: &str, bytes: i64, entries: i64) -> v1::Workspace {
    let request =
        v1::CreateWorkspaceRequest { workspace_id: id.into(), quota_bytes: Some(bytes), quota_entries: Some(entries) };
    daemon.workspaces().create_workspace(request).await.unwrap().into_inner()
}

async fn put(daemon: &Daemon, workspace: &str, path: &str, data: &[u8]) -> Result<v1::File, Status> {
    let header = v1::PutFileHeader { workspace: format!("workspaces/{workspace}"), path: path.into() };
    let chunks = data.chunks(1 << 20).map(|chunk| Message::Chunk(chunk.to_vec()));
    let messages: Vec<_> = std::iter::once(Message::Header(header))
        .chain(chunks)
        .map(|message| v1::PutFileRequest { message: Some(message) })
        .collect();
    Ok(daemon.workspaces().put_file(tokio_stream::iter(messages)).await?.into_inner())
}

async fn get(daemon: &Daemon, workspace: &str, path: &str) -> Result<Vec<u8>, Status> {
    let request = v1::GetFileRequest { workspace: format!("workspaces/{workspace}"), path: path.into() };
    let mut stream = daemon.workspaces().get_file(request).await?.into_inner();
    let mut data = Vec::new();
    while let Some(response) = stream.message().await? {
        data.extend_from_slice(&response.chunk);
    }
    Ok(data)
}

async fn files(daemon: &Daemon, workspace: &str, path: &str) -> Result<Vec<String>, Status> {
    let request = v1::ListFilesRequest { workspace: format!("workspaces/{workspace}"), path: path.into() };
    let mut stream = daemon.workspaces().list_files(request).await?.into_inner();
    let mut files = Vec::new();
    while let Some(file) = stream.message().await? {
        files.push(format!("{} {} {}", file.path, file.r#type().as_str_name(), file.size_bytes));
    }
    Ok(files)
}

async fn used(daemon: &Daemon) -> (i64, i64) {
    let listed = daemon.workspaces().list_workspaces(v1::ListWorkspacesRequest::default()).await.unwrap().into_inner();
    (listed.workspaces[0].used_bytes, listed.workspaces[0].used_entries)
}

async fn acts(daemon: &Daemon, acts: Value) -> Vec<String> {
    daemon.run(within("w", probe(acts))).await.unwrap().outcomes()
}

#[tokio::test]
async fn a_workspace_outlives_steps_and_callers_read_and_write_it() {
    let daemon = Daemon::start().await;
    let workspace = create(&daemon, "w", 1 << 20, 100).await;
    assert_eq!(
        (workspace.name.as_str(), workspace.quota_bytes, workspace.quota_entries),
        ("workspaces/w", 1 << 20, 100)
    );
    let file = put(&daemon, "w", "in/data.csv", b"a,b\n").await.unwrap();
    assert_eq!((file.path.as_str(), file.size_bytes), ("in/data.csv", 4));
    let outcomes = acts(
        &daemon,
        json!([{ "read": "/workspace/in/data.csv" }, { "write": { "path": "/workspace/out", "bytes": 200_000 } }]),
    )
    .await;
    assert_eq!(outcomes, ["ok: a,b\n", "ok: done"]);
    assert_eq!(get(&daemon, "w", "out").await.unwrap(), vec![b'x'; 200_000]);
    assert_eq!(
        files(&daemon, "w", "").await.unwrap(),
        ["in DIRECTORY 4096", "in/data.csv REGULAR 4", "out REGULAR 200000"].map(String::from)
    );
    assert_eq!(files(&daemon, "w", "in").await.unwrap().len(), 1);
    assert_eq!(used(&daemon).await, (200_004, 3));
}

#[tokio::test]
async fn a_workspace_can_be_listed_and_deleted_and_survives_a_restart() {
    let mut daemon = Daemon::start().await;
    create(&daemon, "keep", 1000, 10).await;
    create(&daemon, "gone", 1000, 10).await;
    put(&daemon, "gone", "a/b/c", b"x").await.unwrap();
    let delete = || v1::DeleteWorkspaceRequest { name: "workspaces/gone".into() };
    daemon.workspaces().delete_workspace(delete()).await.unwrap();
    assert_eq!(reason(&daemon.workspaces().delete_workspace(delete()).await.err().unwrap()), "WORKSPACE_NOT_FOUND");
    let dir = std::mem::replace(&mut daemon.dir, tempfile::tempdir().unwrap());
    std::fs::write(daemon.dir.path().join("log"), "").unwrap();
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let daemon = Daemon::launch(dir, "", crate::harness::palisade()).await;
    let listed = daemon
        .workspaces()
        .list_workspaces(v1::ListWorkspacesRequest { page_size: 1, ..Default::default() })
        .await
        .unwrap();
    let listed = listed.into_inner();
    assert_eq!(listed.workspaces.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["workspaces/keep"]);
    let folder = daemon.dir.path().join("data/tenants/default/workspaces");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

#[tokio::test]
async fn a_workspace_is_created_once_and_within_bounds() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 1000, 10).await;
    let again = v1::CreateWorkspaceRequest { workspace_id: "w".into(), ..Default::default() };
    let again = daemon.workspaces().create_workspace(again).await.err().unwrap();
    assert_eq!((again.code(), reason(&again).as_str()), (Code::AlreadyExists, "WORKSPACE_EXISTS"));
    for (named, request) in [
        ("quota_bytes", v1::CreateWorkspaceRequest { quota_bytes: Some(0), ..Default::default() }),
        ("quota_bytes", v1::CreateWorkspaceRequest { quota_bytes: Some(i64::MAX), ..Default::default() }),
        ("quota_entries", v1::CreateWorkspaceRequest { quota_entries: Some(-1), ..Default::default() }),
        ("workspace_id", v1::CreateWorkspaceRequest { workspace_id: "../w".into(), ..Default::default() }),
        ("workspace_id", v1::CreateWorkspaceRequest { workspace_id: "W".into(), ..Default::default() }),
    ] {
        assert_eq!(field(&daemon.workspaces().create_workspace(request).await.err().unwrap()), named);
    }
    let chosen =
        daemon.workspaces().create_workspace(v1::CreateWorkspaceRequest::default()).await.unwrap().into_inner();
    assert_eq!(chosen.name.len(), "workspaces/w".len() + 32);
}

#[tokio::test]
async fn a_step_cannot_write_beyond_the_quota_in_any_way() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 100_000, 10).await;
    let outcomes = acts(
        &daemon,
        json!([
            { "write": { "path": "/workspace/a", "bytes": 90_000 } },
            { "write": { "path": "/workspace/b", "bytes": 20_000 } },
            { "append": { "path": "/workspace/a", "bytes": 20_000 } },
            { "sparse": { "path": "/workspace/c", "offset": 1_000_000_000_000u64 } },
            { "truncate": { "path": "/workspace/a", "size": 1_000_000 } },
            { "remove": "/workspace/a" },
            { "write-deleted": { "path": "/workspace/d", "bytes": 60_000 } },
        ]),
    )
    .await;
    assert!(outcomes[0] == "ok: done" && outcomes[5] == "ok: done", "{outcomes:?}");
    for refused in [1, 2, 3, 4, 6] {
        assert!(outcomes[refused].starts_with("error"), "{refused}: {outcomes:?}");
    }
    // Of a failed write to a stream, today's wasi-libc says only that there was an I/O error.
    assert!(outcomes[4].contains("Quota exceeded"), "{outcomes:?}");
    let (bytes, entries) = used(&daemon).await;
    assert!(bytes <= 100_000 && entries <= 10, "{bytes} bytes, {entries} entries");
}

#[tokio::test]
async fn what_a_step_did_not_ask_to_write_counts_all_the_same() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 100_000, 10).await;
    let outcomes = acts(&daemon, json!([{ "write-unasked": { "path": "/workspace/a", "bytes": 1_000_000 } }])).await;
    assert!(outcomes[0].starts_with("error") && outcomes[0].contains("quota"), "{outcomes:?}");
    assert!(used(&daemon).await.0 <= 100_000);
    let ran = daemon
        .run(within("w", probe(json!([{ "write-unasked": { "path": "/workspace/b", "bytes": 8_192 } }]))))
        .await
        .unwrap();
    assert!(ran.outcomes()[0].starts_with("error"), "only as much as is left: {:?}", ran.outcomes());
}

#[tokio::test]
async fn a_deleted_file_counts_while_anybody_reads_it() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 100_000, 10).await;
    let held = |count| json!([{ "hold-deleted": { "path": "/workspace/a", "bytes": 30_000, "count": count } }]);
    assert_eq!(acts(&daemon, held(3)).await, ["ok: done"]);
    assert!(acts(&daemon, held(4)).await[0].starts_with("error"), "all four would be on the disk at once");
    assert_eq!(acts(&daemon, held(3)).await, ["ok: done"], "and are given back when the step ends");
}

#[tokio::test]
async fn a_cancelled_upload_changes_nothing() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 1_000_000, 10).await;
    put(&daemon, "w", "f", b"whole").await.unwrap();
    for _ in 0..20 {
        let header = v1::PutFileHeader { workspace: "workspaces/w".into(), path: "f".into() };
        let (sender, received) = tokio::sync::mpsc::channel(4);
        for message in [Message::Header(header), Message::Chunk(vec![1; 100_000])] {
            sender.send(v1::PutFileRequest { message: Some(message) }).await.unwrap();
        }
        let mut workspaces = daemon.workspaces();
        let requests = tokio_stream::wrappers::ReceiverStream::new(received);
        let upload = tokio::spawn(async move { workspaces.put_file(requests).await });
        // The upload is on its way once something of it is spooled, and gone when that is gone.
        let spooled = || std::fs::read_dir(daemon.dir.path().join("data/spool")).unwrap().count();
        eventually("the upload is on its way", || spooled() == 1).await;
        upload.abort();
        let _ = upload.await;
        eventually("the upload is gone", || spooled() == 0).await;
        drop(sender);
        assert_eq!(get(&daemon, "w", "f").await.unwrap(), b"whole");
    }
}

#[tokio::test]
async fn a_workspace_can_be_looked_at_while_a_step_changes_it() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 1_000_000, 1_000).await;
    let round = [
        json!({ "files": { "directory": "/workspace", "count": 50 } }),
        json!({ "mkdir": "/workspace/d" }),
        json!({ "rename": { "from": "/workspace/d", "to": "/workspace/e" } }),
    ];
    let clean = (0..50).map(|n| json!({ "remove": format!("/workspace/{n}") }));
    let acts: Vec<_> = round.into_iter().chain(clean).collect();
    let many: Vec<_> = std::iter::repeat_n(acts, 60).flatten().collect();
    let step = daemon.run(within("w", probe(json!(many))));
    let looking = async {
        for _ in 0..200 {
            files(&daemon, "w", "").await.unwrap();
            used(&daemon).await;
        }
    };
    let (ran, ()) = tokio::join!(step, looking);
    assert_eq!(ran.unwrap().outcome(), Outcome::Succeeded);
}

#[tokio::test]
async fn downloads_that_nobody_reads_hold_up_nobody() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 10_000_000, 10).await;
    put(&daemon, "w", "f", &[7; 5_000_000]).await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..8 {
        let channel = tonic::transport::Endpoint::from_shared(daemon.endpoint()).unwrap().connect().await.unwrap();
        for _ in 0..80 {
            let request = v1::GetFileRequest { workspace: "workspaces/w".into(), path: "f".into() };
            let mut workspaces = v1::workspaces_client::WorkspacesClient::new(channel.clone());
            unread.push(workspaces.get_file(request).await.unwrap());
        }
    }
    assert_eq!(get(&daemon, "w", "f").await.unwrap().len(), 5_000_000);
}

#[tokio::test]
async fn a_step_cannot_make_more_entries_than_the_quota_of_any_kind() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 100_000, 5).await;
    let outcomes = acts(
        &daemon,
        json!([
            { "files": { "directory": "/workspace", "count": 4 } },
            { "mkdir": "/workspace/d" },
            { "mkdir": "/workspace/e" },
            { "symlink": { "target": "0", "at": "/workspace/l" } },
            { "hard-link": { "from": "/workspace/0", "to": "/workspace/h" } },
            { "write": { "path": "/workspace/f", "bytes": 0 } },
            { "remove": "/workspace/0" },
            { "write": { "path": "/workspace/f", "bytes": 0 } },
            { "rename": { "from": "/workspace/1", "to": "/workspace/2" } },
            { "mkdir": "/workspace/e" },
        ]),
    )
    .await;
    let ok: Vec<_> = outcomes.iter().map(|outcome| outcome == "ok: done").collect();
    assert_eq!(ok, [true, true, false, false, false, false, true, true, true, true], "{outcomes:?}");
    assert_eq!(used(&daemon).await.1, 5);
}

#[tokio::test]
async fn rewriting_and_deleting_gives_the_quota_back() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 100_000, 5).await;
    let round = [json!({ "write": { "path": "/workspace/a", "bytes": 80_000 } }), json!({ "remove": "/workspace/a" })];
    let rewrite = json!({ "write": { "path": "/workspace/b", "bytes": 80_000 } });
    let many: Vec<_> = std::iter::repeat_n(round, 20).flatten().chain(std::iter::repeat_n(rewrite, 20)).collect();
    let ran = daemon.run(within("w", probe(json!(many)))).await.unwrap();
    assert!(ran.outcomes().iter().all(|outcome| outcome == "ok: done"), "{:?}", ran.outcomes());
    assert_eq!((ran.usage().disk_bytes, ran.usage().disk_entries), (80_000, 1));
}

#[tokio::test]
async fn a_workspace_serves_one_step_at_a_time() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 1000, 10).await;
    let spin = limited(
        within("w", probe(json!(["spin"]))),
        v1::StepLimits { timeout: seconds(30), fuel: Some(1_000_000_000_000), ..Default::default() },
    );
    let running = daemon.steps().run_step(spin).await.unwrap();
    let busy = daemon.run(within("w", probe(json!([])))).await.err().unwrap();
    assert_eq!((busy.code(), reason(&busy).as_str()), (Code::Aborted, "WORKSPACE_BUSY"));
    assert_eq!(reason(&put(&daemon, "w", "x", b"x").await.err().unwrap()), "WORKSPACE_BUSY");
    let delete = v1::DeleteWorkspaceRequest { name: "workspaces/w".into() };
    assert_eq!(reason(&daemon.workspaces().delete_workspace(delete).await.err().unwrap()), "WORKSPACE_BUSY");
    assert!(files(&daemon, "w", "").await.is_ok(), "looking is always possible");
    drop(running);
    // The hang-up cancels the step, and then the workspace is free.
    loop {
        match daemon.run(within("w", probe(json!([])))).await {
            Ok(ran) => break assert_eq!(ran.outcome(), Outcome::Succeeded),
            Err(status) => assert_eq!(reason(&status), "WORKSPACE_BUSY"),
        }
    }
}

#[tokio::test]
async fn an_upload_above_the_quota_leaves_nothing() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 1000, 2).await;
    put(&daemon, "w", "a", &[1; 900]).await.unwrap();
    for (path, data) in [("b", &[2; 200][..]), ("x/y/z", b"")] {
        let refused = put(&daemon, "w", path, data).await.err().unwrap();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    }
    assert_eq!(files(&daemon, "w", "").await.unwrap(), ["a REGULAR 900"]);
    assert_eq!(std::fs::read_dir(daemon.dir.path().join("data/spool")).unwrap().count(), 0);
}

#[tokio::test]
async fn no_path_of_a_caller_leads_out_of_a_workspace_nor_through_a_guests_link() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 100_000, 100).await;
    let folder = daemon.dir.path().join("data/tenants/default/workspaces/w");
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "canary").unwrap();
    symlink(outside.path(), folder.join("dir")).unwrap();
    symlink(outside.path().join("secret"), folder.join("file")).unwrap();
    for path in ["", "/etc/passwd", "..", "../w/x", "a/../../x", "a//b", "./a", "a/.", "a\0b", &"x/".repeat(3000)] {
        let refused = get(&daemon, "w", path).await.err().unwrap();
        assert_eq!((reason(&refused).as_str(), field(&refused).as_str()), ("FIELD_INVALID", "path"), "{path:?}");
        assert_eq!(reason(&put(&daemon, "w", path, b"x").await.err().unwrap()), "FIELD_INVALID", "{path:?}");
    }
    for path in ["file", "dir/secret"] {
        assert_eq!(reason(&get(&daemon, "w", path).await.err().unwrap()), "FIELD_INVALID", "{path}");
    }
    assert!(put(&daemon, "w", "dir/secret", b"overwritten").await.is_err());
    put(&daemon, "w", "file", b"replaces the link").await.unwrap();
    assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "canary");
    assert_eq!(reason(&get(&daemon, "w", "none").await.err().unwrap()), "FILE_NOT_FOUND");
}

#[tokio::test]
async fn directories_nested_without_end_can_still_be_deleted() {
    let daemon = Daemon::start().await;
    create(&daemon, "w", 100_000, 5_000).await;
    // Deeper than a descriptor for each level would allow, moved together from shallow pieces.
    let deep = |prefix: &str| {
        (0..100)
            .map(|n| json!({ "mkdir": format!("/workspace/{}", vec![prefix; n + 1].join("/")) }))
            .collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    for piece in 0..15 {
        all.extend(deep("d"));
        if piece > 0 {
            let bottom = vec!["d"; 100].join("/");
            all.push(json!({ "rename": { "from": "/workspace/old", "to": format!("/workspace/{bottom}/old") } }));
        }
        all.push(json!({ "rename": { "from": "/workspace/d", "to": "/workspace/old" } }));
    }
    let outcomes = acts(&daemon, json!(all)).await;
    assert!(outcomes.iter().all(|outcome| outcome == "ok: done"), "{:?}", outcomes.iter().find(|o| *o != "ok: done"));
    assert_eq!(reason(&daemon.run(within("w", probe(json!([])))).await.err().unwrap()), "WORKSPACE_TOO_DEEP");
    daemon.workspaces().delete_workspace(v1::DeleteWorkspaceRequest { name: "workspaces/w".into() }).await.unwrap();
    assert!(!daemon.dir.path().join("data/tenants/default/workspaces/w").exists());
}
