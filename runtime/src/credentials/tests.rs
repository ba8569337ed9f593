//! Credentials as the daemon uses them.

use std::{
    cell::Cell,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method};

use super::*;

thread_local! {
    static SECONDS: Cell<i64> = const { Cell::new(1_800_000_000) };
}

/// The clock of this test.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(SECONDS.get() as u64)
}

/// Moves the clock of this test.
pub fn advance(seconds: i64) {
    SECONDS.set(SECONDS.get() + seconds);
}

/// A directory that is deleted at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("credentials-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reaches nothing.
pub struct NoFetch;

#[async_trait]
impl Fetch for NoFetch {
    async fn fetch(&self, _request: Fetched) -> Result<FetchedReply, String> {
        Err("there is no network".into())
    }
}

/// Reads `[[credential]]` tables, where `DIR` is a folder.
pub fn parse(toml: &str, folder: &Folder) -> Result<Vec<CredentialConfig>, toml::de::Error> {
    #[derive(serde::Deserialize)]
    struct File {
        credential: Vec<CredentialConfig>,
    }
    toml::from_str::<File>(&toml.replace("DIR", &folder.path("").to_string_lossy())).map(|file| file.credential)
}

pub fn credentials(toml: &str, folder: &Folder, fetch: Arc<dyn Fetch>) -> Credentials {
    Credentials::open(&parse(toml, folder).unwrap(), &|_| None, fetch, now).unwrap()
}

/// A plain request.
pub fn signing<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Signing<'a> {
    let method = &Method::GET;
    Signing { method, scheme: "https", host: "api.example.com", port: 443, path: "/v1", query, headers, body: None }
}

pub async fn attach(credentials: &Credentials, name: &str) -> Result<Attached, AttachError> {
    credentials.attach(name, &signing(&HeaderMap::new(), None)).await
}

pub fn header(attached: &Attached, name: &str) -> String {
    let (_, value) = attached.headers.iter().find(|(header, _)| header == name).unwrap();
    assert!(value.is_sensitive());
    value.to_str().unwrap().into()
}

/// One of each kind.
pub const ALL: &str = r#"
    [[credential]]
    name = "bearer"
    labels = ["confidential"]
    type = "bearer"
    source = { file = "DIR/token" }
    [[credential]]
    name = "basic"
    type = "basic"
    username = "user"
    source = { file = "DIR/token" }
    [[credential]]
    name = "header"
    type = "header"
    header = "X-Api-Key"
    prefix = "Key "
    source = { file = "DIR/token" }
    [[credential]]
    name = "query"
    type = "query"
    parameter = "api key"
    source = { file = "DIR/token" }
    [[credential]]
    name = "hmac"
    type = "hmac"
    key_id = "k1"
    source = { file = "DIR/token" }
    headers = { signature = "x-sign" }
    [[credential]]
    name = "aws"
    type = "aws-sigv4"
    region = "eu-west-1"
    service = "s3"
    keys = { document = { exec = { command = ["/bin/true"], timeout_ms = 1 } } }
    [[credential]]
    name = "aws-separate"
    type = "aws-sigv4"
    region = "eu-west-1"
    service = "s3"
    keys = { separate = { access_key_id = "AKID", secret_access_key = { file = "DIR/token" } } }
    [[credential]]
    name = "mtls"
    type = "mtls"
    certificates = { file = "DIR/pem" }
    key = { file = "DIR/pem" }
    [[credential]]
    name = "oauth"
    type = "oauth-client-credentials"
    token_url = "https://login.example.com/token"
    client_id = "client"
    source = { vault = { address = "https://vault.example.com", path = "a/b", auth = { approle = { role_id = "r", secret_id = { file = "DIR/token" } } } } }
    scopes = ["a", "https://example.com/.default"]
    authentication = "body"
"#;

#[tokio::test]
async fn the_plain_kinds_are_attached_as_they_are_declared() {
    let folder = Folder::new();
    folder.write("token", "s3cret/value+\n");
    let credentials = credentials(ALL, &folder, Arc::new(NoFetch));
    let attached = attach(&credentials, "bearer").await.unwrap();
    assert_eq!(header(&attached, "authorization"), "Bearer s3cret/value+");
    let attached = attach(&credentials, "basic").await.unwrap();
    assert_eq!(header(&attached, "authorization"), "Basic dXNlcjpzM2NyZXQvdmFsdWUr");
    assert!(!attached.scrubber.text("dXNlcjpzM2NyZXQvdmFsdWUr").contains("dXN"));
    let attached = attach(&credentials, "header").await.unwrap();
    assert_eq!(header(&attached, "x-api-key"), "Key s3cret/value+");
    let attached = attach(&credentials, "query").await.unwrap();
    assert_eq!(attached.query.unwrap().as_str(), "api%20key=s3cret%2Fvalue%2B");
    assert_eq!(attached.scrubber.text("<s3cret%2fvalue%2b>"), "<*****************>");
    let attached = attach(&credentials, "hmac").await.unwrap();
    let names: Vec<_> = attached.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-key-id", "x-timestamp", "x-sign"]);
}

