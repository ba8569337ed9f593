#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    backoff::{Backoff, GOOD},
    steps::{GRACE, Received, Steps, Violation},
    wear::Reason,
};
use crate::{
    step::{Call, Event, FIXED, Failure, HttpRequest, Level, Outcome, Patience, Piece, StepLimits, Stream, Usage},
    wire::EVENT_WINDOW,
};

const LIMITS: StepLimits =
    StepLimits { fuel: 1, memory_bytes: 1, timeout_ms: 60_000, output_bytes: 10, stdio_bytes: 100, events: 1_000 };

const INPUT_BYTES: u64 = 7;

fn steps() -> Steps {
    Steps::new(u64::MAX)
}

/// Begins step 1.
fn begin(steps: &Steps) -> Received {
    add(steps, 1, None).unwrap()
}

fn add(steps: &Steps, step: u64, caller: Option<u64>) -> Option<Received> {
    steps.add(step, caller, LIMITS, INPUT_BYTES, Box::new(())).ok()
}

fn log(message: &str) -> Event {
    Event::Log { level: Level::Info, message: message.into(), fields: Vec::new() }
}

fn done(outcome: Outcome) -> Result<(), Violation> {
    let steps = steps();
    let _received = begin(&steps);
    steps.done(1, outcome, Usage::default())
}

#[test]
fn a_worker_that_speaks_of_a_step_it_does_not_run_breaks_the_rules() {
    let steps = steps();
    assert!(matches!(steps.event(1, log("m")), Err(Violation::UnknownStep)));
    assert!(matches!(steps.done(1, Outcome::Exited { code: 0 }, Usage::default()), Err(Violation::UnknownStep)));
    let _received = begin(&steps);
    steps.done(1, Outcome::Exited { code: 0 }, Usage::default()).unwrap();
    assert!(matches!(steps.event(1, log("after the end")), Err(Violation::UnknownStep)));
    assert!(matches!(steps.done(1, Outcome::Exited { code: 0 }, Usage::default()), Err(Violation::UnknownStep)));
}

#[test]
fn a_worker_that_sends_more_than_the_window_breaks_the_rules() {
    let steps = steps();
    let mut received = begin(&steps);
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
    let steps = steps();
    let _received = begin(&steps);
    assert!(matches!(steps.call(2, 1, Call::ListTools), Err(Violation::UnknownStep)));
    for call in 0..FIXED.requests_under_way {
        steps.call(1, call, request(0, 0)).unwrap();
    }
    assert!(matches!(steps.call(1, 99, request(0, 0)), Err(Violation::Calls)));
    // While its requests are under way, a guest waits for one other call at most.
    steps.call(1, 100, Call::ListTools).unwrap();
    assert!(matches!(steps.call(1, 101, Call::ListTools), Err(Violation::Calls)));
}

#[test]
fn a_guest_makes_its_calls_one_after_another() {
    let steps = steps();
    let mut received = begin(&steps);
    for call in 0..100 {
        steps.call(1, call, Call::ListTools).unwrap();
        assert_eq!(received.calls.try_recv().unwrap().call, call);
        assert!(!steps.end_call(1, call));
    }
    steps.call(1, 100, Call::ListTools).unwrap();
    // That another call ended makes no room, nor does the end of one that there is not.
    steps.call(1, 101, request(0, 0)).unwrap();
    steps.end_call(1, 101);
    steps.end_call(1, 7);
    assert!(matches!(steps.call(1, 102, Call::ListTools), Err(Violation::Calls)));
}

#[test]
fn a_call_whose_number_is_taken_breaks_the_rules() {
    for (first, second) in [(Call::ListTools, request(0, 0)), (request(0, 0), Call::ListTools)] {
        let steps = steps();
        let _received = begin(&steps);
        steps.call(1, 1, first).unwrap();
        assert!(matches!(steps.call(1, 1, second), Err(Violation::Calls)));
    }
}

