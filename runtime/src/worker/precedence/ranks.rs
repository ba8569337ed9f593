//! Which tenants come last: those who lately used more than a quarter of what each would have of the processors, if all
//! who used any shared them out.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::step::Name;

/// What was used is forgotten with this time.
const MEMORY: Duration = Duration::from_secs(1);

/// Who computed much comes last for so long after that: who could come first again at once would compute much by turns.
const STAYS: Duration = Duration::from_secs(30);

/// Who used any within this time counts as one who uses the node.
const ACTIVE: Duration = Duration::from_secs(10);

/// Less than this between two looks is not using the node: a timer, a frame.
const ANY: Duration = Duration::from_micros(100);

/// The part of a processor that a tenant may use in any case.
const LEAST: f64 = 0.02;

/// When a worker comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// Before those who compute much.
    First,
    /// After the others.
    Last,
    /// After the others, and one processor is kept for these.
    LastConfined,
}

/// What tenants used lately.
pub struct Ranks {
    processors: f64,
    tenants: HashMap<Name, Tenant>,
    looked: Instant,
}

struct Tenant {
    /// Since the last look.
    used: Duration,
    /// Processors, on average.
    lately: f64,
    active: Instant,
    /// When it computed much, as long as it comes last for that.
    much: Option<Instant>,
}

impl Ranks {
    /// Nobody used any of this many processors yet.
    pub fn new(processors: usize, now: Instant) -> Self {
        Self { processors: processors as f64, tenants: HashMap::new(), looked: now }
    }

    /// Counts processor time that a tenant used.
    pub fn used(&mut self, tenant: &Name, time: Duration) {
        match self.tenants.get_mut(tenant) {
            Some(known) => known.used += time,
            None if time < ANY => {}
            None => {
                let new = Tenant { used: time, lately: 0.0, active: self.looked, much: None };
                self.tenants.insert(tenant.clone(), new);
            }
        }
    }

    /// Judges what was used until now, and returns the tenants for which it has changed whether they come last.
    pub fn look(&mut self, now: Instant) -> Vec<(Name, bool)> {
        let passed = now.saturating_duration_since(self.looked).as_secs_f64() / MEMORY.as_secs_f64();
        self.looked = now;
        let kept = (-passed).exp();
        // Of what was used since a look that was long ago, a part is forgotten as well.
        let counted = if passed > 0.0 { (1.0 - kept) / passed } else { 1.0 };
        self.tenants.retain(|_, tenant| {
            tenant.lately = tenant.lately * kept + tenant.used.as_secs_f64() * counted;
            if tenant.used >= ANY {
                tenant.active = now;
            }
            tenant.used = Duration::ZERO;
            tenant.much.is_some() || tenant.is_active(now)
        });
        let count = self.tenants.values().filter(|tenant| tenant.is_active(now)).count();
        let bound = (self.processors / (4 * count.max(1)) as f64).max(LEAST);
        let mut changed = Vec::new();
        for (name, tenant) in &mut self.tenants {
            let before = tenant.much;
            // Half of it is the way back, so that nobody goes to and fro.
            let much = if before.is_some() { tenant.lately > bound / 2.0 } else { count > 1 && tenant.lately > bound };
            tenant.much = if much { Some(now) } else { before.filter(|at| now.saturating_duration_since(*at) < STAYS) };
            if tenant.much.is_some() != before.is_some() {
                changed.push((name.clone(), tenant.much.is_some()));
            }
        }
        changed
    }

    /// Returns when the workers of a tenant come.
    pub fn of(&self, tenant: &Name) -> Rank {
        match self.tenants.get(tenant).and_then(|tenant| tenant.much) {
            None => Rank::First,
            // Nobody is kept from a processor that nobody else wants.
            Some(_) if self.tenants.values().all(|tenant| tenant.much.is_some()) => Rank::Last,
            Some(_) => Rank::LastConfined,
        }
    }
}

impl Tenant {
    fn is_active(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.active) < ACTIVE
    }
}