#[tokio::test]
async fn a_value_is_in_force_from_the_next_call_on() {
    let folder = Folder::new();
    folder.write("token", "the-first-value");
    let credentials = credentials(ALL, &folder, Arc::new(NoFetch));
    let first = attach(&credentials, "bearer").await.unwrap();
    folder.write("token", "the-other-value");
    let other = attach(&credentials, "bearer").await.unwrap();
    assert_eq!(header(&other, "authorization"), "Bearer the-other-value");
    assert_eq!(other.scrubber.text("the-other-value"), "*".repeat(15));
    // An answer to the first request may still be on its way.
    assert_eq!(first.scrubber.text("the-first-value"), "*".repeat(15));
    assert_eq!(status(&credentials, "bearer").version, 2);
    fs::remove_file(folder.path("token")).unwrap();
    let error = attach(&credentials, "bearer").await.err().unwrap();
    assert!(matches!(error, AttachError::Unavailable { .. }));
    assert!(status(&credentials, "bearer").failure.unwrap().contains("token"));
    folder.write("token", "the-third-value");
    assert_eq!(header(&attach(&credentials, "bearer").await.unwrap(), "authorization"), "Bearer the-third-value");
    assert_eq!(status(&credentials, "bearer").failure, None);
}

#[tokio::test]
async fn a_value_that_is_not_fit_is_named_and_not_shown() {
    let folder = Folder::new();
    let credentials = credentials(ALL, &folder, Arc::new(NoFetch));
    for value in ["seven77", "hunter2\nx: y", "hunter2\0hunter2", "hunter2\x7f", &"hunter2!".repeat(1025)] {
        folder.write("token", value);
        for name in ["bearer", "basic", "header"] {
            let error = attach(&credentials, name).await.err().unwrap();
            let AttachError::Unavailable { why, .. } = &error else { panic!("{error}") };
            assert!(error.to_string().contains(name));
            assert!(!format!("{error} {why} {error:?}").contains("hunter2"));
            assert!(!why.contains("seven77"));
        }
    }
}

#[tokio::test]
async fn a_revoked_credential_is_refused_until_it_is_restored() {
    let folder = Folder::new();
    folder.write("token", "a-good-value");
    let credentials = credentials(ALL, &folder, Arc::new(NoFetch));
    assert!(attach(&credentials, "bearer").await.is_ok());
    assert!(credentials.revoke("bearer"));
    assert!(matches!(attach(&credentials, "bearer").await, Err(AttachError::Revoked(_))));
    assert!(status(&credentials, "bearer").revoked);
    assert!(attach(&credentials, "basic").await.is_ok());
    assert!(credentials.restore("bearer"));
    assert!(attach(&credentials, "bearer").await.is_ok());
    assert!(!credentials.revoke("none") && !credentials.restore("none"));
    assert!(matches!(attach(&credentials, "none").await, Err(AttachError::Unknown(_))));
}

#[tokio::test]
async fn a_credential_that_is_revoked_while_it_is_read_is_refused() {
    let folder = Folder::new();
    let toml = r#"
        [[credential]]
        name = "slow"
        type = "bearer"
        source = { exec = { command = ["/bin/sh", "-c", "echo x > DIR/started; while [ ! -e DIR/go ]; do :; done; echo a-good-value"] } }
    "#;
    let credentials = credentials(toml, &folder, Arc::new(NoFetch));
    let revoke = async {
        while !folder.path("started").exists() {
            tokio::task::yield_now().await;
        }
        credentials.revoke("slow");
        fs::write(folder.path("go"), "").unwrap();
    };
    let (attached, ()) = tokio::join!(attach(&credentials, "slow"), revoke);
    assert!(matches!(attached, Err(AttachError::Revoked(_))));
}

#[tokio::test]
async fn what_a_guest_sends_of_its_own_is_refused() {
    let folder = Folder::new();
    folder.write("token", "a-good-value");
    let credentials = credentials(ALL, &folder, Arc::new(NoFetch));
    let of = |name: &'static str| HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static("x"))]);
    let cases = [
        ("bearer", of("authorization"), None),
        ("mtls", of("authorization"), None),
        ("header", of("x-api-key"), None),
        ("header", of("authorization"), None),
        ("hmac", of("x-sign"), None),
        ("aws", of("x-amz-security-token"), None),
        ("aws", HeaderMap::new(), Some("x=1&x-amz-signature=2")),
        ("query", HeaderMap::new(), Some("api+key=mine")),
        ("query", HeaderMap::new(), Some("a=b&%41pi%20key")),
        ("query", HeaderMap::new(), Some("a;api%20key=mine")),
    ];
    for (name, headers, query) in cases {
        let signing = signing(&headers, query);
        assert!(matches!(credentials.attach(name, &signing).await, Err(AttachError::Clash { .. })), "{name} {query:?}");
        assert!(credentials.clash(name, &headers, query).is_some());
    }
    assert!(credentials.clash("query", &of("x-api-key"), Some("key=1")).is_none());
}

#[test]
fn the_status_says_where_values_are_and_never_what_they_are() {
    let folder = Folder::new();
    folder.write("token", "a-good-value");
    let list = credentials(ALL, &folder, Arc::new(NoFetch)).list();
    let kinds: Vec<_> = list.iter().map(|status| (status.name.as_str(), status.kind)).collect();
    assert_eq!(kinds[0], ("aws", "aws-sigv4"));
    assert_eq!(kinds.len(), 9);
    let text = serde_json::to_string(&list).unwrap();
    assert!(text.contains("vault https://vault.example.com secret/a/b value") && text.contains("program /bin/true"));
    assert!(!text.contains("a-good-value"));
}

#[test]
fn the_body_is_needed_where_it_is_signed() {
    let credentials = credentials(ALL, &Folder::new(), Arc::new(NoFetch));
    let needs: Vec<_> = ["hmac", "aws", "bearer", "oauth", "none"].map(|name| credentials.needs_body(name)).into();
    assert_eq!(needs, [true, true, false, false, false]);
    assert_eq!(credentials.labels("bearer")[0].as_str(), "confidential");
    assert!(credentials.labels("none").is_empty());
}

fn status(credentials: &Credentials, name: &str) -> Status {
    credentials.list().into_iter().find(|status| status.name.as_str() == name).unwrap()
}
