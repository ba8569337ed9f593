//! SEC-05 and SEC-08: everything that the daemon wrote, says and holds, swept for many secrets.

use super::{Ask, GOOD, Keeper, Place, Row, Scene, Why, found, hold, keep, sentinel, sweep};
use crate::hostile::rig::{Rig, RigSetup};

/// Types of credentials of which a request carries the value, and, at the end, those that only sign with it.
const KINDS: &[(&str, &[&str])] = &[
    ("type = \"bearer\"", &["authorization"]),
    ("type = \"header\"\nheader = \"x-api-key\"\nprefix = \"key=\"", &["x-api-key"]),
    ("type = \"basic\"\nusername = \"tester\"", &["authorization"]),
    (QUERY, &[]),
    ("type = \"hmac\"\nkey_id = \"tester\"", &["x-key-id", "x-timestamp", "x-signature"]),
    (
        "type = \"aws-sigv4\"\nregion = \"test\"\nservice = \"s3\"",
        &["authorization", "x-amz-date", "x-amz-content-sha256"],
    ),
];

const QUERY: &str = "type = \"query\"\nparameter = \"key\"";

/// So many of them put the value on the request.
const CARRIED: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sec_08_fifty_secrets_are_at_their_upstream_and_nowhere_else() {
    let scene = Scene::new().await;
    let secrets: Vec<_> = (0..50).map(|_| sentinel()).collect();
    let (mut rules, mut rows, mut environment) = (String::new(), Vec::new(), Vec::new());
    for (index, secret) in secrets.iter().enumerate() {
        let (name, path) = (format!("c{index}"), format!("/{index}"));
        let (kind, added) = KINDS[index % KINDS.len()];
        let file = scene.dir.path().join(&name);
        keep(&file, secret);
        // The kinds come round in each of the places where values are kept.
        let source = match index / KINDS.len() % 3 {
            0 => format!("{{ file = {file:?} }}"),
            1 => format!("{{ exec = {{ command = [\"/bin/cat\", {file:?}] }} }}"),
            _ => {
                environment.push((format!("TOKEN_{index}"), secret.clone()));
                format!("{{ env = \"TOKEN_{index}\" }}")
            }
        };
        let source = match kind.contains("sigv4") {
            true => {
                format!("keys = {{ separate = {{ access_key_id = \"AKIATESTER\", secret_access_key = {source} }} }}")
            }
            false => format!("source = {source}"),
        };
        rules += &format!("[[credential]]\nname = \"{name}\"\n{kind}\n{source}\n");
        rules += &scene.rule(&format!("r{index}"), GOOD, &format!("paths = [\"{path}\"]\ncredentials = [\"{name}\"]"));
        let ask = Ask::new("GET", "https", &scene.at(GOOD), &path);
        // What is added to a query is in the target, which is looked at below.
        let row = if kind == QUERY { Row::once(name, ask) } else { Row::control(name, ask) };
        rows.push(added.iter().fold(row.adds("accept-encoding"), |row, header| row.adds(header)));
    }
    let rig = Rig::new(RigSetup { environment, ..scene.setup(rules) }).await;
    rig.also(secrets.iter().map(|secret| secret.clone().into_bytes()));
    // An echo of the request is what the guest was told each time: it was scrubbed, or the sweep finds it.
    hold(&scene, &rig, rows).await;
    let sent: Vec<_> = scene.tls.connections().into_iter().flat_map(|connection| connection.bytes).collect();
    for (index, secret) in secrets.iter().enumerate() {
        let found = sweep(&[secret], [Place::Buffer("the upstream".into(), sent.clone())]).hits;
        let expected = usize::from(index % KINDS.len() < CARRIED);
        assert_eq!(found.len(), expected, "the upstream was sent `{secret}` so often");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sec_05_failures_say_no_secret() {
    let keeper = Keeper::new().await;
    let scene = &keeper.scene;
    // Each way to fail once the secret is in the daemon's hands.
    scene.tls.on("/error", |_| crate::harness::upstream::Reply::status(401));
    let mut rows = vec![keeper.signed("answered", keeper.ask("/"))];
    rows.push(Row::answered("unauthorised", keeper.ask("/error"), 401).adds("authorization").adds("accept-encoding"));
    rows.push(Row::refused("own header", keeper.ask("/").header("authorization", "x"), &[Why::OwnCredential]));
    rows.push(Row::refused("not a target", keeper.ask("/../"), &[Why::Request]));
    hold(scene, &keeper.rig, rows).await;
    let records =
        [keeper.rig.records("intent").await, keeper.rig.records("outcome").await, keeper.rig.records("denial").await]
            .concat();
    assert!(records.len() >= 6, "what happened is on record: {records:?}");
    let records = serde_json::to_vec(&records).unwrap();
    found(&[&keeper.secret], vec![Place::Buffer("records".into(), records)]).unwrap();
}
