//! The bytes of one connection, counted.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// Bytes that are read before others get a turn. What an upstream sends can be far larger once it is unpacked (header
/// compression), and whoever takes it in must run in between.
const TURN_BYTES: usize = 64 << 10;

/// A connection, plain or TLS.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection whose incoming bytes are metered.
pub struct Wire {
    stream: Stream,
    /// Whom it reaches.
    pub address: SocketAddr,
    pub http2: bool,
    pub meter: Arc<Meter>,
    turn: usize,
}

/// Counts what comes in, and ends the connection if nothing of it is of any use.
pub struct Meter {
    read: AtomicU64,
    /// What `read` was when there was something of use.
    useful: AtomicU64,
    idle_bytes_max: u64,
    exceeded: AtomicBool,
}

impl Wire {
    /// `idle_bytes_max` may come in with neither a response nor a byte of a body among them.
    pub fn new(stream: Stream, address: SocketAddr, http2: bool, idle_bytes_max: u64) -> Self {
        let meter = Meter {
            read: AtomicU64::new(0),
            useful: AtomicU64::new(0),
            idle_bytes_max,
            exceeded: AtomicBool::new(false),
        };
        Self { stream, address, http2, meter: Arc::new(meter), turn: 0 }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut Stream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl Meter {
    /// Says that there was something of use: a response, a piece of a body, a new request.
    pub fn useful(&self) {
        self.useful.store(self.read.load(Relaxed), Relaxed);
    }

    /// Returns how many bytes came in.
    pub fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Returns the limit if the connection ended for it.
    pub fn exceeded(&self) -> Option<u64> {
        self.exceeded.load(Relaxed).then_some(self.idle_bytes_max)
    }
}

impl Drop for Wire {
    /// Whoever gives a connection up wants nothing more to leave, also not what the kernel has taken and not sent yet.
    fn drop(&mut self) {
        let tcp = match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        };
        let _ = tcp.set_zero_linger(); // then it leaves, as far as the upstream takes it
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.turn >= TURN_BYTES {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(match &mut *self.as_mut().stream() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        })?;
        let count = buffer.filled().len() - before;
        self.turn += count;
        let read = self.meter.read.fetch_add(count as u64, Relaxed) + count as u64;
        if read.saturating_sub(self.meter.useful.load(Relaxed)) > self.meter.idle_bytes_max {
            self.meter.exceeded.store(true, Relaxed);
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self.stream() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.stream() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.stream() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
