#![allow(clippy::unwrap_used)]

use super::*;

/// How often is looked.
const TICK: Duration = Duration::from_millis(50);

/// A node, and the time on it.
struct Node {
    ranks: Ranks,
    now: Instant,
}

impl Node {
    fn of(processors: usize) -> Self {
        let now = Instant::now();
        Self { ranks: Ranks::new(processors, now), now }
    }

    /// Lets tenants use parts of a processor for a time. Returns for whom it changed whether they come last, in order.
    fn passes(&mut self, time: Duration, use_of: &dyn Fn(&Ranks) -> Vec<(Name, f64)>) -> Vec<(Name, bool)> {
        let mut changed = Vec::new();
        for _ in 0..time.as_millis() / TICK.as_millis() {
            for (tenant, part) in use_of(&self.ranks) {
                self.ranks.used(&tenant, TICK.mul_f64(part));
            }
            self.now += TICK;
            changed.extend(self.ranks.look(self.now));
        }
        changed
    }

    fn pass(&mut self, seconds: u64, parts: &[(&str, f64)]) -> Vec<(Name, bool)> {
        let parts: Vec<_> = parts.iter().map(|(tenant, part)| (name(tenant), *part)).collect();
        self.passes(Duration::from_secs(seconds), &|_| parts.clone())
    }

    fn of_all<const N: usize>(&self, tenants: [&str; N]) -> [Rank; N] {
        tenants.map(|tenant| self.ranks.of(&name(tenant)))
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn who_is_alone_comes_first_whatever_it_computes() {
    let mut node = Node::of(4);
    assert!(node.pass(60, &[("a", 4.0)]).is_empty());
    assert_eq!(node.of_all(["a"]), [Rank::First]);
}

#[test]
fn who_computes_all_it_can_comes_last_within_a_quarter_of_a_second_once_there_is_another() {
    let mut node = Node::of(2);
    node.passes(Duration::from_millis(250), &|_| vec![(name("a"), 0.02), (name("b"), 1.5)]);
    assert_eq!(node.of_all(["a", "b"]), [Rank::First, Rank::LastConfined]);
}

#[test]
fn who_computes_little_again_comes_first_again_after_a_while() {
    let mut node = Node::of(2);
    node.pass(5, &[("a", 0.02), ("b", 1.0)]);
    assert!(node.pass(30, &[("a", 0.02), ("b", 0.02)]).is_empty());
    assert_eq!(node.pass(5, &[("a", 0.02), ("b", 0.02)]), [(name("b"), false)]);
    assert_eq!(node.of_all(["a", "b"]), [Rank::First, Rank::First]);
}

#[test]
fn who_computes_much_by_turns_comes_last_all_the_time() {
    let mut node = Node::of(2);
    for turn in 0..20 {
        let changed = node.pass(1, &[("a", 0.02), ("b", 2.0)]);
        assert_eq!(changed.len(), usize::from(turn == 0), "turn {turn}");
        assert!(node.pass(20, &[("a", 0.02)]).is_empty());
        assert_eq!(node.of_all(["b"]), [Rank::LastConfined]);
    }
}

#[test]
fn a_look_that_comes_late_judges_as_many_that_come_in_time() {
    let mut node = Node::of(2);
    for _ in 0..10 {
        for (tenant, part) in [("a", 0.2), ("b", 0.3)] {
            node.ranks.used(&name(tenant), Duration::from_secs(3).mul_f64(part));
        }
        node.now += Duration::from_secs(3);
        node.ranks.look(node.now);
    }
    assert_eq!(node.of_all(["a", "b"]), [Rank::First, Rank::LastConfined]);
}

#[test]
fn who_went_is_forgotten() {
    let mut node = Node::of(2);
    node.pass(5, &[("a", 0.02), ("b", 1.0)]);
    node.pass(60, &[]);
    assert!(node.ranks.tenants.is_empty());
}

#[test]
fn a_processor_is_kept_only_for_somebody() {
    let mut node = Node::of(2);
    node.pass(2, &[("a", 1.0), ("b", 1.0)]);
    assert_eq!(node.of_all(["a", "b"]), [Rank::Last, Rank::Last]);
    // And no longer than ten seconds after it went.
    node.pass(1, &[("a", 1.0), ("c", 0.02)]);
    assert_eq!(node.of_all(["a"]), [Rank::LastConfined]);
    node.pass(11, &[("a", 1.0)]);
    assert_eq!(node.of_all(["a"]), [Rank::Last]);
}

#[test]
fn starting_a_worker_and_waiting_are_not_computing_much() {
    let mut node = Node::of(1);
    let burst = |_: &Ranks| vec![(name("a"), 0.02), (name("b"), 0.3)];
    assert!(node.passes(TICK, &burst).is_empty());
    assert!(node.pass(60, &[("a", 0.02)]).is_empty());
}

/// However many there are: the share that they have when they come last does not bring them back, so nobody goes to and
/// fro.
#[test]
fn any_number_that_compute_all_they_can_come_last_and_stay_so() {
    for processors in [1, 2, 3, 4, 8, 64] {
        for greedy in 1..40 {
            let (little, names) = (name("little"), (0..greedy).map(|at| name(&format!("greedy-{at}"))));
            let (names, mut node): (Vec<_>, _) = (names.collect(), Node::of(processors));
            let left = (processors - 1).max(1) as f64 - 0.1;
            let share_out = |ranks: &Ranks| {
                let confined = ranks.of(&names[0]) == Rank::LastConfined;
                let each = if confined { left } else { processors as f64 } / greedy as f64;
                let each = names.iter().map(|name| (name.clone(), each));
                each.chain([(little.clone(), 0.01)]).collect::<Vec<_>>()
            };
            let what = format!("{greedy} on {processors}");
            assert_eq!(node.passes(Duration::from_secs(10), &share_out).len(), greedy, "{what}");
            assert!(names.iter().all(|name| node.ranks.of(name) == Rank::LastConfined), "{what}");
            assert_eq!(node.ranks.of(&little), Rank::First, "{what}");
        }
    }
}
