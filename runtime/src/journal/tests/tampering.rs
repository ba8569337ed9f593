use std::{fs, path::Path};

use rusqlite::Connection;
use tempfile::TempDir;

use super::Fixture;
use crate::journal::{Hash, Journal, OpenError, Options, merkle::Frontier, startup, verify};

/// A closed journal of this many records that somebody changed with SQL.
fn changed(records: u64, sql: &str) -> TempDir {
    let folder = Fixture::of(records).closed();
    Connection::open(folder.path().join("journal.db")).unwrap().execute_batch(sql).unwrap();
    folder
}

fn refusal(folder: &Path) -> OpenError {
    Journal::open(folder, Options::default()).err().unwrap()
}

#[test]
fn the_first_bad_record_of_the_tail_is_named() {
    for (sql, expected) in [
        ("UPDATE records SET bytes = CAST(replace(bytes, 'acme', 'evil') AS BLOB) WHERE sequence IN (12, 15)", 12),
        ("UPDATE records SET bytes = x'00' WHERE sequence = 1", 1),
        ("UPDATE records SET hash = zeroblob(32) WHERE sequence = 20", 20),
        ("DELETE FROM records WHERE sequence = 7", 7),
        ("DELETE FROM records WHERE sequence < 3", 1),
        (
            "UPDATE records SET (hash, bytes) = (SELECT hash, bytes FROM records WHERE sequence = 9) WHERE sequence = 8",
            8,
        ),
    ] {
        let folder = changed(20, sql);
        match refusal(folder.path()) {
            OpenError::BadRecord { sequence, .. } => assert_eq!(sequence, expected, "{sql}"),
            other => panic!("{sql}: {other}"),
        }
    }
}

#[test]
fn a_rehashed_record_breaks_the_next_one() {
    let folder = Fixture::of(20).closed();
    let database = Connection::open(folder.path().join("journal.db")).unwrap();
    let bytes: Vec<u8> =
        database.query_row("SELECT bytes FROM records WHERE sequence = 5", [], |row| row.get(0)).unwrap();
    let forged = String::from_utf8(bytes).unwrap().replace("acme", "evil").into_bytes();
    let hash = Hash::leaf(&forged).0;
    database.execute("UPDATE records SET bytes = ?1, hash = ?2 WHERE sequence = 5", (forged, hash)).unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::BadRecord { sequence: 6, .. }));
}

#[test]
fn a_rewritten_history_does_not_match_the_checkpoint() {
    // Every record is replaced by one of another journal, whose chain and tree are right.
    let (folder, other) = (Fixture::of(600).closed(), Fixture::of(600).closed());
    let database = Connection::open(folder.path().join("journal.db")).unwrap();
    database.execute("ATTACH ?1 AS other", [other.path().join("journal.db").to_str()]).unwrap();
    let replace = "DELETE FROM records; INSERT INTO records SELECT * FROM other.records;
        DELETE FROM nodes; INSERT INTO nodes SELECT * FROM other.nodes;";
    database.execute_batch(replace).unwrap();
    drop(database);
    let refused = refusal(folder.path());
    assert!(matches!(refused, OpenError::OtherRoot { size: 600 }), "{refused}");
}

#[test]
fn an_old_record_that_was_changed_is_found_by_verifying_an_export() {
    let sql = "UPDATE records SET bytes = CAST(replace(bytes, 'acme', 'evil') AS BLOB) WHERE sequence = 5";
    let folder = changed(1_100, sql);
    let journal = Journal::open(folder.path(), Options::default()).unwrap().0;
    let mut export = Vec::new();
    journal.export(1, true, &mut export).unwrap();
    assert_eq!(verify(export.as_slice(), &journal.public_key(), None).unwrap_err().sequence, Some(5));
}

