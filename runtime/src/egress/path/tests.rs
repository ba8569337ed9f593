use proptest::prelude::*;

use super::*;

#[test]
fn a_path_and_a_query_come_apart_at_the_first_question_mark() {
    assert_eq!(split("/"), Ok(("/", None)));
    assert_eq!(split("/a/b?"), Ok(("/a/b", Some(""))));
    assert_eq!(split("/a/?b?c=/d"), Ok(("/a/", Some("b?c=/d"))));
}

#[test]
fn every_problem_has_a_name() {
    use BadPath::*;
    let text = String::from;
    for (target, problem) in [
        ("", NoSlash(text(""))),
        ("*", NoSlash(text("*"))),
        ("http://evil.test/", NoSlash(text("http://evil.test/"))),
        ("//evil.test/", EmptySegment),
        ("/a//b", EmptySegment),
        ("/a//", EmptySegment),
        ("/..", DotSegment(text(".."))),
        ("/a/./b", DotSegment(text("."))),
        ("/a/..;x=y/b", DotSegment(text("..;x=y"))),
        ("/a/;/b", DotSegment(text(";"))),
        ("/a/..%20/b", DotSegment(text("..%20"))),
        ("/a b", Character(text(" "))),
        ("/a\\b", Character(text("\\\\"))),
        ("/a#b", Character(text("#"))),
        ("/é", Character(text("\\u{e9}"))),
        ("/a?b\tc", Character(text("\\t"))),
        ("/%", Percent(text("%"))),
        ("/%4", Percent(text("%4"))),
        ("/%zz", Percent(text("%zz"))),
        ("/%c3%a9", Percent(text("%c3"))),
        ("/a?%g0", Percent(text("%g0"))),
        ("/%2F", Encoded(text("%2F"))),
        ("/%5C", Encoded(text("%5C"))),
        ("/%2E%2E/a", Encoded(text("%2E"))),
        ("/%252F", Encoded(text("%25"))),
        ("/%00", Encoded(text("%00"))),
        ("/%7F", Encoded(text("%7F"))),
        ("/%61", Needless(text("%61"), 'a')),
        ("/%7E", Needless(text("%7E"), '~')),
        ("/%C0%AF", Text(text("%C0%AF"))),
        ("/%FF", Text(text("%FF"))),
        ("/%C2%85", Text(text("%C2%85"))),
    ] {
        assert_eq!(split(target), Err(problem), "{target}");
    }
}

#[test]
fn a_twin_in_another_normal_form_is_refused() {
    for (twin, what) in [
        ("/e%CC%81", "é in two characters"),
        ("/%EF%AC%81le", "the ligature fi"),
        ("/a%EF%BC%8Fb", "a wide slash"),
        ("/%EF%BC%8E%EF%BC%8E", "wide dots"),
        ("/%E2%80%A5", "two dots in one character"),
        ("/%EF%BC%85", "a wide percent sign"),
        ("/%EF%BC%BC", "a wide backslash"),
        ("/%E2%84%80", "a/c in one character"),
    ] {
        assert!(matches!(check(twin), Err(BadPath::Text(_))), "{what}");
    }
    assert_eq!(check("/caf%C3%A9/%E6%97%A5%E6%9C%AC/%F0%9F%90%9A"), Ok(()));
}

#[test]
fn a_target_has_8_kib() {
    let longest = format!("/{}", "a".repeat(TARGET_BYTES_MAX - 1));
    assert!(split(&longest).is_ok());
    assert_eq!(split(&format!("{longest}?")), Err(BadPath::TooLong(TARGET_BYTES_MAX + 1)));
}

/// Texts near the border: most of their characters mean something to somebody.
const NEAR: &str = "/?([a%./;\\\\?~ ]|%2[EeFf5]|%3[Bb]|%C3%A9|%6[01]|\\.\\.|[^\\x00-\\x7f]){0,8}";

/// Encodes a text as a good client does.
fn encoded(text: &str) -> String {
    let keep = |byte: &u8| is_unreserved(*byte);
    text.bytes().map(|b| if keep(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

proptest! {
    #[test]
    fn no_target_makes_it_panic(target: String) {
        let _ = split(&target);
    }

    #[test]
    fn what_passes_has_no_other_spelling(path in NEAR) {
        if check(&path).is_ok() {
            let bytes = path.as_bytes();
            let mut decoded = Vec::new();
            let mut at = 0;
            while at < bytes.len() {
                let encoded = (bytes[at] == b'%').then(|| u8::from_str_radix(&path[at + 1..at + 3], 16).unwrap());
                prop_assert!(encoded != Some(bytes[at]));
                decoded.push(encoded.unwrap_or(bytes[at]));
                at += if encoded.is_some() { 3 } else { 1 };
            }
            let text = String::from_utf8(decoded).unwrap();
            // Whoever decodes once more, or cuts parameters off, still sees no step up and no new segment.
            prop_assert!(!text.contains(['%', '\\', '\0']));
            prop_assert_eq!(text.matches('/').count(), path.matches('/').count());
            let mut segments = text.split('/').map(|segment| segment.split(';').next().unwrap().trim());
            prop_assert!(segments.all(|segment| segment != "." && segment != ".."));
        }
    }

    #[test]
    fn what_a_good_client_encodes_passes(text in "[a-zA-Z0-9 ~_:@!$&'()*+,=é日-]{0,20}") {
        let name = format!("x{text}x");
        prop_assert_eq!(check(&format!("/a/{}/b", encoded(&name))), Ok(()));
        prop_assert_eq!(check_query(&encoded(&text)), Ok(()));
    }
}
