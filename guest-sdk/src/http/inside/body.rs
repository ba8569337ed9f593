//! The bodies of an exchange, as they go and come.

use std::io::{self, Read, Write};

use wasip2::{
    http::types::{self, FutureIncomingResponse, IncomingBody, IncomingResponse, OutgoingBody},
    io::{
        poll,
        streams::{InputStream, OutputStream, StreamError},
    },
};

use super::{answer, failed, refused};
use crate::http::Error;

/// Bytes that one call reads at most: as much as the host keeps ready.
const READ_MAX: usize = 64 << 10;

/// What is left open of a body that the server did not want whole. The stream is dropped first.
pub type Unsent = Option<(OutputStream, OutgoingBody)>;

/// A request's body on its way, with an eye on the response.
pub struct Outgoing<'a> {
    stream: &'a OutputStream,
    response: &'a FutureIncomingResponse,
    /// The response, if it came before the body was sent.
    early: Option<Result<IncomingResponse, Error>>,
    /// Nobody takes more of the body.
    stopped: bool,
}

impl<'a> Outgoing<'a> {
    pub fn new(stream: &'a OutputStream, response: &'a FutureIncomingResponse) -> Self {
        Self { stream, response, early: None, stopped: false }
    }

    /// Returns the response, if it came already, and whether nobody takes more of the body.
    pub fn outcome(self) -> (Option<Result<IncomingResponse, Error>>, bool) {
        (self.early, self.stopped)
    }

    /// Waits until the stream takes more. A response that refuses the request ends the sending; any other does not, for
    /// some servers answer while they read.
    fn wait(&mut self) -> io::Result<()> {
        let stream = self.stream.subscribe();
        if self.early.is_some() {
            stream.block();
            return Ok(());
        }
        let response = self.response.subscribe();
        poll::poll(&[&stream, &response]);
        if !response.ready() {
            return Ok(());
        }
        let refused = |answer: &IncomingResponse| answer.status() >= 400;
        if self.early.insert(answer(self.response)).as_ref().map_or(true, refused) {
            return Err(self.stop());
        }
        Ok(())
    }

    fn broken(&mut self, error: StreamError) -> io::Error {
        match error {
            StreamError::Closed => self.stop(),
            // It is more than the length that the request's header promised.
            StreamError::LastOperationFailed(error) => io::Error::other(match types::http_error_code(&error) {
                Some(code) => refused(&code),
                None => Error::Transport(error.to_debug_string()),
            }),
        }
    }

    fn stop(&mut self) -> io::Error {
        self.stopped = true;
        io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes more of the request's body")
    }
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.stopped {
            return Err(self.stop());
        }
        loop {
            match self.stream.check_write() {
                Ok(0) => self.wait()?,
                Ok(room) => {
                    let taken = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
                    return self.stream.write(&bytes[..taken]).map(|()| taken).map_err(|error| self.broken(error));
                }
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.blocking_flush().map_err(|error| self.broken(error))
    }
}

/// A response's body as it arrives. Fields are dropped in this order, as the host wants it.
pub struct Incoming {
    /// Nothing, if the response has no body to read.
    stream: Option<InputStream>,
    _body: Option<IncomingBody>,
    _unsent: Unsent,
}

impl Incoming {
    pub fn new(response: IncomingResponse, unsent: Unsent) -> Self {
        let body = response.consume().ok();
        let stream = body.as_ref().and_then(|body| body.stream().ok());
        Self { stream, _body: body, _unsent: unsent }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some(stream) = &self.stream else { return Ok(0) };
        loop {
            match stream.blocking_read(buffer.len().min(READ_MAX) as u64) {
                // Something came, and none of it was of the body.
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => {
                    buffer[..piece.len()].copy_from_slice(&piece);
                    return Ok(piece.len());
                }
                Err(StreamError::Closed) => return Ok(0),
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(io::Error::other(failed(|| error.to_debug_string())));
                }
            }
        }
    }
}
