//! NET-06 and NET-08: request targets, methods and schemes.

use super::{
    super::{
        ask::Ask,
        rig::Why,
        scene::{GOOD, Scene},
        table::{Row, hold},
    },
    NEVER, get,
};

#[tokio::test]
async fn net_06_a_target_is_a_plain_path_below_what_is_allowed() {
    let scene = Scene::new().await;
    let rig = scene.rig(scene.rule("name", GOOD, "paths = [\"/repos/acme/**\", \"/one/*/three\", \"/exact\"]")).await;
    let controls = [
        "/exact",
        "/exact?a=b",
        "/repos/acme/x",
        "/repos/acme/x/y?q=%20&r=%2F..%2F",
        "/repos/acme/%C3%A9",
        "/one/two/three",
        "/exact?http://evil.test/",
        "/repos/acme/a.b..c/x",
        "/repos/acme/~user/(a)",
    ];
    let mut rows: Vec<_> = controls.map(|path| Row::control(format!("legal {path}"), get(&scene, GOOD, path))).into();
    let long = format!("/repos/acme/{}", "a".repeat(9000));
    let never = [
        "http://evil.test/",
        "https://evil.test/exact",
        "http://169.254.169.254/latest",
        "//evil.test/exact",
        "*",
        "exact",
        "evil.test:443",
        "evil.test",
        "?a=b",
        "/repos/acme/../../secret",
        "/repos/acme/..",
        "/repos/acme/./x",
        "/repos/acme//x",
        "//repos/acme/x",
        "/repos/acme/%2e%2e/secret",
        "/repos/acme/%2E%2e/secret",
        "/repos/acme/.%2e/secret",
        "/repos/acme/%2e/x",
        "/repos/acme/..;/secret",
        "/repos/acme/..;a=b/secret",
        "/repos/acme/%2f..%2fsecret",
        "/repos/acme/a%2fb",
        "/repos/acme/a%5cb",
        "/repos/acme/a\\..\\b",
        "/repos/acme/%252e%252e/secret",
        "/repos/acme/%25%32%65",
        "/repos/acme/%00",
        "/repos/acme/%0d%0aX:y",
        "/repos/acme/%7f",
        "/repos/acme/%",
        "/repos/acme/%zz",
        "/repos/acme/%2",
        "/repos/acme/%u002e",
        "/repos/acme/%c0%ae%c0%ae/secret",
        "/repos/acme/ x",
        "/repos/acme/\tx",
        "/repos/acme/x HTTP/1.1\r\nhost: evil.test\r\n\r\n",
        "/repos/acme/x\r\nx: y",
        "/repos/acme/x\ny",
        "/repos/acme/\0",
        "/repos/acme/\u{e9}",
        "/repos/acme/\u{ff0e}\u{ff0e}/x",
        "/exact?a=b c",
        "/exact?a=\r\nb",
        "/exact?\0",
        "/exact?%zz",
        &long,
        // Plain, and not allowed.
        "/",
        "/exactly",
        "/exact/",
        "/exact/more",
        "/Exact",
        "/repos",
        "/repos/acmes",
        "/repos/Acme/x",
        "/one/three",
        "/one/two/2/three",
        "/one//three",
    ];
    for path in never {
        let name = format!("`{}`", path.escape_default().to_string().chars().take(60).collect::<String>());
        rows.push(Row::refused(name, get(&scene, GOOD, path), NEVER));
    }
    // A fragment is never sent: http::Uri drops it before anybody judges the rest.
    rows.push(Row::once("a fragment", get(&scene, GOOD, "/exact#/../evil")).and(|_, seen| match seen {
        [seen] if seen.target != "/exact" => Err(seen.target.clone()),
        _ => Ok(()),
    }));
    let outside = get(&scene, GOOD, "/#/exact");
    rows.push(Row::refused("a fragment that would be allowed", outside, NEVER));
    rows.push(Row::refused("no path", Ask { path_with_query: None, ..get(&scene, GOOD, "") }, NEVER));
    hold(&scene, &rig, rows).await;
}

#[tokio::test]
async fn net_08_a_method_or_scheme_that_is_not_listed_is_refused() {
    let scene = Scene::new().await;
    let rules = scene.rule("name", GOOD, "") + &scene.clear_rule("clear", "clear.allowed.test", "");
    let rig = scene.rig(rules).await;
    let with = |method: &str| Ask { method: method.into(), ..get(&scene, GOOD, "/") };
    let mut rows: Vec<_> =
        ["GET", "HEAD", "POST", "PUT"].map(|method| Row::control(format!("legal {method}"), with(method))).into();
    let methods = [
        "CONNECT",
        "TRACE",
        "TRACK",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "PRI",
        "get",
        "Get",
        "GET ",
        " GET",
        "GE\tT",
        "GET\r\nx: y",
        "GET\0",
        "GET / HTTP/1.1\r\nhost: evil.test\r\n\r\nGET",
        "",
        "G\u{c9}T",
        "GET,POST",
        "M-SEARCH",
        "PROPFIND",
        &"A".repeat(1000),
    ];
    for method in methods {
        let name = format!("method `{}`", method.escape_default().to_string().chars().take(40).collect::<String>());
        rows.push(Row::refused(name, with(method), NEVER));
    }
    let schemes = [
        "http",
        "ws",
        "wss",
        "ftp",
        "file",
        "gopher",
        "dict",
        "ldap",
        "unix",
        "data",
        "javascript",
        "h2c",
        "httpss",
        "https:",
        "https://",
        "",
        "HTTP ",
        "http\r\n",
        "\u{ff48}ttps",
    ];
    for scheme in schemes {
        let ask = Ask { scheme: Some(scheme.into()), ..get(&scene, GOOD, "/") };
        rows.push(Row::refused(format!("scheme `{}`", scheme.escape_default()), ask, NEVER));
    }
    let downgraded = Ask::new("GET", "http", &scene.clear_at(GOOD), "/");
    rows.push(Row::refused("in the clear, where the other rule has its port", downgraded, NEVER));
    let upgrade = with("GET").header("upgrade", "websocket").header("connection", "upgrade");
    rows.push(Row::refused("a web socket", upgrade, &[Why::Header]));
    hold(&scene, &rig, rows).await;
}
