//! Responses: malformed, ambiguous, or larger than they may be.

use super::{
    super::{
        ask::Ask,
        rig::Why,
        scene::{GOOD, Scene},
        table::{Row, hold},
    },
    clear,
};
use crate::harness::upstream::{Piece, Reply};

const BAD: &[Why] = &[Why::Protocol, Why::Response];
const LARGE: &[Why] = &[Why::ResponseTooLarge, Why::Response, Why::Protocol];
const LONG: &[Why] = &[Why::ResponseTooLarge, Why::Response, Why::Protocol, Why::Timeout];

/// Rules for the good upstream: small and impatient.
fn rules(scene: &Scene, more: &str) -> String {
    let limits = "response_bytes = 100000\ntimeouts = { first_byte_ms = 2000, idle_ms = 2000, total_ms = 8000 }\n";
    scene.rule("name", GOOD, &format!("{limits}{more}")) + &scene.clear_rule("clear", GOOD, &format!("{limits}{more}"))
}

#[tokio::test]
async fn a_response_that_can_be_read_in_two_ways_is_not_read() {
    let scene = Scene::new().await;
    let rig = scene.rig(rules(&scene, "")).await;
    let ok = "HTTP/1.1 200 OK\r\n";
    let bad = [
        ("two lengths", format!("{ok}content-length: 5\r\ncontent-length: 6\r\n\r\nhello!")),
        ("a list of lengths", format!("{ok}content-length: 5, 6\r\n\r\nhello!")),
        ("a negative length", format!("{ok}content-length: -5\r\n\r\nhello")),
        ("a signed length", format!("{ok}content-length: +5\r\n\r\nhello")),
        ("a hexadecimal length", format!("{ok}content-length: 0x5\r\n\r\nhello")),
        ("an empty length", format!("{ok}content-length: \r\n\r\nhello")),
        ("a length beyond 64 bits", format!("{ok}content-length: 18446744073709551621\r\n\r\nhello")),
        ("a length with a fraction", format!("{ok}content-length: 5.0\r\n\r\nhello")),
        (
            "chunks that are not the last encoding",
            format!("{ok}transfer-encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        ("a chunk size that is no number", format!("{ok}transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n")),
        ("a negative chunk", format!("{ok}transfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n")),
        ("a prefixed chunk", format!("{ok}transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n")),
        (
            "a chunk beyond 64 bits",
            format!("{ok}transfer-encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "a chunk that is longer than it says",
            format!("{ok}transfer-encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n"),
        ),
        ("a chunk that is shorter", format!("{ok}transfer-encoding: chunked\r\n\r\n9\r\nhello\r\n0\r\n\r\n")),
        ("chunks without an end", format!("{ok}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")),
        ("less than its length", format!("{ok}content-length: 50\r\n\r\nhello")),
        ("a head without an end", format!("{ok}content-length: 5\r\n")),
        ("nothing", String::new()),
        ("half a line", "HTTP/1".into()),
        ("garbage", "\u{0}\u{1}\u{2}garbage\r\n\r\n".into()),
        ("another protocol", "SSH-2.0-OpenSSH_9.9\r\n".into()),
        ("a mail server", "220 mail.test ESMTP\r\n".into()),
        ("HTTP/0.9", "hello".into()),
        ("HTTP/2 in words", "HTTP/2.0 200 OK\r\ncontent-length: 5\r\n\r\nhello".into()),
        ("HTTP/1.9", "HTTP/1.9 200 OK\r\ncontent-length: 5\r\n\r\nhello".into()),
        ("a status of two digits", "HTTP/1.1 20 OK\r\ncontent-length: 5\r\n\r\nhello".into()),
        ("a status of four digits", "HTTP/1.1 2000 OK\r\ncontent-length: 5\r\n\r\nhello".into()),
        ("a status in words", "HTTP/1.1 abc OK\r\ncontent-length: 5\r\n\r\nhello".into()),
        ("a status of zero", "HTTP/1.1 000 OK\r\ncontent-length: 5\r\n\r\nhello".into()),
        ("a header without a colon", format!("{ok}oops\r\ncontent-length: 5\r\n\r\nhello")),
        ("a header without a name", format!("{ok}: oops\r\ncontent-length: 5\r\n\r\nhello")),
        ("a space before the colon", format!("{ok}content-length : 5\r\n\r\nhello")),
        ("a NUL in a value", format!("{ok}x-a: a\0b\r\ncontent-length: 5\r\n\r\nhello")),
        ("a NUL in a name", format!("{ok}x\0a: b\r\ncontent-length: 5\r\n\r\nhello")),
        ("a carriage return in a value", format!("{ok}x-a: a\rb\r\ncontent-length: 5\r\n\r\nhello")),
        (
            "switching protocols",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n".into(),
        ),
        ("switching protocols, unsaid", "HTTP/1.1 101 Switching Protocols\r\n\r\nhello".into()),
    ];
    let mut rows = vec![Row::control("a good one", clear(&scene, "/"))];
    let ask = |path: &str| clear(&scene, path);
    for (index, (name, bytes)) in bad.into_iter().enumerate() {
        let path = format!("/bad/{index}");
        scene.plain.on(&path, move |_| Reply::raw(bytes.clone()));
        rows.push(Row::cut(name, ask(&path), BAD));
    }
    // Servers say these, and they are read in one way or not at all.
    let odd = [
        ("the same length twice", format!("{ok}content-length: 5\r\ncontent-length: 5\r\n\r\nhello")),
        (
            "a length and chunks",
            format!("{ok}content-length: 50\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        ("folded", format!("{ok}x-a: a\r\n b\r\ncontent-length: 5\r\n\r\nhello")),
        ("line feeds alone", "HTTP/1.1 200 OK\ncontent-length: 5\n\nhello".into()),
        ("no reason", "HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello".into()),
        ("until it closes", format!("{ok}\r\nhello")),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhello".into()),
        ("an unknown status", "HTTP/1.1 999 -\r\ncontent-length: 5\r\n\r\nhello".into()),
        ("an unknown encoding", format!("{ok}transfer-encoding: xchunked\r\n\r\nhello")),
        ("chunks twice", format!("{ok}transfer-encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")),
        ("obs-text", format!("{ok}x-a: \u{e9}\r\ncontent-length: 5\r\n\r\nhello")),
    ];
    for (index, (name, bytes)) in odd.into_iter().enumerate() {
        let path = format!("/odd/{index}");
        scene.plain.on(&path, move |_| Reply::raw(bytes.clone()));
        rows.push(Row::either(name, ask(&path)).and(|it, _| match it {
            super::super::ask::Answered::Ok(response) if response.broken.is_none() && response.body != b"hello" => {
                Err(format!("{response:?}"))
            }
            _ => Ok(()),
        }));
    }
    rows.push(Row::control("a good one, afterwards", clear(&scene, "/after")));
    hold(&scene, &rig, rows).await;
}

#[tokio::test]
async fn a_response_is_no_larger_than_its_rule_says() {
    let scene = Scene::new().await;
    let rig = scene.rig(rules(&scene, "")).await;
    let bytes = |count: usize| vec![Piece::Bytes(vec![b'x'; count])];
    let mut rows = Vec::new();
    for (over, upstream, base) in
        [("tls", &scene.tls, Ask::new("GET", "https", &scene.at(GOOD), "")), ("clear", &scene.plain, clear(&scene, ""))]
    {
        let ask = |path: &str| Ask { path_with_query: Some(path.into()), ..base.clone() };
        upstream.on("/all", move |_| Reply::status(200).body(bytes(100_000)));
        upstream.on("/all-chunked", move |_| Reply::status(200).body([bytes(50_000), bytes(50_000)].concat()));
        upstream.on("/one-more", move |_| Reply::status(200).body(bytes(100_001)));
        upstream.on("/one-more-chunked", move |_| Reply::status(200).body([bytes(100_000), bytes(1)].concat()));
        upstream.on("/endless", |_| Reply::status(200).body(vec![Piece::Forever(vec![b'x'; 1000])]));
        upstream.on("/endless-drops", |_| Reply::status(200).body(vec![Piece::Forever(vec![b'x'; 7])]));
        upstream
            .on("/some-headers", |_| (0..60).fold(Reply::text("ok"), |reply, n| reply.header(&format!("x-{n}"), "v")));
        upstream
            .on("/many-headers", |_| (0..150).fold(Reply::text("ok"), |reply, n| reply.header(&format!("x-{n}"), "v")));
        upstream.on("/one-large-header", |_| Reply::text("ok").header("x-large", "v".repeat(70_000)));
        upstream.on("/large-headers", |_| {
            (0..20).fold(Reply::text("ok"), |reply, n| reply.header(&format!("x-{n}"), "v".repeat(5000)))
        });
        upstream.on("/trailers", |_| Reply::text("ok").trailer("x-checksum", "abc"));
        upstream.on("/many-trailers", |_| {
            (0..500).fold(Reply::text("ok"), |reply, n| reply.trailer(&format!("x-{n}"), "v"))
        });
        upstream.on("/large-trailers", |_| Reply::text("ok").trailer("x-large", &"v".repeat(100_000)));
        for path in ["/all", "/all-chunked", "/some-headers", "/trailers"] {
            rows.push(Row::control(format!("{over}: {path}"), ask(path)));
        }
        for path in ["/one-more", "/one-more-chunked", "/endless", "/endless-drops"] {
            rows.push(
                Row::cut(
                    format!("{over}: {path}"),
                    ask(path),
                    if path == "/endless-drops" { LONG } else { &[Why::ResponseTooLarge] },
                )
                .and(|it, _| match it {
                    super::super::ask::Answered::Ok(response) if response.length > 100_000 => {
                        Err(format!("{} bytes came", response.length))
                    }
                    _ => Ok(()),
                }),
            );
        }
        for path in ["/many-headers", "/one-large-header", "/large-headers", "/many-trailers", "/large-trailers"] {
            rows.push(Row::cut(format!("{over}: {path}"), ask(path), LARGE));
        }
        rows.push(Row::control(format!("{over}: afterwards"), ask("/after")));
    }
    let clear_only: [(&str, Vec<Piece>); 10] = [
        (
            "an endless header",
            vec![Piece::Bytes(b"HTTP/1.1 200 OK\r\nx-a: ".to_vec()), Piece::Forever(vec![b'a'; 1000])],
        ),
        ("an endless name", vec![Piece::Bytes(b"HTTP/1.1 200 OK\r\n".to_vec()), Piece::Forever(vec![b'a'; 1000])]),
        (
            "endless headers",
            vec![Piece::Bytes(b"HTTP/1.1 200 OK\r\n".to_vec()), Piece::Forever(b"x-a: b\r\n".repeat(100))],
        ),
        ("an endless reason", vec![Piece::Bytes(b"HTTP/1.1 200 ".to_vec()), Piece::Forever(vec![b'a'; 1000])]),
        ("endless line ends", vec![Piece::Forever(b"\r\n".repeat(500))]),
        (
            "endless bytes until it closes",
            vec![Piece::Bytes(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), Piece::Forever(vec![b'a'; 1000])],
        ),
        (
            "an endless extension",
            vec![
                Piece::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;".to_vec()),
                Piece::Forever(vec![b'a'; 1000]),
            ],
        ),
        (
            "endless extensions",
            vec![
                Piece::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
                Piece::Forever([b"1;", &[b'a'; 5000][..], b"\r\nx\r\n"].concat()),
            ],
        ),
        (
            "endless zeros of a chunk's size",
            vec![
                Piece::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
                Piece::Forever(vec![b'0'; 1000]),
            ],
        ),
        (
            "endless trailers",
            vec![
                Piece::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n".to_vec()),
                Piece::Forever(b"x-a: b\r\n".repeat(100)),
            ],
        ),
    ];
    for (index, (name, pieces)) in clear_only.into_iter().enumerate() {
        let path = format!("/raw/{index}");
        scene.plain.on(&path, move |_| Reply::Raw(pieces.clone()));
        rows.push(Row::cut(name, clear(&scene, &path), LONG));
    }
    scene.plain.on("/says-more", |_| {
        Reply::Raw(vec![Piece::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 17179869184\r\n\r\nx".to_vec()), Piece::Hang])
    });
    rows.push(Row::cut("a length beyond the limit", clear(&scene, "/says-more"), &[Why::ResponseTooLarge]));
    rows.push(Row::control("at the end", clear(&scene, "/after")));
    hold(&scene, &rig, rows).await;
}

#[tokio::test]
async fn a_response_is_of_a_listed_type_and_never_unpacked() {
    let scene = Scene::new().await;
    let rig = scene.rig(rules(&scene, "response_types = [\"application/json\", \"text/*\"]")).await;
    let typed = |kind: &'static str| {
        move |_: &_| Reply::status(200).header("content-type", kind).body(vec![Piece::Bytes(b"body".to_vec())])
    };
    scene.plain.on("/json", typed("application/json; charset=utf-8"));
    scene.plain.on("/html", typed("text/html"));
    scene.plain.on("/xml", typed("application/xml"));
    scene.plain.on("/seq", typed("application/json-seq"));
    scene.plain.on("/none", |_| Reply::status(200).body(vec![Piece::Bytes(b"body".to_vec())]));
    scene.plain.on("/two", |_| Reply::text("body").header("content-type", "application/xml"));
    scene.plain.on("/empty", |_| Reply::status(204));
    // 10 MB when it is unpacked, 10 kB here.
    let bomb = bomb(10_000_000);
    assert!(bomb.len() < 100_000);
    let packed = bomb.clone();
    scene.plain.on("/bomb", move |_| Reply::text(packed.clone()).header("content-encoding", "gzip"));
    let hops = "HTTP/1.1 200 OK\r\nconnection: close, x-hop\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\nproxy-authenticate: x\r\nupgrade: h2c\r\nvia: 1.1 x\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
    scene.plain.on("/hops", move |_| Reply::raw(hops));
    let refused = &[Why::Response];
    let rows = vec![
        Row::control("a listed type", clear(&scene, "/json")),
        Row::control("a listed kind", clear(&scene, "/html")),
        Row::cut("another type", clear(&scene, "/xml"), refused),
        Row::cut("a longer type", clear(&scene, "/seq"), refused),
        Row::cut("no type", clear(&scene, "/none"), refused),
        Row::cut("two types", clear(&scene, "/two"), refused),
        Row::answered("no body", clear(&scene, "/empty"), 204),
        Row::control("packed", clear(&scene, "/bomb").header("accept-encoding", "gzip")).and(move |it, _| {
            let same = it.response().body == bomb && it.response().values("content-encoding") == ["gzip"];
            same.then_some(()).ok_or_else(|| format!("{:?}", it.response().headers))
        }),
        Row::control("hop-by-hop headers", clear(&scene, "/hops")).and(|it, _| {
            let hops = ["connection", "keep-alive", "x-hop", "proxy-authenticate", "upgrade", "transfer-encoding"];
            let told: Vec<_> = hops.iter().filter(|name| !it.response().values(name).is_empty()).collect();
            told.is_empty().then_some(()).ok_or_else(|| format!("the guest was told {told:?}"))
        }),
    ];
    hold(&scene, &rig, rows).await;
}

/// Packs so many zeros with gzip: each 13 bits repeat the last byte 258 times.
fn bomb(unpacked: usize) -> Vec<u8> {
    let mut bits = vec![true, true, false];
    let mut code = |code: u32, length: u32| bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    code(0x30, 8);
    for _ in 0..unpacked / 258 {
        code(0xc5, 8);
        code(0, 5);
    }
    code(0, 7);
    let packed =
        bits.chunks(8).map(|bits| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << at));
    // The checksum is wrong, which who never unpacks never learns.
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255].into_iter().chain(packed).chain([0; 8]).collect()
}
