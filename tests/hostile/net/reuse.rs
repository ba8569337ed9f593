//! NET-10 and NET-13: a connection serves what it was made for, and no longer than the policy stands.

use std::time::Instant;

use super::{
    super::{
        ask::Ask,
        report,
        rig::{SEND, Why},
        scene::{GOOD, Scene},
        table::{Row, hold},
    },
    get,
};
use crate::harness::{
    dns::Says,
    upstream::{Gate, Piece, Reply},
};

/// Which connection each path of an upstream came on.
fn connection(scene: &Scene, path: &str) -> usize {
    let seen = scene.tls.seen();
    seen.iter().find(|seen| seen.path() == path).unwrap_or_else(|| panic!("{path} was not seen")).connection
}

#[tokio::test]
async fn net_10_a_connection_is_not_shared_between_names_or_rules() {
    let mut scene = Scene::new().await;
    let own = scene.tls.address.ip().to_string();
    let rules = scene.rule("one", "one.wild.test", "paths = [\"/1\", \"/2\"]")
        + &scene.rule("same", "one.wild.test", "paths = [\"/3\"]")
        + &scene.rule("two", "two.wild.test", "");
    for name in ["one.wild.test", "two.wild.test"] {
        scene.dns.has(name, &[&own]);
        scene.allow_name(name);
    }
    let rig = scene.rig(rules).await;
    let rows = vec![
        Row::control("first", get(&scene, "one.wild.test", "/1")),
        Row::control("again", get(&scene, "one.wild.test", "/2")),
        Row::control("another rule", get(&scene, "one.wild.test", "/3")),
        // One certificate is good for both: h2 would let the second ride along.
        Row::control("another name", get(&scene, "two.wild.test", "/4")),
    ];
    hold(&scene, &rig, rows).await;
    let [first, again, rule, name] = ["/1", "/2", "/3", "/4"].map(|path| connection(&scene, path));
    assert_eq!(first, again, "or this test sees nothing");
    assert!(first != rule && first != name && rule != name, "{first} {rule} {name}");
}

#[tokio::test]
async fn net_10_a_name_that_moved_is_followed_and_its_old_connection_is_not_used() {
    let mut scene = Scene::new().await;
    let own = scene.tls.address.ip().to_string();
    scene.dns.says_in_turn("one.wild.test", vec![Says::addresses(&[&own]), Says::addresses(&["127.0.0.1"])]);
    scene.allow_name("one.wild.test");
    let rig = scene.rig(scene.rule("one", "one.wild.test", "") + &scene.rule("name", GOOD, "")).await;
    let rows = vec![
        Row::control("before", get(&scene, "one.wild.test", "/1")),
        Row::refused("after", get(&scene, "one.wild.test", "/2"), &[Why::Address]),
        Row::control("another", get(&scene, GOOD, "/3")),
    ];
    hold(&scene, &rig, rows).await;
}

#[tokio::test]
async fn net_10_a_connection_of_an_older_rule_is_not_used() {
    let scene = Scene::new().await;
    let rig = scene.rig(scene.rule("name", GOOD, "")).await;
    let narrowed = "[[egress]]\nrule = \"name\"\n";
    rig.narrow(narrowed).await;
    let rows = vec![Row::control("before", get(&scene, GOOD, "/1")), Row::control("same", get(&scene, GOOD, "/2"))];
    hold(&scene, &rig, rows).await;
    rig.narrow(&format!("{narrowed}response_bytes = 1_000_000\n")).await;
    hold(&scene, &rig, vec![Row::control("after", get(&scene, GOOD, "/3"))]).await;
    assert_eq!(connection(&scene, "/1"), connection(&scene, "/2"), "or this test sees nothing");
    assert_ne!(connection(&scene, "/2"), connection(&scene, "/3"));
}

