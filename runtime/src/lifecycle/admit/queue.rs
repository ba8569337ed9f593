//! Who runs next: steps wait in a line for each tenant, and the lines take turns. Knows neither clocks nor tasks.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use crate::step::Name;

/// What may run and wait at once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub steps: u64,
    pub tenant_steps: u64,
    pub job_steps: u64,
    pub memory_bytes: u64,
    pub tenant_memory_bytes: u64,
    pub queued: u64,
    pub tenant_queued: u64,
}

/// What a step needs for as long as it runs.
#[derive(Debug, Clone)]
pub struct Need {
    pub tenant: Name,
    pub job: Option<Name>,
    pub memory_bytes: u64,
}

/// A step that may not even wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The line is full; by the name of the limit.
    Full(&'static str, u64),
    /// It would never fit, even alone.
    TooLarge(&'static str, u64),
}

/// A step that waits or runs, by number.
pub type Ticket = u64;

/// All that waits and runs.
pub struct Queue {
    bounds: Bounds,
    next: Ticket,
    lines: HashMap<Name, Line>,
    /// Tenants with a step that waits; the first has its turn.
    turns: VecDeque<Name>,
    running: HashMap<Ticket, Need>,
    jobs: HashMap<(Name, Name), u64>,
    memory_bytes: u64,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<(Ticket, Need)>,
    steps: u64,
    memory_bytes: u64,
}

/// What keeps a tenant's next step from running.
enum Lack {
    /// Something of the tenant's own, which only its own steps give back: others go on.
    Own,
    /// Something of everybody's. Nobody overtakes, or a large step would wait for ever.
    Shared,
}

impl Queue {
    /// Returns an empty queue.
    pub fn new(bounds: Bounds) -> Self {
        let (lines, turns, running, jobs) = Default::default();
        Self { bounds, next: 0, lines, turns, running, jobs, memory_bytes: 0 }
    }

    /// Takes a step into its tenant's line. It runs once [`Queue::admit`] returns its ticket.
    pub fn enter(&mut self, need: Need) -> Result<Ticket, Refused> {
        let bounds = &self.bounds;
        for (limit, bound) in
            [("node_memory_bytes", bounds.memory_bytes), ("tenant_memory_bytes", bounds.tenant_memory_bytes)]
        {
            if need.memory_bytes > bound {
                return Err(Refused::TooLarge(limit, bound));
            }
        }
        let in_line = self.lines.get(&need.tenant).map_or(0, |line| line.waiting.len() as u64);
        // Where the line is full, whoever has no share of it yet gets one: a few tenants cannot keep all others out.
        let share = (bounds.queued / (self.turns.len() as u64 + 1)).max(1);
        for (limit, bound, full) in [
            ("tenant_queued_steps", bounds.tenant_queued, in_line >= bounds.tenant_queued),
            ("queued_steps", bounds.queued, self.waiting() >= bounds.queued && in_line >= share),
        ] {
            if full && !self.runs_at_once(&need) {
                return Err(Refused::Full(limit, bound));
            }
        }
        self.next += 1;
        let line = self.lines.entry(need.tenant.clone()).or_default();
        if line.waiting.is_empty() {
            self.turns.push_back(need.tenant.clone());
        }
        line.waiting.push_back((self.next, need));
        Ok(self.next)
    }

    /// Lets those run whose turn it is and for whom there is room.
    pub fn admit(&mut self) -> Vec<Ticket> {
        let mut admitted = Vec::new();
        let mut passed = 0;
        while passed < self.turns.len() {
            let Some(tenant) = self.turns.pop_front() else { break };
            match self.first_of(&tenant) {
                Ok(index) => {
                    passed = 0;
                    admitted.extend(self.start(&tenant, index));
                    if self.lines.get(&tenant).is_some_and(|line| !line.waiting.is_empty()) {
                        self.turns.push_back(tenant);
                    }
                }
                Err(Lack::Own) => {
                    passed += 1;
                    self.turns.push_back(tenant);
                }
                Err(Lack::Shared) => {
                    self.turns.push_front(tenant);
                    break;
                }
            }
        }
        admitted
    }

    /// Takes a step out, whether it waited or ran.
    pub fn leave(&mut self, ticket: Ticket) {
        let Some(need) = self.running.remove(&ticket) else { return self.give_up(ticket) };
        self.memory_bytes -= need.memory_bytes;
        if let Some(line) = self.lines.get_mut(&need.tenant) {
            line.steps -= 1;
            line.memory_bytes -= need.memory_bytes;
        }
        self.forget(&need.tenant);
        if let Some(job) = need.job {
            let key = (need.tenant, job);
            let left = self.jobs.get(&key).map_or(0, |running| running - 1);
            if left == 0 {
                self.jobs.remove(&key)
            } else {
                self.jobs.insert(key, left)
            };
        }
    }

    /// Returns how many wait.
    pub fn waiting(&self) -> u64 {
        self.lines.values().map(|line| line.waiting.len() as u64).sum()
    }

    /// Returns how many run.
    pub fn running(&self) -> u64 {
        self.running.len() as u64
    }

    /// Returns how much memory is set aside for those that run.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn give_up(&mut self, ticket: Ticket) {
        let waits = |line: &Line| line.waiting.iter().any(|(waiting, _)| *waiting == ticket);
        let tenant = self.lines.iter().find(|(_, line)| waits(line)).map(|(tenant, _)| tenant.clone());
        let Some(tenant) = tenant else { return };
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.waiting.retain(|(waiting, _)| *waiting != ticket);
            if line.waiting.is_empty() {
                self.turns.retain(|turn| *turn != tenant);
            }
        }
        self.forget(&tenant);
    }

    /// Returns the place in the line of the step that is next: the first whose job has room.
    fn first_of(&self, tenant: &Name) -> Result<usize, Lack> {
        let line = self.lines.get(tenant).ok_or(Lack::Own)?;
        let index = line.waiting.iter().position(|(_, need)| self.job_has_room(need)).ok_or(Lack::Own)?;
        match line.waiting.get(index).and_then(|(_, need)| self.room(need)) {
            None => Ok(index),
            Some(lack) => Err(lack),
        }
    }

    /// Returns whether a step would not wait: everybody who does waits for something of their own.
    fn runs_at_once(&self, need: &Need) -> bool {
        let first = !self.turns.contains(&need.tenant);
        let held = |tenant: &Name| matches!(self.first_of(tenant), Err(Lack::Shared));
        first && self.job_has_room(need) && self.room(need).is_none() && !self.turns.iter().any(held)
    }

    fn job_has_room(&self, need: &Need) -> bool {
        let Some(job) = &need.job else { return true };
        self.jobs.get(&(need.tenant.clone(), job.clone())).is_none_or(|running| *running < self.bounds.job_steps)
    }

    fn room(&self, need: &Need) -> Option<Lack> {
        let (steps, memory_bytes) = self.lines.get(&need.tenant).map_or((0, 0), |line| (line.steps, line.memory_bytes));
        if steps >= self.bounds.tenant_steps || memory_bytes + need.memory_bytes > self.bounds.tenant_memory_bytes {
            return Some(Lack::Own);
        }
        let fits =
            self.running() < self.bounds.steps && self.memory_bytes + need.memory_bytes <= self.bounds.memory_bytes;
        (!fits).then_some(Lack::Shared)
    }

    fn start(&mut self, tenant: &Name, index: usize) -> Option<Ticket> {
        let line = self.lines.get_mut(tenant)?;
        let (ticket, need) = line.waiting.remove(index)?;
        line.steps += 1;
        line.memory_bytes += need.memory_bytes;
        self.memory_bytes += need.memory_bytes;
        if let Some(job) = &need.job {
            *self.jobs.entry((tenant.clone(), job.clone())).or_default() += 1;
        }
        self.running.insert(ticket, need);
        Some(ticket)
    }

    fn forget(&mut self, tenant: &Name) {
        if self.lines.get(tenant).is_some_and(|line| line.waiting.is_empty() && line.steps == 0) {
            self.lines.remove(tenant);
        }
    }
}
