//! Starts a daemon of one test's own, with the test guests pushed, and speaks to it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use palisade_proto::v1::{
    self, components_client::ComponentsClient, run_step_response::Message, step_result::Outcome,
    steps_client::StepsClient, system_client::SystemClient, workspaces_client::WorkspacesClient,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn palisade() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
    command.env_remove("PALISADE_ENDPOINT").env_remove("PALISADE_CONFIG");
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
            .args(["-p", "palisade-test-guests", "-p", "repo-auditor"])
            .current_dir(root())
            .status()
            .unwrap();
        assert!(built.success(), "the guests do not build: is the target there? `rustup target add wasm32-wasip2`");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        target.join("wasm32-wasip2/guest")
    });
    folder.join(format!("{name}.wasm"))
}

/// A data directory with `probe` and `command` pushed and compiled, to be copied: compiling takes longer than a test.
fn seeded() -> &'static Path {
    static SEEDED: OnceLock<TempDir> = OnceLock::new();
    SEEDED
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            for name in ["probe", "command"] {
                let pushed = palisade()
                    .args(["component", "push", "--alias", name, "--data-dir"])
                    .args([dir.path(), &guest(name)])
                    .output()
                    .unwrap();
                assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
            }
            dir
        })
        .path()
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

    /// Starts a daemon in `dir` through `command`, which ends with the arguments of `serve`.
    pub async fn launch(dir: TempDir, extra: &str, mut command: Command) -> Self {
        let config = dir.path().join("palisade.toml");
        let socket = dir.path().join("p.sock");
        let (data, listen) = (dir.path().join("data"), if extra.contains("[listen]") { "" } else { "[listen]\n" });
        let text = format!("data_dir = {data:?}\n{listen}");
        // `extra` may have its own [listen]; the socket is given on the command line either way.
        fs::write(&config, format!("{text}{extra}")).unwrap();
        let mut child = command
            .arg("serve")
            .args([Path::new("--config"), &config, Path::new("--socket"), &socket])
            .stdout(Stdio::piped())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let expected = 1 + usize::from(extra.contains("tcp ="));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addresses: Vec<String> = lines.take(expected).map(Result::unwrap).collect();
        assert_eq!(
            addresses.len(),
            expected,
            "it did not serve: {}",
            fs::read_to_string(dir.path().join("log")).unwrap()
        );
        let channel = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap().connect().await.unwrap();
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

    pub fn system(&self) -> SystemClient<Channel> {
        SystemClient::new(self.channel.clone())
    }

    /// Runs a step to its end.
    pub async fn run(&self, request: v1::RunStepRequest) -> Result<Ran, Status> {
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

/// A step that ended.
pub struct Ran {
    pub accepted: v1::StepAccepted,
    pub events: Vec<v1::StepEvent>,
    pub result: v1::StepResult,
}

impl Ran {
    pub fn outcome(&self) -> Outcome {
        self.result.outcome()
    }

    pub fn failure(&self) -> &v1::StepFailure {
        self.result.failure.as_ref().expect("the step failed")
    }

    pub fn usage(&self) -> &v1::StepUsage {
        self.result.usage.as_ref().unwrap()
    }

    /// Returns what the probe says of each of its acts.
    pub fn outcomes(&self) -> Vec<String> {
        assert_eq!(self.outcome(), Outcome::Succeeded, "{:?}", self.result);
        let output: Value = serde_json::from_slice(&self.result.output).unwrap();
        output["outcomes"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    }

    /// Returns standard output, or standard error.
    pub fn output(&self, stream: v1::output_chunk::Stream) -> String {
        let chunks = self.events.iter().filter_map(|event| match &event.kind {
            Some(v1::step_event::Kind::Output(chunk)) if chunk.stream() == stream => Some(chunk.data.to_vec()),
            _ => None,
        });
        String::from_utf8(chunks.flatten().collect()).unwrap()
    }
}

/// Returns a request that makes the probe do `acts`.
pub fn probe(acts: Value) -> v1::RunStepRequest {
    let input = serde_json::to_vec(&json!({ "acts": acts })).unwrap();
    v1::RunStepRequest { component: "probe".into(), input, ..Default::default() }
}

/// Returns the same request with a workspace.
pub fn within(workspace: &str, mut request: v1::RunStepRequest) -> v1::RunStepRequest {
    request.workspace = format!("workspaces/{workspace}");
    request
}

pub fn limited(mut request: v1::RunStepRequest, limits: v1::StepLimits) -> v1::RunStepRequest {
    request.limits = Some(limits);
    request
}

pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
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
