use http::Uri;
use proptest::prelude::*;
use url::Url;

use super::*;

mod authorities;
mod targets;

fn raw(scheme: &str, authority: &str, target: &str) -> RawRequest {
    RawRequest {
        method: "GET".into(),
        scheme: scheme.into(),
        authority: authority.into(),
        path_with_query: target.into(),
        headers: vec![],
        body: false,
    }
}

fn with(change: impl FnOnce(&mut RawRequest)) -> Result<Request, BadRequest> {
    let mut raw = raw("https", "example.com", "/");
    change(&mut raw);
    Request::parse(raw)
}

/// Compares what we read with what the `url` crate and the `http` crate read in the same text.
fn check_agreement(request: &Request, authority: &str, target: &str) {
    let text = format!("{}://{authority}{target}", request.scheme);

    let url = Url::parse(&text).unwrap_or_else(|error| panic!("url: {text}: {error}"));
    let host = match url.host() {
        Some(url::Host::Domain(name)) => Host::Name(name.into()),
        Some(url::Host::Ipv4(v4)) => Host::V4(v4),
        Some(url::Host::Ipv6(v6)) => Host::V6(v6),
        None => panic!("url sees no host in {text}"),
    };
    assert_eq!(host, request.host, "{text}");
    assert_eq!(url.port_or_known_default(), Some(request.port), "{text}");
    assert_eq!(url.path(), request.path, "{text}");
    // The one character that it encodes and we do not.
    assert_eq!(
        url.query().map(|query| query.replace("%27", "'")),
        request.query.as_ref().map(|q| q.replace("%27", "'"))
    );
    assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None), "{text}");

    let uri: Uri = text.parse().unwrap_or_else(|error| panic!("http: {text}: {error}"));
    assert_eq!(uri.host(), Some(&*request.host.to_string()), "{text}");
    assert_eq!(uri.port_u16().unwrap_or(request.scheme.port()), request.port, "{text}");
    assert_eq!(uri.path(), request.path, "{text}");
    assert_eq!(uri.query(), request.query.as_deref(), "{text}");

    // And in what we write.
    let written = Url::parse(&request.url()).unwrap();
    assert_eq!(
        (written.host(), written.port_or_known_default(), written.path()),
        (url.host(), Some(request.port), url.path())
    );
    assert_eq!(written.query(), None);
    assert!(request.authority().parse::<http::uri::Authority>().is_ok());
}

#[test]
fn no_hostile_authority_is_a_request() {
    for (kind, authorities) in authorities::HOSTILE {
        for authority in authorities {
            for scheme in ["https", "http"] {
                assert!(Request::parse(raw(scheme, authority, "/")).is_err(), "{kind}: {authority:?}");
            }
        }
    }
}

#[test]
fn no_hostile_target_is_a_request() {
    for (kind, targets) in targets::HOSTILE {
        for target in targets {
            assert!(Request::parse(raw("https", "example.com", target)).is_err(), "{kind}: {target:?}");
        }
    }
}

#[test]
fn the_tables_are_as_long_as_they_were() {
    let count = |table: &[(&str, &[&str])]| table.iter().map(|(_, each)| each.len()).sum::<usize>();
    assert!(count(&authorities::HOSTILE) + count(&targets::HOSTILE) >= 400);
}

#[test]
fn every_legal_url_is_read_alike_by_us_and_by_others() {
    for authority in authorities::LEGAL {
        for target in targets::LEGAL {
            for scheme in ["https", "http"] {
                let request = Request::parse(raw(scheme, authority, target));
                let request = request.unwrap_or_else(|error| panic!("{scheme}://{authority}{target}: {error}"));
                check_agreement(&request, authority, target);
            }
        }
    }
}

#[test]
fn a_request_has_its_parts() {
    let request = with(|raw| {
        raw.method = "POST".into();
        raw.authority = "[2001:db8::1]:8443".into();
        raw.path_with_query = "/a/b?c=d".into();
        raw.headers = vec![
            ("Content-Type".into(), b"Text/Plain; charset=utf-8".to_vec()),
            ("Content-Length".into(), b"3".to_vec()),
        ];
        raw.body = true;
    })
    .unwrap();
    assert_eq!((request.method.as_str(), request.scheme, request.port), ("POST", Scheme::Https, 8443));
    assert_eq!((request.path.as_str(), request.query.as_deref()), ("/a/b", Some("c=d")));
    assert_eq!((request.content_length, request.content_type.as_deref()), (Some(3), Some("text/plain")));
    assert_eq!(request.headers.len(), 1, "the length is not a header any more");
    assert_eq!(request.authority(), "[2001:db8::1]:8443");
    assert_eq!(request.url(), "https://[2001:db8::1]:8443/a/b");
}

