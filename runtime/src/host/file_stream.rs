//! `filesystem`: streams into files, under the quota of their tree.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::quota::Handle;

/// A stream into a file, charged before it writes.
pub struct FileStream {
    inner: DynOutputStream,
    handle: Arc<Handle>,
    /// Where the next byte goes; `None` is the end of the file.
    at: Option<u64>,
}

impl FileStream {
    /// Returns `inner`, which writes from `at` on, or to the end if that is `None`, under the quota of `handle`.
    pub fn new(inner: DynOutputStream, handle: Arc<Handle>, at: Option<u64>) -> Self {
        Self { inner, handle, at }
    }

    fn charge(&mut self, bytes: usize) -> StreamResult<()> {
        let bytes = bytes as u64;
        let charged = match &mut self.at {
            None => self.handle.append(bytes),
            Some(at) => self.handle.write(*at, bytes).map(|()| *at += bytes),
        };
        charged.map_err(|full| StreamError::LastOperationFailed(full.into()))
    }
}

#[async_trait::async_trait]
impl OutputStream for FileStream {
    fn write(&mut self, data: Bytes) -> StreamResult<()> {
        self.charge(data.len())?;
        self.inner.write(data)
    }

    async fn blocking_write_and_flush(&mut self, data: Bytes) -> StreamResult<()> {
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
impl Pollable for FileStream {
    async fn ready(&mut self) {
        self.inner.ready().await
    }
}
