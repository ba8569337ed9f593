//! The `[workers]` table: how many processes run steps, and for how long each.

use serde::{Deserialize, Serialize};

use super::{BadConfig, Config, Row};

/// How worker processes come and go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workers {
    /// Ready workers that wait, for each tenant that ran something within `idle_seconds`.
    pub spares: u64,
    /// Workers at once, of all tenants.
    pub total: u64,
    pub steps_max: u64,
    pub age_seconds: u64,
    pub idle_seconds: u64,
    pub growth_bytes: u64,
}

/// Which steps may share a worker process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// All of a tenant.
    #[default]
    Tenant,
    /// Those of a job. A step without one is alone.
    Job,
    /// None: each has a process of its own.
    Step,
}

/// More spares than this are not spare.
const SPARES_MAX: u64 = 16;

impl Default for Workers {
    fn default() -> Self {
        Self {
            spares: 1,
            total: 128,
            steps_max: 10_000,
            age_seconds: 3_600,
            idle_seconds: 900,
            growth_bytes: 256 << 20,
        }
    }
}

impl Workers {
    /// Returns every bound as a limit, in the order of `docs/limits.md`.
    pub fn rows(&self) -> Vec<Row> {
        let row = |name, unit, value, ceiling| Row { name, unit, default: value, max: value, floor: 1, ceiling };
        vec![
            // None is a number, too.
            Row { floor: 0, ..row("workers.spares", "count", self.spares, SPARES_MAX) },
            row("workers.total", "count", self.total, 4_096),
            row("workers.steps_max", "count", self.steps_max, 1_000_000_000),
            row("workers.age_seconds", "seconds", self.age_seconds, 7 * 86_400),
            row("workers.idle_seconds", "seconds", self.idle_seconds, 7 * 86_400),
            row("workers.growth_bytes", "bytes", self.growth_bytes, 64 << 30),
        ]
    }
}

/// Checks what the rows do not say.
pub fn check_workers(config: &Config) -> Result<(), BadConfig> {
    let workers = &config.workers;
    // So that a step that was admitted always finds a worker: each that is not idle runs one.
    if workers.total < config.limits.concurrent_steps {
        let problem = "must be at least `limits.concurrent_steps`".into();
        return Err(BadConfig::Value { key: "workers.total", problem });
    }
    Ok(())
}
