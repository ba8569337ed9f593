//! When a worker has done enough: it takes no new steps, ends what it runs, and goes.

use std::{fs, time::Duration};

use rustix::param::page_size;
use tokio::time::{MissedTickBehavior, interval};

use super::steps::Steps;

/// How often a worker is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a worker may do before it is replaced.
#[derive(Debug, Clone, Copy)]
pub struct Wear {
    /// Steps and tools.
    pub steps: u64,
    pub age: Duration,
    /// For so long nothing has run in it.
    pub idle: Duration,
    /// Private memory beyond what it had when it was ready, looked at while no guest runs.
    pub growth_bytes: u64,
}

/// Why a worker takes no new steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Steps,
    Age,
    Growth,
    /// A step ended as no correct guest makes one end.
    Suspicion,
    Idle,
    /// Another home needed its place.
    Place,
    /// Its tenant comes first again, and it cannot.
    Precedence,
    /// It was there for one step.
    Isolation,
}

impl Reason {
    /// Returns the reason as a word, for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Age => "age",
            Self::Growth => "growth",
            Self::Suspicion => "suspicion",
            Self::Idle => "idle",
            Self::Place => "place",
            Self::Precedence => "precedence",
            Self::Isolation => "isolation",
        }
    }
}

/// Returns once a worker has done enough, by the clock or by its memory.
pub async fn worn_out(steps: &Steps, pid: Option<u32>, wear: &Wear) -> Reason {
    let before = private_bytes(pid);
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = ticks.tick().await;
    loop {
        ticks.tick().await;
        if start.elapsed() >= wear.age {
            return Reason::Age;
        }
        // While guests run their memory counts as well, and says nothing of the worker.
        let Some(idle) = steps.idle() else { continue };
        if idle >= wear.idle {
            return Reason::Idle;
        }
        if private_bytes(pid).saturating_sub(before) > wear.growth_bytes {
            return Reason::Growth;
        }
    }
}

/// Returns the resident memory of a process that no file is behind. Where /proc hides it, it does not seem to grow, and
/// the worker's age bounds what that can come to.
fn private_bytes(pid: Option<u32>) -> u64 {
    let pages = || {
        let statm = fs::read_to_string(format!("/proc/{}/statm", pid?)).ok()?;
        let mut fields = statm.split(' ').skip(1).map(|field| field.parse::<u64>().ok());
        Some(fields.next()??.saturating_sub(fields.next()??))
    };
    pages().unwrap_or(0) * page_size() as u64
}