#[test]
fn a_call_that_no_guest_can_make_breaks_the_rules() {
    let call = |asked| {
        let steps = steps();
        let _received = begin(&steps);
        steps.call(1, 1, asked)
    };
    let tool = |bytes: usize| Call::CallTool { name: String::new(), arguments: "x".repeat(bytes) };
    assert!(call(tool(FIXED.hostcall_bytes as usize)).is_ok());
    assert!(matches!(call(tool(FIXED.hostcall_bytes as usize + 1)), Err(Violation::Limit("hostcall_bytes"))));
    let most = FIXED.request_head_bytes as usize;
    assert!(call(request(most / 32, 16)).is_ok());
    assert!(matches!(call(request(most / 32 + 1, 16)), Err(Violation::Limit("request_head_bytes"))));
    // Empty ones are not free.
    assert!(matches!(call(request(most / 16 + 1, 0)), Err(Violation::Limit("request_head_bytes"))));
}

#[test]
fn frames_for_calls_that_have_ended_are_as_many_as_can_be_on_their_way() {
    let steps = steps();
    let _received = begin(&steps);
    let strays = |most: u64| {
        let all = (0..most).map(|_| steps.piece(1, 1, Piece::Data(vec![0]))).collect::<Result<Vec<_>, _>>();
        all.is_ok()
    };
    steps.call(1, 1, request(0, 0)).unwrap();
    steps.end_call(1, 1);
    assert!(strays(8_192));
    assert!(matches!(steps.taken(1, 1, 1), Err(Violation::Strays)));
    // Of a step that ended as well.
    assert!(matches!(steps.drop_call(2, 1), Err(Violation::Strays)));
}

#[tokio::test]
async fn what_was_measured_here_is_not_the_workers_to_say() {
    let steps = steps();
    let received = begin(&steps);
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(2) {
        std::hint::spin_loop();
    }
    steps.done(1, Outcome::Exited { code: 0 }, Usage::default()).unwrap();
    let (_, usage) = received.ended.await.unwrap();
    assert!(usage.wall_time_us >= 2_000, "{usage:?}");
    assert_eq!(usage.input_bytes, INPUT_BYTES);
}

#[test]
fn an_end_that_only_the_daemon_can_say_breaks_the_rules() {
    let failure = |code: &str| Failure::new(code, "not at all");
    for (outcome, told, begun, known) in [
        (Outcome::Cancelled(failure("CANCELLED")), true, true, true),
        (Outcome::Cancelled(failure("CANCELLED")), false, true, false),
        (Outcome::Cancelled(failure("HELD")), true, true, false),
        (Outcome::WorkerLost(failure("STEP_NOT_STARTED")), true, false, true),
        (Outcome::WorkerLost(failure("STEP_NOT_STARTED")), false, true, false),
        (Outcome::WorkerLost(failure("WORKER_LOST")), false, false, false),
        (Outcome::WorkerLost(failure("WORKER_HUNG")), true, true, false),
        (Outcome::Unrecorded(failure("JOURNAL_UNAVAILABLE")), true, false, false),
    ] {
        for said in [log("here"), Event::Output { stream: Stream::Stdout, data: Vec::new() }] {
            let steps = steps();
            let _received = begin(&steps);
            if told {
                steps.ends_within(1, Duration::from_secs(60));
            }
            if begun {
                steps.event(1, said).unwrap();
            }
            let done = steps.done(1, outcome.clone(), Usage::default());
            assert_eq!(done.is_ok(), known, "{outcome:?}, told {told}, begun {begun}: {done:?}");
        }
    }
    let steps = steps();
    let _received = begin(&steps);
    steps.call(1, 1, Call::ListTools).unwrap();
    let done = steps.done(1, Outcome::WorkerLost(failure("STEP_NOT_STARTED")), Usage::default());
    assert!(matches!(done, Err(Violation::End("worker-lost"))));
}

