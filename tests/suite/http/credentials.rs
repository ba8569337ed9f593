//! A credential goes along and its guest never sees it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use palisade_proto::v1;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{ALL, answered, code, get, rule, upstream, with};
use crate::harness::{
    Daemon,
    certificates::{Authority, Leaf},
    upstream::{Piece, Reply, Upstream},
};

const SECRET: &str = "canary-5e0d77c1-of-the-api";
const ROTATED: &str = "canary-19ab3f42-the-next-one";

/// Writes a secret as whoever rotates it does: whole, or not at all.
fn write(file: &Path, secret: &str) {
    let new = file.with_extension("new");
    fs::write(&new, secret).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, file).unwrap();
}

/// A daemon whose agent's requests carry a bearer by the rule `api`, and none by the rule `bare`.
async fn keyed() -> (Daemon, Upstream, TempDir) {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), upstream().await);
    let file = dir.path().join("token");
    write(&file, SECRET);
    let credential = format!("[[credential]]\nname = \"token\"\ntype = \"bearer\"\nsource = {{ file = {file:?} }}\n");
    let keyed =
        rule("api", &upstream, "methods = [\"GET\", \"POST\"]\npaths = [\"/keyed/**\"]\ncredentials = [\"token\"]");
    let bare = rule("bare", &upstream, "paths = [\"/bare\"]\ncredentials = [\"token\"]");
    let daemon = Daemon::governed(ALL, &format!("{keyed}{bare}{credential}")).await;
    daemon.agent("[[egress]]\nrule = \"api\"\ncredential = \"token\"\n[[egress]]\nrule = \"bare\"\n").await.unwrap();
    (daemon, upstream, dir)
}

fn authorizations(upstream: &Upstream) -> Vec<Option<String>> {
    upstream.seen().iter().map(|seen| seen.value("authorization")).collect()
}

#[tokio::test]
async fn a_bearer_goes_along_by_the_rule_that_carries_it_and_is_nowhere_else() {
    let (mut daemon, upstream, _dir) = keyed().await;
    upstream.on("/keyed/1", |_| Reply::text("an answer"));
    let said = daemon.ask(json!([get(&upstream, "/keyed/1"), get(&upstream, "/bare"), "env"])).await;
    assert_eq!(answered(&said[0])["body"], "an answer");
    assert_eq!(answered(&said[1])["status"], 200);
    assert_eq!(authorizations(&upstream), [Some(format!("Bearer {SECRET}")), None]);
    assert!(!format!("{said:?}").contains(SECRET));
    let intents = daemon.records(&["intent"]).await;
    assert_eq!((&intents[0]["body"]["credential"], &intents[1]["body"]["credential"]), (&json!("token"), &Value::Null));
    let request = v1::GetCredentialRequest { name: "credentials/token".into() };
    let shown = daemon.credentials().get_credential(request).await.unwrap().into_inner();
    assert!(shown.last_attach_time.is_some() && shown.failure.is_empty(), "{shown:?}");
    daemon.stop().await;
    let mut looked = 0;
    let mut folders = vec![daemon.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false if entry.file_type().unwrap().is_file() => {
                    let bytes = fs::read(entry.path()).unwrap();
                    assert!(!holds(&bytes, SECRET.as_bytes()), "{}", entry.path().display());
                    looked += usize::from(holds(&bytes, b"/keyed/1"));
                }
                false => {}
            }
        }
    }
    assert!(looked > 0, "the journal was among what was looked at");
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[tokio::test]
async fn a_rewritten_file_is_what_the_next_request_carries() {
    let (daemon, upstream, dir) = keyed().await;
    daemon.ask(json!([get(&upstream, "/keyed/1")])).await;
    write(&dir.path().join("token"), ROTATED);
    daemon.ask(json!([get(&upstream, "/keyed/1")])).await;
    assert_eq!(authorizations(&upstream), [Some(format!("Bearer {SECRET}")), Some(format!("Bearer {ROTATED}"))]);
    fs::remove_file(dir.path().join("token")).unwrap();
    let said = daemon.ask(json!([get(&upstream, "/keyed/1"), get(&upstream, "/bare")])).await;
    assert_eq!(code(&said[0]), "CREDENTIAL_UNAVAILABLE");
    assert!(!said[0].contains(ROTATED) && !said[0].contains(dir.path().to_str().unwrap()), "no host path: {said:?}");
    assert_eq!(answered(&said[1])["status"], 200);
    assert_eq!(upstream.seen().len(), 3, "nothing goes without it");
}

