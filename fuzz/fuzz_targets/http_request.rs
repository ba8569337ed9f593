//! A request as a guest can make it, a line each: method, scheme, authority, path with query, and headers as `name: value`.
//! It is refused, or has one reading: what is made of it again from its parts is the same.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use palisade::egress::{RawRequest, Request};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(data) else { return Corpus::Reject };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default().to_owned();
    let [method, scheme, authority, path_with_query] = [line(), line(), line(), line()];
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    let headers = lines.filter_map(header).collect();
    let raw = RawRequest { method, scheme, authority, path_with_query, headers, body: true };
    let Ok(request) = Request::parse(raw) else { return Corpus::Reject };

    for text in [&request.path, &request.query.clone().unwrap_or_default(), &request.authority()] {
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?} is not what it looks like");
    }
    assert!(request.path.starts_with('/') && !request.path.contains("//") && !request.path.contains("/../"));
    let query = request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let headers = request.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let again = Request::parse(RawRequest {
        method: request.method.to_string(),
        scheme: request.scheme.to_string(),
        authority: request.authority(),
        path_with_query: format!("{}{query}", request.path),
        headers: headers.collect(),
        body: true,
    });
    let again = again.expect("what was accepted is accepted again");
    assert_eq!(
        (&again.host, again.port, &again.path, &again.query),
        (&request.host, request.port, &request.path, &request.query)
    );
    assert_eq!((&again.method, again.url()), (&request.method, request.url()));
    Corpus::Keep
});
