//! HTTP/1.1: what is written.

use http::header::AUTHORIZATION;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use super::{
    world::{Names, OK, Upstream, answer, egress, read_head},
    *,
};
/// An egress with `connections`, and the route to an upstream that runs `script`.
pub async fn world<F, S>(connections: usize, more: &str, script: S) -> (Egress, Route, Upstream)
where
    F: Future<Output = ()> + Send,
    S: Fn(TcpStream, usize) -> F + Clone + Send + 'static,
{
    let (names, upstream) = (Names::start().await, Upstream::start("127.0.0.2", script).await);
    names.set("api.test", &["127.0.0.2"]);
    let route = route(upstream.address, "http", "api.test", more);
    (egress(&names, None, connections), route, upstream)
}

/// Answers one request with these bytes, and closes.
pub async fn once(mut stream: TcpStream, response: Vec<u8>) {
    read_head(&mut stream).await;
    let _ = stream.write_all(&response).await;
    let _ = stream.shutdown().await;
    // Else what was not read would reset what was written.
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

/// Takes one request, says nothing, and returns what came when the other side is done.
pub async fn listen(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8(all).unwrap()
}

/// An upstream that sends what it received once the other side is done.
pub async fn recorded(more: &str) -> (Egress, Route, mpsc::Receiver<String>) {
    let (sender, received) = mpsc::channel(8);
    let script = move |stream, _| {
        let sender = sender.clone();
        async move { drop(sender.send(listen(stream).await).await) }
    };
    let (egress, route, _) = world(4, more, script).await;
    (egress, route, received)
}

#[tokio::test]
async fn a_request_is_written_with_what_the_credential_adds() {
    let (egress, route, mut received) = recorded("timeouts = { first_byte_ms = 100 }").await;
    let request = request(&route, "GET", "/a%20b?q=1", &[("accept", "*/*"), ("authorization", "mine")], false);
    let mut outgoing = outgoing(&route, request, nothing());
    outgoing.attachment.headers = vec![(AUTHORIZATION, HeaderValue::from_static("Bearer s3cret"))];
    outgoing.attachment.query = Some("key=k".into());
    let error = failure(&egress, outgoing).await;
    assert_eq!((error.code, error.sent), (Code::HttpTimeout, true));
    assert!(!error.message.contains("s3cret") && !error.message.contains("key="), "{error}");
    let text = received.recv().await.unwrap();
    let (line, headers) = text.split_once("\r\n").unwrap();
    assert_eq!(line, "GET /a%20b?q=1&key=k HTTP/1.1");
    let mut headers: Vec<&str> = headers.trim_end().split("\r\n").collect();
    assert!(headers.remove(0).starts_with("host: api.test:"), "{text}");
    assert_eq!(headers, ["accept: */*", "authorization: Bearer s3cret"]);
}

#[tokio::test]
async fn a_body_goes_out_with_its_length_or_in_chunks() {
    let (egress, route, mut received) = recorded("timeouts = { first_byte_ms = 100 }").await;
    let (declared, declared_body) = frames();
    // Whoever sends all that was declared need not say that it was all.
    declared.send(data("hello")).await.unwrap();
    let cases: [(&str, Fields, RequestBody, &str); 5] = [
        ("POST", &[("content-length", "5")], declared_body, "content-length: 5\r\n\r\nhello"),
        ("POST", &[("content-length", "5")], bytes("hello"), "content-length: 5\r\n\r\nhello"),
        ("POST", &[], bytes("hello"), "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("GET", &[], bytes("hello"), "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("POST", &[], nothing(), "content-length: 0\r\n\r\n"),
    ];
    for (method, headers, body, end) in cases {
        let request = request(&route, method, "/", headers, !body.is_end_stream());
        let error = failure(&egress, outgoing(&route, request, body)).await;
        assert!(error.message.contains("first_byte_ms"), "{error}");
        let text = received.recv().await.unwrap();
        assert!(text.ends_with(end), "{text}");
        assert_eq!(text.matches("content-length").count() + text.matches("transfer-encoding").count(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_never_looks_whole() {
    let (egress, route, mut received) = recorded("request_bytes = 8").await;
    let broken = || Err(BodyError("the guest left".into()));
    let trailers =
        || Ok(Frame::trailers([(http::HeaderName::from_static("x-sum"), "1".parse().unwrap())].into_iter().collect()));
    let cases: [(Fields, Frames, Code, &str); 7] = [
        (&[], vec![data("abc"), broken()], Code::BodyBroken, "the guest left"),
        (&[("content-length", "5")], vec![data("abc"), broken()], Code::BodyBroken, "the guest left"),
        (&[("content-length", "5")], vec![data("abc")], Code::BodyBroken, "ended after 3 bytes"),
        (
            &[("content-length", "5")],
            vec![data("abc"), data("def")],
            Code::BodyBroken,
            "longer than its content-length of 5",
        ),
        (&[], vec![data("abcdef"), data("ghi")], Code::RequestTooLarge, "`request_bytes` of 8"),
        (&[], vec![data("abc"), trailers()], Code::BodyBroken, "HTTP/1.1"),
        (&[], vec![broken()], Code::BodyBroken, "the guest left"),
    ];
    for (headers, frames_to_send, code, words) in cases {
        let (sender, body) = frames();
        let request = request(&route, "POST", "/", headers, true);
        let sending = async {
            for frame in frames_to_send {
                if sender.send(frame).await.is_err() {
                    break;
                }
            }
            drop(sender);
        };
        let (error, ()) = tokio::join!(failure(&egress, outgoing(&route, request, body)), sending);
        assert_eq!((error.code, error.sent), (code, true), "{error}");
        assert!(error.message.contains(words), "{error}");
        let text = received.recv().await.unwrap();
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        assert!(!body.ends_with("0\r\n\r\n") && !body.ends_with("def") && !body.ends_with("ghi\r\n"), "{text}");
    }
}

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_refused_before_anything_is_dialled() {
    let (egress, route, upstream) = world(4, "request_bytes = 8", |stream, _| answer(stream, OK)).await;
    let request = request(&route, "POST", "/", &[("content-length", "9")], true);
    let error = failure(&egress, outgoing(&route, request, bytes("123456789"))).await;
    assert_eq!((error.code, error.sent, upstream.accepted()), (Code::RequestTooLarge, false, 0));
}

#[tokio::test]
async fn a_request_whose_body_stops_moving_ends_in_the_idle_limit() {
    let (egress, route, mut received) = recorded("timeouts = { idle_ms = 60 }").await;
    let (sender, body) = frames();
    sender.send(data("abc")).await.unwrap();
    let request = request(&route, "POST", "/", &[], true);
    let error = failure(&egress, outgoing(&route, request, body)).await;
    assert!(error.code == Code::HttpTimeout && error.message.contains("`timeouts.idle_ms` of 60"), "{error}");
    assert!(received.recv().await.unwrap().ends_with("3\r\nabc\r\n"));
    assert!(sender.is_closed());
}

#[tokio::test]
async fn an_answer_before_the_request_is_whole_ends_the_request() {
    let (closed, was_closed) = oneshot::channel();
    let closed = Arc::new(std::sync::Mutex::new(Some(closed)));
    let (egress, route, _upstream) = world(1, "", move |mut stream, _| {
        let closed = closed.lock().unwrap().take().unwrap();
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
            let _ = closed.send(listen(stream).await);
        }
    })
    .await;
    let (sender, body) = frames();
    let request = request(&route, "POST", "/", &[], true);
    let reply = egress.send(outgoing(&route, request, body)).await.unwrap();
    assert_eq!((reply.status, whole(reply).await.unwrap()), (413, b"no".to_vec()));
    sender.closed().await;
    assert!(!was_closed.await.unwrap().ends_with("0\r\n\r\n"));
}
