//! A server of one test's own: answers as it is told, well or badly, and keeps every byte that it was sent.

mod http1;
mod http2;
mod reply;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use super::PATIENCE;

pub use reply::{Gate, Piece, Reply, echo};

/// Serves as long as the test's runtime. HTTP/1.1 is read and written by hand, so that nothing of it is made pretty;
/// h2 is hyper's.
#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    state: Arc<State>,
}

/// A connection that was made, also if nothing came of it.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// The name that the TLS handshake asked for.
    pub sni: Option<String>,
    pub protocol: &'static str,
    /// The client's certificate, if it showed one.
    pub certificate: Option<Vec<u8>>,
    /// Why the TLS handshake failed.
    pub failed: Option<String>,
    /// Every byte that came, after TLS. Of h2 there is only what the requests say.
    pub bytes: Vec<u8>,
    pub closed: bool,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which connection of the upstream it came on, from 0.
    pub connection: usize,
    pub sni: Option<String>,
    pub protocol: &'static str,
    /// The raw head. Of h2 it is what HTTP/1.1 would say.
    pub head: Vec<u8>,
    pub method: String,
    /// The request target; of h2 the path with the query.
    pub target: String,
    /// Of h2 with `:scheme` and `:authority`.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
    /// Whether the body came to its end.
    pub complete: bool,
}

type Handler = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

struct State {
    handlers: Mutex<HashMap<String, (When, Handler)>>,
    connections: Mutex<Vec<Connection>>,
    seen: Mutex<Vec<Seen>>,
    /// Changes with everything above.
    changed: watch::Sender<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum When {
    Head,
    Whole,
}

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Upstream {
    pub async fn plain(address: SocketAddr) -> Self {
        Self::start(TcpListener::bind(address).await.unwrap(), None)
    }

    pub async fn tls(address: SocketAddr, config: Arc<ServerConfig>) -> Self {
        Self::start(TcpListener::bind(address).await.unwrap(), Some(config))
    }

    fn start(listener: TcpListener, config: Option<Arc<ServerConfig>>) -> Self {
        let state = Arc::new(State {
            handlers: Mutex::default(),
            connections: Mutex::default(),
            seen: Mutex::default(),
            changed: watch::Sender::new(()),
        });
        let upstream = Self { address: listener.local_addr().unwrap(), state: state.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(state.clone(), stream, config.clone()));
            }
        });
        upstream
    }

    /// Answers requests of this path (without the query) so, when their bodies have ended. Others are echoed.
    pub fn on(&self, path: &str, handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        self.state.handlers.lock().unwrap().insert(path.into(), (When::Whole, Arc::new(handler)));
    }

    /// Answers when the head came, and reads the body after it. HTTP/1.1 only.
    pub fn on_head(&self, path: &str, handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        self.state.handlers.lock().unwrap().insert(path.into(), (When::Head, Arc::new(handler)));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> Vec<Connection> {
        self.state.connections.lock().unwrap().clone()
    }

    /// Waits until this holds of it.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.state.changed.subscribe();
        let waits = async {
            while !holds(self) {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, waits).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }
}

impl Seen {
    /// Returns the values of a header, whatever its case.
    pub fn values(&self, name: &str) -> Vec<String> {
        let named = self.headers.iter().filter(|(of, _)| of.eq_ignore_ascii_case(name));
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// Returns a header that is there once.
    pub fn value(&self, name: &str) -> Option<String> {
        let mut values = self.values(name);
        assert!(values.len() <= 1, "`{name}` is there {} times", values.len());
        values.pop()
    }

    /// Returns whom the request was for: `Host`, or h2's `:authority`.
    pub fn host(&self) -> Option<String> {
        self.value(if self.protocol == "h2" { ":authority" } else { "host" })
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

async fn serve(state: Arc<State>, stream: TcpStream, config: Option<Arc<ServerConfig>>) {
    let id = state.connected();
    match config {
        None => {
            state.change(id, |connection| connection.protocol = "http/1.1");
            http1::serve(&state, id, Box::new(stream)).await;
        }
        Some(config) => match TlsAcceptor::from(config).accept(stream).await {
            Err(error) => state.change(id, |connection| connection.failed = Some(error.to_string())),
            Ok(stream) => {
                let session = stream.get_ref().1;
                let h2 = session.alpn_protocol() == Some(b"h2");
                let sni = session.server_name().map(str::to_owned);
                let certificate = session.peer_certificates().map(|chain| chain[0].to_vec());
                state.change(id, |connection| {
                    (connection.sni, connection.certificate) = (sni, certificate);
                    connection.protocol = if h2 { "h2" } else { "http/1.1" };
                });
                match h2 {
                    true => http2::serve(state.clone(), id, stream).await,
                    false => http1::serve(&state, id, Box::new(stream)).await,
                }
            }
        },
    }
    state.change(id, |connection| connection.closed = true);
}

impl State {
    fn connected(&self) -> usize {
        let mut connections = self.connections.lock().unwrap();
        connections.push(Connection::default());
        self.changed.send_replace(());
        connections.len() - 1
    }

    fn change(&self, connection: usize, change: impl FnOnce(&mut Connection)) {
        change(&mut self.connections.lock().unwrap()[connection]);
        self.changed.send_replace(());
    }

    /// Keeps a request whose head came; returns where.
    fn keep(&self, seen: Seen) -> usize {
        let mut all = self.seen.lock().unwrap();
        all.push(seen);
        self.changed.send_replace(());
        all.len() - 1
    }

    fn complete(&self, at: usize, complete: impl FnOnce(&mut Seen)) -> Seen {
        let mut all = self.seen.lock().unwrap();
        complete(&mut all[at]);
        self.changed.send_replace(());
        all[at].clone()
    }

    fn handler(&self, path: &str) -> (When, Handler) {
        let handlers = self.handlers.lock().unwrap();
        handlers.get(path).cloned().unwrap_or_else(|| (When::Whole, Arc::new(echo)))
    }

    fn of(&self, connection: usize) -> Connection {
        self.connections.lock().unwrap()[connection].clone()
    }
}
