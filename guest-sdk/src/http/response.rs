//! A response: its head, and its body as it arrives.

use std::{fmt, io::Read};

use serde::de::DeserializeOwned;

use super::Error;

/// Bytes of a body that are read into memory at most, unless [`Response::limit`] says otherwise.
const LIMIT: u64 = 16 << 20;

/// A response whose body has not been read yet. Dropping it gives up what is left.
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Box<dyn Read>,
    limit: u64,
}

impl Response {
    // Outside the sandbox only tests make one.
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
    pub(super) fn new(status: u16, headers: Vec<(String, Vec<u8>)>, body: impl Read + 'static) -> Self {
        Self { status, headers, body: Box::new(body), limit: LIMIT }
    }

    /// Returns the status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the first value of a header, if it is a text. Case does not matter in the name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// Returns the headers, as they came.
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    /// Makes an error of a status that is not 2xx (`HTTP_STATUS`): also of a redirect, which is not followed.
    pub fn error_for_status(self) -> Result<Self, Error> {
        match self.status {
            200..300 => Ok(self),
            300..400 => {
                let place = self.header("location").map(|place| format!(" to `{place}`")).unwrap_or_default();
                let message = format!("the server answers {}, a redirect{place}: it is not followed", self.status);
                Err(Error::failed("HTTP_STATUS", message))
            }
            status => Err(Error::failed("HTTP_STATUS", format_args!("the server answers {status}"))),
        }
    }

    /// Sets how many bytes [`bytes`](Self::bytes), [`text`](Self::text) and [`json`](Self::json) read at most. 16 MiB
    /// if it is not set.
    #[must_use]
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// Returns a reader of the body. It reads as much as arrives, whatever the limit.
    ///
    /// ```no_run
    /// use std::{fs::File, io};
    /// use palisade_guest::{Error, http};
    ///
    /// # fn main() -> Result<(), Error> {
    /// let mut response = http::get("https://files.example.com/large.tar")?.error_for_status()?;
    /// io::copy(&mut response.reader(), &mut File::create("/workspace/large.tar")?)?;
    /// # Ok(()) }
    /// ```
    pub fn reader(&mut self) -> impl Read + '_ {
        &mut self.body
    }

    /// Reads the body to its end. One that is larger than the limit has failed (`BODY_TOO_LARGE`).
    pub fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut bounded = self.body.as_mut().take(self.limit.saturating_add(1));
        bounded.read_to_end(&mut bytes).map_err(Error::from_io)?;
        if bytes.len() as u64 > self.limit {
            let message = format!("the body has more than {} bytes: raise the limit, or read it in pieces", self.limit);
            return Err(Error::failed("BODY_TOO_LARGE", message));
        }
        Ok(bytes)
    }

    /// Reads the body to its end, as UTF-8. One that is not has failed (`BODY_INVALID`).
    pub fn text(self) -> Result<String, Error> {
        String::from_utf8(self.bytes()?).map_err(|e| Error::failed("BODY_INVALID", e))
    }

    /// Reads the body to its end, as JSON. One that is no `T` has failed (`BODY_INVALID`).
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_slice(&self.bytes()?)
            .map_err(|e| Error::failed("BODY_INVALID", format_args!("the body is not what was expected: {e}")))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).field("headers", &self.headers).finish_non_exhaustive()
    }
}
