use http::header::CONTENT_TYPE;
use proptest::prelude::*;

use super::*;
use crate::egress::{BadRule, RawRequest};

fn rule(more: &str) -> Rule {
    let rule: Rule = toml::from_str(&format!("name = 'x'\nhost = '*.example.com'\n{more}")).unwrap();
    rule.check().unwrap();
    rule
}

fn route(more: &str) -> Route {
    Route::of(&rule(more))
}

fn narrow(more: &str) -> Narrow {
    toml::from_str(&format!("rule = 'x'\n{more}")).unwrap()
}

fn get(url: &str) -> Request {
    request("GET", url, None)
}

fn request(method: &str, url: &str, content_type: Option<&str>) -> Request {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let headers = content_type.map(|value| ("content-type".into(), value.as_bytes().to_vec()));
    Request::parse(RawRequest {
        method: method.into(),
        scheme: scheme.into(),
        authority: authority.into(),
        path_with_query: format!("/{path}"),
        headers: headers.into_iter().collect(),
        body: method == "POST",
    })
    .unwrap()
}

#[test]
fn what_fits_is_admitted() {
    let route = route("paths = ['/repos/acme/**', '/user']");
    for url in [
        "https://api.example.com/user",
        "https://x.example.com:443/repos/acme/a?b=c",
        "https://a.example.com/repos/acme",
    ] {
        assert_eq!(route.admits(&get(url)), Ok(()), "{url}");
    }
    assert_eq!(route.admits(&request("HEAD", "https://api.example.com/user", None)), Ok(()));
}

#[test]
fn the_first_thing_that_does_not_fit_is_told() {
    let route =
        route("port = 8443\nmethods = ['GET', 'POST']\npaths = ['/a', '/b/**']\nrequest_types = ['application/json']");
    let mut nearness = vec![];
    for (request, message) in [
        (get("http://example.com/c"), "the host is not `*.example.com`"),
        (get("http://api.example.com:8443/a"), "the scheme is not `https`"),
        (get("https://api.example.com/a"), "the port is not 8443"),
        (request("DELETE", "https://api.example.com:8443/c", None), "the method is not one of GET, POST"),
        (get("https://api.example.com:8443/A"), "the path is none of /a, /b/**"),
        (
            request("POST", "https://api.example.com:8443/a", Some("text/plain")),
            "the body's `content-type` is none of application/json",
        ),
    ] {
        let mismatch = route.admits(&request).unwrap_err();
        assert_eq!(mismatch.to_string(), message);
        nearness.push(mismatch.nearness());
    }
    assert!(nearness.is_sorted_by(|a, b| a < b), "{nearness:?}");
}

#[test]
fn a_message_lists_a_few_of_many() {
    let paths: Vec<String> = (0..20).map(|at| format!("'/p{at}'")).collect();
    let route = route(&format!("paths = [{}]", paths.join(",")));
    let message = route.admits(&get("https://a.example.com/")).unwrap_err().to_string();
    assert_eq!(message, "the path is none of /p0, /p1, /p2, /p3, /p4, /p5, /p6, /p7 and 12 more");
}

#[test]
fn a_body_must_have_a_listed_type() {
    let post = |content_type| request("POST", "https://a.example.com/", content_type);
    let any = route("methods = ['POST']");
    let json = route("methods = ['POST', 'GET']\nrequest_types = ['application/json', 'text/*']");
    for content_type in [None, Some("application/json; charset=utf-8"), Some("image/png")] {
        assert_eq!(any.admits(&post(content_type)), Ok(()));
    }
    assert_eq!(json.admits(&post(Some("Application/JSON; charset=utf-8"))), Ok(()));
    assert_eq!(json.admits(&post(Some("text/csv"))), Ok(()));
    assert!(json.admits(&post(None)).is_err());
    assert!(json.admits(&post(Some("image/png"))).is_err());
    assert_eq!(json.admits(&get("https://a.example.com/")), Ok(()), "there is no body");
    assert!(json.admits(&request("GET", "https://a.example.com/", Some("image/png"))).is_err(), "a type announces one");
}

