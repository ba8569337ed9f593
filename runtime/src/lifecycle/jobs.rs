//! Jobs, as budgets that several steps share. What a job has spent before is in the journal.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::task::spawn_blocking;

use super::{Lifecycle, RunError};
use crate::{
    budget::{Account, Amounts},
    journal::{Filter, Journal, Kind, ReadError},
    step::Name,
};

/// The jobs whose steps run now.
#[derive(Default)]
pub struct Jobs(Mutex<HashMap<Name, Job>>);

struct Job {
    account: Account,
    steps: usize,
}

/// A job's account, kept while a step of it runs.
pub struct JobHold {
    pub account: Account,
    job: Name,
    lifecycle: Lifecycle,
}

impl Lifecycle {
    /// Returns a job's account: the one that its running steps use, or one with what it spent before.
    pub(super) async fn hold_job(&self, job: &Name) -> Result<JobHold, RunError> {
        if let Some(account) = self.0.jobs.join(job) {
            return Ok(JobHold { account, job: job.clone(), lifecycle: self.clone() });
        }
        let (journal, of_job) = (self.0.journal.clone(), Filter { job: Some(job.to_string()), ..Filter::default() });
        let prior = spawn_blocking(move || spent(&journal, of_job)).await;
        let prior = prior.map_err(|e| RunError::Unreadable(e.to_string()))?;
        let prior = prior.map_err(|e| RunError::Unreadable(e.to_string()))?;
        let name = format!("job `{job}`");
        let tenant = Some(self.0.tenant.clone());
        let account = Account::new(name, self.config().budgets.job.amounts(), tenant).with_spent(prior);
        let account = self.0.jobs.begin(job, account);
        Ok(JobHold { account, job: job.clone(), lifecycle: self.clone() })
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
    fn join(&self, job: &Name) -> Option<Account> {
        let mut jobs = self.jobs();
        let job = jobs.get_mut(job)?;
        job.steps += 1;
        Some(job.account.clone())
    }

    /// Begins a job, or joins one that was begun meanwhile.
    fn begin(&self, job: &Name, account: Account) -> Account {
        let mut jobs = self.jobs();
        let job = jobs.entry(job.clone()).or_insert(Job { account, steps: 0 });
        job.steps += 1;
        job.account.clone()
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for JobHold {
    fn drop(&mut self) {
        self.lifecycle.0.jobs.leave(&self.job);
    }
}
