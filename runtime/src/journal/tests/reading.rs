use serde_json::json;

use super::{Fixture, entry};
use crate::journal::{Entry, Filter, Kind, LIST_MAX};

fn sequences(fixture: &Fixture, filter: Filter) -> Vec<u64> {
    fixture.journal.list(&filter, LIST_MAX).unwrap().iter().map(|stored| stored.sequence).collect()
}

fn varied() -> Fixture {
    let fixture = Fixture::new();
    for (kind, tenant, step, call, job, agent) in [
        (Kind::Started, "", None, None, None, None),
        (Kind::Step, "acme", Some("s1"), None, Some("j1"), Some("clerk")),
        (Kind::Intent, "acme", Some("s1"), Some(1), Some("j1"), Some("clerk")),
        (Kind::Outcome, "acme", Some("s1"), Some(1), Some("j1"), Some("clerk")),
        (Kind::Step, "other", Some("s2"), None, None, Some("clerk")),
        (Kind::Result, "acme", Some("s1"), None, Some("j1"), Some("clerk")),
    ] {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let entry = Entry::new(kind, tenant, json!({}));
        fixture.append(Entry { step: text(step), call, job: text(job), agent: text(agent), ..entry });
    }
    fixture
}

#[test]
fn filters_let_through_what_meets_all_their_conditions() {
    let fixture = varied();
    let text = |text: &str| Some(text.to_owned());
    let time_ms = fixture.journal.get(1).unwrap().unwrap().record().unwrap().time_ms;
    for (filter, expected) in [
        (Filter::default(), vec![1, 2, 3, 4, 5, 6]),
        (Filter { descending: true, ..Filter::default() }, vec![6, 5, 4, 3, 2, 1]),
        (Filter { after_sequence: Some(2), before: Some(5), ..Filter::default() }, vec![3, 4]),
        (Filter { kinds: vec![Kind::Step, Kind::Result], ..Filter::default() }, vec![2, 5, 6]),
        (Filter { tenant: text("acme"), kinds: vec![Kind::Step], ..Filter::default() }, vec![2]),
        (Filter { step: text("s1"), call: Some(1), ..Filter::default() }, vec![3, 4]),
        (Filter { job: text("j1"), ..Filter::default() }, vec![2, 3, 4, 6]),
        (Filter { agent: text("clerk"), tenant: text("other"), ..Filter::default() }, vec![5]),
        (Filter { tenant: text("acme' OR 1 --"), ..Filter::default() }, vec![]),
        (Filter { since_ms: Some(time_ms), ..Filter::default() }, vec![1, 2, 3, 4, 5, 6]),
        (Filter { until_ms: Some(time_ms), ..Filter::default() }, vec![]),
        (Filter { since_ms: Some(u64::MAX), ..Filter::default() }, vec![]),
    ] {
        assert_eq!(sequences(&fixture, filter.clone()), expected, "{filter:?}");
    }
}

#[test]
fn a_record_is_found_by_step_call_and_kind() {
    let fixture = varied();
    let find = |step, call, kind| fixture.journal.find(step, call, kind).unwrap().map(|stored| stored.sequence);
    assert_eq!(find("s1", Some(1), Kind::Intent), Some(3));
    assert_eq!(find("s1", None, Kind::Result), Some(6));
    assert_eq!(find("s1", None, Kind::Intent), None);
    assert_eq!(find("s2", None, Kind::Result), None);
    assert_eq!(fixture.journal.get(0).unwrap(), None);
    assert_eq!(fixture.journal.get(u64::MAX).unwrap(), None);
}

#[test]
fn a_list_is_bounded_in_records_and_bytes() {
    let fixture = Fixture::of(LIST_MAX as u64 + 50);
    assert_eq!(sequences(&fixture, Filter::default()).len(), LIST_MAX);
    assert_eq!(fixture.journal.list(&Filter::default(), usize::MAX).unwrap().len(), LIST_MAX);
    assert_eq!(fixture.journal.list(&Filter::default(), 7).unwrap().len(), 7);
    let fixture = Fixture::new();
    for n in 0..20 {
        fixture.append(Entry { body: json!({ "text": "x".repeat(200_000) }), ..entry(n) });
    }
    let page = sequences(&fixture, Filter::default());
    assert!((1..20).contains(&page.len()), "{page:?}");
    assert_eq!(fixture.all().len(), 20);
}

#[test]
fn a_scan_returns_everything_in_either_direction() {
    let fixture = Fixture::of(2_500);
    for descending in [false, true] {
        let scan = fixture.journal.scan(Filter { descending, ..Filter::default() });
        let found: Vec<_> = scan.map(|stored| stored.unwrap().sequence).collect();
        let mut expected: Vec<_> = (1..=2_500).collect();
        if descending {
            expected.reverse();
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn more_readers_than_connections_take_turns() {
    let fixture = Fixture::of(50);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(fixture.all().len(), 50));
        }
    });
}