#[test]
fn a_response_must_have_a_listed_type() {
    let headers = |values: &[&str]| values.iter().map(|v| (CONTENT_TYPE, v.parse().unwrap())).collect::<HeaderMap>();
    let json = route("response_types = ['application/json']");
    assert_eq!(json.admits_response(&headers(&["application/json; charset=utf-8"])), Ok(()));
    for values in
        [&[][..], &["text/html"], &["application/json, text/html"], &["application/json", "application/json"], &["x"]]
    {
        assert!(json.admits_response(&headers(values)).is_err(), "{values:?}");
        assert_eq!(route("").admits_response(&headers(values)), Ok(()), "{values:?}");
    }
    let none = json.narrow(&narrow("response_types = ['text/*']")).unwrap();
    assert!(none.admits_response(&headers(&["application/json"])).is_err(), "every level must list it");
}

#[test]
fn each_level_takes_away() {
    let tenant = route("methods = ['GET', 'POST']\npaths = ['/repos/**']\ncredentials = ['a', 'b']")
        .narrow(&narrow("host = 'api.example.com'\npaths = ['/repos/acme/**']\nrequest_bytes = 10\nrate = { requests = 5, seconds = 1 }"))
        .unwrap();
    let agent = tenant
        .clone()
        .narrow(&narrow("methods = ['GET']\npaths = ['/*/*/issues', '/user']\ncredential = 'b'\nconcurrency = 2\ntimeouts = { idle_ms = 7 }"))
        .unwrap();
    let issues = get("https://api.example.com/repos/acme/issues");
    assert_eq!(agent.admits(&issues), Ok(()));
    for url in [
        "https://other.example.com/repos/acme/issues",
        "https://api.example.com/repos/acme/x",
        "https://api.example.com/repos/evil/issues",
        "https://api.example.com/user",
    ] {
        assert!(agent.admits(&get(url)).is_err(), "{url}");
    }
    assert!(tenant.admits(&request("POST", "https://api.example.com/repos/acme/x", None)).is_ok());
    assert!(agent.admits(&request("POST", "https://api.example.com/repos/acme/issues", None)).is_err());
    assert_eq!((agent.request_bytes(), agent.response_bytes()), (10, 8 << 20));
    assert_eq!((agent.timeouts().idle_ms, agent.timeouts().total_ms), (7, 120_000));
    assert_eq!(agent.rates(), [Some(Rate::default()), Some(Rate { requests: 5, seconds: 1 }), None]);
    assert_eq!(agent.concurrencies(), [Some(16), None, Some(2)]);
    assert_eq!((tenant.credential(), agent.credential().map(Name::as_str)), (None, Some("b")));
    assert_eq!(agent.in_words(), "GET https://api.example.com:443/repos/** and /repos/acme/** and /*/*/issues, /user");
}

