//! What AWS publishes and what its own library makes, we make too.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Keys, Scope, Signing, canonical, sign};

/// 2015-08-30T12:36:00Z, as in all of AWS' examples.
const THEN: u64 = 1_440_938_160;

struct Example {
    method: &'static str,
    url: (&'static str, u16, &'static str, Option<&'static str>),
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    token: Option<&'static str>,
    scope: (&'static str, &'static str),
    /// `SignedHeaders`, `Signature`
    signed: (&'static str, &'static str),
}

const VANILLA: Example = Example {
    method: "GET",
    url: ("example.amazonaws.com", 443, "/", None),
    headers: &[],
    body: "",
    token: None,
    scope: ("us-east-1", "service"),
    signed: ("host;x-amz-date", ""),
};

fn authorization(example: &Example) -> String {
    let headers = example
        .headers
        .iter()
        .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_static(value)));
    let headers: HeaderMap = headers.collect();
    let (host, port, path, query) = example.url;
    let method: Method = example.method.parse().unwrap();
    let body = (!example.body.is_empty()).then_some(example.body.as_bytes());
    let to = Signing { method: &method, scheme: "https", host, port, path, query, headers: &headers, body };
    let secret = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let keys = Keys::of("AKIDEXAMPLE".into(), secret, example.token.map(str::as_bytes)).unwrap();
    let scope = Scope { region: example.scope.0.into(), service: example.scope.1.into() };
    let own = sign(&scope, &keys, &to, SystemTime::UNIX_EPOCH + Duration::from_secs(THEN)).unwrap();
    assert!(own.iter().all(|(_, value)| value.is_sensitive()));
    own.last().unwrap().1.to_str().unwrap().into()
}

fn check(name: &str, example: Example) {
    let (region, service) = example.scope;
    let (headers, signature) = example.signed;
    let expected = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/{region}/{service}/aws4_request, \
         SignedHeaders={headers}, Signature={signature}"
    );
    assert_eq!(authorization(&example), expected, "{name}");
}

#[test]
fn the_published_examples_have_the_published_signatures() {
    let get = |name, path, query, signature| {
        let url = ("example.amazonaws.com", 443, path, query);
        check(name, Example { url, signed: ("host;x-amz-date", signature), ..VANILLA });
    };
    get("get-vanilla", "/", None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    get("get-utf8", "/ሴ", None, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85");
    get(
        "get-unreserved",
        "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        None,
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    );
    get("get-space", "/example space/", None, "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741");
    get(
        "get-vanilla-query-order-encoded",
        "/",
        Some("Param-3=Value3&Param=Value2&%E1%88%B4=Value1"),
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    );
    get(
        "get-vanilla-query-order-key-case",
        "/",
        Some("Param2=value2&Param1=value1"),
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    );
    get(
        "get-vanilla-query-unreserved",
        "/",
        Some(
            "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=\
             -._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        ),
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    );
    get(
        "get-vanilla-utf8-query",
        "/",
        Some("ሴ=bar"),
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    );
    let signature = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
    check("post-vanilla", Example { method: "POST", signed: ("host;x-amz-date", signature), ..VANILLA });
    check(
        "get-vanilla-with-session-token",
        Example {
            token: Some("6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"),
            signed: (
                "host;x-amz-date;x-amz-security-token",
                "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
            ),
            ..VANILLA
        },
    );
    check(
        "post-x-www-form-urlencoded",
        Example {
            method: "POST",
            headers: &[("content-type", "application/x-www-form-urlencoded"), ("user-agent", "not signed")],
            body: "Param1=value1",
            signed: (
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            ..VANILLA
        },
    );
}

/// Made with botocore 1.44.5.
#[test]
fn other_ports_encoded_paths_and_s3_are_signed_as_aws_own_library_does() {
    check(
        "execute-api",
        Example {
            url: ("example.amazonaws.com", 8443, "/v1/a%20b/%C3%A9", Some("b=2&a=%C3%A9&a=1&empty")),
            scope: ("us-east-1", "execute-api"),
            signed: ("host;x-amz-date", "38505e879fd62a2dd68ef7494ba623f3bcb577b164911e95178c4b5a060d97a5"),
            ..VANILLA
        },
    );
    check(
        "s3",
        Example {
            method: "PUT",
            url: ("examplebucket.s3.amazonaws.com", 443, "/photos/a%20b%2Bc.txt", Some("partNumber=1&uploadId=x%2Fy")),
            headers: &[("content-type", "text/plain"), ("x-amz-meta-note", "two  words")],
            body: "hello",
            token: Some("a-session-token-of-some-length"),
            scope: ("us-east-1", "s3"),
            signed: (
                "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-note;x-amz-security-token",
                "37876b896d43eaaf47be98a241baae6fbaaad0670cb366b0bb63e234ba4d244c",
            ),
        },
    );
}

#[test]
fn every_day_has_its_date() {
    let at = |seconds| canonical::time(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(at(0), "19700101T000000Z");
    assert_eq!(at(951_782_399), "20000228T235959Z");
    assert_eq!(at(951_782_400), "20000229T000000Z");
    assert_eq!(at(1_709_251_199), "20240229T235959Z");
    assert_eq!(at(4_107_542_400), "21000301T000000Z");
    assert_eq!(at(253_402_300_799), "99991231T235959Z");
    assert_eq!(canonical::time(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "19700101T000000Z");
    // Day by day through 400 years and more, by counting.
    let (mut year, mut month, mut day) = (1970, 1, 1);
    for days in 0..200_000 {
        assert_eq!(at(days * 86_400)[..8], format!("{year:04}{month:02}{day:02}"));
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        (year, month, day) = match (month, day) {
            (12, 31) => (year + 1, 1, 1),
            (month, day) if day == last => (year, month + 1, 1),
            (month, day) => (year, month, day + 1),
        };
    }
}

#[test]
fn keys_that_are_none_are_refused_without_being_shown() {
    for (id, secret, token) in [
        ("AK ID", &b"long-enough-secret"[..], None),
        ("", b"long-enough-secret", None),
        ("AKID", b"short", None),
        ("AKID", b"long-enough-secret", Some(&b"token\nwith a newline"[..])),
        ("AKID", b"long-enough-secret", Some(b"short")),
    ] {
        let why = Keys::of(id.into(), secret, token).err().unwrap().to_string();
        assert!(!why.contains("long-enough") && !why.contains("newline"), "{why}");
    }
}
