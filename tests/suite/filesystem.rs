use std::{fs, os::unix::fs::symlink, path::Path};

use palisade_proto::v1::{self, MountUse};
use serde_json::{Value, json};

use crate::harness::{Daemon, probe};

const CANARY: &str = "canary-27182818";

/// A daemon with a read-only and a writable mount, and a secret beside them.
struct Trees {
    daemon: Daemon,
    _outside: tempfile::TempDir,
    read_only: std::path::PathBuf,
    writable: std::path::PathBuf,
    secret: std::path::PathBuf,
}

impl Trees {
    async fn plant() -> Self {
        let outside = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(outside.path()).unwrap();
        let (read_only, writable, secret) = (root.join("ro"), root.join("rw"), root.join("secret"));
        fs::create_dir(&read_only).unwrap();
        fs::create_dir(&writable).unwrap();
        fs::write(&secret, CANARY).unwrap();
        fs::write(read_only.join("file"), "read me").unwrap();
        // As an attacker's repository would have it.
        for tree in [&read_only, &writable] {
            symlink("../secret", tree.join("up")).unwrap();
            symlink(&secret, tree.join("absolute")).unwrap();
            symlink("..", tree.join("parent")).unwrap();
            symlink("loop", tree.join("loop")).unwrap();
        }
        let config = format!(
            "[[mount]]\nname = \"source\"\npath = {read_only:?}\n[[mount]]\nname = \"out\"\npath = {writable:?}\nwritable = {{ bytes = 100000, entries = 50 }}\n"
        );
        Self { daemon: Daemon::with(&config).await, _outside: outside, read_only, writable, secret }
    }

    async fn run(&self, acts: Value) -> Vec<String> {
        let used = |mount: &str, path: &str| MountUse { mount: mount.into(), path: path.into(), read_only: false };
        let request = v1::RunStepRequest { mounts: vec![used("source", "/ro"), used("out", "/rw")], ..probe(acts) };
        self.daemon.run(request).await.unwrap().outcomes()
    }
}

fn tree(path: &Path) -> Vec<String> {
    let mut all: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            format!("{path:?} {:?} {:?}", fs::symlink_metadata(&path).unwrap().len(), fs::read(&path).ok())
        })
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn a_step_sees_its_workspace_and_nothing_else_unless_it_is_mounted() {
    let daemon = Daemon::start().await;
    for path in
        ["/etc/passwd", "/proc/self/maps", "/dev/null", "/workspace/../etc/passwd", "../etc/passwd", "/", "/tmp"]
    {
        let outcomes = daemon.probe(json!([{ "read": path }, { "list": path }])).await;
        assert!(outcomes.iter().all(|outcome| outcome.starts_with("error")), "{path}: {outcomes:?}");
    }
}

#[tokio::test]
async fn no_path_leads_out_of_a_mount() {
    let trees = Trees::plant().await;
    let before = (tree(trees.secret.parent().unwrap()), tree(&trees.read_only));
    let mut paths = Vec::new();
    for mount in ["/ro", "/rw", "/workspace"] {
        for up in ["..", "../..", "./..", "..//..", "x/../../..", "parent", "parent/..", "parent/parent"] {
            paths.push(format!("{mount}/{up}/secret"));
        }
        for link in ["up", "absolute", "loop", "parent/secret"] {
            paths.extend(["", "/", "//", "/."].map(|suffix| format!("{mount}/{link}{suffix}")));
        }
        paths.push(format!("{mount}/{}", trees.secret.display()));
        paths.push(format!("{mount}/../../../../../../../../{}", trees.secret.display()));
    }
    let acts: Vec<_> = paths
        .iter()
        .flat_map(|path| {
            [
                json!({ "read": path }),
                json!({ "write": { "path": path, "bytes": 1 } }),
                json!({ "append": { "path": path, "bytes": 1 } }),
                json!({ "truncate": { "path": path, "size": 0 } }),
                json!({ "rename": { "from": path, "to": "/workspace/stolen" } }),
                json!({ "hard-link": { "from": path, "to": "/workspace/linked" } }),
                json!({ "read": "/workspace/stolen" }),
                json!({ "read": "/workspace/linked" }),
                json!({ "remove": "/workspace/stolen" }),
                json!({ "remove": "/workspace/linked" }),
            ]
        })
        .collect();
    let outcomes = trees.run(json!(acts)).await;
    assert_eq!(outcomes.len(), acts.len());
    assert!(!outcomes.concat().contains(CANARY), "the secret got out");
    assert_eq!(fs::read_to_string(&trees.secret).unwrap(), CANARY);
    assert_eq!((tree(trees.secret.parent().unwrap()), tree(&trees.read_only)), before, "nothing outside has changed");
}

