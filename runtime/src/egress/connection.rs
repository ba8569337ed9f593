//! A connection that requests travel on: HTTP/1.1, one at a time, or HTTP/2, several.

use std::sync::Arc;

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
    rt::Executor,
};
use hyper_util::rt::TokioIo;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    pool::Slot,
    upload::Sending,
    wire::{Meter, Wire},
};

/// Bytes of a response's header, and of what is read or written ahead of the other side on HTTP/1.1.
pub const BUFFER_BYTES: usize = 64 << 10;

/// Bytes that one exchange can hold at most in this process, its connection and its TLS among them, with two pieces in the
/// hands of whoever sends and reads; so an egress holds at most this for each connection, or HTTP/2 stream. By far the
/// most exchanges hold a twentieth of it. The parts, when the upstream and the guest do their worst:
///
/// | bytes | what |
/// |---|---|
/// | 128 KiB | the read buffer, which grows by doubling; the header's values stay in one |
/// | 256 KiB | four pieces that are read ahead or in the reader's hands, each with the buffer that it was cut from |
/// | 192 KiB | a frame of the request's body, and what is written and not yet taken, which grows by doubling |
/// | 128 KiB | TLS: records in and out |
/// | 320 KiB | HTTP/2: a header list of 128 KiB as a map, the window, the compression tables, frames and their list |
///
/// The kernel's socket buffers are not in it.
pub const EXCHANGE_BYTES_MAX: usize = 1 << 20;

/// Requests under way at a time on an HTTP/2 connection.
pub const STREAMS_MAX: usize = 16;

/// What an upstream may send ahead of the reader on one stream. The connection's window has room for all of them, so that
/// a slow reader never keeps another one waiting.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX as u32;

/// Streams that were given up and about which the upstream may still send frames.
const RESET_STREAMS_MAX: usize = 32;

/// A connection. It is closed when the last hold of it is dropped, whatever it is doing.
pub enum Connection {
    One(One),
    Many(Arc<Many>),
}

/// An HTTP/1.1 connection.
pub struct One {
    sender: http1::SendRequest<Sending>,
    meter: Arc<Meter>,
    _life: DropGuard,
}

/// An HTTP/2 connection.
pub struct Many {
    sender: http2::SendRequest<Sending>,
    meter: Arc<Meter>,
    _life: DropGuard,
}

impl Connection {
    /// Begins to speak HTTP. `slot` is free again when the connection is closed.
    pub async fn open(wire: Wire, slot: Slot) -> hyper::Result<Self> {
        let runner = Runner { end: CancellationToken::new(), slot: Arc::new(slot) };
        let life = runner.end.clone().drop_guard();
        let meter = wire.meter.clone();
        if wire.http2 {
            let (sender, connection) = http2_settings(&runner).handshake(TokioIo::new(wire)).await?;
            runner.execute(async { drop(connection.await) });
            return Ok(Self::Many(Arc::new(Many { sender, meter, _life: life })));
        }
        let mut settings = http1::Builder::new();
        settings.max_buf_size(BUFFER_BYTES).max_header_size(BUFFER_BYTES);
        let (sender, connection) = settings.handshake(TokioIo::new(wire)).await?;
        runner.execute(async { drop(connection.await) });
        Ok(Self::One(One { sender, meter, _life: life }))
    }

    pub fn http2(&self) -> bool {
        matches!(self, Self::Many(_))
    }

    pub fn meter(&self) -> &Meter {
        match self {
            Self::One(one) => &one.meter,
            Self::Many(many) => &many.meter,
        }
    }

    /// Returns whether it can take a request, as far as can be known here.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::One(one) => one.sender.is_ready(),
            Self::Many(many) => many.sender.is_ready(),
        }
    }

    /// Waits until it can take a request. False if it never can again.
    pub async fn ready(&mut self) -> bool {
        match self {
            Self::One(one) => one.sender.ready().await.is_ok(),
            Self::Many(many) => many.sender.is_ready(),
        }
    }

    /// Sends a request. The error has the request if nothing of it was sent.
    pub async fn send(
        &mut self,
        request: Request<Sending>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Sending>>> {
        match self {
            Self::One(one) => one.sender.try_send_request(request).await,
            Self::Many(many) => many.sender.clone().try_send_request(request).await,
        }
    }
}

fn http2_settings(runner: &Runner) -> http2::Builder<Runner> {
    let mut settings = http2::Builder::new(runner.clone());
    settings
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS_MAX)
        .max_frame_size(16 << 10)
        // Trailers beyond it vanish without a word: so it is twice what is let through, and what is above that is refused.
        .max_header_list_size(2 * BUFFER_BYTES as u32)
        .header_table_size(4 << 10)
        .max_send_buf_size(BUFFER_BYTES)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_MAX)
        .keep_alive_interval(None);
    settings
}

/// Runs what moves a connection's bytes, until it ends or the connection is dropped.
#[derive(Clone)]
struct Runner {
    end: CancellationToken,
    slot: Arc<Slot>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Runner {
    fn execute(&self, future: F) {
        let Self { end, slot } = self.clone();
        tokio::spawn(async move {
            // Not asked to finish: an upstream that does not read would never let it.
            end.run_until_cancelled_owned(future).await;
            drop(slot);
        });
    }
}
