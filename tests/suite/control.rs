mod beginning;
mod containing;
mod stopping;
pub mod times;

use std::fs;

use palisade_proto::v1::{self, hold::Action, step_result::Outcome};
use serde_json::{Value, json};
use tonic::{Code, Status, transport::Endpoint};
use tonic_types::StatusExt as _;

use crate::{
    callers::as_user,
    harness::{Daemon, asked, palisade, probe, reason, seconds},
};

/// The user, and the group that may call, of somebody who is not the daemon's user.
const NOBODY: u32 = 65534;

pub fn order(action: Action, scope: &str) -> v1::ImposeHoldRequest {
    v1::ImposeHoldRequest {
        action: action.into(),
        scope: scope.into(),
        reason: "it sends mail".into(),
        ..Default::default()
    }
}

pub async fn imposed(daemon: &Daemon, order: v1::ImposeHoldRequest) -> Result<v1::ImposeHoldResponse, Status> {
    Ok(daemon.control().impose_hold(order).await?.into_inner())
}

async fn hold(daemon: &Daemon, action: Action, scope: &str) -> v1::Hold {
    imposed(daemon, order(action, scope)).await.unwrap().hold.unwrap()
}

async fn lift(daemon: &Daemon, name: &str) -> Result<v1::Hold, Status> {
    let request = v1::LiftHoldRequest { name: name.into(), reason: "it is mended".into() };
    Ok(daemon.control().lift_hold(request).await?.into_inner())
}

async fn listed(daemon: &Daemon) -> Vec<v1::Hold> {
    daemon.control().list_holds(v1::ListHoldsRequest::default()).await.unwrap().into_inner().holds
}

async fn refused(daemon: &Daemon, request: v1::RunStepRequest) -> Status {
    let refused = daemon.run(request).await.map(|ran| ran.outcome()).unwrap_err();
    assert_eq!(reason(&refused), "HELD");
    refused
}

