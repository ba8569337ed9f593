//! A request's body on its way out: counted, checked, and taken back when the request is to be sent again.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::{sync::Notify, time::Instant};

use super::{
    error::{BodyError, Code, SendError},
    headers,
    reply::PIECE_BYTES,
};

#[cfg(test)]
mod tests;

/// A request's body. Its frames should be small, [`PIECE_BYTES`] at most: larger ones are cut, yet held whole.
pub type RequestBody = UnsyncBoxBody<Bytes, BodyError>;

/// The sender's hold of a request's body. Dropping it gives the body up, which aborts the request.
pub struct Upload(Arc<Shared>);

/// What the connection reads. Only the last one made reads anything.
pub struct Sending {
    shared: Arc<Shared>,
    turn: u32,
}

struct Shared {
    state: Mutex<State>,
    broke: Notify,
}

struct State {
    body: Option<RequestBody>,
    /// What is left of a frame that was too large.
    rest: Bytes,
    bytes: u64,
    bytes_max: u64,
    length: Option<u64>,
    /// Whether anything was read, or it broke: it cannot be sent a second time.
    touched: bool,
    ended: bool,
    trailers: bool,
    broken: Option<SendError>,
    moved: Instant,
    turn: u32,
    waker: Option<Waker>,
}

impl Upload {
    /// A body of at most `bytes_max`, and of exactly `length` if that is known.
    pub fn new(body: RequestBody, length: Option<u64>, bytes_max: u64) -> Self {
        let ended = body.is_end_stream() && length.unwrap_or_default() == 0;
        let state = State {
            body: Some(body),
            rest: Bytes::new(),
            bytes: 0,
            bytes_max,
            length,
            touched: false,
            ended,
            trailers: false,
            broken: None,
            moved: Instant::now(),
            turn: 0,
            waker: None,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), broke: Notify::new() }))
    }

    /// Returns what a connection reads. `trailers` says whether it can carry them. None if something was read already.
    pub fn begin(&self, trailers: bool) -> Option<Sending> {
        let mut state = self.0.state();
        if state.touched {
            return None;
        }
        state.turn += 1;
        state.trailers = trailers;
        state.moved = Instant::now();
        Some(Sending { shared: self.0.clone(), turn: state.turn })
    }

    /// Returns whether nothing of it was read.
    pub fn untouched(&self) -> bool {
        !self.0.state().touched
    }

    /// Returns whether the connection took all of it, or all that was declared.
    pub fn complete(&self) -> bool {
        self.0.state().complete()
    }

    /// Returns when the connection last took something of it.
    pub fn moved(&self) -> Instant {
        self.0.state().moved
    }

    /// Returns why it broke, if it did.
    pub fn broken(&self) -> Option<SendError> {
        self.0.state().broken.clone()
    }

    /// Waits until it breaks.
    pub async fn broke(&self) -> SendError {
        loop {
            let broke = self.0.broke.notified();
            if let Some(error) = self.broken() {
                return error;
            }
            broke.await;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut state = self.0.state();
        // Whoever still reads wakes, is told that the body is gone, and aborts the request.
        state.turn += 1;
        let (body, waker) = (state.body.take(), state.waker.take());
        drop(state);
        drop(body);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.rest.is_empty() {
            let Some(body) = &mut self.body else {
                return Poll::Ready(Some(Err(broken(String::from("the request's body is gone")))));
            };
            let frame = match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                None => return Poll::Ready(self.end().map(|()| None).unwrap_or_else(|error| Some(Err(error)))),
                Some(Err(BodyError(reason))) => {
                    return Poll::Ready(Some(Err(broken(format!("the request's body broke: {reason}")))));
                }
                Some(Ok(frame)) => frame,
            };
            self.rest = match frame.into_data() {
                Ok(data) if data.is_empty() => {
                    // It says nothing, and must not keep a request alive, nor others from their turn.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(data) => data,
                Err(frame) => return Poll::Ready(Some(self.finish(frame.into_trailers().unwrap_or_default()))),
            };
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(self.count(piece.len()).map(|()| Frame::data(piece))))
    }

    fn count(&mut self, bytes: usize) -> Result<(), SendError> {
        self.touched = true;
        self.moved = Instant::now();
        self.bytes += bytes as u64;
        if self.bytes > self.bytes_max {
            let message = format!("the request's body is longer than the limit `request_bytes` of {}", self.bytes_max);
            return Err(SendError::new(Code::RequestTooLarge, message));
        }
        if let Some(length) = self.length.filter(|length| self.bytes > *length) {
            return Err(broken(format!("the request's body is longer than its content-length of {length}")));
        }
        // Said at once, if it is known, so that the end goes out with the last bytes.
        let last = self.rest.is_empty() && self.body.as_ref().is_none_or(|body| body.is_end_stream());
        self.ended = last && self.length.is_none_or(|length| self.bytes == length);
        Ok(())
    }

    /// Whether the upstream has, or will have, a whole request.
    fn complete(&self) -> bool {
        self.ended || self.broken.is_none() && self.length.is_some_and(|length| self.bytes >= length)
    }

    fn end(&mut self) -> Result<(), SendError> {
        match self.length {
            Some(length) if self.bytes < length => Err(broken(format!(
                "the request's body ended after {} bytes, and its content-length is {length}",
                self.bytes
            ))),
            _ => {
                self.ended = true;
                self.moved = Instant::now();
                Ok(())
            }
        }
    }

    fn finish(&mut self, trailers: http::HeaderMap) -> Result<Frame<Bytes>, SendError> {
        self.touched = true;
        headers::check_trailers(&trailers).map_err(|reason| broken(format!("the request's trailers: {reason}")))?;
        if !self.trailers {
            // HTTP/1.1 has to name them before the body; ours are not known then.
            return Err(broken(String::from("the request has trailers, and this upstream speaks HTTP/1.1")));
        }
        self.end()?;
        Ok(Frame::trailers(trailers))
    }
}

fn broken(message: String) -> SendError {
    SendError::new(Code::BodyBroken, message)
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.shared.state();
        if state.turn != self.turn {
            return Poll::Ready(Some(Err(BodyError(String::from("given up")))));
        }
        let polled = state.poll(cx);
        match polled {
            Poll::Pending => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => {
                let reason = BodyError(error.message.clone());
                state.touched = true;
                state.broken = Some(error.sent());
                state.body = None;
                drop(state);
                self.shared.broke.notify_waiters();
                Poll::Ready(Some(Err(reason)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.state();
        // HTTP/1.1 has nothing after the declared length; HTTP/2 may have trailers.
        state.turn == self.turn && (state.ended || !state.trailers && state.complete())
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.shared.state();
        match state.length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(state.bytes)),
            None if state.ended => SizeHint::with_exact(0),
            None => SizeHint::default(),
        }
    }
}
