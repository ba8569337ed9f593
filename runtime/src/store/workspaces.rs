//! Workspaces: directories with a quota that serve one step, or one upload, at a time.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    ops::Bound::{Excluded, Unbounded},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use cap_std::fs::Dir;
use serde::{Deserialize, Serialize};

use super::{
    TenantDir, durable,
    workspace_files::{self, Changed, Folder},
};
use crate::step::{Name, Quota};

/// Directories that are kept for single steps.
const UNTOUCHED_MAX: usize = 64;

/// A workspace, as it was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Workspace {
    pub name: Name,
    pub quota: Quota,
    pub create_time: SystemTime,
    /// Of what its steps have read: whatever they wrote into it may hold it.
    #[serde(default)]
    pub labels: BTreeSet<Name>,
}

/// The workspaces of a tenant.
#[derive(Clone)]
pub struct Workspaces(Arc<Inner>);

struct Inner {
    path: PathBuf,
    folder: Folder,
    quota_folder: PathBuf,
    spool: PathBuf,
    max: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    workspaces: BTreeMap<Name, Workspace>,
    leased: HashSet<Name>,
    /// Directories of single steps that did not touch them, for the next ones: on most file systems making and removing
    /// a directory costs more than running a step.
    untouched: Vec<Untouched>,
}

/// A directory that is as it was made.
struct Untouched {
    folder_name: String,
    since: Changed,
}

