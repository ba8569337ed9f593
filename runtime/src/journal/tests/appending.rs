use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Fixture, entry, receipts, text_payload, wait};
use crate::journal::{Checkpoint, Entry, Filter, Hash, Journal, JournalError, Kind, Opened, Options, RECORD_BYTES_MAX};

/// A journal whose writer stops after each commit until it is told to go on, and what it committed.
fn stepped(options: Options) -> (Fixture, Sender<()>, Receiver<usize>) {
    let (go, wait) = channel();
    let (committed, commits) = channel();
    let on_commit = Box::new(move |records, _| {
        let _ = committed.send(records);
        let _ = wait.recv();
    });
    (Fixture::with(Options { on_commit: Some(on_commit), ..options }), go, commits)
}

#[test]
fn records_are_chained_from_the_first() {
    let fixture = Fixture::new();
    let receipts = fixture.add(20);
    let stored = fixture.all();
    assert_eq!(stored.len(), 20);
    let mut previous = Hash::ZERO;
    for (n, (stored, receipt)) in stored.iter().zip(&receipts).enumerate() {
        let record = stored.record().unwrap();
        assert_eq!((stored.sequence, record.sequence), (n as u64 + 1, n as u64 + 1));
        assert_eq!((stored.hash, receipt.hash), (Hash::leaf(&stored.bytes), stored.hash));
        assert_eq!(record.previous, previous.to_string());
        previous = stored.hash;
    }
}

#[test]
fn what_nobody_waits_for_is_committed_with_what_somebody_waits_for_or_soon() {
    let (fixture, go, commits) = stepped(Options::default());
    let patient = || Entry { patient: true, ..entry(1) };
    let first = fixture.journal.append(patient()).unwrap();
    let second = fixture.journal.append(entry(2)).unwrap();
    assert_eq!(commits.recv().unwrap(), 2);
    go.send(()).unwrap();
    assert_eq!((wait(first).unwrap().sequence, wait(second).unwrap().sequence), (1, 2));
    // Alone it does not wait for ever.
    let alone = fixture.journal.append(patient()).unwrap();
    assert_eq!(commits.recv().unwrap(), 1);
    go.send(()).unwrap();
    assert_eq!(wait(alone).unwrap().sequence, 3);
}

#[test]
fn what_waits_together_is_committed_together() {
    let (fixture, go, commits) = stepped(Options::default());
    let first = fixture.journal.append(entry(0)).unwrap();
    assert_eq!(commits.recv(), Ok(1));
    let rest = (1..=100).map(|n| fixture.journal.append(entry(n)).unwrap()).collect();
    assert_eq!(fixture.journal.queued(), 100);
    drop(go);
    wait(first).unwrap();
    receipts(rest);
    assert_eq!(commits.recv(), Ok(100));
    fixture.journal.close().unwrap();
    drop(fixture);
    assert!(commits.recv().is_err(), "there were two transactions only");
}

#[test]
fn a_full_queue_is_busy_and_recovers() {
    let (fixture, go, commits) = stepped(Options { queue_entries: 3, ..Options::default() });
    let first = fixture.journal.append(entry(0)).unwrap();
    commits.recv().unwrap();
    let waiting: Vec<_> = (1..=3).map(|n| fixture.journal.append(entry(n)).unwrap()).collect();
    assert_eq!(fixture.journal.append(entry(4)).unwrap_err(), JournalError::Busy);
    drop(go);
    wait(first).unwrap();
    receipts(waiting);
    assert_eq!(fixture.append(entry(5)).sequence, 5);
}

#[test]
fn the_bytes_of_the_queue_are_bounded() {
    let (fixture, _go, commits) = stepped(Options { queue_bytes: 10_000, ..Options::default() });
    let with_payload = || Entry { payloads: vec![text_payload(&"x".repeat(6_000))], ..entry(0) };
    let _first = fixture.journal.append(with_payload()).unwrap();
    commits.recv().unwrap();
    let _second = fixture.journal.append(with_payload()).unwrap();
    assert_eq!(fixture.journal.append(with_payload()).unwrap_err(), JournalError::Busy);
    let twice = Entry { payloads: vec![text_payload(&"x".repeat(12_000))], ..entry(0) };
    assert!(matches!(fixture.journal.append(twice), Err(JournalError::TooLarge { max: 10_000, .. })));
}

