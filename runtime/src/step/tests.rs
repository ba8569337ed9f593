#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn a_digest_is_written_as_it_is_read() {
    let digest = Digest::of(b"");
    let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(digest.to_string(), text);
    assert_eq!(text.parse::<Digest>().unwrap(), digest);
    assert!(text.to_uppercase().parse::<Digest>().is_err());
}

#[test]
fn a_limit_is_granted_from_one_to_its_maximum() {
    let range = Range { default: 5, max: 10 };
    assert_eq!(range.grant("x", None), Ok(5));
    assert_eq!(range.grant("x", Some(1)), Ok(1));
    assert_eq!(range.grant("x", Some(10)), Ok(10));
    for asked in [0, -1, 11, i64::MIN, i64::MAX] {
        assert_eq!(range.grant("x", Some(asked)), Err(BadLimit::OutOfRange { name: "x", asked, max: 10 }));
    }
}

proptest! {
    #[test]
    fn every_digest_survives_its_text(bytes: Vec<u8>) {
        let digest = Digest::of(&bytes);
        prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text: String) {
        let _ = text.parse::<Digest>();
        let _ = text.parse::<Name>();
        let _ = format!("sha256:{text}").parse::<Digest>();
    }

    #[test]
    fn a_name_is_safe_as_a_file_name(text in "[a-z0-9./ -]{0,70}") {
        if let Ok(name) = text.parse::<Name>() {
            prop_assert!(!name.as_str().contains(['/', '.', ' ']) && !name.as_str().is_empty());
        }
    }
}