#[test]
fn the_port_is_the_schemes_unless_it_is_said() {
    let port = |scheme, authority| Request::parse(raw(scheme, authority, "/")).unwrap().port;
    assert_eq!(port("https", "example.com"), 443);
    assert_eq!(port("http", "example.com"), 80);
    assert_eq!(port("http", "example.com:443"), 443);
    assert_eq!(Request::parse(raw("https", "example.com:443", "/")).unwrap().url(), "https://example.com/");
}

#[test]
fn other_schemes_and_methods_are_not_spoken() {
    for scheme in ["", "HTTPS", "Http", "ftp", "file", "gopher", "ws", "wss", "https:", "https ", "javascript"] {
        assert!(matches!(with(|raw| raw.scheme = scheme.into()), Err(BadRequest::Scheme(_))), "{scheme}");
    }
    for method in ["", "get", "CONNECT", "TRACE", "TRACK", "GET /", "GET\r\n", "\u{212a}ET"] {
        assert!(matches!(with(|raw| raw.method = method.into()), Err(BadRequest::Method(_))), "{method}");
    }
}

#[test]
fn a_password_in_a_url_is_refused_and_not_repeated() {
    for authority in ["user:secret@example.com", "secret@example.com:443", "example.com:secret@example.com"] {
        let refusal = with(|raw| raw.authority = authority.into()).unwrap_err();
        assert_eq!(refusal, BadRequest::UserInfo);
        assert!(!refusal.to_string().contains("secret"));
    }
}

#[test]
fn a_length_needs_a_body() {
    let length = |length: &str, body| {
        with(|raw| {
            raw.headers = vec![("content-length".into(), length.as_bytes().to_vec())];
            raw.body = body;
        })
    };
    assert_eq!(length("1", false).unwrap_err(), BadRequest::NoBody(1));
    assert_eq!(length("0", false).unwrap().content_length, Some(0));
    assert_eq!(length("1", true).unwrap().content_length, Some(1));
    assert!(matches!(length("1,1", true), Err(BadRequest::Header(BadHeader::Length))));
}

#[test]
fn a_refusal_is_short_and_one_line() {
    for text in ["a\r\nb\u{202e}".repeat(10_000), "x".repeat(100_000), "@".repeat(100_000), "\u{1f41a}".repeat(10_000)]
    {
        let refusals = [
            with(|raw| raw.method = text.clone()),
            with(|raw| raw.scheme = text.clone()),
            with(|raw| raw.authority = text.clone()),
            with(|raw| raw.authority = format!("example.com:{text}")),
            with(|raw| raw.path_with_query = format!("/%{}", &text[..8])),
            with(|raw| raw.path_with_query = text.clone()),
            with(|raw| raw.headers = vec![(text.chars().take(1000).collect(), b"\n".to_vec())]),
        ];
        for refusal in refusals {
            let message = refusal.unwrap_err().to_string();
            assert!(message.len() < 1200 && message.is_ascii() && !message.contains(['\r', '\n']), "{message}");
        }
    }
}

#[test]
fn a_raw_request_survives_serde() {
    let request = raw("https", "example.com", "/\u{202e}");
    let text = serde_json::to_string(&request).unwrap();
    assert_eq!(serde_json::from_str::<RawRequest>(&text).unwrap(), request);
}

/// Texts of which many pass, and many nearly.
const AUTHORITY: &str = "[a-z0-9.-]{1,12}(:[0-9]{0,5})?|(0x)?[0-9a-f]{1,8}(\\.(0x)?[0-9a-f]{1,4}){0,4}|\\[[0-9a-f:.%]{2,16}\\](:80)?|\
    xn--[a-z0-9-]{1,10}\\.[a-z]{2}|[a-zA-Z0-9.:@%/\\\\#?\\[\\]_ \t-]{0,16}|\\PC{0,8}";
const TARGET: &str = "(/[a-zA-Z0-9.;:@%_~-]{0,4}){1,4}(\\?[a-z=&%'\\[\\]/?]{0,8})?|/([./;%a]|%2[EF]|%C3%A9|\\.\\.|\\\\){0,8}|\
    /[ -~]{0,12}|\\PC{0,8}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn whatever_we_accept_others_read_alike(http: bool, authority in AUTHORITY, target in TARGET) {
        let scheme = if http { "http" } else { "https" };
        // Each half is tried with a legal other half: together they would pass too rarely.
        for (authority, target) in [(&*authority, "/"), ("example.com", &*target), (&*authority, &*target)] {
            if let Ok(request) = Request::parse(raw(scheme, authority, target)) {
                check_agreement(&request, authority, target);
            }
        }
    }

    #[test]
    fn nothing_makes_the_parser_panic(method: String, scheme: String, authority: String, target: String, name: String, value: Vec<u8>, body: bool) {
        let headers = vec![(name, value)];
        for scheme in [scheme, "https".into()] {
            let raw = RawRequest { method: method.clone(), scheme, authority: authority.clone(), path_with_query: target.clone(), headers: headers.clone(), body };
            let _ = Request::parse(RawRequest { method: "GET".into(), ..raw.clone() });
            let _ = Request::parse(raw);
        }
    }
}