#[test]
fn a_changed_node_of_the_tree_is_found() {
    for sql in [
        "UPDATE nodes SET hash = zeroblob(32) WHERE level = 8 AND position = 2",
        "UPDATE nodes SET hash = zeroblob(32) WHERE level = 9",
        "DELETE FROM nodes WHERE level = 9",
    ] {
        let refused = refusal(changed(800, sql).path());
        assert!(matches!(refused, OpenError::BadRecord { .. }), "{sql}: {refused}");
    }
}

#[test]
fn fewer_records_than_the_checkpoint_says_are_a_rollback() {
    let refused = refusal(changed(20, "DELETE FROM records WHERE sequence > 15").path());
    assert!(matches!(refused, OpenError::RolledBack { records: 15, size: 20 }), "{refused}");
    let refused = refusal(changed(20, "DELETE FROM records").path());
    assert!(matches!(refused, OpenError::RolledBack { records: 0, size: 20 }), "{refused}");
}

#[test]
fn a_changed_checkpoint_is_refused() {
    let refused =
        refusal(changed(20, "UPDATE checkpoints SET note = replace(note, char(10) || '20', char(10) || '19')").path());
    assert!(matches!(refused, OpenError::BadCheckpoint { size: 20, .. }), "{refused}");
    let refused = refusal(changed(20, "UPDATE checkpoints SET size = 10").path());
    assert!(matches!(refused, OpenError::OtherRoot { size: 10 }), "{refused}");
}

#[test]
fn a_journal_without_its_key_or_a_key_without_its_journal_is_refused() {
    let folder = Fixture::of(3).closed();
    let (key, database) = (folder.path().join("journal.key"), folder.path().join("journal.db"));
    let kept = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::NoKey(_)));
    assert!(!key.exists(), "no other key takes its place");

    let other = Fixture::of(3).closed();
    fs::copy(other.path().join("journal.key"), &key).unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::OtherKey { .. }));
    fs::write(&key, "nonsense").unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::Key(_)));

    fs::write(&key, kept).unwrap();
    assert!(Journal::open(folder.path(), Options::default()).unwrap().0.close().is_ok());
    fs::remove_file(&database).unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::NoJournal(_)));
    assert!(!database.exists());
}

#[test]
fn a_first_start_that_was_cut_short_is_taken_up() {
    let folder = TempDir::new().unwrap();
    drop(startup::open(folder.path()).unwrap());
    let database = Connection::open(folder.path().join("journal.db")).unwrap();
    database.execute("DELETE FROM meta", []).unwrap();
    drop(database);
    let key = fs::read(folder.path().join("journal.key")).unwrap();
    Journal::open(folder.path(), Options::default()).unwrap().0.close().unwrap();
    assert_eq!(fs::read(folder.path().join("journal.key")).unwrap(), key);
}

#[test]
fn what_is_no_journal_of_ours_is_refused() {
    let refused = refusal(changed(3, "PRAGMA user_version = 2").path());
    assert!(refused.to_string().contains("newer"), "{refused}");
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("journal.db"), "this is no database, but it is long enough to look at").unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::Database { .. }));
    assert!(Journal::open(&folder.path().join("missing"), Options::default()).is_err());
}

#[test]
fn damaged_pages_are_never_taken_for_records() {
    let folder = Fixture::of(600).closed();
    let whole = fs::read(folder.path().join("journal.db")).unwrap();
    let frontier = startup::open(folder.path()).unwrap().frontier;
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let copy = TempDir::new().unwrap();
        fs::copy(folder.path().join("journal.key"), copy.path().join("journal.key")).unwrap();
        let mut bytes = whole.clone();
        let end = (at + 300).min(bytes.len());
        bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(copy.path().join("journal.db"), bytes).unwrap();
        // Damage to an index or to free space may go unseen here, but the tree is right or refused.
        let found = startup::open(copy.path()).map_or(Frontier::empty(), |checked| checked.frontier);
        assert!(found == frontier || found == Frontier::empty(), "byte {at}");
    }
}
