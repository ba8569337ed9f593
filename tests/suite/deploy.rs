//! The unit in `deploy/systemd`, and what the daemon tells systemd.

use std::{
    fs,
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use palisade_proto::v1::{self, Effect};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    harness::{Daemon, PATIENCE, data_dir, guest, palisade, root},
    tidy,
};

const UNIT: &str = "deploy/systemd/palisade.service";

/// What the daemon, its jail and its promises need of the unit. Lines that are absent on purpose are below.
const REQUIRED: &[&str] = &[
    "Type=notify",
    "NotifyAccess=main",
    "ExecReload=/bin/kill -HUP $MAINPID",
    "User=palisade",
    "StateDirectory=palisade",
    "RuntimeDirectory=palisade",
    "ConfigurationDirectory=palisade",
    "UMask=0077",
    "WatchdogSec=30s",
    "KillMode=mixed",
    "TimeoutStopSec=45s",
    "RestartPreventExitStatus=78",
    "LimitAS=infinity",
    "LimitNOFILE=65536",
    "LimitCORE=0",
    "TasksMax=4096",
    "OOMPolicy=continue",
    "Delegate=cpu cpuset memory pids",
    "DelegateSubgroup=daemon",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "PrivateDevices=yes",
    "DevicePolicy=closed",
    "ProcSubset=pid",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "KeyringMode=private",
    "RemoveIPC=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@aio @keyring @privileged @resources",
    "PrivateNetwork=yes",
    "RestrictAddressFamilies=AF_UNIX",
    "IPAddressDeny=any",
];

/// Usual lines that would break a wall or a promise; docs/deploying.md says which.
const ABSENT: &[&str] =
    &["MemoryDenyWriteExecute", "RestrictSUIDSGID", "DynamicUser", "PrivateUsers", "ProtectProc", "RootDirectory"];

fn unit() -> Vec<String> {
    let text = fs::read_to_string(root().join(UNIT)).unwrap();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(ToOwned::to_owned).collect()
}

fn there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn the_unit_has_every_line_that_is_needed_and_none_that_breaks_a_wall() {
    let unit = unit();
    let missing: Vec<_> = REQUIRED.iter().filter(|line| !unit.iter().any(|has| has == *line)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let harmful: Vec<_> =
        unit.iter().filter(|line| ABSENT.iter().any(|key| line.starts_with(&format!("{key}=")))).collect();
    assert!(harmful.is_empty(), "{harmful:#?}");
    let documented = fs::read_to_string(root().join("docs/deploying.md")).unwrap();
    for key in ABSENT {
        assert!(documented.contains(&format!("`{key}=")), "docs/deploying.md does not say why {key} is absent");
    }
}

#[test]
fn the_unit_allows_the_namespaces_that_the_jail_enters_and_no_others() {
    let unit = unit();
    let allowed = unit.iter().find_map(|line| line.strip_prefix("RestrictNamespaces=")).unwrap();
    let mut allowed: Vec<_> = allowed.split(' ').map(|name| name.replace("mnt", "ns")).collect();
    let mut entered = Vec::new();
    for (_, text) in tidy::runtime().iter().filter(|(file, _)| file.starts_with("jail/")) {
        for at in text.split("CloneFlags::CLONE_NEW").skip(1) {
            entered.push(at.split(|c: char| !c.is_ascii_uppercase()).next().unwrap().to_lowercase());
        }
    }
    allowed.sort();
    entered.sort();
    entered.dedup();
    assert_eq!(allowed, entered);
}

#[test]
fn systemd_finds_little_exposed() {
    if !there("systemd-analyze") {
        eprintln!("not tried: there is no systemd-analyze");
        return;
    }
    let args = ["security", "--offline=true", "--no-pager", "--threshold=15"];
    let judged = Command::new("systemd-analyze").args(args).arg(root().join(UNIT)).output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

/// A socket as systemd gives it to a service.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(dir: &Path) -> Self {
        let path = dir.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        // Also for a daemon of another user.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        Self { socket, path }
    }

    /// Returns the command with what systemd puts into a service's environment.
    fn attend(&self, mut command: Command, watchdog: Duration) -> Command {
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        command
    }

    /// Returns the next message, if one comes within `patience`.
    fn next(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..count].to_vec()).unwrap())
    }

    /// Waits for a message with this line.
    fn expect(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.next(PATIENCE).expect("a message in time").lines().any(|has| has == line) {
            assert!(Instant::now() < deadline, "`{line}` did not come");
        }
    }

    /// Whether a ping comes within this time, after all that has come already.
    fn pinged(&self, within: Duration) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 4096]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            if self.next(left).is_some_and(|message| message.contains("WATCHDOG=1")) {
                return true;
            }
        }
    }
}

const WATCHDOG: Duration = Duration::from_millis(400);

