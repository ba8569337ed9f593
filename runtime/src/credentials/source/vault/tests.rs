//! One story, told to a fake and to a real OpenBao.

mod fake;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::super::{Opening, Read};
use crate::credentials::{
    Fetch, Fetched, FetchedReply,
    config::{Source, Vault, VaultAuth},
    tests::{Folder, advance, now},
};
use fake::Fake;

const ROOT: &str = "root-token";

/// A server that a test is the administrator of.
struct Server {
    fetch: Arc<dyn Fetch>,
    address: String,
    folder: Folder,
}

impl Server {
    fn new(fetch: Arc<dyn Fetch>, address: &str) -> Self {
        Self { fetch, address: address.into(), folder: Folder::new() }
    }

    async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        let mut headers = HeaderMap::new();
        headers.insert("x-vault-token", ROOT.parse().unwrap());
        let url = format!("{}/v1/{path}", self.address);
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let reply = self.fetch.fetch(Fetched { method, url, headers, body }).await.unwrap();
        assert!(reply.status < 300, "{path}: {} {}", reply.status, String::from_utf8_lossy(&reply.body));
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }

    async fn put(&self, path: &str, data: Value) {
        self.admin(Method::POST, &format!("secret/data/{path}"), json!({ "data": data })).await;
    }

    /// Makes a role that may read `app/*`, and returns the login with it. Its tokens live 60 seconds, and can be
    /// renewed for 100.
    async fn role(&self, uses: u32) -> VaultAuth {
        let policy = r#"path "secret/data/app/*" { capabilities = ["read"] }"#;
        self.admin(Method::POST, "sys/policies/acl/app", json!({ "policy": policy })).await;
        let role = json!({
            "token_policies": "app", "token_ttl": "60s", "token_max_ttl": "100s", "secret_id_num_uses": uses,
        });
        self.admin(Method::POST, "auth/approle/role/app", role).await;
        let role_id = self.admin(Method::GET, "auth/approle/role/app/role-id", Value::Null).await;
        let secret_id = self.admin(Method::POST, "auth/approle/role/app/secret-id", json!({})).await;
        self.folder.write("secret-id", secret_id["data"]["secret_id"].as_str().unwrap());
        VaultAuth::Approle {
            role_id: role_id["data"]["role_id"].as_str().unwrap().into(),
            secret_id: Box::new(Source::File(self.folder.path("secret-id"))),
            mount: "approle".into(),
        }
    }

    fn source(&self, path: &str, field: &str, auth: VaultAuth) -> Source {
        Source::Vault(Box::new(Vault {
            address: self.address.clone(),
            namespace: None,
            mount: "secret".into(),
            path: path.into(),
            field: field.into(),
            auth,
            cache_ms: 10_000,
        }))
    }

    fn open(&self, sources: &[Source]) -> Vec<Arc<dyn Read>> {
        let mut opening = Opening::new(&|_| None, self.fetch.clone(), now);
        sources.iter().map(|source| opening.open(source).unwrap()).collect()
    }
}

async fn value(source: &Arc<dyn Read>) -> Result<String, String> {
    source.read().await.map(|value| String::from_utf8(value.expose().to_vec()).unwrap()).map_err(|why| why.0)
}

