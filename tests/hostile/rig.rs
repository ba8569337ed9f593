//! A daemon for attacks, what it is given, and the sweep that ends it. The only file that knows how it is configured.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, mpsc},
    time::{Instant, SystemTime},
};

use futures::future::join_all;
use nix::{sys::signal::Signal, unistd::Pid};
use palisade_proto::v1;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    ask::{Answered, Ask, Failure},
    report,
    sweep::{Place, sweep},
};
use crate::{
    harness::{Daemon, data_dir, palisade, tester, write_policies},
    telemetry::collector::Collector,
};

/// Everybody may send everything that the rules admit.
pub const SEND: &str = "@id(\"send\") permit (principal, action == Palisade::Action::\"SendRequest\", resource);";

/// What a daemon of these tests is given.
pub struct RigSetup {
    /// TOML: `[[egress]]` and `[[credential]]`.
    pub rules: String,
    pub dns: SocketAddr,
    pub ca: Vec<PathBuf>,
    pub environment: Vec<(String, String)>,
    /// More of the configuration.
    pub extra: String,
    pub policies: String,
}

/// A governed daemon with the agent `tester`, which has every rule and the power `http`. If it has credentials, it is
/// stopped and swept for them when it is dropped. That needs a runtime with a thread of its own, or the daemon waits for
/// this client, which waits for the daemon.
pub struct Rig {
    pub daemon: Daemon,
    began: SystemTime,
    rules: toml::Table,
    environment: BTreeMap<String, String>,
    metrics: Option<SocketAddr>,
    collector: Option<Collector>,
    /// Every value that a credential had.
    secrets: Mutex<Vec<Vec<u8>>>,
    /// What guests and callers were told.
    told: Mutex<Vec<u8>>,
}

/// Why something is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The request is not one that could be judged: host, target, method, scheme, framing.
    Request,
    /// A header or trailer that a guest may not send.
    Header,
    /// No rule of the agent's admits it.
    Rule,
    /// No policy permits it, or one forbids it.
    Policy,
    Address,
    Dns,
    Connect,
    Tls,
    Timeout,
    Protocol,
    RequestTooLarge,
    ResponseTooLarge,
    Response,
    Body,
    /// The guest sent a credential of its own where the daemon attaches one.
    OwnCredential,
    Revoked,
    /// The credential's value cannot be read, or is none.
    Unavailable,
    Budget,
}

impl Why {
    /// The stable codes that say so.
    pub fn codes(self) -> &'static [&'static str] {
        match self {
            Self::Request | Self::Header => &["REQUEST_INVALID"],
            Self::Rule => &["NOT_IN_MANIFEST"],
            Self::Policy => &["POLICY_NO_PERMIT", "POLICY_FORBIDS"],
            Self::Address => &["ADDRESS_FORBIDDEN"],
            Self::Dns => &["DNS_FAILED"],
            Self::Connect => &["CONNECT_FAILED"],
            Self::Tls => &["TLS_FAILED"],
            Self::Timeout => &["HTTP_TIMEOUT"],
            Self::Protocol => &["HTTP_PROTOCOL"],
            Self::RequestTooLarge => &["REQUEST_TOO_LARGE"],
            Self::ResponseTooLarge => &["RESPONSE_TOO_LARGE"],
            Self::Response => &["RESPONSE_REFUSED"],
            Self::Body => &["BODY_BROKEN"],
            Self::OwnCredential => &["CREDENTIAL_SUPPLIED"],
            Self::Revoked => &["CREDENTIAL_REVOKED"],
            Self::Unavailable => &["CREDENTIAL_UNAVAILABLE"],
            Self::Budget => &["BUDGET_EXHAUSTED"],
        }
    }

    /// Says whether a failure is this. What the sandbox does not even let a guest build is refused as well.
    pub fn is(self, failure: &Failure) -> bool {
        if failure.unbuilt() {
            return matches!(self, Self::Request | Self::Header | Self::Rule | Self::OwnCredential);
        }
        if failure.miscounted() && self == Self::Body {
            return true;
        }
        failure.why.as_ref().is_some_and(|reason| self.codes().contains(&reason.code.as_str()))
    }
}

impl RigSetup {
    pub fn new(rules: impl Into<String>, dns: SocketAddr) -> Self {
        Self {
            rules: rules.into(),
            dns,
            ca: Vec::new(),
            environment: Vec::new(),
            extra: String::new(),
            policies: SEND.into(),
        }
    }
}

