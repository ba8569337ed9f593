use palisade_proto::v1::{self, MountUse};
use serde_json::json;
use tonic::Code;

use crate::harness::{Daemon, field, probe, reason};

#[tokio::test]
async fn what_a_request_names_must_exist() {
    let daemon = Daemon::start().await;
    let unknown = v1::RunStepRequest { component: "nobody".into(), ..Default::default() };
    let refused = daemon.run(unknown).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "COMPONENT_NOT_FOUND"));

    for nonsense in ["", "../etc", "components/", "sha256:abc", "Probe", "components/sha256:zz"] {
        let request = v1::RunStepRequest { component: nonsense.into(), ..Default::default() };
        let refused = daemon.run(request).await.err().unwrap();
        assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, "component"), "{nonsense}");
    }

    let request = v1::RunStepRequest { workspace: "workspaces/none".into(), ..probe(json!([])) };
    let refused = daemon.run(request).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "WORKSPACE_NOT_FOUND"));
    let request = v1::RunStepRequest { workspace: "/etc".into(), ..probe(json!([])) };
    assert_eq!(reason(&daemon.run(request).await.err().unwrap()), "FIELD_INVALID");
}

#[tokio::test]
async fn a_caller_names_mounts_of_the_configuration_and_no_host_path() {
    let source = tempfile::tempdir().unwrap();
    let daemon = Daemon::with(&format!("[[mount]]\nname = \"source\"\npath = {:?}\n", source.path())).await;
    let with = |mounts| v1::RunStepRequest { mounts, ..probe(json!([])) };
    let used = |mount: &str, path: &str| MountUse { mount: mount.into(), path: path.into(), read_only: false };

    for host_path in ["/etc", "etc", "/", "source/../..", source.path().to_str().unwrap()] {
        let refused = daemon.run(with(vec![used(host_path, "/x")])).await.err().unwrap();
        assert_eq!(reason(&refused), "MOUNT_NOT_FOUND", "{host_path}");
        assert!(refused.message().contains("`source`"), "it says what there is: {}", refused.message());
    }
    for guest_path in
        ["", "x", "/", "/a/../b", "/a//b", "/workspace", "/workspace/x", "/a\nb", &format!("/{}", "a".repeat(300))]
    {
        let refused = daemon.run(with(vec![used("source", guest_path)])).await.err().unwrap();
        assert_eq!(
            (reason(&refused).as_str(), field(&refused).as_str()),
            ("FIELD_INVALID", "mounts"),
            "{guest_path:?}"
        );
    }
    let twice = daemon.run(with(vec![used("source", "/a"), used("source", "/a")])).await.err().unwrap();
    assert!(twice.message().contains("two mounts at `/a`"));
    let nested = daemon.run(with(vec![used("source", "/a"), used("source", "/a/b")])).await.err().unwrap();
    assert!(nested.message().contains("neither may hold the other"));
    let many = (0..17).map(|n| used("source", &format!("/m{n}"))).collect();
    assert!(daemon.run(with(many)).await.err().unwrap().message().contains("at most 16"));
}

#[tokio::test]
async fn oversized_parts_of_a_request_are_refused_by_name() {
    let daemon = Daemon::with("[limits]\ninput_bytes = 1000\n").await;
    let base = probe(json!([]));
    let cases = [
        ("input", "INPUT_TOO_LARGE", v1::RunStepRequest { input: vec![0; 1001], ..base.clone() }),
        ("args", "FIELD_INVALID", v1::RunStepRequest { args: vec![String::new(); 257], ..base.clone() }),
        ("args", "FIELD_INVALID", v1::RunStepRequest { args: vec!["x".repeat(70_000)], ..base.clone() }),
        ("args", "FIELD_INVALID", v1::RunStepRequest { args: vec!["a\0b".into()], ..base.clone() }),
        ("env", "FIELD_INVALID", v1::RunStepRequest { env: [("A=B".into(), "c".into())].into(), ..base.clone() }),
        ("env", "FIELD_INVALID", v1::RunStepRequest { env: [(String::new(), "c".into())].into(), ..base.clone() }),
        ("content_type", "FIELD_INVALID", v1::RunStepRequest { content_type: "x".repeat(300), ..base.clone() }),
    ];
    for (name, expected, request) in cases {
        let refused = daemon.run(request).await.err().unwrap();
        assert_eq!((reason(&refused).as_str(), field(&refused).as_str()), (expected, name));
    }
    // Above what gRPC takes at all.
    let huge = v1::RunStepRequest { input: vec![0; 5 << 20], ..base };
    assert_eq!(daemon.run(huge).await.err().unwrap().code(), Code::OutOfRange);
}
