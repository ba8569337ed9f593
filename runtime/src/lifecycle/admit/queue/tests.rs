//! Random comings and goings, against a model that counts; and the order in which tenants are served.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Bounds, Need, Queue, Refused, Ticket};
use crate::step::Name;

const BOUNDS: Bounds = Bounds {
    steps: 4,
    tenant_steps: 3,
    job_steps: 2,
    memory_bytes: 10,
    tenant_memory_bytes: 8,
    queued: 6,
    tenant_queued: 3,
};

fn need(tenant: &str, job: Option<&str>, memory_bytes: u64) -> Need {
    let name = |text: &str| text.parse::<Name>().unwrap();
    Need { tenant: name(tenant), job: job.map(name), memory_bytes }
}

#[derive(Debug, Clone)]
enum Act {
    Enter {
        tenant: &'static str,
        job: Option<&'static str>,
        memory_bytes: u64,
    },
    /// The caller hangs up, or the step ends: by its place among all that are there.
    Leave {
        which: usize,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let tenant = prop::sample::select(vec!["a", "b", "c"]);
    let job = prop::option::of(prop::sample::select(vec!["x", "y"]));
    let act = prop_oneof![
        3 => (tenant, job, 1..10_u64).prop_map(|(tenant, job, memory_bytes)| Act::Enter { tenant, job, memory_bytes }),
        2 => any::<usize>().prop_map(|which| Act::Leave { which }),
    ];
    prop::collection::vec(act, 1..200)
}

/// What the model knows of each step that is there: what it needs, and whether it runs.
type Model = BTreeMap<Ticket, (Need, bool)>;

fn admit(queue: &mut Queue, model: &mut Model) {
    for ticket in queue.admit() {
        let (_, runs) = model.get_mut(&ticket).expect("who was admitted waited");
        assert!(!std::mem::replace(runs, true), "nobody is admitted twice");
    }
}

fn check(queue: &Queue, model: &Model) {
    let running = || model.values().filter(|(_, runs)| *runs).map(|(need, _)| need);
    let memory = |needs: &mut dyn Iterator<Item = &Need>| needs.map(|need| need.memory_bytes).sum::<u64>();
    let waiting = |tenant: Option<&str>| {
        let of = model.values().filter(|(need, runs)| !runs && tenant.is_none_or(|name| need.tenant.as_str() == name));
        of.count() as u64
    };
    assert_eq!(queue.running(), running().count() as u64);
    assert_eq!(queue.waiting(), waiting(None));
    assert_eq!(queue.memory_bytes(), memory(&mut running()));
    assert!(queue.running() <= BOUNDS.steps && queue.memory_bytes() <= BOUNDS.memory_bytes);
    // When the line is full, each of the three has its share of it once more at most.
    assert!(queue.waiting() <= BOUNDS.queued + 3);
    for tenant in ["a", "b", "c"] {
        let own = || running().filter(|need| need.tenant.as_str() == tenant);
        assert!(own().count() as u64 <= BOUNDS.tenant_steps && memory(&mut own()) <= BOUNDS.tenant_memory_bytes);
        assert!(waiting(Some(tenant)) <= BOUNDS.tenant_queued);
        for job in ["x", "y"] {
            let of_job = own().filter(|need| need.job.as_ref().is_some_and(|name| name.as_str() == job));
            assert!(of_job.count() as u64 <= BOUNDS.job_steps);
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_ever_above_its_bound_and_no_slot_is_lost(acts in acts()) {
        let (mut queue, mut model) = (Queue::new(BOUNDS), Model::new());
        for act in acts {
            match act {
                Act::Enter { tenant, job, memory_bytes } => {
                    let need = need(tenant, job, memory_bytes);
                    let entered = queue.enter(need.clone());
                    prop_assert_eq!(memory_bytes > 8, matches!(entered, Err(Refused::TooLarge("tenant_memory_bytes", 8))));
                    if let Ok(ticket) = entered {
                        prop_assert!(model.insert(ticket, (need, false)).is_none());
                    }
                }
                Act::Leave { which } if !model.is_empty() => {
                    let ticket = *model.keys().nth(which % model.len()).unwrap();
                    model.remove(&ticket);
                    queue.leave(ticket);
                    queue.leave(ticket);
                }
                Act::Leave { .. } => {}
            }
            admit(&mut queue, &mut model);
            check(&queue, &model);
        }
        // Nobody starves: if only those end that run, everybody gets to run, and then nothing is left.
        while !model.is_empty() {
            let running: Vec<_> = model.iter().filter(|(_, (_, runs))| *runs).map(|(ticket, _)| *ticket).collect();
            prop_assert!(!running.is_empty(), "somebody waits while nobody runs: {model:?}");
            model.remove(&running[0]);
            queue.leave(running[0]);
            admit(&mut queue, &mut model);
            check(&queue, &model);
        }
        prop_assert!(queue.lines.is_empty() && queue.turns.is_empty() && queue.jobs.is_empty());
    }
}

const WIDE: Bounds = Bounds {
    steps: 1,
    tenant_steps: 1,
    job_steps: 1,
    memory_bytes: 10,
    tenant_memory_bytes: 10,
    queued: 1_000,
    tenant_queued: 500,
};

#[test]
fn a_tenant_with_two_hundred_waiting_steps_does_not_delay_the_first_of_another() {
    let mut queue = Queue::new(WIDE);
    let greedy: Vec<_> = (0..200).map(|_| queue.enter(need("greedy", None, 1)).unwrap()).collect();
    assert_eq!(queue.admit(), [greedy[0]]);
    let other = queue.enter(need("other", None, 1)).unwrap();
    queue.leave(greedy[0]);
    assert_eq!(queue.admit(), [greedy[1]], "whose turn it was");
    queue.leave(greedy[1]);
    assert_eq!(queue.admit(), [other]);
}

#[test]
fn small_steps_do_not_overtake_a_large_one_for_ever() {
    let mut queue = Queue::new(Bounds { steps: 10, tenant_steps: 10, job_steps: 10, ..WIDE });
    let small = queue.enter(need("small", None, 1)).unwrap();
    assert_eq!(queue.admit(), [small]);
    let large = queue.enter(need("large", None, 10)).unwrap();
    let next = queue.enter(need("small", None, 1)).unwrap();
    assert!(queue.admit().is_empty());
    queue.leave(small);
    assert_eq!(queue.admit(), [large]);
    queue.leave(large);
    assert_eq!(queue.admit(), [next]);
}

#[test]
fn a_job_that_has_all_that_it_may_holds_up_no_other_of_its_tenant() {
    let mut queue = Queue::new(Bounds { steps: 10, tenant_steps: 10, ..WIDE });
    let first = queue.enter(need("a", Some("x"), 1)).unwrap();
    let second = queue.enter(need("a", Some("x"), 1)).unwrap();
    let third = queue.enter(need("a", Some("y"), 1)).unwrap();
    assert_eq!(queue.admit(), [first, third]);
    queue.leave(first);
    assert_eq!(queue.admit(), [second]);
}

#[test]
fn who_would_not_wait_is_not_refused_because_others_do() {
    let mut queue = Queue::new(Bounds { steps: 10, queued: 2, tenant_queued: 2, ..WIDE });
    for _ in 0..3 {
        queue.enter(need("greedy", None, 1)).unwrap();
        queue.admit();
    }
    assert_eq!(queue.enter(need("greedy", None, 1)), Err(Refused::Full("tenant_queued_steps", 2)));
    let other = queue.enter(need("other", None, 1)).unwrap();
    assert_eq!(queue.admit(), [other]);
    queue.enter(need("other", None, 1)).unwrap();
    assert_eq!(queue.enter(need("other", None, 1)), Err(Refused::Full("queued_steps", 2)));
}

#[test]
fn two_tenants_that_fill_the_line_do_not_keep_a_third_out() {
    let mut queue = Queue::new(Bounds { queued: 256, tenant_queued: 128, ..WIDE });
    for tenant in ["a", "b"] {
        for _ in 0..128 {
            queue.enter(need(tenant, None, 10)).unwrap();
        }
    }
    assert_eq!(queue.waiting(), 256);
    let own = (0..).take_while(|_| queue.enter(need("c", None, 10)).is_ok()).count();
    assert_eq!(own, 64, "a fourth, as there are three that wait");
    for tenant in ["a", "b", "c"] {
        assert!(matches!(queue.enter(need(tenant, None, 10)), Err(Refused::Full(..))), "{tenant}");
    }
    queue.enter(need("d", None, 10)).unwrap();
}
