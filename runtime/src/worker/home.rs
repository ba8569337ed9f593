//! Whose steps a worker runs, for life.

use crate::step::Name;

/// The steps that may share a worker. A tool runs where the step runs that calls it, whatever its home.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Home {
    pub tenant: Name,
    pub whose: Whose,
}

/// Which of the tenant's steps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Whose {
    /// All.
    Tenant,
    /// Those of one job.
    Job(Name),
    /// One step.
    Step,
}