#[test]
fn appending_does_not_wait_for_the_disk() {
    let (fixture, _go, commits) = stepped(Options::default());
    let _first = fixture.journal.append(entry(0)).unwrap();
    commits.recv().unwrap();
    // The writer stands still, but this returns.
    let _second = fixture.journal.append(entry(1)).unwrap();
}

#[test]
fn many_appenders_leave_no_gap_and_keep_their_own_order() {
    const APPENDERS: u64 = 64;
    const EACH: u64 = 25;
    let fixture = Fixture::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let journal = Arc::new(fixture.journal);
    runtime.block_on(async {
        let tasks: Vec<_> = (0..APPENDERS)
            .map(|appender| {
                let journal = journal.clone();
                tokio::spawn(async move {
                    for n in 0..EACH {
                        let body = json!({ "appender": appender, "n": n });
                        let ticket = journal.append(Entry::new(Kind::Denial, "acme", body)).unwrap();
                        // Some wait, some do not: the order holds in both cases.
                        if n % 3 == 0 {
                            ticket.await.unwrap();
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    journal.append(entry(0)).map(wait).unwrap().unwrap();
    let mut next = HashMap::new();
    let stored: Vec<_> = journal.scan(Filter::default()).collect::<Result<_, _>>().unwrap();
    assert_eq!(stored.len() as u64, APPENDERS * EACH + 1);
    for (stored, sequence) in stored.iter().zip(1..) {
        let record = stored.record().unwrap();
        assert_eq!(record.sequence, sequence);
        if let Some(appender) = record.body.get("appender") {
            let expected = next.entry(appender.to_string()).or_insert(0);
            assert_eq!(record.body["n"], json!(*expected));
            *expected += 1;
        }
    }
}

#[test]
fn entries_that_belong_together_are_neighbours() {
    let fixture = Fixture::new();
    let groups: Vec<_> =
        (0..50).map(|n| fixture.journal.append_all(vec![entry(n), entry(n), entry(n)]).unwrap()).collect();
    for group in groups {
        let sequences: Vec<_> = receipts(group).iter().map(|receipt| receipt.sequence).collect();
        assert_eq!(sequences, [sequences[0], sequences[0] + 1, sequences[0] + 2]);
    }
}

#[test]
fn one_bad_entry_refuses_all_that_belong_to_it() {
    let fixture = Fixture::new();
    let bad = Entry::new(Kind::Intent, "acme", json!({}));
    assert!(matches!(fixture.journal.append_all(vec![entry(0), bad]), Err(JournalError::BadEntry(_))));
    assert_eq!(fixture.append(entry(1)).sequence, 1);
}

#[test]
fn a_result_comes_with_a_checkpoint_that_covers_it() {
    let fixture = Fixture::new();
    assert_eq!(fixture.append(entry(0)).checkpoint, None);
    let receipt = fixture.append(Entry { checkpointed: true, ..entry(1) });
    let note = receipt.checkpoint.unwrap();
    let checkpoint = Checkpoint::open(&note, &fixture.journal.public_key()).unwrap();
    assert_eq!(checkpoint.size, receipt.sequence);
    assert_eq!(*note, fixture.journal.checkpoint());
}

#[test]
fn a_batch_has_one_checkpoint() {
    let (fixture, go, commits) = stepped(Options::default());
    let _first = fixture.journal.append(entry(0)).unwrap();
    commits.recv().unwrap();
    let checkpointed = |n| Entry { checkpointed: n != 2, ..entry(n) };
    let rest = (1..=3).map(|n| fixture.journal.append(checkpointed(n)).unwrap()).collect();
    drop(go);
    let notes: Vec<_> = receipts(rest).into_iter().map(|receipt| receipt.checkpoint).collect();
    assert!(Arc::ptr_eq(notes[0].as_ref().unwrap(), notes[2].as_ref().unwrap()));
    assert_eq!(notes[1], None);
    assert_eq!(Checkpoint::open(notes[0].as_ref().unwrap(), &fixture.journal.public_key()).unwrap().size, 4);
}

#[test]
fn entries_that_a_verifier_would_refuse_are_refused() {
    let fixture = Fixture::new();
    let deep = (0..64).fold(json!(0), |value, _| json!({ "d": value }));
    assert!(fixture.journal.append(Entry { body: deep.clone(), ..entry(0) }).is_ok());
    let bodies = [
        json!([]),
        json!({ "payloads": [] }),
        json!({ "d": deep }),
        json!({ "n": 1_u64 << 53 }),
        json!({ "n": i64::MIN }),
    ];
    for body in bodies {
        let refused = fixture.journal.append(Entry { body, ..entry(0) });
        assert!(matches!(refused, Err(JournalError::BadEntry(_))));
    }
    let body = json!({ "text": "x".repeat(RECORD_BYTES_MAX) });
    assert!(matches!(fixture.journal.append(Entry { body, ..entry(0) }), Err(JournalError::TooLarge { .. })));
    for kind in [Kind::Step, Kind::Result, Kind::Intent, Kind::Outcome] {
        let refused = fixture.journal.append(Entry::new(kind, "acme", json!({})));
        assert!(matches!(refused, Err(JournalError::BadEntry(_))));
    }
}

#[test]
fn the_longest_record_can_be_verified() {
    let fixture = Fixture::new();
    let body = json!({ "text": "x".repeat(RECORD_BYTES_MAX - 500) });
    fixture.append(Entry { body, ..entry(0) });
    let mut export = Vec::new();
    fixture.journal.export(1, true, &mut export).unwrap();
    crate::journal::verify(export.as_slice(), &fixture.journal.public_key(), None).unwrap();
}

#[test]
fn subscribers_see_what_is_durable() {
    let fixture = Fixture::new();
    let mut durable = fixture.journal.subscribe();
    assert_eq!(*durable.borrow_and_update(), 0);
    fixture.add(3);
    assert!(wait(durable.changed()).is_ok());
    assert_eq!(*durable.borrow(), 3);
}

#[test]
fn a_closed_journal_takes_nothing_and_opens_again_where_it_ended() {
    let fixture = Fixture::of(10);
    let key = fixture.journal.public_key();
    let queued: Vec<_> = (0..10).map(|n| fixture.journal.append(entry(n)).unwrap()).collect();
    fixture.journal.close().unwrap();
    receipts(queued);
    assert_eq!(fixture.journal.append(entry(0)).unwrap_err(), JournalError::Closed);
    assert!(fixture.journal.get(1).is_err());
    let log = std::fs::metadata(fixture.path().join("journal.db-wal"));
    assert!(log.map_or(true, |log| log.len() == 0), "the log is empty");

    let (journal, opened) = Journal::open(fixture.path(), Options::default()).unwrap();
    assert_eq!(opened, Opened { recovered: false, records: 20 });
    assert_eq!(journal.public_key(), key);
    assert_eq!(journal.append(entry(0)).map(wait).unwrap().unwrap().sequence, 21);
}

/// Run with `cargo test --release -- --ignored --nocapture durable_appends_per_second`.
#[test]
#[ignore = "a measurement"]
fn durable_appends_per_second() {
    for in_flight in [1_u64, 64] {
        let commits = Arc::new(Mutex::new((0, Duration::ZERO)));
        let count = commits.clone();
        let on_commit = Box::new(move |_, took| {
            let mut count = count.lock().unwrap();
            *count = (count.0 + 1, count.1 + took);
        });
        let fixture = Fixture::with(Options { on_commit: Some(on_commit), ..Options::default() });
        let journal = Arc::new(fixture.journal);
        let each = 20_000 / (in_flight + 8);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let started = Instant::now();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..in_flight)
                .map(|task| {
                    let journal = journal.clone();
                    tokio::spawn(async move {
                        for n in 0..each {
                            let body =
                                json!({ "power": "tools.call", "tool": "crm.read", "effect": "read", "task": task });
                            let step = Some(format!("{:032x}", (n << 6 | task).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                            let entry = Entry { step, call: Some(n), ..Entry::new(Kind::Intent, "acme", body) };
                            journal.append(entry).unwrap().await.unwrap();
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        let (records, took) = (in_flight * each, started.elapsed());
        let (commits, committing) = *commits.lock().unwrap();
        println!(
            "{in_flight} in flight: {:.0} appends/s, {:.1} µs each, {:.1} records and {:.0} µs per commit",
            records as f64 / took.as_secs_f64(),
            took.as_micros() as f64 / records as f64,
            records as f64 / f64::from(commits),
            committing.as_micros() as f64 / f64::from(commits),
        );
    }
}
