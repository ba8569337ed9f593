//! One step of a worker: what the daemon saw of it so far, what it may still say, and what it holds until it ends.

use std::{
    any::Any,
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    bodies::Ends,
    checks::{check_end, check_event, check_size},
    steps::{Asked, GRACE, Received, Violation},
};
use crate::{
    step::{Call, Event, FIXED, Outcome, StepLimits, Usage},
    wire::EVENT_WINDOW,
};

pub struct Entry {
    messages: mpsc::Sender<Event>,
    calls: mpsc::Sender<Asked>,
    /// The host call that the guest waits for: it makes one at a time, but for HTTP requests.
    asking: Option<u64>,
    /// Of the HTTP requests that have not ended.
    bodies: HashMap<u64, Ends>,
    ended: oneshot::Sender<(Outcome, Usage)>,
    limits: StepLimits,
    input_bytes: u64,
    events: u64,
    stdio_bytes: u64,
    /// It said or asked something: it has begun.
    begun: bool,
    /// It was told to stop.
    told: bool,
    since: Instant,
    /// The worker is killed if the step has not ended by then.
    pub overdue: Instant,
    /// What the step holds: its slot and its workspace. Free again when the worker is done with them.
    _holds: Box<dyn Any + Send>,
}

impl Entry {
    /// Returns a step that begins now, and where what comes from it goes.
    pub fn new(limits: StepLimits, input_bytes: u64, holds: Box<dyn Any + Send>) -> (Self, Received) {
        // Room for all that a worker may send, so that delivering never waits.
        let (messages, events) = mpsc::channel(EVENT_WINDOW);
        let (asked, calls) = mpsc::channel(FIXED.calls_under_way as usize);
        let (end, ended) = oneshot::channel();
        let since = Instant::now();
        let entry = Self {
            messages,
            calls: asked,
            asking: None,
            bodies: HashMap::new(),
            ended: end,
            limits,
            input_bytes,
            events: 0,
            stdio_bytes: 0,
            begun: false,
            told: false,
            since,
            overdue: since + Duration::from_millis(limits.timeout_ms) + GRACE,
            _holds: holds,
        };
        (entry, Received { events, calls, ended })
    }

    /// Takes an event from the worker.
    pub fn event(&mut self, event: Event) -> Result<(), Violation> {
        self.begun = true;
        match &event {
            Event::Output { data, .. } => {
                self.stdio_bytes += data.len() as u64;
                if self.stdio_bytes > self.limits.stdio_bytes {
                    return Err(Violation::Limit("stdio_bytes"));
                }
            }
            Event::Log { .. } | Event::Progress { .. } => {
                self.events += 1;
                if self.events > self.limits.events {
                    return Err(Violation::Limit("events"));
                }
            }
        }
        check_event(&event)?;
        match self.messages.try_send(event) {
            // The caller hung up: the step is being cancelled and may still say something.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Violation::Window),
        }
    }

    /// Takes a host call from the worker.
    pub fn call(&mut self, call: u64, asked: Call) -> Result<(), Violation> {
        self.begun = true;
        if self.asking == Some(call) || self.bodies.contains_key(&call) {
            return Err(Violation::Calls);
        }
        let bodies = if matches!(asked, Call::SendRequest(_)) {
            if self.bodies.len() as u64 >= FIXED.requests_under_way {
                return Err(Violation::Calls);
            }
            if asked.bytes() > FIXED.request_head_bytes {
                return Err(Violation::Limit("request_head_bytes"));
            }
            let (ends, loose) = Ends::new();
            self.bodies.insert(call, ends);
            Some(loose)
        } else {
            if self.asking.replace(call).is_some() {
                return Err(Violation::Calls);
            }
            // The worker ends a step that asks for more.
            if asked.bytes() > FIXED.hostcall_bytes {
                return Err(Violation::Limit("hostcall_bytes"));
            }
            None
        };
        match self.calls.try_send(Asked { call, asked, bodies }) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Violation::Calls),
        }
    }

    /// Returns the bodies of a call that has not ended.
    pub fn bodies(&mut self, call: u64) -> Option<&mut Ends> {
        self.bodies.get_mut(&call)
    }

    /// Ends a call; returns whether it is a request whose response had begun.
    pub fn end_call(&mut self, call: u64) -> bool {
        self.asking.take_if(|asking| *asking == call);
        self.bodies.remove(&call).is_some_and(|ends| ends.begun)
    }

    /// The step is told to stop, and ends within `bound`, or its worker does.
    pub fn ends_within(&mut self, bound: Duration) {
        self.told = true;
        self.overdue = self.overdue.min(Instant::now() + bound);
    }

    /// Checks what the worker says of the step's end.
    pub fn check(&self, outcome: &Outcome) -> Result<(), Violation> {
        check_end(outcome, self.told, self.begun)?;
        check_size(outcome, &self.limits)
    }

    /// Tells how the step ended, and lets go of what it holds.
    pub fn end(self, outcome: Outcome, usage: Usage) {
        let _ = self.ended.send((outcome, usage)); // fails if nobody waits any more
    }

    /// Returns the usage as far as it can be true: what was seen here is counted here, and nothing exceeds its limit.
    pub fn possible(&self, outcome: &Outcome, said: Usage) -> Usage {
        // What JSON carries exactly: usage is recorded.
        const MOST: i64 = (1 << 53) - 1;
        let elapsed = self.since.elapsed().as_micros() as u64;
        Usage {
            fuel: said.fuel.min(self.limits.fuel),
            memory_peak_bytes: said.memory_peak_bytes.min(self.limits.memory_bytes),
            wall_time_us: elapsed,
            cpu_time_us: said.cpu_time_us.min(elapsed),
            input_bytes: self.input_bytes,
            output_bytes: if let Outcome::Succeeded { output, .. } = outcome { output.len() as u64 } else { 0 },
            stdio_bytes: self.stdio_bytes,
            events: self.events,
            disk_bytes: said.disk_bytes.clamp(-MOST, MOST),
            disk_entries: said.disk_entries.clamp(-MOST, MOST),
        }
    }
}
