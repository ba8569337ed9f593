//! NET-04 and NET-14: names that are read in two ways, or that look like another.

use super::{
    super::{
        ask::Ask,
        scene::{GOOD, Scene},
        table::{Row, hold},
    },
    NEVER, get,
};

#[tokio::test]
async fn net_04_an_authority_that_is_not_plain_is_refused() {
    let mut scene = Scene::new().await;
    let own = scene.tls.address.ip().to_string();
    let rules = scene.rule("name", GOOD, "")
        + &scene.rule("wild", "*.wild.test", "")
        + &scene.rule("idn", "xn--bcher-kva.allowed.test", "");
    let rig = scene.rig(rules).await;
    for name in ["a.wild.test", "xn--bcher-kva.allowed.test"] {
        scene.dns.has(name, &[&own]);
        scene.allow_name(name);
    }
    // If any of these were asked for, it would lead to the canary.
    for name in [
        "evil.test",
        "wild.test",
        "a.b.wild.test",
        "evilwild.test",
        "a.wild.test.evil.test",
        "allowed.test",
        "*.wild.test",
    ] {
        scene.dns.has(name, &["127.0.0.1"]);
    }
    let port = scene.tls.address.port();
    let mut rows = vec![
        Row::control("plain", get(&scene, GOOD, "/")),
        Row::either("upper case", get(&scene, "API.Allowed.TEST", "/")),
        Row::control("a wildcard", get(&scene, "a.wild.test", "/")),
        Row::control("international, as it is sent", get(&scene, "xn--bcher-kva.allowed.test", "/")),
    ];
    let hosts = [
        ("a dot behind", format!("{GOOD}.")),
        ("two dots behind", format!("{GOOD}..")),
        ("a dot in front", format!(".{GOOD}")),
        ("an empty label", "api..allowed.test".into()),
        ("only a dot", ".".into()),
        ("nothing", String::new()),
        ("a fullwidth dot", "api\u{ff0e}allowed.test".into()),
        ("an ideographic dot", "api\u{3002}allowed.test".into()),
        ("a halfwidth dot", "api\u{ff61}allowed.test".into()),
        ("fullwidth letters", "\u{ff41}pi.allowed.test".into()),
        ("a soft hyphen", "api\u{ad}.allowed.test".into()),
        ("a zero-width space", "api\u{200b}.allowed.test".into()),
        ("a joiner", "api\u{200d}.allowed.test".into()),
        ("an override", "\u{202e}api.allowed.test".into()),
        ("a Cyrillic letter", "\u{430}pi.allowed.test".into()),
        ("a Cyrillic letter, encoded", "xn--pi-7kc.allowed.test".into()),
        ("a Kelvin sign", "api.allowed.test\u{212a}".into()),
        ("a long s", "api.allowed.te\u{17f}t".into()),
        ("a ligature", "api.allowed.te\u{fb06}".into()),
        ("bad Punycode", "xn--a.allowed.test".into()),
        ("Punycode of ASCII", "xn--api-.allowed.test".into()),
        ("percent-encoded letters", "%61pi.allowed.test".into()),
        ("a percent-encoded dot", "api%2eallowed.test".into()),
        ("a NUL", "api.allowed.test\0".into()),
        ("a percent-encoded NUL", "api.allowed.test%00.evil.test".into()),
        ("a space", "api.allowed.test evil.test".into()),
        ("a tab", "api.allowed.test\t".into()),
        ("a tab inside", "api.al\tlowed.test".into()),
        ("a line end", "api.allowed.test\r\nhost: evil.test".into()),
        ("a line feed", "api.allowed.test\nevil.test".into()),
        ("a backslash", format!("evil.test\\{GOOD}")),
        ("a backslash behind", format!("{GOOD}\\evil.test")),
        ("a slash", format!("{GOOD}/evil.test")),
        ("a hash", format!("{GOOD}#evil.test")),
        ("a hash before", format!("evil.test#{GOOD}")),
        ("a question mark", format!("{GOOD}?evil.test")),
        ("a question mark before", format!("evil.test?{GOOD}")),
        ("a user", format!("user@{GOOD}")),
        ("a user and a password", format!("user:secret@{GOOD}")),
        ("a user who is a host", format!("{GOOD}@evil.test")),
        ("a user who is a host with a port", format!("{GOOD}:{port}@evil.test")),
        ("two users", format!("a@b@{GOOD}")),
        ("an empty user", format!("@{GOOD}")),
        ("a percent-encoded user", format!("{GOOD}%40evil.test")),
        ("a colon encoded", format!("{GOOD}%3a{port}")),
        ("a semicolon", format!("{GOOD};evil.test")),
        ("a comma", format!("{GOOD},evil.test")),
        ("an underscore", "api_.allowed.test".into()),
        ("a star", "*.allowed.test".into()),
        ("the rule's own star", "*.wild.test".into()),
        ("a hyphen in front", "-api.allowed.test".into()),
        ("a hyphen behind", "api-.allowed.test".into()),
        ("a long label", format!("{}.wild.test", "a".repeat(64))),
        ("a long name", format!("{}wild.test", "a.".repeat(130))),
        ("braces", "{api}.allowed.test".into()),
        ("a quote", "\"api\".allowed.test".into()),
        ("the parent", "allowed.test".into()),
        ("the parent of the wildcard", "wild.test".into()),
        ("two labels for the wildcard", "a.b.wild.test".into()),
        ("the wildcard without a dot", "evilwild.test".into()),
        ("the wildcard inside", "a.wild.test.evil.test".into()),
        ("a name in front", "evil-api.allowed.test".into()),
        ("a name behind", format!("{GOOD}.evil.test")),
        ("another name", "evil.test".into()),
    ];
    rows.extend(hosts.iter().map(|(name, host)| Row::refused(*name, get(&scene, host, "/"), NEVER)));
    let ports = [
        "0",
        "65536",
        "99999999999",
        "-1",
        "+443",
        "0x1bb",
        "443a",
        "a",
        " 443",
        "\u{ff14}\u{ff14}\u{ff13}",
        "443:443",
        "80,443",
    ];
    for other in ports {
        let ask = Ask::new("GET", "https", &format!("{GOOD}:{other}"), "/");
        rows.push(Row::refused(format!("port `{}`", other.escape_default()), ask, NEVER));
    }
    rows.push(Row::refused(
        "another port",
        Ask::new("GET", "https", &format!("{GOOD}:{}", scene.plain.address.port()), "/"),
        NEVER,
    ));
    rows.push(Row::refused("two ports", Ask::new("GET", "https", &format!("{GOOD}:80:{port}"), "/"), NEVER));
    rows.push(Row::refused("a port with zeros", Ask::new("GET", "https", &format!("{GOOD}:0{port}"), "/"), NEVER));
    rows.push(Row::refused("no authority", Ask { authority: None, ..get(&scene, GOOD, "/") }, NEVER));
    hold(&scene, &rig, rows).await;
}

