//! Starts jailed processes: this same binary, one socket, an empty environment, and nothing else.

use std::{
    fmt, io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::UnixStream,
    process::{Child, Command},
    task::JoinHandle,
};

use crate::{
    cgroups::{Group, Groups},
    spawn,
    wire::{Confinement, Ids},
};

/// Bytes of a process's standard error that are kept: its last words, should it die.
const LAST_WORDS_BYTES_MAX: usize = 8 << 10;

/// Starts jailed processes.
#[derive(Clone)]
pub struct Spawner {
    program: PathBuf,
    confining: Arc<Confining>,
}

/// How processes are confined from outside.
pub struct Confining {
    /// Whom they become.
    pub user: Option<Ids>,
    /// Where they get groups, or why there are none.
    pub groups: Result<Arc<Groups>, String>,
    /// Bytes of memory of a worker's group and of a compiler's.
    pub worker_bytes: u64,
    pub compiler_bytes: u64,
}

/// How a process ended.
pub struct Gone {
    pub status: String,
    /// What it said last on standard error.
    pub last_words: String,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.last_words.is_empty() {
            f.write_str(&self.status)
        } else {
            write!(f, "{}: {}", self.status, self.last_words)
        }
    }
}

/// A running process.
pub struct Process {
    child: Child,
    confinement: Confinement,
    last_words: JoinHandle<String>,
    /// Removed when the process is gone.
    group: Option<Arc<Group>>,
}

/// What the kernel knows a process by, while it runs.
pub struct ProcessRef {
    pub id: u32,
    pub group: Option<Arc<Group>>,
}

impl Spawner {
    /// `program` is the binary whose `worker` and `compile` roles are started; they are confined from outside as
    /// `confining` says.
    pub fn new(program: PathBuf, confining: Confining) -> Self {
        Self { program, confining: Arc::new(confining) }
    }

    /// Starts a process in `role`, and returns it and its socket.
    pub async fn spawn(&self, role: &'static str) -> io::Result<(Process, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&self.program);
        command.arg(role).env_clear().current_dir("/").kill_on_drop(true);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = spawn::spawn(command).await?;
        let last_words = tokio::spawn(keep_last_words(child.stderr.take()));
        // It waits to be told what it is: so it is in its group before it does anything.
        let group = match &self.confining.groups {
            Ok(groups) => {
                let worker = role == "worker";
                let bytes = if worker { self.confining.worker_bytes } else { self.confining.compiler_bytes };
                let group = groups.make(bytes)?;
                group.add(child.id().unwrap_or(0))?;
                Ok(group)
            }
            Err(why) => Err(why.clone()),
        };
        let named = group.as_ref().map(Group::name).map_err(String::clone);
        let confinement = Confinement { daemon: std::process::id(), user: self.confining.user, group: named };
        Ok((Process { child, confinement, last_words, group: group.ok().map(Arc::new) }, UnixStream::from_std(ours)?))
    }
}

impl Process {
    /// Returns the process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns what the kernel knows it by, while it runs.
    pub fn by_ref(&self) -> Option<ProcessRef> {
        Some(ProcessRef { id: self.id()?, group: self.group.clone() })
    }

    /// Returns what it has to be told of its jail.
    pub fn confinement(&self) -> Confinement {
        self.confinement.clone()
    }

    /// Kills the process if it still runs, and returns why it is gone.
    pub async fn end(mut self) -> Gone {
        let _ = self.child.start_kill(); // fails if it is gone already
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Gone { status, last_words: self.last_words.await.unwrap_or_default() }
    }
}

/// Reads all that a process says on standard error and keeps the end of it.
async fn keep_last_words(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        let excess = kept.len().saturating_sub(LAST_WORDS_BYTES_MAX);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).trim().replace(|c: char| c.is_control() && c != '\n', "?")
}
