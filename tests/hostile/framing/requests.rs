//! Requests: bodies that are not what they say, and every cap.

use super::{
    super::{
        ask::{Answered, Ask, Options},
        rig::{Rig, RigSetup, Why},
        scene::{GOOD, Scene},
        table::{Row, hold},
    },
    clear,
};
use crate::harness::upstream::{Piece, Reply};

const CUT: &[Why] = &[Why::Body, Why::Header, Why::Request];

#[tokio::test]
async fn a_body_is_a_body_whatever_is_in_it() {
    let scene = Scene::new().await;
    let rig = scene.rig(scene.rule("name", GOOD, "") + &scene.clear_rule("clear", GOOD, "")).await;
    let mut rows = Vec::new();
    for (over, base) in [
        ("tls", Ask::new("POST", "https", &scene.at(GOOD), "/")),
        ("clear", Ask { method: "POST".into(), ..clear(&scene, "/") }),
    ] {
        let typed = base.header("content-type", "application/octet-stream");
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: evil.test\r\n\r\n";
        let controls = [
            ("nothing", typed.clone().body("")),
            ("one byte", typed.clone().body("x")),
            ("a request", typed.clone().body(smuggled)),
            ("the end of chunks and a request", typed.clone().body(format!("0\r\n\r\n{smuggled}"))),
            ("chunks", typed.clone().body("5\r\nhello\r\n0\r\n\r\n")),
            ("chunk syntax over two writes", typed.clone().body("\r\n0\r").body(format!("\n\r\n{smuggled}"))),
            ("an extension", typed.clone().body(format!("1;a=\r\n\r\n{smuggled}"))),
            ("many writes", (0..50).fold(typed.clone(), |ask, n| ask.body(format!("{n},")))),
            ("with its length", typed.clone().header("content-length", smuggled.len().to_string()).body(smuggled)),
            ("every byte", typed.clone().body((0..=255).collect::<Vec<u8>>())),
            ("a frame", typed.clone().body(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec())),
        ];
        rows.extend(controls.into_iter().map(|(name, ask)| Row::control(format!("{over}: {name}"), ask)));
        // The head may have left: the upstream never sees the end, nor anything behind it.
        let cuts = [
            ("less than its length", typed.clone().header("content-length", "100").body("hello")),
            ("more than its length", typed.clone().header("content-length", "5").body(format!("hello{smuggled}"))),
            ("given up", typed.clone().body("hello").options(Options { drop: Some("request"), ..Options::default() })),
            (
                "given up with a length",
                typed
                    .clone()
                    .header("content-length", "10")
                    .body("hello")
                    .options(Options { drop: Some("request"), ..Options::default() }),
            ),
        ];
        rows.extend(cuts.into_iter().map(|(name, ask)| {
            Row::cut(format!("{over}: {name}"), ask, CUT).and(|_, seen| {
                match seen.iter().any(|seen| seen.complete && seen.body != b"hello") {
                    true => Err("it was sent to another end".into()),
                    false => Ok(()),
                }
            })
        }));
        // Five bytes are the whole of it; what comes later is nobody's.
        let more = typed.clone().header("content-length", "5").body("hello").body(smuggled);
        rows.push(Row::once(format!("{over}: more, in another write"), more).and(|_, seen| {
            let other = seen.iter().find(|seen| seen.complete && seen.body != b"hello");
            other.map_or(Ok(()), |seen| Err(format!("{seen:?}")))
        }));
        rows.push(Row::control(format!("{over}: afterwards"), typed.body("whole")));
    }
    hold(&scene, &rig, rows).await;
}

