use serde_json::{Value, json};

use super::{Fixture, entry, json_payload, text_payload, wait};
use crate::{
    journal::{Entry, ExportError, Options, PayloadPolicy, Verified, verify},
    step::Digest,
};

fn export(fixture: &Fixture, from: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    fixture.journal.export(from, true, &mut bytes).unwrap();
    bytes
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[test]
fn an_export_from_any_record_verifies() {
    let fixture = Fixture::of(300);
    let key = fixture.journal.public_key();
    for from in [1, 2, 3, 128, 255, 256, 257, 299, 300, 301] {
        let verified = verify(export(&fixture, from).as_slice(), &key, None).unwrap();
        let records = 301 - from;
        assert_eq!(verified, Verified { from, to: 300, records, payloads: 0, absent: 0, anchored: false });
    }
    for from in [0, 302, u64::MAX - 1] {
        assert!(matches!(fixture.journal.export(from, true, &mut Vec::new()), Err(ExportError::Read(_))));
    }
}

#[test]
fn an_empty_journal_can_be_exported() {
    let fixture = Fixture::new();
    let verified = verify(export(&fixture, 1).as_slice(), &fixture.journal.public_key(), None).unwrap();
    assert_eq!((verified.from, verified.to, verified.records), (1, 0, 0));
}

#[test]
fn a_held_checkpoint_anchors_an_export() {
    let fixture = Fixture::of(10);
    let held = fixture.journal.checkpoint();
    fixture.add(10);
    let key = fixture.journal.public_key();
    for from in [1, 5, 11] {
        assert!(verify(export(&fixture, from).as_slice(), &key, Some(&held)).unwrap().anchored);
    }
    let late = verify(export(&fixture, 12).as_slice(), &key, Some(&held)).unwrap_err();
    assert!(late.problem.contains("export from record 11 or before"), "{late}");
}

#[test]
fn a_shortened_journal_is_told_by_the_held_checkpoint_only() {
    let fixture = Fixture::of(10);
    let short = export(&fixture, 1);
    fixture.add(7);
    let key = fixture.journal.public_key();
    assert!(!verify(short.as_slice(), &key, None).unwrap().anchored);
    let bad = verify(short.as_slice(), &key, Some(&fixture.journal.checkpoint())).unwrap_err();
    assert_eq!(bad.sequence, Some(11));
    assert!(bad.problem.starts_with("truncated: 7 records"), "{bad}");
}

#[test]
fn a_rewritten_journal_does_not_match_the_held_checkpoint() {
    // The key signs two histories: only who held a checkpoint of the first one sees it.
    let fixture = Fixture::of(10);
    let folder = fixture.closed();
    let copy = tempfile::TempDir::new().unwrap();
    for name in ["journal.db", "journal.key"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let open = |folder: tempfile::TempDir| Fixture {
        journal: crate::journal::Journal::open(folder.path(), Options::default()).unwrap().0,
        folder,
    };
    let (first, second) = (open(folder), open(copy));
    first.append(Entry { body: json!({ "deleted": "all" }), ..entry(10) });
    second.append(Entry { body: json!({ "deleted": "nothing" }), ..entry(10) });
    second.append(entry(11));
    let (key, held) = (first.journal.public_key(), first.journal.checkpoint());
    assert!(verify(export(&second, 1).as_slice(), &key, None).is_ok());
    assert_eq!(verify(export(&second, 1).as_slice(), &key, Some(&held)).unwrap_err().sequence, Some(11));
}

#[test]
fn another_journals_key_verifies_nothing() {
    let (fixture, other) = (Fixture::of(3), Fixture::of(3));
    let bytes = export(&fixture, 1);
    let bad = verify(bytes.as_slice(), &other.journal.public_key(), None).unwrap_err();
    assert!(bad.problem.contains("the public key is of"), "{bad}");
    let held = other.journal.checkpoint();
    assert_eq!(verify(bytes.as_slice(), &fixture.journal.public_key(), Some(&held)).unwrap_err().line, 0);
    // Even under the same name, the key is what counts.
    let name = fixture.journal.public_key().name().to_owned();
    let forged = String::from_utf8(export(&other, 1)).unwrap().replace(other.journal.public_key().name(), &name);
    assert!(verify(forged.as_bytes(), &fixture.journal.public_key(), None).is_err());
}

#[test]
fn payloads_follow_their_records() {
    let payloads = PayloadPolicy { redact: vec!["password".to_owned()], bytes_max: 1_000, ..PayloadPolicy::default() };
    let fixture = Fixture::with(Options { payloads, ..Options::default() });
    let payloads = vec![
        text_payload("whole"),
        json_payload(r#"{"password":"hunter2","user":"ann"}"#),
        text_payload(&"large".repeat(1_000)),
        text_payload("forgotten"),
    ];
    fixture.append(Entry { payloads, ..entry(0) });
    assert!(wait(fixture.journal.delete_payload(Digest::of(b"forgotten"))).unwrap());
    let bytes = export(&fixture, 1);
    let verified = verify(bytes.as_slice(), &fixture.journal.public_key(), None).unwrap();
    assert_eq!((verified.payloads, verified.absent), (2, 1));
    assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"));
    let lines = lines(&bytes);
    let kept: Vec<_> =
        lines[1]["body"]["payloads"].as_array().unwrap().iter().map(|note| note["kept"].clone()).collect();
    assert_eq!(kept, ["whole", "redacted", "none", "whole"]);
    assert_eq!(lines[2]["payload"], json!(Digest::of(b"whole").to_string()));
    assert_eq!(lines[3]["payload"], lines[1]["body"]["payloads"][1]["kept_digest"]);
    assert_eq!(lines[4]["absent"], json!(true));
    assert!(lines[5]["checkpoint"].is_string());

    let mut bare = Vec::new();
    fixture.journal.export(1, false, &mut bare).unwrap();
    assert_eq!(verify(bare.as_slice(), &fixture.journal.public_key(), None).unwrap().payloads, 0);
    assert_eq!(self::lines(&bare).len(), 3);
}

#[test]
fn what_a_guest_writes_cannot_pose_as_a_record() {
    let fixture = Fixture::new();
    let forged = "\"}}\n{\"sequence\":2,\"kind\":\"outcome\"}\n{\"checkpoint\":\"";
    fixture.append(Entry { tenant: forged.to_owned(), body: json!({ forged: forged }), ..entry(0) });
    let bytes = export(&fixture, 1);
    assert_eq!(lines(&bytes).len(), 3);
    assert_eq!(verify(bytes.as_slice(), &fixture.journal.public_key(), None).unwrap().records, 1);
}