async fn story(server: Server) {
    server.put("app/db", json!({ "value": "the first\n", "other": "an \"odd\" ä one", "number": 5 })).await;
    server.put("hidden", json!({ "value": "not for us" })).await;
    let auth = server.role(0).await;
    let of = |path, field| server.source(path, field, auth.clone());
    let [source, other, number, none, missing, hidden] = &server.open(&[
        of("app/db", "value"),
        of("app/db", "other"),
        of("app/db", "number"),
        of("app/db", "none"),
        of("app/missing", "value"),
        of("hidden", "value"),
    ])[..] else {
        unreachable!("six")
    };

    // Fields, and what is none.
    assert_eq!(value(source).await.unwrap(), "the first");
    assert_eq!(value(other).await.unwrap(), "an \"odd\" ä one");
    for (source, word) in [(number, "not a text"), (none, "no such field"), (missing, "deleted"), (hidden, "policies")]
    {
        let why = value(source).await.unwrap_err();
        assert!(why.contains(word) && why.contains(&server.address), "{why}");
    }

    // A new version is used when the old one was used for `cache_ms`.
    server.put("app/db", json!({ "value": "the second" })).await;
    advance(9);
    assert_eq!(value(source).await.unwrap(), "the first");
    advance(1);
    assert_eq!(value(source).await.unwrap(), "the second");

    // The latest version is deleted: it is not used any more. Then it is back.
    server.admin(Method::DELETE, "secret/data/app/db", Value::Null).await;
    advance(10);
    assert!(value(source).await.unwrap_err().contains("deleted"));
    server.admin(Method::POST, "secret/undelete/app/db", json!({ "versions": [2] })).await;
    advance(1);
    assert_eq!(value(source).await.unwrap(), "the second");

    // All tokens of the login are revoked before their time: another login.
    server.admin(Method::POST, "sys/leases/revoke-prefix/auth/approle/login", json!({})).await;
    advance(10);
    assert_eq!(value(source).await.unwrap(), "the second");

    // The token is renewed or replaced as long as it goes on.
    for _ in 0..20 {
        advance(10);
        assert_eq!(value(source).await.unwrap(), "the second");
    }

    // A login that was taken away, and its tokens with it.
    server.folder.write("secret-id", "00000000-0000-0000-0000-000000000000");
    server.admin(Method::POST, "sys/leases/revoke-prefix/auth/approle/login", json!({})).await;
    advance(10);
    let why = value(source).await.unwrap_err();
    assert!(why.contains("login failed") && !why.contains("00000000-"), "{why}");

    // A token of somebody else, in a file.
    server.folder.write("token", ROOT);
    let auth = VaultAuth::Token(Box::new(Source::File(server.folder.path("token"))));
    let [source] = &server.open(&[server.source("hidden", "value", auth)])[..] else { unreachable!("one") };
    assert_eq!(value(source).await.unwrap(), "not for us");
    server.folder.write("token", "no-such-token");
    advance(10);
    assert!(value(source).await.unwrap_err().contains("may not read it"));
}

#[tokio::test]
async fn the_story_is_true_of_the_fake() {
    story(Server::new(Arc::new(Fake::new(ROOT)), "https://vault.example.com")).await;
}

/// `PALISADE_BAO` is the path of OpenBao's program.
#[tokio::test]
#[ignore = "needs OpenBao"]
async fn the_story_is_true_of_openbao() {
    let (_bao, address) = start_openbao();
    let server = Server::new(Arc::new(Http), &address);
    server.admin(Method::POST, "sys/auth/approle", json!({ "type": "approle" })).await;
    story(server).await;
}

#[tokio::test]
async fn a_secret_id_is_used_once_while_its_token_can_be_renewed() {
    let fake = Arc::new(Fake::new(ROOT));
    let server = Server::new(fake.clone(), "https://vault.example.com");
    server.put("app/db", json!({ "value": "a value" })).await;
    let auth = server.role(1).await;
    let [source] = &server.open(&[server.source("app/db", "value", auth)])[..] else { unreachable!("one") };
    for _ in 0..9 {
        assert_eq!(value(source).await.unwrap(), "a value");
        advance(10);
    }
    assert_eq!((fake.count("auth/approle/login"), fake.count("auth/token/renew-self")), (1, 2));
    // The longest life of its token is near, and the secret id is used up.
    advance(10);
    assert!(value(source).await.unwrap_err().contains("login failed"));
}

#[tokio::test]
async fn sources_with_the_same_login_share_it() {
    let fake = Arc::new(Fake::new(ROOT));
    let server = Server::new(fake.clone(), "https://vault.example.com");
    server.put("app/db", json!({ "a": "value a", "b": "value b" })).await;
    let auth = server.role(1).await;
    let sources = server.open(&[server.source("app/db", "a", auth.clone()), server.source("app/db", "b", auth)]);
    let (a, b) = tokio::join!(value(&sources[0]), value(&sources[1]));
    assert_eq!((a.unwrap(), b.unwrap()), ("value a".into(), "value b".into()));
    assert_eq!(fake.count("auth/approle/login"), 1);
}