async fn attended(manager: &Manager, dir: TempDir) -> Daemon {
    Daemon::launch(dir, "", manager.attend(palisade(), WATCHDOG)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_that_the_daemon_serves_is_well_and_stops() {
    let outside = tempfile::tempdir().unwrap();
    let manager = Manager::new(outside.path());
    let dir = data_dir();
    let socket = dir.path().join("p.sock");
    let starting = tokio::spawn(async move { (attended(&manager, dir).await, manager) });
    let (mut daemon, manager) = starting.await.unwrap();
    let first = manager.next(PATIENCE).unwrap();
    assert!(first.starts_with("READY=1\n"), "{first}");
    UnixStream::connect(socket).unwrap();
    manager.expect("WATCHDOG=1");
    manager.expect("WATCHDOG=1");
    daemon.stop().await;
    manager.expect("STOPPING=1");
}

#[tokio::test]
async fn a_daemon_that_cannot_serve_is_never_said_to_be_ready() {
    let outside = tempfile::tempdir().unwrap();
    let manager = Manager::new(outside.path());
    let first = Daemon::start().await;
    let mut second = manager.attend(palisade(), WATCHDOG);
    let config = first.dir.path().join("palisade.toml");
    second.args([Path::new("serve"), Path::new("--config"), &config, Path::new("--socket")]);
    assert_eq!(second.arg(outside.path().join("other.sock")).output().unwrap().status.code(), Some(69));
    assert_eq!(manager.next(Duration::from_millis(1)), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_hangs_is_not_said_to_be_well() {
    let outside = tempfile::tempdir().unwrap();
    let manager = Manager::new(outside.path());
    let daemon = attended(&manager, data_dir()).await;
    let pid = Pid::from_raw(daemon.child.id() as i32);
    assert!(manager.pinged(PATIENCE));
    kill(pid, Signal::SIGSTOP).unwrap();
    assert!(!manager.pinged(3 * WATCHDOG), "no helper process says it for the daemon");
    kill(pid, Signal::SIGCONT).unwrap();
    assert!(manager.pinged(PATIENCE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_journal_failed_is_not_said_to_be_well() {
    let outside = tempfile::tempdir().unwrap();
    let manager = Manager::new(outside.path());
    let daemon = attended(&manager, data_dir()).await;
    assert!(manager.pinged(PATIENCE));
    let journal = rusqlite::Connection::open(daemon.dir.path().join("data/journal/journal.db")).unwrap();
    journal
        .execute_batch("DROP TABLE unfinished; DROP INDEX records_by_kind; ALTER TABLE records RENAME TO gone")
        .unwrap();
    let failed = daemon.tool("ticket.read", Effect::Read).await;
    assert!(failed.is_err(), "nothing is recorded any more");
    let why = loop {
        let message = manager.next(PATIENCE).unwrap();
        if message.contains("not well") {
            break message;
        }
    };
    assert!(why.contains("the journal failed"), "{why}");
    assert!(!manager.pinged(3 * WATCHDOG));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_and_its_jails_live_with_what_the_unit_sets() {
    let seccomp = Command::new("python3").args(["-c", "import ctypes; ctypes.CDLL('libseccomp.so.2')"]).output();
    if !geteuid().is_root() || !there("systemd-analyze") || !seccomp.is_ok_and(|output| output.status.success()) {
        eprintln!("not tried: it takes root, systemd-analyze, python3 and libseccomp");
        return;
    }
    let dir = data_dir();
    let manager = Manager::new(dir.path());
    let mut command = manager.attend(Command::new("python3"), WATCHDOG);
    command.arg(root().join("tests/suite/harness/as_systemd.py")).arg(root().join(UNIT)).arg(dir.path());
    command.arg(palisade().get_program());
    let daemon = Daemon::launch(dir, "[listen]\ngroup = \"root\"\n", command).await;
    manager.expect("READY=1");

    let wrote = daemon.probe(json!([{ "write": { "path": "/workspace/file", "bytes": 10 } }])).await;
    assert!(wrote[0].starts_with("ok"), "{wrote:?}");
    // The compiler's jail as well: a component that is not compiled yet.
    daemon.push(&fs::read(guest("repo_auditor")).unwrap()).await.unwrap();
    let info = daemon.system().get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    for wall in &info.walls {
        // cgroups are delegated by systemd, which is not here.
        let expected = if wall.name == "cgroup" { v1::wall::State::NotDelegated } else { v1::wall::State::Verified };
        assert_eq!(wall.state(), expected, "{wall:?}");
    }
    let worker = daemon.children()[0];
    for (pid, seccomp_filters) in [(daemon.child.id() as i32, 4), (worker, 5)] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
            line.unwrap().trim().to_owned()
        };
        assert_eq!(field("NoNewPrivs"), "1");
        assert_eq!([field("CapEff"), field("CapPrm")], ["0000000000000000", "0000000000000000"]);
        assert!(field("Seccomp_filters").parse::<u32>().unwrap() >= seccomp_filters, "{status}");
    }
    assert!(manager.pinged(PATIENCE));
}