#[test]
fn what_a_worker_says_of_an_end_always_fits_into_its_record() {
    // JSON writes six bytes for each.
    let control = |bytes: usize| "\u{1}".repeat(bytes);
    let worst = serde_json::json!([control(512), control(20 << 10), control(512)]).to_string();
    // Half of what a record can have.
    assert!(worst.len() < 128 << 10, "{}", worst.len());
    assert!(done(Outcome::Failed(Failure::new(control(512), control(20 << 10)))).is_ok());
    assert!(done(Outcome::Failed(Failure::new(control(513), ""))).is_err());
    assert!(done(Outcome::Failed(Failure::new("", control((20 << 10) + 1)))).is_err());
}

/// Returns a request with so many headers, each of so many bytes.
fn request(headers: usize, bytes: usize) -> Call {
    Call::SendRequest(Box::new(HttpRequest {
        method: String::new(),
        scheme: String::new(),
        authority: String::new(),
        path_with_query: String::new(),
        headers: vec![("x".repeat(bytes), Vec::new()); headers],
        has_body: false,
        patience: Patience::default(),
    }))
}

#[test]
fn a_worker_that_exceeds_a_limit_of_the_step_breaks_the_rules() {
    let steps = steps();
    let _received = begin(&steps);
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
        let (steps, free) = (steps(), Arc::new(AtomicBool::new(false)));
        let received = steps.add(1, None, LIMITS, 0, Box::new(Held(free.clone()))).ok().unwrap();
        drop(received);
        steps.event(1, log("the caller is gone")).unwrap();
        assert!(!free.load(Ordering::Relaxed), "the worker still uses it");
        if lost {
            steps.lose_all(None, "a test");
        } else {
            steps.done(1, Outcome::Exited { code: 0 }, Usage::default()).unwrap();
        }
        assert!(free.load(Ordering::Relaxed));
    }
}

#[test]
fn a_worker_that_took_its_last_step_still_takes_the_tools_of_its_steps() {
    let steps = Steps::new(2);
    let (_first, _second) = (add(&steps, 1, None).unwrap(), add(&steps, 2, None).unwrap());
    assert!(add(&steps, 3, None).is_none());
    let _tool = add(&steps, 4, Some(1)).unwrap();
    assert!(add(&steps, 5, Some(3)).is_none(), "nothing of a step that it does not run");
    for step in [1, 2] {
        steps.done(step, Outcome::Exited { code: 0 }, Usage::default()).unwrap();
    }
    assert!(add(&steps, 6, Some(1)).is_none());
    assert!(!steps.leaves(), "the tool still runs");
    steps.done(4, Outcome::Exited { code: 0 }, Usage::default()).unwrap();
    assert!(steps.leaves());
}

