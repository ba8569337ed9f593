use std::{fs, fs::OpenOptions, path::Path};

use serde_json::json;
use tempfile::TempDir;

use super::{Fixture, entry, wait};
use crate::journal::{Checkpoint, Entry, Journal, Kind, Options, verify};

/// What a crash at this moment would leave: the files without the index of the log.
fn crashed(from: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for name in ["journal.db", "journal.db-wal", "journal.key"] {
        fs::copy(from.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[test]
fn what_was_acknowledged_survives_a_crash() {
    let fixture = Fixture::new();
    for _ in 0..5 {
        let last = fixture.add(30).pop().unwrap();
        let copy = crashed(fixture.path());
        let (journal, opened) = Journal::open(copy.path(), Options::default()).unwrap();
        assert!(opened.recovered);
        assert_eq!(opened.records, last.sequence);
        assert_eq!(journal.get(last.sequence).unwrap().unwrap().hash, last.hash);
        let next = journal.append(entry(0)).map(wait).unwrap().unwrap();
        assert_eq!(next.sequence, last.sequence + 1);
        journal.close().unwrap();
    }
}

#[test]
fn a_torn_log_leaves_a_beginning_of_the_journal() {
    let fixture = Fixture::new();
    // Some that are in the file already, and one transaction each for the others.
    fixture.add(10);
    for n in 0..12 {
        fixture.append(entry(n));
    }
    let whole = fixture.all();
    let source = crashed(fixture.path());
    let log_bytes = fs::metadata(source.path().join("journal.db-wal")).unwrap().len();
    let mut sizes = Vec::new();
    for cut in (0..40).map(|n| (log_bytes - 20) * n / 40).chain(log_bytes - 20..=log_bytes) {
        let copy = crashed(source.path());
        let log = OpenOptions::new().write(true).open(copy.path().join("journal.db-wal")).unwrap();
        log.set_len(cut).unwrap();
        let (journal, opened) = Journal::open(copy.path(), Options::default()).unwrap();
        let stored: Vec<_> = journal.list(&crate::journal::Filter::default(), 1_000).unwrap();
        assert_eq!(stored, whole[..opened.records as usize]);
        sizes.push(opened.records);
        // Work goes on, and the whole can be verified.
        journal.append(entry(0)).map(wait).unwrap().unwrap();
        let mut export = Vec::new();
        journal.export(1, true, &mut export).unwrap();
        verify(export.as_slice(), &journal.public_key(), None).unwrap();
        journal.close().unwrap();
    }
    assert!(sizes.is_sorted(), "{sizes:?}");
    assert!(sizes[0] < 22 && sizes.last() == Some(&22), "{sizes:?}");
}

#[test]
fn a_checkpoint_is_written_when_it_is_due_and_at_the_end() {
    let interval = std::time::Duration::ZERO;
    let fixture = Fixture::with(Options { checkpoint_interval: interval, ..Options::default() });
    fixture.append(entry(0));
    // The first one was written before the second record came.
    fixture.append(entry(1));
    let key = fixture.journal.public_key();
    let folder = fixture.closed();
    let database = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    let mut statement = database.prepare("SELECT size, note FROM checkpoints ORDER BY size").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))).unwrap();
    let sizes: Vec<_> = rows
        .map(|row| {
            let (size, note) = row.unwrap();
            assert_eq!(Checkpoint::open(&note, &key).unwrap().size, size as u64);
            size
        })
        .collect();
    assert_eq!(sizes, [1, 2]);
}

#[test]
fn what_was_begun_and_not_ended_is_found_after_a_crash() {
    let fixture = Fixture::new();
    let about =
        |kind, step: &str, call| Entry { step: Some(step.to_owned()), call, ..Entry::new(kind, "acme", json!({})) };
    for (kind, step, call) in [
        (Kind::Step, "done", None),
        (Kind::Intent, "done", Some(1)),
        (Kind::Outcome, "done", Some(1)),
        (Kind::Result, "done", None),
        (Kind::Step, "cut", None),
        (Kind::Intent, "cut", Some(1)),
        (Kind::Outcome, "cut", Some(1)),
        (Kind::Intent, "cut", Some(2)),
        (Kind::Denial, "cut", Some(3)),
    ] {
        fixture.append(about(kind, step, call));
    }
    let copy = crashed(fixture.path());
    let (journal, _) = Journal::open(copy.path(), Options::default()).unwrap();
    let unfinished = journal.unfinished().unwrap();
    let found: Vec<_> = unfinished.iter().map(|u| (u.sequence, u.step.as_str(), u.call)).collect();
    assert_eq!(found, [(5, "cut", None), (8, "cut", Some(2))]);
    assert_eq!(unfinished[0].tenant, "acme");

    let ends = vec![about(Kind::Outcome, "cut", Some(2)), about(Kind::Result, "cut", None)];
    for ticket in journal.append_all(ends).unwrap() {
        wait(ticket).unwrap();
    }
    assert_eq!(journal.unfinished().unwrap(), []);
}
