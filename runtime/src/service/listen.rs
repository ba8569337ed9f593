//! Where callers connect: a Unix socket, and a loopback address if the configuration names one.

use std::{
    collections::BTreeSet,
    fmt, fs,
    future::Future as _,
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use nix::unistd::{Gid, Group, chown, getegid};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, mpsc},
    time::Sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::warn;

use super::places::Places;
use crate::config::Listen;

/// After an accept that failed, as a rule for want of descriptors: how long until the next.
const BREATH: Duration = Duration::from_millis(50);

/// How long a caller may take to say that it speaks HTTP/2: until then no keep-alive looks after the connection.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of HTTP/2's preface.
const PREFACE_BYTES: usize = 24;

/// Bound sockets.
pub struct Listener {
    unix: UnixListener,
    path: PathBuf,
    tcp: Option<TcpListener>,
}

/// Sockets that cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("`listen.socket`: cannot listen on `{}`: {source}", path.display())]
    Unix { path: PathBuf, source: io::Error },
    #[error("`listen.socket`: another daemon answers on `{}`", .0.display())]
    InUse(PathBuf),
    #[error("`listen.group`: there is no group `{0}`")]
    NoGroup(String),
    #[error("`listen.tcp`: cannot listen on {address}: {source}")]
    Tcp { address: SocketAddr, source: io::Error },
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Unix {
        uid: u32,
        gid: u32,
    },
    /// Any local user.
    Loopback,
    Unknown,
}

impl fmt::Display for Peer {
    /// As records and policies name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { uid, .. } => write!(f, "unix:{uid}"),
            Self::Loopback => f.write_str("loopback"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl Listener {
    /// Binds what `listen` names. A socket file that nobody answers on is replaced.
    pub async fn bind(listen: &Listen) -> Result<Self, ListenError> {
        let path = listen.socket.clone();
        let failed = |source| ListenError::Unix { path: path.clone(), source };
        let gid = match &listen.group {
            None => None,
            Some(name) => {
                let group = Group::from_name(name).ok().flatten().ok_or_else(|| ListenError::NoGroup(name.clone()))?;
                Some(group.gid)
            }
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        if path.exists() {
            if UnixStream::connect(&path).await.is_ok() {
                return Err(ListenError::InUse(path));
            }
            fs::remove_file(&path).map_err(failed)?;
        }
        let unix = UnixListener::bind(&path).map_err(failed)?;
        open_to(&path, gid).map_err(failed)?;
        let tcp = match listen.tcp {
            None => None,
            Some(address) => {
                Some(TcpListener::bind(address).await.map_err(|source| ListenError::Tcp { address, source })?)
            }
        };
        Ok(Self { unix, path, tcp })
    }

    /// Returns the addresses, as `--endpoint` takes them.
    pub fn addresses(&self) -> Vec<String> {
        let tcp = self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok());
        std::iter::once(format!("unix:{}", self.path.display())).chain(tcp.map(|a| format!("http://{a}"))).collect()
    }

    /// Returns the TCP address, if there is one.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    /// Returns the connections, of which at most `max` are open at once, and some of `operators` beside them.
    pub(super) fn incoming(self, max: u64, operators: BTreeSet<String>) -> impl Stream<Item = io::Result<Connection>> {
        let (seated, incoming) = mpsc::channel(1);
        tokio::spawn(accept(self, Places::new(max, operators, seated)));
        ReceiverStream::new(incoming)
    }
}

/// The daemon's user may connect, and the group if there is one.
fn open_to(path: &Path, group: Option<Gid>) -> io::Result<()> {
    // What we make has our own group already, and a service manager may deny the call.
    if let Some(gid) = group.filter(|gid| *gid != getegid()) {
        chown(path, None, Some(gid))?;
    }
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

async fn accept(listener: Listener, mut places: Places) {
    loop {
        let connection = tokio::select! {
            unix = listener.unix.accept() => unix.map(|(stream, _)| Io::Unix(stream)),
            tcp = accept_tcp(listener.tcp.as_ref()) => tcp.map(Io::Tcp),
            Some(place) = places.free(), if places.somebody_waits() => {
                places.seat_next(place).await;
                continue;
            }
            () = places.closed() => break,
        };
        match connection {
            Ok(io) => places.enter(io).await,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    let _ = fs::remove_file(&listener.path); // stale socket files are replaced anyway
}

async fn accept_tcp(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        None => std::future::pending().await,
    }
}

/// One connection, and its place among those that may be open.
pub struct Connection {
    io: Io,
    /// Until the preface is there: its deadline, and how many bytes are missing.
    preface: Option<(Pin<Box<Sleep>>, usize)>,
    _place: OwnedSemaphorePermit,
}

/// A stream of either kind.
pub(super) enum Io {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Io {
    pub(super) fn peer(&self) -> Peer {
        match self {
            Self::Unix(stream) => match stream.peer_cred() {
                Ok(peer) => Peer::Unix { uid: peer.uid(), gid: peer.gid() },
                Err(_) => Peer::Unknown,
            },
            Self::Tcp(_) => Peer::Loopback,
        }
    }
}

impl Connection {
    pub(super) fn new(io: Io, place: OwnedSemaphorePermit) -> Self {
        let preface = Some((Box::pin(tokio::time::sleep(PREFACE_TIMEOUT)), PREFACE_BYTES));
        Self { io, preface, _place: place }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.io.peer()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match &mut self.io {
            Io::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if let Some((deadline, missing)) = &mut self.preface {
            *missing = missing.saturating_sub(buf.filled().len() - before);
            if *missing == 0 {
                self.preface = None;
            } else if deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
