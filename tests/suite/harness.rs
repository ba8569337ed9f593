//! Starts a daemon of one test's own, with the test guests pushed, and speaks to it.

pub mod canary;
pub mod certificates;
pub mod dns;
mod steps;
pub mod upstream;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use palisade_proto::v1::{
    self, Effect, agents_client::AgentsClient, audit_client::AuditClient, components_client::ComponentsClient,
    control_client::ControlClient, credentials_client::CredentialsClient, policies_client::PoliciesClient,
    run_step_response::Message, steps_client::StepsClient, system_client::SystemClient, tools_client::ToolsClient,
    workspaces_client::WorkspacesClient,
};
use serde_json::Value;
use tempfile::TempDir;
use tonic::{
    IntoRequest, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

pub use steps::{Ran, asked, for_tenant, limited, probe, seconds, tester, within};

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn palisade() -> Command {
    palisade_at(env!("CARGO_BIN_EXE_palisade").as_ref())
}

/// Returns a command that starts another program in its place.
pub fn palisade_at(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("PALISADE_ENDPOINT").env_remove("PALISADE_CONFIG").env_remove("PALISADE_POLICIES");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command
}

/// Returns a command that starts another one in namespaces of its own. Root needs no user namespace for that: in one, there
/// would be nobody else for a worker to become.
pub fn unshare(namespaces: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(namespaces);
    command
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns a guest's WebAssembly. The first test that asks builds them all.
pub fn guest(name: &str) -> PathBuf {
    static GUESTS: OnceLock<PathBuf> = OnceLock::new();
    let folder = GUESTS.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--profile", "guest", "--target", "wasm32-wasip2"])
            .args(["-p", "palisade-test-guests", "-p", "palisade-test-tool", "-p", "palisade-test-liar"])
            .args(["-p", "palisade-test-fetch", "-p", "repo-auditor"])
            .current_dir(root())
            .status()
            .unwrap();
        assert!(built.success(), "the guests do not build: is the target there? `rustup target add wasm32-wasip2`");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        target.join("wasm32-wasip2/guest")
    });
    folder.join(format!("{name}.wasm"))
}

/// Components of a data directory as tests begin with it.
pub const SEEDED: usize = 3;

/// A data directory with `probe`, `command` and `tool` pushed and compiled, to be copied: compiling takes longer than a test.
fn seeded() -> &'static Path {
    static SEEDED: OnceLock<TempDir> = OnceLock::new();
    SEEDED
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            for (name, alias) in [("probe", "probe"), ("command", "command"), ("probe_tool", "tool")] {
                let pushed = palisade()
                    .args(["component", "push", "--alias", alias, "--data-dir"])
                    .args([dir.path(), &guest(name)])
                    .output()
                    .unwrap();
                assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
            }
            dir
        })
        .path()
}

/// What every governed daemon's policies begin with.
const RUN: &str = "@id(\"run\") permit (principal, action == Palisade::Action::\"RunStep\", resource);\n";

/// Writes the policies of a governed daemon.
pub fn write_policies(dir: &Path, policies: &str) {
    let file = dir.join("policies/test.cedar");
    fs::write(file.with_extension("new"), format!("{RUN}{policies}")).unwrap();
    fs::rename(file.with_extension("new"), file).unwrap();
}

/// A running daemon. It is killed when the test ends.
pub struct Daemon {
    pub dir: TempDir,
    pub child: Child,
    pub channel: Channel,
    pub addresses: Vec<String>,
}

impl Daemon {
    /// Starts a daemon with the default configuration.
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// Starts a daemon whose configuration has `extra` at its end.
    pub async fn with(extra: &str) -> Self {
        let dir = data_dir();
        Self::launch(dir, extra, palisade()).await
    }

    /// Starts a daemon with these policies beside the one that lets everybody run everything.
    pub async fn governed(policies: &str, extra: &str) -> Self {
        let dir = data_dir();
        fs::create_dir(dir.path().join("policies")).unwrap();
        write_policies(dir.path(), policies);
        let extra = format!("{extra}\n[policy]\ndir = {:?}\n", dir.path().join("policies"));
        Self::launch(dir, &extra, palisade()).await
    }