impl Rig {
    pub async fn new(setup: RigSetup) -> Self {
        let dir = data_dir();
        fs::create_dir(dir.path().join("policies")).unwrap();
        write_policies(dir.path(), &setup.policies);
        let mut command = palisade();
        command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
        let rules: toml::Table = setup.rules.parse().unwrap();
        let metrics = rules.contains_key("credential").then(free);
        let collector = metrics.map(|_| collector());
        if let Some(collector) = &collector {
            // Libraries say all that they can say.
            command.env("RUST_LOG", "trace").env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
        }
        let listen = metrics.map(|metrics| format!("[listen]\nmetrics = \"{metrics}\"\n")).unwrap_or_default();
        let network = format!("[network]\ndns_servers = [\"{}\"]\nca_files = {:?}\n", setup.dns, setup.ca);
        let policies = format!("[policy]\ndir = {:?}\n", dir.path().join("policies"));
        let config = format!("{}\n{listen}{network}{policies}{}", setup.extra, setup.rules);
        let began = SystemTime::now();
        let daemon = Daemon::launch(dir, &config, command).await;
        daemon.register(&tester("1", &grants(&rules)), false).await.unwrap();
        let rig = Self {
            daemon,
            began,
            rules,
            environment: setup.environment.into_iter().collect(),
            metrics,
            collector,
            secrets: Mutex::default(),
            told: Mutex::default(),
        };
        rig.learn();
        rig
    }

    /// Runs one step in which the probe asks all of it, in order.
    pub async fn send(&self, asks: Vec<Ask>) -> Vec<Answered> {
        let count = asks.len();
        let said = self.acts(asks.into_iter().map(|ask| json!({ "http": ask })).collect()).await;
        assert_eq!(said.len(), count, "each ask has its answer");
        said.iter().map(|line| Answered::read(line)).collect()
    }

    /// Runs a step for each ask, all at once: for what takes time.
    pub async fn send_at_once(&self, asks: Vec<Ask>) -> Vec<Answered> {
        join_all(asks.into_iter().map(|ask| self.send(vec![ask]))).await.concat()
    }

    /// Runs one step with other acts of the probe.
    pub async fn acts(&self, acts: Value) -> Vec<String> {
        self.learn();
        let said = self.daemon.ask(acts).await;
        if !self.secrets.lock().unwrap().is_empty() {
            self.told.lock().unwrap().extend(said.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()));
        }
        said
    }

    pub async fn records(&self, kind: &str) -> Vec<Value> {
        self.daemon.records(&[kind]).await
    }

    /// Lets other policies hold from now on.
    pub async fn govern(&self, policies: &str) {
        write_policies(self.daemon.dir.path(), policies);
        self.reload().await;
    }

    /// Lets the tenant have these rules from now on.
    pub async fn narrow(&self, rules: &str) {
        fs::write(self.daemon.dir.path().join("policies/egress.toml"), rules).unwrap();
        self.reload().await;
    }

    async fn reload(&self) {
        self.daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
    }

    pub async fn revoke(&self, credential: &str) {
        let request = v1::RevokeCredentialRequest { name: credential.into() };
        self.daemon.credentials().revoke_credential(request).await.unwrap();
    }

    /// Addresses of this daemon's own: its metrics, and who collects its spans.
    pub fn own(&self) -> impl Iterator<Item = SocketAddr> {
        let collector = self.collector.as_ref().and_then(|it| it.endpoint.strip_prefix("http://")?.parse().ok());
        self.metrics.into_iter().chain(collector)
    }

    /// Looks for these in the end, too.
    pub fn also(&self, secrets: impl IntoIterator<Item = Vec<u8>>) {
        let mut known = self.secrets.lock().unwrap();
        for secret in secrets {
            if !known.contains(&secret) {
                known.push(secret);
            }
        }
    }

    /// Reads the values of the credentials where the daemon reads them, to look for them in the end.
    fn learn(&self) {
        let credentials = self.rules.get("credential").and_then(|all| all.as_array()).into_iter().flatten();
        for source in credentials.flat_map(|credential| [credential.get("source"), credential.get("key")]).flatten() {
            let text = |key: &str| source.get(key).and_then(|value| value.as_str());
            let file = text("file").and_then(|file| fs::read_to_string(file).ok());
            let value = file.or_else(|| self.environment.get(text("env")?).cloned()).unwrap_or_default();
            self.also(parts(&value));
        }
    }

    /// All that the running daemon says, and all that can be read of it and of its workers.
    fn living(&self) -> Vec<Place> {
        let mut places = vec![Place::Buffer("what guests were told".into(), self.told.lock().unwrap().clone())];
        for arguments in [&["audit", "export"][..], &["audit", "list"], &["credential", "list", "-o", "json"]] {
            let said = palisade().args(arguments).args(["--endpoint", &self.daemon.endpoint()]).output().unwrap();
            assert!(said.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
            places.push(Place::Buffer(arguments.join(" "), [said.stdout, said.stderr].concat()));
        }
        places.extend(self.metrics.map(|metrics| Place::Buffer("the metrics".into(), scrape(metrics))));
        places.push(Place::File(format!("/proc/{}/cmdline", self.daemon.child.id()).into()));
        for worker in self.daemon.children() {
            let files = ["cmdline", "environ", "maps"];
            places.extend(files.map(|file| Place::File(format!("/proc/{worker}/{file}").into())));
            places.push(Place::Memory(worker));
        }
        places
    }

    /// What is left of a daemon that has ended: what it wrote, also into where cores would be, its log, and its spans.
    fn remains(&self) -> Vec<Place> {
        let here = fs::read_dir(".").unwrap().map(|entry| entry.unwrap().path());
        let cores = here.filter(|path| path.to_string_lossy().contains("core"));
        let spans = self.collector.as_ref().map(|collector| format!("{:?}", collector.trace()));
        let spans = spans.inspect(|spans| assert!(spans.contains("http"), "no span came: {spans}"));
        let spans = spans.map(|spans| Place::Buffer("the spans".into(), spans.into()));
        cores.chain(self.files()).map(Place::File).chain(spans).collect()
    }

    /// The files that the daemon wrote since it began.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.daemon.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let (path, data) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
                if data.is_dir() {
                    folders.push(path);
                } else if data.is_file() && data.modified().unwrap() >= self.began {
                    files.push(path);
                }
            }
        }
        files
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.learn();
        let secrets = std::mem::take(&mut *self.secrets.lock().unwrap());
        if secrets.is_empty() || std::thread::panicking() {
            return;
        }
        let began = Instant::now();
        let mut swept = sweep(&secrets, self.living());
        // What it has not written yet, it writes now.
        nix::sys::signal::kill(Pid::from_raw(self.daemon.child.id() as i32), Signal::SIGTERM).unwrap();
        self.daemon.child.wait().unwrap();
        swept.add(sweep(&secrets, self.remains()));
        assert!(swept.bytes > 10_000, "nothing was read");
        assert!(swept.hits.is_empty(), "a credential is where it must not be: {:#?}", swept.hits);
        report::swept(secrets.len(), &swept, began.elapsed());
    }
}

