//! What strict JSON accepts is bounded, is what any other reader sees, and its canonical bytes are read as themselves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade::json::Canonical;
use serde_json::Value;

const BYTES_MAX: usize = 2048;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(read) = Canonical::parse(text, BYTES_MAX) else { return };
    assert!(text.len() <= BYTES_MAX && read.bytes().len() <= BYTES_MAX);

    let again = Canonical::parse(read.bytes(), BYTES_MAX).expect("canonical bytes are accepted");
    assert_eq!(read, again);
    assert_eq!(read.digest(), again.digest());

    let spaced = serde_json::to_string_pretty(read.value()).expect("a value can be written");
    let spaced = Canonical::parse(&spaced, usize::MAX).expect("spaces do not matter");
    assert_eq!(read, spaced);

    let other: Value = serde_json::from_str(text).expect("a lenient reader takes what a strict one does");
    let other = serde_json_canonicalizer::to_string(&other).expect("a value can be written");
    assert_eq!(read.bytes(), other);
    // The standard library rounds as IEEE 754 says.
    if let (Some(ours), Ok(number)) = (read.value().as_f64(), text.trim().parse::<f64>()) {
        assert_eq!(ours, number);
    }
});
