//! HTTP inside the sandbox: wasi:http of the host.

mod body;

use std::time::Duration;

use wasip2::http::{
    outgoing_handler,
    types::{
        ErrorCode, Fields, FutureIncomingResponse, HeaderError, IncomingResponse, Method, OutgoingBody,
        OutgoingRequest, RequestOptions, Scheme,
    },
};

use self::body::{Incoming, Outgoing};
use super::{Error, Request, Response, request::WriteBody, url::Url};
use crate::{CallError, bindings::palisade::agent::http as host};

/// Sends a request, then its body, and returns the response as soon as it begins.
pub fn exchange(request: &Request, url: &Url<'_>, write: Option<WriteBody<'_>>) -> Result<Response, Error> {
    let outgoing = outgoing(request, url)?;
    let body = match write {
        Some(write) => Some((outgoing.body().map_err(|()| wrong("content-length", "is no length"))?, write)),
        None => None,
    };
    let options = request.timeout.map(options).transpose()?;
    let future = outgoing_handler::handle(outgoing, options).map_err(|code| refused(&code))?;
    match body {
        Some((body, write)) => send(body, write, &future),
        None => Ok(response(answer(&future)?, None)),
    }
}

fn outgoing(request: &Request, url: &Url<'_>) -> Result<OutgoingRequest, Error> {
    let headers = Fields::new();
    for (name, value) in &request.headers {
        headers.append(name, value).map_err(|error| match error {
            HeaderError::Forbidden => wrong(name, "is the host's to set"),
            HeaderError::InvalidSyntax | HeaderError::Immutable => wrong(name, "has a wrong name or value"),
        })?;
    }
    let outgoing = OutgoingRequest::new(headers);
    let no_url = |part: &str| Error::invalid("URL_INVALID", format_args!("the host takes no URL with this {part}"));
    outgoing.set_method(&method(&request.method)).map_err(|()| {
        Error::invalid("METHOD_INVALID", "the host takes no such method: use one as `GET`, in upper case")
    })?;
    outgoing.set_scheme(Some(&scheme(url.scheme))).map_err(|()| no_url("scheme"))?;
    outgoing.set_authority(Some(url.authority)).map_err(|()| no_url("host and port"))?;
    outgoing.set_path_with_query(Some(&url.path_with_query)).map_err(|()| no_url("path and query"))?;
    Ok(outgoing)
}

fn options(timeout: Duration) -> Result<RequestOptions, Error> {
    let nanoseconds = Some(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    let options = RequestOptions::new();
    options
        .set_connect_timeout(nanoseconds)
        .and_then(|()| options.set_first_byte_timeout(nanoseconds))
        .and_then(|()| options.set_between_bytes_timeout(nanoseconds))
        .map_err(|()| Error::invalid("TIMEOUT_INVALID", "the host takes no such timeout"))?;
    Ok(options)
}

fn send(body: OutgoingBody, write: WriteBody<'_>, future: &FutureIncomingResponse) -> Result<Response, Error> {
    let stream = body.write().map_err(|()| Error::failed("BODY_BROKEN", "the host takes no body"))?;
    let mut outgoing = Outgoing::new(&stream, future);
    let written = write(&mut outgoing);
    let (early, stopped) = outgoing.outcome();
    let early = early.transpose()?;
    if stopped {
        // The server did not want the rest. To give it up would break the answer, so it stays open as long as that.
        let answer = early.map_or_else(|| answer(future), Ok)?;
        return Ok(response(answer, Some((stream, body))));
    }
    written.map_err(Error::from_io)?;
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|code| refused(&code))?;
    Ok(response(early.map_or_else(|| answer(future), Ok)?, None))
}

/// Waits until the response begins.
fn answer(future: &FutureIncomingResponse) -> Result<IncomingResponse, Error> {
    loop {
        match future.get() {
            Some(Ok(answer)) => return answer.map_err(|code| failed(|| words(&code))),
            Some(Err(())) => return Err(Error::Transport("the response was taken already".into())),
            None => future.subscribe().block(),
        }
    }
}

fn response(answer: IncomingResponse, unsent: body::Unsent) -> Response {
    let status = answer.status();
    let headers = answer.headers().entries();
    Response::new(status, headers, Incoming::new(answer, unsent))
}

/// Returns what the host knows of the last request that failed.
pub fn why() -> Option<CallError> {
    host::why().map(CallError::from)
}

/// Returns why a request failed that was under way: what the host knows of it, or else these words.
fn failed(words: impl FnOnce() -> String) -> Error {
    why().map_or_else(|| Error::Transport(words()), Error::from)
}

/// Returns why a request does not get under way. The host was not asked yet, so it does not know of any other reason.
fn refused(code: &ErrorCode) -> Error {
    Error::invalid("REQUEST_INVALID", format_args!("the request cannot be sent: {}", words(code)))
}

/// Returns the words of a code: `connection refused`.
fn words(code: &ErrorCode) -> String {
    if let ErrorCode::InternalError(Some(text)) = code {
        return format!("internal error: {text}");
    }
    let name = format!("{code:?}");
    let name = name.split(['(', ' ']).next().unwrap_or_default().trim_start_matches("ErrorCode::");
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

fn wrong(header: &str, why: &str) -> Error {
    Error::invalid("HEADER_INVALID", format_args!("the header `{header}` {why}"))
}

fn method(method: &str) -> Method {
    match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.into()),
    }
}

fn scheme(scheme: &str) -> Scheme {
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => Scheme::Other(scheme.into()),
    }
}
