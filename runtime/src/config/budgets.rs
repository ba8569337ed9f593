//! The `[budgets]` table: what steps, jobs and the tenant may use in all.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Row;
use crate::{
    budget::Amounts,
    step::{BadLimit, Range},
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Sums. A step's are over itself and the tools that it calls; a job's over its steps; the tenant's over everything
/// within a window of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budgets {
    pub step: StepBudgets,
    pub job: JobBudget,
    pub tenant: TenantBudget,
}

/// What a step gets that does not say, and the most that it may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StepBudgets {
    pub fuel: Range,
    pub wall_ms: Range,
    pub host_calls: Range,
    pub tool_calls: Range,
    pub bytes_in: Range,
    pub bytes_out: Range,
}

/// What all steps of one job may use together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobBudget {
    pub fuel: u64,
    pub wall_ms: u64,
    pub host_calls: u64,
    pub tool_calls: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// What the tenant may use within each window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantBudget {
    pub window_ms: u64,
    pub fuel: u64,
    pub wall_ms: u64,
    pub host_calls: u64,
    pub tool_calls: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// What a request or a manifest asks of a step's budget, not yet judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AskedBudget {
    pub fuel: Option<i64>,
    pub wall_ms: Option<i64>,
    pub host_calls: Option<i64>,
    pub tool_calls: Option<i64>,
    pub bytes_in: Option<i64>,
    pub bytes_out: Option<i64>,
}

impl Default for StepBudgets {
    fn default() -> Self {
        Self {
            fuel: Range { default: 100_000_000_000, max: 10_000_000_000_000 },
            wall_ms: Range { default: 300_000, max: 14_400_000 },
            host_calls: Range { default: 1_000, max: 100_000 },
            tool_calls: Range { default: 100, max: 10_000 },
            bytes_in: Range { default: 64 * MIB, max: 4 * GIB },
            bytes_out: Range { default: 64 * MIB, max: 4 * GIB },
        }
    }
}

impl Default for JobBudget {
    fn default() -> Self {
        Self {
            fuel: 1_000_000_000_000,
            wall_ms: 14_400_000,
            host_calls: 100_000,
            tool_calls: 10_000,
            bytes_in: 4 * GIB,
            bytes_out: 4 * GIB,
        }
    }
}

impl Default for TenantBudget {
    fn default() -> Self {
        Self {
            window_ms: 3_600_000,
            fuel: 1_000_000_000_000_000,
            wall_ms: 3_600_000_000,
            host_calls: 100_000_000,
            tool_calls: 10_000_000,
            bytes_in: 1024 * GIB,
            bytes_out: 1024 * GIB,
        }
    }
}

impl Budgets {
    /// Returns every budget as a limit, in the order of `docs/limits.md`.
    pub fn rows(&self) -> Vec<Row> {
        // The largest number that JSON carries exactly: budgets are recorded.
        const CEILING: u64 = (1 << 53) - 1;
        let range = |name, unit, range: Range| Row {
            name,
            unit,
            default: range.default,
            max: range.max,
            floor: 1,
            ceiling: CEILING,
        };
        let fixed = |name, unit, value| Row { name, unit, default: value, max: value, floor: 1, ceiling: CEILING };
        let Self { step, job, tenant } = self;
        vec![
            range("budgets.step.fuel", "fuel", step.fuel),
            range("budgets.step.wall_ms", "milliseconds", step.wall_ms),
            range("budgets.step.host_calls", "count", step.host_calls),
            range("budgets.step.tool_calls", "count", step.tool_calls),
            range("budgets.step.bytes_in", "bytes", step.bytes_in),
            range("budgets.step.bytes_out", "bytes", step.bytes_out),
            fixed("budgets.job.fuel", "fuel", job.fuel),
            fixed("budgets.job.wall_ms", "milliseconds", job.wall_ms),
            fixed("budgets.job.host_calls", "count", job.host_calls),
            fixed("budgets.job.tool_calls", "count", job.tool_calls),
            fixed("budgets.job.bytes_in", "bytes", job.bytes_in),
            fixed("budgets.job.bytes_out", "bytes", job.bytes_out),
            fixed("budgets.tenant.window_ms", "milliseconds", tenant.window_ms),
            fixed("budgets.tenant.fuel", "fuel", tenant.fuel),
            fixed("budgets.tenant.wall_ms", "milliseconds", tenant.wall_ms),
            fixed("budgets.tenant.host_calls", "count", tenant.host_calls),
            fixed("budgets.tenant.tool_calls", "count", tenant.tool_calls),
            fixed("budgets.tenant.bytes_in", "bytes", tenant.bytes_in),
            fixed("budgets.tenant.bytes_out", "bytes", tenant.bytes_out),
        ]
    }
}

impl StepBudgets {
    /// Returns the budget of a step that asks for `asked`; what is `None` there gets its default.
    pub fn grant(&self, asked: AskedBudget) -> Result<Amounts, BadLimit> {
        Ok(Amounts {
            fuel: self.fuel.grant("budget.fuel", asked.fuel)?,
            wall_ms: self.wall_ms.grant("budget.wall_time", asked.wall_ms)?,
            host_calls: self.host_calls.grant("budget.host_calls", asked.host_calls)?,
            tool_calls: self.tool_calls.grant("budget.tool_calls", asked.tool_calls)?,
            bytes_in: self.bytes_in.grant("budget.bytes_in", asked.bytes_in)?,
            bytes_out: self.bytes_out.grant("budget.bytes_out", asked.bytes_out)?,
        })
    }
}

impl JobBudget {
    pub fn amounts(&self) -> Amounts {
        let Self { fuel, wall_ms, host_calls, tool_calls, bytes_in, bytes_out } = *self;
        Amounts { fuel, wall_ms, host_calls, tool_calls, bytes_in, bytes_out }
    }
}

impl TenantBudget {
    pub fn amounts(&self) -> Amounts {
        let Self { fuel, wall_ms, host_calls, tool_calls, bytes_in, bytes_out, window_ms: _ } = *self;
        Amounts { fuel, wall_ms, host_calls, tool_calls, bytes_in, bytes_out }
    }

    pub fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }
}
