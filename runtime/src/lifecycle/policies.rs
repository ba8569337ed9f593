//! The policies in force: loaded as a whole, replaced as a whole, or not at all.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use serde_json::json;
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{Lifecycle, trail::TENANT};
use crate::{
    journal::{Entry, Kind, Payload},
    policy::{BYTES_MAX, BadPolicies, PolicySet, STARTER, Source, ToolFacts},
    step::Digest,
};

/// How often the directory is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Files of a directory of policies.
const FILES_MAX: usize = 1_000;

/// The policies in force, and what they were made of.
pub struct Policies {
    in_force: RwLock<InForce>,
    /// How the directory looked before it was read first.
    first_look: Fingerprint,
    /// Held while they are replaced.
    replacing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct InForce {
    set: Arc<PolicySet>,
    sources: Vec<Source>,
    /// Why the last attempt to replace them was refused.
    refused: Option<String>,
}

/// Policies that cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("cannot read `policy.dir`: {0}")]
    Unreadable(io::Error),
    #[error(transparent)]
    Bad(#[from] BadPolicies),
    #[error("the change cannot be recorded: {0}")]
    Unrecorded(#[from] crate::journal::JournalError),
}

impl Policies {
    /// Loads the policies of `dir`, or those to start with.
    pub fn load(dir: Option<&Path>, tools: &[ToolFacts]) -> Result<Self, PolicyError> {
        // Before it is read: what changes meanwhile is seen later.
        let first_look = dir.map(|dir| fingerprint(dir.into())).unwrap_or_default();
        let sources = read(dir)?;
        let set = Arc::new(PolicySet::load(sources.clone(), tools)?);
        let in_force = RwLock::new(InForce { set, sources, refused: None });
        Ok(Self { in_force, first_look, replacing: tokio::sync::Mutex::default() })
    }

    /// Returns the set in force.
    pub fn set(&self) -> Arc<PolicySet> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).set.clone()
    }

    /// Returns why the last attempt to replace the set was refused.
    pub fn refused(&self) -> Option<String> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).refused.clone()
    }

    fn sources(&self) -> Vec<Source> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).sources.clone()
    }

    fn put(&self, set: Arc<PolicySet>, sources: Vec<Source>) {
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        // Other tools do not mend the directory.
        let refused = in_force.refused.take().filter(|_| in_force.sources == sources);
        *in_force = InForce { set, sources, refused };
    }

    fn accepted(&self) {
        self.in_force.write().unwrap_or_else(PoisonError::into_inner).refused = None;
    }

    fn refuse(&self, why: String) {
        self.in_force.write().unwrap_or_else(PoisonError::into_inner).refused = Some(why);
    }
}

impl Lifecycle {
    /// Returns the policies in force.
    pub fn policies(&self) -> Arc<PolicySet> {
        self.0.policies.set()
    }

    /// Returns why the last attempt to replace the policies was refused, if it was.
    pub fn policies_refused(&self) -> Option<String> {
        self.0.policies.refused()
    }

    /// Checks policies against the registered tools, without putting them in force.
    pub async fn check_policies(&self, sources: Vec<Source>) -> Result<PolicySet, PolicyError> {
        load(sources, self.tool_facts()).await
    }

    /// Reads `policy.dir` again. What is not valid is refused, and the old set stays.
    pub async fn reload_policies(&self) -> Result<Arc<PolicySet>, PolicyError> {
        let this = self.clone();
        self.whole(async move { this.read_policies().await }).await.map_err(|e| PolicyError::Unreadable(e.into()))?
    }

    async fn read_policies(&self) -> Result<Arc<PolicySet>, PolicyError> {
        let _replacing = self.0.policies.replacing.lock().await;
        let dir = self.config().policy.dir.clone();
        let reloaded = match spawn_blocking(move || read(dir.as_deref())).await {
            Ok(Ok(sources)) => self.replace(sources).await,
            Ok(Err(error)) => Err(error),
            Err(error) => Err(PolicyError::Unreadable(error.into())),
        };
        match &reloaded {
            Ok(_) => self.0.policies.accepted(),
            Err(refused) => {
                error!(error = %refused, "policies refused: the old ones stay");
                self.0.policies.refuse(refused.to_string());
            }
        }
        reloaded
    }

    /// Puts the same policies in force for the tools that are registered now.
    pub async fn refit_policies(&self) -> Result<Arc<PolicySet>, PolicyError> {
        let _replacing = self.0.policies.replacing.lock().await;
        self.replace(self.0.policies.sources()).await
    }

