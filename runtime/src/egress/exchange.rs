//! One request on one connection, up to the response's header, and what becomes of the connection.

use std::{error::Error, fmt::Write, io, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method, Request as Message, Response, Uri,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use super::{
    client::Attachment,
    connection::BUFFER_BYTES,
    error::{Code, Deadline, SendError},
    pool::Lease,
    request::Request,
    rule::Timeouts,
    upload::{Sending, Upload},
};

/// How long a connection may take to be ready for the next request after a response; else it is closed.
const READY: Duration = Duration::from_millis(50);

/// A request under way. Dropping it gives up whatever is left of it.
pub struct Exchange {
    pub lease: Lease,
    pub upload: Upload,
}

/// A request that got no response.
pub struct Failed {
    pub error: SendError,
    /// Whether the upstream did nothing with it: nothing left, or it says so.
    pub unsent: bool,
    /// Whether the connection broke before anything came back.
    pub silent: bool,
}

impl Exchange {
    /// Writes a request and waits for the response's header.
    pub async fn begin(
        &mut self,
        request: &Request,
        attachment: &Attachment,
        timeouts: &Timeouts,
        total: Deadline,
    ) -> Result<Response<Incoming>, Failed> {
        let failed = |error: SendError| Failed { error, unsent: false, silent: false };
        let http2 = self.lease.connection.http2();
        let message = message(request, attachment, self.upload.begin(http2), http2).map_err(failed)?;
        let meter = self.lease.connection.meter();
        meter.useful();
        let before = meter.read();
        let Self { lease, upload } = self;
        let answer = wait(lease.connection.send(message), upload, timeouts, total).await;
        let error = match answer.map_err(|error| failed(error.sent()))? {
            Ok(response) => {
                self.lease.connection.meter().useful();
                return Ok(response);
            }
            Err(error) => error,
        };
        // Refusing a stream, an upstream says that it did nothing with it.
        let refused = http2_error(error.error()).is_some_and(|error| {
            error.is_remote() && error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
        });
        let unsent = refused || error.message().is_some();
        let silent = match http2 {
            true => http2_error(error.error()).is_none_or(|error| error.is_io() || error.is_go_away()),
            false => self.lease.connection.meter().read() == before,
        };
        let error = self.failure(error.error());
        Err(Failed { error: SendError { sent: !unsent, ..error }, unsent, silent })
    }

    /// Ends an exchange whose response is whole. Its connection serves the next one, if it can.
    pub async fn finish(self) {
        let Self { mut lease, upload } = self;
        // Else the upstream answered before it had all: the rest is not worth sending.
        let complete = upload.complete();
        if complete
            && !lease.connection.http2()
            && tokio::time::timeout(READY, lease.connection.ready()).await == Ok(true)
        {
            lease.give_back();
        }
    }

    /// Returns what a failure of the connection means.
    pub fn failure(&self, error: &hyper::Error) -> SendError {
        if let Some(broken) = self.upload.broken() {
            return broken;
        }
        if let Some(bytes) = self.lease.connection.meter().exceeded() {
            let message = format!(
                "the upstream sent more than {bytes} bytes with neither a response nor a piece of its body among them"
            );
            return SendError::new(Code::ResponseTooLarge, message).sent();
        }
        let sources: Vec<&dyn Error> = std::iter::successors(error.source(), |&error| error.source()).take(4).collect();
        if error.is_parse_too_large() {
            return head_too_large().sent();
        }
        let tls = sources.iter().filter_map(|source| source.downcast_ref::<io::Error>()?.get_ref());
        let code =
            if tls.into_iter().any(|error| error.is::<rustls::Error>()) { Code::TlsFailed } else { Code::HttpProtocol };
        let mut message = format!("the exchange with `{}` broke: {error}", self.lease.address);
        // What HTTP/2 says of its end holds texts of the upstream's: only the reason is told.
        let told = match http2_error(error) {
            Some(error) => error.reason().map(|reason| reason.to_string()).into_iter().collect(),
            None => sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
        };
        // Writing to a text does not fail.
        told.iter().for_each(|told| _ = write!(message, ": {told}"));
        let ours = http2_error(error).filter(|error| error.is_library() && error.is_reset());
        if ours.and_then(h2::Error::reason) == Some(h2::Reason::PROTOCOL_ERROR) {
            // There is no telling the two apart.
            let _ = write!(message, ", or the response's header is longer than {BUFFER_BYTES} bytes");
        }
        SendError::new(code, message).sent()
    }
}

fn http2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

/// The failure of a response whose header is larger than we take.
pub fn head_too_large() -> SendError {
    let message = format!("the response's header has more than 100 fields or {BUFFER_BYTES} bytes");
    SendError::new(Code::ResponseTooLarge, message)
}

/// Waits for an answer: for `idle_ms` at a time while the request's body goes out, and then for `first_byte_ms`.
async fn wait<F: Future>(
    answer: F,
    upload: &Upload,
    timeouts: &Timeouts,
    total: Deadline,
) -> Result<F::Output, SendError> {
    let mut answer = std::pin::pin!(answer);
    loop {
        let (moved, complete) = (upload.moved(), upload.complete());
        let (deadline, what) = if complete {
            (Deadline::new(moved, "first_byte_ms", timeouts.first_byte()), "the response")
        } else {
            (Deadline::new(moved, "idle_ms", timeouts.idle()), "the next piece of the request's body")
        };
        let (deadline, now) = (deadline.or(total), Instant::now());
        if deadline.at <= now {
            return Err(deadline.passed(what));
        }
        // The body may end, and the first byte be due, before it is idle.
        let look = if complete { deadline.at } else { deadline.at.min(now + timeouts.first_byte()) };
        tokio::select! {
            biased;
            error = upload.broke() => return Err(error),
            answer = &mut answer => return Ok(answer),
            () = tokio::time::sleep_until(look) => {}
        }
    }
}

/// Puts together what is sent.
fn message(
    request: &Request,
    attachment: &Attachment,
    body: Option<Sending>,
    http2: bool,
) -> Result<Message<Sending>, SendError> {
    let unwritable = |_: http::Error| SendError::new(Code::HttpProtocol, "the request's target cannot be written");
    let body = body.ok_or_else(|| SendError::new(Code::BodyBroken, "the request's body is gone"))?;
    let mut target = if http2 { format!("{}://{}", request.scheme, request.authority()) } else { String::new() };
    target.push_str(&request.path);
    for (index, query) in [&request.query, &attachment.query].into_iter().flatten().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        target.push_str(query);
    }
    let mut headers = HeaderMap::with_capacity(request.headers.len() + attachment.headers.len() + 2);
    if !http2 {
        // First, as servers like it.
        headers.insert(HOST, HeaderValue::try_from(request.authority()).map_err(|error| unwritable(error.into()))?);
    }
    headers.extend(request.headers.clone());
    for (name, _) in &attachment.headers {
        headers.remove(name);
    }
    for (name, value) in &attachment.headers {
        let mut value = value.clone();
        value.set_sensitive(true);
        headers.append(name.clone(), value);
    }
    match request.content_length {
        Some(length) => drop(headers.insert(CONTENT_LENGTH, length.into())),
        None if !body.is_end_stream() && !http2 => {
            drop(headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked")));
        }
        // Servers wait for a body that may be missing.
        None if body.is_end_stream() && [Method::POST, Method::PUT, Method::PATCH].contains(&request.method) => {
            drop(headers.insert(CONTENT_LENGTH, 0.into()));
        }
        None => {}
    }
    let mut message = Message::new(body);
    *message.method_mut() = request.method.clone();
    *message.uri_mut() = Uri::try_from(target).map_err(|error| unwritable(error.into()))?;
    *message.headers_mut() = headers;
    Ok(message)
}
