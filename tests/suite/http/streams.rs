//! Bodies that pass in pieces, both ways, and guests and upstreams that do not keep pace.

use std::{fs, sync::Arc};

use palisade_proto::v1;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::watch,
};

use super::{ALL, API, answered, api, code, get, post, rule, upstream, with};
use crate::harness::{
    Daemon, PATIENCE, asked,
    certificates::Authority,
    upstream::{Gate, Piece, Reply, Upstream},
};

const MIB: usize = 1 << 20;

/// What a daemon may grow by while a stream passes: far below the stream, far above what one exchange holds.
const GROWTH: usize = 6 * MIB;

/// Answers a request whose length is said with as many bytes, each as soon as it came, until `most` were read; then it
/// waits to be told. Says how many were read.
async fn echoes(most: usize) -> (std::net::SocketAddr, watch::Receiver<usize>, Arc<Gate>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, gate) = (listener.local_addr().unwrap(), Gate::new());
    let (read, reads) = watch::channel(0);
    let opened = gate.clone();
    tokio::spawn(async move {
        let (mut reader, mut writer, length) = accepted(&listener).await;
        let head = format!("HTTP/1.1 200 -\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n");
        writer.write_all(head.as_bytes()).await.unwrap();
        let (mut count, mut buffer) = (0, vec![0; 64 << 10]);
        while count < length {
            if count >= most {
                opened.opened().await;
            }
            let room = if count < most { buffer.len().min(most - count) } else { buffer.len() };
            let got = reader.read(&mut buffer[..room]).await.unwrap_or(0);
            if got == 0 {
                return;
            }
            count += got;
            read.send_replace(count);
            if writer.write_all(&buffer[..got]).await.is_err() {
                return;
            }
        }
    });
    (address, reads, gate)
}

