#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    journal::{Entry, Kind, RECORD_BYTES_MAX},
    lifecycle::living::{About, Identity, Life},
    step::Digest,
};

fn hold(scope: &str) -> Arc<Hold> {
    Arc::new(Hold {
        id: format!("holds/{:032x}", 1),
        action: Action::Kill,
        scope: scope.parse().unwrap(),
        reason: "it sends mail".into(),
        by: "unix:0".into(),
        since_ms: 1_000,
        until_ms: None,
        records: Vec::new(),
    })
}

fn identity(step: u32) -> Identity {
    Identity {
        tenant: "acme".parse().unwrap(),
        job: None,
        agent: Some(("desk".parse().unwrap(), "1".parse().unwrap())),
        component: Digest::of(b"desk"),
        caller: "unix:0".into(),
        step: format!("steps/{step:032x}"),
        tool: false,
    }
}

fn step(living: &Arc<Living>, number: u32) -> Life {
    let life = living.begin(identity(number), None);
    life.guest.begins();
    life
}

fn names(stopped: &[StoppedStep]) -> Vec<&str> {
    stopped.iter().map(|stopped| stopped.step.as_str()).collect()
}

#[tokio::test]
async fn what_ended_by_itself_or_never_began_was_not_stopped() {
    let living = Arc::<Living>::default();
    let (runs, ended, waits) = (step(&living, 1), step(&living, 2), living.begin(identity(3), None));
    assert!(ended.guest.stop.finish().is_none(), "it ends by itself before anybody stops it");
    let parts = tell(&living, &hold("agents/desk"));
    assert!(ended.guest.stop.by().is_none() && waits.guest.stop.by().is_some());
    assert_eq!(runs.guest.stop.finish(), Some(hold("agents/desk")), "it ends, and has been stopped before");
    let name = runs.guest.identity.step.clone();
    drop((runs, ended, waits));
    let stopped = stopped(parts, WAIT, Instant::now()).await;
    assert_eq!((names(&stopped.steps), stopped.left.len()), (vec![name.as_str()], 0));
}

#[tokio::test]
async fn what_does_not_stop_keeps_the_answer_from_nobody() {
    let living = Arc::<Living>::default();
    let (ends, stuck) = (step(&living, 1), step(&living, 2));
    let parts = tell(&living, &hold("node"));
    let (name, left) = (ends.guest.identity.step.clone(), stuck.guest.identity.step.clone());
    drop(ends);
    let first = stopped(parts, Duration::from_millis(50), Instant::now()).await;
    assert_eq!(names(&first.steps), [name]);
    assert_eq!(first.left.iter().map(Part::name).collect::<Vec<_>>(), std::slice::from_ref(&left));
    drop(stuck);
    let late = stopped(first.left, WAIT, Instant::now()).await;
    assert_eq!(names(&late.steps), [left], "it is told when it has");
}

#[tokio::test]
async fn a_tool_has_stopped_when_its_worker_is_done_with_it() {
    let living = Arc::<Living>::default();
    let outer = step(&living, 1);
    let about = About { tool: Some(("ticket.read".parse().unwrap(), "1".parse().unwrap())), ..About::default() };
    let calling = outer.guest.call(1, "calling tool `ticket.read`", about);
    let of_tool = Identity { tool: true, component: Digest::of(b"ticket"), ..identity(1) };
    let tool = living.begin(of_tool, Some((outer.guest.clone(), calling.live.clone())));
    let of_worker = tool.place();
    for scope in ["tools/ticket.read", "agents/desk", "node"] {
        let parts = tell(&living, &hold(scope));
        assert!(tool.guest.cut_by().is_some());
        let none = stopped(parts, Duration::from_millis(20), Instant::now()).await;
        assert!(none.calls.is_empty() && none.steps.is_empty(), "{scope}: the tool runs still");
    }
    let guest = tool.guest.clone();
    // Its call is dropped; its worker goes on for a while.
    drop((tool, calling));
    let parts = tell(&living, &hold("tools/ticket.read"));
    assert!(parts.len() == 1 && !guest.has_ended(), "whoever asks once more waits for it, too");
    drop(of_worker);
    assert!(guest.has_ended());
    assert!(stopped(parts, WAIT, Instant::now()).await.left.is_empty());
}

#[tokio::test]
async fn a_tool_that_begins_as_its_call_is_cut_off_sees_it() {
    let living = Arc::<Living>::default();
    let outer = step(&living, 1);
    let calling = outer.guest.call(1, "calling tool `ticket.read`", About::default());
    tell(&living, &hold("agents/desk"));
    let of_tool = Identity { tool: true, ..identity(1) };
    let tool = living.begin(of_tool, Some((outer.guest.clone(), calling.live.clone())));
    assert!(tool.guest.stop.by().is_none() && tool.guest.cut_by().is_some());
}

#[test]
fn a_call_that_something_still_does_has_not_ended() {
    let living = Arc::<Living>::default();
    let outer = step(&living, 1);
    let calling = outer.guest.call(1, "putting `k`", About::default());
    let writes = calling.clone();
    drop(calling);
    assert_eq!(living.calls_in(&"node".parse().unwrap()).len(), 1);
    drop(writes);
    assert!(living.calls_in(&"node".parse().unwrap()).is_empty());
}

#[test]
fn however_much_is_stopped_each_record_of_it_fits() {
    let effect = LastEffect { record: 1, call: 1, what: cut(&"\u{1}".repeat(5_000)), time_ms: 1 };
    let steps = (0..3_000).map(|number| StoppedStep {
        step: format!("steps/{number:032x}"),
        tenant: "acme".parse().unwrap(),
        agent: "desk@1".into(),
        stop_ms: 1,
        took: Duration::from_millis(1),
        last_effect: Some(effect.clone()),
    });
    let call =
        StoppedCall { step: format!("steps/{:032x}", 1), call: 1, what: "GET".into(), took: Duration::from_millis(1) };
    let evidence = Evidence {
        steps: steps.collect(),
        calls: vec![call; 3_000],
        leases: vec!["token".parse().unwrap()],
        still_running: vec!["steps/1".into(); 3_000],
        took: Duration::from_millis(1),
        record: Ok(1),
        unkept: None,
    };
    let records = evidence_records(&evidence);
    for record in &records {
        let body = json!({ "change": "stopped", "hold": *hold("node"), "evidence": record });
        let entry = Entry::new(Kind::Control, "default", body);
        assert!(entry.body.to_string().len() < RECORD_BYTES_MAX, "{}", entry.body.to_string().len());
    }
    let all = |list: &str| records.iter().map(|record| record[list].as_array().unwrap().len()).sum::<usize>();
    assert_eq!(["steps", "calls", "leases", "still_running"].map(all), [3_000, 3_000, 1, 3_000]);
    let nothing = Evidence { steps: vec![], calls: vec![], leases: vec![], still_running: vec![], ..evidence };
    assert!(evidence_records(&nothing).is_empty());
}
