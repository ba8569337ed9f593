use std::{fs, path::Path};

use palisade_proto::v1;
use serde_json::json;

use crate::harness::{Daemon, data_dir, eventually, palisade, probe};

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
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(worker, set), "0000000000000000", "{set}");
    }
    for namespace in ["user", "net", "mnt", "ipc"] {
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
    // Nothing is mounted but an empty root and what the configuration names.
    let mounts = fs::read_to_string(format!("/proc/{worker}/mountinfo")).unwrap();
    let places: Vec<_> = mounts.lines().map(|mount| mount.split(' ').nth(4).unwrap()).collect();
    let data = daemon.dir.path().join("data");
    let expected = [Path::new("/").to_owned(), data.join("artifacts"), data.join("tenants/default/workspaces")];
    assert_eq!(places.len(), expected.len(), "{mounts}");
    assert!(expected.iter().all(|place| places.contains(&place.to_str().unwrap())), "{mounts}");
}

#[tokio::test]
async fn every_thread_of_the_daemon_is_filtered_but_the_one_that_starts_programs() {
    let daemon = Daemon::start().await;
    daemon.probe(json!([])).await;
    let tasks = format!("/proc/{}/task", daemon.child.id());
    let free: Vec<_> = fs::read_dir(tasks)
        .unwrap()
        .map(|task| task.unwrap().path())
        .filter(|task| fs::read_to_string(task.join("status")).is_ok_and(|status| !status.contains("Seccomp:\t2")))
        .map(|task| fs::read_to_string(task.join("comm")).unwrap())
        .collect();
    assert_eq!(free, ["spawner\n"]);
}

#[tokio::test]
async fn a_worker_of_roots_daemon_is_another_user_and_its_files_are_the_daemons() {
    let mount = tempfile::tempdir().unwrap();
    fs::write(mount.path().join("a"), "of root").unwrap();
    let extra = "[[mount]]\nname = 'm'\nwritable = { bytes = 1000, entries = 10 }\n";
    let daemon = Daemon::with(&format!("{extra}path = {:?}\n", mount.path())).await;
    let mounts = vec![v1::MountUse { mount: "m".into(), path: "/m".into(), read_only: false }];
    let acts = json!([{ "read": "/m/a" }, { "write": { "path": "/m/b", "bytes": 1 } }]);
    let outcomes = daemon.run(v1::RunStepRequest { mounts, ..probe(acts) }).await.unwrap().outcomes();
    let written = fs::metadata(mount.path().join("b")).unwrap();
    let own = nix::unistd::getuid();
    let worker = status(daemon.children()[0], "Uid");
    if own.is_root() {
        assert!(worker.split_whitespace().all(|uid| uid != "0"), "{worker}");
        assert_eq!(status(daemon.children()[0], "Groups"), "");
    }
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&written), own.as_raw(), "{outcomes:?}");
    assert!(outcomes[0].contains("of root"), "{outcomes:?}");
}

#[tokio::test]
async fn a_mount_that_the_workers_user_cannot_read_is_an_error_at_the_start() {
    // Not even its owner may, whom the worker's user is taken for.
    let dir = tempfile::tempdir().unwrap();
    let mount = tempfile::tempdir().unwrap();
    fs::set_permissions(mount.path(), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let config = dir.path().join("c.toml");
    let text = format!("data_dir = {:?}\n[[mount]]\nname = 'm'\npath = {:?}\n", dir.path().join("d"), mount.path());
    fs::write(&config, text).unwrap();
    let ended = palisade().arg("serve").arg("--config").arg(&config).arg("--socket").arg(dir.path().join("s")).output();
    let ended = ended.unwrap();
    let error = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(69), "{error}");
    assert!(error.contains(mount.path().to_str().unwrap()) && error.contains("cannot be read by user"), "{error}");
}

#[tokio::test]
async fn a_later_worker_that_lacks_a_wall_is_not_used() {
    // A user namespace of the daemon's own, so that the host stays as it is.
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user"]).arg(palisade().get_program());
    let extra = "[jail]\nallow_missing = ['ids']\n";
    let daemon = Daemon::launch(data_dir(), extra, command).await;
    daemon.probe(json!([])).await;
    let forbid = ["-U", "--preserve-credentials", "sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces"];
    let entered =
        std::process::Command::new("nsenter").args(["-t", &daemon.child.id().to_string()]).args(forbid).status();
    assert!(entered.unwrap().success());
    let worker = daemon.children()[0];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("the worker is gone", || !daemon.children().contains(&worker)).await;
    let refused = daemon.run(probe(json!([]))).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    assert!(daemon.log().contains("user-namespace"), "{}", daemon.log());
}

#[tokio::test]
async fn every_wall_is_verified_and_said() {
    let daemon = Daemon::start().await;
    let info = daemon.system().get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    let names: Vec<_> = info.walls.iter().map(|wall| wall.name.as_str()).collect();
    assert_eq!(names, palisade::jail::WALLS);
    for wall in &info.walls {
        // Whether this host delegates cgroups is its own affair.
        let optional = wall.name == "cgroup" && wall.state() == v1::wall::State::NotDelegated;
        assert!(wall.state() == v1::wall::State::Verified || optional, "{wall:?}");
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
    let (line, _, error) = launch("[jail]\nallow_missing = ['user-namespace', 'ids']\n");
    assert!(line.starts_with("unix:"), "{error}");
}

#[test]
fn doctor_says_what_stands() {
    let doctor = palisade().args(["doctor", "-o", "json"]).output().unwrap();
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stderr));
    let lines = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(lines.lines().count(), palisade::jail::WALLS.len());
    assert!(lines.lines().all(|line| line.contains("\"verified\"") || line.contains("\"not delegated\"")));
}

#[test]
fn the_hidden_roles_refuse_to_be_started_by_people() {
    for role in ["worker", "compile"] {
        let ended = palisade().arg(role).stdin(std::process::Stdio::null()).output().unwrap();
        assert!(!ended.status.success());
        assert!(String::from_utf8_lossy(&ended.stderr).contains("started by `palisade serve`"));
    }
}
