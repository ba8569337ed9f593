//! What survives: restarts, full disks, damaged files and many writers.

use std::{fs, os::unix::fs::PermissionsExt as _, thread};

use rusqlite::Connection;

use super::{Fixture, ROOMY, writer};
use crate::memory::{MemoryError, MemoryStore, PutOptions};

#[test]
fn all_is_kept_over_a_restart() {
    let Fixture { folder, store } = Fixture::new(ROOMY);
    let path = folder.path().join("memory.db");
    let put = |store: &MemoryStore, key: &str, now_ms| {
        let options = PutOptions { ttl_ms: Some(1000), if_version: None };
        store.put("t", "s", key, key.as_bytes(), options, &writer(), now_ms).unwrap()
    };
    let deleted = put(&store, "deleted", 1);
    let kept = put(&store, "kept", 2);
    assert!(store.delete("t", "s", "deleted", None, 3).unwrap());
    let before = (store.get("t", "s", "kept", 3).unwrap(), store.spaces("t", 3).unwrap());
    assert!(before.0.is_some());
    drop(store);
    let store = MemoryStore::open(&path, ROOMY).unwrap();
    assert_eq!((store.get("t", "s", "kept", 3).unwrap(), store.spaces("t", 3).unwrap()), before);
    assert_eq!(store.get("t", "s", "kept", 1002).unwrap(), None);
    assert!(put(&store, "deleted", 4) > kept.max(deleted));
}