/// Names of a public kind of corpus that parsers disagree about: whatever becomes of them, it is either nothing or
/// what is written there.
#[tokio::test]
async fn net_14_what_is_read_in_two_ways_goes_nowhere_or_where_it_says() {
    let scene = Scene::new().await;
    let rig = scene.rig(scene.rule("name", GOOD, "")).await;
    let mut rows = vec![Row::control("plain", get(&scene, GOOD, "/"))];
    let port = scene.tls.address.port();
    let authorities = [
        format!("{GOOD}:"),
        format!("{GOOD}:{port}:"),
        format!("{GOOD}:{port}#@evil.test"),
        format!("{GOOD}:{port}\\@evil.test"),
        format!("evil.test#@{GOOD}:{port}"),
        format!("evil.test\\@{GOOD}:{port}"),
        format!("evil.test%23@{GOOD}:{port}"),
        format!("evil.test:{port}%2f@{GOOD}:{port}"),
        format!("foo@evil.test:{port}@{GOOD}:{port}"),
        format!("[{GOOD}]:{port}"),
        format!("{GOOD}%0d%0a:{port}"),
        format!("{GOOD}&evil.test:{port}"),
        format!("{GOOD}|evil.test:{port}"),
        format!("{GOOD}^evil.test:{port}"),
        format!("{GOOD}`evil.test:{port}"),
        format!("{GOOD}$evil.test:{port}"),
        format!("{GOOD}!evil.test:{port}"),
        format!("{GOOD}(evil.test):{port}"),
        format!("{GOOD}'evil.test:{port}"),
        format!("{GOOD}~evil.test:{port}"),
        format!("{GOOD}+evil.test:{port}"),
        format!("{GOOD}=evil.test:{port}"),
        format!("1.1.1.1 &@2.2.2.2# @3.3.3.3:{port}"),
        format!("127.0.0.1:11211:{port}"),
        format!("0://evil.test:{port};{GOOD}:{port}"),
        format!("xn--{GOOD}:{port}"),
        format!("{GOOD}:{port}@127.0.0.1:{port}"),
        format!("127.0.0.1%2f@{GOOD}:{port}"),
        format!("\u{2460}\u{2461}\u{2466}.0.0.1:{port}"),
        format!("\u{24d4}vil.test:{port}"),
        format!("api\u{2024}allowed\u{2024}test:{port}"),
        format!("{GOOD}\u{2100}evil.test:{port}"),
        format!("{GOOD}\u{ff0f}evil.test:{port}"),
        format!("{GOOD}\u{ff03}evil.test:{port}"),
        format!("{GOOD}\u{ff20}evil.test:{port}"),
        format!("{GOOD}\u{ff1a}{port}"),
        format!("{GOOD}\u{2048}evil.test:{port}"),
        format!("fa\u{df}.allowed.test:{port}"),
        format!("xn--fa-hia.allowed.test:{port}"),
        format!("xn--xn---epa.allowed.test:{port}"),
    ];
    rows.extend(authorities.iter().map(|authority| {
        let name = format!("`{}`", authority.replace(&port.to_string(), "P").escape_default());
        Row::either(name, Ask::new("GET", "https", authority, "/"))
    }));
    hold(&scene, &rig, rows).await;
}
