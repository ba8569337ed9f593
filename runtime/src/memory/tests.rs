//! Tests of the store: against a model, with a full disk, from many threads and over restarts.

mod durability;
mod model;

use std::path::PathBuf;

use tempfile::TempDir;

use super::{Item, Listed, MemoryError, MemoryStore, PutOptions, Quota, SpaceInfo, Writer};

const ROOMY: Quota = Quota { bytes: 64 << 20, keys: 10_000, value_bytes: 256 << 10, spaces: 100 };

/// A store in a folder of its own, which does not wait for the disk.
struct Fixture {
    folder: TempDir,
    store: MemoryStore,
}

impl Fixture {
    fn new(quota: Quota) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = MemoryStore::open(&folder.path().join("memory.db"), quota).unwrap();
        store.connection().pragma_update(None, "synchronous", "OFF").unwrap();
        Self { folder, store }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("memory.db")
    }

    fn put(&self, space: &str, key: &str, value: &[u8]) -> Result<u64, MemoryError> {
        self.store.put("t", space, key, value, PutOptions::default(), &writer(), 1)
    }

    fn put_for(&self, space: &str, key: &str, ttl_ms: u64, now_ms: u64) -> Result<u64, MemoryError> {
        let options = PutOptions { ttl_ms: Some(ttl_ms), if_version: None };
        self.store.put("t", space, key, b"value", options, &writer(), now_ms)
    }

    fn put_if(&self, key: &str, version: u64, now_ms: u64) -> Result<u64, MemoryError> {
        let options = PutOptions { ttl_ms: None, if_version: Some(version) };
        self.store.put("t", "s", key, b"value", options, &writer(), now_ms)
    }

    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let found = self.store.list("t", "s", prefix, after, limit, 1).unwrap();
        found.into_iter().map(|listed| listed.key).collect()
    }
}

fn writer() -> Writer {
    Writer { agent: "support@1".into(), step: "step-1".into(), labels: vec!["internal".into()] }
}

#[test]
fn what_is_put_is_there_with_its_provenance() {
    let fixture = Fixture::new(ROOMY);
    let options = PutOptions { ttl_ms: Some(500), if_version: Some(0) };
    let version = fixture.store.put("t", "s", "kéy", b"\0value", options, &writer(), 1000).unwrap();
    let expected =
        Item { value: b"\0value".into(), version, written_by: writer(), written_ms: 1000, expires_ms: Some(1500) };
    assert_eq!(fixture.store.get("t", "s", "kéy", 1000).unwrap(), Some(expected));
    let expected =
        Listed { key: "kéy".into(), size: 6, version, written_by: writer(), written_ms: 1000, expires_ms: Some(1500) };
    assert_eq!(fixture.store.list("t", "s", "", None, 10, 1000).unwrap(), [expected]);
    assert_eq!(fixture.store.get("t", "s", "key", 1000).unwrap(), None);
}

#[test]
fn tenants_and_spaces_are_apart() {
    let fixture = Fixture::new(ROOMY);
    fixture.put("s", "key", b"1").unwrap();
    assert_eq!(fixture.store.get("t", "other", "key", 1).unwrap(), None);
    assert_eq!(fixture.store.get("other", "s", "key", 1).unwrap(), None);
    assert!(!fixture.store.delete("other", "s", "key", None, 1).unwrap());
    assert!(fixture.store.list("other", "s", "", None, 10, 1).unwrap().is_empty());
    assert!(fixture.store.spaces("other", 1).unwrap().is_empty());
    assert_eq!(fixture.store.spaces("t", 1).unwrap(), [SpaceInfo { name: "s".into(), keys: 1, bytes: 4 }]);
}

