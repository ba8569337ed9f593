//! Encoding and decoding are each other's opposites.

use proptest::prelude::*;

use super::{decode, encode};

#[test]
fn what_is_no_encoding_stays() {
    for (text, decoded) in
        [("%", "%"), ("%4", "%4"), ("%4g", "%4g"), ("%%41", "%A"), ("a+b%2B", "a b+"), ("%aF", "\u{af}")]
    {
        let decoded: Vec<u8> = decoded.chars().map(|c| c as u8).collect();
        assert_eq!(decode(text), decoded, "{text}");
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(bytes: Vec<u8>) {
        let encoded = encode(&bytes, b"");
        prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
        prop_assert_eq!(decode(&encoded), bytes);
    }
}
