#![allow(clippy::unwrap_used)]

use std::sync::{Arc, atomic::AtomicU64};

use proptest::prelude::*;

use super::{sketch::Sketch, window::Window, *};
use crate::{
    control::Action,
    step::{Digest, Name},
};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn rules(text: &str) -> Vec<Rule> {
    #[derive(serde::Deserialize)]
    struct File {
        containment: Vec<Rule>,
    }
    toml::from_str::<File>(text).unwrap().containment
}

fn rule(when: &str, then: &str) -> Vec<Rule> {
    rules(&format!("[[containment]]\nname = \"r\"\nagents = [\"*\"]\nwhen = {{ {when} }}\n{then}\n"))
}

const QUARANTINE: &str = "then = \"quarantine\"\nfor_seconds = 100";

/// An engine, and the records of what it has seen, which are numbered from 1.
struct Watching {
    engine: Engine,
    sequence: u64,
}

impl Watching {
    fn new(rules: &[Rule]) -> Self {
        Self { engine: Engine::new(rules), sequence: 0 }
    }

    fn see(&mut self, at_ms: u64, what: Seen) -> Vec<Triggered> {
        self.see_of("acme", "desk", at_ms, what)
    }

    fn see_of(&mut self, tenant: &str, agent: &str, at_ms: u64, what: Seen) -> Vec<Triggered> {
        self.sequence += 1;
        let (tenant, agent) = (name(tenant), name(agent));
        let record = Arc::new(AtomicU64::new(self.sequence));
        let observation = Observation { tenant: &tenant, agent: &agent, record: &record, at_ms, what };
        self.engine.observe(&observation)
    }
}

fn call(what: u64) -> Seen<'static> {
    Seen::Call(Digest::of(&what.to_le_bytes()))
}

#[test]
fn so_many_denials_within_the_time_trigger_once_with_their_records() {
    let mut watching = Watching::new(&rule("denials = 3, within_seconds = 60", QUARANTINE));
    assert!(watching.see(1_000, Seen::Denial).is_empty());
    assert!(watching.see(2_000, call(1)).is_empty() && watching.see(2_000, Seen::Egress { bytes_out: 9 }).is_empty());
    assert!(watching.see(3_000, Seen::Denial).is_empty());
    let triggered = watching.see(4_000, Seen::Denial);
    assert_eq!(triggered.len(), 1);
    let found = &triggered[0];
    assert_eq!((&found.rule, found.action, found.until_ms), (&name("r"), Action::Quarantine, Some(104_000)));
    assert_eq!(found.records(), [1, 4, 5]);
    for at_ms in [5_000, 6_000, 7_000, 8_000] {
        assert!(watching.see(at_ms, Seen::Denial).is_empty(), "it is held already");
    }
}

#[test]
fn the_time_slides_and_denials_far_apart_trigger_nothing() {
    let mut watching = Watching::new(&rule("denials = 3, within_seconds = 60", QUARANTINE));
    for at in 0..1_000 {
        assert!(watching.see(at * 31_100, Seen::Denial).is_empty(), "two in any minute and a bit");
    }
    // Over the edge of any fixed minute.
    for (at_ms, expected) in [(59_000_000, 0), (59_059_900, 0), (59_060_000, 1)] {
        assert_eq!(watching.see(at_ms, Seen::Denial).len(), expected);
    }
}

#[test]
fn after_its_hold_a_rule_counts_from_nothing() {
    let mut watching = Watching::new(&rule("denials = 2, within_seconds = 60", QUARANTINE));
    watching.see(0, Seen::Denial);
    assert_eq!(watching.see(1, Seen::Denial).len(), 1);
    assert!(watching.see(100_001, Seen::Denial).is_empty());
    assert_eq!(watching.see(100_002, Seen::Denial).len(), 1);
}

#[test]
fn whoever_goes_on_while_held_is_held_again() {
    let mut watching =
        Watching::new(&rule("denials = 2, within_seconds = 60", "then = \"read-only\"\nfor_seconds = 10"));
    let held: usize = (0..100).map(|second| watching.see(second * 1_000, Seen::Denial).len()).sum();
    assert!(held >= 9, "{held} times in a hundred seconds");
}

