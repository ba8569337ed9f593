#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::steps::{Steps, Violation};
use crate::{
    step::{Call, Event, FIXED, Failure, Level, Outcome, StepLimits, Stream, Usage},
    wire::EVENT_WINDOW,
};

const LIMITS: StepLimits =
    StepLimits { fuel: 1, memory_bytes: 1, timeout_ms: 60_000, output_bytes: 10, stdio_bytes: 100, events: 1_000 };

fn log(message: &str) -> Event {
    Event::Log { level: Level::Info, message: message.into(), fields: Vec::new() }
}

fn done(outcome: Outcome) -> Result<(), Violation> {
    let steps = Steps::default();
    let _received = steps.add(1, LIMITS, Box::new(()));
    steps.done(1, outcome, Usage::default())
}

#[test]
fn a_worker_that_speaks_of_a_step_it_does_not_run_breaks_the_rules() {
    let steps = Steps::default();
    assert!(matches!(steps.event(1, log("m")), Err(Violation::UnknownStep)));
    assert!(matches!(steps.done(1, Outcome::Exited { code: 0 }, Usage::default()), Err(Violation::UnknownStep)));
    let _received = steps.add(1, LIMITS, Box::new(()));
    steps.done(1, Outcome::Exited { code: 0 }, Usage::default()).unwrap();
    assert!(matches!(steps.event(1, log("after the end")), Err(Violation::UnknownStep)));
    assert!(matches!(steps.done(1, Outcome::Exited { code: 0 }, Usage::default()), Err(Violation::UnknownStep)));
}

#[test]
fn a_worker_that_sends_more_than_the_window_breaks_the_rules() {
    let steps = Steps::default();
    let mut received = steps.add(1, LIMITS, Box::new(()));
    for _ in 0..EVENT_WINDOW {
        steps.event(1, log("m")).unwrap();
    }
    assert!(matches!(steps.event(1, log("m")), Err(Violation::Window)));
    // There is always a place for the end.
    steps.done(1, Outcome::Exited { code: 0 }, Usage::default()).unwrap();
    assert!(received.ended.try_recv().is_ok());
    assert_eq!(std::iter::from_fn(|| received.events.try_recv().ok()).count(), EVENT_WINDOW);
}

#[test]
fn a_worker_that_asks_more_at_a_time_than_a_guest_can_breaks_the_rules() {
    let steps = Steps::default();
    let _received = steps.add(1, LIMITS, Box::new(()));
    assert!(matches!(steps.call(2, 1, Call::ListTools), Err(Violation::UnknownStep)));
    for call in 0..FIXED.calls_under_way {
        steps.call(1, call, Call::ListTools).unwrap();
    }
    assert!(matches!(steps.call(1, 99, Call::ListTools), Err(Violation::Calls)));
}

#[test]
fn a_worker_that_exceeds_a_limit_of_the_step_breaks_the_rules() {
    let steps = Steps::default();
    let _received = steps.add(1, LIMITS, Box::new(()));
    let output = |bytes| Event::Output { stream: Stream::Stdout, data: vec![0; bytes] };
    steps.event(1, output(100)).unwrap();
    assert!(matches!(steps.event(1, output(1)), Err(Violation::Limit("stdio_bytes"))));
    assert!(matches!(steps.event(1, log(&"m".repeat(70_000))), Err(Violation::Limit("event_bytes"))));
    let fields = vec![(String::new(), String::new()); 5_000];
    let many = Event::Log { level: Level::Info, message: String::new(), fields };
    assert!(matches!(steps.event(1, many), Err(Violation::Limit("event_bytes"))));
}

#[test]
fn a_result_that_fits_into_no_message_breaks_the_rules() {
    let long = || "m".repeat(5 << 20);
    assert!(done(Outcome::Succeeded { output: vec![0; 10], content_type: String::new() }).is_ok());
    assert!(done(Outcome::Succeeded { output: vec![0; 11], content_type: String::new() }).is_err());
    assert!(done(Outcome::Succeeded { output: Vec::new(), content_type: long() }).is_err());
    assert!(done(Outcome::Failed(Failure::new("CODE", long()))).is_err());
    assert!(done(Outcome::Trapped(Failure::new(long(), "message"))).is_err());
    let failure = Failure::new("CODE", "message");
    assert!(done(Outcome::LimitExceeded { failure, limit: long(), value: 1 }).is_err());
}

#[test]
fn what_a_step_holds_is_free_when_it_ends_and_not_before() {
    struct Held(Arc<AtomicBool>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    for lost in [false, true] {
        let (steps, free) = (Steps::default(), Arc::new(AtomicBool::new(false)));
        let received = steps.add(1, LIMITS, Box::new(Held(free.clone())));
        drop(received);
        steps.event(1, log("the caller is gone")).unwrap();
        assert!(!free.load(Ordering::Relaxed), "the worker still uses it");
        if lost {
            steps.lose_all("a test");
        } else {
            steps.done(1, Outcome::Exited { code: 0 }, Usage::default()).unwrap();
        }
        assert!(free.load(Ordering::Relaxed));
    }
}
