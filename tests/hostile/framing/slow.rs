//! Upstreams that take their time, and what a named limit makes of it.

use std::time::{Duration, Instant};

use super::{
    super::{
        rig::Why,
        scene::{GOOD, Scene},
        table::{Row, hold_at_once},
    },
    clear,
};
use crate::harness::upstream::{Piece, Reply};

#[tokio::test]
async fn a_slow_upstream_ends_in_a_limit_that_is_named() {
    let scene = Scene::new().await;
    let timeouts = "timeouts = { connect_ms = 1000, first_byte_ms = 600, idle_ms = 600, total_ms = 2000 }";
    let rig = scene.rig(scene.clear_rule("clear", GOOD, timeouts) + &scene.rule("name", GOOD, timeouts)).await;
    let head = || Piece::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n".to_vec());
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
    let early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n".to_vec();
    let often = Duration::from_millis(50);
    let cases: Vec<(&str, &str, Vec<Piece>)> = vec![
        ("nothing at all", "first_byte_ms", vec![Piece::Hang]),
        ("half a head", "first_byte_ms", vec![Piece::Bytes(b"HTTP/1.1 200 OK\r\nx-a: ".to_vec()), Piece::Hang]),
        (
            "a head that drips",
            "first_byte_ms",
            vec![Piece::Drip([b"HTTP/1.1 200 OK\r\nx-a: ", &[b'a'; 200][..]].concat(), often)],
        ),
        ("interim answers for ever", "first_byte_ms", vec![Piece::Forever(interim.clone())]),
        ("hints for ever", "first_byte_ms", vec![Piece::Forever(early)]),
        (
            "interim answers that drip",
            "first_byte_ms",
            vec![Piece::Drip(interim.repeat(20), Duration::from_millis(20))],
        ),
        ("no body", "idle_ms", vec![head(), Piece::Hang]),
        ("half a body", "idle_ms", vec![head(), Piece::Bytes(b"hello".to_vec()), Piece::Hang]),
        ("a body that drips", "total_ms", vec![head(), Piece::Drip(vec![b'a'; 100], often)]),
        (
            "half a chunk",
            "idle_ms",
            vec![Piece::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe".to_vec()), Piece::Hang],
        ),
        (
            "a chunk's size that drips",
            "",
            vec![
                Piece::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
                Piece::Drip(vec![b'0'; 200], often),
            ],
        ),
        (
            "no end of chunks",
            "idle_ms",
            vec![
                Piece::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec()),
                Piece::Hang,
            ],
        ),
        (
            "trailers that drip",
            "",
            vec![
                Piece::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n".to_vec()),
                Piece::Drip(b"x-a: b\r\n".repeat(20), often),
            ],
        ),
    ];
    scene.plain.on("/prompt", |_| {
        Reply::status(200)
            .body(vec![Piece::Bytes(b"a".to_vec()), Piece::Drip(vec![b'b'; 10], Duration::from_millis(20))])
    });
    scene.plain.on("/interim", |_| Reply::raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
    let mut rows = vec![
        Row::control("in time", clear(&scene, "/prompt")),
        Row::control("after two interim answers", clear(&scene, "/interim")),
    ];
    let timeout = &[Why::Timeout, Why::ResponseTooLarge, Why::Protocol];
    for (index, (name, limit, pieces)) in cases.into_iter().enumerate() {
        let path = format!("/slow/{index}");
        scene.plain.on(&path, move |_| Reply::Raw(pieces.clone()));
        let row = Row::cut(name, clear(&scene, &path), timeout);
        rows.push(row.and(move |it, _| {
            let reason = it.failure().and_then(|failure| failure.why.clone());
            match reason {
                // A storm may also end in a limit of bytes; a silence may not.
                Some(reason) if reason.code != "HTTP_TIMEOUT" || reason.message.contains(limit) => Ok(()),
                other => Err(format!("it does not name `{limit}`: {other:?}")),
            }
        }));
    }
    for (path, limit, body) in [
        ("/hang", "idle_ms", vec![Piece::Bytes(b"a".to_vec()), Piece::Hang]),
        ("/drip", "total_ms", vec![Piece::Drip(vec![b'a'; 100], often)]),
    ] {
        scene.tls.on(path, move |_| Reply::status(200).body(body.clone()));
        let ask = super::super::ask::Ask::new("GET", "https", &scene.at(GOOD), path);
        rows.push(Row::cut(format!("h2: {path}"), ask, &[Why::Timeout]).and(move |it, _| {
            let said = it.failure().and_then(|failure| failure.why.clone()).map(|why| why.message).unwrap_or_default();
            said.contains(limit).then_some(()).ok_or(said)
        }));
    }
    let (count, began) = (rows.len(), Instant::now());
    hold_at_once(&scene, &rig, rows).await;
    // Each takes its limit and not much more, however busy this machine is.
    assert!(began.elapsed() < Duration::from_secs(4) * count as u32, "{:?} for {count}", began.elapsed());
}

#[tokio::test]
async fn a_guest_cannot_ask_for_more_patience_than_its_rule_has() {
    let scene = Scene::new().await;
    let rig = scene
        .rig(scene.clear_rule("clear", GOOD, "timeouts = { first_byte_ms = 600, idle_ms = 600, total_ms = 2000 }"))
        .await;
    scene.plain.on("/hang", |_| Reply::Raw(vec![Piece::Hang]));
    let patient = |ms: u64| super::super::ask::Options {
        connect_timeout_ms: Some(ms),
        first_byte_timeout_ms: Some(ms),
        between_bytes_timeout_ms: Some(ms),
        ..Default::default()
    };
    let timeout = &[Why::Timeout];
    let rows = vec![
        Row::control("patient and in time", clear(&scene, "/").options(patient(600_000))),
        Row::cut("patient", clear(&scene, "/hang").options(patient(600_000)), timeout),
        Row::cut("endlessly patient", clear(&scene, "/hang").options(patient(u64::MAX / 2_000_000)), timeout),
        Row::cut("impatient", clear(&scene, "/hang").options(patient(50)), timeout),
        Row::either("without any patience", clear(&scene, "/hang").options(patient(0))),
    ];
    hold_at_once(&scene, &rig, rows).await;
}
