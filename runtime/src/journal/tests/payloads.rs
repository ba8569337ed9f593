use serde_json::{Value, json};

use super::{Fixture, entry, json_payload, text_payload, wait};
use crate::{
    journal::{Entry, Options, Payload, PayloadPolicy},
    step::Digest,
};

fn redacting(keys: &[&str]) -> Fixture {
    let redact = keys.iter().map(|key| key.to_string()).collect();
    let payloads = PayloadPolicy { redact, ..PayloadPolicy::default() };
    Fixture::with(Options { payloads, ..Options::default() })
}

/// Appends a payload. Returns what the record says about it, and what is kept.
fn keep(fixture: &Fixture, payload: Payload) -> (Value, Option<String>) {
    let digest = Digest::of(&payload.bytes);
    let receipt = fixture.append(Entry { payloads: vec![payload], ..entry(0) });
    let record = fixture.journal.get(receipt.sequence).unwrap().unwrap().record().unwrap();
    let kept = fixture.journal.payload(digest).unwrap().map(|bytes| String::from_utf8(bytes).unwrap());
    (record.body["payloads"][0].clone(), kept)
}

#[test]
fn a_payload_is_found_by_its_digest() {
    let fixture = Fixture::new();
    let (note, kept) = keep(&fixture, text_payload("hello"));
    let digest = Digest::of(b"hello").to_string();
    assert_eq!(note, json!({ "digest": digest, "kept": "whole", "media_type": "text/plain", "size": 5 }));
    assert_eq!(kept.as_deref(), Some("hello"));
    assert_eq!(fixture.journal.payload(Digest::of(b"other")).unwrap(), None);
}

#[test]
fn secret_values_are_taken_out_at_any_depth_and_in_any_case() {
    let fixture = redacting(&["password", "Authorization"]);
    for (secret, kept_as) in [
        (r#"{"password":"s3cret"}"#, r#"{"password":"[redacted]"}"#),
        (r#"{"a":[{"PassWord":{"x":["s3cret"]}}]}"#, r#"{"a":[{"PassWord":"[redacted]"}]}"#),
        (r#"{"AUTHORIZATION":"s3cret","n":1.5}"#, r#"{"AUTHORIZATION":"[redacted]","n":1.5}"#),
        (r#"{"pass\u0077ord":"s3cret"}"#, r#"{"password":"[redacted]"}"#),
        // A reader that keeps the last of two would see no secret here.
        (r#"{"a":{"password":"s3cret"},"a":1}"#, r#"{"a":1}"#),
    ] {
        let (note, kept) = keep(&fixture, json_payload(secret));
        assert_eq!(kept.as_deref(), Some(kept_as));
        assert_eq!(note["kept"], "redacted");
        assert_eq!(note["digest"], json!(Digest::of(secret.as_bytes()).to_string()));
        assert_eq!(note["kept_digest"], json!(Digest::of(kept_as.as_bytes()).to_string()));
    }
}

#[test]
fn what_has_no_secret_is_kept_byte_for_byte() {
    let fixture = redacting(&["password"]);
    for text in [r#"{ "user" : "ann" }"#, "[1, 2]", "\"password\""] {
        assert_eq!(keep(&fixture, json_payload(text)).1.as_deref(), Some(text));
    }
    assert_eq!(keep(&fixture, text_payload("password: x")).1.as_deref(), Some("password: x"));
}

#[test]
fn json_that_cannot_be_read_is_not_kept() {
    let fixture = redacting(&["password"]);
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let two = "{\"password\":1}\n{\"password\":2}".to_owned();
    for text in [r#"{"password":"s3cret""#.to_owned(), deep, two, "\u{feff}{\"password\":1}".to_owned()] {
        let (note, kept) = keep(&fixture, text_payload(&text));
        assert_eq!((note["kept"].as_str(), kept), (Some("none"), None), "{text}");
    }
    assert_eq!(keep(&fixture, json_payload("password")).1, None);
}

#[test]
fn what_is_too_large_or_unwanted_is_only_named() {
    let limited = PayloadPolicy { bytes_max: 10, ..PayloadPolicy::default() };
    let nothing = PayloadPolicy { keep: false, ..PayloadPolicy::default() };
    let boundless = PayloadPolicy { bytes_max: u64::MAX, ..PayloadPolicy::default() };
    for (payloads, text, kept) in [
        (limited.clone(), "1234567890".to_owned(), "whole"),
        (limited, "12345678901".to_owned(), "none"),
        (nothing, "1".to_owned(), "none"),
        (boundless.clone(), "x".repeat(1 << 20), "whole"),
        (boundless, "x".repeat((1 << 20) + 1), "none"),
    ] {
        let fixture = Fixture::with(Options { payloads, ..Options::default() });
        let (note, bytes) = keep(&fixture, text_payload(&text));
        assert_eq!((note["kept"].as_str(), bytes.is_some()), (Some(kept), kept == "whole"));
    }
}

#[test]
fn a_deleted_payload_is_gone_from_the_files_and_the_chain_holds() {
    let fixture = Fixture::new();
    let secret = "a text that is easy to find in a file";
    keep(&fixture, text_payload(secret));
    let in_files = |fixture: &Fixture| {
        ["journal.db", "journal.db-wal"].iter().any(|name| {
            let bytes = std::fs::read(fixture.path().join(name)).unwrap();
            bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
        })
    };
    assert!(in_files(&fixture));
    assert!(wait(fixture.journal.delete_payload(Digest::of(secret.as_bytes()))).unwrap());
    assert!(!wait(fixture.journal.delete_payload(Digest::of(secret.as_bytes()))).unwrap());
    assert!(!in_files(&fixture));
    assert_eq!(fixture.journal.payload(Digest::of(secret.as_bytes())).unwrap(), None);
    let folder = fixture.closed();
    assert!(crate::journal::Journal::open(folder.path(), Options::default()).is_ok());
}

#[test]
fn the_same_payload_can_be_kept_whole_and_redacted() {
    let secret = r#"{"password":"x"}"#;
    let fixture = redacting(&["password"]);
    keep(&fixture, json_payload(secret));
    let folder = fixture.closed();
    // The policy was relaxed since.
    let journal = crate::journal::Journal::open(folder.path(), Options::default()).unwrap().0;
    let fixture = Fixture { journal, folder };
    assert_eq!(keep(&fixture, json_payload(secret)).1.as_deref(), Some(secret));
    let mut export = Vec::new();
    fixture.journal.export(1, true, &mut export).unwrap();
    let verified = crate::journal::verify(export.as_slice(), &fixture.journal.public_key(), None).unwrap();
    assert_eq!(verified.payloads, 2);
    wait(fixture.journal.delete_payload(Digest::of(secret.as_bytes()))).unwrap();
    assert_eq!(fixture.journal.payload(Digest::of(secret.as_bytes())).unwrap(), None);
}

#[test]
fn payloads_that_look_alike_once_redacted_are_kept_apart() {
    let fixture = redacting(&["password"]);
    let (one, two) = (r#"{"password":1}"#, r#"{"password":2}"#);
    let kept = r#"{"password":"[redacted]"}"#;
    assert_eq!(keep(&fixture, json_payload(one)).1.as_deref(), Some(kept));
    assert_eq!(keep(&fixture, json_payload(two)).1.as_deref(), Some(kept));
    assert!(wait(fixture.journal.delete_payload(Digest::of(one.as_bytes()))).unwrap());
    assert_eq!(fixture.journal.payload(Digest::of(one.as_bytes())).unwrap(), None);
    assert!(fixture.journal.payload(Digest::of(two.as_bytes())).unwrap().is_some());
}
