use std::fs;

use palisade_proto::v1;
use serde_json::json;
use tonic::Code;

use crate::harness::{Daemon, SEEDED, data_dir, guest, palisade, reason, unshare, write_policies};

/// A daemon whose data directory is a small file system of its own, with these policies.
pub async fn on_a_small_disk(bytes: u64, policies: &str) -> Daemon {
    configured(bytes, policies, "").await
}

/// The same with more configuration.
pub async fn configured(bytes: u64, policies: &str, config: &str) -> Daemon {
    let dir = data_dir();
    fs::create_dir(dir.path().join("policies")).unwrap();
    write_policies(dir.path(), policies);
    let data = dir.path().join("data");
    let script = format!(
        "cp -r {data:?} {data:?}.copy && mount -t tmpfs -o size={bytes} tmpfs {data:?} && cp -r {data:?}.copy/. {data:?} && exec \"$0\" \"$@\""
    );
    let mut command = unshare(&["--mount"]);
    command.args(["sh", "-c", &script]).arg(palisade().get_program());
    let config = format!("{config}[policy]\ndir = {:?}\n", dir.path().join("policies"));
    Daemon::launch(dir, &config, command).await
}

/// Returns the bytes of a data directory as tests begin with it.
pub fn seeded_bytes() -> u64 {
    size(&data_dir().path().join("data"))
}

fn size(path: &std::path::Path) -> u64 {
    fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| if e.path().is_dir() { size(&e.path()) } else { e.metadata().unwrap().len() })
        .sum()
}

#[tokio::test]
async fn a_full_disk_refuses_a_push_leaves_nothing_of_it_and_work_goes_on() {
    let seeded = seeded_bytes();
    let daemon = on_a_small_disk(seeded + (600 << 10), "").await;
    let refused = daemon.push(&fs::read(guest("repo_auditor")).unwrap()).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "STORAGE_FULL"));
    assert!(!refused.message().contains("/"), "no host path: {}", refused.message());
    let listed = daemon.components().list_components(v1::ListComponentsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.components.len(), SEEDED);
    assert_eq!(daemon.probe(json!([{ "output": 1 }])).await, ["ok: x"]);
    // Room again, without a restart.
    daemon.components().delete_component(v1::DeleteComponentRequest { name: "command".into() }).await.unwrap();
    daemon
        .push(&wat::parse_str(r#"(module (func (export "_start")) (memory (export "memory") 1))"#).unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_the_guest_sees_and_survives() {
    let seeded = seeded_bytes();
    let daemon = on_a_small_disk(seeded + (2 << 20), "").await;
    let outcomes = daemon
        .probe(json!([
            { "write": { "path": "/workspace/a", "bytes": 8 << 20 } },
            { "remove": "/workspace/a" },
            { "write": { "path": "/workspace/b", "bytes": 1000 } },
        ]))
        .await;
    assert!(outcomes[0].starts_with("error"), "{outcomes:?}");
    assert_eq!(outcomes[1..], ["ok: done", "ok: done"]);
}
