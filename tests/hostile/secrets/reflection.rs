//! SEC-03: an allowed upstream that sends back what it was sent.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};

use super::{Ask, GOOD, Keeper, Place, Row, Why, found, hold};
use crate::harness::upstream::{Piece, Reply, Seen};
use crate::hostile::ask::Answered;

type Encode = fn(&str) -> Vec<u8>;

fn each(text: &str, form: impl Fn(u8) -> String) -> Vec<u8> {
    text.bytes().map(form).collect::<String>().into_bytes()
}

/// Forms in which a header may come back.
const ENCODINGS: &[(&str, Encode)] = &[
    ("raw", |text| text.into()),
    ("base64", |text| BASE64_STANDARD.encode(text).into()),
    ("base64-bare", |text| BASE64_STANDARD_NO_PAD.encode(text).into()),
    ("base64-shifted", |text| BASE64_STANDARD.encode(format!("x{text}")).into()),
    ("base64-shifted-twice", |text| BASE64_STANDARD.encode(format!("xx{text}")).into()),
    ("base64url", |text| BASE64_URL_SAFE.encode(text).into()),
    ("base64url-bare", |text| BASE64_URL_SAFE_NO_PAD.encode(text).into()),
    ("hex", |text| each(text, |byte| format!("{byte:02x}"))),
    ("HEX", |text| each(text, |byte| format!("{byte:02X}"))),
    ("percent", |text| {
        each(text, |byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).into()
            } else {
                format!("%{byte:02X}")
            }
        })
    }),
    ("percent-all", |text| each(text, |byte| format!("%{byte:02x}"))),
    ("json", |text| each(text, |byte| format!("\\u{byte:04x}"))),
    ("json-slashes", |text| text.replace('/', "\\/").into()),
];

