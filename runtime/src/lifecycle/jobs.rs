//! Jobs: budgets and labels that several steps share. What a job has spent and gathered before is in the journal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::spawn_blocking;

use super::{
    RunError, Tenant,
    labels::{Labels, gathered},
};
use crate::{
    budget::{Account, Amounts},
    journal::{Filter, Journal, Kind, ReadError},
    step::Name,
};

/// The jobs of a tenant whose steps run now.
#[derive(Default)]
pub struct Jobs {
    running: Mutex<HashMap<Name, Job>>,
    /// Held while the journal is asked about a job: another step of it that begins and ends meanwhile would be missing.
    asking: tokio::sync::Mutex<()>,
}

struct Job {
    shared: Shared,
    steps: usize,
}

/// What the steps of a job share.
#[derive(Clone)]
struct Shared {
    account: Account,
    labels: Arc<Labels>,
}

/// A job's account and labels, kept while a step of it runs.
pub struct JobHold {
    pub account: Account,
    pub labels: Arc<Labels>,
    job: Name,
    tenant: Arc<Tenant>,
}

impl Tenant {
    /// Returns what a job's steps share: what its running steps use, or what the journal says of it.
    pub(super) async fn hold_job(
        self: &Arc<Self>,
        job: &Name,
        limit: Amounts,
        journal: &Arc<Journal>,
    ) -> Result<JobHold, RunError> {
        let hold = |Shared { account, labels }| JobHold { account, labels, job: job.clone(), tenant: self.clone() };
        if let Some(shared) = self.jobs.join(job) {
            return Ok(hold(shared));
        }
        let _asking = self.jobs.asking.lock().await;
        if let Some(shared) = self.jobs.join(job) {
            return Ok(hold(shared));
        }
        let (journal, tenant, named) = (journal.clone(), self.name.clone(), job.clone());
        let prior = spawn_blocking(move || {
            let (of_tenant, of_job) = (Some(tenant.to_string()), Some(named.to_string()));
            let of_job = Filter { tenant: of_tenant, job: of_job, ..Filter::default() };
            Ok::<_, ReadError>((spent(&journal, of_job)?, gathered(&journal, &tenant, &named)?))
        });
        let prior = prior.await.map_err(|e| RunError::Unreadable(e.to_string()))?;
        let (spent, gathered) = prior.map_err(|e| RunError::Unreadable(e.to_string()))?;
        let account = Account::new(format!("job `{job}`"), limit, Some(self.account.clone()));
        let shared = Shared { account: account.with_spent(spent), labels: Arc::new(Labels::new(gathered)) };
        Ok(hold(self.jobs.begin(job, shared)))
    }
}

/// Returns what the results that match `filter` say was spent.
pub fn spent(journal: &Journal, filter: Filter) -> Result<Amounts, ReadError> {
    let mut sum = Amounts::default();
    for stored in journal.scan(Filter { kinds: vec![Kind::Result], ..filter }) {
        let spent = stored?.record()?.body.get("spent").cloned().unwrap_or_default();
        sum = sum.saturating_add(serde_json::from_value(spent).unwrap_or_default());
    }
    Ok(sum)
}

impl Jobs {
    fn join(&self, job: &Name) -> Option<Shared> {
        let mut jobs = self.jobs();
        let job = jobs.get_mut(job)?;
        job.steps += 1;
        Some(job.shared.clone())
    }

    /// Begins a job, or joins one that was begun meanwhile.
    fn begin(&self, job: &Name, shared: Shared) -> Shared {
        let mut jobs = self.jobs();
        let job = jobs.entry(job.clone()).or_insert(Job { shared, steps: 0 });
        job.steps += 1;
        job.shared.clone()
    }

    fn leave(&self, job: &Name) {
        let mut jobs = self.jobs();
        if let Some(found) = jobs.get_mut(job) {
            found.steps -= 1;
            if found.steps == 0 {
                jobs.remove(job);
            }
        }
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<Name, Job>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for JobHold {
    fn drop(&mut self) {
        self.tenant.jobs.leave(&self.job);
    }
}
