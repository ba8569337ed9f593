use std::fs;

use rusqlite::Connection;

use super::{Fixture, entry, text_payload, wait};
use crate::journal::{Entry, Health, Journal, JournalError, Options, startup, verify};
use crate::step::Digest;

/// A journal that can grow by this many pages only.
fn small(pages: i64) -> Fixture {
    let fixture = Fixture::new();
    let large = "x".repeat(60_000);
    fixture.append(Entry { payloads: vec![text_payload(&large)], ..entry(0) });
    let folder = fixture.closed();
    let checked = startup::open(folder.path()).unwrap();
    let count: i64 = checked.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let max = count + pages;
    checked.connection.pragma_update_and_check(None, "max_page_count", max, |_| Ok(())).unwrap();
    let journal = Journal::start(folder.path(), checked, Options::default()).unwrap().0;
    Fixture { journal, folder }
}

#[test]
fn a_full_disk_refuses_and_work_resumes_without_a_gap() {
    let fixture = small(20);
    let append = |n| {
        fixture.journal.append(Entry { body: serde_json::json!({ "text": "x".repeat(900) }), ..entry(n) }).map(wait)
    };
    let mut last = 1;
    let refused = loop {
        match append(last).unwrap() {
            Ok(receipt) => {
                assert_eq!(receipt.sequence, last + 1);
                last = receipt.sequence;
            }
            Err(error) => break error,
        }
    };
    assert_eq!(refused, JournalError::Full);
    assert_eq!(fixture.journal.health(), Health::Full);
    assert_eq!(*fixture.journal.subscribe().borrow(), last);
    for n in 0..3 {
        assert_eq!(append(n).unwrap(), Err(JournalError::Full), "it was tried again");
    }

    // Room is made while the journal runs.
    let large = Digest::of("x".repeat(60_000).as_bytes());
    assert!(wait(fixture.journal.delete_payload(large)).unwrap());
    assert_eq!(append(0).unwrap().unwrap().sequence, last + 1);
    assert_eq!(fixture.journal.health(), Health::Healthy);
    let mut export = Vec::new();
    fixture.journal.export(1, true, &mut export).unwrap();
    assert_eq!(verify(export.as_slice(), &fixture.journal.public_key(), None).unwrap().records, last + 1);
}

#[test]
fn a_group_that_does_not_fit_leaves_nothing() {
    let fixture = small(20);
    let large = |n| Entry { body: serde_json::json!({ "text": "x".repeat(200_000) }), ..entry(n) };
    for ticket in fixture.journal.append_all(vec![entry(1), large(2), entry(3)]).unwrap() {
        assert_eq!(wait(ticket), Err(JournalError::Full));
    }
    assert_eq!(fixture.append(entry(4)).sequence, 2);
}

#[test]
fn a_journal_that_failed_takes_nothing_more() {
    let fixture = Fixture::of(5);
    // Any failure that is not a full disk will do.
    let other = Connection::open(fixture.path().join("journal.db")).unwrap();
    other
        .execute_batch("DROP TABLE unfinished; DROP INDEX records_by_kind; ALTER TABLE records RENAME TO gone")
        .unwrap();
    let poisoned = fixture.journal.append(entry(5)).map(wait).unwrap();
    assert!(matches!(poisoned, Err(JournalError::Poisoned(_))));
    other.execute_batch("ALTER TABLE gone RENAME TO records").unwrap();
    assert!(matches!(fixture.journal.append(entry(6)), Err(JournalError::Poisoned(_))));
    assert!(matches!(wait(fixture.journal.delete_payload(Digest::of(b""))), Err(JournalError::Poisoned(_))));
    assert!(matches!(fixture.journal.health(), Health::Poisoned(_)));
    assert!(matches!(fixture.journal.close(), Err(JournalError::Poisoned(_))));
}

#[test]
fn a_lock_of_another_program_passes() {
    let fixture = Fixture::of(5);
    let other = Connection::open(fixture.path().join("journal.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ticket = fixture.journal.append(entry(5)).unwrap();
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(wait(ticket).unwrap().sequence, 6);
}

#[test]
fn a_second_writer_cannot_fork_the_journal() {
    let fixture = Fixture::of(5);
    let second = Journal::open(fixture.path(), Options::default()).unwrap().0;
    assert_eq!(second.append(entry(5)).map(wait).unwrap().unwrap().sequence, 6);
    let refused = fixture.journal.append(entry(5)).map(wait).unwrap();
    assert!(matches!(refused, Err(JournalError::Poisoned(_))));
}

#[test]
fn its_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::of(1);
    for file in fs::read_dir(fixture.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}
