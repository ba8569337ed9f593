//! A request, and how it is sent.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde::Serialize;

use super::{Error, Response, host, url::Url};

/// A request that was not sent yet.
///
/// ```no_run
/// use std::time::Duration;
/// use palisade_guest::http::{Error, Request};
///
/// # fn main() -> Result<(), Error> {
/// let response = Request::new("PUT", "https://api.example.com/notes/7")
///     .header("content-type", "text/plain")
///     .body("remember the milk")
///     .timeout(Duration::from_secs(5))
///     .send()?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(super) method: String,
    url: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
    pub(super) timeout: Option<Duration>,
}

/// Writes a body, piece by piece.
pub(super) type WriteBody<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

impl Request {
    /// Returns a request without headers and body. The URL is absolute, and what is not ASCII in it is percent-encoded.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body: None, timeout: None }
    }

    /// Adds a header. The host sets `host` and the headers of the connection; a credential is its to attach.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets a value as the body, in JSON, and its content type. One that cannot be serialised is invalid
    /// (`VALUE_INVALID`).
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(|e| Error::invalid("VALUE_INVALID", e))?;
        let typed = if self.has("content-type") { self } else { self.header("content-type", "application/json") };
        Ok(typed.body(body))
    }

    /// Gives up after so long without progress: until it is connected, until the response begins, and between its
    /// pieces. The limits of the rule hold in any case.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends the request and waits until the response begins.
    pub fn send(mut self) -> Result<Response, Error> {
        let Some(body) = self.body.take() else { return self.exchange(None) };
        let request = if self.has("content-length") {
            self
        } else {
            // Known, so that the server need not take a body in chunks.
            self.header("content-length", body.len().to_string())
        };
        request.exchange(Some(Box::new(move |writer| writer.write_all(&body))))
    }

    /// Sends the request with the body that a function writes, and waits until the response begins.
    ///
    /// A write blocks until the host takes more. It fails if the request does, or if the server refuses it before it
    /// has all of the body; that is then what this returns. If the function itself fails, the request is given up
    /// (`BODY_BROKEN`).
    ///
    /// ```no_run
    /// use std::{fs::File, io};
    /// use palisade_guest::{Error, http::Request};
    ///
    /// # fn main() -> Result<(), Error> {
    /// let mut log = File::open("/workspace/log")?;
    /// Request::new("PUT", "https://logs.example.com/today")
    ///     .send_streaming(|mut writer| io::copy(&mut log, &mut writer).map(drop))?
    ///     .error_for_status()?;
    /// # Ok(()) }
    /// ```
    pub fn send_streaming<W>(self, write: W) -> Result<Response, Error>
    where
        W: FnOnce(&mut dyn Write) -> io::Result<()>,
    {
        self.exchange(Some(Box::new(write)))
    }

    fn exchange(&self, body: Option<WriteBody<'_>>) -> Result<Response, Error> {
        host::exchange(self, &Url::split(&self.url)?, body)
    }

    fn has(&self, header: &str) -> bool {
        self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(header))
    }
}
