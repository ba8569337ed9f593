use proptest::prelude::*;

use super::Fixture;
use crate::journal::{BadCheckpoint, Checkpoint, PublicKey, key::Key};

/// The key of the examples of Go's `sumdb/note`.
const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const GO_SECRET: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz\n";

#[test]
fn keys_are_those_of_other_tools_for_signed_notes() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, GO_SECRET).unwrap();
    let key = Key::read(&path).unwrap().unwrap();
    assert_eq!(key.public().to_string(), GO_KEY);
    assert_eq!(GO_KEY.parse::<PublicKey>().unwrap(), key.public());
}

#[test]
fn keys_that_are_damaged_are_refused() {
    for at in 0..GO_KEY.len() {
        let mut text = GO_KEY.as_bytes().to_vec();
        text[at] ^= 1;
        assert!(String::from_utf8(text).unwrap().parse::<PublicKey>().is_err(), "byte {at}");
    }
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("key");
    for bad in ["", "PRIVATE+KEY+x", &GO_SECRET.replace('Y', "Z"), &GO_SECRET.replace("c7", "c8")] {
        std::fs::write(&path, bad).unwrap();
        assert!(Key::read(&path).is_err());
    }
}

#[test]
fn checkpoints_have_the_form_of_signed_notes() {
    let fixture = Fixture::of(3);
    let (note, key) = (fixture.journal.checkpoint(), fixture.journal.public_key());
    let lines: Vec<_> = note.split('\n').collect();
    assert_eq!(lines.len(), 6);
    assert_eq!((lines[0], lines[1], lines[3], lines[5]), (key.name(), "3", "", ""));
    assert!(lines[4].starts_with(&format!("\u{2014} {} ", key.name())));
    assert_eq!(Checkpoint::open(&note, &key).unwrap().text(), note[..note.find("\n\n").unwrap() + 1]);
}

#[test]
fn signatures_of_others_do_not_count() {
    let (fixture, other) = (Fixture::of(3), Fixture::new());
    let (note, key) = (fixture.journal.checkpoint(), fixture.journal.public_key());
    let line = other.journal.checkpoint().split_once("\n\n").unwrap().1.to_owned();
    let witnessed = format!("{note}{line}");
    assert_eq!(Checkpoint::open(&witnessed, &key).unwrap().size, 3);
    let text = note.split_once("\n\n").unwrap().0;
    let unsigned = format!("{text}\n\n{line}");
    assert!(matches!(Checkpoint::open(&unsigned, &key), Err(BadCheckpoint::Unsigned(_))));
    let other = other.journal.public_key();
    assert!(matches!(Checkpoint::open(&note, &other), Err(BadCheckpoint::OtherOrigin { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_checkpoint_is_refused(
        at in any::<prop::sample::Index>(), c in any::<char>(), insert in any::<bool>(),
    ) {
        let note = note();
        let mut chars: Vec<char> = note.0.chars().collect();
        let at = at.index(chars.len());
        if insert { chars.insert(at, c) } else { chars[at] = c }
        let changed: String = chars.into_iter().collect();
        prop_assert!(changed == note.0 || Checkpoint::open(&changed, &note.1).is_err());
    }

    #[test]
    fn any_text_is_read_as_a_checkpoint_or_refused(text in "(?s).{0,200}") {
        prop_assert!(Checkpoint::open(&text, &note().1).is_err());
        prop_assert!(text.parse::<PublicKey>().is_err());
    }
}

fn note() -> &'static (String, PublicKey) {
    static NOTE: std::sync::OnceLock<(String, PublicKey)> = std::sync::OnceLock::new();
    NOTE.get_or_init(|| {
        let fixture = Fixture::of(3);
        (fixture.journal.checkpoint(), fixture.journal.public_key())
    })
}
