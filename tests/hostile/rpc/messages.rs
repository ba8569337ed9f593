//! gRPC that is malformed: messages, prefixes, headers. Every method gets every one.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use palisade_proto::v1::{self};
use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};
use tokio_util::task::AbortOnDropHandle;

use super::super::{report, siege::Siege};

/// What came back: an HTTP status that is not 200, a status of gRPC, a reset, or nothing in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Http(u16),
    Grpc(u16),
    Reset,
    Nothing,
}

/// A request of bytes.
#[derive(Clone)]
pub struct Ask {
    path: String,
    method: &'static str,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

/// A name, a request, and whether a reply is as it should be.
type Row = (String, Ask, fn(&Reply) -> bool);

/// Returns a message in its envelope.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

pub fn ask(path: &str, body: Vec<u8>) -> Ask {
    let headers = vec![("content-type", b"application/grpc".to_vec()), ("te", b"trailers".to_vec())];
    Ask { path: path.into(), method: "POST", headers, body }
}

/// Sends it on a connection of its own.
async fn send(socket: &std::path::Path, ask: Ask) -> Reply {
    match UnixStream::connect(socket).await {
        Ok(stream) => send_over(stream, ask).await,
        Err(_) => Reply::Reset,
    }
}

/// Sends it over `stream`, which nobody else uses.
pub async fn send_over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, ask: Ask) -> Reply {
    let replied = async {
        let (client, connection) = h2::client::handshake(stream).await.ok()?;
        let _driving = AbortOnDropHandle::new(tokio::spawn(connection));
        Some(exchange(client, ask).await)
    };
    match tokio::time::timeout(Duration::from_secs(20), replied).await {
        Ok(reply) => reply.unwrap_or(Reply::Reset),
        Err(_) => Reply::Nothing,
    }
}

async fn exchange(client: h2::client::SendRequest<Bytes>, ask: Ask) -> Reply {
    let mut request = http::Request::builder().method(ask.method).uri(format!("http://localhost{}", ask.path));
    for (name, value) in &ask.headers {
        request = request.header(*name, &value[..]);
    }
    let Ok(request) = request.body(()) else { return Reply::Reset };
    let Ok(mut client) = client.ready().await else { return Reply::Reset };
    let Ok((response, mut stream)) = client.send_request(request, false) else { return Reply::Reset };
    let sending = async {
        stream.reserve_capacity(ask.body.len());
        // What the server does not want to read is still an answer.
        let _ = stream.send_data(ask.body.into(), true);
        response.await
    };
    let Ok(response) = sending.await else { return Reply::Reset };
    let status = |headers: &http::HeaderMap| headers.get("grpc-status").and_then(|s| s.to_str().ok()?.parse().ok());
    if response.status() != 200 {
        return Reply::Http(response.status().as_u16());
    }
    if let Some(code) = status(response.headers()) {
        return Reply::Grpc(code);
    }
    let mut body = response.into_body();
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece else { return Reply::Reset };
        let _ = body.flow_control().release_capacity(piece.len());
    }
    match body.trailers().await {
        Ok(Some(trailers)) => status(&trailers).map_or(Reply::Nothing, Reply::Grpc),
        _ => Reply::Reset,
    }
}

/// Returns the path of every method of every service.
pub fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(palisade_proto::DESCRIPTORS).unwrap();
    let mut paths = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == "palisade.v1") {
        for service in &file.service {
            paths.extend(
                service.method.iter().map(|method| format!("/palisade.v1.{}/{}", service.name(), method.name())),
            );
        }
    }
    paths
}

/// Sends all, some at once, and judges each reply.
async fn hold(siege: &mut Siege, rows: Vec<Row>) {
    let socket = siege.daemon.dir.path().join("p.sock");
    let replied = stream::iter(rows).map(|(name, ask, good)| {
        let socket = socket.clone();
        async move { (name, good, send(&socket, ask).await) }
    });
    for (name, good, reply) in replied.buffer_unordered(12).collect::<Vec<_>>().await {
        siege.judge(&name, good(&reply).then_some(()).ok_or(format!("{reply:?}")));
    }
}

/// Refused in gRPC's own words.
fn refused(reply: &Reply) -> bool {
    matches!(reply, Reply::Grpc(code) if *code != 0 && *code != 2)
}

fn refused_anyhow(reply: &Reply) -> bool {
    refused(reply) || matches!(reply, Reply::Http(400..=431) | Reply::Reset)
}

