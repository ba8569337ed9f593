//! SEC-02: what a guest brings of its own where the daemon attaches something.

use std::collections::BTreeSet;

use super::{Ask, GOOD, Row, Scene, Why, hold, keep, sentinel};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sec_02_a_guest_brings_nothing_that_a_credential_sets() {
    let scene = Scene::new().await;
    // What each sets, and what a guest brings instead.
    let kinds: &[(&str, &str, &[&str], &[&str])] = &[
        ("header", "type = \"header\"\nheader = \"x-api-key\"\nSOURCE", &["x-api-key"], &[]),
        ("basic", "type = \"basic\"\nusername = \"u\"\nSOURCE", &["authorization"], &[]),
        (
            "query",
            "type = \"query\"\nparameter = \"key\"\nSOURCE",
            &[],
            &[
                "key=mine",
                "key",
                "key=",
                "a=b&key=mine",
                "key=mine&a=b",
                "KEY=mine",
                "a=b;key=mine",
                "a&&key=mine",
                "k%65y=mine",
                "%6B%65%79=mine",
                "key==mine",
            ],
        ),
        ("hmac", "type = \"hmac\"\nkey_id = \"u\"\nSOURCE", &["x-key-id", "x-timestamp", "x-signature"], &[]),
        (
            "aws",
            "type = \"aws-sigv4\"\nregion = \"r\"\nservice = \"s3\"\nkeys = { separate = { access_key_id = \"AKIAT\", secret_access_key = VALUE } }",
            &["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"],
            &[],
        ),
    ];
    let file = scene.dir.path().join("value");
    keep(&file, &sentinel());
    let value = format!("{{ file = {file:?} }}");
    let (mut rules, mut rows) = (String::new(), Vec::new());
    let own = &[Why::OwnCredential, Why::Header];
    for (name, kind, headers, queries) in kinds {
        let kind = kind.replace("SOURCE", &format!("source = {value}")).replace("VALUE", &value);
        rules += &format!("[[credential]]\nname = \"{name}\"\n{kind}\n");
        rules += &scene.rule(name, GOOD, &format!("paths = [\"/{name}\"]\ncredentials = [\"{name}\"]"));
        let ask = |query: &str| Ask::new("GET", "https", &scene.at(GOOD), &format!("/{name}{query}"));
        let set = headers.iter().fold(Row::once(*name, ask("")), |row, header| row.adds(header));
        rows.push(set.adds("accept-encoding").and(|it, seen| match (it.failure(), seen) {
            (None, [_]) => Ok(()),
            other => Err(format!("{other:?}")),
        }));
        let set = headers.iter().copied().chain(["authorization"]).collect::<BTreeSet<_>>();
        // To many servers an underscore is a hyphen.
        let spellings = set.iter().flat_map(|set| [(*set).to_owned(), set.to_uppercase(), set.replace('-', "_")]);
        for spelt in spellings.collect::<BTreeSet<_>>() {
            rows.push(Row::refused(format!("{name}: {spelt}"), ask("").header(&spelt, "mine"), own));
        }
        for query in *queries {
            rows.push(Row::refused(
                format!("{name}: {query}"),
                ask(&format!("?{query}")),
                &[Why::OwnCredential, Why::Request],
            ));
        }
    }
    rules += &scene.rule("none", GOOD, "paths = [\"/\"]");
    rows.push(Row::control(
        "without a credential",
        Ask::new("GET", "https", &scene.at(GOOD), "/?key=mine")
            .header("authorization", "mine")
            .header("x-api-key", "mine"),
    ));
    let rig = scene.rig(rules).await;
    hold(&scene, &rig, rows).await;
}
