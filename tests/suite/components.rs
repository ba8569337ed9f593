use palisade_proto::v1::{self, component::Kind, push_component_request::Message};
use serde_json::json;
use tonic::Code;

use crate::harness::{Daemon, SEEDED, field, guest, probe, reason};

/// A tool that is not among the components that tests begin with.
fn tool() -> Vec<u8> {
    std::fs::read(guest("liar")).unwrap()
}

#[tokio::test]
async fn a_component_is_named_by_the_digest_of_its_bytes() {
    let daemon = Daemon::start().await;
    let bytes = std::fs::read(guest("repo_auditor")).unwrap();
    let first = daemon.push(&bytes).await.unwrap();
    assert_eq!(first.name, format!("components/{}", first.digest));
    assert_eq!((first.kind(), first.size_bytes), (Kind::Step, bytes.len() as i64));
    let again = daemon.push(&bytes).await.unwrap();
    assert_eq!(first, again, "the same bytes once more are a success that changes nothing");
}

#[tokio::test]
async fn an_alias_moves_to_what_was_pushed_last_and_old_digests_stay() {
    let daemon = Daemon::start().await;
    let header = || v1::PushHeader { alias: "newest".into(), ..Default::default() };
    let old = daemon.push_as(&std::fs::read(guest("probe")).unwrap(), header()).await.unwrap();
    let new = daemon.push_as(&std::fs::read(guest("command")).unwrap(), header()).await.unwrap();
    let get = async |name: &str| daemon.components().get_component(v1::GetComponentRequest { name: name.into() }).await;
    assert_eq!(get("newest").await.unwrap().into_inner().digest, new.digest);
    for name in [old.name, old.digest] {
        assert_eq!(get(&name).await.unwrap().into_inner().aliases, ["probe"]);
    }
    let bad = v1::PushHeader { alias: "No Name".into(), ..Default::default() };
    assert_eq!(field(&daemon.push_as(b"", bad).await.err().unwrap()), "header.alias");
}

#[tokio::test]
async fn components_are_listed_in_pages() {
    let daemon = Daemon::start().await;
    daemon.push(&tool()).await.unwrap();
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListComponentsRequest { page_size: 2, page_token };
        let page = daemon.components().list_components(request).await.unwrap().into_inner();
        seen.extend(page.components.into_iter().map(|component| component.digest));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), SEEDED + 1);
    assert!(seen.is_sorted());
    for request in [
        v1::ListComponentsRequest { page_size: -1, ..Default::default() },
        v1::ListComponentsRequest { page_token: "nonsense".into(), ..Default::default() },
    ] {
        assert_eq!(reason(&daemon.components().list_components(request).await.err().unwrap()), "FIELD_INVALID");
    }
}

#[tokio::test]
async fn inspecting_says_what_a_component_could_reach() {
    let daemon = Daemon::start().await;
    let request = v1::InspectComponentRequest { name: "probe".into() };
    let inspection = daemon.components().inspect_component(request).await.unwrap().into_inner();
    assert!(inspection.imports.iter().any(|import| import.starts_with("palisade:agent/events@0.1")));
    assert!(inspection.exports.iter().any(|export| export.starts_with("palisade:agent/run@0.1")));
    let reach = |power: &str| inspection.reach.iter().find(|r| r.power == power).unwrap().description.clone();
    assert!(reach("sockets").contains("denied") && reach("filesystem").contains("/workspace"));
    assert!(!inspection.adapted);
}

#[tokio::test]
async fn a_tool_can_be_kept_but_is_not_run_by_itself() {
    let daemon = Daemon::start().await;
    let component = daemon.push(&tool()).await.unwrap();
    assert_eq!(component.kind(), Kind::Tool);
    let refused =
        daemon.run(v1::RunStepRequest { component: component.name, ..Default::default() }).await.err().unwrap();
    assert_eq!(reason(&refused), "NOT_RUNNABLE");
}

#[tokio::test]
async fn a_deleted_component_is_gone_with_its_alias_and_artifact() {
    let daemon = Daemon::start().await;
    daemon.probe(json!([])).await;
    let delete = || v1::DeleteComponentRequest { name: "probe".into() };
    daemon.components().delete_component(delete()).await.unwrap();
    assert_eq!(reason(&daemon.components().delete_component(delete()).await.err().unwrap()), "COMPONENT_NOT_FOUND");
    assert_eq!(daemon.run(probe(json!([]))).await.err().unwrap().code(), Code::NotFound);
    let data = daemon.dir.path().join("data");
    let engine = std::fs::read_dir(data.join("artifacts")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_dir(engine).unwrap().count(), SEEDED - 1, "the other components' artifacts are left");
    assert_eq!(
        std::fs::read_dir(data.join("components")).unwrap().count(),
        2 * (SEEDED - 1),
        "and their bytes and records"
    );
}

#[tokio::test]
async fn components_survive_a_restart_and_a_lost_artifact_is_compiled_again() {
    let mut daemon = Daemon::start().await;
    let dir = std::mem::replace(&mut daemon.dir, tempfile::tempdir().unwrap());
    std::fs::write(daemon.dir.path().join("log"), "").unwrap();
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    std::fs::remove_dir_all(dir.path().join("data/artifacts")).unwrap();
    let daemon = Daemon::launch(dir, "", crate::harness::palisade()).await;
    let both = futures::future::join_all((0..4).map(|_| daemon.probe(json!([{ "output": 1 }])))).await;
    assert!(both.iter().all(|outcomes| outcomes == &["ok: x"]));
}

#[tokio::test]
async fn a_push_begins_with_its_header_and_has_bounded_chunks() {
    let daemon = Daemon::start().await;
    let chunk = |bytes: usize| v1::PushComponentRequest { message: Some(Message::Chunk(vec![0; bytes])) };
    let header = v1::PushComponentRequest { message: Some(Message::Header(Default::default())) };
    for (messages, named) in [
        (vec![], "header"),
        (vec![chunk(1)], "header"),
        (vec![header.clone(), header.clone()], "chunk"),
        (vec![header, chunk((1 << 20) + 1)], "chunk"),
    ] {
        let refused = daemon.components().push_component(tokio_stream::iter(messages)).await.err().unwrap();
        assert_eq!((reason(&refused).as_str(), field(&refused).as_str()), ("FIELD_INVALID", named));
    }
}
