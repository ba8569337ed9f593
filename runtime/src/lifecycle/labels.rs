//! The labels of what has entered a job. There are only ever more of them, and each joins with the record of what brought
//! it. Policies see them at every way out.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::Value;
use tokio::task::spawn_blocking;

use super::Tenant;
use crate::{
    journal::{Filter, Journal, Kind, ReadError},
    step::Name,
    store::WorkspaceError,
};

/// The key of a record's body under which it says what joined because of it.
pub const JOINED: &str = "labels_joined";

/// What a job, or a step without one, has gathered.
#[derive(Default)]
pub struct Labels {
    state: Mutex<State>,
    /// Changes when something joins.
    version: AtomicU64,
}

#[derive(Default)]
struct State {
    /// What policies see: at once.
    gathered: BTreeSet<Name>,
    /// What records say. Who brings a label that is not among these records it, however many do.
    recorded: BTreeSet<Name>,
}

impl Labels {
    /// Returns labels that were gathered, and recorded, before.
    pub fn new(gathered: BTreeSet<Name>) -> Self {
        let state = State { recorded: gathered.clone(), gathered };
        Self { state: Mutex::new(state), version: AtomicU64::new(0) }
    }

    /// Adds labels; returns those that are still to be recorded.
    pub fn join<'a>(&self, labels: impl IntoIterator<Item = &'a Name>) -> Vec<Name> {
        let mut state = self.state();
        let (mut grew, mut unrecorded) = (false, BTreeSet::new());
        for label in labels {
            grew |= state.gathered.insert(label.clone());
            if !state.recorded.contains(label) {
                unrecorded.insert(label.clone());
            }
        }
        if grew {
            self.version.fetch_add(1, Ordering::Release);
        }
        unrecorded.into_iter().collect()
    }

    /// Says that there is a record of labels, and that whatever keeps what the job writes has them.
    pub fn recorded(&self, labels: Vec<Name>) {
        self.state().recorded.extend(labels);
    }

    /// Returns a number that changes when something joins.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns all of them.
    pub fn all(&self) -> Vec<Name> {
        self.state().gathered.iter().cloned().collect()
    }

    /// Returns all of them, as policies see them.
    pub fn texts(&self) -> Vec<String> {
        self.state().gathered.iter().map(ToString::to_string).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenant {
    /// Labels a workspace that outlives the step with all that has entered the step's job.
    pub(super) async fn label_workspace(&self, name: Option<&Name>, labels: &Labels) -> Result<(), WorkspaceError> {
        let all = labels.all();
        if all.is_empty() {
            return Ok(());
        }
        let Some(name) = name.filter(|name| !self.workspaces.has_labels(name, &all)).cloned() else { return Ok(()) };
        let workspaces = self.workspaces.clone();
        let labelled = spawn_blocking(move || workspaces.label(&name, &all)).await;
        labelled.map_err(|e| WorkspaceError::Io(e.into()))?
    }
}

/// Returns what a job gathered before, as its records say.
pub fn gathered(journal: &Journal, tenant: &Name, job: &Name) -> Result<BTreeSet<Name>, ReadError> {
    let (tenant, job) = (Some(tenant.to_string()), Some(job.to_string()));
    let filter = Filter { tenant, job, kinds: vec![Kind::Step, Kind::Label], ..Filter::default() };
    let mut gathered = BTreeSet::new();
    for stored in journal.scan(filter) {
        let body = stored?.record()?.body;
        let joined = body.get(JOINED).and_then(Value::as_array).into_iter().flatten();
        gathered.extend(joined.filter_map(|label| label.as_str()?.parse::<Name>().ok()));
    }
    Ok(gathered)
}
