//! NET-05: the name that was judged is the name in the handshake, in the certificate and in the request.

use std::net::SocketAddr;

use super::super::{
    ask::Ask,
    rig::{Why, client_certificate, keep},
    scene::{GOOD, Scene},
    table::{Row, hold},
};
use crate::harness::{
    certificates::{Authority, Identity, Leaf},
    upstream::Upstream,
};

#[tokio::test]
async fn net_05_a_certificate_is_for_the_name_that_was_judged_and_good_today() {
    let mut scene = Scene::new().await;
    let own = scene.tls.address.ip().to_string();
    let stranger = Authority::new("a stranger's authority");
    let of = |authority: &Authority, leaf: Leaf, protocols: &[&str]| authority.issue(&leaf).server(protocols, None);
    let both: &[&str] = &["h2", "http/1.1"];
    let ours = &scene.authority;
    let bad = [
        ("another-name", of(ours, Leaf::of(&["evil.test"]), both)),
        ("no-name", of(ours, Leaf::of(&[]), both)),
        ("only-an-address", of(ours, Leaf::of(&[&own]), both)),
        ("expired", of(ours, Leaf::of(&["expired.wild.test"]).expired(), both)),
        ("not-yet", of(ours, Leaf::of(&["not-yet.wild.test"]).not_yet(), both)),
        ("the-parent", of(ours, Leaf::of(&["wild.test"]), both)),
        ("a-wildcard-above", of(ours, Leaf::of(&["*.test"]), both)),
        ("a-wildcard-below", of(ours, Leaf::of(&["*.a-wildcard-below.wild.test"]), both)),
        ("a-longer-name", of(ours, Leaf::of(&["a-longer-name.wild.test.evil.test"]), both)),
        ("a-stranger", of(&stranger, Leaf::of(&["a-stranger.wild.test"]), both)),
        ("no-protocol-of-ours", of(ours, Leaf::of(&["no-protocol-of-ours.wild.test"]), &["spdy/3"])),
    ];
    let good = [
        ("http1", of(ours, Leaf::of(&["http1.wild.test"]), &["http/1.1"]), "http/1.1"),
        ("no-alpn", of(ours, Leaf::of(&["no-alpn.wild.test"]), &[]), "http/1.1"),
        ("h2", of(ours, Leaf::of(&["h2.wild.test"]), &["h2"]), "h2"),
        ("wildcard", of(ours, Leaf::of(&["*.wild.test"]), both), "h2"),
    ];
    let (mut rules, mut rows, mut others, mut names) = (String::new(), Vec::new(), Vec::new(), Vec::new());
    let bad = bad.into_iter().map(|(label, config)| (label, config, None));
    for (label, config, protocol) in
        bad.chain(good.into_iter().map(|(label, config, protocol)| (label, config, Some(protocol))))
    {
        let upstream = Upstream::tls(SocketAddr::new(scene.tls.address.ip(), 0), config).await;
        let name = format!("{label}.wild.test");
        rules += &scene.rule_at(label, "https", &name, &upstream, "");
        let ask = Ask::new("GET", "https", &format!("{name}:{}", upstream.address.port()), "/");
        rows.push(match protocol {
            None => Row::refused(label, ask, &[Why::Tls]),
            Some(protocol) => Row::control(label, ask).and(move |_, seen| {
                let sni = seen[0].sni.as_deref() == Some(&name);
                (seen[0].protocol == protocol && sni).then_some(()).ok_or_else(|| format!("{seen:?}"))
            }),
        });
        scene.dns.has(&format!("{label}.wild.test"), &[&own]);
        names.push(format!("{label}.wild.test"));
        others.push(upstream);
    }
    // An address has no name to ask for; its certificate has the address.
    rules += &scene.rule("address", &own, "");
    rows.push(Row::control("address", Ask::new("GET", "https", &scene.at(&own), "/")).and(
        |_, seen| match &seen[0].sni {
            None => Ok(()),
            Some(sni) => Err(format!("`{sni}` was asked for")),
        },
    ));
    let named = Upstream::tls(SocketAddr::new(scene.tls.address.ip(), 0), scene.authority.serve(&[GOOD])).await;
    rules += &scene.rule_at("named", "https", &own, &named, "");
    let at_named = Ask::new("GET", "https", &format!("{own}:{}", named.address.port()), "/");
    rows.push(Row::refused("an address of which the certificate has only the name", at_named, &[Why::Tls]));
    others.push(named);
    // TLS where there is none, and none where there is TLS.
    rules += &scene.rule_at(
        "deaf",
        "https",
        "deaf.wild.test",
        &scene.plain,
        "timeouts = { connect_ms = 700, first_byte_ms = 700 }",
    );
    rules += &scene.rule_at(
        "mute",
        "http",
        "mute.wild.test",
        &scene.tls,
        "timeouts = { connect_ms = 700, first_byte_ms = 700 }",
    );
    for name in ["deaf.wild.test", "mute.wild.test"] {
        scene.dns.has(name, &[&own]);
        names.push(name.into());
    }
    rows.push(Row::refused(
        "deaf",
        Ask::new("GET", "https", &scene.clear_at("deaf.wild.test"), "/"),
        &[Why::Tls, Why::Timeout],
    ));
    rows.push(Row::refused(
        "mute",
        Ask::new("GET", "http", &scene.at("mute.wild.test"), "/"),
        &[Why::Protocol, Why::Response, Why::Timeout],
    ));
    scene.others = others;
    names.iter().for_each(|name| scene.allow_name(name));
    let rig = scene.rig(rules).await;
    // What was meant for TLS and came in the clear is no request.
    hold(&scene, &rig, rows).await;
    let clear: Vec<_> = scene.plain.connections().into_iter().flat_map(|connection| connection.bytes).collect();
    assert!(!String::from_utf8_lossy(&clear).contains("HTTP/1.1"), "nothing of a request was said in the clear");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn net_05_a_client_certificate_is_shown_to_nobody_else() {
    let mut scene = Scene::new().await;
    let own = scene.tls.address.ip().to_string();
    let clients = Authority::new("a test's authority for clients");
    let server: Identity = scene.authority.issue(&Leaf::of(&["mutual.wild.test"]));
    let mutual =
        Upstream::tls(SocketAddr::new(scene.tls.address.ip(), 0), server.server(&["h2", "http/1.1"], Some(&clients)))
            .await;
    let client = clients.issue(&Leaf::of(&["tester"]));
    let (chain, key) = (scene.dir.path().join("client.pem"), scene.dir.path().join("client.key"));
    keep(&chain, &client.chain_pem);
    keep(&key, &client.key_pem);
    let rules =
        scene.rule_at("with", "https", "mutual.wild.test", &mutual, "paths = [\"/with\"]\ncredentials = [\"client\"]")
            + &scene.rule_at("without", "https", "mutual.wild.test", &mutual, "paths = [\"/without\"]")
            + &scene.rule("name", GOOD, "")
            + &client_certificate("client", &chain, &key);
    scene.dns.has("mutual.wild.test", &[&own]);
    scene.allow_name("mutual.wild.test");
    let port = mutual.address.port();
    let ask = |path: &str| Ask::new("GET", "https", &format!("mutual.wild.test:{port}"), path);
    let upstream = mutual.clone();
    scene.others.push(mutual);
    let rig = scene.rig(rules).await;
    let rows = vec![
        Row::control("with", ask("/with")).adds("accept-encoding"),
        // Not on the connection that the first one left open, either.
        Row::refused("without", ask("/without"), &[Why::Tls, Why::Protocol, Why::Connect]),
        Row::control("another", Ask::new("GET", "https", &scene.at(GOOD), "/")),
    ];
    hold(&scene, &rig, rows).await;
    let shown = upstream.connections().into_iter().filter(|connection| connection.certificate.is_some()).count();
    assert_eq!(shown, 1);
}
