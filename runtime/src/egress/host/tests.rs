use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Host, BadHost> {
    text.parse()
}

#[test]
fn a_name_and_both_kinds_of_address_are_hosts() {
    assert_eq!(read("api.example.com"), Ok(Host::Name("api.example.com".into())));
    assert_eq!(read("localhost"), Ok(Host::Name("localhost".into())));
    assert_eq!(read("xn--bcher-kva.example"), Ok(Host::Name("xn--bcher-kva.example".into())));
    assert_eq!(read("10.1.2.3"), Ok(Host::V4([10, 1, 2, 3].into())));
    assert_eq!(read("[2001:db8::1]"), Ok(Host::V6("2001:db8::1".parse().unwrap())));
}

#[test]
fn another_spelling_is_refused_and_the_normal_one_told() {
    for (given, normal) in [
        ("API.example.com", "api.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("ex\u{ad}ample.com", "example.com"),
        ("example。com", "example.com"),
        ("１２７.0.0.1", "127.0.0.1"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
        ("[2001:db8:0::1]", "[2001:db8::1]"),
        ("[::FFFF:127.0.0.1]", "[::ffff:127.0.0.1]"),
    ] {
        let message = read(given).unwrap_err().to_string();
        assert!(message.ends_with(&format!("is not in its normal form: write `{normal}`")), "{given}: {message}");
        assert!(read(normal).is_ok());
    }
}

#[test]
fn a_message_shows_what_only_looks_like_ascii() {
    let message = read("ex\u{430}mple.com\u{202e}").unwrap_err().to_string();
    assert!(message.contains(r"ex\u{430}mple.com\u{202e}"), "{message}");
    assert!(read(&"a".repeat(100_000)).unwrap_err().to_string().len() < 300);
}

#[test]
fn a_name_has_253_bytes_and_its_labels_63() {
    let label = "a".repeat(63);
    let longest = [&label, &label, &label, &label[..61]].map(|label| label.to_string()).join(".");
    assert_eq!(longest.len(), 253);
    assert!(read(&longest).is_ok());
    assert!(read(&format!("a{longest}")).is_err());
    assert!(read(&format!("a{label}.example")).is_err());
}

/// What `inet_aton`, and so `getaddrinfo`, takes for an address: one to four numbers of any base, the last one filling up.
fn is_an_address_to_getaddrinfo(text: &str) -> bool {
    let numbers: Option<Vec<u64>> = text.split('.').map(number).collect();
    numbers.is_some_and(|numbers| match numbers.split_last() {
        Some((last, rest)) => {
            rest.len() < 4 && rest.iter().all(|part| *part < 256) && *last < 1 << (8 * (4 - rest.len()))
        }
        None => false,
    })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some("") => Some(0),
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

#[test]
fn the_reference_knows_every_form_of_loopback() {
    for text in ["127.1", "0177.0.0.1", "2130706433", "0x7f.1", "017700000001", "0x7f000001", "127.0.0.1", "1.0x"] {
        assert!(is_an_address_to_getaddrinfo(text), "{text}");
    }
    for text in ["127.0.0.256", "1.2.3.4.5", "a", "4294967296", ""] {
        assert!(!is_an_address_to_getaddrinfo(text), "{text}");
    }
}

proptest! {
    #[test]
    fn a_host_is_written_as_it_was_read(text in "[a-zA-Z0-9.x:\\[\\]-]{0,16}|[a-z0-9]{1,8}(\\.[a-z0-9-]{1,8}){0,4}|.{0,16}") {
        if let Ok(host) = read(&text) {
            prop_assert_eq!(host.to_string(), text);
        }
    }

    #[test]
    fn every_address_is_a_host(v4: u32, v6: u128) {
        let (v4, v6) = (Ipv4Addr::from_bits(v4), Ipv6Addr::from_bits(v6));
        prop_assert_eq!(read(&v4.to_string()), Ok(Host::V4(v4)));
        prop_assert_eq!(read(&format!("[{v6}]")), Ok(Host::V6(v6)));
        prop_assert!(read(&v6.to_string()).is_err());
    }

    #[test]
    fn no_name_is_an_address_to_anybody(text in "((0[xX])?[0-9a-fA-F]{0,4}\\.){0,3}(0[xX])?[0-9a-fA-F]{0,9}") {
        match read(&text) {
            Ok(Host::Name(name)) => prop_assert!(!is_an_address_to_getaddrinfo(&name), "{name}"),
            Ok(Host::V4(v4)) => prop_assert_eq!(v4.to_string(), text),
            Ok(Host::V6(_)) => prop_assert!(false),
            Err(_) => {}
        }
    }

    #[test]
    fn a_name_is_ascii_and_its_labels_are_whole(text in "[a-z0-9.ß①ａ-]{1,12}|\\PC{1,12}") {
        if let Ok(Host::Name(name)) = read(&text) {
            prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b)));
            prop_assert!(name.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')));
        }
    }
}