async fn accepted(listener: &TcpListener) -> (BufReader<tokio::net::tcp::OwnedReadHalf>, OwnedWriteHalf, usize) {
    let (stream, _): (TcpStream, _) = listener.accept().await.unwrap();
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        if line == "\r\n" {
            return (reader, writer, length);
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
}

/// Returns a daemon whose agent may stream so much to an address.
async fn streaming(address: std::net::SocketAddr) -> Daemon {
    let (ip, port) = (address.ip(), address.port());
    let to = format!("scheme = \"http\"\nhost = \"{ip}\"\nport = {port}\ncidrs = [\"{ip}/32\"]\nmethods = [\"POST\"]");
    let sizes = "request_bytes = 67_108_864\nresponse_bytes = 67_108_864";
    let daemon = Daemon::governed(ALL, &format!("[[egress]]\nname = \"api\"\n{to}\n{sizes}\n")).await;
    daemon.agent(API).await.unwrap();
    daemon
}

/// Returns the bytes of a daemon that are in memory.
pub fn resident(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn thirty_two_mib_go_up_and_come_down_through_a_daemon_that_does_not_grow() {
    let (address, reads, _) = echoes(usize::MAX).await;
    let daemon = streaming(address).await;
    daemon.ask(json!([])).await;
    let before = resident(&daemon);
    let chunks = vec![json!({ "fill": 64 << 10 }); 32 * MIB / (64 << 10)];
    let length = (32 * MIB).to_string();
    let act = json!({ "http-stream": {
        "scheme": "http", "authority": address.to_string(), "method": "POST", "body": chunks,
        "headers": [["content-length", length]],
    } });
    let running = tokio::spawn({
        let mut steps = daemon.steps();
        async move {
            let mut stream = steps.run_step(asked(json!([act]))).await.unwrap().into_inner();
            let mut last = None;
            while let Some(response) = stream.message().await.unwrap() {
                last = response.message;
            }
            last
        }
    });
    let mut peak = before;
    let mut reads = reads;
    while *reads.borrow_and_update() < 32 * MIB {
        peak = peak.max(resident(&daemon));
        tokio::time::timeout(PATIENCE, reads.changed()).await.expect("it goes on").unwrap();
    }
    let Some(v1::run_step_response::Message::Result(result)) = running.await.unwrap() else { panic!("no result") };
    let outputs: serde_json::Value = serde_json::from_slice(&result.output).unwrap();
    let said = answered(outputs["outcomes"][0].as_str().unwrap());
    assert_eq!(said["body_bytes"], json!(32 * MIB), "{}", said["written"]);
    // Each chunk came back before the next one left.
    assert_eq!(said["rounds"].as_array().unwrap().len(), 512);
    assert!(peak - before < GROWTH, "it grew by {} bytes", peak - before);
    let outcome = &daemon.records(&["outcome"]).await[0]["body"]["http"];
    assert_eq!((&outcome["request"]["bytes"], &outcome["response"]["bytes"]), (&json!(32 * MIB), &json!(32 * MIB)));
    assert_eq!(outcome["request"]["digest"], outcome["response"]["digest"]);
}

#[tokio::test]
async fn an_upstream_that_reads_nothing_holds_the_guest_up_and_nothing_piles_up() {
    let (address, mut reads, gate) = echoes(1).await;
    let daemon = streaming(address).await;
    daemon.ask(json!([])).await;
    let before = resident(&daemon);
    let length = (32 * MIB).to_string();
    let act = json!({ "http": {
        "scheme": "http", "authority": address.to_string(), "method": "POST", "headers": [["content-length", length]],
        "body": vec![json!({ "fill": MIB }); 32], "drop": "body",
    } });
    let running = daemon.steps().run_step(asked(json!([act]))).await.unwrap();
    reads.wait_for(|count| *count > 0).await.unwrap();
    // Another step runs to its end meanwhile, which is time enough for what would pile up.
    daemon.ask(json!([{ "output": 1 }])).await;
    let grown = resident(&daemon).saturating_sub(before);
    assert!(grown < GROWTH, "it grew by {grown} bytes");
    gate.open();
    drop(running);
}

#[tokio::test]
async fn trailers_pass_both_ways_over_http_2() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("a test's");
    let upstream = Upstream::tls(([127, 0, 0, 1], 0).into(), authority.serve(&["127.0.0.1"])).await;
    upstream.on("/", |seen| Reply::text("body").trailer("x-count", &seen.trailers.len().to_string()));
    let (ca, port) = (authority.file(dir.path()), upstream.address.port());
    let config = format!(
        "[network]\nca_files = [{ca:?}]\n[[egress]]\nname = \"api\"\nhost = \"127.0.0.1\"\nport = {port}\n\
         methods = [\"GET\", \"POST\"]\ncidrs = [\"127.0.0.1/32\"]\n"
    );
    let daemon = Daemon::governed(ALL, &config).await;
    daemon.agent(API).await.unwrap();
    let trailing = json!({ "scheme": "https", "method": "POST", "body": ["word"], "trailers": [["x-sum", "4"]] });
    let plain = json!({ "scheme": "http" });
    let said = daemon.ask(json!([with(&upstream, "/", trailing), with(&upstream, "/", plain)])).await;
    let said_first = answered(&said[0]);
    assert_eq!((&said_first["status"], &said_first["trailers"]), (&json!(200), &json!([["x-count", "1"]])));
    assert_eq!(code(&said[1]), "NOT_IN_MANIFEST", "a rule is for HTTPS if it does not say");
    let seen = &upstream.seen()[0];
    assert_eq!((seen.protocol, seen.trailers.as_slice()), ("h2", &[("x-sum".to_owned(), b"4".to_vec())][..]));
    assert_eq!(daemon.records(&["outcome"]).await[0]["body"]["http"]["answered"]["protocol"], "h2");
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_nobody_named_is_not_believed() {
    let authority = Authority::new("a stranger's");
    let upstream = Upstream::tls(([127, 0, 0, 1], 0).into(), authority.serve(&["127.0.0.1"])).await;
    let port = upstream.address.port();
    let to = format!("host = \"127.0.0.1\"\nport = {port}\ncidrs = [\"127.0.0.1/32\"]\n");
    let daemon = Daemon::governed(ALL, &format!("[[egress]]\nname = \"api\"\n{to}")).await;
    daemon.agent(API).await.unwrap();
    let said = daemon.ask(json!([with(&upstream, "/", json!({ "scheme": "https" }))])).await;
    assert_eq!(code(&said[0]), "TLS_FAILED");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_response_that_comes_early_ends_a_request_that_goes_on() {
    let (daemon, upstream) = api("methods = [\"POST\"]\nrequest_bytes = 67_108_864").await;
    let full = "HTTP/1.1 413 -\r\ncontent-type: text/plain\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfull";
    upstream.on_head("/full", move |_| Reply::Raw(vec![Piece::Bytes(full.into()), Piece::Close]));
    let large = json!({ "method": "POST", "body": vec![json!({ "fill": MIB }); 16] });
    let said = daemon.ask(json!([with(&upstream, "/full", large), post(&upstream, "/")])).await;
    let early = answered(&said[0]);
    assert_eq!((&early["status"], &early["body"]), (&json!(413), &json!("full")));
    assert!(!early["written"].is_null(), "the guest was told to stop: {early}");
    assert_eq!(answered(&said[1])["status"], 200);
    let outcome = &daemon.records(&["outcome"]).await[0]["body"];
    assert_eq!(outcome["http"]["answered"]["status"], 413, "{outcome}");
    assert!(outcome["http"]["request"]["bytes"].as_u64().unwrap() < 16 * MIB as u64);
}

#[tokio::test]
async fn whatever_a_guest_drops_is_over_and_on_record() {
    let (daemon, upstream) = api("methods = [\"GET\", \"POST\"]\nconcurrency = 1").await;
    upstream.on_head("/hangs", |_| Reply::Raw(vec![Piece::Hang]));
    upstream.on("/begins", |_| Reply::text("begun").body(vec![Piece::Bytes(b"begun".to_vec()), Piece::Hang]));
    let acts = json!([
        with(&upstream, "/request", json!({ "method": "POST", "body": ["half"], "drop": "request" })),
        with(&upstream, "/hangs", json!({ "drop": "response" })),
        with(&upstream, "/begins", json!({ "drop": "body" })),
        with(&upstream, "/begins", json!({ "read_max": 5 })),
        // With one place for all of them, this one is sent only once the others are over.
        get(&upstream, "/after"),
    ]);
    let said = daemon.ask(acts).await;
    assert_eq!(code(&said[0]), "BODY_BROKEN");
    assert_eq!(answered(&said[3])["body"], "begun");
    assert_eq!(answered(&said[4])["status"], 200);
    // What is dropped before it left may leave no trace; all else has its one outcome.
    let (intents, outcomes) = (daemon.records(&["intent"]).await, daemon.records(&["outcome"]).await);
    assert!(intents.len() >= 4 && intents.len() == outcomes.len(), "{intents:#?} {outcomes:#?}");
    upstream
        .until("what was dropped is closed", |upstream| {
            let after = upstream.seen().iter().find(|seen| seen.path() == "/after").map(|seen| seen.connection);
            let others = upstream.connections().into_iter().enumerate().filter(|(id, _)| Some(*id) != after);
            others.into_iter().all(|(_, connection)| connection.closed)
        })
        .await;
    assert!(!upstream.seen().iter().any(|seen| seen.path() == "/request" && seen.complete), "half is not the whole");
}

#[tokio::test]
async fn an_upstream_that_answers_nobody_keeps_no_other_step_waiting() {
    let (slow, fast) = (upstream().await, upstream().await);
    let gate = Gate::new();
    let opened = gate.clone();
    slow.on("/", move |_| Reply::text("late").body(vec![Piece::Wait(opened.clone()), Piece::Bytes(b"late".to_vec())]));
    let config = format!("{}{}", rule("slow", &slow, ""), rule("api", &fast, ""));
    let daemon = Arc::new(Daemon::governed(ALL, &config).await);
    daemon.agent(&format!("{API}[[egress]]\nrule = \"slow\"\n")).await.unwrap();
    let hanging = tokio::spawn({
        let (daemon, act) = (daemon.clone(), get(&slow, "/"));
        async move { daemon.ask(json!([act])).await }
    });
    slow.until("the slow one was asked", |slow| !slow.seen().is_empty()).await;
    let others = (0..50).map(|_| daemon.ask(json!([get(&fast, "/")])));
    for said in futures::future::join_all(others).await {
        assert_eq!(answered(&said[0])["status"], 200);
    }
    assert!(!hanging.is_finished());
    gate.open();
    assert_eq!(answered(&hanging.await.unwrap()[0])["body"], "late");
}