    /// Starts a daemon in `dir` through `command`, which ends with the arguments of `serve`.
    pub async fn launch(dir: TempDir, extra: &str, command: Command) -> Self {
        let config = dir.path().join("palisade.toml");
        let (data, listen) = (dir.path().join("data"), if extra.contains("[listen]") { "" } else { "[listen]\n" });
        // One worker, unless it is workers that are tested: its process is the daemon's only child.
        let workers = if extra.contains("[workers]") { "" } else { "[workers]\nspares = 0\n" };
        let text = format!("data_dir = {data:?}\n{workers}{listen}");
        // `extra` may have its own [listen]; the socket is given on the command line either way.
        fs::write(&config, format!("{text}{extra}")).unwrap();
        let (child, addresses, channel) = start(dir.path(), 1 + usize::from(extra.contains("tcp =")), command).await;
        Self { dir, child, channel, addresses }
    }

    pub fn endpoint(&self) -> String {
        format!("unix:{}", self.dir.path().join("p.sock").display())
    }

    pub fn steps(&self) -> StepsClient<Channel> {
        StepsClient::new(self.channel.clone())
    }

    pub fn components(&self) -> ComponentsClient<Channel> {
        ComponentsClient::new(self.channel.clone())
    }

    pub fn workspaces(&self) -> WorkspacesClient<Channel> {
        WorkspacesClient::new(self.channel.clone())
    }

    pub fn agents(&self) -> AgentsClient<Channel> {
        AgentsClient::new(self.channel.clone())
    }

    pub fn tools(&self) -> ToolsClient<Channel> {
        ToolsClient::new(self.channel.clone())
    }

    pub fn policies(&self) -> PoliciesClient<Channel> {
        PoliciesClient::new(self.channel.clone())
    }

    pub fn credentials(&self) -> CredentialsClient<Channel> {
        CredentialsClient::new(self.channel.clone())
    }

