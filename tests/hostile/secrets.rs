//! SEC: a credential is at the upstream that it is for, and nowhere else.

mod own;
mod places;
mod reflection;

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{
    ask::Ask,
    rig::{Rig, Why, credential, keep},
    scene::{GOOD, Scene},
    sweep::{Place, Swept, sweep},
    table::{Row, hold},
};
use crate::harness::upstream::{Gate, Piece, Reply, Upstream};

/// Returns a secret that is nowhere else, with characters that encodings change.
fn sentinel() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let random = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("sk-{random:x}/{count}+{:x}==.tail", u128::from(std::process::id()).wrapping_mul(random) >> 7)
}

/// A rule that carries a bearer token, one beside it that carries none, and the token.
struct Keeper {
    scene: Scene,
    /// Swept for the token when the test ends: all that guests were told, and all that the daemon wrote.
    rig: Rig,
    secret: String,
}

impl Keeper {
    async fn new() -> Self {
        let mut scene = Scene::new().await;
        let secret = sentinel();
        let file = scene.dir.path().join("token");
        keep(&file, &format!("{secret}\n"));
        let own = scene.tls.address.ip().to_string();
        scene.dns.has("other.wild.test", &[&own]);
        scene.allow_name("other.wild.test");
        let rules = scene.rule("bearer", GOOD, "credentials = [\"token\"]")
            + &scene.rule("none", "other.wild.test", "")
            + &scene.clear_rule("clear", "other.wild.test", "")
            + &scene.clear_rule("clear-bearer", GOOD, "paths = [\"/raw/**\"]\ncredentials = [\"token\"]")
            + &credential("token", "type = \"bearer\"", &file);
        let rig = scene.rig(rules).await;
        Self { scene, rig, secret }
    }

    fn ask(&self, path: &str) -> Ask {
        Ask::new("GET", "https", &self.scene.at(GOOD), path)
    }

    /// A request that is answered, with the token where it belongs and nowhere else.
    fn signed(&self, name: &str, ask: Ask) -> Row {
        let secret = self.secret.clone();
        let row = Row::control(name, ask).adds("authorization").adds("accept-encoding");
        row.and(move |_, seen| {
            let sent = seen[0].values("authorization");
            let rest = [&seen[0].body[..], seen[0].target.as_bytes()].concat();
            if sent != [format!("Bearer {secret}")] {
                return Err(format!("the upstream was sent {sent:?}"));
            }
            // What is packed could not be looked through.
            if seen[0].values("accept-encoding") != ["identity"] {
                return Err(format!("{:?}", seen[0].values("accept-encoding")));
            }
            found(&[&secret], vec![Place::Buffer("the rest of the request".into(), rest)])
        })
    }
}