#[test]
fn keys_are_listed_by_bytes_after_a_key_and_within_a_prefix() {
    let fixture = Fixture::new(ROOMY);
    for key in ["b/2", "a", "b/1", "b", "b/10", "B", "ä", "😀", "b0", "b/\u{ffff}"] {
        fixture.put("s", key, b"").unwrap();
    }
    assert_eq!(fixture.keys("", None, 10), ["B", "a", "b", "b/1", "b/10", "b/2", "b/\u{ffff}", "b0", "ä", "😀"]);
    assert_eq!(fixture.keys("b/", None, 10), ["b/1", "b/10", "b/2", "b/\u{ffff}"]);
    assert_eq!(fixture.keys("b/", Some("b/10"), 1), ["b/2"]);
    assert_eq!(fixture.keys("b/", Some("b/11"), 1), ["b/2"]);
    assert_eq!(fixture.keys("b/", Some("a"), 1), ["b/1"]);
    assert!(fixture.keys("b/", Some("b0"), 10).is_empty());
    assert!(fixture.keys("", Some("😀"), 10).is_empty() && fixture.keys("", None, 0).is_empty());
}

#[test]
fn no_more_than_a_thousand_keys_are_listed_at_once() {
    let fixture = Fixture::new(ROOMY);
    for key in 0..1003 {
        fixture.put("s", &format!("{key:04}"), b"").unwrap();
    }
    let first = fixture.keys("", None, usize::MAX);
    assert_eq!(first.len(), 1000);
    assert_eq!(fixture.keys("", first.last().map(String::as_str), usize::MAX), ["1000", "1001", "1002"]);
}

#[test]
fn bad_keys_are_refused_and_shown_cut_and_escaped() {
    let fixture = Fixture::new(ROOMY);
    let long = "k".repeat(513);
    for key in ["", "a\nb", "a\0b", "\u{7f}", "\u{85}", long.as_str()] {
        let refusal = fixture.put("s", key, b"").unwrap_err();
        assert!(matches!(refusal, MemoryError::BadKey(_)) && !refusal.to_string().contains('\n'), "{refusal}");
        assert!(refusal.to_string().len() < 200);
        assert!(matches!(fixture.store.get("t", "s", key, 1), Err(MemoryError::BadKey(_))));
        assert!(matches!(fixture.store.delete("t", "s", key, None, 1), Err(MemoryError::BadKey(_))));
    }
    fixture.put("s", &long[..512], b"").unwrap();
    assert_eq!(fixture.keys("k", Some("a\nb"), 10).len(), 1);
}

#[test]
fn a_version_is_never_given_out_again() {
    let fixture = Fixture::new(ROOMY);
    let first = fixture.put("s", "key", b"1").unwrap();
    assert!(fixture.store.delete("t", "s", "key", Some(first), 1).unwrap());
    assert!(!fixture.store.delete("t", "s", "key", None, 1).unwrap());
    let second = fixture.put("s", "key", b"1").unwrap();
    assert!(second > first);
    let conflict = fixture.put_if("key", first, 1).unwrap_err();
    assert!(matches!(conflict, MemoryError::Conflict { expected, found } if (expected, found) == (first, second)));
    assert!(fixture.put_if("key", second, 1).unwrap() > second);
}

#[test]
fn a_version_that_is_not_expected_changes_nothing() {
    let fixture = Fixture::new(ROOMY);
    assert!(matches!(fixture.put_if("key", 7, 1), Err(MemoryError::Conflict { expected: 7, found: 0 })));
    let delete = |version| fixture.store.delete("t", "s", "key", version, 1);
    assert!(matches!(delete(Some(7)), Err(MemoryError::Conflict { expected: 7, found: 0 })));
    assert!(!delete(Some(0)).unwrap());
    let version = fixture.put_if("key", 0, 1).unwrap();
    assert!(matches!(fixture.put_if("key", 0, 1), Err(MemoryError::Conflict { expected: 0, .. })));
    assert!(matches!(delete(Some(0)), Err(MemoryError::Conflict { .. })));
    assert_eq!(fixture.store.get("t", "s", "key", 1).unwrap().unwrap().version, version);
}

#[test]
fn an_expired_item_is_not_there() {
    let fixture = Fixture::new(Quota { keys: 1, ..ROOMY });
    let version = fixture.put_for("s", "key", 10, 100).unwrap();
    assert!(fixture.store.get("t", "s", "key", 109).unwrap().is_some());
    assert_eq!(fixture.store.get("t", "s", "key", 110).unwrap(), None);
    assert!(fixture.store.list("t", "s", "", None, 10, 110).unwrap().is_empty());
    assert!(fixture.store.spaces("t", 110).unwrap().is_empty());
    assert!(!fixture.store.delete("t", "s", "key", None, 110).unwrap());
    assert!(matches!(fixture.put_if("key", version, 110), Err(MemoryError::Conflict { found: 0, .. })));
    assert!(fixture.put_if("other", 0, 110).unwrap() > version, "the expired key takes no room");
}

