//! `filesystem`: streams from and into files. They hold the file's handle, write under the quota of its tree, and keep
//! pace.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::quota::Handle;

/// How long a guest may keep its thread with host calls, which burn no fuel.
const STINT: Duration = Duration::from_millis(5);

/// Gives the thread away now and then.
#[derive(Default)]
pub struct Pace(Option<Instant>);

impl Pace {
    /// Yields if the last yield was a while ago.
    pub async fn step(&mut self) {
        let since = *self.0.get_or_insert_with(Instant::now);
        if since.elapsed() > STINT {
            tokio::task::yield_now().await;
            self.0 = Some(Instant::now());
        }
    }
}

/// A stream from a file.
pub struct FileReader {
    inner: DynInputStream,
    /// A file that was deleted is on the disk for as long as it is read.
    _handle: Option<Arc<Handle>>,
    pace: Pace,
}

impl FileReader {
    /// Returns `inner`, which holds `handle`.
    pub fn new(inner: DynInputStream, handle: Option<Arc<Handle>>) -> Self {
        Self { inner, _handle: handle, pace: Pace::default() }
    }
}

#[async_trait::async_trait]
impl InputStream for FileReader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.inner.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.pace.step().await;
        self.inner.blocking_read(size).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await
    }
}

#[async_trait::async_trait]
impl Pollable for FileReader {
    async fn ready(&mut self) {
        self.pace.step().await;
        self.inner.ready().await
    }
}

/// A stream into a file, charged before it writes.
pub struct FileWriter {
    inner: DynOutputStream,
    handle: Option<Arc<Handle>>,
    /// Where the next byte goes; `None` is the end of the file.
    at: Option<u64>,
    pace: Pace,
}

impl FileWriter {
    /// Returns `inner`, which writes from `at` on, or to the end if that is `None`, under the quota of `handle`.
    pub fn new(inner: DynOutputStream, handle: Option<Arc<Handle>>, at: Option<u64>) -> Self {
        Self { inner, handle, at, pace: Pace::default() }
    }

    fn charge(&mut self, bytes: usize) -> StreamResult<()> {
        let Some(handle) = &self.handle else { return Ok(()) };
        let bytes = bytes as u64;
        let charged = match &mut self.at {
            None => handle.append(bytes),
            Some(at) => handle.write(*at, bytes).map(|()| *at += bytes),
        };
        charged.map_err(|full| StreamError::LastOperationFailed(full.into()))
    }
}

#[async_trait::async_trait]
impl OutputStream for FileWriter {
    fn write(&mut self, data: Bytes) -> StreamResult<()> {
        self.charge(data.len())?;
        self.inner.write(data)
    }

    async fn blocking_write_and_flush(&mut self, data: Bytes) -> StreamResult<()> {
        self.pace.step().await;
        self.charge(data.len())?;
        self.inner.blocking_write_and_flush(data).await
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await
    }
}

#[async_trait::async_trait]
impl Pollable for FileWriter {
    async fn ready(&mut self) {
        self.pace.step().await;
        self.inner.ready().await
    }
}
