use std::{os::unix::fs::PermissionsExt as _, process::Command};

use palisade_proto::v1;
use serde_json::json;
use tonic::transport::Endpoint;

use crate::harness::{Daemon, palisade, probe};

/// Runs `palisade` against `daemon` as another user; returns its exit code and what it says of errors. Needs root.
pub fn as_user(uid: u32, gid: u32, groups: &str, daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String) {
    std::fs::set_permissions(daemon.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = daemon.dir.path().join("palisade");
    std::fs::copy(palisade().get_program(), &binary).unwrap();
    let ended = Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={gid}"), groups.to_owned()])
        .arg(binary)
        .args(arguments)
        .args(["--endpoint", &daemon.endpoint()])
        .output()
        .unwrap();
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}

#[tokio::test]
async fn only_the_daemons_own_user_may_call() {
    let daemon = Daemon::start().await;
    let socket = daemon.dir.path().join("p.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    if !nix::unistd::getuid().is_root() {
        return; // only root can become somebody else
    }
    assert_eq!(
        as_user(65534, 65534, "--clear-groups", &daemon, &["info"]).0,
        Some(7),
        "the file's mode keeps them out"
    );
    // Even if somebody opens the file to all, the daemon looks at who is there.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (code, error) = as_user(65534, 65534, "--clear-groups", &daemon, &["info"]);
    assert_eq!(code, Some(4), "{error}");
    assert!(error.contains("CALLER_NOT_ALLOWED") && error.contains("listen.group"), "{error}");
}

#[tokio::test]
async fn members_of_the_configured_group_may_call() {
    if !nix::unistd::getuid().is_root() {
        return;
    }
    let daemon = Daemon::with("[listen]\ngroup = \"daemon\"\n").await;
    let socket = daemon.dir.path().join("p.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let group = nix::unistd::Group::from_name("daemon").unwrap().unwrap().gid.as_raw();
    assert_eq!(as_user(65534, group, "--clear-groups", &daemon, &["info"]), (Some(0), String::new()));
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(as_user(65534, 65534, "--clear-groups", &daemon, &["info"]).0, Some(4));
}

#[tokio::test]
async fn a_loopback_address_serves_where_the_configuration_names_one() {
    let daemon = Daemon::with("[listen]\ntcp = \"127.0.0.1:0\"\n").await;
    let channel = Endpoint::from_shared(daemon.addresses[1].clone()).unwrap().connect().await.unwrap();
    let mut stream = v1::steps_client::StepsClient::new(channel).run_step(probe(json!([]))).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
}

#[tokio::test]
async fn the_server_says_how_many_streams_it_takes() {
    use std::io::{Read as _, Write as _};
    let daemon = Daemon::with("[limits]\nconnection_requests = 7\n").await;
    let mut socket = std::os::unix::net::UnixStream::connect(daemon.dir.path().join("p.sock")).unwrap();
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut header = [0; 9];
    socket.read_exact(&mut header).unwrap();
    assert_eq!(header[3], 4, "the first frame is SETTINGS");
    let mut settings = vec![0; usize::from(header[2]) + 256 * usize::from(header[1])];
    socket.read_exact(&mut settings).unwrap();
    let value =
        |id: u8| settings.chunks(6).find(|s| s[..2] == [0, id]).map(|s| u32::from_be_bytes(s[2..].try_into().unwrap()));
    assert_eq!(value(3), Some(7), "MAX_CONCURRENT_STREAMS");
    assert_eq!(value(6), Some(16 << 10), "MAX_HEADER_LIST_SIZE");
}

#[tokio::test]
async fn connections_are_bounded_and_a_silent_one_keeps_only_its_own_place() {
    let daemon = Daemon::with("[limits]\nconnections = 3\n").await;
    let silent: Vec<_> =
        (0..2).map(|_| std::os::unix::net::UnixStream::connect(daemon.dir.path().join("p.sock")).unwrap()).collect();
    assert_eq!(daemon.probe(json!([])).await.len(), 0, "who is connected is served");
    let endpoint = Endpoint::from_shared(daemon.endpoint()).unwrap();
    let fourth = tokio::spawn(async move { endpoint.connect().await.map(v1::system_client::SystemClient::new) });
    drop(silent);
    let mut fourth = tokio::time::timeout(crate::harness::PATIENCE, fourth).await.unwrap().unwrap().unwrap();
    fourth.get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_never_speaks_is_closed() {
    use std::io::Read as _;
    let daemon = Daemon::start().await;
    for said in [&b""[..], b"PRI * HTTP"] {
        let mut silent = std::os::unix::net::UnixStream::connect(daemon.dir.path().join("p.sock")).unwrap();
        std::io::Write::write_all(&mut silent, said).unwrap();
        silent.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
        let mut answer = Vec::new();
        let _ = silent.read_to_end(&mut answer); // ends only when the daemon closes
    }
    assert_eq!(daemon.probe(json!([])).await.len(), 0);
}
