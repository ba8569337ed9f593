//! A guest's end of one HTTP request: its bodies in pieces, in both directions, and never more of them on the way than
//! the window.

#[cfg(test)]
mod tests;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use wasmtime_wasi_http::{Error, WasiBody};

use super::{gate::Gate, http::error_code};
use crate::{
    step::{
        Answer, BODY_WINDOW_BYTES, CallError, FIXED, Failure, Headers, HttpResponse, PIECE_BYTES_MAX, Piece,
        field_bytes,
    },
    wire::{FromWorker, WireError},
};

/// A request that is under way. Dropping it tells the daemon that nobody wants it any more.
pub struct Exchange {
    gate: Gate,
    call: u64,
    head: oneshot::Receiver<Result<Answer, CallError>>,
    pieces: mpsc::UnboundedReceiver<Piece>,
    room: Arc<Semaphore>,
    /// What was read of the response's body and the daemon does not know of.
    untold: u32,
}

/// Where what comes from the daemon goes.
pub struct Receiving {
    head: Option<oneshot::Sender<Result<Answer, CallError>>>,
    pieces: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
    /// Kept until the daemon has ended the call, whatever the guest does.
    _place: OwnedSemaphorePermit,
}

impl Receiving {
    pub(super) fn head(&mut self, answer: Result<Answer, CallError>) {
        if let Some(head) = self.head.take() {
            let _ = head.send(answer); // fails if the guest stopped waiting
        }
    }

    pub(super) fn piece(&self, piece: Piece) {
        let _ = self.pieces.send(piece); // fails if the guest stopped reading
    }

    pub(super) fn room(&self, weight: u32) {
        let taken = BODY_WINDOW_BYTES.saturating_sub(self.room.available_permits() as u32);
        self.room.add_permits(weight.min(taken) as usize);
    }
}

/// The call has ended: who still sends its body stops.
impl Drop for Receiving {
    fn drop(&mut self) {
        self.room.close();
    }
}

impl Exchange {
    pub(super) fn new(gate: Gate, call: u64, place: OwnedSemaphorePermit) -> (Self, Receiving) {
        let (sender, head) = oneshot::channel();
        // Bounded by the window, which the daemon keeps.
        let (piece, pieces) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(BODY_WINDOW_BYTES as usize));
        let receiving = Receiving { head: Some(sender), pieces: piece, room: room.clone(), _place: place };
        (Self { gate, call, head, pieces, room, untold: 0 }, receiving)
    }

    /// Waits for the beginning of the response.
    pub async fn head(&mut self) -> Result<HttpResponse, Error> {
        match (&mut self.head).await {
            Ok(Ok(Answer::Response(response))) => Ok(response),
            Ok(Err(error)) => Err(self.failed(error)),
            Ok(Ok(_)) | Err(_) => {
                let failure = Failure::new("HTTP_PROTOCOL", "the daemon sent no response");
                Err(self.failed(CallError::Failed(failure)))
            }
        }
    }

    /// Returns what sends the request's body, to its end. Once the call has ended, the rest goes nowhere: a guest that
    /// still writes hears how its request ended from the response, and not from a broken stream.
    pub fn upload(&self, mut body: WasiBody) -> impl Future<Output = ()> + Send + use<> {
        let upload = Upload { gate: self.gate.clone(), call: self.call, room: self.room.clone() };
        async move {
            let sent = match upload.pieces(&mut body).await {
                Ok(last) => upload.send(last).await,
                Err(ended) => Err(ended),
            };
            if sent.is_err() {
                while let Some(Ok(_)) = body.frame().await {}
            }
        }
    }

    fn failed(&self, error: CallError) -> Error {
        let code = error_code(&error);
        self.gate.failed_because(error);
        code
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.gate.is_under_way(self.call) {
            self.gate.send_later(&FromWorker::Drop { step: self.gate.step(), call: self.call });
        }
    }
}

struct Upload {
    gate: Gate,
    call: u64,
    room: Arc<Semaphore>,
}

impl Upload {
    /// Sends all of a body but its last piece, which it returns.
    async fn pieces(&self, body: &mut WasiBody) -> Result<Piece, WireError> {
        loop {
            let frame = match body.frame().await {
                None => return Ok(Piece::End { trailers: Vec::new() }),
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return Ok(broken()),
            };
            let mut data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    let trailers = frame.into_trailers().map(|trailers| headers(&trailers)).unwrap_or_default();
                    // As they lie in memory a name with many values counts once: here it is there with each.
                    if field_bytes(&trailers) > FIXED.header_fields_bytes {
                        return Ok(broken());
                    }
                    return Ok(Piece::End { trailers });
                }
            };
            while !data.is_empty() {
                let piece = data.split_to(data.len().min(PIECE_BYTES_MAX));
                self.send(Piece::Data(piece.into())).await?;
            }
        }
    }

    async fn send(&self, piece: Piece) -> Result<(), WireError> {
        let room = self.room.acquire_many(piece.weight()).await.map_err(|_| WireError::Closed)?;
        room.forget();
        self.gate.send(&FromWorker::Body { step: self.gate.step(), call: self.call, piece }).await
    }
}

/// Returns the end of a body that is not whole.
fn broken() -> Piece {
    Piece::Broken(CallError::Invalid(Failure::new("BODY_BROKEN", "the guest gave its request's body up")))
}

/// The response's body, as the guest reads it.
impl Body for Exchange {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(piece) = ready!(self.pieces.poll_recv(cx)) else {
            // After the last piece there is nothing; without one, the step ends.
            return Poll::Ready(None);
        };
        let weight = piece.weight();
        Poll::Ready(match piece {
            Piece::Data(data) => {
                self.untold += weight;
                // Told by halves of the window: most bodies are smaller, and end without it.
                if self.untold >= BODY_WINDOW_BYTES / 2 {
                    let weight = std::mem::take(&mut self.untold);
                    self.gate.send_later(&FromWorker::Taken { step: self.gate.step(), call: self.call, weight });
                }
                Some(Ok(Frame::data(data.into())))
            }
            Piece::End { trailers } if trailers.is_empty() => None,
            Piece::End { trailers } => Some(Ok(Frame::trailers(header_map(trailers)))),
            Piece::Broken(error) => Some(Err(self.failed(error))),
        })
    }
}

/// Returns headers as they are sent to the daemon.
pub fn headers(map: &HeaderMap) -> Headers {
    map.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// Returns headers as the guest gets them. The daemon sends none that are not.
pub fn header_map(headers: Headers) -> HeaderMap {
    let parsed = headers
        .into_iter()
        .filter_map(|(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?)));
    parsed.collect()
}