    pub fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone())
    }

    pub fn audit(&self) -> AuditClient<Channel> {
        AuditClient::new(self.channel.clone())
    }

    pub fn system(&self) -> SystemClient<Channel> {
        SystemClient::new(self.channel.clone())
    }

    /// Runs a step to its end.
    pub async fn run(&self, request: impl IntoRequest<v1::RunStepRequest>) -> Result<Ran, Status> {
        let mut steps = self.steps();
        let mut stream =
            tokio::time::timeout(PATIENCE, steps.run_step(request)).await.expect("accepted in time")?.into_inner();
        let (mut accepted, mut events) = (None, Vec::new());
        loop {
            let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("a message in time")?;
            match next.and_then(|response| response.message) {
                Some(Message::Accepted(message)) => assert!(accepted.replace(message).is_none() && events.is_empty()),
                Some(Message::Event(event)) => {
                    events.push(event);
                    assert_eq!(events.last().unwrap().sequence, events.len() as i64, "sequence numbers have no gap");
                }
                Some(Message::Result(result)) => {
                    assert!(stream.message().await?.is_none(), "the result is the last message");
                    return Ok(Ran { accepted: accepted.expect("accepted comes first"), events, result });
                }
                None => panic!("the stream ended without a result"),
            }
        }
    }

    /// Runs the probe with these acts and returns what became of each.
    pub async fn probe(&self, acts: Value) -> Vec<String> {
        self.run(probe(acts)).await.unwrap().outcomes()
    }

    /// Registers the probe's tool under a name.
    pub async fn tool(&self, name: &str, effect: Effect) -> Result<v1::Tool, Status> {
        self.tool_version(name, "1", effect).await
    }

    pub async fn tool_version(&self, name: &str, version: &str, effect: Effect) -> Result<v1::Tool, Status> {
        let request = v1::RegisterToolRequest {
            name: name.into(),
            version: version.into(),
            component: "tool".into(),
            effect: effect.into(),
            labels: Vec::new(),
        };
        Ok(self.tools().register_tool(request).await?.into_inner())
    }

    /// Registers the probe as the agent `tester`, with this at the end of its manifest.
    pub async fn agent(&self, manifest: &str) -> Result<v1::RegisterAgentResponse, Status> {
        self.register(&tester("1", manifest), false).await
    }

    pub async fn register(&self, manifest: &str, allow_wider: bool) -> Result<v1::RegisterAgentResponse, Status> {
        let request = v1::RegisterAgentRequest { manifest: manifest.into(), allow_wider, validate_only: false };
        Ok(self.agents().register_agent(request).await?.into_inner())
    }

    /// Makes the agent `tester` do `acts` and returns what became of each.
    pub async fn ask(&self, acts: Value) -> Vec<String> {
        self.run(asked(acts)).await.unwrap().outcomes()
    }

    /// Returns the journal's records of these kinds, parsed.
    pub async fn records(&self, kinds: &[&str]) -> Vec<Value> {
        let kinds = kinds.iter().map(ToString::to_string).collect();
        let filter = Some(v1::RecordFilter { kinds, ..Default::default() });
        let request = v1::ListRecordsRequest { filter, page_size: 1000, ..Default::default() };
        let listed = self.audit().list_records(request).await.unwrap().into_inner();
        listed.records.iter().map(|record| serde_json::from_str(&record.canonical).unwrap()).collect()
    }

    /// Pushes bytes.
    pub async fn push(&self, bytes: &[u8]) -> Result<v1::Component, Status> {
        self.push_as(bytes, v1::PushHeader::default()).await
    }

    pub async fn push_as(&self, bytes: &[u8], header: v1::PushHeader) -> Result<v1::Component, Status> {
        use v1::push_component_request::Message;
        let chunks = bytes.chunks(1 << 20).map(|chunk| Message::Chunk(chunk.to_vec()));
        let messages: Vec<_> = std::iter::once(Message::Header(header))
            .chain(chunks)
            .map(|message| v1::PushComponentRequest { message: Some(message) })
            .collect();
        let mut components = self.components();
        let pushed = components.push_component(tokio_stream::iter(messages));
        Ok(tokio::time::timeout(PATIENCE, pushed).await.expect("pushed in time")?.into_inner())
    }

    /// Stops the daemon as an operator does, and starts it again on the same data.
    pub async fn restart(mut self) -> Self {
        self.stop().await;
        self.again().await
    }

    /// Starts the daemon again, after it ended, with the same configuration.
    pub async fn again(mut self) -> Self {
        let (child, addresses, channel) = start(self.dir.path(), 1, palisade()).await;
        let _ = self.child.wait();
        (self.child, self.addresses, self.channel) = (child, addresses, channel);
        self
    }

    /// Stops the daemon with SIGTERM, and waits until it has ended.
    pub async fn stop(&mut self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        // Not blocking: a test's own connections say goodbye, and the daemon need not wait for them.
        eventually("the daemon has ended", || self.child.try_wait().unwrap().is_some()).await;
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }

    /// Returns the process ids of the daemon's children.
    pub fn children(&self) -> Vec<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let of_task = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
        tasks
            .flat_map(|task| {
                of_task(task.unwrap()).split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Returns the processes that were workers, the oldest first.
    pub fn workers(&self) -> Vec<i32> {
        let log = self.log();
        let ready = log.lines().filter(|line| line.contains("\"worker ready\""));
        ready
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"]["pid"].as_i64().unwrap() as i32)
            .collect()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ---\n{}", self.log());
        }
    }
}

/// Starts what is configured in `dir`; returns the process, its addresses and a connection.
async fn start(dir: &Path, expected: usize, mut command: Command) -> (Child, Vec<String>, Channel) {
    let socket = dir.join("p.sock");
    let mut child = command
        .arg("serve")
        .args([Path::new("--config"), &dir.join("palisade.toml"), Path::new("--socket"), &socket])
        .stdout(Stdio::piped())
        .stderr(fs::File::create(dir.join("log")).unwrap())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let addresses: Vec<String> = lines.take(expected).map(Result::unwrap).collect();
    assert_eq!(addresses.len(), expected, "it did not serve: {}", fs::read_to_string(dir.join("log")).unwrap());
    let channel = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap().connect().await.unwrap();
    (child, addresses, channel)
}

/// Returns a temporary directory with a seeded data directory in it.
pub fn data_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(seeded(), &dir.path().join("data"));
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Returns the stable reason of a refusal.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "palisade.v1");
    info.reason
}

/// Returns the field that a refusal names.
pub fn field(status: &Status) -> String {
    status.get_details_bad_request().expect("it names a field").field_violations[0].field.clone()
}

/// Waits until `condition` holds, asking often. For what no signal tells: processes and files of others.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
