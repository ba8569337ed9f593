//! Tests of reading and of canonical bytes.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::json::{BadJson, Canonical, DEPTH_MAX};

fn canonical(text: &str) -> String {
    Canonical::parse(text, 1 << 20).unwrap().bytes().to_owned()
}

fn refusal(text: &str) -> BadJson {
    Canonical::parse(text, 1 << 20).unwrap_err()
}

#[test]
fn members_are_sorted_as_rfc_8785_says() {
    let text = r#"{"\u20ac": "Euro", "\r": "CR", "\ufb33": "Hebrew", "1": "One", "\ud83d\ude00": "Emoji", "\u0080": "Control", "\u00f6": "o"}"#;
    let keys = ["\\r", "1", "\u{80}", "ö", "€", "😀", "\u{fb33}"];
    let bytes = canonical(text);
    let places: Vec<_> = keys.iter().map(|key| bytes.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{bytes}");
}

#[test]
fn numbers_and_strings_are_written_as_rfc_8785_says() {
    let text = r#"{"numbers": [333333333.33333329, 4.50, 2e-3, 0.000000000000000000000000001], "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#;
    let expected = r#"{"literals":[null,true,false],"numbers":[333333333.3333333,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#;
    assert_eq!(canonical(text), expected);
}

#[test]
fn a_key_written_twice_is_refused_at_any_depth() {
    for (text, place) in [
        (r#"{"a":1,"a":2}"#, "/a"),
        (r#"{"a":1,"\u0061":2}"#, "/a"),
        (r#"[0,{"x":{"a/b":1,"c":3,"a/b":1}}]"#, "/1/x/a~1b"),
    ] {
        assert!(matches!(refusal(text), BadJson::DuplicateKey { at } if at.as_str() == place), "{text}");
    }
}

#[test]
fn numbers_that_readers_disagree_about_are_refused() {
    for number in [
        "9007199254740992",
        "-9007199254740992",
        "9007199254740992.0",
        "9007199254740993",
        "-9223372036854775809",
        "18446744073709551616",
        "1e16",
        "-1e300",
        "9007199254740991.5",
        "90071992547409920e-1",
    ] {
        let text = format!(r#"{{"n":[{number}]}}"#);
        assert!(matches!(refusal(&text), BadJson::BigNumber { at } if at.as_str() == "/n/0"), "{number}");
    }
    for text in ["1e400", "NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "0x1", "1e"] {
        assert!(matches!(refusal(text), BadJson::Syntax { .. }), "{text}");
    }
}

#[test]
fn numbers_of_one_value_become_one() {
    for (one, other) in [
        ("-0", "0"),
        ("-0.0", "0"),
        ("-0e7", "0"),
        ("1.0", "1"),
        ("1e2", "100"),
        ("9007199254740991.0", "9007199254740991"),
        ("-9007199254740991", "-9007199254740991.0"),
        ("0.10000000000000000001", "0.1"),
        ("1e-400", "0"),
    ] {
        let (one, other) = (Canonical::parse(one, 100).unwrap(), Canonical::parse(other, 100).unwrap());
        assert_eq!(one, other);
        assert_eq!(one.digest(), other.digest());
    }
}

#[test]
fn a_string_and_a_number_stay_different() {
    assert_ne!(
        Canonical::parse(r#"{"id":"7"}"#, 100).unwrap().digest(),
        Canonical::parse(r#"{"id":7}"#, 100).unwrap().digest()
    );
}

#[test]
fn half_a_surrogate_pair_is_refused() {
    for text in
        [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\udc00\ud800""#, r#"{"\ud800":1}"#, r#""\ud800x""#]
    {
        assert!(matches!(refusal(text), BadJson::Syntax { .. }), "{text}");
    }
    assert_eq!(canonical(r#""\ud83d\ude00""#), "\"😀\"");
}

#[test]
fn a_nul_character_is_allowed() {
    assert_eq!(Canonical::parse(r#""\u0000""#, 100).unwrap().value(), &json!("\0"));
}

#[test]
fn a_byte_order_mark_is_refused() {
    assert!(matches!(refusal("\u{feff}{}"), BadJson::ByteOrderMark));
}

#[test]
fn what_is_not_one_json_value_is_refused() {
    for text in [
        "",
        " ",
        "{} {}",
        "[] x",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "'a'",
        "[1 2]",
        "// c\n1",
        "\"\n\"",
        "nul",
        "[",
        "\u{a0}1",
    ] {
        assert!(matches!(refusal(text), BadJson::Syntax { .. }), "{text:?}");
    }
}

#[test]
fn nesting_ends_at_the_limit() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert!(Canonical::parse(&nested(DEPTH_MAX), 1 << 20).is_ok());
        assert!(matches!(refusal(&nested(DEPTH_MAX + 1)), BadJson::TooDeep { .. }));
        assert!(matches!(refusal(&open.repeat(100_000)), BadJson::TooDeep { .. }));
    }
}

#[test]
fn the_limit_of_bytes_holds_for_the_text_and_for_its_canonical_form() {
    assert!(Canonical::parse("[1]", 3).is_ok());
    assert!(matches!(Canonical::parse("[1] ", 3), Err(BadJson::TooLong { max: 3 })));
    assert!(matches!(Canonical::parse("[1e15]", 6), Err(BadJson::TooLong { max: 6 })));
}

#[test]
fn an_error_is_short_however_long_the_text() {
    let key = "ä/".repeat(50_000);
    for text in [format!(r#"{{"{key}":1,"{key}":2}}"#), format!(r#"{{"{key}":}}"#), format!(r#"{{"{key}":1e99}}"#)] {
        let message = refusal(&text).to_string();
        assert!(message.len() < 400 && message.contains('…'), "{message}");
    }
}

/// Values that a text can hold.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::from),
        (-1e15..1e15).prop_map(Value::from),
        prop::num::f64::SUBNORMAL.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_bytes_are_their_own_canonical_form(value in values()) {
        let first = Canonical::parse(&value.to_string(), 1 << 20).unwrap();
        let again = Canonical::parse(first.bytes(), 1 << 20).unwrap();
        prop_assert_eq!(first.bytes(), again.bytes());
        prop_assert_eq!(first.value(), again.value());
    }

    #[test]
    fn spaces_and_the_order_of_members_do_not_matter(members in prop::collection::btree_map("[a-zé😀]{0,4}", values(), 0..6)) {
        let compact = Value::Object(members.clone().into_iter().collect());
        let turned = Value::Object(members.into_iter().rev().collect());
        let spaced = serde_json::to_string_pretty(&turned).unwrap();
        prop_assert_eq!(canonical(&compact.to_string()), canonical(&spaced));
    }

    #[test]
    fn any_text_is_read_or_refused(text in r#"[\[\]{}:,"\\ud80eE0-9.\-a\u{feff}\u{0}]{0,40}"#) {
        if let Ok(read) = Canonical::parse(&text, 64) {
            let again = Canonical::parse(read.bytes(), 64).unwrap();
            prop_assert_eq!(read.value(), again.value());
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
        }
    }
}