/// Serves on a thread of its own as long as the process: it has to receive while a test's runtime stands still.
fn collector() -> Collector {
    let (started, starts) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            started.send(Collector::start().await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    starts.recv().unwrap()
}

/// Writes a secret as it must be: for its owner alone.
pub fn keep(file: &Path, secret: &str) {
    fs::write(file, secret).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A credential of the operator's in a file.
pub fn credential(name: &str, kind: &str, file: &Path) -> String {
    format!("[[credential]]\nname = \"{name}\"\n{kind}\nsource = {{ file = {file:?} }}\n")
}

/// A client certificate in files.
pub fn client_certificate(name: &str, chain: &Path, key: &Path) -> String {
    format!(
        "[[credential]]\nname = \"{name}\"\ntype = \"mtls\"\ncertificates = {{ file = {chain:?} }}\nkey = {{ file = {key:?} }}\n"
    )
}

/// A directory for what a test gives the daemon.
pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Returns an address of this machine's that nobody listens on.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Every rule, with the first credential that it may carry.
fn grants(rules: &toml::Table) -> String {
    let rules = rules.get("egress").and_then(|rules| rules.as_array()).into_iter().flatten();
    let grants = rules.map(|rule| {
        let credential = rule.get("credentials").and_then(|names| names.get(0));
        let credential = credential.map(|name| format!("credential = {name}\n")).unwrap_or_default();
        format!("[[egress]]\nrule = {}\n{credential}", rule["name"])
    });
    grants.collect()
}

/// What is looked for of a value: of a key in PEM the bytes, of which every line is a part; else each line of it.
fn parts(value: &str) -> Vec<Vec<u8>> {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let pem = value.contains("-----BEGIN");
    let lines = value.lines().filter(|line| line.len() >= 12 && !line.starts_with("-----"));
    lines.map(|line| if pem { BASE64_STANDARD.decode(line).unwrap() } else { line.into() }).collect()
}

fn scrape(address: SocketAddr) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut page = Vec::new();
    stream.read_to_end(&mut page).unwrap();
    assert!(page.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&page));
    page
}
