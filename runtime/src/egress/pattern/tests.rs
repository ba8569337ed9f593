use proptest::prelude::*;

use super::*;

fn host(text: &str) -> HostPattern {
    text.parse().unwrap()
}

fn path(text: &str) -> PathPattern {
    text.parse().unwrap()
}

fn admits_host(pattern: &str, name: &str) -> bool {
    host(pattern).admits(&name.parse().unwrap())
}

#[test]
fn a_method_is_upper_case_and_not_for_proxies() {
    for method in ["GET", "HEAD", "POST", "PROPFIND", "M-SEARCH", "VERSION-CONTROL"] {
        assert_eq!(method.parse::<MethodName>().unwrap().to_string(), method);
    }
    for method in ["", "get", "Get", "-GET", "GET ", "GE T", "GET\r\n", "GÉT", "G3T", "CONNECT", "TRACE", "TRACK"] {
        assert!(method.parse::<MethodName>().is_err(), "{method}");
    }
    assert!("A".repeat(METHOD_BYTES_MAX + 1).parse::<MethodName>().is_err());
}

#[test]
fn a_host_pattern_without_a_star_is_that_host_only() {
    assert!(admits_host("example.com", "example.com"));
    for other in ["api.example.com", "example.co", "xexample.com", "com", "10.0.0.1"] {
        assert!(!admits_host("example.com", other), "{other}");
    }
    assert!(admits_host("10.1.2.3", "10.1.2.3"));
    assert!(!admits_host("10.1.2.3", "[::ffff:10.1.2.3]"));
    assert!(admits_host("[::1]", "[::1]"));
}

#[test]
fn a_wildcard_stands_for_exactly_one_label() {
    for name in ["api.example.com", "x.example.com", "xn--bcher-kva.example.com"] {
        assert!(admits_host("*.example.com", name), "{name}");
    }
    for name in ["example.com", "a.b.example.com", "apiexample.com", "api.example.org", "example.com.evil.test"] {
        assert!(!admits_host("*.example.com", name), "{name}");
    }
}

#[test]
fn a_wildcard_needs_two_labels_after_it() {
    for text in ["*", "*.", "*.com", "*.*.com", "a.*.com", "*a.example.com", "**.example.com", "*.10.0.0.1", "*.[::1]"]
    {
        assert!(text.parse::<HostPattern>().is_err(), "{text}");
    }
    assert_eq!(
        "*.com".parse::<HostPattern>().unwrap_err().to_string(),
        "`*.com` is not a wildcard: write `*.` before a name of two labels or more, `*.example.com`"
    );
}

#[test]
fn a_host_pattern_is_within_another_that_admits_all_of_it() {
    let within = |inner: &str, outer: &str| host(inner).within(&host(outer));
    assert!(within("a.example.com", "a.example.com"));
    assert!(within("a.example.com", "*.example.com"));
    assert!(within("*.example.com", "*.example.com"));
    for (inner, outer) in [
        ("*.example.com", "a.example.com"),
        ("*.a.example.com", "*.example.com"),
        ("example.com", "*.example.com"),
        ("b.example.com", "a.example.com"),
        ("10.0.0.1", "*.example.com"),
    ] {
        assert!(!within(inner, outer), "{inner} in {outer}");
    }
}

#[test]
fn a_path_pattern_stands_for_whole_segments() {
    for (pattern, admitted, refused) in [
        ("/", &["/"][..], &["/a"][..]),
        ("/**", &["/", "/a", "/a/", "/a/b/c"], &[]),
        ("/a", &["/a"], &["/", "/a/", "/A", "/ab", "/a/b", "/a;x", "/a."]),
        ("/a/", &["/a/"], &["/a", "/a/b"]),
        ("/a/**", &["/a", "/a/", "/a/b", "/a/b/c/"], &["/", "/ab", "/b/a", "/A/b"]),
        ("/a/*", &["/a/b", "/a/*", "/a/b;c"], &["/a", "/a/", "/a/b/", "/a/b/c"]),
        ("/a/*/", &["/a/b/"], &["/a/b", "/a//"]),
        ("/*/b", &["/a/b"], &["/b", "/a/a/b", "/a/b/"]),
        ("/repos/acme/*/issues", &["/repos/acme/x/issues"], &["/repos/acme/issues", "/repos/acme/x/y/issues"]),
        ("/*/**", &["/a", "/a/", "/a/b"], &["/"]),
        ("/caf%C3%A9", &["/caf%C3%A9"], &["/cafe"]),
    ] {
        let pattern = path(pattern);
        for text in admitted {
            assert!(pattern.admits(text), "{pattern} admits {text}");
        }
        for text in refused {
            assert!(!pattern.admits(text), "{pattern} does not admit {text}");
        }
    }
}