#[tokio::test]
async fn a_revoked_credential_goes_along_no_more_until_it_is_restored() {
    let (daemon, upstream, _dir) = keyed().await;
    let acts = json!([get(&upstream, "/keyed/1"), get(&upstream, "/bare")]);
    assert_eq!(answered(&daemon.ask(acts.clone()).await[0])["status"], 200);
    let name = "credentials/token".to_owned();
    daemon.credentials().revoke_credential(v1::RevokeCredentialRequest { name: name.clone() }).await.unwrap();
    let said = daemon.ask(acts.clone()).await;
    assert_eq!((code(&said[0]).as_str(), &answered(&said[1])["status"]), ("CREDENTIAL_REVOKED", &json!(200)));
    assert_eq!(upstream.seen().len(), 3);
    daemon.credentials().restore_credential(v1::RestoreCredentialRequest { name }).await.unwrap();
    assert_eq!(answered(&daemon.ask(acts).await[0])["status"], 200);
}

#[tokio::test]
async fn a_guests_own_authorization_is_refused_where_the_daemon_attaches_one() {
    let (daemon, upstream, _dir) = keyed().await;
    let own = json!({ "headers": [["Authorization", "Bearer of-my-own"]] });
    let said = daemon.ask(json!([with(&upstream, "/keyed/1", own), get(&upstream, "/keyed/1")])).await;
    assert_eq!(code(&said[0]), "CREDENTIAL_SUPPLIED");
    assert!(
        said[0].contains("authorization") && said[0].contains("`token`") && !said[0].contains("of-my-own"),
        "{said:?}"
    );
    assert_eq!(answered(&said[1])["status"], 200);
    assert_eq!(authorizations(&upstream), [Some(format!("Bearer {SECRET}"))]);
}

#[tokio::test]
async fn an_upstream_that_gives_the_credential_back_gives_it_to_nobody() {
    let (daemon, upstream, _dir) = keyed().await;
    let twice = [SECRET, " and ", &BASE64_STANDARD.encode(SECRET)].concat();
    upstream.on("/keyed/echo", move |_| {
        Reply::text(twice.clone()).header("x-echo", format!("Bearer {SECRET}")).byte_by_byte()
    });
    upstream.on("/keyed/trailer", |_| {
        Reply::text("")
            .body(vec![Piece::Bytes(b"plain ".to_vec()), Piece::Bytes(b"text".to_vec())])
            .trailer("x-end", SECRET)
    });
    let said = daemon.ask(json!([get(&upstream, "/keyed/echo"), get(&upstream, "/keyed/trailer")])).await;
    let echoed = answered(&said[0]);
    let (length, and) = (echoed["body_bytes"].as_u64().unwrap(), echoed["body"].as_str().unwrap());
    assert!(length > 0 && and.contains(" and "), "the rest is there: {echoed}");
    assert_eq!(answered(&said[1])["body"], "plain text");
    for told in [format!("{said:?}"), format!("{:?}", daemon.records(&[]).await), daemon.log()] {
        assert!(!told.contains(SECRET) && !told.contains(&BASE64_STANDARD.encode(SECRET)), "{told}");
    }
    assert_eq!(daemon.records(&["outcome"]).await[0]["body"]["http"]["answered"]["scrubbed"], 2);
}

#[tokio::test]
async fn what_cannot_be_looked_through_is_not_let_in_where_a_credential_went() {
    let (daemon, upstream, _dir) = keyed().await;
    for path in ["/keyed/coded", "/bare"] {
        upstream.on(path, |_| Reply::text("zzz").header("content-encoding", "gzip"));
    }
    let range = json!({ "headers": [["range", "bytes=0-3"]] });
    let said = daemon
        .ask(json!([get(&upstream, "/keyed/coded"), get(&upstream, "/bare"), with(&upstream, "/keyed/1", range)]))
        .await;
    assert_eq!((code(&said[0]).as_str(), &answered(&said[1])["status"]), ("RESPONSE_REFUSED", &json!(200)));
    assert_eq!(code(&said[2]), "REQUEST_INVALID");
    assert_eq!(upstream.seen()[0].value("accept-encoding").as_deref(), Some("identity"));
}

