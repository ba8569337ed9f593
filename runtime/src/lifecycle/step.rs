//! The life of a step: checked, admitted, given its workspace and mounts, run, watched, ended.

use std::{path::Path, sync::Arc};

use tokio::task::spawn_blocking;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::info;

use super::{AdmitError, Lifecycle, PushError};
use crate::{
    config::AskedLimits,
    step::{BadLimit, Digest, FIXED, Kind, Mount, Outcome, Quota, StepLimits, StepSpec, Usage},
    store::{Component, ComponentError, Lease, WorkspaceError, random_id},
    worker::{Message, Running, WorkerError},
};

/// Where a step finds its workspace.
const WORKSPACE_PATH: &str = "/workspace";

/// What a caller asks for.
#[derive(Debug, Default)]
pub struct StepRequest {
    pub component: String,
    pub input: Vec<u8>,
    pub content_type: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub workspace: String,
    pub mounts: Vec<MountUse>,
    pub limits: AskedLimits,
}

/// A mount that a caller asks for.
#[derive(Debug)]
pub struct MountUse {
    pub mount: String,
    pub path: String,
    pub read_only: bool,
}

/// What a caller is told before anything else.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub step: String,
    pub component: Digest,
    pub limits: StepLimits,
}

/// A step that is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Component(#[from] ComponentError),
    #[error("`{0}` is a tool, and a tool is not run by itself: run a step or a command")]
    NotRunnable(String),
    #[error("the component cannot be compiled any more: {0}")]
    Compile(PushError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("there is no mount `{name}`: this daemon has {}", mounts(.known))]
    NoMount { name: String, known: Vec<String> },
    #[error("`{field}` {problem}")]
    Field { field: &'static str, problem: String },
    #[error(transparent)]
    Limit(#[from] BadLimit),
    #[error("`input` has {bytes} bytes; the limit `input_bytes` is {max}: put larger data into a workspace")]
    InputTooLarge { bytes: usize, max: u64 },
    #[error(transparent)]
    Admit(#[from] AdmitError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// A step that runs. Dropping it cancels the step.
pub struct StepRun {
    pub accepted: Accepted,
    running: Running,
    lifecycle: Lifecycle,
    told_to_stop: bool,
    /// Shutting down waits for the caller to have the result.
    _tracked: TaskTrackerToken,
}

impl Lifecycle {
    /// Accepts a step and starts it.
    pub async fn run_step(&self, request: StepRequest) -> Result<StepRun, RunError> {
        // Everything that can be refused is refused before anything is taken.
        let component = self.components().find(&request.component)?;
        if component.kind == Kind::Tool {
            return Err(RunError::NotRunnable(request.component));
        }
        let limits = self.config().limits.grant(request.limits)?;
        check_sizes(&request, self.config().limits.input_bytes)?;
        let mut mounts = self.mounts(&request.mounts)?;
        if !request.workspace.is_empty() {
            self.workspaces().find(&request.workspace)?;
        }
        let tracked = self.0.running.token();

        // Then it is prepared: compiled if its artifact is gone, a slot, a workspace for itself.
        self.ensure_artifact(component.digest).await.map_err(RunError::Compile)?;
        let slot = self.admit().await?;
        let (lease, left) = self.workspace(&request.workspace).await?;
        mounts.push(Mount {
            guest_path: WORKSPACE_PATH.into(),
            host_path: lease.path(),
            writable: Some(left),
            shared: false,
        });

        // And run. The slot and the workspace are free again when the worker is done with them.
        let spec = spec(&component, request, mounts, limits);
        let running = self.0.workers.run(spec, Box::new((slot, lease))).await?;
        let accepted = Accepted { step: format!("steps/{}", random_id()), component: component.digest, limits };
        info!(step = accepted.step, component = %component.digest, "step accepted");
        Ok(StepRun { accepted, running, lifecycle: self.clone(), told_to_stop: false, _tracked: tracked })
    }

    async fn workspace(&self, reference: &str) -> Result<(Lease, Quota), RunError> {
        if reference.is_empty() {
            let limits = &self.config().limits;
            let quota = Quota { bytes: limits.workspace_bytes.default, entries: limits.workspace_entries.default };
            return Ok((self.workspaces().lease_temporary(quota)?, quota));
        }
        let workspace = self.workspaces().find(reference)?;
        let lease = self.workspaces().lease(&workspace.name)?;
        let walked = spawn_blocking(move || lease.left().map(|left| (lease, left))).await;
        Ok(walked.map_err(|e| WorkspaceError::Io(e.into()))??)
    }

    fn mounts(&self, uses: &[MountUse]) -> Result<Vec<Mount>, RunError> {
        let field = |problem: String| RunError::Field { field: "mounts", problem };
        if uses.len() as u64 > FIXED.mounts {
            return Err(field(format!("names {} mounts; at most {} are allowed", uses.len(), FIXED.mounts)));
        }
        let mut mounts: Vec<Mount> = Vec::new();
        for used in uses {
            let known = || self.config().mounts.iter().map(|m| m.name.to_string()).collect();
            let mount = self
                .mount(&used.mount)
                .ok_or_else(|| RunError::NoMount { name: used.mount.chars().take(80).collect(), known: known() })?;
            check_guest_path(&used.path).map_err(field)?;
            if let Some(other) = mounts.iter().find(|m| nested(&m.guest_path, &used.path)) {
                return Err(field(format!(
                    "puts two mounts at `{}` and `{}`: neither may hold the other",
                    other.guest_path, used.path
                )));
            }
            // One tree, two views, one of them writable: what is read-only could be changed through the other.
            let again = mounts.iter().any(|m| m.host_path == mount.path);
            let writable = mount.writable.filter(|_| !used.read_only);
            if again && mount.writable.is_some() {
                return Err(field(format!("names the writable mount `{}` twice", mount.name)));
            }
            mounts.push(Mount { guest_path: used.path.clone(), host_path: mount.path.clone(), writable, shared: true });
        }
        Ok(mounts)
    }
}

impl StepRun {
    /// Returns the next message of the step. After [`Message::Done`] there is none.
    pub async fn next(&mut self) -> Option<Message> {
        let message = loop {
            tokio::select! {
                biased;
                message = self.running.next() => break message?,
                () = self.lifecycle.0.stopping.cancelled(), if !self.told_to_stop => {
                    self.told_to_stop = true;
                    self.running.cancel().await;
                }
            }
        };
        if let Message::Done(outcome, usage) = &message {
            log_end(&self.accepted.step, outcome, usage);
        }
        Some(message)
    }
}

fn log_end(step: &str, outcome: &Outcome, usage: &Usage) {
    let outcome = match outcome {
        Outcome::Succeeded { .. } => "succeeded",
        Outcome::Exited { .. } => "exited",
        Outcome::Failed(_) => "failed",
        Outcome::Trapped(_) => "trapped",
        Outcome::LimitExceeded { limit, .. } => limit,
        Outcome::Cancelled(_) => "cancelled",
        Outcome::WorkerLost(_) => "worker lost",
    };
    info!(step, outcome, fuel = usage.fuel, wall_time_us = usage.wall_time_us, "step ended");
}

fn spec(component: &Arc<Component>, request: StepRequest, mounts: Vec<Mount>, limits: StepLimits) -> StepSpec {
    let content_type = if request.content_type.is_empty() { "application/json".into() } else { request.content_type };
    let program = match component.kind {
        Kind::Command => "command",
        Kind::Step | Kind::Tool => "step",
    };
    StepSpec {
        component: component.digest,
        kind: component.kind,
        input: request.input,
        content_type,
        args: std::iter::once(program.to_owned()).chain(request.args).collect(),
        env: request.env,
        mounts,
        limits,
    }
}

fn check_sizes(request: &StepRequest, input_bytes: u64) -> Result<(), RunError> {
    let field = |field, problem| Err(RunError::Field { field, problem });
    if request.input.len() as u64 > input_bytes {
        return Err(RunError::InputTooLarge { bytes: request.input.len(), max: input_bytes });
    }
    if request.content_type.len() > 256 {
        return field("content_type", "has more than 256 bytes".into());
    }
    if request.args.len() as u64 > FIXED.args {
        return field("args", format!("has {} arguments; at most {} are allowed", request.args.len(), FIXED.args));
    }
    let args: usize = request.args.iter().map(String::len).sum();
    let env: usize = request.env.iter().map(|(key, value)| key.len() + value.len()).sum();
    if (args + env) as u64 > FIXED.args_bytes {
        return field(
            "args",
            format!("and `env` have {} bytes together; at most {} are allowed", args + env, FIXED.args_bytes),
        );
    }
    if request.env.iter().any(|(key, value)| key.is_empty() || key.contains(['=', '\0']) || value.contains('\0')) {
        return field("env", "has a name that is empty or holds `=`, or a text that holds a NUL".into());
    }
    if request.args.iter().any(|arg| arg.contains('\0')) {
        return field("args", "has a text that holds a NUL".into());
    }
    Ok(())
}

fn nested(a: &str, b: &str) -> bool {
    Path::new(a).starts_with(b) || Path::new(b).starts_with(a)
}

/// A guest sees a mount at a plain absolute path that is not the workspace's.
fn check_guest_path(path: &str) -> Result<(), String> {
    let shown: String = path.chars().take(80).collect();
    let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(|c: char| c.is_control());
    match path.strip_prefix('/') {
        Some(rest) if path.len() <= 256 && rest.split('/').all(plain) => {}
        _ => {
            return Err(format!(
                "has the path `{shown}`: use an absolute path without `.`, `..` or empty names, of at most 256 bytes"
            ));
        }
    }
    if nested(path, WORKSPACE_PATH) {
        return Err(format!("has the path `{shown}`, which is the workspace's"));
    }
    Ok(())
}

fn mounts(known: &[String]) -> String {
    if known.is_empty() { "none".into() } else { known.iter().map(|m| format!("`{m}`")).collect::<Vec<_>>().join(", ") }
}