#[tokio::test]
async fn links_that_a_guest_makes_lead_nowhere_outside() {
    let trees = Trees::plant().await;
    let secret = trees.secret.to_str().unwrap();
    let outcomes = trees
        .run(json!([
            { "symlink": { "target": secret, "at": "/rw/mine" } },
            { "symlink": { "target": "../secret", "at": "/rw/relative" } },
            { "symlink": { "target": "../ro/file", "at": "/workspace/cross" } },
            { "read": "/rw/mine" },
            { "read": "/rw/relative" },
            { "read": "/rw/relative/" },
            { "read": "/workspace/cross" },
            { "write": { "path": "/rw/relative", "bytes": 1 } },
        ]))
        .await;
    assert!(outcomes[0].starts_with("error"), "absolute targets are refused: {outcomes:?}");
    assert!(outcomes[3..].iter().all(|outcome| outcome.starts_with("error")), "{outcomes:?}");
    assert_eq!(fs::read_to_string(&trees.secret).unwrap(), CANARY);
}

#[tokio::test]
async fn a_read_only_mount_stays_as_it_is() {
    let trees = Trees::plant().await;
    let before = tree(&trees.read_only);
    let outcomes = trees
        .run(json!([
            { "read": "/ro/file" },
            { "write": { "path": "/ro/file", "bytes": 1 } },
            { "write": { "path": "/ro/new", "bytes": 1 } },
            { "append": { "path": "/ro/file", "bytes": 1 } },
            { "truncate": { "path": "/ro/file", "size": 0 } },
            { "remove": "/ro/file" },
            { "mkdir": "/ro/dir" },
            { "rename": { "from": "/ro/file", "to": "/ro/moved" } },
            { "rename": { "from": "/ro/file", "to": "/rw/moved" } },
            { "rename": { "from": "/rw/up", "to": "/ro/up" } },
            { "hard-link": { "from": "/ro/file", "to": "/rw/linked" } },
            { "hard-link": { "from": "/rw/up", "to": "/ro/linked" } },
            { "symlink": { "target": "file", "at": "/ro/link" } },
        ]))
        .await;
    assert_eq!(outcomes[0], "ok: read me");
    assert!(outcomes[1..].iter().all(|outcome| outcome.starts_with("error")), "{outcomes:?}");
    assert_eq!(tree(&trees.read_only), before);
}

#[tokio::test]
async fn a_writable_mount_keeps_what_a_step_wrote_up_to_its_quota() {
    let trees = Trees::plant().await;
    let outcomes = trees
        .run(json!([
            { "write": { "path": "/rw/report", "bytes": 60_000 } },
            { "write": { "path": "/rw/more", "bytes": 60_000 } },
        ]))
        .await;
    assert_eq!(outcomes[0], "ok: done");
    assert!(outcomes[1].starts_with("error"), "{outcomes:?}");
    assert_eq!(fs::metadata(trees.writable.join("report")).unwrap().len(), 60_000);
}

#[tokio::test]
async fn a_caller_can_ask_for_less_of_a_writable_mount() {
    let trees = Trees::plant().await;
    let mounts = vec![MountUse { mount: "out".into(), path: "/rw".into(), read_only: true }];
    let request = v1::RunStepRequest { mounts, ..probe(json!([{ "write": { "path": "/rw/x", "bytes": 1 } }])) };
    assert!(trees.daemon.run(request).await.unwrap().outcomes()[0].starts_with("error"));
    assert!(!trees.writable.join("x").exists());
}

#[tokio::test]
async fn devices_fifos_and_sockets_in_a_mount_are_not_opened() {
    let trees = Trees::plant().await;
    nix::unistd::mkfifo(&trees.read_only.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(trees.read_only.join("socket")).unwrap();
    let outcomes = trees.run(json!([{ "read": "/ro/fifo" }, { "read": "/ro/socket" }])).await;
    assert!(outcomes.iter().all(|outcome| outcome.starts_with("error")), "{outcomes:?}");
}

#[tokio::test]
async fn names_of_every_kind_survive_or_are_refused_cleanly() {
    let daemon = Daemon::start().await;
    for name in ["ä", "a b", "\u{202e}", "-rf", "…", "a\nb", "COM1", &"n".repeat(255)] {
        let path = format!("/workspace/{name}");
        let outcomes = daemon.probe(json!([{ "write": { "path": path, "bytes": 2 } }, { "read": path }])).await;
        assert_eq!(outcomes, ["ok: done", "ok: xx"], "{name:?}");
    }
    let long = format!("/workspace/{}", "n".repeat(256));
    assert!(daemon.probe(json!([{ "write": { "path": long, "bytes": 2 } }])).await[0].starts_with("error"));
}
