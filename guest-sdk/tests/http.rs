//! HTTP outside the sandbox: there is none, and requests that are wrong say so all the same.

use palisade_guest::{
    Error,
    http::{self, Request},
};

#[test]
fn outside_the_sandbox_there_is_no_network() {
    let error = http::get("https://a.example/").unwrap_err();
    assert!(matches!(&error, http::Error::Unavailable(_)) && !error.is_denied());
    assert_eq!(error.code(), "OUTSIDE_SANDBOX");
    let sent = http::post("https://a.example/").header("x", "1").json(&[1]).unwrap().send();
    assert_eq!(sent.unwrap_err().code(), "OUTSIDE_SANDBOX");
    let streamed = Request::new("PUT", "https://a.example/").send_streaming(|writer| writer.write_all(b"x"));
    assert_eq!(streamed.unwrap_err().code(), "OUTSIDE_SANDBOX");
}

#[test]
fn a_wrong_url_is_invalid_before_anything_is_sent() {
    assert_eq!(http::get("a.example").unwrap_err().code(), "URL_INVALID");
}

#[test]
fn with_a_question_mark_its_code_is_the_step_s() {
    let step = || -> Result<String, Error> { Ok(http::get("https://a.example/")?.error_for_status()?.text()?) };
    assert_eq!(step().unwrap_err(), Error::new("OUTSIDE_SANDBOX", "there is no HTTP outside the sandbox"));
}
