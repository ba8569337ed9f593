//! A schema and a value: both are refused or checked in bounded time, with a bounded answer that does not depend on the
//! order of the schema's members.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use palisade::{
    json::{Canonical, SCHEMA_BYTES_MAX, Schema},
    step::FIXED,
};
use palisade_fuzz::Call;

const PROBLEMS_MAX: usize = 5;
const MESSAGE_BYTES_MAX: usize = 300;
const POINTER_BYTES_MAX: usize = 160 + '…'.len_utf8();

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(call) = Call::of(data) else { return Corpus::Reject };
    let Ok(schema) = Canonical::parse(&call.schema, SCHEMA_BYTES_MAX) else { return Corpus::Reject };
    let Ok(value) = Canonical::parse(&call.arguments, FIXED.arguments_bytes as usize) else { return Corpus::Reject };

    // A registered tool is read from the canonical bytes of its schema whenever the daemon starts.
    let stored = serde_json::from_str(schema.bytes()).expect("canonical bytes are read");
    let (first, stored) = (Schema::compile(schema.value()), Schema::compile(&stored));
    assert_eq!(first.is_ok(), stored.is_ok());
    let (Ok(first), Ok(stored)) = (first, stored) else { return Corpus::Reject };
    let checked = first.check(value.value());
    assert_eq!(checked.is_ok(), stored.check(value.value()).is_ok());
    if let Err(problems) = checked {
        assert!((1..=PROBLEMS_MAX).contains(&problems.len()), "{problems:?}");
        for problem in problems {
            assert!(problem.message.len() <= MESSAGE_BYTES_MAX && !problem.message.is_empty(), "{problem:?}");
            assert!(problem.pointer.len() <= POINTER_BYTES_MAX, "{problem:?}");
        }
    }
    Corpus::Keep
});
