//! `filesystem`: streams from and into files. They hold the file's handle and write under the quota of its tree. Files are
//! local: each call is done when it returns, so that a guest cannot see how long it took.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::quota::Handle;

/// A stream from a file.
pub struct FileReader {
    inner: DynInputStream,
    /// A file that was deleted is on the disk for as long as it is read.
    _handle: Option<Arc<Handle>>,
}

impl FileReader {
    /// Returns `inner`, which holds `handle`.
    pub fn new(inner: DynInputStream, handle: Option<Arc<Handle>>) -> Self {
        Self { inner, _handle: handle }
    }
}

#[async_trait::async_trait]
impl InputStream for FileReader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        self.inner.blocking_read(size).now_or_never().unwrap_or_else(waits)
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await
    }
}

#[async_trait::async_trait]
impl Pollable for FileReader {
    async fn ready(&mut self) {}
}

/// A stream into a file, charged before it writes.
pub struct FileWriter {
    inner: DynOutputStream,
    handle: Option<Arc<Handle>>,
    /// Where the next byte goes; `None` is the end of the file.
    at: Option<u64>,
}

impl FileWriter {
    /// Returns `inner`, which writes from `at` on, or to the end if that is `None`, under the quota of `handle`.
    pub fn new(inner: DynOutputStream, handle: Option<Arc<Handle>>, at: Option<u64>) -> Self {
        Self { inner, handle, at }
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
        self.inner.blocking_write_and_flush(data).now_or_never().unwrap_or_else(waits)
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
    async fn ready(&mut self) {}
}

/// With `allow_blocking_current_thread`, wasmtime-wasi does what it does to a file at once.
fn waits<T>() -> StreamResult<T> {
    Err(StreamError::trap("a file kept its guest waiting"))
}
