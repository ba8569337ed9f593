//! What a call is answered that a budget cannot pay.

use super::Lifecycle;
use crate::{budget::Exhausted, step::Exhaustion};

/// Returns it as the guest is told.
pub fn exhaustion(exhausted: &Exhausted) -> Exhaustion {
    Exhaustion {
        account: exhausted.account.clone(),
        dimension: exhausted.dimension.into(),
        limit: exhausted.limit,
        left: exhausted.left,
        asked: exhausted.asked,
    }
}

impl Lifecycle {
    /// Counts a refusal for want of budget, by the level of the account: labels are few.
    pub fn count_exhausted(&self, exhausted: &Exhausted) {
        // Some have the name of what they are for behind it.
        let level = exhausted.account.split(' ').next().unwrap_or_default();
        let level = ["tenant", "job", "step"].into_iter().find(|known| *known == level).unwrap_or("tool");
        self.telemetry().meters().budget_exhausted(exhausted.dimension, level);
    }
}