#[test]
fn a_path_pattern_that_could_match_nothing_is_refused() {
    for text in [
        "",
        "a",
        "*",
        "**",
        "a/**",
        "//",
        "/a//b",
        "//**",
        "/a/../b",
        "/./**",
        "/a*",
        "/*a",
        "/***",
        "/**/a",
        "/a/**/b",
        "/a**",
        "/%61",
        "/%2F",
        "/é",
        "/a?b",
        "/a#b",
        "/a b",
        "/a/**/",
        "https://x/",
        "/[a]",
        "/{id}",
    ] {
        assert!(text.parse::<PathPattern>().is_err(), "{text}");
    }
    assert!(format!("/{}", "a".repeat(PATTERN_BYTES_MAX)).parse::<PathPattern>().is_err());
}

#[test]
fn a_media_pattern_is_a_type_or_all_of_one() {
    let admits = |pattern: &str, text: &str| pattern.parse::<MediaPattern>().unwrap().admits(text);
    assert!(admits("application/json", "application/json"));
    assert!(admits("text/*", "text/plain"));
    for (pattern, text) in [
        ("application/json", "application/json5"),
        ("application/json", "application/vnd.github+json"),
        ("text/*", "texts/plain"),
        ("text/*", "application/text"),
    ] {
        assert!(!admits(pattern, text), "{text}");
    }
    for text in
        ["", "*", "*/*", "json", "text/", "/plain", "Text/plain", "text/pl*", "text/plain; a=b", "a/b/c", "a/b c"]
    {
        assert!(text.parse::<MediaPattern>().is_err(), "{text}");
    }
}

#[test]
fn a_header_that_can_be_filled_is_no_other_headers_place() {
    assert_eq!("Idempotency-Key".parse::<FieldName>().unwrap().to_string(), "idempotency-key");
    for text in ["", "a b", "host", "Authorization", "content-length", "Connection", "cookie", "proxy-x", "if_match"] {
        assert!(text.parse::<FieldName>().is_err(), "{text}");
    }
}

/// The meaning of a path pattern, said once more: over the lists of segments.
fn reference(parts: &[&str], segments: &[&str]) -> bool {
    match (parts, segments) {
        ([], []) | (["**"], _) => true,
        ([part, parts @ ..], [segment, segments @ ..]) => {
            (part == segment || *part == "*" && !segment.is_empty()) && reference(parts, segments)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn a_pattern_is_written_as_it_was_read(text in "[*./a-z]{0,12}|.{0,16}") {
        if let Ok(pattern) = text.parse::<HostPattern>() {
            prop_assert_eq!(pattern.to_string(), text.clone());
        }
        if let Ok(pattern) = text.parse::<PathPattern>() {
            prop_assert_eq!(pattern.to_string(), text.clone());
        }
        if let Ok(pattern) = text.parse::<MediaPattern>() {
            prop_assert_eq!(pattern.to_string(), text.clone());
        }
        if let Ok(method) = text.to_uppercase().parse::<MethodName>() {
            prop_assert_eq!(method.to_string(), text.to_uppercase());
        }
        if let Ok(field) = text.parse::<FieldName>() {
            prop_assert_eq!(field.to_string(), text.to_ascii_lowercase());
        }
    }

    #[test]
    fn a_path_pattern_means_what_the_reference_says(pattern in "(/(a|b|\\*)){0,4}(/|/\\*\\*)?", text in "(/(a|b|c)){0,4}/?") {
        if let Ok(pattern) = pattern.parse::<PathPattern>() {
            let parts: Vec<&str> = pattern.0.split('/').collect();
            let segments: Vec<&str> = text.split('/').collect();
            prop_assert_eq!(pattern.admits(&text), reference(&parts, &segments), "{} {}", pattern, text);
        }
    }

    #[test]
    fn a_pattern_without_stars_admits_itself_only(one in "(/[ab.]{1,2}){0,3}/?", other in "(/[ab.]{1,2}){0,3}/?") {
        if let Ok(pattern) = one.parse::<PathPattern>() {
            prop_assert!(pattern.admits(&one));
            prop_assert_eq!(pattern.admits(&other), one == other);
        }
    }

    #[test]
    fn what_is_within_admits_no_more(inner in "(\\*\\.)?([ab]\\.){0,2}[ab]", outer in "(\\*\\.)?([ab]\\.){0,2}[ab]", name in "([ab]\\.){0,3}[ab]") {
        if let (Ok(inner), Ok(outer)) = (inner.parse::<HostPattern>(), outer.parse::<HostPattern>()) {
            let name: Host = name.parse().unwrap();
            prop_assert!(!inner.within(&outer) || !inner.admits(&name) || outer.admits(&name));
        }
    }

    #[test]
    fn a_wildcard_admits_names_of_one_more_label(name in "([ab]\\.){0,4}[ab]") {
        let labels = name.split('.').count();
        let admits = admits_host("*.a.b", &name);
        prop_assert_eq!(admits, labels == 3 && name.ends_with(".a.b"));
    }
}
