//! A new connection to exactly one of the addresses that were judged.

use std::net::SocketAddr;

use tokio::{net::TcpStream, time::Instant};

use super::{
    error::{Code, Deadline, SendError},
    host::Host,
    tls::{Identity, Tls},
    wire::{Stream, Wire},
};

/// Addresses that are tried, one after the other, each for its share of the time that is left.
const TRIED_MAX: usize = 6;

/// Bytes that may come in with neither a response nor a byte of a body among them: interim responses, framing, pings. On
/// an HTTP/2 connection, what comes in for streams whose readers are slow is among them.
const IDLE_BYTES_MAX: u64 = 256 << 10;
const IDLE_BYTES_MAX_HTTP2: u64 = 2 << 20;

/// Connects to the first of `addresses` that lets us. With `tls`, the upstream must prove that it is `host`: one that
/// does not is an end, not a reason to try the next.
pub async fn dial(
    addresses: &[SocketAddr],
    host: &Host,
    tls: Option<(&Tls, Option<&Identity>)>,
    deadline: Deadline,
) -> Result<Wire, SendError> {
    let (tcp, address) = connect(addresses, host, deadline).await?;
    let Some((tls, identity)) = tls else {
        return Ok(Wire::new(Stream::Plain(tcp), address, false, IDLE_BYTES_MAX));
    };
    let what = format!("the TLS handshake with `{host}`");
    let stream = deadline.limit(&what, tls.connect(tcp, host, identity)).await??;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let idle_bytes_max = if http2 { IDLE_BYTES_MAX_HTTP2 } else { IDLE_BYTES_MAX };
    Ok(Wire::new(Stream::Tls(Box::new(stream)), address, http2, idle_bytes_max))
}

async fn connect(
    addresses: &[SocketAddr],
    host: &Host,
    deadline: Deadline,
) -> Result<(TcpStream, SocketAddr), SendError> {
    let mut failure = String::from("none was tried");
    let tried = &addresses[..addresses.len().min(TRIED_MAX)];
    for (index, address) in tried.iter().enumerate() {
        let left = deadline.at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let share = left / (tried.len() - index) as u32;
        match tokio::time::timeout(share, reach(*address)).await {
            Ok(Ok(tcp)) => return Ok((tcp, *address)),
            Ok(Err(error)) => failure = format!("{address}: {error}"),
            Err(_) => failure = format!("{address}: no answer"),
        }
    }
    if deadline.at <= Instant::now() {
        return Err(deadline.passed(&format!("connecting to `{host}` ({failure})")));
    }
    Err(SendError::new(Code::ConnectFailed, format!("no connection to `{host}`: {failure}")))
}

async fn reach(address: SocketAddr) -> std::io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    // The kernel says whom we reached. A port of this machine that nobody listens at can, by chance, reach itself.
    if tcp.peer_addr()? != address || tcp.local_addr()? == address {
        return Err(std::io::Error::other("the connection leads elsewhere"));
    }
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