#[test]
fn a_hold_until_lifted_triggers_once_until_it_is_forgotten() {
    let mut watching =
        Watching::new(&rule("denials = 1, within_seconds = 60", "then = \"quarantine\"\nuntil_lifted = true"));
    let triggered = watching.see(0, Seen::Denial);
    assert_eq!(triggered[0].until_ms, None);
    assert!(watching.see(u64::MAX / 2, Seen::Denial).is_empty());
    watching.engine.forget(&name("other"), &name("desk"), &name("r"));
    watching.engine.forget(&name("acme"), &name("desk"), &name("other"));
    assert!(watching.see(u64::MAX / 2, Seen::Denial).is_empty());
    watching.engine.forget(&name("acme"), &name("desk"), &name("r"));
    assert_eq!(watching.see(u64::MAX / 2, Seen::Denial).len(), 1);
}

#[test]
fn what_is_sent_soon_after_a_label_joined_triggers() {
    let label = name("pii");
    let rules = rule("label = \"pii\", then = \"egress\", within_seconds = 300", "then = \"read-only\"");
    let mut watching = Watching::new(&rules);
    let sent = Seen::Egress { bytes_out: 0 };
    assert!(watching.see(0, sent).is_empty());
    assert!(watching.see(1_000, Seen::Labelled(&name("other"))).is_empty() && watching.see(2_000, sent).is_empty());
    assert!(watching.see(10_000, Seen::Labelled(&label)).is_empty());
    assert!(watching.see(310_001, sent).is_empty(), "too late");
    watching.see(400_000, Seen::Labelled(&label));
    let triggered = watching.see(700_000, sent);
    assert_eq!((triggered[0].action, triggered[0].until_ms), (Action::ReadOnly, Some(700_000 + 3_600_000)));
    assert_eq!(triggered[0].records(), [6, 7], "the label and what was sent");
    assert!(watching.see(700_001, sent).is_empty());
}

#[test]
fn bytes_that_are_sent_add_up() {
    let rules = rule("bytes_out = 1000, within_seconds = 10", "then = \"throttle\"\nper_minute = 6");
    let mut watching = Watching::new(&rules);
    for at in 0..50 {
        assert!(watching.see(at * 1_000, Seen::Egress { bytes_out: 80 }).is_empty(), "at most 12 parts in the time");
    }
    let triggered = watching.see(50_000, Seen::Egress { bytes_out: u64::MAX });
    assert_eq!(triggered[0].action, Action::Throttle { per_minute: 6 });
}

#[test]
fn the_same_call_again_and_again_triggers_and_different_calls_do_not() {
    let mut watching = Watching::new(&rule("same_call = 50, within_seconds = 60", QUARANTINE));
    for different in 0..2_000 {
        assert!(watching.see(different, call(different)).is_empty());
    }
    let triggered: Vec<_> = (0..50).flat_map(|_| watching.see(3_000, call(u64::MAX))).collect();
    assert_eq!(triggered.len(), 1);
    // The other calls may have made it look like a few more.
    let records = triggered[0].records();
    assert!(records.len() > 40 && records.iter().copied().eq((2_001..).take(records.len())), "{records:?}");
}

#[test]
fn a_loop_does_not_hide_behind_other_calls() {
    let mut watching = Watching::new(&rule("same_call = 20, within_seconds = 60", QUARANTINE));
    let mut other = 0;
    let mut made = 0;
    let found = (0..20).any(|_| {
        made += 1;
        let found = !watching.see(made, call(u64::MAX)).is_empty();
        // Each time a thousand others, so that whatever keeps only some of them has lost it.
        let others = (0..1_000).any(|_| {
            other += 1;
            !watching.see(made, call(other)).is_empty()
        });
        found || others
    });
    assert!(found && made <= 20);
}

