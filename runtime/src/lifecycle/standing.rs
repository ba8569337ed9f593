//! Whether what was decided about a request still holds while its bodies pass.

use std::sync::{Arc, Mutex, PoisonError};

use super::{act::refused, authorize, execution::Execution, http::Sending, routes::TenantEgress};
use crate::{policy::PolicySet, step::CallError};

/// What a decision was made by. Another look is taken when any of it has changed: at policies in force, at the tenant's
/// rules, at what has entered the job.
pub struct Standing(Mutex<Grounds>);

#[derive(Clone)]
struct Grounds {
    policies: Arc<PolicySet>,
    tenant: Arc<TenantEgress>,
    labels: u64,
}

impl Grounds {
    fn now(execution: &Execution) -> Self {
        // Labels first: what joins meanwhile is seen by the next look.
        let labels = execution.step.labels.version();
        Self { policies: execution.lifecycle.policies(), tenant: execution.lifecycle.tenant_egress(), labels }
    }

    fn same(&self, other: &Self) -> bool {
        self.labels == other.labels
            && Arc::ptr_eq(&self.policies, &other.policies)
            && Arc::ptr_eq(&self.tenant, &other.tenant)
    }
}

impl Standing {
    /// Returns the grounds of a decision that is about to be made.
    pub fn now(execution: &Execution) -> Self {
        Self(Mutex::new(Grounds::now(execution)))
    }

    /// Says whether a response may go on to come. What joins the job meanwhile bounds what leaves, and not what comes.
    pub fn check_coming(&self, execution: &Execution, sending: &Sending) -> Result<(), CallError> {
        let grounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = Grounds { labels: grounds.labels, ..Grounds::now(execution) }.same(&grounds);
        drop(grounds);
        if same { Ok(()) } else { self.check(execution, sending) }
    }

    /// Says whether a request may go on.
    pub fn check(&self, execution: &Execution, sending: &Sending) -> Result<(), CallError> {
        let mut grounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Grounds::now(execution);
        if grounds.same(&now) {
            return Ok(());
        }
        if !Arc::ptr_eq(&grounds.tenant, &now.tenant) && !sending.still_has_its_rule(execution) {
            let message = format!("the egress rule `{}` changed while the request was under way", sending.rule());
            return Err(CallError::Denied(refused("RULE_CHANGED", message, "egress", None, &sending.decision)));
        }
        let verdict = authorize::request(execution, &sending.facts, &sending.words, &sending.decision);
        match verdict.denied {
            Some(denial) if verdict.enforced => Err(CallError::Denied(denial)),
            _ => {
                *grounds = now;
                Ok(())
            }
        }
    }
}