#[test]
fn a_time_to_live_can_be_none_or_endless() {
    let fixture = Fixture::new(ROOMY);
    fixture.put_for("s", "none", 0, 100).unwrap();
    fixture.put_for("s", "endless", u64::MAX, 100).unwrap();
    assert_eq!(fixture.store.get("t", "s", "none", 100).unwrap(), None);
    assert!(fixture.store.get("t", "s", "endless", 1 << 62).unwrap().is_some());
    // A put without one takes it away again.
    fixture.put_for("s", "key", 5, 100).unwrap();
    fixture.put("s", "key", b"").unwrap();
    assert_eq!(fixture.store.get("t", "s", "key", 1000).unwrap().unwrap().expires_ms, None);
}

#[test]
fn a_sweep_removes_what_has_expired() {
    let fixture = Fixture::new(ROOMY);
    for key in 0..10 {
        fixture.put_for("s", &key.to_string(), 10 + key, 100).unwrap();
        fixture.put_for("other", &key.to_string(), 10, 100).unwrap();
        fixture.put("s", &format!("kept{key}"), b"").unwrap();
    }
    assert_eq!(fixture.store.sweep(114).unwrap(), 15);
    assert_eq!(fixture.store.sweep(114).unwrap(), 0);
    let count: i64 = fixture.store.connection().query_row("SELECT count(*) FROM items", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 15);
    let (keys, bytes): (i64, i64) = fixture
        .store
        .connection()
        .query_row("SELECT keys, bytes FROM spaces WHERE name = 's'", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!((keys, bytes), (15, 5 * 6 + 10 * 5));
}

#[test]
fn quotas_name_the_limit() {
    let quota = Quota { bytes: 20, keys: 2, value_bytes: 16, spaces: 1 };
    let fixture = Fixture::new(quota);
    assert!(matches!(fixture.put("s", "k", &[0; 17]), Err(MemoryError::ValueTooLarge { bytes: 17, max: 16 })));
    fixture.put("s", "1234", &[0; 15]).unwrap();
    let full = fixture.put("s", "b", &[0; 1]).unwrap_err();
    assert!(matches!(&full, MemoryError::SpaceFull { space, limit: "bytes", max: 20 } if space == "s"), "{full}");
    fixture.put("s", "1234", &[0; 16]).unwrap();
    fixture.put("s", "1234", &[0; 2]).unwrap();
    fixture.put("s", "b", &[0; 1]).unwrap();
    assert!(matches!(fixture.put("s", "c", &[]), Err(MemoryError::SpaceFull { limit: "keys", max: 2, .. })));
    assert!(matches!(fixture.put("other", "c", &[]), Err(MemoryError::TooManySpaces { max: 1 })));
    fixture.store.put("t2", "other", "c", b"", PutOptions::default(), &writer(), 1).unwrap();
    // An empty space makes room for another.
    for key in ["1234", "b"] {
        assert!(fixture.store.delete("t", "s", key, None, 1).unwrap());
    }
    fixture.put("other", "c", &[]).unwrap();
    assert!(matches!(fixture.put("s", "c", &[]), Err(MemoryError::TooManySpaces { max: 1 })));
}

#[test]
fn a_lowered_quota_still_lets_items_shrink() {
    let fixture = Fixture::new(ROOMY);
    fixture.put("s", "a", &[0; 100]).unwrap();
    fixture.put("s", "b", &[0; 100]).unwrap();
    let store = MemoryStore::open(&fixture.path(), Quota { bytes: 50, keys: 1, ..ROOMY }).unwrap();
    let put = |value: &[u8]| store.put("t", "s", "a", value, PutOptions::default(), &writer(), 1);
    put(&[0; 99]).unwrap();
    assert!(matches!(put(&[0; 100]), Err(MemoryError::SpaceFull { limit: "bytes", .. })));
}
