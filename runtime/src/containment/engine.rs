//! What is seen of agents, rule by rule, in bounded memory.

use std::{
    collections::{HashMap, VecDeque},
    hash::RandomState,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    rule::{Rule, Trigger},
    sketch::Sketch,
    window::Window,
};
use crate::{
    control::{Action, RECORDS_MAX},
    step::{Digest, Name},
};

/// Agents of tenants that are watched at a time. Beyond that, those that did nothing for the longest time are forgotten.
const AGENTS_MAX: usize = 1_024;

/// Watches agents by rules. It has no clock: what is seen brings its time.
pub struct Engine {
    rules: Vec<Rule>,
    /// Of no use to a guest that wants two calls to look the same.
    key: RandomState,
    agents: Mutex<Agents>,
}

#[derive(Default)]
struct Agents {
    /// By tenant and name.
    watched: HashMap<(Name, Name), Watched>,
    /// Counts observations, to tell who was seen last.
    seen: u64,
}

/// An agent of a tenant.
struct Watched {
    last_seen: u64,
    /// One for each rule that watches it.
    watches: Vec<Watch>,
}

/// What one rule knows of one agent.
struct Watch {
    /// Which rule.
    rule: usize,
    state: State,
    /// What may have triggered it, the newest last.
    recent: VecDeque<Recent>,
    /// The agent is held by this rule until then: it is not triggered once more.
    held_until_ms: u64,
}

/// The time, the record, and of a call what it asked.
type Recent = (u64, Arc<AtomicU64>, Option<Digest>);

enum State {
    Sum(Window),
    Label,
    Calls(Option<Sketch>),
}

/// One thing that an agent did.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    pub tenant: &'a Name,
    pub agent: &'a Name,
    /// Number of the record that tells it, once it has one; 0 before.
    pub record: &'a Arc<AtomicU64>,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub what: Seen<'a>,
}

/// What it did.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// It asked for what it may not. Not: for what a hold kept from it, which would make a hold prolong itself.
    Denial,
    /// It asked for this, by the digest of the question and its arguments.
    Call(Digest),
    /// This label joined its job.
    Labelled(&'a Name),
    /// It sent something.
    Egress { bytes_out: u64 },
}

/// An agent that is to be held.
#[derive(Debug)]
pub struct Triggered {
    pub rule: Name,
    pub action: Action,
    /// None: until an operator lifts it.
    pub until_ms: Option<u64>,
    /// Of the records that triggered it, the newest last; at most 64.
    records: Vec<Arc<AtomicU64>>,
}

impl Triggered {
    /// Returns the numbers of the records that triggered it, as far as they have one by now, the newest last.
    pub fn records(&self) -> Vec<u64> {
        self.records.iter().map(|record| record.load(Ordering::Relaxed)).filter(|number| *number > 0).collect()
    }
}

impl Engine {
    pub fn new(rules: &[Rule]) -> Self {
        Self { rules: rules.to_vec(), key: RandomState::new(), agents: Mutex::default() }
    }

    /// Returns whether a rule looks for calls that are the same: their digests cost something.
    pub fn watches_calls(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.trigger, Trigger::SameCall(_)))
    }

    /// Takes note of something; returns the rules that it triggers. A rule that has triggered does not again while its hold
    /// lasts, and counts from nothing after each time.
    pub fn observe(&self, observation: &Observation) -> Vec<Triggered> {
        let Observation { tenant, agent, .. } = observation;
        if !self.rules.iter().any(|rule| rule.watches(agent)) {
            return Vec::new();
        }
        let mut agents = self.agents();
        agents.seen += 1;
        let seen = agents.seen;
        let who = ((*tenant).clone(), (*agent).clone());
        if !agents.watched.contains_key(&who) {
            agents.make_room();
        }
        let watched = agents.watched.entry(who).or_insert_with(|| Watched::new(&self.rules, agent));
        watched.last_seen = seen;
        watched
            .watches
            .iter_mut()
            .filter_map(|watch| watch.see(&self.rules[watch.rule], observation, &self.key))
            .collect()
    }

    /// Forgets what a rule has seen of an agent, and that it triggered: for whoever lifts its hold.
    pub fn forget(&self, tenant: &Name, agent: &Name, rule: &Name) {
        let mut agents = self.agents();
        let Some(watched) = agents.watched.get_mut(&(tenant.clone(), agent.clone())) else { return };
        for watch in watched.watches.iter_mut().filter(|watch| self.rules[watch.rule].name == *rule) {
            *watch = Watch::new(watch.rule, &self.rules[watch.rule]);
        }
    }

    fn agents(&self) -> MutexGuard<'_, Agents> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Agents {
    /// Forgets an eighth of the agents at a time, so that it costs little however many come.
    fn make_room(&mut self) {
        if self.watched.len() < AGENTS_MAX {
            return;
        }
        let mut times: Vec<u64> = self.watched.values().map(|watched| watched.last_seen).collect();
        let (_, newest_of_old, _) = times.select_nth_unstable(AGENTS_MAX / 8 - 1);
        let newest_of_old = *newest_of_old;
        self.watched.retain(|_, watched| watched.last_seen > newest_of_old);
    }
}