/// Forms that only a body can have.
const OF_BODIES: &[(&str, Encode)] = &[
    ("utf-16", |text| text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ("reversed", |text| text.bytes().rev().collect()),
    ("html", |text| text.replace('+', "&#43;").into()),
    ("twice", |text| format!("{text}{text}").into()),
    ("within", |text| format!("{}{text}{}", "a".repeat(70_000), "b".repeat(70_000)).into()),
];

fn sent(seen: &Seen) -> String {
    seen.value("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sec_03_what_an_upstream_sends_back_does_not_reach_the_guest() {
    let keeper = Keeper::new().await;
    let upstream = &keeper.scene.tls;
    let mut rows = vec![keeper.signed("nothing", keeper.ask("/plain"))];
    upstream.on("/plain", |_| Reply::text("nothing"));
    let mut add = |path: String, status: u16, reply: Box<dyn Fn(&Seen) -> Reply + Send + Sync>| {
        upstream.on(&path, reply);
        let secret = keeper.secret.clone();
        let row = Row::answered(path.clone(), keeper.ask(&path).said(200_000), status);
        let row = row.adds("authorization").adds("accept-encoding");
        rows.push(row.and(move |it, seen| {
            if seen.iter().all(|seen| sent(seen) != secret) {
                return Err("nothing was signed, so nothing came back".into());
            }
            found(&[&secret], vec![Place::Buffer("the guest".into(), it.everything())])
        }));
    };
    for (name, encode) in ENCODINGS.iter().chain(OF_BODIES) {
        let encode = *encode;
        add(format!("/body/{name}"), 200, Box::new(move |seen| Reply::text(encode(&sent(seen)))));
        add(
            format!("/error/{name}"),
            500,
            Box::new(move |seen| Reply::status(500).body(vec![Piece::Bytes(encode(&sent(seen)))])),
        );
        if *name != "within" {
            add(format!("/split/{name}"), 200, Box::new(move |seen| Reply::text(encode(&sent(seen))).byte_by_byte()));
        }
    }
    for (name, encode) in ENCODINGS {
        let encode = *encode;
        add(
            format!("/header/{name}"),
            200,
            Box::new(move |seen| Reply::text("ok").header("x-echo", encode(&sent(seen)))),
        );
        add(
            format!("/location/{name}"),
            302,
            Box::new(move |seen| Reply::status(302).header("location", [b"/?t=", &encode(&sent(seen))[..]].concat())),
        );
        add(
            format!("/cookie/{name}"),
            200,
            Box::new(move |seen| Reply::text("ok").header("set-cookie", [b"t=", &encode(&sent(seen))[..]].concat())),
        );
        add(
            format!("/trailer/{name}"),
            200,
            Box::new(move |seen| Reply::text("ok").trailer("x-echo", &String::from_utf8_lossy(&encode(&sent(seen))))),
        );
    }
    add("/whole".into(), 200, Box::new(|seen| Reply::text(seen.head.clone())));
    add("/echo".into(), 200, Box::new(crate::harness::upstream::echo));
    hold(&keeper.scene, &keeper.rig, rows).await;
}

/// What an HTTP/1.1 server can say where nobody expects it. `SECRET` stands for what it was sent.
const RAW: &[(&str, &str)] = &[
    ("reason", "HTTP/1.1 200 SECRET\r\ncontent-length: 2\r\n\r\nok"),
    ("version", "HTTP/SECRET 200 OK\r\ncontent-length: 2\r\n\r\nok"),
    ("status", "HTTP/1.1 SECRET OK\r\ncontent-length: 2\r\n\r\nok"),
    ("nothing-else", "SECRET"),
    ("no-colon", "HTTP/1.1 200 OK\r\nSECRET\r\ncontent-length: 2\r\n\r\nok"),
    ("name", "HTTP/1.1 200 OK\r\nSECRET: a\r\ncontent-length: 2\r\n\r\nok"),
    ("folded", "HTTP/1.1 200 OK\r\nx-a: a\r\n SECRET\r\ncontent-length: 2\r\n\r\nok"),
    ("two-values", "HTTP/1.1 200 OK\r\nx-a: a\r\nx-a: SECRET\r\nx-a: aSECRETa\r\ncontent-length: 2\r\n\r\nok"),
    ("length", "HTTP/1.1 200 OK\r\ncontent-length: SECRET\r\n\r\nok"),
    ("type", "HTTP/1.1 200 OK\r\ncontent-type: SECRET\r\ncontent-length: 2\r\n\r\nok"),
    ("encoding", "HTTP/1.1 200 OK\r\ncontent-encoding: SECRET\r\ncontent-length: 2\r\n\r\nok"),
    ("transfer", "HTTP/1.1 200 OK\r\ntransfer-encoding: SECRET\r\n\r\nok"),
    ("hop", "HTTP/1.1 200 OK\r\nconnection: SECRET\r\ncontent-length: 2\r\n\r\nok"),
    ("upgrade", "HTTP/1.1 101 OK\r\nupgrade: SECRET\r\nconnection: upgrade\r\n\r\nSECRET"),
    ("interim", "HTTP/1.1 103 SECRET\r\nlink: SECRET\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
    ("size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nSECRET\r\nok\r\n0\r\n\r\n"),
    ("extension", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=SECRET\r\nok\r\n0\r\n\r\n"),
    ("trailers", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-a: SECRET\r\n\r\n"),
    ("no-trailers", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nSECRET\r\n\r\n"),
    ("cut", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nSECRET"),
    ("behind", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokSECRET"),
    ("until-it-closes", "HTTP/1.1 200 OK\r\n\r\nSECRET"),
    ("bare", "HTTP/1.1 200 OK\nx-a: SECRET\ncontent-length: 2\n\nok"),
    ("no-content", "HTTP/1.1 204 OK\r\nx-a: SECRET\r\n\r\nSECRET"),
    ("unauthorised", "HTTP/1.1 401 SECRET\r\nwww-authenticate: Bearer realm=\"SECRET\"\r\ncontent-length: 0\r\n\r\n"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sec_03_what_an_upstream_says_out_of_turn_does_not_reach_the_guest() {
    let keeper = Keeper::new().await;
    let mut rows = vec![keeper.signed("nothing", keeper.ask("/plain"))];
    let clear = |path: &str| Ask::new("GET", "http", &keeper.scene.clear_at(GOOD), path);
    for (name, text) in RAW {
        let path = format!("/raw/{name}");
        keeper.scene.plain.on(&path, |seen| Reply::raw(text.replace("SECRET", &sent(seen))));
        let secret = keeper.secret.clone();
        rows.push(Row::once(*name, clear(&path)).and(move |it, seen| {
            match seen {
                [seen] if sent(seen) == secret => {}
                other => return Err(format!("nothing was signed, so nothing came back: {other:?}")),
            }
            found(&[&secret], vec![Place::Buffer("the guest".into(), it.everything())])
        }));
    }
    hold(&keeper.scene, &keeper.rig, rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sec_03_what_cannot_be_looked_through_is_refused_where_a_credential_was_sent() {
    let keeper = Keeper::new().await;
    let (scene, other) = (&keeper.scene, Ask::new("GET", "https", &keeper.scene.at("other.wild.test"), ""));
    let mut rows = vec![keeper.signed("nothing", keeper.ask("/"))];
    let encodings: &[&[&str]] = &[
        &["gzip"],
        &["GZIP"],
        &["br"],
        &["zstd"],
        &["deflate, identity"],
        &["identity", "gzip"],
        &["identity, x-unknown"],
        &["aes128gcm"],
        &["gzip, gzip"],
    ];
    for (index, values) in encodings.iter().enumerate() {
        for status in [200, 404] {
            let path = format!("/packed/{index}/{status}");
            scene.tls.on(&path, move |_| {
                let reply = Reply::status(status).body(vec![Piece::Bytes(b"packed".to_vec())]);
                values.iter().fold(reply, |reply, value| reply.header("content-encoding", *value))
            });
            let name = format!("{values:?} with {status}");
            rows.push(Row::cut(name.clone(), keeper.ask(&path), &[Why::Response]).and(|it, seen| match it {
                Answered::Ok(response) if !response.body.is_empty() => Err("its body was told".into()),
                _ if seen.len() != 1 => Err("it was not sent".into()),
                _ => Ok(()),
            }));
            // What carries nothing can be packed as it likes.
            let plain = Ask { path_with_query: Some(path), ..other.clone() };
            rows.push(Row::answered(format!("{name}, without a credential"), plain, status));
        }
    }
    for (index, value) in ["identity", "Identity"].into_iter().enumerate() {
        let path = format!("/unpacked/{index}");
        scene.tls.on(&path, move |_| Reply::text("ok").header("content-encoding", value));
        rows.push(keeper.signed(&format!("only {value}"), keeper.ask(&path)));
    }
    // A part of a whole, unasked.
    scene.tls.on("/part", |seen| {
        let part = sent(seen).into_bytes();
        Reply::status(206).header("content-range", "bytes 7-40/99").body(vec![Piece::Bytes(part)])
    });
    let secret = keeper.secret.clone();
    let part = Row::answered("a part, unasked", keeper.ask("/part"), 206).adds("authorization").adds("accept-encoding");
    rows.push(part.and(move |it, _| found(&[&secret], vec![Place::Buffer("the guest".into(), it.everything())])));
    hold(scene, &keeper.rig, rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sec_03_what_is_no_secret_comes_back_as_it_is() {
    let keeper = Keeper::new().await;
    let mut rows = Vec::new();
    let almost = keeper.secret[..keeper.secret.len() - 8].to_owned();
    let bodies: [(&str, Vec<u8>); 5] = [
        ("/text", b"Bearer of good news; sk-; ==.tail".to_vec()),
        ("/every-byte", (0..=255).collect()),
        ("/almost", almost.into_bytes()),
        ("/large", (0..75_000_u32).flat_map(|n| [n as u8, (n >> 8) as u8]).collect()),
        ("/empty", Vec::new()),
    ];
    for (path, body) in bodies {
        let back = body.clone();
        keeper.scene.tls.on(path, move |_| Reply::text(back.clone()));
        rows.push(keeper.signed(path, keeper.ask(path).said(200_000)).and(move |it, _| {
            match it.response().body == body {
                true => Ok(()),
                false => Err(format!("{:?}", it.response().body)),
            }
        }));
    }
    hold(&keeper.scene, &keeper.rig, rows).await;
}
