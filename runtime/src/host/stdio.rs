//! `stdio`: the request's input, and output that streams to the caller as it is written.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::{
    cli::{IsTerminal, StdinStream, StdoutStream},
    p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult, pipe::MemoryInputPipe},
};

use super::{Exceeded, Outlet};
use crate::step::{Event, Stream};

/// Bytes that a guest may write before it has to ask again.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Standard input: the request's input, once.
pub struct Stdin(MemoryInputPipe);

impl Stdin {
    /// Returns a standard input that yields `input` and ends.
    pub fn new(input: Vec<u8>) -> Self {
        Self(MemoryInputPipe::new(input))
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        self.0.async_stream()
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        self.0.p2_stream()
    }
}

/// Standard output or standard error of one step.
#[derive(Clone)]
pub struct Stdio {
    stream: Stream,
    outlet: Outlet,
    limit: u64,
    shared: Arc<Shared>,
}

/// What the two streams of a step have in common.
#[derive(Default)]
struct Shared {
    /// Bytes written so far.
    written: AtomicU64,
    /// An event that found no room: nothing more is taken before it is gone.
    waiting: Mutex<Option<Event>>,
}

impl Stdio {
    /// Returns standard output and standard error of a step, which share `limit`.
    pub fn pair(outlet: &Outlet, limit: u64) -> (Self, Self) {
        let shared = Arc::new(Shared::default());
        let of = |stream| Self { stream, outlet: outlet.clone(), limit, shared: shared.clone() };
        (of(Stream::Stdout), of(Stream::Stderr))
    }

    /// Returns the bytes written so far, both streams together.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Sends what still waits: a guest that ended right after a write has said what it wrote.
    pub async fn finish(&self) {
        let waiting = self.waiting().take();
        if let Some(event) = waiting {
            let _ = self.outlet.send(event).await; // fails only if the daemon is gone
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Event>> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for it, and that is not linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Stdio {
    fn write(&mut self, data: Bytes) -> StreamResult<()> {
        if self.waiting().is_some() || data.len() > WRITE_BYTES_MAX {
            return Err(StreamError::trap("write not permitted: more than check-write allowed"));
        }
        let written = self.written() + data.len() as u64;
        if written > self.limit {
            return Err(StreamError::Trap(Exceeded { limit: "stdio_bytes", value: self.limit }.into()));
        }
        self.shared.written.store(written, Ordering::Relaxed);
        if data.is_empty() {
            return Ok(());
        }
        let event = Event::Output { stream: self.stream, data: data.into() };
        *self.waiting() = self.outlet.try_send(event).map_err(StreamError::Trap)?;
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(if self.waiting().is_some() { 0 } else { WRITE_BYTES_MAX })
    }
}

#[async_trait::async_trait]
impl Pollable for Stdio {
    async fn ready(&mut self) {
        self.finish().await;
    }
}