impl Watched {
    fn new(rules: &[Rule], agent: &Name) -> Self {
        let watching = rules.iter().enumerate().filter(|(_, rule)| rule.watches(agent));
        Self { last_seen: 0, watches: watching.map(|(index, rule)| Watch::new(index, rule)).collect() }
    }
}

impl Watch {
    fn new(index: usize, rule: &Rule) -> Self {
        let state = match rule.trigger {
            Trigger::Denials(_) | Trigger::BytesOut(_) => State::Sum(Window::new(rule.within_ms)),
            Trigger::LabelThenEgress(_) => State::Label,
            Trigger::SameCall(_) => State::Calls(None),
        };
        Self { rule: index, state, recent: VecDeque::new(), held_until_ms: 0 }
    }

    fn see(&mut self, rule: &Rule, observation: &Observation, key: &RandomState) -> Option<Triggered> {
        let Observation { record, at_ms, what, .. } = *observation;
        let (reached, call) = match (&mut self.state, &rule.trigger, what) {
            (State::Sum(window), Trigger::Denials(count), Seen::Denial) => (window.add(at_ms, 1) >= *count, None),
            (State::Sum(window), Trigger::BytesOut(bytes), Seen::Egress { bytes_out }) => {
                (window.add(at_ms, bytes_out) >= *bytes, None)
            }
            (State::Calls(sketch), Trigger::SameCall(count), Seen::Call(call)) => {
                let sketch = sketch.get_or_insert_with(|| Sketch::new(rule.within_ms));
                (sketch.add(at_ms, call, key) >= *count, Some(call))
            }
            (State::Label, Trigger::LabelThenEgress(label), Seen::Labelled(joined)) if joined == label => (false, None),
            (State::Label, Trigger::LabelThenEgress(_), Seen::Egress { .. }) => {
                let (joined, ..) = self.recent.back()?;
                if at_ms.saturating_sub(*joined) > rule.within_ms {
                    return None;
                }
                (true, None)
            }
            _ => return None,
        };
        let own = (at_ms, record.clone(), call);
        if !reached || at_ms < self.held_until_ms {
            // Of what is sent after a label only the label is of use later.
            if !matches!((&self.state, what), (State::Label, Seen::Egress { .. })) {
                self.remember(own);
            }
            return None;
        }
        self.remember(own);
        let within = |at: u64| at_ms.saturating_sub(at) <= rule.within_ms;
        let told = self.recent.iter().filter(|(at, _, asked)| within(*at) && *asked == call);
        let records = told.map(|(_, record, _)| record.clone()).collect();
        self.recent.clear();
        match &mut self.state {
            State::Sum(window) => window.clear(),
            State::Calls(sketch) => *sketch = None,
            State::Label => {}
        }
        let until_ms = rule.for_ms.map(|for_ms| at_ms.saturating_add(for_ms));
        self.held_until_ms = until_ms.unwrap_or(u64::MAX);
        Some(Triggered { rule: rule.name.clone(), action: rule.action, until_ms, records })
    }

    fn remember(&mut self, seen: Recent) {
        if self.recent.len() == RECORDS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(seen);
    }
}