#[tokio::test]
async fn a_request_is_no_larger_than_its_rule_says() {
    let scene = Scene::new().await;
    let rules = scene.clear_rule("clear", GOOD, "request_bytes = 100000\npaths = [\"/large\"]")
        + &scene.clear_rule("typed", GOOD, "request_types = [\"application/json\", \"text/*\"]\npaths = [\"/typed\"]")
        + &scene.clear_rule("plain", GOOD, "paths = [\"/\"]");
    let rig = scene.rig(rules).await;
    let large = Ask { method: "POST".into(), ..clear(&scene, "/large").header("content-type", "text/plain") };
    let typed =
        |kind: &str| Ask { method: "POST".into(), ..clear(&scene, "/typed") }.header("content-type", kind).body("{}");
    let fields = |count: usize| (0..count).fold(clear(&scene, "/"), |ask, n| ask.header(&format!("x-{n}"), "v"));
    let too_large = &[Why::RequestTooLarge];
    let untyped = Ask { method: "POST".into(), ..clear(&scene, "/typed") }.body("{}");
    let rows = vec![
        Row::control("all of it", large.clone().fill(100_000)),
        Row::control("all of it, with its length", large.clone().header("content-length", "100000").fill(100_000)),
        Row::refused(
            "one more, with its length",
            large.clone().header("content-length", "100001").fill(100_001),
            too_large,
        ),
        Row::cut("one more", large.clone().fill(100_001), too_large).and(|_, seen| {
            match seen.iter().any(|seen| seen.complete) {
                true => Err("it was sent to its end".into()),
                false => Ok(()),
            }
        }),
        Row::cut("many more", large.clone().fill(4_000_000), too_large).and(|_, seen| {
            match seen.first().map(|seen| seen.body.len()) {
                Some(length) if length > 100_000 => Err(format!("{length} bytes were sent")),
                _ => Ok(()),
            }
        }),
        Row::refused(
            "a length beyond all",
            large.clone().header("content-length", "18446744073709551615").body("x"),
            &[Why::RequestTooLarge, Why::Header, Why::Body],
        ),
        Row::control("a listed type", typed("application/json")),
        Row::control("a listed type with a parameter", typed("Application/JSON; charset=utf-8")),
        Row::control("a listed kind", typed("text/csv")),
        Row::refused("another type", typed("application/xml"), &[Why::Rule]),
        Row::refused("a longer type", typed("application/json-seq"), &[Why::Rule]),
        Row::refused("no type that is one", typed("json"), &[Why::Rule, Why::Request]),
        Row::refused(
            "two types",
            typed("application/json").header("content-type", "application/xml"),
            &[Why::Rule, Why::Header],
        ),
        Row::refused("a list of types", typed("application/json, application/xml"), &[Why::Rule, Why::Request]),
        Row::refused("no type", untyped, &[Why::Rule]),
        Row::control("many headers", fields(90)),
        Row::refused("too many headers", fields(101), &[Why::Header, Why::RequestTooLarge]),
        Row::refused("very many headers", fields(1000), &[Why::Header, Why::RequestTooLarge]),
        Row::control("a long header", clear(&scene, "/").header("x-long", "a".repeat(8000))),
        Row::refused(
            "a header that is too long",
            clear(&scene, "/").header("x-long", "a".repeat(40_000)),
            &[Why::Header, Why::RequestTooLarge],
        ),
        Row::refused(
            "a name that is too long",
            clear(&scene, "/").header(&"a".repeat(40_000), "v"),
            &[Why::Header, Why::RequestTooLarge],
        ),
    ];
    hold(&scene, &rig, rows).await;
}

#[tokio::test]
async fn a_request_leaves_and_comes_back_only_within_its_budget() {
    let scene = Scene::new().await;
    let rules = scene.clear_rule("clear", GOOD, "");
    let bounded = async |budget: &str| {
        let extra = format!("[budgets.step]\n{budget}\n");
        Rig::new(RigSetup { extra, ..scene.setup(rules.clone()) }).await
    };
    let budget = &[Why::Budget];
    let rig = bounded("host_calls = { default = 3, max = 3 }").await;
    let evil = Ask::new("GET", "http", &scene.clear_at("evil.test"), "/");
    let rows = vec![
        Row::control("the first call", clear(&scene, "/")),
        Row::refused("a call that is refused counts", evil, &[Why::Rule]),
        Row::control("the third call", clear(&scene, "/")),
        Row::refused("the fourth call", clear(&scene, "/"), budget),
        Row::refused("the fifth call", clear(&scene, "/"), budget),
    ];
    hold(&scene, &rig, rows).await;
    let rig = bounded("bytes_in = { default = 100_000, max = 100_000 }").await;
    let large = |length: usize| move |_: &_| Reply::status(200).body(vec![Piece::Bytes(vec![b'x'; length])]);
    scene.plain.on("/some", large(50_000));
    scene.plain.on("/more", large(200_000));
    let told = |row: Row| {
        row.and(|it, _| match it {
            Answered::Ok(response) if response.length > 100_000 => Err(format!("{} bytes came", response.length)),
            _ => Ok(()),
        })
    };
    let rows = vec![
        Row::control("a response within", clear(&scene, "/some")),
        told(Row::cut("a response beyond", clear(&scene, "/more"), budget)),
        told(Row::cut("the next", clear(&scene, "/more"), budget)),
    ];
    hold(&scene, &rig, rows).await;
    let rig = bounded("bytes_out = { default = 100_000, max = 100_000 }").await;
    let post =
        |length| Ask { method: "POST".into(), ..clear(&scene, "/") }.header("content-type", "text/plain").fill(length);
    let rows = vec![
        Row::control("a body within", post(50_000)),
        Row::cut("a body beyond", post(200_000), budget).and(|_, seen| {
            match seen.iter().any(|seen| seen.complete || seen.body.len() > 100_000) {
                true => Err("it was sent".into()),
                false => Ok(()),
            }
        }),
    ];
    hold(&scene, &rig, rows).await;
    let rig = bounded("bytes_out = { default = 100_000, max = 100_000 }").await;
    let rows = vec![
        Row::control("most of it", post(95_000)),
        Row::refused("a line that is longer than the rest", clear(&scene, &format!("/{}", "a".repeat(8000))), budget),
        Row::control("a short line", clear(&scene, "/")),
    ];
    hold(&scene, &rig, rows).await;
}
