//! When and where a step may run.

use super::Lifecycle;
use crate::{
    config::Isolation,
    step::Name,
    worker::{Home, Whose},
};

impl Lifecycle {
    /// Returns whose worker runs a step.
    pub(super) fn home(&self, tenant: &Name, job: Option<&Name>) -> Home {
        let whose = match (self.config().jail.isolation, job) {
            (Isolation::Tenant, _) => Whose::Tenant,
            (Isolation::Job, Some(job)) => Whose::Job(job.clone()),
            (Isolation::Job, None) | (Isolation::Step, _) => Whose::Step,
        };
        Home { tenant: tenant.clone(), whose }
    }
}