#[test]
fn what_was_put_survives_a_crash() {
    let fixture = Fixture::new(ROOMY);
    fixture.store.connection().pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    for key in 0..20 {
        fixture.put("s", &key.to_string(), &[7; 5000]).unwrap();
    }
    // The files as they lie on the disk while the store is open.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["memory.db", "memory.db-wal"] {
        fs::copy(fixture.folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    let store = MemoryStore::open(&crashed.path().join("memory.db"), ROOMY).unwrap();
    assert_eq!(store.spaces("t", 1).unwrap(), fixture.store.spaces("t", 1).unwrap());
    assert_eq!(store.get("t", "s", "19", 1).unwrap().unwrap().value, [7; 5000]);
}

#[test]
fn the_file_is_as_safe_as_it_is_meant_to_be() {
    let fixture = Fixture::new(ROOMY);
    fixture.put("s", "key", b"1").unwrap();
    for name in ["memory.db", "memory.db-wal", "memory.db-shm"] {
        let mode = fs::metadata(fixture.folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    // Opened again, so that the fixture's haste does not show.
    let store = MemoryStore::open(&fixture.path(), ROOMY).unwrap();
    let connection = store.connection();
    for (pragma, expected) in [("synchronous", 2), ("trusted_schema", 0), ("cell_size_check", 1), ("user_version", 2)] {
        let found: i64 = connection.pragma_query_value(None, pragma, |row| row.get(0)).unwrap();
        assert_eq!(found, expected, "{pragma}");
    }
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

#[test]
fn looking_for_items_reads_no_whole_table() {
    let fixture = Fixture::new(ROOMY);
    let connection = fixture.store.connection();
    for query in [
        "SELECT value FROM items WHERE space = 1 AND key = 'k'",
        "SELECT key FROM items WHERE space = 1 AND key >= 'k' AND (expires_ms IS NULL OR expires_ms > 5) ORDER BY key",
        "SELECT count(*), coalesce(sum(bytes), 0) FROM items WHERE space = 1 AND expires_ms <= 5",
        "SELECT DISTINCT space FROM items WHERE expires_ms <= 5",
    ] {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let steps: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(steps.iter().all(|step| step.contains("INDEX")), "{query}: {steps:?}");
    }
}

#[test]
fn a_full_disk_refuses_and_then_goes_on() {
    let fixture = Fixture::new(ROOMY);
    fixture.put("s", "kept", b"1").unwrap();
    let limit_pages = |pages: i64| {
        let connection = fixture.store.connection();
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    };
    let pages: i64 = fixture.store.connection().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    limit_pages(pages + 3);
    let full = (0..10).find_map(|key| fixture.put("s", &format!("more{key}"), &[0; 4000]).err()).unwrap();
    assert!(matches!(full, MemoryError::Full), "{full}");
    let large = fixture.put("s", "kept", &[0; 200_000]).unwrap_err();
    assert!(matches!(large, MemoryError::Full), "{large}");
    assert_eq!(fixture.store.get("t", "s", "kept", 1).unwrap().unwrap().value, b"1");
    let [space] = &fixture.store.spaces("t", 1).unwrap()[..] else { panic!("one space") };
    let listed = fixture.store.list("t", "s", "", None, 100, 1).unwrap();
    assert_eq!(space.keys, listed.len() as u64);
    assert!(fixture.store.delete("t", "s", "more0", None, 1).unwrap(), "deleting still makes room");
    limit_pages(pages + 1000);
    fixture.put("s", "kept", &[0; 200_000]).unwrap();
}

#[test]
fn many_writers_lose_no_increment() {
    const WRITERS: u64 = 16;
    const EACH: u64 = 15;
    let Fixture { folder: _folder, store } = Fixture::new(ROOMY);
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            let store = store.clone();
            scope.spawn(move || (0..EACH).for_each(|_| increment(&store)));
        }
    });
    let item = store.get("t", "s", "count", 1).unwrap().unwrap();
    assert_eq!((item.value, item.version), ((WRITERS * EACH).to_le_bytes().to_vec(), WRITERS * EACH));
}

/// Adds 1 to the number under a key, as often as it takes.
fn increment(store: &MemoryStore) {
    loop {
        let item = store.get("t", "s", "count", 1).unwrap();
        let count = item.as_ref().map_or(0, |item| u64::from_le_bytes(item.value.as_slice().try_into().unwrap()));
        let options = PutOptions { ttl_ms: None, if_version: Some(item.map_or(0, |item| item.version)) };
        match store.put("t", "s", "count", &(count + 1).to_le_bytes(), options, &writer(), 1) {
            Ok(_) => return,
            Err(MemoryError::Conflict { .. }) => thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_file_of_a_later_version_is_left_alone() {
    let Fixture { folder, store } = Fixture::new(ROOMY);
    drop(store);
    let path = folder.path().join("memory.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 3).unwrap();
    assert!(matches!(MemoryStore::open(&path, ROOMY), Err(MemoryError::UnknownVersion(3))));
}

#[test]
fn a_file_of_the_version_without_labels_is_taken_over() {
    let fixture = Fixture::new(ROOMY);
    fixture.put("s", "key", b"1").unwrap();
    fixture.store.connection().execute_batch("ALTER TABLE items DROP COLUMN labels; PRAGMA user_version = 1").unwrap();
    let Fixture { folder, store } = fixture;
    drop(store);
    let store = MemoryStore::open(&folder.path().join("memory.db"), ROOMY).unwrap();
    let item = store.get("t", "s", "key", 1).unwrap().unwrap();
    assert_eq!((item.value, item.written_by.labels), (b"1".to_vec(), Vec::<String>::new()));
}

#[test]
fn a_damaged_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    fs::write(&path, "not a database".repeat(1000)).unwrap();
    assert!(matches!(MemoryStore::open(&path, ROOMY), Err(MemoryError::Io(_))));
    assert!(matches!(MemoryStore::open(&folder.path().join("no/memory.db"), ROOMY), Err(MemoryError::Io(_))));
    let fixture = Fixture::new(ROOMY);
    fixture.put("s", "key", b"1").unwrap();
    fixture.store.connection().execute("UPDATE spaces SET version = -1, keys = -5", []).unwrap();
    assert!(matches!(fixture.put("s", "key", b"2"), Err(MemoryError::Io(_))));
    fixture.store.connection().execute("UPDATE items SET version = -1", []).unwrap();
    assert!(matches!(fixture.store.get("t", "s", "key", 1), Err(MemoryError::Io(_))));
}
