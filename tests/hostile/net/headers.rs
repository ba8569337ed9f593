//! NET-07: headers and trailers that a guest may not send.

use super::{
    super::{
        ask::Ask,
        rig::Why,
        scene::{GOOD, Scene},
        table::{Row, hold},
    },
    get,
};

const HEADER: &[Why] = &[Why::Header];

#[tokio::test]
async fn net_07_no_header_injects_frames_or_names_a_hop() {
    let scene = Scene::new().await;
    let rules = scene.rule("name", GOOD, "") + &scene.clear_rule("clear", GOOD, "");
    let rig = scene.rig(rules).await;
    let mut rows = Vec::new();
    // Over both versions of the protocol.
    for (over, base) in
        [("tls", get(&scene, GOOD, "/")), ("clear", Ask::new("GET", "http", &scene.clear_at(GOOD), "/"))]
    {
        let post = Ask { method: "POST".into(), ..base.clone() };
        let controls = [
            ("plain", base.clone().header("x-plain", "a value, with: colons; and \"quotes\"")),
            ("two of a kind", base.clone().header("x-two", "a").header("x-two", "b")),
            ("obs-text", base.clone().header("x-text", b"caf\xe9".to_vec())),
            ("a tab inside", base.clone().header("x-tab", "a\tb")),
            ("empty", base.clone().header("x-empty", "")),
            ("an encoding", base.clone().header("accept-encoding", "gzip, br")),
            ("a range", base.clone().header("range", "bytes=0-1")),
            ("a body", post.clone().header("content-type", "text/plain").body("hello ").body("there")),
            ("its length", post.clone().header("content-length", "5").body("hello")),
        ];
        rows.extend(controls.into_iter().map(|(name, ask)| Row::control(format!("{over}: legal {name}"), ask)));
        let values: &[(&str, &[u8])] = &[
            ("crlf", b"a\r\nx-injected: b"),
            ("lf", b"a\nx-injected: b"),
            ("cr", b"a\rx-injected: b"),
            ("nul", b"a\0b"),
            ("obs-fold", b"a\r\n b"),
            ("request", b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: evil.test\r\n\r\n"),
            ("delete", b"a\x7f"),
            ("escape", b"a\x1b[31m"),
            ("vertical tab", b"a\x0bb"),
        ];
        for (name, value) in values {
            rows.push(Row::refused(format!("{over}: value with {name}"), base.clone().header("x-a", *value), HEADER));
        }
        let names = [
            "",
            " ",
            "x a",
            "x-a ",
            " x-a",
            "x:a",
            ":method",
            ":authority",
            ":path",
            ":scheme",
            "x\r\ny",
            "x\0",
            "x\u{e9}",
            "x(a)",
            "x/a",
            "x\"a\"",
            "x@a",
            "x{a}",
            "x\ty",
        ];
        for name in names {
            let row = format!("{over}: name `{}`", name.escape_default());
            rows.push(Row::refused(row, base.clone().header(name, "v"), HEADER));
        }
        let forbidden = [
            ("host", "evil.test"),
            ("Host", GOOD),
            ("connection", "close"),
            ("connection", "x-plain, authorization"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-authenticate", "x"),
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "xchunked"),
            ("transfer-encoding", "chunked, identity"),
            ("Transfer-Encoding", "\x0bchunked"),
            ("transfer-encoding", "identity"),
            ("te", "gzip"),
            ("trailer", "x-a"),
            ("upgrade", "h2c"),
            ("upgrade", "websocket"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("expect", "100-continue"),
            ("expect", "x"),
            ("forwarded", "for=127.0.0.1"),
            ("via", "1.1 x"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "evil.test"),
            ("x-forwarded-proto", "http"),
            ("x-real-ip", "127.0.0.1"),
            ("palisade-step", "1"),
            ("Palisade-Tenant", "other"),
        ];
        for (name, value) in forbidden {
            let row = format!("{over}: {}: {}", name, value.escape_default());
            rows.push(Row::refused(row, base.clone().header(name, value), HEADER));
        }
        let lengths: &[&[&str]] = &[
            &["5", "6"],
            &["5", "5"],
            &["5, 5"],
            &["5, 6"],
            &["-1"],
            &["+5"],
            &["0x5"],
            &["5 "],
            &["05a"],
            &["5.0"],
            &["99999999999999999999999"],
            &[""],
        ];
        for values in lengths {
            let ask = values.iter().fold(post.clone(), |ask, value| ask.header("content-length", *value)).body("hello");
            rows.push(Row::refused(format!("{over}: lengths {values:?}"), ask, HEADER));
        }
        let both = post.clone().header("content-length", "5").header("transfer-encoding", "chunked").body("hello");
        rows.push(Row::refused(format!("{over}: a length and chunks"), both, HEADER));
        let none = base.clone().header("content-length", "5");
        rows.push(Row::refused(format!("{over}: a length and no body"), none, &[Why::Header, Why::Body]));
    }
    hold(&scene, &rig, rows).await;
}

#[tokio::test]
async fn net_07_no_trailer_says_what_no_header_may() {
    let scene = Scene::new().await;
    let rules = scene.rule("name", GOOD, "") + &scene.clear_rule("clear", GOOD, "");
    let rig = scene.rig(rules).await;
    let mut rows = Vec::new();
    for (over, scheme, at) in [("tls", "https", scene.at(GOOD)), ("clear", "http", scene.clear_at(GOOD))] {
        let post = Ask::new("POST", scheme, &at, "/").header("content-type", "text/plain").body("hello");
        rows.push(Row::control(format!("{over}: none"), post.clone()));
        let legal = post.clone().trailer("x-checksum", "abc");
        // HTTP/1.1 would have to announce them.
        rows.push(match over {
            "tls" => Row::control("tls: legal", legal).and(|_, seen| match &seen[0].trailers[..] {
                [(name, value)] if name == "x-checksum" && value == b"abc" => Ok(()),
                other => Err(format!("trailers are {other:?}")),
            }),
            _ => Row::cut("clear: legal", legal, &[Why::Body]),
        });
        let forbidden: &[(&str, &[u8])] = &[
            ("host", b"evil.test"),
            ("content-length", b"0"),
            ("transfer-encoding", b"chunked"),
            ("connection", b"close"),
            ("te", b"trailers"),
            ("trailer", b"x"),
            ("upgrade", b"h2c"),
            ("authorization", b"Bearer mine"),
            ("proxy-authorization", b"x"),
            ("cookie", b"a=b"),
            ("set-cookie", b"a=b"),
            ("content-type", b"text/html"),
            ("content-encoding", b"gzip"),
            ("content-range", b"bytes 0-1/2"),
            ("x-forwarded-for", b"127.0.0.1"),
            ("palisade-step", b"1"),
            (":path", b"/evil"),
            ("x-a", b"a\r\nx-b: c"),
            ("x-a", b"a\0"),
            ("x a", b"b"),
            ("x-a", b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: evil.test\r\n\r\n"),
        ];
        for (name, value) in forbidden {
            // The head may have left by then: the request is cut, and never complete.
            let row = format!("{over}: {name}: {}", value.escape_ascii());
            let cut = Row::cut(row, post.clone().trailer(name, *value), &[Why::Header, Why::Body]);
            rows.push(cut.and(|_, seen| match seen.iter().any(|seen| seen.complete || !seen.trailers.is_empty()) {
                true => Err("it was sent to its end".into()),
                false => Ok(()),
            }));
        }
    }
    hold(&scene, &rig, rows).await;
}