#[tokio::test]
async fn kubernetes_logs_in_with_the_token_of_its_file() {
    let fake = Arc::new(Fake::new(ROOT));
    let server = Server::new(fake.clone(), "https://vault.example.com");
    server.put("app/db", json!({ "value": "a value" })).await;
    server.folder.write("jwt", "header.payload.signature\n");
    let source = Box::new(Source::File(server.folder.path("jwt")));
    let auth = VaultAuth::Jwt { role: "agent".into(), source, mount: "kubernetes".into() };
    let [source] = &server.open(&[server.source("app/db", "value", auth)])[..] else { unreachable!("one") };
    assert_eq!(value(source).await.unwrap(), "a value");
    assert_eq!(fake.count("auth/kubernetes/login"), 1);
}

#[tokio::test]
async fn a_server_that_talks_nonsense_gives_no_value_and_is_not_quoted() {
    struct Nonsense(u16, &'static str);
    #[async_trait]
    impl Fetch for Nonsense {
        async fn fetch(&self, _request: Fetched) -> Result<FetchedReply, String> {
            Ok(FetchedReply { status: self.0, body: self.1.into() })
        }
    }
    let deep = Box::leak(format!("{{\"data\":{{\"data\":{}", "[".repeat(100_000)).into_boxed_str());
    let large = Box::leak("x".repeat(300 << 10).into_boxed_str());
    for (status, body) in [
        (200, "hunter2"),
        (200, r#"{"data": {"data": null}}"#),
        (200, r#"{"data": {"data": {"value": ["hunter2"]}}}"#),
        (200, r#"{"data": {"data": {"value": ""}}}"#),
        (500, "hunter2"),
        (307, "hunter2"),
        (200, deep),
        (200, large),
    ] {
        let server = Server::new(Arc::new(Nonsense(status, body)), "https://vault.example.com");
        server.folder.write("token", ROOT);
        let auth = VaultAuth::Token(Box::new(Source::File(server.folder.path("token"))));
        let [source] = &server.open(&[server.source("x", "value", auth)])[..] else { unreachable!("one") };
        let why = value(source).await.unwrap_err();
        assert!(!why.contains("hunter2") && why.len() < 300, "{why}");
    }
}

/// Plain HTTP/1.1, a connection for each request.
struct Http;

#[async_trait]
impl Fetch for Http {
    async fn fetch(&self, request: Fetched) -> Result<FetchedReply, String> {
        let (host, path) = request.url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut text = format!("{} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", request.method);
        for (name, value) in &request.headers {
            text += &format!("{name}: {}\r\n", value.to_str().unwrap());
        }
        text += &format!("content-length: {}\r\n\r\n", request.body.len());
        let mut stream = TcpStream::connect(host).map_err(|e| e.to_string())?;
        stream.write_all(&[text.as_bytes(), &request.body].concat()).map_err(|e| e.to_string())?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).map_err(|e| e.to_string())?;
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
        Ok(FetchedReply { status: head[9..12].parse().unwrap(), body: body.to_string().into() })
    }
}

/// Dies with the test.
struct Bao(Child);

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_openbao() -> (Bao, String) {
    let program = std::env::var("PALISADE_BAO").expect("PALISADE_BAO is the path of OpenBao's program");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let arguments = [
        "server".into(),
        "-dev".into(),
        "-dev-no-store-token".into(),
        format!("-dev-root-token-id={ROOT}"),
        format!("-dev-listen-address={free}"),
    ];
    let child = Command::new(program).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut bao = Bao(child);
    // It says so when it is ready. The rest of what it says must go somewhere.
    let mut said = std::io::BufReader::new(bao.0.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("Development mode should NOT be used") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut said, &mut line).unwrap() > 0, "it did not start");
    }
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    (bao, format!("http://{free}"))
}
