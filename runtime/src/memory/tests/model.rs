//! Random operations on the store and on a map, which must agree.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Fixture, writer};
use crate::memory::{MemoryError, PutOptions, Quota};

const QUOTA: Quota = Quota { bytes: 60, keys: 4, value_bytes: 24, spaces: 2 };

const SPACES: [&str; 3] = ["one", "two", "three"];

#[derive(Debug, Clone)]
enum Act {
    Put { key: String, value: Vec<u8>, ttl_ms: Option<u64>, version: Expect },
    Delete { key: String, version: Expect },
    Get { key: String },
    List { prefix: String, after: Option<String>, limit: usize },
    Wait { ms: u64 },
    Sweep,
}

/// Which version a change expects.
#[derive(Debug, Clone)]
enum Expect {
    Any,
    Present,
    Exactly(u64),
}

fn acts() -> impl Strategy<Value = Vec<(&'static str, Act)>> {
    let key = "[abä]{1,2}";
    let expect =
        || prop_oneof![3 => Just(Expect::Any), 2 => Just(Expect::Present), 1 => (0..4_u64).prop_map(Expect::Exactly)];
    let act = prop_oneof![
        6 => (key, prop::collection::vec(any::<u8>(), 0..27), prop::option::of(0..20_u64), expect())
            .prop_map(|(key, value, ttl_ms, version)| Act::Put { key, value, ttl_ms, version }),
        3 => (key, expect()).prop_map(|(key, version)| Act::Delete { key, version }),
        3 => key.prop_map(|key| Act::Get { key }),
        2 => ("[abä]{0,1}", prop::option::of(key), 0..6_usize)
            .prop_map(|(prefix, after, limit)| Act::List { prefix, after, limit }),
        2 => (0..15_u64).prop_map(|ms| Act::Wait { ms }),
        1 => Just(Act::Sweep),
    ];
    prop::collection::vec((prop::sample::select(&SPACES[..]), act), 0..60)
}

/// A space as the model sees it.
#[derive(Default)]
struct Space {
    items: BTreeMap<String, Kept>,
    version: u64,
}

struct Kept {
    value: Vec<u8>,
    version: u64,
    expires_ms: Option<u64>,
}

#[derive(Debug, PartialEq)]
enum Refusal {
    Value,
    Spaces,
    Conflict(u64),
    Keys,
    Bytes,
}

fn refusal(error: MemoryError) -> Refusal {
    match error {
        MemoryError::ValueTooLarge { .. } => Refusal::Value,
        MemoryError::TooManySpaces { .. } => Refusal::Spaces,
        MemoryError::Conflict { found, .. } => Refusal::Conflict(found),
        MemoryError::SpaceFull { limit: "keys", .. } => Refusal::Keys,
        MemoryError::SpaceFull { limit: "bytes", .. } => Refusal::Bytes,
        other => panic!("{other}"),
    }
}

impl Space {
    fn forget(&mut self, now_ms: u64) {
        self.items.retain(|_, item| item.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms));
    }

    fn found(&self, key: &str) -> u64 {
        self.items.get(key).map_or(0, |item| item.version)
    }

    fn expected(&self, key: &str, version: &Expect) -> Option<u64> {
        match version {
            Expect::Any => None,
            Expect::Present => Some(self.found(key)),
            Expect::Exactly(version) => Some(*version),
        }
    }

    fn bytes(&self) -> usize {
        self.items.iter().map(|(key, item)| key.len() + item.value.len()).sum()
    }

    fn put(&mut self, key: &str, item: Kept, expected: Option<u64>, others: usize) -> Result<u64, Refusal> {
        if item.value.len() as u64 > QUOTA.value_bytes {
            return Err(Refusal::Value);
        }
        if self.items.is_empty() && others as u64 >= QUOTA.spaces {
            return Err(Refusal::Spaces);
        }
        let found = self.found(key);
        if expected.is_some_and(|expected| expected != found) {
            return Err(Refusal::Conflict(found));
        }
        if found == 0 && self.items.len() as u64 >= QUOTA.keys {
            return Err(Refusal::Keys);
        }
        let before = self.items.get(key).map_or(0, |old| key.len() + old.value.len());
        let after = self.bytes() - before + key.len() + item.value.len();
        if after as u64 > QUOTA.bytes {
            return Err(Refusal::Bytes);
        }
        self.version += 1;
        self.items.insert(key.into(), Kept { version: self.version, ..item });
        Ok(self.version)
    }

    fn delete(&mut self, key: &str, expected: Option<u64>) -> Result<bool, Refusal> {
        let found = self.found(key);
        if expected.is_some_and(|expected| expected != found) {
            return Err(Refusal::Conflict(found));
        }
        Ok(self.items.remove(key).is_some())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_store_does_what_a_map_does(acts in acts()) {
        let Fixture { folder: _folder, store } = Fixture::new(QUOTA);
        let mut spaces: BTreeMap<&str, Space> = SPACES.iter().map(|name| (*name, Space::default())).collect();
        let mut now_ms = 1000;
        for (name, act) in acts {
            spaces.values_mut().for_each(|space| space.forget(now_ms));
            let others = spaces.iter().filter(|(other, space)| **other != name && !space.items.is_empty()).count();
            let space = spaces.get_mut(name).unwrap();
            match act {
                Act::Put { key, value, ttl_ms, version } => {
                    let if_version = space.expected(&key, &version);
                    let options = PutOptions { ttl_ms, if_version };
                    let put = store.put("t", name, &key, &value, options, &writer(), now_ms).map_err(refusal);
                    let item = Kept { value, version: 0, expires_ms: ttl_ms.map(|ttl_ms| now_ms + ttl_ms) };
                    prop_assert_eq!(put, space.put(&key, item, if_version, others));
                }
                Act::Delete { key, version } => {
                    let if_version = space.expected(&key, &version);
                    let deleted = store.delete("t", name, &key, if_version, now_ms).map_err(refusal);
                    prop_assert_eq!(deleted, space.delete(&key, if_version));
                }
                Act::Get { key } => {
                    let got = store.get("t", name, &key, now_ms).unwrap().map(|item| (item.value, item.version));
                    let kept = space.items.get(&key).map(|item| (item.value.clone(), item.version));
                    prop_assert_eq!(got, kept);
                }
                Act::List { prefix, after, limit } => {
                    let listed = store.list("t", name, &prefix, after.as_deref(), limit, now_ms).unwrap();
                    let listed: Vec<_> = listed.into_iter().map(|l| (l.key, l.size, l.version)).collect();
                    let expected = space.items.iter().filter(|(key, _)| {
                        key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after)
                    });
                    let expected = expected.map(|(key, item)| (key.clone(), item.value.len() as u64, item.version));
                    prop_assert_eq!(listed, expected.take(limit).collect::<Vec<_>>());
                }
                Act::Wait { ms } => now_ms += ms,
                Act::Sweep => drop(store.sweep(now_ms).unwrap()),
            }
            spaces.values_mut().for_each(|space| space.forget(now_ms));
            let counted: Vec<_> =
                store.spaces("t", now_ms).unwrap().into_iter().map(|s| (s.name, s.keys, s.bytes)).collect();
            let expected: Vec<_> = spaces
                .iter()
                .filter(|(_, space)| !space.items.is_empty())
                .map(|(name, space)| ((*name).to_owned(), space.items.len() as u64, space.bytes() as u64))
                .collect();
            prop_assert_eq!(counted, expected);
        }
    }
}
