//! Connections that take places and give nothing.

use std::time::Duration;

use futures::future::join_all;
use palisade_proto::v1::{self, system_client::SystemClient};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpStream, UnixStream},
};
use tonic::transport::Endpoint;

use super::{
    super::siege::{SLOTS, Siege},
    frames::{DATA, END_HEADERS, HEADERS, PREFACE, Raw, SETTINGS, Went, frame, request},
};
use crate::harness::{Daemon, eventually, palisade};

const INFO: &str = "/palisade.v1.System/GetServerInfo";

/// How long a new caller waits for a place that somebody holds who says nothing.
const PLACE_WITHIN: Duration = Duration::from_secs(30);

/// A newcomer is served, in time.
async fn newcomer(daemon: &Daemon) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(daemon.endpoint()).unwrap();
    let served = async {
        let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
        let asked = SystemClient::new(channel).get_server_info(v1::GetServerInfoRequest {}).await;
        asked.map(drop).map_err(|status| format!("{status:?}"))
    };
    tokio::time::timeout(PLACE_WITHIN, served).await.map_err(|_| "not in time".to_owned())?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_04_a_thousand_silent_connections_give_their_places_back() {
    let mut siege = Siege::lay(&format!("[limits]\nconnections = {}\n", 256)).await;
    let socket = siege.daemon.dir.path().join("p.sock");
    for (name, said) in [("silent", &b""[..]), ("half a preface", &PREFACE[..12])] {
        let mut connections = Vec::new();
        for _ in 0..500 {
            // The kernel's own queue is bounded as well: whoever finds it full is not even connected.
            let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), UnixStream::connect(&socket)).await
            else {
                break;
            };
            let _ = stream.try_write(said);
            connections.push(stream);
        }
        let open = std::fs::read_dir(format!("/proc/{}/fd", siege.daemon.child.id())).unwrap().count();
        siege.judge(
            &format!("{name}: descriptors"),
            (open < 400).then_some(()).ok_or(format!("{open} with {}", connections.len())),
        );
        let served = newcomer(&siege.daemon).await;
        siege.judge(&format!("{name}: a newcomer"), served);
        drop(connections);
    }
    siege.lift(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_04_callers_who_hold_every_connection_keep_no_operator_from_a_kill() {
    let config = "[limits]\nconnections = 20\n[listen]\ntcp = \"127.0.0.1:0\"\n";
    let mut siege = Siege::lay(config).await;
    let address = siege.daemon.addresses[1].strip_prefix("http://").unwrap().to_owned();
    // They speak HTTP/2, so nothing sends them away.
    let mut held = Vec::new();
    for _ in 0..120 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let _ = stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await;
        held.push(stream);
    }
    let caller = Endpoint::from_shared(siege.daemon.addresses[1].clone()).unwrap();
    let caller = tokio::time::timeout(Duration::from_secs(1), async {
        let channel = caller.connect().await.map_err(|error| error.to_string())?;
        let asked = SystemClient::new(channel).get_server_info(v1::GetServerInfoRequest {}).await;
        asked.map(drop).map_err(|status| status.to_string())
    });
    let found = !matches!(caller.await, Ok(Ok(())));
    siege.judge("callers hold them all", found.then_some(()).ok_or("another caller was served".to_owned()));
    for n in 0..3 {
        let endpoint = siege.daemon.endpoint();
        let mut kill = tokio::process::Command::from(palisade());
        kill.args(["kill", "tools/nobodys", "--reason", "drill", "--endpoint", &endpoint]).kill_on_drop(true);
        let held = match tokio::time::timeout(PLACE_WITHIN, kill.output()).await {
            Ok(killed) => {
                let killed = killed.unwrap();
                killed.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&killed.stderr).into())
            }
            Err(_) => Err("not in time".into()),
        };
        siege.judge(&format!("kill {n}"), held);
    }
    drop(held);
    siege.lift(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_04_streams_that_are_half_open_hold_only_their_connections() {
    let mut siege = Siege::lay("").await;
    let socket = siege.daemon.dir.path().join("p.sock");
    let half: Vec<(&str, Vec<u8>)> = vec![
        ("headers that go on", frame(HEADERS, 0, 1, &request(INFO))),
        ("a body that does not come", frame(HEADERS, END_HEADERS, 1, &request(INFO))),
        (
            "a message that does not end",
            [frame(HEADERS, END_HEADERS, 1, &request(INFO)), frame(DATA, 0, 1, &[0, 0, 0x3f, 0xff, 0xff, 1])].concat(),
        ),
        (
            "a push that does not go on",
            [
                frame(HEADERS, END_HEADERS, 1, &request("/palisade.v1.Components/PushComponent")),
                frame(DATA, 0, 1, &[0, 0, 0, 0, 2, 0x0a, 0]),
            ]
            .concat(),
        ),
        ("half of a frame", frame(HEADERS, END_HEADERS, 1, &request(INFO))[..20].to_vec()),
    ];
    let opened = half.iter().flat_map(|(_, bytes)| std::iter::repeat_n(bytes, 30));
    let held = opened.map(|bytes| {
        let socket = socket.clone();
        async move {
            let mut raw = Raw::greeted(&socket).await;
            raw.send(bytes).await;
            raw
        }
    });
    let held = join_all(held).await;
    let served = newcomer(&siege.daemon).await;
    siege.judge("a newcomer", served);
    for (name, _) in &half {
        siege.judge(name, Ok(()));
    }
    drop(held);
    siege.lift(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_04_a_caller_that_answers_no_ping_is_sent_away() {
    let mut siege = Siege::lay("").await;
    let socket = siege.daemon.dir.path().join("p.sock");
    let mut deaf = Raw::greeted(&socket).await;
    // Keep-alive asks after 20 seconds and waits for 10.
    let mut went = Went::Silent;
    for _ in 0..2 {
        if went == Went::Silent {
            went = deaf.went(false).await;
        }
    }
    siege.judge("no ping is answered", (went == Went::Ended).then_some(()).ok_or(format!("{went:?}")));
    siege.lift(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_07_callers_that_come_and_go_leave_no_descriptor() {
    let mut siege = Siege::lay("").await;
    let socket = siege.daemon.dir.path().join("p.sock");
    for n in 0..2_000 {
        let mut raw = Raw::connect(&socket).await;
        match n % 4 {
            0 => {}
            1 => drop(raw.send(PREFACE).await),
            2 => drop(raw.send(b"nonsense nonsense nonsense nonsense").await),
            _ => {
                let mut raw = Raw::greeted(&socket).await;
                raw.send(&frame(HEADERS, END_HEADERS, 1, &request(INFO))).await;
            }
        }
    }
    let served = newcomer(&siege.daemon).await;
    siege.judge("two thousand that come and go", served);
    siege.lift(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_07_the_daemon_goes_on_when_it_has_no_descriptor_left() {
    // What it opens for itself at start fits; more connections do not.
    let dir = crate::harness::data_dir();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 160; exec \"$0\" \"$@\""]).arg(crate::harness::palisade().get_program());
    let config = format!("[limits]\nconnections = 4000\nconcurrent_steps = {SLOTS}\n");
    let daemon = Daemon::launch(dir, &config, command).await;
    let mut siege = Siege::around(daemon).await;
    let socket = siege.daemon.dir.path().join("p.sock");
    let mut open = Vec::new();
    for _ in 0..300 {
        let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), UnixStream::connect(&socket)).await
        else {
            break;
        };
        open.push(stream);
    }
    let log = || siege.daemon.log().contains("cannot accept a connection");
    eventually("there are no descriptors left", log).await;
    drop(open);
    let served = newcomer(&siege.daemon).await;
    siege.judge("a newcomer afterwards", served);
    // While there was none, nobody's step could begin; that it goes on is what is asked here.
    siege.forgive_the_neighbour();
    siege.lift(0).await;
}