#[test]
fn what_no_correct_guest_causes_retires_its_worker_and_a_mistake_does_not() {
    for (outcome, retires) in [
        (Outcome::Trapped(Failure::new("TRAPPED", "unreachable")), false),
        (Outcome::Failed(Failure::new("GUEST_STOPPED", "a guest's own words")), false),
        (Outcome::Exited { code: 1 }, false),
        (Outcome::Trapped(Failure::new("GUEST_STOPPED", "invalid discriminant")), true),
        (Outcome::WorkerLost(Failure::new("STEP_NOT_STARTED", "no such artifact")), true),
    ] {
        let steps = steps();
        let _received = begin(&steps);
        steps.done(1, outcome.clone(), Usage::default()).unwrap();
        assert_eq!(steps.leaves(), retires, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_step_that_is_to_end_within_a_bound_is_overdue_after_it_and_not_before() {
    let steps = steps();
    let (_first, _second) = (add(&steps, 1, None).unwrap(), add(&steps, 2, None).unwrap());
    let start = Instant::now();
    let bound = Duration::from_millis(50);
    // The clock of the first look runs already when the bound is set.
    let (overdue, ()) = tokio::join!(steps.overdue(), async { steps.ends_within(2, bound) });
    assert_eq!(overdue, 2);
    assert!((bound..bound * 20).contains(&start.elapsed()), "{:?}", start.elapsed());
    steps.lose_all(Some(2), "a test");
}

#[test]
fn a_worker_is_in_a_hurry_while_a_step_has_little_time_until_it_counts_as_hung() {
    let steps = steps();
    let (_held, _other) = (begin(&steps), add(&steps, 2, None).unwrap());
    let now = Instant::now();
    assert!(!steps.in_a_hurry(now));
    let deadline = now + Duration::from_millis(LIMITS.timeout_ms);
    assert!(!steps.in_a_hurry(deadline + GRACE / 4), "it is a little late");
    assert!(steps.in_a_hurry(deadline + GRACE * 3 / 4), "it is late");
    steps.ends_within(1, GRACE);
    assert!(!steps.in_a_hurry(now), "its caller went away");
    steps.ends_within(1, GRACE / 4);
    assert!(steps.in_a_hurry(now), "a hold stops it");
    steps.done(1, Outcome::Exited { code: 0 }, Usage::default()).unwrap();
    assert!(!steps.in_a_hurry(now), "the other one runs");
}

#[tokio::test]
async fn the_step_that_hung_is_told_from_those_that_were_lost_with_it() {
    let steps = steps();
    let (first, second) = (add(&steps, 1, None).unwrap(), add(&steps, 2, None).unwrap());
    steps.lose_all(Some(2), "a test");
    let code = |ended: (Outcome, Usage)| ended.0.failure().unwrap().code.clone();
    assert_eq!(code(first.ended.await.unwrap()), "WORKER_LOST");
    assert_eq!(code(second.ended.await.unwrap()), "WORKER_HUNG");
    assert!(add(&steps, 3, None).is_none(), "a dead worker takes nothing");
}

#[tokio::test]
async fn only_a_worker_without_steps_makes_room() {
    let steps = steps();
    let _received = begin(&steps);
    assert!(!steps.retire_idle(Reason::Place));
    steps.done(1, Outcome::Exited { code: 0 }, Usage::default()).unwrap();
    assert!(steps.retire_idle(Reason::Place) && !steps.retire_idle(Reason::Place));
    assert_eq!(steps.retired().await, Reason::Place);
    assert!(add(&steps, 2, None).is_none());
}

#[test]
fn a_crash_loop_backs_off_further_and_further_but_not_for_ever_and_a_good_worker_ends_it() {
    let (mut backoff, now) = (Backoff::default(), Instant::now());
    let short = Duration::from_millis(5);
    backoff.failed(now, short, "an accident");
    assert!(backoff.pause(now).is_none());
    let mut longest = Duration::ZERO;
    for round in 0..40_u32 {
        backoff.failed(now, short, "it died");
        let (pause, why) = backoff.pause(now).unwrap();
        let full = Duration::from_millis(100 << round.min(20)).min(Duration::from_secs(30));
        assert!((full / 2..=full).contains(&pause), "round {round}: {pause:?}");
        assert_eq!(why, "it died");
        assert!(backoff.pause(now + full).is_none());
        longest = longest.max(pause);
    }
    assert!(longest >= Duration::from_secs(15));
    backoff.failed(now, GOOD, "after a good life");
    assert!(backoff.pause(now).is_none());
}

#[test]
fn a_crash_loop_is_forgotten_after_a_good_time_where_no_worker_lives_long() {
    let (mut backoff, mut now) = (Backoff::default(), Instant::now());
    let short = Duration::from_millis(5);
    for _ in 0..10 {
        backoff.failed(now, short, "it died");
    }
    now += backoff.pause(now).unwrap().0 + GOOD - Duration::from_millis(1);
    backoff.failed(now, short, "it died, and too soon");
    let (pause, _) = backoff.pause(now).unwrap();
    now += pause + GOOD;
    backoff.failed(now, short, "an accident, long after");
    assert!(backoff.pause(now).is_none());
    backoff.failed(now, short, "a second one");
    assert!(backoff.pause(now).is_some());
}