#[tokio::test]
async fn each_kind_of_credential_goes_where_its_protocol_says() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), upstream().await);
    let file = dir.path().join("value");
    write(&file, SECRET);
    let kinds = [
        ("basic", "type = \"basic\"\nusername = \"ada\""),
        ("header", "type = \"header\"\nheader = \"x-api-key\"\nprefix = \"v1 \""),
        ("query", "type = \"query\"\nparameter = \"key\""),
        ("hmac", "type = \"hmac\"\nkey_id = \"ours\""),
    ];
    let (mut config, mut manifest) = (String::new(), String::new());
    for (name, kind) in kinds {
        config +=
            &rule(name, &upstream, &format!("methods = [\"POST\"]\npaths = [\"/{name}\"]\ncredentials = [\"{name}\"]"));
        config += &format!("[[credential]]\nname = \"{name}\"\n{kind}\nsource = {{ file = {file:?} }}\n");
        manifest += &format!("[[egress]]\nrule = \"{name}\"\ncredential = \"{name}\"\n");
    }
    let daemon = Daemon::governed(ALL, &config).await;
    daemon.agent(&manifest).await.unwrap();
    let acts: Vec<_> = kinds.iter().map(|(name, _)| super::post(&upstream, &format!("/{name}?q=1"))).collect();
    let said = daemon.ask(json!(acts)).await;
    assert!(said.iter().all(|said| answered(said)["status"] == 200), "{said:?}");
    let [basic, header, query, hmac] = &upstream.seen()[..] else { panic!("four were sent") };
    let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("ada:{SECRET}")));
    assert_eq!(basic.value("authorization"), Some(expected));
    assert_eq!(header.value("x-api-key"), Some(format!("v1 {SECRET}")));
    assert_eq!(query.target, format!("/query?q=1&key={SECRET}"));
    assert!(hmac.value("x-signature").is_some() && hmac.value("x-key-id").as_deref() == Some("ours"));
    assert!(!String::from_utf8_lossy(&hmac.head).contains(SECRET));
    let bodies: Vec<_> = upstream.seen().iter().map(|seen| (seen.body.clone(), seen.complete)).collect();
    assert!(bodies.iter().all(|body| *body == (b"word".to_vec(), true)), "{bodies:?}");
    // The upstream echoes all that it got, and the guest saw nothing of it.
    assert!(!format!("{said:?}{:?}", daemon.records(&[]).await).contains(SECRET));
}

#[tokio::test]
async fn a_client_certificate_is_shown_by_the_rule_that_carries_it_and_by_no_other() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("a test's"));
    let server = authority.issue(&Leaf::of(&["127.0.0.1"])).server(&["h2", "http/1.1"], Some(&authority));
    let upstream = Upstream::tls(([127, 0, 0, 1], 0).into(), server).await;
    let client = authority.issue(&Leaf::of(&["client.test"]));
    let file = dir.path().join("identity.pem");
    write(&file, &format!("{}{}", client.chain_pem, client.key_pem));
    let to = format!("host = \"127.0.0.1\"\nport = {}\ncidrs = [\"127.0.0.1/32\"]\n", upstream.address.port());
    let config = format!(
        "[network]\nca_files = [{:?}]\n[[egress]]\nname = \"api\"\npaths = [\"/keyed\"]\ncredentials = [\"identity\"]\n{to}\
         [[egress]]\nname = \"bare\"\npaths = [\"/bare\"]\n{to}[[credential]]\nname = \"identity\"\ntype = \"mtls\"\n\
         certificates = {{ file = {file:?} }}\nkey = {{ file = {file:?} }}\n",
        authority.file(dir.path())
    );
    let daemon = Daemon::governed(ALL, &config).await;
    daemon.agent("[[egress]]\nrule = \"api\"\ncredential = \"identity\"\n[[egress]]\nrule = \"bare\"\n").await.unwrap();
    let secure = |path: &str| with(&upstream, path, json!({ "scheme": "https" }));
    let said = daemon.ask(json!([secure("/keyed"), secure("/bare"), secure("/keyed")])).await;
    assert_eq!((&answered(&said[0])["status"], &answered(&said[2])["status"]), (&json!(200), &json!(200)));
    assert!(said[1].starts_with("error: "), "it does not ride the other's connection: {said:?}");
    assert!(upstream.seen().iter().all(|seen| seen.path() == "/keyed"));
    assert!(upstream.connections()[0].certificate.is_some());
}
