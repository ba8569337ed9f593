use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use palisade_proto::v1::{self, run_step_response::Message, step_result::Outcome};
use serde_json::json;

use crate::harness::{Daemon, eventually, limited, palisade, probe, seconds};

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_a_daemon_lets_running_steps_end_and_takes_no_new_ones() {
    let mut daemon = Daemon::start().await;
    let acts = json!([{ "log": { "message": "running", "count": 1 } }, { "sleep": { "milliseconds": 1_500 } }]);
    let mut running = daemon.steps().run_step(probe(acts)).await.unwrap().into_inner();
    while !matches!(running.message().await.unwrap().unwrap().message, Some(Message::Event(_))) {}
    kill(Pid::from_raw(daemon.child.id() as i32), Signal::SIGTERM).unwrap();
    let refused = loop {
        match daemon.steps().run_step(probe(json!([]))).await {
            Err(status) => break status,
            Ok(_) => tokio::task::yield_now().await, // the signal is still on its way
        }
    };
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    let Some(Message::Result(result)) = running.message().await.unwrap().unwrap().message else { panic!() };
    assert_eq!(result.outcome(), Outcome::Succeeded);
    drop((running, daemon.channel.clone()));
    assert!(tokio::task::block_in_place(|| daemon.child.wait()).is_ok_and(|status| status.success()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_does_not_end_is_cancelled_and_its_caller_is_told() {
    let mut daemon = Daemon::start().await;
    let limits = v1::StepLimits { timeout: seconds(120), fuel: Some(1_000_000_000_000), ..Default::default() };
    let mut running = daemon.steps().run_step(limited(probe(json!(["spin"])), limits)).await.unwrap().into_inner();
    let start = Instant::now();
    kill(Pid::from_raw(daemon.child.id() as i32), Signal::SIGTERM).unwrap();
    let result = loop {
        if let Some(Message::Result(result)) = running.message().await.unwrap().unwrap().message {
            break result;
        }
    };
    assert_eq!(result.outcome(), Outcome::Cancelled);
    assert!(start.elapsed() < Duration::from_secs(20));
    let status = tokio::task::spawn_blocking(move || daemon.child.wait()).await.unwrap().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn a_second_daemon_on_the_same_data_directory_refuses_to_start() {
    let daemon = Daemon::start().await;
    let config = daemon.dir.path().join("palisade.toml");
    let other = palisade()
        .args(["serve", "--config", config.to_str().unwrap(), "--socket"])
        .arg(daemon.dir.path().join("other.sock"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&other.stderr);
    assert_eq!(other.status.code(), Some(69), "{error}");
    assert!(
        error.contains("in use") && error.contains(&daemon.child.id().to_string()),
        "it names the process: {error}"
    );
    assert_eq!(daemon.probe(json!([])).await.len(), 0, "the first one does not mind");
}

#[tokio::test]
async fn a_second_daemon_does_not_take_the_first_ones_socket() {
    let daemon = Daemon::start().await;
    let other = palisade()
        .args(["serve", "--socket"])
        .arg(daemon.dir.path().join("p.sock"))
        .arg("--data-dir")
        .arg(daemon.dir.path().join("other"))
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&other.stderr).contains("another daemon answers"));
    assert_eq!(daemon.probe(json!([])).await.len(), 0);
}

#[tokio::test]
async fn a_killed_daemon_leaves_nothing_that_keeps_the_next_one_from_starting() {
    let mut daemon = Daemon::start().await;
    let limits = v1::StepLimits { timeout: seconds(60), fuel: Some(1_000_000_000_000), ..Default::default() };
    let acts = json!([{ "write": { "path": "/workspace/half", "bytes": 10 } }, { "log": { "message": "m", "count": 1 } }, "spin"]);
    let mut running = daemon.steps().run_step(limited(probe(acts), limits)).await.unwrap().into_inner();
    while !matches!(running.message().await.unwrap().unwrap().message, Some(Message::Event(_))) {}
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let dir = std::mem::replace(&mut daemon.dir, tempfile::tempdir().unwrap());
    fs::write(daemon.dir.path().join("log"), "").unwrap();
    fs::write(dir.path().join("data/spool/half-done"), "x").unwrap();
    let daemon = Daemon::launch(dir, "", palisade()).await;
    assert_eq!(daemon.probe(json!([{ "list": "/workspace" }])).await, ["ok: "]);
    let folder = daemon.dir.path().join("data/tenants/default/workspaces");
    let left = || fs::read_dir(&folder).unwrap().map(|dir| fs::read_dir(dir.unwrap().path()).unwrap().count());
    eventually("the killed daemon's workspace is gone", || left().sum::<usize>() == 0).await;
    assert_eq!(fs::read_dir(daemon.dir.path().join("data/spool")).unwrap().count(), 0);
}

#[test]
fn a_configuration_with_an_unknown_key_ends_with_its_own_exit_code() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, "[limits]\nfule = 3\n").unwrap();
    let ended = palisade().args(["serve", "--config"]).arg(file.path()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(ended.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("fule"));
}
