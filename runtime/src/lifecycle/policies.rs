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

use super::{
    Lifecycle,
    routes::{BadEgress, TENANT_FILE, TenantEgress},
};
use crate::{
    config::DEFAULT_TENANT,
    egress::Rule,
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
    egress: Arc<TenantEgress>,
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
    #[error(transparent)]
    Egress(#[from] BadEgress),
    #[error("the change cannot be recorded: {0}")]
    Unrecorded(#[from] crate::journal::JournalError),
}

impl Policies {
    /// Loads the policies of `dir`, or those to start with, and what the tenant takes of `rules`.
    pub fn load(dir: Option<&Path>, tools: &[ToolFacts], rules: &[Rule]) -> Result<Self, PolicyError> {
        // Before it is read: what changes meanwhile is seen later.
        let first_look = dir.map(|dir| fingerprint(dir.into())).unwrap_or_default();
        let (sources, egress) = read(dir)?;
        let egress = Arc::new(TenantEgress::parse(egress, rules)?);
        let set = Arc::new(PolicySet::load(sources.clone(), tools)?);
        let in_force = RwLock::new(InForce { set, sources, egress, refused: None });
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

    fn egress(&self) -> Arc<TenantEgress> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).egress.clone()
    }

    fn put(&self, set: Arc<PolicySet>, sources: Vec<Source>, egress: Arc<TenantEgress>) {
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        // Other tools do not mend the directory.
        let refused = in_force.refused.take().filter(|_| in_force.sources == sources);
        *in_force = InForce { set, sources, egress, refused };
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

    /// Returns what the tenant takes of the operator's egress rules.
    pub fn tenant_egress(&self) -> Arc<TenantEgress> {
        self.0.policies.egress()
    }

    /// Returns why the last attempt to replace the policies was refused, if it was.
    pub fn policies_refused(&self) -> Option<String> {
        self.0.policies.refused()
    }

    /// Checks policies against the registered tools, and the tenant's egress against the rules, without putting them in
    /// force.
    pub async fn check_policies(&self, sources: Vec<Source>) -> Result<PolicySet, PolicyError> {
        let (egress, sources): (Vec<_>, Vec<_>) = sources.into_iter().partition(|source| source.file == TENANT_FILE);
        TenantEgress::parse(egress.into_iter().next().map(|source| source.text), &self.config().egress)?;
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
            Ok(Ok((sources, egress))) => match TenantEgress::parse(egress, &self.config().egress) {
                Ok(egress) => self.replace(sources, egress).await,
                Err(error) => Err(error.into()),
            },
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
        let egress = TenantEgress::clone(&self.tenant_egress());
        self.replace(self.0.policies.sources(), egress).await
    }

    /// Says whether the policies in force are valid for other tools.
    pub async fn try_policies(&self, tools: Vec<ToolFacts>) -> Result<(), PolicyError> {
        load(self.0.policies.sources(), tools).await.map(drop)
    }

    /// Puts policies in force. Only one at a time does, and looks at sources and tools within its turn: so what is in
    /// force is never older than what was in force before.
    async fn replace(&self, sources: Vec<Source>, egress: TenantEgress) -> Result<Arc<PolicySet>, PolicyError> {
        let set = Arc::new(load(sources.clone(), self.tool_facts()).await?);
        let (before, before_egress) = (self.policies(), self.tenant_egress());
        let same_egress = *before_egress == egress;
        // The same rules stay the same: requests that are under way need not be asked about again.
        let egress = if same_egress { before_egress } else { Arc::new(egress) };
        if before.revision() == set.revision() && same_egress {
            self.0.policies.put(set.clone(), sources, egress);
            return Ok(set);
        }
        // Recorded before it decides anything.
        self.0.journal.append(policy_entry(&set, &sources, &egress, Some(before.revision())))?.await?;
        info!(revision = set.revision(), before = before.revision(), "policies in force");
        self.0.policies.put(set.clone(), sources, egress);
        if !same_egress {
            self.egress().forget();
        }
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
fn policy_entry(set: &PolicySet, sources: &[Source], egress: &TenantEgress, before: Option<&str>) -> Entry {
    let egress = egress.text.iter().map(|text| Source { file: TENANT_FILE.into(), text: text.clone() });
    let sources: Vec<Source> = sources.iter().cloned().chain(egress).collect();
    let files: Vec<_> = sources
        .iter()
        .map(|source| json!({ "file": source.file, "digest": Digest::of(source.text.as_bytes()).to_string() }))
        .collect();
    let body = json!({ "revision": set.revision(), "before": before, "files": files });
    let payload =
        |source: &Source| Payload { bytes: source.text.clone().into_bytes(), media_type: "text/cedar".into() };
    Entry { payloads: sources.iter().map(payload).collect(), ..Entry::new(Kind::Policy, DEFAULT_TENANT, body) }
}

impl Policies {
    /// Returns what is recorded of the policies in force when the daemon starts.
    pub fn entry(&self) -> Entry {
        policy_entry(&self.set(), &self.sources(), &self.egress(), None)
    }
}

/// Returns the policies of a directory, and the tenant's egress if there is any.
fn read(dir: Option<&Path>) -> Result<(Vec<Source>, Option<String>), PolicyError> {
    let Some(dir) = dir else {
        return Ok((vec![Source { file: "starter.cedar".into(), text: STARTER.into() }], None));
    };
    let too_much = || {
        let message = format!("more than {FILES_MAX} files, or more than {BYTES_MAX} bytes");
        PolicyError::Unreadable(io::Error::new(io::ErrorKind::InvalidData, message))
    };
    let (mut sources, mut egress) = (Vec::new(), None);
    let mut bytes = 0;
    for path in files(dir).map_err(PolicyError::Unreadable)? {
        bytes += fs::metadata(&path).map_err(PolicyError::Unreadable)?.len();
        if sources.len() >= FILES_MAX || bytes > BYTES_MAX as u64 {
            return Err(too_much());
        }
        let text = fs::read_to_string(&path).map_err(PolicyError::Unreadable)?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file == TENANT_FILE {
            egress = Some(text);
        } else {
            sources.push(Source { file, text });
        }
    }
    Ok((sources, egress))
}

fn files(dir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let ours = |path: &std::path::PathBuf| {
        path.extension().is_some_and(|e| e == "cedar") || path.file_name().is_some_and(|name| name == TENANT_FILE)
    };
    let mut files: Vec<_> = entries.into_iter().filter(ours).collect();
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
