use proptest::prelude::*;

use super::*;

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// Headers of ordinary clients.
const LEGAL: [(&str, &str); 16] = [
    ("accept", "application/vnd.github+json, */*;q=0.1"),
    ("Accept-Encoding", "gzip, br"),
    ("authorization", "Basic dTpw"),
    ("cache-control", "no-cache"),
    ("content-type", "application/json; charset=utf-8"),
    ("content-length", "18446744073709551615"),
    ("cookie", "a=b; c=d"),
    ("if-none-match", "\"x\", W/\"y\""),
    ("origin", "https://example.com"),
    ("range", "bytes=0-1,2-3"),
    ("referer", "https://example.com/?a"),
    ("user-agent", "palisade/1 (\u{e9})"),
    ("x-github-api-version", "2022-11-28"),
    ("x-empty", ""),
    ("x-tab", "a\tb"),
    ("trailers-are-fine", "te"),
];

#[test]
fn ordinary_headers_pass_unchanged() {
    let headers = parse(&fields(&LEGAL)).unwrap();
    assert_eq!(headers.len(), LEGAL.len());
    for (name, value) in LEGAL {
        assert_eq!(headers[&*name.to_lowercase()].as_bytes(), value.as_bytes(), "{name}");
    }
    let twice = parse(&fields(&[("accept", "a"), ("Accept", "b")])).unwrap();
    assert_eq!(twice.get_all("accept").iter().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn what_is_not_a_guests_to_say_is_refused() {
    for name in [
        "Connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "Proxy",
        "TE",
        "trailer",
        "transfer-encoding",
        "Transfer-Encoding",
        "transfer_encoding",
        "upgrade",
        "http2-settings",
        "host",
        "HOST",
        "expect",
        "forwarded",
        "via",
        "x-forwarded-for",
        "X-Forwarded-Host",
        "x_forwarded_proto",
        "x-forwarded-anything",
        "x-real-ip",
        "x_real-ip",
        "x-client-ip",
        "true-client-ip",
        "x-cluster-client-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-host",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "X_HTTP_METHOD_OVERRIDE",
        "palisade-effect",
        "Palisade-Anything",
    ] {
        assert!(matches!(parse(&fields(&[(name, "x")])), Err(BadHeader::Forbidden(_))), "{name}");
        let trailer = HeaderMap::from_iter([(name.to_lowercase().parse().unwrap(), HeaderValue::from_static("x"))]);
        assert!(matches!(check_trailers(&trailer), Err(BadHeader::Trailer(_))), "{name} as a trailer");
    }
}

#[test]
fn what_could_be_another_header_is_refused() {
    for name in
        ["", " ", "a b", "a:", ":method", ":authority", "a\r\nb", "a\0", "host ", " host", "h\u{f6}st", "a/b", "(a)"]
    {
        assert!(matches!(parse(&fields(&[(name, "x")])), Err(BadHeader::Name(_))), "{name:?}");
    }
    for value in
        ["a\rb", "a\nb", "a\r\nhost: evil.test", "a\r\n b", "a\0b", "a\u{7f}", "\u{b}a", " a", "a ", "\ta", "a\t", "\n"]
    {
        assert!(matches!(parse(&fields(&[("x", value)])), Err(BadHeader::Value(_))), "{value:?}");
    }
}

#[test]
fn a_length_is_one_decimal_number() {
    let length = |values: &[&'static str]| {
        content_length(&values.iter().map(|v| (CONTENT_LENGTH, HeaderValue::from_static(v))).collect())
    };
    assert_eq!(length(&[]), Ok(None));
    assert_eq!(length(&["0"]), Ok(Some(0)));
    assert_eq!(length(&["10"]), Ok(Some(10)));
    for values in [
        &[""][..],
        &["-1"],
        &["+1"],
        &["00"],
        &["01"],
        &["0x1"],
        &["1 "],
        &["1,1"],
        &["1, 1"],
        &["1", "1"],
        &["1", "2"],
        &["1.0"],
        &["1e3"],
        &["18446744073709551616"],
        &["a"],
    ] {
        assert_eq!(length(values), Err(BadHeader::Length), "{values:?}");
    }
    let wide = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_bytes("١".as_bytes()).unwrap())]);
    assert_eq!(content_length(&wide), Err(BadHeader::Length));
    let both = fields(&[("content-length", "1"), ("Content-Length", "1")]);
    assert_eq!(parse(&both), Err(BadHeader::Twice(CONTENT_LENGTH)));
}

#[test]
fn a_type_is_one_media_type() {
    let of = |value: &'static str| content_type(&map(&[("content-type", value)]));
    assert_eq!(content_type(&HeaderMap::new()), Ok(None));
    assert_eq!(of("Application/JSON; Charset=\"x\""), Ok(Some("application/json".into())));
    assert_eq!(of("text/plain ;a=b"), Ok(Some("text/plain".into())));
    for value in
        ["", "json", "text/", "/plain", "text/plain, application/json", "text/plain;a,text/html", "a b/c", "a/b/c"]
    {
        assert_eq!(of(value), Err(BadHeader::Type), "{value}");
    }
    assert!(content_type(&map(&[("content-type", "a/b"), ("content-type", "a/b")])).is_err());
    assert_eq!(parse(&fields(&[("authorization", "a"), ("authorization", "b")])), Err(BadHeader::Twice(AUTHORIZATION)));
}