#[test]
fn what_a_rule_does_not_give_cannot_be_taken() {
    let more = "methods = ['GET']\ncredentials = ['a', 'b']\nrequest_bytes = 10\nresponse_bytes = 20";
    let given = route(more).narrow(&narrow("host = 'api.example.com'\ncredential = 'a'")).unwrap();
    for (asked, message) in [
        ("host = 'www.example.com'", "`host` is `www.example.com`, which is not within `api.example.com`"),
        ("host = '*.example.com'", "`host` is `*.example.com`, which is not within `api.example.com`"),
        ("methods = ['GET', 'POST']", "`methods` has POST: the rule `x` does not give it"),
        ("methods = []", "`methods` is empty: nothing would be allowed"),
        ("paths = []", "`paths` is empty: nothing would be allowed"),
        ("request_types = []", "`request_types` is empty: nothing would be allowed"),
        ("response_types = []", "`response_types` is empty: nothing would be allowed"),
        ("credential = 'c'", "`credential` is `c`: the rule `x` does not list it"),
        ("credential = 'b'", "`credential` is `b`: it is `a` already, on the level above"),
        ("request_bytes = 11", "`request_bytes` is 11: at most 10 is given, and at least 1"),
        ("request_bytes = 0", "`request_bytes` is 0: at most 10 is given, and at least 1"),
        ("response_bytes = 21", "`response_bytes` is 21: at most 20 is given, and at least 1"),
        ("timeouts = { connect_ms = 5001 }", "`timeouts.connect_ms` is 5001: at most 5000 is given, and at least 1"),
        (
            "timeouts = { first_byte_ms = 30001 }",
            "`timeouts.first_byte_ms` is 30001: at most 30000 is given, and at least 1",
        ),
        ("timeouts = { idle_ms = 0 }", "`timeouts.idle_ms` is 0: at most 15000 is given, and at least 1"),
        ("timeouts = { total_ms = 120001 }", "`timeouts.total_ms` is 120001: at most 120000 is given, and at least 1"),
        ("concurrency = 0", "`concurrency` is 0: it must be at least 1 and at most 10000"),
        ("rate = { requests = 0, seconds = 1 }", "`rate.requests` is 0: it must be at least 1 and at most 1000000000"),
    ] {
        assert_eq!(given.clone().narrow(&narrow(asked)).unwrap_err().to_string(), message);
    }
    let other: Narrow = toml::from_str("rule = 'y'").unwrap();
    assert_eq!(given.clone().narrow(&other).unwrap_err().to_string(), "it names the rule `y`, and narrows `x`");
    assert!(matches!(given.narrow(&narrow("methods = []")), Err(BadNarrow::Bad(BadRule::Empty { .. }))));
}

#[test]
fn the_same_text_has_the_same_revision() {
    let [one, same, other] = ["", "scheme = 'https'\nconcurrency = 16", "labels = ['public']"].map(route);
    assert_eq!(one.revision().len(), 16);
    assert!(one.revision().bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(one.revision(), same.revision());
    assert_ne!(one.revision(), other.revision());
    let narrowed = |more: &str| one.clone().narrow(&narrow(more)).unwrap().revision().to_owned();
    assert_eq!(narrowed("concurrency = 1"), narrowed("concurrency = 1"));
    assert_ne!(narrowed("concurrency = 1"), narrowed("concurrency = 2"));
    assert_ne!(narrowed(""), one.revision());
    assert_ne!(narrowed("concurrency = 1"), other.narrow(&narrow("concurrency = 1")).unwrap().revision());
}

proptest! {
    #[test]
    fn no_level_admits_what_the_one_above_does_not(
        host in "(\\*|[ab])\\.example\\.com",
        methods in proptest::sample::subsequence(vec!["GET", "POST", "PUT"], 1..=3),
        paths in proptest::collection::vec("(/(a|b|\\*)){1,2}(/\\*\\*)?", 1..3),
        types in proptest::collection::vec("(a|b)/(a|b|\\*)", 0..3),
        method in "GET|POST|PUT|DELETE",
        name in "[abc]",
        path in "(/[abc]){1,3}",
        media_type in proptest::option::of("[abc]/[abc]"),
    ) {
        let rule = route("methods = ['GET', 'POST', 'PUT']\npaths = ['/a/**', '/b/*']\nrequest_types = ['a/*', 'b/b']");
        let types = if types.is_empty() { String::new() } else { format!("request_types = {types:?}") };
        let table = narrow(&format!("host = '{host}'\nmethods = {methods:?}\npaths = {paths:?}\n{types}"));
        let narrowed = rule.clone().narrow(&table).unwrap();
        let request = request(&method, &format!("https://{name}.example.com{path}"), media_type.as_deref());
        let admitted = narrowed.admits(&request).is_ok();
        prop_assert!(!admitted || rule.admits(&request).is_ok());
        // And it is admitted wherever every part of both levels says so.
        let listed = methods.contains(&&*method)
            && table.host.unwrap().admits(&request.host)
            && table.paths.unwrap().iter().any(|pattern| pattern.admits(&path))
            && table.request_types.is_none_or(|types| {
                (!request.body && media_type.is_none()) || types.iter().any(|t| media_type.as_ref().is_some_and(|m| t.admits(m)))
            });
        prop_assert_eq!(admitted, listed && rule.admits(&request).is_ok());
    }
}