fn answered(reply: &Reply) -> bool {
    !matches!(reply, Reply::Nothing)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_05_messages_that_are_none_are_refused_by_every_method() {
    let mut siege = Siege::lay("").await;
    let methods = methods();
    assert!(methods.len() >= 35, "{methods:?}");
    let seed = report::number("PALISADE_HOSTILE_SEED", 4711) | 1;
    let mut state = seed;
    let mut random = move |bytes: usize| -> Vec<u8> {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..bytes).map(|_| next()).collect()
    };
    // Field 1 as groups inside each other: no message has a group.
    let deep = [vec![0x0b; 100_000], vec![0x0c; 100_000]].concat();
    let mut rows: Vec<Row> = Vec::new();
    for method in &methods {
        let mut row =
            |what: &str, body: Vec<u8>, good| rows.push((format!("{method}: {what}"), ask(method, body), good));
        // The first field, with a wire type that does not exist: random after that.
        row("random bytes", message(&[vec![0x0f], random(300)].concat()), refused);
        row("a number that never ends", message(&[0xff; 50]), refused);
        row("a length beyond the end", message(b"\x0a\xff\xff\xff\xff\x07x"), refused);
        row("groups 100,000 deep", message(&deep), refused);
        row("a field that is cut", message(b"\x0a"), refused);
        row("field 0", message(b"\x02\x01x"), refused);
        row("a prefix that is cut", vec![0, 0, 0], refused);
        row("a length of 2 GiB and five bytes", [&[0, 0x7f, 0xff, 0xff, 0xff][..], b"five!"].concat(), refused);
        row("a length of 4 MiB and one", message(&vec![0; (4 << 20) + 1]), refused_anyhow);
        row("compressed, it says", [&[1, 0, 0, 0, 5][..], b"five!"].concat(), refused);
        row("a flag that is none", [&[7, 0, 0, 0, 5][..], b"five!"].concat(), refused);
    }
    hold(&mut siege, rows).await;
    siege.lift(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_06_headers_that_are_none_are_refused() {
    let mut siege = Siege::lay("").await;
    const INFO: &str = "/palisade.v1.System/GetServerInfo";
    let good = || ask(INFO, message(b""));
    let with = |name: &'static str, value: &[u8]| {
        let mut ask = good();
        ask.headers.retain(|(of, _)| *of != name);
        ask.headers.push((name, value.to_vec()));
        ask
    };
    let ok: fn(&Reply) -> bool = |reply| *reply == Reply::Grpc(0);
    let mut rows: Vec<Row> =
        vec![("a control".into(), good(), ok), ("a control with metadata".into(), with("x-some", b"thing"), ok)];
    for method in ["GET", "PUT", "DELETE", "CONNECT", "TRACE", "NONSENSE"] {
        rows.push((method.into(), Ask { method, ..good() }, answered));
    }
    for kind in
        ["", "application/json", "application/grpc+json", "text/html", "application/grpc-web", "APPLICATION/GRPC"]
    {
        rows.push((format!("content-type {kind}"), with("content-type", kind.as_bytes()), answered));
    }
    for time in ["", "1", "-1S", "0n", "99999999H", "99999999999S", "1e9S", "1 S", "S", "1X", "\u{221e}"] {
        rows.push((format!("grpc-timeout {time}"), with("grpc-timeout", time.as_bytes()), answered));
    }
    for encoding in ["gzip", "zstd", "identity, gzip", "", "xyz"] {
        let body = [&[1, 0, 0, 0, 5][..], b"five!"].concat();
        rows.push((
            format!("grpc-encoding {encoding}"),
            Ask { body, ..with("grpc-encoding", encoding.as_bytes()) },
            refused,
        ));
    }
    for garbage in [&b"!!!"[..], b"====", &[0xff; 30], &[b'A'; 9_001]] {
        rows.push((format!("binary metadata {garbage:.10?}"), with("x-garbage-bin", garbage), answered));
        rows.push((format!("a trace {garbage:.10?}"), with("traceparent", garbage), answered));
    }
    let mut much = good();
    much.headers.extend((0..150).map(|_| ("x-much", vec![b'x'; 100])));
    rows.push(("17 KiB of metadata".into(), much, refused_anyhow));
    for path in [
        "/",
        "/palisade.v1.System",
        "/palisade.v1.System/",
        "/palisade.v1.System/getserverinfo",
        "/PALISADE.V1.SYSTEM/GetServerInfo",
        "/palisade.v2.System/GetServerInfo",
        "/palisade.v1.System/GetServerInfo/",
        "//palisade.v1.System/GetServerInfo",
        "/palisade.v1.System/../System/GetServerInfo",
        "/palisade.v1.System%2fGetServerInfo",
        "/palisade.v1.System/GetServerInfo%00",
        "/../../etc/passwd",
        "/metrics",
        "/grpc.health.v1.Health/Nothing",
        "/*",
    ] {
        rows.push((format!("path {path}"), ask(path, message(b"")), refused_anyhow));
    }
    rows.push(("a path of 12 KiB".into(), ask(&format!("/{}", "p".repeat(12_000)), message(b"")), refused_anyhow));
    rows.push(("a question after the path".into(), ask(&format!("{INFO}?x=1"), message(b"")), answered));
    rows.push(("two messages where one is expected".into(), ask(INFO, message(b"").repeat(2)), answered));
    rows.push(("no message".into(), ask(INFO, Vec::new()), refused));
    // What is not known is no matter, however much of it there is.
    let unknown = [0x9a, 0x06, 0x64].into_iter().chain([b'x'; 100]).collect::<Vec<u8>>().repeat(10_000);
    rows.push(("a mebibyte of unknown fields".into(), ask(INFO, message(&unknown)), ok));
    let nothing =
        v1::RunStepRequest { component: "probe".into(), input: b"{\"acts\":[]}".to_vec(), ..Default::default() };
    let padded = [nothing.encode_to_vec(), unknown].concat();
    rows.push(("a step with unknown fields".into(), ask("/palisade.v1.Steps/RunStep", message(&padded)), ok));
    hold(&mut siege, rows).await;
    siege.lift(0).await;
}