fn found(secrets: &[&str], places: Vec<Place>) -> Result<(), String> {
    let Swept { hits, .. } = sweep(secrets, places);
    if hits.is_empty() { Ok(()) } else { Err(format!("a secret is in {hits:#?}")) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sec_01_a_credential_goes_to_its_rule_and_no_other() {
    let keeper = Keeper::new().await;
    let scene = &keeper.scene;
    let other = |path: &str| Ask::new("GET", "https", &scene.at("other.wild.test"), path);
    let body = keeper.ask("/body").header("content-type", "text/plain").body("mine");
    let rows = vec![
        keeper.signed("signed", keeper.ask("/")),
        keeper.signed("with a body", Ask { method: "POST".into(), ..body }),
        keeper.signed("with a query", keeper.ask("/?q=1")),
        // Nothing is added to these.
        Row::control("another rule", other("/")),
        Row::control("in the clear", Ask::new("GET", "http", &scene.clear_at("other.wild.test"), "/")),
        Row::control(
            "the guest's own, where there is none of ours",
            other("/own").header("authorization", "Bearer mine"),
        ),
        Row::refused(
            "in the clear, the signed name",
            Ask::new("GET", "http", &scene.clear_at(GOOD), "/"),
            &[Why::Rule],
        ),
        Row::refused("another name", Ask::new("GET", "https", &scene.at("evil.test"), "/"), &[Why::Rule]),
    ];
    hold(scene, &keeper.rig, rows).await;
    let bytes = |upstream: &Upstream| {
        upstream.connections().into_iter().flat_map(|connection| connection.bytes).collect::<Vec<_>>()
    };
    found(&[&keeper.secret], vec![Place::Buffer("the clear".into(), bytes(&scene.plain))]).unwrap();
    let sent = sweep(&[&keeper.secret], [Place::Buffer("the upstream".into(), bytes(&scene.tls))]).hits;
    assert_eq!(sent.len(), 3, "the sweep finds it where it is: {sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sec_02_nothing_that_a_guest_writes_stands_for_a_credential() {
    let keeper = Keeper::new().await;
    let mut rows = Vec::new();
    let placeholders = [
        "{{token}}",
        "${token}",
        "$token",
        "%token%",
        "<token>",
        "{{ credentials.token }}",
        "palisade:credential:token",
        "credential:token",
        "__token__",
    ];
    for text in placeholders {
        let typed = |path: &str| Ask { method: "POST".into(), ..keeper.ask(path) };
        rows.push(
            keeper.signed(&format!("{text} in a body"), typed("/").header("content-type", "text/plain").body(text)),
        );
        let (first, last) = text.split_at(text.len() / 2);
        rows.push(keeper.signed(
            &format!("{text} in two writes"),
            typed("/").header("content-type", "text/plain").body(first).body(last),
        ));
        let mut header = keeper.signed(&format!("{text} in a header"), keeper.ask("/").header("x-api-key", text));
        header = header.and(move |_, seen| {
            (seen[0].values("x-api-key") == [text]).then_some(()).ok_or_else(|| "it was changed".into())
        });
        rows.push(header);
        rows.push(keeper.signed(&format!("{text} in a cookie"), keeper.ask("/").header("cookie", format!("a={text}"))));
    }
    let own = &[Why::OwnCredential];
    for (name, value) in [
        ("authorization", "Bearer mine"),
        ("Authorization", "Bearer {{token}}"),
        ("AUTHORIZATION", ""),
        ("authorization", "Basic eDp5"),
    ] {
        rows.push(Row::refused(format!("{name}: `{value}`"), keeper.ask("/").header(name, value), own));
    }
    let twice = keeper.ask("/").header("authorization", "a").header("authorization", "b");
    rows.push(Row::refused("two of them", twice, &[Why::OwnCredential, Why::Header]));
    // A value that comes in pieces could not be found in them.
    for (name, value) in [("range", "bytes=0-9"), ("Range", "bytes=-9"), ("RANGE", "bytes=0-0,2-2"), ("range", "")] {
        rows.push(Row::refused(format!("{name}: `{value}`"), keeper.ask("/").header(name, value), &[Why::Request]));
    }
    for value in ["gzip", "br, gzip;q=1.0", "*", "identity;q=0, gzip", ""] {
        let ask = keeper.ask("/").header("accept-encoding", value);
        rows.push(keeper.signed(&format!("accept-encoding: `{value}`"), ask));
    }
    let twice = keeper.ask("/").header("accept-encoding", "gzip").header("Accept-Encoding", "br");
    rows.push(keeper.signed("accept-encoding twice", twice));
    hold(&keeper.scene, &keeper.rig, rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sec_04_a_refusal_says_nothing_of_a_credential() {
    let scene = Scene::new().await;
    let secret = sentinel();
    let gone = scene.dir.path().join("private-folder/gone");
    let empty = scene.dir.path().join("private-empty");
    let broken = scene.dir.path().join("private-broken");
    keep(&empty, "");
    keep(&broken, &format!("{secret}\r\nx-injected: {secret}\0"));
    let mut rules = scene.rule("plain", GOOD, "paths = [\"/plain\"]");
    for (name, file) in [("gone", &gone), ("empty", &empty), ("broken", &broken)] {
        rules += &scene.rule(name, GOOD, &format!("paths = [\"/{name}\"]\ncredentials = [\"{name}\"]"));
        rules += &credential(name, "type = \"bearer\"", file);
    }
    let rig = scene.rig(rules).await;
    let ask = |path: &str| Ask::new("GET", "https", &scene.at(GOOD), path);
    let mut rows = vec![Row::control("without", ask("/plain"))];
    for path in ["/gone", "/empty", "/broken"] {
        let secret = secret.clone();
        rows.push(Row::refused(path, ask(path), &[Why::Unavailable]).and(move |it, _| {
            let told = String::from_utf8_lossy(&it.everything()).into_owned();
            if told.contains(&secret) || told.contains("private-") { Err(told) } else { Ok(()) }
        }));
    }
    hold(&scene, &rig, rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_credential_that_changes_is_new_at_the_next_call_and_one_that_is_revoked_is_gone() {
    let mut keeper = Keeper::new().await;
    hold(&keeper.scene, &keeper.rig, vec![keeper.signed("before", keeper.ask("/1"))]).await;
    keeper.secret = sentinel();
    let file = keeper.scene.dir.path().join("token");
    keep(&file.with_extension("new"), &keeper.secret);
    fs::rename(file.with_extension("new"), file).unwrap();
    hold(&keeper.scene, &keeper.rig, vec![keeper.signed("after", keeper.ask("/2"))]).await;
    keeper.rig.revoke("token").await;
    let other = Ask::new("GET", "https", &keeper.scene.at("other.wild.test"), "/");
    let rows = vec![Row::control("another rule", other), Row::refused("revoked", keeper.ask("/3"), &[Why::Revoked])];
    hold(&keeper.scene, &keeper.rig, rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_sent_is_taken_out_also_when_it_was_replaced_or_revoked_meanwhile() {
    let keeper = Keeper::new().await;
    let gate = Gate::new();
    let waits = gate.clone();
    keeper.scene.tls.on("/late", move |seen| {
        let echo = seen.value("authorization").unwrap_or_default();
        let begin = Piece::Bytes(format!("{echo} and then ").into_bytes());
        Reply::status(200).body(vec![begin, Piece::Wait(waits.clone()), Piece::Bytes(echo.into_bytes())])
    });
    let change = async {
        let began = |upstream: &Upstream| upstream.seen().iter().any(|seen| seen.path() == "/late");
        keeper.scene.tls.until("the response begins", began).await;
        let file = keeper.scene.dir.path().join("token");
        keep(&file.with_extension("new"), &sentinel());
        fs::rename(file.with_extension("new"), file).unwrap();
        keeper.rig.revoke("token").await;
        gate.open();
    };
    let rows = vec![keeper.signed("late", keeper.ask("/late")).and(|it, _| {
        let told = String::from_utf8_lossy(&it.response().body).into_owned();
        let whole = told.starts_with("Bearer ***") && told.ends_with("***") && told.contains(" and then Bearer ***");
        whole.then_some(()).ok_or(told)
    })];
    // The rig's sweep looks for both values in what was told.
    tokio::join!(hold(&keeper.scene, &keeper.rig, rows), change);
}