fn cli(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String) {
    let output = palisade().args(arguments).args(["--endpoint", &daemon.endpoint()]).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_does_not_begin_until_it_is_lifted() {
    let daemon = Daemon::start().await;
    daemon.agent("").await.unwrap();
    let component = daemon.run(probe(json!([]))).await.unwrap().accepted.component;
    let own = format!("callers/unix:{}", nix::unistd::getuid());
    for action in [Action::Kill, Action::Freeze, Action::Cordon, Action::Drain] {
        for scope in ["node", "agents/tester", "agents/tester@1", &own, &component, "jobs/morning"] {
            let request = || v1::RunStepRequest { job: "morning".into(), ..asked(json!([])) };
            let held = hold(&daemon, action, scope).await;
            let status = refused(&daemon, request()).await;
            assert_eq!(status.code(), Code::PermissionDenied, "{action:?} {scope}");
            assert!(status.message().contains(scope) && status.message().contains("it sends mail"), "{status:?}");
            assert_eq!(status.get_details_error_info().unwrap().metadata["hold"], held.name);
            assert_eq!(lift(&daemon, &held.name).await.unwrap(), held);
            assert_eq!(daemon.run(request()).await.unwrap().outcome(), Outcome::Succeeded, "{action:?} {scope}");
        }
    }
    for scope in ["agents/other", "agents/tester@2", "jobs/evening", "callers/loopback", "tools/x", "hosts/example.com"]
    {
        hold(&daemon, Action::Kill, scope).await;
    }
    assert_eq!(daemon.run(asked(json!([]))).await.unwrap().outcome(), Outcome::Succeeded);
}

#[tokio::test]
async fn a_hold_says_who_what_why_and_since_when() {
    let daemon = Daemon::start().await;
    let response = imposed(&daemon, order(Action::Cordon, "tools/ticket.read@1")).await.unwrap();
    let (held, evidence) = (response.hold.unwrap(), response.evidence.unwrap());
    assert_eq!(
        (held.action(), held.scope.as_str(), held.reason.as_str()),
        (Action::Cordon, "tools/ticket.read@1", "it sends mail")
    );
    assert_eq!(held.by, format!("unix:{}", nix::unistd::getuid()));
    assert!(held.impose_time.is_some() && held.expire_time.is_none());
    assert!(held.name.strip_prefix("holds/").is_some_and(|id| id.len() == 32));
    assert!(evidence.took.is_some() && evidence.unrecorded.is_empty() && evidence.unkept.is_empty());
    for name in [held.name.as_str(), held.name.trim_start_matches("holds/")] {
        let request = v1::GetHoldRequest { name: name.into() };
        assert_eq!(daemon.control().get_hold(request).await.unwrap().into_inner(), held);
    }
    lift(&daemon, &held.name).await.unwrap();
    let records = daemon.records(&["control"]).await;
    assert_eq!(evidence.record, records[0]["sequence"].as_i64().unwrap());
    let said = |record: &Value| {
        [&record["body"]["change"], &record["body"]["hold"]["scope"]].map(|v| v.as_str().unwrap().to_owned())
    };
    assert_eq!(said(&records[0]), ["imposed", "tools/ticket.read@1"]);
    assert_eq!(said(&records[1]), ["lifted", "tools/ticket.read@1"]);
    assert_eq!(records[1]["body"]["lifted_because"], "it is mended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_lifts_nothing_and_brings_nothing_back() {
    let daemon = Daemon::start().await;
    let kept = hold(&daemon, Action::Kill, "node").await;
    let lifted = hold(&daemon, Action::Freeze, "jobs/morning").await;
    lift(&daemon, &lifted.name).await.unwrap();
    let daemon = daemon.restart().await;
    assert_eq!(listed(&daemon).await, std::slice::from_ref(&kept));
    refused(&daemon, probe(json!([]))).await;
    lift(&daemon, &kept.name).await.unwrap();
    let daemon = daemon.restart().await;
    assert!(listed(&daemon).await.is_empty());
    daemon.run(probe(json!([]))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_holds_after_the_daemon_itself_was_killed() {
    let mut daemon = Daemon::start().await;
    let held = hold(&daemon, Action::Kill, "node").await;
    daemon.child.kill().unwrap();
    let daemon = daemon.again().await;
    assert_eq!(listed(&daemon).await, [held]);
}

#[tokio::test]
async fn a_daemon_that_cannot_read_what_is_held_does_not_start() {
    let mut daemon = Daemon::start().await;
    hold(&daemon, Action::Kill, "node").await;
    daemon.stop().await;
    let kept = daemon.dir.path().join("data/holds.json");
    assert!(fs::read_to_string(&kept).unwrap().contains("it sends mail"));
    fs::write(&kept, "").unwrap();
    let config = daemon.dir.path().join("palisade.toml");
    let socket = daemon.dir.path().join("q.sock");
    let ended = palisade().args(["serve", "--config"]).arg(config).arg("--socket").arg(socket).output().unwrap();
    assert!(!ended.status.success() && String::from_utf8_lossy(&ended.stderr).contains("does not decode"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_with_a_time_says_when_to_come_back_and_ends_by_itself() {
    let daemon = Daemon::start().await;
    let ends =
        imposed(&daemon, v1::ImposeHoldRequest { expire: seconds(2), ..order(Action::Kill, "node") }).await.unwrap();
    assert!(ends.hold.unwrap().expire_time.is_some());
    let status = refused(&daemon, probe(json!([]))).await;
    assert_eq!(status.code(), Code::Unavailable);
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(wait.as_millis() > 0 && wait.as_millis() <= 2_000, "{wait:?}");
    tokio::time::sleep(wait).await; // what a caller does that is told to come back
    daemon.run(probe(json!([]))).await.unwrap();
    assert!(listed(&daemon).await.is_empty());
}

#[tokio::test]
async fn the_same_request_once_more_is_the_same_hold() {
    let daemon = Daemon::start().await;
    let order = v1::ImposeHoldRequest { request_id: "incident-7".into(), ..order(Action::Kill, "jobs/morning") };
    let first = imposed(&daemon, order.clone()).await.unwrap().hold.unwrap();
    let daemon = daemon.restart().await;
    assert_eq!(imposed(&daemon, order.clone()).await.unwrap().hold.unwrap(), first);
    assert_eq!(listed(&daemon).await, [first]);
    let other = v1::ImposeHoldRequest { scope: "jobs/evening".into(), ..order };
    let status = imposed(&daemon, other).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "REQUEST_ID_USED"));
}

#[tokio::test]
async fn what_would_hold_nothing_or_for_ever_is_refused_with_its_field() {
    let daemon = Daemon::start().await;
    let good = || order(Action::Drain, "node");
    let long = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for (field, bad) in [
        ("action", v1::ImposeHoldRequest { action: 0, ..good() }),
        ("action", order(Action::Throttle, "node")),
        ("action", order(Action::Quarantine, "node")),
        ("scope", order(Action::Kill, "")),
        ("scope", order(Action::Kill, "agents/Support")),
        ("scope", order(Action::Kill, "hosts/API.example.com")),
        ("scope", order(Action::Kill, "steps/0123")),
        ("scope", order(Action::Kill, "everything")),
        ("reason", v1::ImposeHoldRequest { reason: String::new(), ..good() }),
        ("reason", v1::ImposeHoldRequest { reason: "x".repeat(1025), ..good() }),
        ("expire", v1::ImposeHoldRequest { expire: long(0), ..good() }),
        ("expire", v1::ImposeHoldRequest { expire: long(-5), ..good() }),
        ("expire", v1::ImposeHoldRequest { expire: long(366 * 86_400 + 1), ..good() }),
        ("request_id", v1::ImposeHoldRequest { request_id: "x".repeat(129), ..good() }),
        ("drain_timeout", v1::ImposeHoldRequest { drain_timeout: long(3_601), ..good() }),
        ("drain_timeout", v1::ImposeHoldRequest { drain_timeout: long(1), ..order(Action::Kill, "node") }),
    ] {
        let status = imposed(&daemon, bad).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "FIELD_INVALID"), "{status:?}");
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, field);
    }
    assert!(listed(&daemon).await.is_empty() && daemon.records(&["control"]).await.is_empty());
    for name in ["holds/0123", "", "nothing"] {
        assert_eq!(reason(&lift(&daemon, name).await.unwrap_err()), "HOLD_NOT_FOUND");
        let request = v1::GetHoldRequest { name: name.into() };
        assert_eq!(reason(&daemon.control().get_hold(request).await.unwrap_err()), "HOLD_NOT_FOUND");
    }
    let request = v1::LiftHoldRequest { name: "holds/0123".into(), reason: String::new() };
    assert_eq!(reason(&daemon.control().lift_hold(request).await.unwrap_err()), "FIELD_INVALID");
}

#[tokio::test]
async fn holds_come_in_pages_the_oldest_first() {
    let daemon = Daemon::start().await;
    for scope in ["jobs/c", "jobs/a", "jobs/b"] {
        hold(&daemon, Action::Cordon, scope).await;
    }
    let page = async |page_token: String| {
        let request = v1::ListHoldsRequest { page_size: 2, page_token };
        daemon.control().list_holds(request).await.unwrap().into_inner()
    };
    let scopes = |page: &v1::ListHoldsResponse| page.holds.iter().map(|hold| hold.scope.clone()).collect::<Vec<_>>();
    let first = page(String::new()).await;
    assert_eq!(scopes(&first), ["jobs/c", "jobs/a"]);
    let last = page(first.next_page_token).await;
    assert_eq!((scopes(&last), last.next_page_token.as_str()), (vec!["jobs/b".to_owned()], ""));
}

#[tokio::test]
async fn there_are_at_most_a_thousand_holds() {
    let mut daemon = Daemon::start().await;
    hold(&daemon, Action::Kill, "jobs/j").await;
    daemon.stop().await;
    let file = daemon.dir.path().join("data/holds.json");
    let kept: Vec<Value> = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let many: Vec<Value> = (0..1_000)
        .map(|id| {
            let mut hold = kept[0].clone();
            hold["id"] = json!(format!("holds/{id:032x}"));
            hold
        })
        .collect();
    fs::write(&file, serde_json::to_vec(&many).unwrap()).unwrap();
    let daemon = daemon.again().await;
    let status = imposed(&daemon, order(Action::Kill, "node")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_MANY_HOLDS"));
    lift(&daemon, &format!("holds/{:032x}", 7)).await.unwrap();
    imposed(&daemon, order(Action::Kill, "node")).await.unwrap();
}

#[tokio::test]
async fn only_operators_stop_anything() {
    let daemon = Daemon::with("[listen]\ntcp = \"127.0.0.1:0\"\n").await;
    let channel = Endpoint::from_shared(daemon.addresses[1].clone()).unwrap().connect().await.unwrap();
    let mut control = v1::control_client::ControlClient::new(channel);
    let status = control.impose_hold(order(Action::Kill, "node")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "CONTROL_NOT_ALLOWED"));
    for status in [
        control.list_holds(v1::ListHoldsRequest::default()).await.unwrap_err(),
        control.get_hold(v1::GetHoldRequest::default()).await.unwrap_err(),
        control.lift_hold(v1::LiftHoldRequest::default()).await.unwrap_err(),
    ] {
        assert_eq!(reason(&status), "CONTROL_NOT_ALLOWED");
    }
    let daemon = Daemon::with("[listen]\ntcp = \"127.0.0.1:0\"\n[control]\noperators = [\"loopback\"]\n").await;
    let channel = Endpoint::from_shared(daemon.addresses[1].clone()).unwrap().connect().await.unwrap();
    let held = v1::control_client::ControlClient::new(channel).impose_hold(order(Action::Kill, "node")).await.unwrap();
    assert_eq!(held.into_inner().hold.unwrap().by, "loopback");
}

#[tokio::test]
async fn a_member_of_the_group_is_no_operator_until_the_configuration_says_so() {
    if !nix::unistd::getuid().is_root() {
        return; // only root can become somebody else
    }
    let group = nix::unistd::Group::from_name("daemon").unwrap().unwrap().gid.as_raw();
    let kill = ["kill", "node", "--reason", "a test"];
    let listen = "[listen]\ngroup = \"daemon\"\n";
    let daemon = Daemon::with(listen).await;
    let (code, said) = as_user(NOBODY, group, "--clear-groups", &daemon, &kill);
    assert!(code == Some(4) && said.contains("CONTROL_NOT_ALLOWED"), "{said}");
    assert!(listed(&daemon).await.is_empty());
    let daemon = Daemon::with(&format!("{listen}[control]\noperators = [\"unix:{NOBODY}\"]\n")).await;
    assert_eq!(as_user(NOBODY, group, "--clear-groups", &daemon, &kill), (Some(0), String::new()));
    assert_eq!(listed(&daemon).await[0].by, format!("unix:{NOBODY}"));
    hold(&daemon, Action::Cordon, "node").await; // the daemon's own user always is
}

#[test]
fn an_operator_that_no_caller_can_be_is_refused_in_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("palisade.toml");
    fs::write(&file, "[control]\noperators = [\"root\"]\n").unwrap();
    let ended = palisade().args(["config", "check"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(78) && said.contains("control.operators") && said.contains("unix:"), "{said}");
}

#[tokio::test]
async fn the_command_line_holds_shows_and_lifts() {
    let daemon = Daemon::start().await;
    let (code, said) = cli(&daemon, &["kill", "agents/desk@1", "--reason", "it sends\u{1b}[2J mail", "--for", "1h"]);
    assert!(code == Some(0) && said.contains("kill agents/desk@1, until 2"), "{said}");
    assert!(said.contains("no steps stopped") && said.contains("record "), "{said}");
    for (verb, more) in [("freeze", &[][..]), ("cordon", &[]), ("drain", &["--grace", "1s"])] {
        let arguments = [&[verb, "jobs/morning", "--reason", "a test", "-o", "json"], more].concat();
        let (code, said) = cli(&daemon, &arguments);
        let answer: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((code, answer["hold"]["action"].as_str()), (Some(0), Some(verb)));
        assert!(answer["evidence"]["record"].as_i64().unwrap() > 0 && answer["evidence"]["steps"] == json!([]));
    }
    let again = ["kill", "jobs/evening", "--reason", "a test", "--request-id", "incident-7"];
    let names = [cli(&daemon, &again).1, cli(&daemon, &again).1].map(|said| {
        assert!(said.starts_with("request id incident-7\n"), "{said}");
        said.lines().nth(1).unwrap().split_once(':').unwrap().0.to_owned()
    });
    assert_eq!(names[0], names[1], "the same hold");
    lift(&daemon, &names[0]).await.unwrap();
    let (code, said) = cli(&daemon, &["hold", "list"]);
    assert!(code == Some(0) && said.contains("freeze jobs/morning") && said.contains("lifted"), "{said}");
    assert!(!said.contains('\u{1b}'), "a reason does not steer the terminal");
    let name = listed(&daemon).await[0].name.clone();
    let (code, said) = cli(&daemon, &["hold", "show", &name]);
    assert!(code == Some(0) && said.contains(&name) && said.contains("by "), "{said}");
    let (code, said) = cli(&daemon, &["hold", "lift", &name, "--reason", "mended"]);
    assert!(code == Some(0) && said.contains("lifted") && listed(&daemon).await.len() == 3, "{said}");
    let (code, said) = cli(&daemon, &["hold", "lift", &name, "--reason", "mended"]);
    assert!(code == Some(3) && said.contains("HOLD_NOT_FOUND"), "{said}");
    let (code, said) = cli(&daemon, &["kill", "everything", "--reason", "a test"]);
    assert!(code == Some(2) && said.contains("names nothing that can be held"), "{said}");
    let (code, said) = cli(&daemon, &["audit", "list", "--kind", "control"]);
    assert!(code == Some(0) && said.contains("imposed kill agents/desk@1") && said.contains("lifted kill"), "{said}");
    assert_eq!(cli(&daemon, &["kill", "node"]).0, Some(2), "why is not optional");
    let alone = palisade().args(["kill", "node", "--reason", "a test"]).output().unwrap();
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(alone.status.code() == Some(2) && said.contains("--endpoint"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_cannot_be_kept_is_in_force_and_says_so() {
    let daemon = Daemon::start().await;
    let spool = daemon.dir.path().join("data/spool");
    fs::remove_dir_all(&spool).unwrap();
    let response = imposed(&daemon, order(Action::Kill, "node")).await.unwrap();
    let (held, evidence) = (response.hold.unwrap(), response.evidence.unwrap());
    assert!(!evidence.unkept.is_empty() && evidence.record > 0);
    refused(&daemon, probe(json!([]))).await;
    let status = lift(&daemon, &held.name).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    refused(&daemon, probe(json!([]))).await;
    fs::create_dir(&spool).unwrap();
    lift(&daemon, &held.name).await.unwrap();
    daemon.run(probe(json!([]))).await.unwrap();
}