/// What went wrong with a workspace or a file in it.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    #[error("there is no workspace `{0}`: create it first, or list what there is")]
    NotFound(String),
    #[error("`{0}` is not `workspaces/<id>`")]
    BadReference(String),
    #[error("there is a workspace `{0}` already")]
    Exists(Name),
    #[error("workspace `{0}` is in use by a step or an upload: it serves one at a time")]
    Busy(Name),
    #[error("there are {0} workspaces already, which is the limit `workspaces`: delete some first")]
    TooMany(u64),
    #[error("path `{0}` {1}")]
    BadPath(String, &'static str),
    #[error("there is no file `{0}`")]
    NoFile(String),
    #[error("the workspace's quota of {} bytes and {} entries does not allow it", .0.bytes, .0.entries)]
    QuotaExceeded(Quota),
    #[error("the workspace nests directories more than {0} deep: delete it")]
    TooDeep(usize),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The exclusive use of a workspace. Dropping it frees the workspace; one of a single step is deleted.
pub struct Lease {
    inner: Arc<Inner>,
    folder_name: String,
    quota: Quota,
    /// `None` is the workspace of a single step.
    name: Option<Name>,
    /// When the workspace of a single step was made, and whether its kernel would give a change another time.
    since: Option<(Changed, bool)>,
}

impl Workspaces {
    /// Reads what there is and removes workspaces that single steps of an earlier daemon left.
    pub fn open(tenant: &TenantDir, max: u64) -> io::Result<Self> {
        let TenantDir { workspaces: path, quotas: quota_folder, spool } = tenant.clone();
        let folder = Folder::open(&path)?;
        let mut state = State::default();
        for entry in fs::read_dir(&quota_folder)? {
            let workspace: Workspace = serde_json::from_slice(&fs::read(entry?.path())?)?;
            state.workspaces.insert(workspace.name.clone(), workspace);
        }
        for name in folder.names()? {
            if !name.parse::<Name>().is_ok_and(|name| state.workspaces.contains_key(&name)) {
                folder.remove(&name)?;
            }
        }
        Ok(Self(Arc::new(Inner { path, folder, quota_folder, spool, max, state: Mutex::new(state) })))
    }

    /// Makes an empty workspace. Blocks.
    pub fn create(&self, name: Name, quota: Quota) -> Result<Workspace, WorkspaceError> {
        let inner = &self.0;
        let mut state = inner.state();
        if state.workspaces.contains_key(&name) {
            return Err(WorkspaceError::Exists(name));
        }
        if state.workspaces.len() as u64 >= inner.max {
            return Err(WorkspaceError::TooMany(inner.max));
        }
        let create_time = SystemTime::now();
        let workspace = Workspace { name: name.clone(), quota, create_time, labels: BTreeSet::new() };
        inner.folder.create(name.as_str())?;
        let record = serde_json::to_vec(&workspace).map_err(io::Error::other)?;
        if let Err(error) = durable::write(&inner.record(&name), &record, &inner.spool) {
            let _ = inner.folder.remove(name.as_str()); // what stays is removed at the next start
            return Err(error.into());
        }
        state.workspaces.insert(name, workspace.clone());
        Ok(workspace)
    }

    /// Returns the workspace that `reference` names: `workspaces/<id>`.
    pub fn find(&self, reference: &str) -> Result<Workspace, WorkspaceError> {
        let shown = || reference.chars().take(80).collect::<String>();
        let name = reference.strip_prefix("workspaces/").ok_or_else(|| WorkspaceError::BadReference(shown()))?;
        let name: Name = name.parse().map_err(|_| WorkspaceError::BadReference(shown()))?;
        self.0.state().workspaces.get(&name).cloned().ok_or_else(|| WorkspaceError::NotFound(shown()))
    }

    /// Returns up to `count` workspaces after `after`, by name.
    pub fn list(&self, after: Option<Name>, count: usize) -> Vec<Workspace> {
        let from = after.map_or(Unbounded, Excluded);
        self.0.state().workspaces.range((from, Unbounded)).take(count).map(|(_, workspace)| workspace.clone()).collect()
    }

    /// Returns whether a workspace has all these labels.
    pub fn has_labels(&self, name: &Name, labels: &[Name]) -> bool {
        let state = self.0.state();
        state.workspaces.get(name).is_some_and(|known| labels.iter().all(|label| known.labels.contains(label)))
    }

    /// Adds labels to a workspace, on the disk when this returns. Blocks.
    pub fn label(&self, name: &Name, labels: &[Name]) -> Result<(), WorkspaceError> {
        let mut state = self.0.state();
        let found = state.workspaces.get(name).ok_or_else(|| WorkspaceError::NotFound(name.to_string()))?;
        let mut workspace = found.clone();
        workspace.labels.extend(labels.iter().cloned());
        if workspace.labels != found.labels {
            let record = serde_json::to_vec(&workspace).map_err(io::Error::other)?;
            durable::write(&self.0.record(name), &record, &self.0.spool)?;
            state.workspaces.insert(name.clone(), workspace);
        }
        Ok(())
    }

    /// Deletes a workspace and its files. Blocks.
    pub fn delete(&self, reference: &str) -> Result<(), WorkspaceError> {
        let name = self.find(reference)?.name;
        let _lease = self.lease(&name)?;
        // Without its record it is gone after a crash; until its files are gone as well, its name is taken.
        durable::remove(&self.0.record(&name))?;
        self.0.folder.remove(name.as_str())?;
        self.0.state().workspaces.remove(&name);
        Ok(())
    }

    /// Takes a workspace for one step or one upload.
    pub fn lease(&self, name: &Name) -> Result<Lease, WorkspaceError> {
        let mut state = self.0.state();
        let Some(workspace) = state.workspaces.get(name) else {
            return Err(WorkspaceError::NotFound(name.to_string()));
        };
        let quota = workspace.quota;
        if !state.leased.insert(name.clone()) {
            return Err(WorkspaceError::Busy(name.clone()));
        }
        Ok(Lease { inner: self.0.clone(), folder_name: name.to_string(), quota, name: Some(name.clone()), since: None })
    }

    /// Makes an empty workspace for a single step.
    pub fn lease_temporary(&self, quota: Quota) -> Result<Lease, WorkspaceError> {
        let lease = |untouched: Untouched| {
            let Untouched { folder_name, since } = untouched;
            Lease { inner: self.0.clone(), folder_name, quota, name: None, since: Some((since, since.is_past())) }
        };
        let kept = self.0.state().untouched.pop();
        if let Some(untouched) = kept {
            return Ok(lease(untouched));
        }
        // A dot comes first in no name, so it collides with no workspace.
        let folder_name = format!(".{}", super::random_id());
        self.0.folder.create(&folder_name)?;
        let since = self.0.folder.empty_since(&folder_name);
        let since = since.ok_or_else(|| io::Error::other("a new directory is not empty"))?;
        Ok(lease(Untouched { folder_name, since }))
    }

    /// Returns where uploads wait until they are complete.
    pub fn spool(&self) -> &Path {
        &self.0.spool
    }

    /// Opens the directory of a workspace, for looking.
    pub fn dir(&self, name: &Name) -> Result<Dir, WorkspaceError> {
        self.0.folder.workspace(name.as_str())
    }
}

impl Lease {
    /// Returns the path of the workspace, for the worker.
    pub fn path(&self) -> PathBuf {
        self.inner.path.join(&self.folder_name)
    }

    /// Opens the directory of the workspace.
    pub fn dir(&self) -> Result<Dir, WorkspaceError> {
        self.inner.folder.workspace(&self.folder_name)
    }

    /// Returns the quota of the workspace, whatever is in it.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Returns what may still be added. Walks the whole workspace unless it serves a single step. Blocks.
    pub fn left(&self) -> Result<Quota, WorkspaceError> {
        if self.name.is_none() {
            return Ok(self.quota);
        }
        let used = workspace_files::used(&self.dir()?)?;
        Ok(Quota {
            bytes: self.quota.bytes.saturating_sub(used.bytes),
            entries: self.quota.entries.saturating_sub(used.entries),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &self.name {
            Some(name) => drop(self.inner.state().leased.remove(name)),
            // As it was made, and then for the next step; else a tree of up to its quota, which blocks too long for here.
            None => {
                let folder_name = std::mem::take(&mut self.folder_name);
                match self.inner.folder.untouched(&folder_name, self.since) {
                    Some(since) if self.inner.keep(&folder_name, since) => {}
                    _ => {
                        let inner = self.inner.clone();
                        let removing = std::thread::Builder::new().name("removing".into());
                        // What cannot be removed now is removed at the next start.
                        let _ = removing.spawn(move || inner.folder.remove(&folder_name));
                    }
                }
            }
        }
    }
}

impl Inner {
    /// Keeps a directory for the next step, unless there are plenty.
    fn keep(&self, folder_name: &str, since: Changed) -> bool {
        let mut state = self.state();
        let room = state.untouched.len() < UNTOUCHED_MAX;
        if room {
            state.untouched.push(Untouched { folder_name: folder_name.into(), since });
        }
        room
    }

    fn record(&self, name: &Name) -> PathBuf {
        self.quota_folder.join(format!("{name}.json"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
