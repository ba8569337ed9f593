use std::fs;

use palisade_proto::v1;
use serde_json::json;

use crate::harness::{Daemon, palisade};

fn status(pid: i32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(&format!("{key}:"))).unwrap().to_owned();
    line.split_once(':').unwrap().1.trim().to_owned()
}

#[tokio::test]
async fn a_worker_is_confined_as_seen_from_outside() {
    let daemon = Daemon::start().await;
    daemon.probe(json!([])).await;
    let worker = daemon.children()[0];
    assert_eq!(status(worker, "NoNewPrivs"), "1");
    assert_eq!(status(worker, "Seccomp"), "2", "filtered");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(worker, set), "0000000000000000");
    }
    for namespace in ["user", "net", "ipc", "uts"] {
        let of = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
        // Another user namespace may forbid even to look: that is as good an answer.
        if let Ok(theirs) = of(worker as u32) {
            assert_ne!(theirs, of(std::process::id()).unwrap(), "{namespace}");
        }
    }
    if let Ok(descriptors) = fs::read_dir(format!("/proc/{worker}/fd")) {
        for descriptor in descriptors.flatten() {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            let target = target.to_string_lossy();
            let expected = ["socket:", "pipe:", "anon_inode:", "/dev/null", "/memfd:"];
            let known = expected.iter().any(|kind| target.starts_with(kind))
                || target.ends_with("/pagemap")
                || target.ends_with(".cwasm");
            assert!(known, "the worker holds {target}");
        }
    }
}

#[tokio::test]
async fn every_wall_is_verified_and_said() {
    let daemon = Daemon::start().await;
    let info = daemon.system().get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    let names: Vec<_> = info.walls.iter().map(|wall| wall.name.as_str()).collect();
    assert_eq!(names, palisade::jail::WALLS);
    for wall in &info.walls {
        assert_eq!(wall.state(), v1::wall::State::Verified, "{wall:?}");
    }
}

#[test]
fn a_daemon_refuses_to_serve_with_a_wall_missing_unless_it_is_named() {
    // Inside a user namespace that allows no more of them, the worker cannot have its own.
    let launch = |config: &str| {
        let dir = tempfile::tempdir().unwrap();
        let (path, data) = (dir.path().join("c.toml"), dir.path().join("data"));
        fs::write(&path, format!("data_dir = {data:?}\n{config}")).unwrap();
        let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"";
        let mut child = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", script])
            .arg(palisade().get_program())
            .args(["serve", "--config", path.to_str().unwrap(), "--socket", dir.path().join("s").to_str().unwrap()])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        let _ = child.kill();
        let ended = child.wait_with_output().unwrap();
        (line, ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let (line, code, error) = launch("");
    assert_eq!((line.as_str(), code), ("", Some(69)), "{error}");
    assert!(error.contains("user-namespace") && error.contains("jail.allow_missing"), "{error}");
    let (line, _, error) = launch("[jail]\nallow_missing = ['user-namespace', 'network-namespace']\n");
    assert!(line.starts_with("unix:"), "{error}");
}

#[test]
fn doctor_says_what_stands() {
    let doctor = palisade().args(["doctor", "-o", "json"]).output().unwrap();
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stderr));
    let lines = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(lines.lines().count(), palisade::jail::WALLS.len());
    assert!(lines.lines().all(|line| line.contains("\"verified\"")));
}

#[test]
fn the_hidden_roles_refuse_to_be_started_by_people() {
    for role in ["worker", "compile"] {
        let ended = palisade().arg(role).stdin(std::process::Stdio::null()).output().unwrap();
        assert!(!ended.status.success());
        assert!(String::from_utf8_lossy(&ended.stderr).contains("started by `palisade serve`"));
    }
}