#[tokio::test]
async fn net_10_an_open_connection_takes_nothing_that_a_newer_policy_or_rule_forbids() {
    let scene = Scene::new().await;
    let rig = scene.rig(scene.rule("name", GOOD, "") + &scene.clear_rule("clear", GOOD, "")).await;
    let clear = |path: &str| Ask::new("GET", "http", &scene.clear_at(GOOD), path);
    let controls = |turn: &str| {
        vec![
            Row::control(format!("over TLS {turn}"), get(&scene, GOOD, "/1")),
            Row::control(format!("in the clear {turn}"), clear("/1")),
        ]
    };
    hold(&scene, &rig, controls("at first")).await;
    rig.govern(&format!(
        "{SEND}\n@id(\"no\") forbid (principal, action == Palisade::Action::\"SendRequest\", resource) when {{ context.path == \"/2\" }};"
    ))
    .await;
    let refused = |why| {
        vec![
            Row::refused(format!("over TLS, {why:?}"), get(&scene, GOOD, "/2"), why),
            Row::refused(format!("in the clear, {why:?}"), clear("/2"), why),
        ]
    };
    hold(&scene, &rig, [controls("with the policy"), refused(&[Why::Policy])].into_iter().flatten().collect()).await;
    rig.govern(SEND).await;
    rig.narrow("[[egress]]\nrule = \"name\"\npaths = [\"/1\"]\n[[egress]]\nrule = \"clear\"\npaths = [\"/1\"]\n").await;
    hold(&scene, &rig, [controls("with the rules"), refused(&[Why::Rule])].into_iter().flatten().collect()).await;
}

#[tokio::test]
async fn net_10_what_an_upstream_says_unasked_is_nobodys_answer() {
    let scene = Scene::new().await;
    let rig = scene.rig(scene.clear_rule("clear", GOOD, "")).await;
    let ask = |path: &str| Ask::new("GET", "http", &scene.clear_at(GOOD), path);
    let answer = |body: &str| format!("HTTP/1.1 200 -\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let two = answer("mine") + &answer("poison");
    scene.plain.on("/two", move |_| Reply::Raw(vec![Piece::Bytes(two.clone().into_bytes())]));
    let long = "HTTP/1.1 200 -\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 -\r\ncontent-length: 6\r\n\r\npoison";
    scene.plain.on("/long", move |_| Reply::Raw(vec![Piece::Bytes(long.into())]));
    let head = answer("a body that a HEAD has not");
    scene.plain.on("/head", move |_| Reply::Raw(vec![Piece::Bytes(head.clone().into_bytes())]));
    let none = "HTTP/1.1 204 -\r\ncontent-length: 6\r\n\r\npoison";
    scene.plain.on("/none", move |_| Reply::Raw(vec![Piece::Bytes(none.into())]));
    let clean = |name: &str, ask: Ask| {
        Row::control(name, ask).and(|it, _| {
            let body = String::from_utf8_lossy(&it.response().body).into_owned();
            if body.contains("poison") || !body.contains("headers") { Err(body) } else { Ok(()) }
        })
    };
    let rows = vec![
        Row::either("two answers", ask("/two")),
        clean("after two answers", ask("/1")),
        Row::either("a long answer", ask("/long")),
        clean("after a long answer", ask("/2")),
        Row::either("a head with a body", Ask { method: "HEAD".into(), ..ask("/head") }),
        clean("after a head with a body", ask("/3")),
        Row::either("no content with a body", ask("/none")),
        clean("after no content with a body", ask("/4")),
    ];
    hold(&scene, &rig, rows).await;
}

#[tokio::test]
async fn net_13_a_stream_ends_when_policy_forbids_it() {
    let scene = Scene::new().await;
    let rig = scene.rig(scene.rule("name", GOOD, "timeouts = { idle_ms = 50000, total_ms = 50000 }")).await;
    hold(&scene, &rig, vec![Row::control("before", get(&scene, GOOD, "/"))]).await;
    let gate = Gate::new();
    let shut = gate.clone();
    scene.tls.on("/stream", move |_| {
        Reply::status(200).body(vec![
            Piece::Bytes(b"first".to_vec()),
            Piece::Wait(shut.clone()),
            Piece::Bytes(b"second".to_vec()),
        ])
    });
    let change = async {
        scene
            .tls
            .until("the stream begins", |upstream| upstream.seen().iter().any(|seen| seen.path() == "/stream"))
            .await;
        rig.govern("").await;
        gate.open();
    };
    let began = Instant::now();
    let (answered, ()) = tokio::join!(rig.send(vec![get(&scene, GOOD, "/stream"), get(&scene, GOOD, "/next")]), change);
    let failed = answered.iter().filter(|answered| answered.failure().is_some_and(|it| Why::Policy.is(it))).count();
    report::held(answered.len(), failed, began.elapsed());
    assert_eq!(failed, answered.len(), "{answered:?}");
    assert!(!String::from_utf8_lossy(&answered[0].everything()).contains("second"), "{answered:?}");
    assert!(!scene.tls.seen().iter().any(|seen| seen.path() == "/next"));
}