#[test]
fn headers_are_100_and_32_kib_at_most() {
    let many = |count| (0..count).map(|at| (format!("x-{at}"), vec![])).collect::<Vec<_>>();
    assert!(parse(&many(FIELDS_MAX)).is_ok());
    assert_eq!(parse(&many(FIELDS_MAX + 1)), Err(BadHeader::TooMany(FIELDS_MAX + 1)));
    let long = |bytes| vec![("x".to_string(), vec![b'a'; bytes])];
    assert!(parse(&long(FIELD_BYTES_MAX - 1)).is_ok());
    assert_eq!(parse(&long(FIELD_BYTES_MAX)), Err(BadHeader::TooLong(FIELD_BYTES_MAX + 1)));
    let trailers = |count| (0..count).map(|_| (HeaderName::from_static("x"), HeaderValue::from_static("y"))).collect();
    assert!(check_trailers(&trailers(FIELDS_MAX)).is_ok());
    assert!(check_trailers(&trailers(FIELDS_MAX + 1)).is_err());
    let long = |bytes| HeaderMap::from_iter([(HeaderName::from_static("x"), "a".repeat(bytes).parse().unwrap())]);
    assert!(check_trailers(&long(FIELD_BYTES_MAX - 1)).is_ok());
    assert_eq!(check_trailers(&long(FIELD_BYTES_MAX)), Err(BadHeader::TooLong(FIELD_BYTES_MAX + 1)));
}

#[test]
fn a_trailer_says_nothing_that_comes_too_late() {
    assert_eq!(check_trailers(&map(&[("x-checksum", "a"), ("grpc-status", "0"), ("digest", "b")])), Ok(()));
    for name in [
        "authorization",
        "content-length",
        "content-type",
        "content-encoding",
        "cookie",
        "set-cookie",
        "if-match",
        "range",
    ] {
        assert!(matches!(check_trailers(&map(&[(name, "1")])), Err(BadHeader::Trailer(_))), "{name}");
    }
    let mut of_response =
        map(&[("x-checksum", "a"), ("content-length", "1"), ("connection", "x"), ("set-cookie", "c")]);
    strip_trailers(&mut of_response);
    assert_eq!(of_response, map(&[("x-checksum", "a")]));
}

#[test]
fn a_response_loses_what_is_the_connections() {
    let mut headers = map(&[
        ("connection", "close, x-hop ,"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "Chunked"),
        ("upgrade", "h2c"),
        ("trailer", "x"),
        ("proxy-authenticate", "Basic"),
        ("content-type", "a/b"),
        ("x-kept", "2"),
    ]);
    check_response(StatusCode::OK, &mut headers).unwrap();
    assert_eq!(headers, map(&[("content-type", "a/b"), ("x-kept", "2")]));
    let mut hiding =
        map(&[("connection", "content-length, content-type"), ("content-length", "1"), ("content-type", "a/b")]);
    check_response(StatusCode::OK, &mut hiding).unwrap();
    assert_eq!(hiding, map(&[("content-length", "1"), ("content-type", "a/b")]));
}

#[test]
fn a_response_of_two_lengths_is_refused() {
    for headers in [
        map(&[("content-length", "1"), ("content-length", "2")]),
        map(&[("content-length", "1"), ("content-length", "1")]),
        map(&[("content-length", "1,2")]),
        map(&[("content-length", "-1")]),
        map(&[("content-length", "1"), ("transfer-encoding", "chunked")]),
        map(&[("transfer-encoding", "xchunked")]),
        map(&[("transfer-encoding", "gzip, chunked")]),
        map(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
    ] {
        assert!(check_response(StatusCode::OK, &mut headers.clone()).is_err(), "{headers:?}");
    }
    assert!(check_response(StatusCode::SWITCHING_PROTOCOLS, &mut HeaderMap::new()).is_err());
}

proptest! {
    #[test]
    fn no_header_carries_another(name in "[a-zA-Z_:\\r\\n \\x00-]{0,12}", value: Vec<u8>) {
        if let Ok(headers) = parse(&[(name.clone(), value.clone())]) {
            let (read, kept) = headers.iter().next().unwrap();
            prop_assert_eq!(read.as_str(), name.to_ascii_lowercase());
            prop_assert_eq!(kept.as_bytes(), &value[..]);
            prop_assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte)));
            prop_assert!(name.bytes().all(is_token));
        }
    }

    #[test]
    fn a_response_never_keeps_what_is_the_connections(named in "[a-z, -]{0,20}", status in 100_u16..600) {
        let mut headers = map(&[("te", "x"), ("keep-alive", "y")]);
        headers.insert(CONNECTION, named.parse().unwrap());
        if check_response(StatusCode::from_u16(status).unwrap(), &mut headers).is_ok() {
            prop_assert!(headers.is_empty());
        }
    }

    #[test]
    fn a_type_is_read_as_it_is_matched(value in "[a-zA-Z/;,= *\"-]{0,16}") {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(&value).unwrap())]);
        if let Ok(Some(media_type)) = content_type(&headers) {
            prop_assert!(value.to_ascii_lowercase().starts_with(&media_type));
            prop_assert!(!media_type.contains([' ', ';', ',']));
        }
    }
}
