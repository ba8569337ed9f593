//! HTTP/1.1: what is taken of an upstream, and for how long.

use tokio::io::AsyncWriteExt;

use super::{
    http1::{once, world},
    world::{answer, read_head},
    *,
};

#[tokio::test]
async fn responses_that_can_be_read_in_two_ways_are_refused() {
    let cases: [(&[u8], Code); 16] = [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi!", Code::HttpProtocol),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi", Code::ResponseRefused),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nhi!", Code::HttpProtocol),
        (b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nhi", Code::HttpProtocol),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            Code::ResponseRefused,
        ),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhi", Code::ResponseRefused),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\nhi", Code::ResponseRefused),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhi\r\n0\r\n\r\n", Code::HttpProtocol),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff0\r\nhi\r\n", Code::HttpProtocol),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n", Code::HttpProtocol),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi", Code::HttpProtocol),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Code::ResponseRefused),
        (b"HTTP/1.1 200 OK\r\nx: 1\r\n 2\r\n\r\n", Code::HttpProtocol),
        (b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n", Code::HttpProtocol),
        (b"hello", Code::HttpProtocol),
        (b"", Code::HttpProtocol),
    ];
    for (response, code) in cases {
        let (egress, route, _upstream) = world(4, "", move |stream, _| once(stream, response.into())).await;
        let error = failure(&egress, get(&route)).await;
        assert_eq!((error.code, error.sent), (code, true), "{}: {error}", String::from_utf8_lossy(response));
    }
}

#[tokio::test]
async fn responses_that_are_too_large_end_in_their_limit() {
    let fields: String = (0..101).map(|number| format!("x{number}: y\r\n")).collect();
    let long = "y".repeat(70_000);
    let cases: [(String, &str); 6] = [
        ("content-length: 9\r\n\r\n123456789".into(), "`response_bytes` of 8"),
        ("transfer-encoding: chunked\r\n\r\n5\r\n12345\r\n4\r\n6789\r\n0\r\n\r\n".into(), "`response_bytes` of 8"),
        ("\r\n123456789".into(), "`response_bytes` of 8"),
        (format!("{fields}\r\n"), "100 fields"),
        (format!("x: {long}\r\n\r\n"), "65536 bytes"),
        (format!("{}\r\n\r\n", format!("x: {}\r\n", "y".repeat(800)).repeat(99)), "65536 bytes"),
    ];
    for (rest, words) in cases {
        let response = format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes();
        let (egress, route, _upstream) =
            world(4, "response_bytes = 8", move |stream, _| once(stream, response.clone())).await;
        let error = failure(&egress, get(&route)).await;
        assert_eq!(error.code, Code::ResponseTooLarge, "{error}");
        assert!(error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_response_without_a_body_may_say_how_long_one_would_be() {
    let (egress, route, _upstream) = world(4, "response_bytes = 8\nresponse_types = [\"a/b\"]", |stream, _| {
        answer(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    })
    .await;
    for reused in [false, true] {
        let request = request(&route, "HEAD", "/", &[], false);
        let reply = egress.send(outgoing(&route, request, nothing())).await.unwrap();
        assert_eq!((reply.reused, reply.headers["content-length"].as_bytes()), (reused, b"1000".as_slice()));
        assert!(whole(reply).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn floods_without_a_response_end_in_a_limit() {
    let cases: [(&str, &str); 3] = [
        ("", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nx: ", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", "x: y\r\n"),
    ];
    for (begin, flood) in cases {
        let (egress, route, _upstream) = world(4, "", move |mut stream, _| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(begin.as_bytes()).await;
            let flood = flood.repeat(200);
            while stream.write_all(flood.as_bytes()).await.is_ok() {}
        })
        .await;
        let error = failure(&egress, get(&route)).await;
        let trailers = begin.contains("chunked");
        assert!(error.code == Code::ResponseTooLarge || trailers && error.code == Code::HttpProtocol, "{error}");
    }
}

#[tokio::test]
async fn a_type_that_is_not_listed_is_refused_with_a_body_only() {
    let types = "response_types = [\"application/json\"]";
    let cases = [
        ("content-type: application/json; charset=x\r\ncontent-length: 2\r\n\r\n{}", None),
        ("content-type: text/html\r\ncontent-length: 2\r\n\r\nhi", Some(Code::ResponseRefused)),
        ("content-length: 2\r\n\r\nhi", Some(Code::ResponseRefused)),
        ("content-type: text/html\r\ncontent-length: 0\r\n\r\n", None),
    ];
    for (rest, code) in cases {
        let response = format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes();
        let (egress, route, _upstream) = world(4, types, move |stream, _| once(stream, response.clone())).await;
        assert_eq!(egress.send(get(&route)).await.err().map(|error| error.code), code, "{rest}");
    }
}

#[tokio::test]
async fn each_timeout_ends_in_its_name() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
    let cases = [
        ("first_byte_ms = 60", "", "", "`timeouts.first_byte_ms` of 60"),
        ("first_byte_ms = 60", "HTTP/1.1 100 Continue\r\n\r\n", "", "`timeouts.first_byte_ms` of 60"),
        ("total_ms = 400", "", "", "`timeouts.total_ms` of 400"),
        ("idle_ms = 60", head, "", "`timeouts.idle_ms` of 60"),
        // A byte at a time keeps it from being idle.
        ("idle_ms = 100, total_ms = 500", head, "x", "`timeouts.total_ms` of 500"),
    ];
    for (timeouts, begin, drip, words) in cases {
        let more = format!("timeouts = {{ {timeouts} }}");
        let (egress, route, _upstream) = world(4, &more, move |mut stream, _| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(begin.as_bytes()).await;
            let mut beat = tokio::time::interval(Duration::from_millis(10));
            while stream.write_all(drip.as_bytes()).await.is_ok() {
                beat.tick().await;
            }
        })
        .await;
        let error = failure(&egress, get(&route)).await;
        assert_eq!((error.code, error.sent), (Code::HttpTimeout, true), "{error}");
        assert!(error.message.contains(words), "{error}");
    }
}
