//! A pattern of hosts, a pattern of paths, a host and a path with query, a line each: a pattern is read as it is written,
//! and admits what the plainest reading of it admits and nothing else.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use palisade::egress::{Host, HostPattern, PathPattern, RawRequest, Request};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(data) else { return Corpus::Reject };
    let mut lines = text.splitn(4, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (hosts, paths, host, target) = (line(), line(), line(), line());

    let (hosts, host) = (hosts.parse::<HostPattern>(), host.parse::<Host>());
    if let Ok(pattern) = &hosts {
        assert_eq!(&pattern.to_string().parse::<HostPattern>().expect("it is read as it is written"), pattern);
        assert!(pattern.within(pattern));
    }
    if let (Ok(pattern), Ok(host)) = (&hosts, &host) {
        assert_eq!(pattern.admits(host), admits_host(&pattern.to_string(), host), "`{pattern}` and `{host}`");
    }

    let Ok(pattern) = paths.parse::<PathPattern>() else { return Corpus::Keep };
    assert_eq!(pattern.to_string().parse::<PathPattern>().expect("it is read as it is written"), pattern);
    let raw = RawRequest {
        method: "GET".into(),
        scheme: "https".into(),
        authority: "a.test".into(),
        path_with_query: target.into(),
        headers: Vec::new(),
        body: false,
    };
    let Ok(request) = Request::parse(raw) else { return Corpus::Keep };
    let parts: Vec<_> = paths.split('/').collect();
    let segments: Vec<_> = request.path.split('/').collect();
    assert_eq!(pattern.admits(&request.path), admits_path(&parts, &segments), "`{pattern}` and `{}`", request.path);
    Corpus::Keep
});

fn admits_host(pattern: &str, host: &Host) -> bool {
    let host = host.to_string();
    match pattern.strip_prefix("*.") {
        None => pattern == host,
        Some(name) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == name),
    }
}

fn admits_path(parts: &[&str], segments: &[&str]) -> bool {
    match (parts, segments) {
        (["**"], _) | ([], []) => true,
        ([part, parts @ ..], [segment, segments @ ..]) => {
            (part == segment || *part == "*" && !segment.is_empty()) && admits_path(parts, segments)
        }
        _ => false,
    }
}
