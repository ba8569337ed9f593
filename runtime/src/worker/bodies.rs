//! The bodies of one HTTP request, as the daemon holds them: pieces in both directions, and never more of them on the way
//! than the window.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{running::Handle, steps::Violation};
use crate::{
    step::{Answer, BODY_WINDOW_BYTES, CallError, FIXED, Failure, HttpResponse, PIECE_BYTES_MAX, Piece, field_bytes},
    wire::{ToWorker, encode},
};

/// The bodies of one call.
pub struct Bodies {
    pub upload: Upload,
    pub download: Download,
    /// Cancelled once the guest wants no more of the call.
    pub dropped: CancellationToken,
}

/// The request's body.
pub struct Upload {
    call: u64,
    handle: Handle,
    pieces: mpsc::UnboundedReceiver<Piece>,
    /// What was taken and the worker does not know of.
    untold: u32,
}

/// The response, to the guest.
#[derive(Clone)]
pub struct Download {
    call: u64,
    handle: Handle,
    room: Arc<Semaphore>,
}

/// Where what comes from the worker goes, and what is on the way.
pub struct Ends {
    pieces: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
    dropped: CancellationToken,
    /// Of the request's body: sent by the worker and not taken here.
    uploading: u32,
    /// Of the response's body: sent from here and not taken by the guest.
    downloading: u32,
    /// The request's body is over.
    uploaded: bool,
    /// The response has begun.
    pub begun: bool,
}

/// The daemon's ends that the lifecycle gets, before they know the way back.
pub struct Loose {
    pieces: mpsc::UnboundedReceiver<Piece>,
    room: Arc<Semaphore>,
    dropped: CancellationToken,
}

impl Ends {
    /// Returns both ends of a new call's bodies.
    pub fn new() -> (Self, Loose) {
        // Bounded by the window, which is kept below.
        let (sender, pieces) = mpsc::unbounded_channel();
        let (room, dropped) = (Arc::new(Semaphore::new(BODY_WINDOW_BYTES as usize)), CancellationToken::new());
        let loose = Loose { pieces, room: room.clone(), dropped: dropped.clone() };
        (Self { pieces: sender, room, dropped, uploading: 0, downloading: 0, uploaded: false, begun: false }, loose)
    }

    /// Takes a piece of the request's body from the worker.
    pub fn piece(&mut self, piece: Piece) -> Result<(), Violation> {
        if self.uploaded {
            return Err(Violation::Window);
        }
        match &piece {
            Piece::Data(data) if data.len() > PIECE_BYTES_MAX => return Err(Violation::Limit("body_piece_bytes")),
            Piece::Data(_) => {}
            Piece::End { trailers } if field_bytes(trailers) > FIXED.header_fields_bytes => {
                return Err(Violation::Limit("header_fields_bytes"));
            }
            Piece::End { .. } | Piece::Broken(_) => self.uploaded = true,
        }
        self.uploading += piece.weight();
        if self.uploading > BODY_WINDOW_BYTES {
            return Err(Violation::Window);
        }
        let piece = match piece {
            // Whatever the worker says of it.
            Piece::Broken(_) => Piece::Broken(broken("the guest gave its request's body up")),
            piece => piece,
        };
        let _ = self.pieces.send(piece); // fails if nobody reads it any more
        Ok(())
    }

    /// Takes the worker's word that the guest took so much of the response's body.
    pub fn taken(&mut self, weight: u32) -> Result<(), Violation> {
        self.downloading = self.downloading.checked_sub(weight).ok_or(Violation::Window)?;
        self.room.add_permits(weight as usize);
        Ok(())
    }

    /// The guest wants no more of the call.
    pub fn drop_call(&self) {
        self.dropped.cancel();
    }

    /// So much of the request's body was taken here.
    pub fn uploaded(&mut self, weight: u32) {
        self.uploading = self.uploading.saturating_sub(weight);
    }

    /// So much of the response's body is on its way.
    pub fn downloading(&mut self, weight: u32) {
        self.downloading += weight;
    }
}

impl Loose {
    /// Returns the bodies of `call`.
    pub fn tied(self, call: u64, handle: &Handle) -> Bodies {
        let Self { pieces, room, dropped } = self;
        Bodies {
            upload: Upload { call, handle: handle.clone(), pieces, untold: 0 },
            download: Download { call, handle: handle.clone(), room },
            dropped,
        }
    }
}

impl Upload {
    /// Returns the next piece, and makes room for another.
    pub async fn next(&mut self) -> Piece {
        let Some(piece) = self.pieces.recv().await else {
            return Piece::Broken(broken("the step ended"));
        };
        self.untold += piece.weight();
        // Told by halves of the window: most bodies are smaller, and end without it.
        if self.untold >= BODY_WINDOW_BYTES / 2 {
            let (step, call, weight) = (self.handle.step(), self.call, std::mem::take(&mut self.untold));
            self.handle.stream(call, |ends| ends.uploaded(weight));
            self.handle.send(&ToWorker::Taken { step, call, weight }).await;
        }
        piece
    }
}

impl Download {
    /// Sends the beginning of the response, `at_ms` milliseconds after the step's start.
    pub async fn begin(&self, at_ms: u64, response: HttpResponse) {
        self.handle.stream(self.call, |ends| ends.begun = true);
        self.handle.answer(self.call, at_ms, Ok(Answer::Response(response))).await;
    }

    /// Sends a piece, once there is room for it.
    pub async fn send(&self, data: Vec<u8>) {
        let piece = Piece::Data(data);
        let (weight, step, call) = (piece.weight(), self.handle.step(), self.call);
        let Ok(room) = self.room.acquire_many(weight).await else { return };
        room.forget();
        self.handle.stream(call, |ends| ends.downloading(weight));
        if let Ok(frame) = encode(&ToWorker::Body { step, call, piece }) {
            self.handle.frame(&frame).await;
        }
    }
}

fn broken(why: &str) -> CallError {
    CallError::Invalid(Failure::new("BODY_BROKEN", why))
}