#[test]
fn tenants_and_agents_are_watched_by_themselves() {
    let mut watching = Watching::new(&rules(
        "[[containment]]\nname = \"r\"\nagents = [\"desk\", \"clerk\"]\nwhen = { denials = 2, within_seconds = 60 }\nthen = \"quarantine\"\n",
    ));
    for (tenant, agent) in [("acme", "desk"), ("acme", "clerk"), ("other", "desk"), ("acme", "unwatched")] {
        assert!(watching.see_of(tenant, agent, 0, Seen::Denial).is_empty());
    }
    assert_eq!(watching.see_of("acme", "desk", 0, Seen::Denial).len(), 1);
    assert!(watching.see_of("acme", "unwatched", 0, Seen::Denial).is_empty());
}

#[test]
fn a_crowd_of_agents_is_forgotten_before_one_that_goes_on() {
    let mut watching = Watching::new(&rule("denials = 200, within_seconds = 86400", QUARANTINE));
    let mut found = false;
    for round in 0..200 {
        for crowd in 0..100 {
            watching.see_of("acme", &format!("crowd-{round}-{crowd}"), round, Seen::Denial);
        }
        found |= !watching.see(round, Seen::Denial).is_empty();
    }
    assert!(found, "twenty thousand others have not pushed it out");
}

#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let mut watching = Watching::new(&rule("denials = 3, within_seconds = 60", QUARANTINE));
    watching.see(10_000_000, Seen::Denial);
    let found: Vec<_> = (0..3).flat_map(|at| watching.see(1_000_000 + at, Seen::Denial)).collect();
    assert_eq!(found.len(), 1);
}

