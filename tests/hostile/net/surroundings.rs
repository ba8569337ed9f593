//! NET-09, NET-11 and NET-12: the environment, the daemon itself, and sockets.

use std::time::Instant;

use serde_json::json;

use super::{
    super::{
        ask::Ask,
        report,
        rig::{Rig, RigSetup, Why, free},
        scene::{GOOD, Scene},
        table::{Row, hold, others},
    },
    NEVER, get,
};
use crate::harness::{canary::Canary, upstream::Upstream};

#[tokio::test]
async fn net_09_no_variable_leads_anywhere_else() {
    let mut scene = Scene::new().await;
    let own = scene.tls.address.ip().to_string();
    scene.allow_name("nope.wild.test");
    scene.allow_name("good.wild.test");
    scene.dns.has("good.wild.test", &[&own]);
    // If a search list or an alias were used, there would be an answer, and the canary behind it.
    for name in ["nope.wild.test.evil.test", "evil.test", "nope.evil.test"] {
        scene.dns.has(name, &["127.0.0.1"]);
    }
    let canary = free();
    let proxy = Canary::listen(&[canary]).unwrap();
    let aliases = scene.dir.path().join("aliases");
    std::fs::write(&aliases, "nope evil.test\ngood.wild.test evil.test\n").unwrap();
    let mut environment: Vec<_> = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "FTP_PROXY",
        "SOCKS_PROXY",
    ]
    .map(|name| (name.to_owned(), format!("http://{canary}")))
    .into();
    environment.extend(
        [
            ("NO_PROXY", ""),
            ("LOCALDOMAIN", "evil.test"),
            ("RES_OPTIONS", "ndots:15"),
            ("HOSTALIASES", aliases.to_str().unwrap()),
        ]
        .map(|(name, value)| (name.into(), value.into())),
    );
    let rules =
        scene.rule("name", GOOD, "") + &scene.rule("wild", "*.wild.test", "") + &scene.clear_rule("clear", GOOD, "");
    let rig = Rig::new(RigSetup { environment, ..scene.setup(rules) }).await;
    let rows = vec![
        Row::control("over TLS", get(&scene, GOOD, "/")),
        Row::control("in the clear", Ask::new("GET", "http", &scene.clear_at(GOOD), "/")),
        Row::control("an alias", get(&scene, "good.wild.test", "/")),
        Row::refused("no such name", get(&scene, "nope.wild.test", "/"), &[Why::Dns]),
        Row::refused("a short name", get(&scene, "nope", "/"), NEVER),
        Row::refused("a name of the machine's", get(&scene, "localhost", "/"), NEVER),
    ];
    hold(&scene, &rig, rows).await;
    proxy.must_be_untouched();
}

#[tokio::test]
async fn net_11_the_daemon_is_not_reached_through_itself() {
    let mut scene = Scene::new().await;
    let (metrics, open) = (free(), free());
    let elsewhere = Upstream::plain(open).await;
    scene.others.push(elsewhere.clone());
    let mut rules = scene.clear_rule("name", GOOD, "");
    // The operator lists far too much, and the daemon's own listeners are still not in it.
    for (name, host) in [("self", "127.0.0.1"), ("name-of-self", "self.wild.test")] {
        rules += &format!(
            "[[egress]]\nname = \"{name}\"\nscheme = \"http\"\nhost = \"{host}\"\nport = {}\ncidrs = [\"127.0.0.0/8\"]\n",
            metrics.port()
        );
    }
    rules += &format!(
        "[[egress]]\nname = \"loopback\"\nscheme = \"http\"\nhost = \"127.0.0.1\"\nport = {}\ncidrs = [\"127.0.0.0/8\"]\n",
        open.port()
    );
    scene.dns.has("self.wild.test", &["127.0.0.1"]);
    scene.allow_name("self.wild.test");
    let extra = format!("[listen]\nmetrics = \"{metrics}\"\n");
    let rig = Rig::new(RigSetup { extra, ..scene.setup(rules) }).await;
    let at = |host: &str| Ask::new("GET", "http", &format!("{host}:{}", metrics.port()), "/metrics");
    let never = &[Why::Address, Why::Request, Why::Rule];
    let rows = vec![
        Row::control("a name like any other", Ask::new("GET", "http", &scene.clear_at(GOOD), "/")),
        Row::control("another loopback listener, as listed", Ask::new("GET", "http", &open.to_string(), "/")),
        Row::refused("its metrics", at("127.0.0.1"), &[Why::Address]),
        Row::refused("its metrics by name", at("self.wild.test"), &[Why::Address]),
        Row::refused("its metrics by the unspecified address", at("0.0.0.0"), never),
        Row::refused("its metrics, mapped", at("[::ffff:127.0.0.1]"), never),
        Row::refused("its socket", Ask::new("GET", "http", "unix:%2frun%2fpalisade.sock", "/"), NEVER),
    ];
    hold(&scene, &rig, rows).await;
    // The metrics are really there: who reaches them would have been answered.
    assert!(std::net::TcpStream::connect(metrics).is_ok());
}

#[tokio::test]
async fn net_12_sockets_and_names_are_denied_beside_http() {
    let scene = Scene::new().await;
    let rig = scene.rig(scene.rule("name", GOOD, "")).await;
    hold(&scene, &rig, vec![Row::control("by the rules", get(&scene, GOOD, "/"))]).await;
    let (before, began) = (scene.tls.connections().len(), Instant::now());
    let said = rig
        .acts(json!([
            { "connect": scene.tls.address.to_string() },
            { "connect": scene.at(GOOD) },
            { "connect": scene.clear_at("127.0.0.1") },
            { "udp": scene.dns.address.to_string() },
            { "udp": scene.clear_at("127.0.0.1") },
            { "resolve": GOOD },
            { "resolve": "5ec4e7.evil.test" },
            { "resolve": "localhost" },
        ]))
        .await;
    let denied = said.iter().filter(|said| said.contains("Permission denied")).count();
    report::held(said.len(), denied, began.elapsed());
    assert_eq!(denied, said.len(), "{said:?}");
    assert_eq!(scene.tls.connections().len(), before, "nobody connected");
    assert_eq!(others(&scene, &rig), Vec::<String>::new());
}
