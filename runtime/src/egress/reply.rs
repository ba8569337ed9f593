//! An upstream's response, piece by piece.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    error::{Code, Deadline, SendError},
    exchange::Exchange,
    headers,
};

/// Bytes of one piece of a body.
pub const PIECE_BYTES: usize = 64 << 10;

/// A response whose body is still coming.
pub struct Reply {
    pub status: u16,
    /// Without those that hold for the connection only. At most 100 fields and 64 KiB.
    pub headers: HeaderMap,
    /// Who answered.
    pub address: SocketAddr,
    /// `http/1.1` or `h2`.
    pub protocol: &'static str,
    /// Whether the connection had served an earlier request.
    pub reused: bool,
    /// 2 if the request had to be sent again on a fresh connection.
    pub attempts: u32,
    pub body: ReplyBody,
}

/// The body of a response. Dropping it ends the exchange, wherever it is: an HTTP/1.1 connection is closed, an HTTP/2
/// stream reset. The limits hold whether or not anybody reads.
pub struct ReplyBody {
    pieces: mpsc::Receiver<Bytes>,
    end: Option<oneshot::Receiver<Result<Option<HeaderMap>, SendError>>>,
}

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// 1 to 65,536 bytes.
    Data(Bytes),
    /// The last piece, if there are any.
    Trailers(HeaderMap),
}

/// What holds a body.
pub(super) struct BodyLimits {
    pub bytes_max: u64,
    pub idle: Duration,
    pub total: Deadline,
}

impl ReplyBody {
    /// Returns the next piece, or None at the end of a whole body. After an error there is nothing more. Can be dropped
    /// without losing anything.
    pub async fn next(&mut self) -> Option<Result<Piece, SendError>> {
        if let Some(data) = self.pieces.recv().await {
            return Some(Ok(Piece::Data(data)));
        }
        let ended = self.end.as_mut()?.await;
        self.end = None;
        match ended {
            Ok(Ok(trailers)) => trailers.map(|trailers| Ok(Piece::Trailers(trailers))),
            Ok(Err(error)) => Some(Err(error)),
            Err(_) => Some(Err(SendError::new(Code::HttpProtocol, "the daemon is ending").sent())),
        }
    }

    pub(super) fn empty() -> Self {
        Self { pieces: mpsc::channel(1).1, end: None }
    }

    /// Reads `body` in a task of its own, at most one piece ahead.
    pub(super) fn read(exchange: Exchange, body: Incoming, limits: BodyLimits) -> Self {
        let (sender, pieces) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        tokio::spawn(async move {
            if let Some(result) = read(exchange, body, &limits, sender).await {
                // Nobody wants to know if the reader is gone.
                let _ = end.send(result);
            }
        });
        Self { pieces, end: Some(ended) }
    }
}

/// Returns None if the reader went away. Whatever ends it, the exchange has ended when this returns.
async fn read(
    exchange: Exchange,
    mut body: Incoming,
    limits: &BodyLimits,
    sender: mpsc::Sender<Bytes>,
) -> Option<Result<Option<HeaderMap>, SendError>> {
    let result = tokio::select! {
        biased;
        () = sender.closed() => return None,
        () = tokio::time::sleep_until(limits.total.at) => Err(limits.total.passed("the exchange")),
        error = exchange.upload.broke() => Err(error),
        result = copy(&exchange, &mut body, limits, &sender) => result?,
    };
    match result {
        Ok(trailers) => {
            exchange.finish().await;
            Some(Ok(trailers))
        }
        Err(error) => Some(Err(error.sent())),
    }
}

async fn copy(
    exchange: &Exchange,
    body: &mut Incoming,
    limits: &BodyLimits,
    sender: &mpsc::Sender<Bytes>,
) -> Option<Result<Option<HeaderMap>, SendError>> {
    let mut left = limits.bytes_max;
    while !body.is_end_stream() {
        // Asked for only when there is room for it: a slow reader slows the upstream down.
        let mut permit = sender.reserve().await.ok()?;
        let frame = match next(exchange, body, limits.idle).await {
            Ok(None) => break,
            Ok(Some(frame)) => frame,
            Err(error) => return Some(Err(error)),
        };
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let mut trailers = frame.into_trailers().unwrap_or_default();
                let bytes: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
                if trailers.len() > headers::FIELDS_MAX || bytes > headers::FIELD_BYTES_MAX {
                    return Some(Err(trailers_too_large()));
                }
                headers::strip_trailers(&mut trailers);
                return Some(Ok(Some(trailers)));
            }
        };
        left = match left.checked_sub(data.len() as u64) {
            Some(left) => left,
            None => return Some(Err(too_large(limits.bytes_max))),
        };
        while data.len() > PIECE_BYTES {
            permit.send(data.split_to(PIECE_BYTES));
            permit = sender.reserve().await.ok()?;
        }
        permit.send(data);
    }
    Some(Ok(None))
}

/// Returns the next frame that is not empty.
async fn next(
    exchange: &Exchange,
    body: &mut Incoming,
    idle: Duration,
) -> Result<Option<http_body::Frame<Bytes>>, SendError> {
    let asked = Instant::now();
    loop {
        // A request whose body still moves is not idle.
        let deadline = Deadline::new(asked.max(exchange.upload.moved()), "idle_ms", idle);
        let frame = match deadline.limit("the next piece of the response", frame(body)).await {
            Ok(frame) => frame,
            Err(_) if exchange.upload.moved() + idle > deadline.at => continue,
            Err(error) => return Err(error),
        };
        return match frame {
            None => Ok(None),
            Some(Ok(frame)) => {
                exchange.lease.connection.meter().useful();
                Ok(Some(frame))
            }
            Some(Err(error)) => Err(exchange.failure(&error)),
        };
    }
}

async fn frame(body: &mut Incoming) -> Option<hyper::Result<http_body::Frame<Bytes>>> {
    loop {
        match body.frame().await {
            Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
            frame => return frame,
        }
    }
}

fn trailers_too_large() -> SendError {
    let (fields, bytes) = (headers::FIELDS_MAX, headers::FIELD_BYTES_MAX);
    let message = format!("the response's trailers are more than {fields}, or longer than {bytes} bytes");
    SendError::new(Code::ResponseTooLarge, message)
}

pub(super) fn too_large(bytes_max: u64) -> SendError {
    SendError::new(
        Code::ResponseTooLarge,
        format!("the response's body is longer than the limit `response_bytes` of {bytes_max}"),
    )
}