#[test]
fn a_rule_that_makes_no_sense_says_what_to_write() {
    #[derive(Debug, serde::Deserialize)]
    struct File {
        #[allow(dead_code)]
        containment: Vec<Rule>,
    }
    let head = "name = \"loops\"\n";
    let good = "agents = [\"*\"]\nwhen = { denials = 1, within_seconds = 1 }\nthen = \"quarantine\"\n";
    for (text, expected) in [
        (
            "agents = []\nwhen = { denials = 1, within_seconds = 1 }\nthen = \"quarantine\"\n".to_owned(),
            "or `*` for all",
        ),
        (
            "agents = [\"*\", \"desk\"]\nwhen = { denials = 1, within_seconds = 1 }\nthen = \"quarantine\"\n".into(),
            "`*` alone",
        ),
        (good.replace("denials = 1", "denials = 0"), "`when.denials` is 0: it must be at least 1 and at most 10000"),
        (good.replace("denials = 1", "same_call = 9"), "`when.same_call` is 9: it must be at least 10"),
        (good.replace("denials = 1", "bytes_out = 0"), "`when.bytes_out` is 0"),
        (good.replace("denials = 1", "denials = 1, bytes_out = 1"), "`when` must be one of"),
        (good.replace("denials = 1", "label = \"pii\""), "`when` must be one of"),
        (good.replace("denials = 1, ", ""), "`when` must be one of"),
        (good.replace("within_seconds = 1", "within_seconds = 0"), "`when.within_seconds` is 0"),
        (good.replace("within_seconds = 1", "within_seconds = 86401"), "at most 86400"),
        (good.replace(", within_seconds = 1", ""), "missing field `within_seconds`"),
        (good.replace("quarantine", "throttle"), "needs `per_minute`"),
        (format!("{good}per_minute = 1\n"), "`per_minute` is for"),
        (good.replace("then = \"quarantine\"", "then = \"throttle\"\nper_minute = 0"), "`per_minute` is 0"),
        (good.replace("quarantine", "kill"), "unknown variant `kill`"),
        (format!("{good}for_seconds = 0\n"), "`for_seconds` is 0"),
        (format!("{good}for_seconds = 2678401\n"), "at most 2678400"),
        (format!("{good}for_seconds = 1\nuntil_lifted = true\n"), "not both"),
        (format!("{}until_lifted = true\n", good.replace("quarantine", "read-only")), "only `then = \"quarantine\"`"),
        (format!("{good}speed = 1\n"), "unknown field `speed`"),
    ] {
        let message = toml::from_str::<File>(&format!("[[containment]]\n{head}{text}")).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn a_rule_is_written_as_it_is_read() {
    for then in [
        "then = \"throttle\"\nper_minute = 5\nfor_seconds = 7",
        "then = \"read-only\"",
        "then = \"quarantine\"",
        "then = \"quarantine\"\nuntil_lifted = true",
    ] {
        for when in ["denials = 20", "label = \"pii\", then = \"egress\"", "bytes_out = 1000000", "same_call = 50"] {
            let read = rule(&format!("{when}, within_seconds = 60"), then);
            let written = toml::to_string(&read[0]).unwrap();
            assert_eq!(toml::from_str::<Rule>(&written).unwrap(), read[0], "{written}");
        }
    }
}

/// Times that only grow, with what happened at each.
fn happenings(most: u64) -> impl Strategy<Value = Vec<(u64, u64)>> {
    let steps = prop::collection::vec((0..most, 0..200_u64), 1..300);
    steps.prop_map(|steps| {
        let mut at_ms = 1_000_000;
        let happened = |(step, what)| {
            at_ms += step;
            (at_ms, what)
        };
        steps.into_iter().map(happened).collect()
    })
}

proptest! {
    #[test]
    fn a_window_has_all_of_its_time_and_little_more(
        happened in prop_oneof![happenings(50), happenings(5_000)], within_ms in 1_000..100_000_u64,
    ) {
        let mut window = Window::new(within_ms);
        for (index, (at_ms, amount)) in happened.iter().enumerate() {
            let sum = window.add(*at_ms, *amount);
            let since = |age: u64| happened[..=index].iter().filter(|(at, _)| at_ms - at <= age).map(|(_, n)| n).sum::<u64>();
            prop_assert!(sum >= since(within_ms), "{sum} of {}", since(within_ms));
            prop_assert!(sum <= since(61 * within_ms.div_ceil(60)), "{sum}");
        }
    }

    #[test]
    fn a_sketch_never_says_too_little(
        happened in prop_oneof![happenings(50), happenings(5_000)], within_ms in 1_000..100_000_u64, different in 1..200_u64,
    ) {
        let (mut sketch, key) = (Sketch::new(within_ms), std::hash::RandomState::new());
        for (index, (at_ms, what)) in happened.iter().enumerate() {
            let what = what % different;
            let said = sketch.add(*at_ms, Digest::of(&what.to_le_bytes()), &key);
            let of_time = |age: u64| happened[..=index].iter().filter(move |(at, _)| at_ms - at <= age);
            let true_count = of_time(within_ms).filter(|(_, other)| other % different == what).count() as u64;
            let all = of_time(within_ms + 2 * within_ms.div_ceil(8)).count() as u64;
            prop_assert!(said >= true_count && said <= all, "{true_count} <= {said} <= {all}");
        }
    }

    #[test]
    fn denials_trigger_as_one_that_keeps_everything_would(
        happened in prop_oneof![happenings(50), happenings(20_000)], count in 1..30_u64, for_s in 1..200_u64,
    ) {
        let within_ms = 60_000; // of which a slice is a second
        let text = format!("then = \"quarantine\"\nfor_seconds = {for_s}");
        let mut watching = Watching::new(&rule(&format!("denials = {count}, within_seconds = 60"), &text));
        let (mut kept, mut held_until) = (Vec::new(), 0);
        for (at_ms, _) in happened {
            kept.push(at_ms);
            let recent = |at: &u64| at_ms / 1_000 - at / 1_000 <= within_ms / 1_000;
            let expected = kept.iter().filter(|at| recent(at)).count() as u64 >= count && at_ms >= held_until;
            prop_assert_eq!(watching.see(at_ms, Seen::Denial).len(), usize::from(expected));
            if expected {
                kept.clear();
                held_until = at_ms + for_s * 1_000;
            }
        }
    }
}
