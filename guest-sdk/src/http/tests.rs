use std::{
    collections::HashMap,
    io::{self, Cursor, Read},
};

use super::{Error, Request, Response, url::Url};
use crate::CallError;

fn split(url: &str) -> (String, String, String) {
    let Url { scheme, authority, path_with_query } = Url::split(url).unwrap();
    (scheme.into(), authority.into(), path_with_query)
}

fn parts(scheme: &str, authority: &str, path_with_query: &str) -> (String, String, String) {
    (scheme.into(), authority.into(), path_with_query.into())
}

fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Response::new(status, headers, Cursor::new(body.to_vec()))
}

#[test]
fn a_url_has_three_parts_and_the_fragment_stays() {
    assert_eq!(split("https://a.example"), parts("https", "a.example", "/"));
    assert_eq!(split("http://a.example:81/b/c?d=e#f"), parts("http", "a.example:81", "/b/c?d=e"));
    assert_eq!(split("https://a.example?b=/c"), parts("https", "a.example", "/?b=/c"));
    assert_eq!(split("https://a.example#/b"), parts("https", "a.example", "/"));
    assert_eq!(split("https://[::1]:81/"), parts("https", "[::1]:81", "/"));
    assert_eq!(split("https://a.example//b/../c%20d"), parts("https", "a.example", "//b/../c%20d"));
}

#[test]
fn a_host_is_what_stands_before_the_path_and_nothing_else() {
    // Whom these name is for the host to judge, so all of it must arrive.
    assert_eq!(split("https://good.example@evil.example/").1, "good.example@evil.example");
    assert_eq!(split(r"https://good.example\@evil.example/").1, r"good.example\@evil.example");
    assert_eq!(split("https://good.example?@evil.example/").1, "good.example");
    assert_eq!(split("https://good.example#@evil.example/").1, "good.example");
}

#[test]
fn a_url_without_a_scheme_or_a_host_is_invalid() {
    for url in
        ["", "a.example", "/a", "//a.example", "://a.example", "https:/a", "https://", "https:///a", "https://?a"]
    {
        let error = Url::split(url).unwrap_err();
        assert_eq!((error.code(), matches!(error, Error::Invalid(_))), ("URL_INVALID", true), "{url}");
    }
}

#[test]
fn a_body_is_read_up_to_the_limit() {
    let read = |limit| response(200, &[], b"12345").limit(limit).bytes();
    assert_eq!(read(5).unwrap(), b"12345");
    assert_eq!(read(u64::MAX).unwrap(), b"12345");
    let error = read(4).unwrap_err();
    assert_eq!(error.code(), "BODY_TOO_LARGE");
    assert!(error.to_string().contains("more than 4 bytes"), "{error}");
    assert_eq!(response(200, &[], b"12345").limit(4).text().unwrap_err().code(), "BODY_TOO_LARGE");
}

#[test]
fn an_endless_body_ends_at_the_limit() {
    let endless = Response::new(200, Vec::new(), io::repeat(b'x'));
    assert_eq!(endless.bytes().unwrap_err().code(), "BODY_TOO_LARGE");
}

#[test]
fn a_body_is_text_or_json_or_says_that_it_is_not() {
    assert_eq!(response(200, &[], "é".as_bytes()).text().unwrap(), "é");
    assert_eq!(response(200, &[], b"\xff").text().unwrap_err().code(), "BODY_INVALID");
    assert_eq!(response(200, &[], b"[1,2]").json::<Vec<u8>>().unwrap(), [1, 2]);
    let error = response(200, &[], b"{}").json::<Vec<u8>>().unwrap_err();
    assert_eq!((error.code(), matches!(error, Error::Failed(_))), ("BODY_INVALID", true));
}

#[test]
fn a_reader_reads_beyond_the_limit() {
    let mut response = response(200, &[], b"12345").limit(1);
    let mut first = [0; 2];
    response.reader().read_exact(&mut first).unwrap();
    let mut rest = String::new();
    response.reader().read_to_string(&mut rest).unwrap();
    assert_eq!((&first, rest.as_str()), (b"12", "345"));
}

#[test]
fn a_body_that_breaks_says_what_the_host_said() {
    struct Broken(Error);
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other(self.0.clone()))
        }
    }
    let why = Error::failed("HTTP_TIMEOUT", "nothing came for 15000 ms (`timeouts.idle_ms`)");
    assert_eq!(Response::new(200, Vec::new(), Broken(why.clone())).bytes(), Err(why.clone()));
    assert_eq!(Error::from_io(io::Error::other("the disk is full")).code(), "BODY_BROKEN");
    // Through `io::Read` its text is the same.
    let mut response = Response::new(200, Vec::new(), Broken(why.clone()));
    assert_eq!(io::copy(&mut response.reader(), &mut io::sink()).unwrap_err().to_string(), why.to_string());
}

#[test]
fn a_status_is_an_error_only_if_that_is_asked() {
    for status in [200, 204, 299] {
        assert_eq!(response(status, &[], b"").error_for_status().unwrap().status(), status);
    }
    for status in [199, 304, 404, 503] {
        let error = response(status, &[], b"").error_for_status().unwrap_err();
        assert!(error.code() == "HTTP_STATUS" && error.to_string().contains(&status.to_string()), "{error}");
    }
    let error = response(302, &[("Location", "https://b.example/")], b"").error_for_status().unwrap_err();
    assert!(error.to_string().contains("to `https://b.example/`"), "{error}");
}

#[test]
fn a_header_is_found_whatever_its_case() {
    let found = response(200, &[("Content-Type", "a/b"), ("x", "1"), ("X", "2")], b"");
    assert_eq!((found.header("content-type"), found.header("X"), found.header("y")), (Some("a/b"), Some("1"), None));
    assert_eq!(found.headers().len(), 3);
    let odd = Response::new(200, vec![("odd".into(), vec![0xff])], io::empty());
    assert_eq!(odd.header("odd"), None);
}

#[test]
fn json_has_its_type_unless_another_is_given() {
    let plain = Request::new("POST", "https://a.example").json(&[1]).unwrap();
    assert_eq!(plain, Request::new("POST", "https://a.example").header("content-type", "application/json").body("[1]"));
    let own = Request::new("POST", "https://a.example").header("Content-Type", "application/merge-patch+json");
    assert_eq!(own.clone().json(&[1]).unwrap(), own.body("[1]"));
    let keyed_by_lists = HashMap::from([(vec![1], 1)]);
    let error = Request::new("POST", "https://a.example").json(&keyed_by_lists).unwrap_err();
    assert_eq!((error.code(), matches!(error, Error::Invalid(_))), ("VALUE_INVALID", true));
}

#[test]
fn an_error_keeps_its_code_as_another() {
    let transport = Error::Transport("connection refused".into());
    assert_eq!(transport.to_string(), "the request failed: connection refused");
    assert_eq!(CallError::from(transport.clone()).code(), "HTTP_TRANSPORT");
    assert_eq!(crate::Error::from(transport).code, "HTTP_TRANSPORT");
    let call = CallError::Failed(crate::Error::new("DNS_FAILED", "there is no such name"));
    assert_eq!(CallError::from(Error::from(call.clone())), call);
}