    /// Says whether the policies in force are valid for other tools.
    pub async fn try_policies(&self, tools: Vec<ToolFacts>) -> Result<(), PolicyError> {
        load(self.0.policies.sources(), tools).await.map(drop)
    }

    /// Puts policies in force. Only one at a time does, and looks at sources and tools within its turn: so what is in
    /// force is never older than what was in force before.
    async fn replace(&self, sources: Vec<Source>) -> Result<Arc<PolicySet>, PolicyError> {
        let set = Arc::new(load(sources.clone(), self.tool_facts()).await?);
        let before = self.policies();
        if before.revision() == set.revision() {
            self.0.policies.put(set.clone(), sources);
            return Ok(set);
        }
        // Recorded before it decides anything.
        self.0.journal.append(policy_entry(&set, &sources, Some(before.revision())))?.await?;
        info!(revision = set.revision(), before = before.revision(), "policies in force");
        self.0.policies.put(set.clone(), sources);
        Ok(set)
    }

    /// Puts changed policies in force as soon as they are seen, until `stop`.
    pub async fn watch_policies(&self, stop: CancellationToken) {
        let Some(dir) = self.config().policy.dir.clone() else { return };
        let look = |dir| spawn_blocking(move || fingerprint(dir));
        let mut seen = Some(self.0.policies.first_look.clone());
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let found = look(dir.clone()).await.ok();
            if found != seen {
                seen = found;
                let _ = self.reload_policies().await; // refused: said in the log and in `GetPolicies`
            }
        }
    }
}

/// Loads a set, which takes longer than others should wait.
async fn load(sources: Vec<Source>, tools: Vec<ToolFacts>) -> Result<PolicySet, PolicyError> {
    let loaded = spawn_blocking(move || PolicySet::load(sources, &tools)).await;
    Ok(loaded.map_err(|e| PolicyError::Unreadable(e.into()))??)
}

/// Returns what is recorded of policies that are put in force.
pub fn policy_entry(set: &PolicySet, sources: &[Source], before: Option<&str>) -> Entry {
    let files: Vec<_> = sources
        .iter()
        .map(|source| json!({ "file": source.file, "digest": Digest::of(source.text.as_bytes()).to_string() }))
        .collect();
    let body = json!({ "revision": set.revision(), "before": before, "files": files });
    let payload =
        |source: &Source| Payload { bytes: source.text.clone().into_bytes(), media_type: "text/cedar".into() };
    Entry { payloads: sources.iter().map(payload).collect(), ..Entry::new(Kind::Policy, TENANT, body) }
}

impl Policies {
    /// Returns what is recorded of the policies in force when the daemon starts.
    pub fn entry(&self) -> Entry {
        policy_entry(&self.set(), &self.sources(), None)
    }
}

fn read(dir: Option<&Path>) -> Result<Vec<Source>, PolicyError> {
    let Some(dir) = dir else {
        return Ok(vec![Source { file: "starter.cedar".into(), text: STARTER.into() }]);
    };
    let too_much = || {
        let message = format!("more than {FILES_MAX} files, or more than {BYTES_MAX} bytes");
        PolicyError::Unreadable(io::Error::new(io::ErrorKind::InvalidData, message))
    };
    let mut sources = Vec::new();
    let mut bytes = 0;
    for path in files(dir).map_err(PolicyError::Unreadable)? {
        bytes += fs::metadata(&path).map_err(PolicyError::Unreadable)?.len();
        if sources.len() >= FILES_MAX || bytes > BYTES_MAX as u64 {
            return Err(too_much());
        }
        let text = fs::read_to_string(&path).map_err(PolicyError::Unreadable)?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        sources.push(Source { file, text });
    }
    Ok(sources)
}

fn files(dir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut files: Vec<_> = entries.into_iter().filter(|path| path.extension().is_some_and(|e| e == "cedar")).collect();
    files.sort();
    Ok(files)
}

type Fingerprint = Vec<(std::path::PathBuf, u64, Option<SystemTime>)>;

/// Returns what changes when a file does. Links are followed, as Kubernetes' mounted configurations are links.
fn fingerprint(dir: std::path::PathBuf) -> Fingerprint {
    let of = |path: std::path::PathBuf| {
        let metadata = fs::metadata(&path).ok();
        (path, metadata.as_ref().map_or(0, fs::Metadata::len), metadata.and_then(|m| m.modified().ok()))
    };
    files(&dir).map(|files| files.into_iter().map(of).collect()).unwrap_or_default()
}
