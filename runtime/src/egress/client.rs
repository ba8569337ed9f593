//! Sends requests that were allowed, to the addresses that may be dialled and nowhere else.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Response};
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use super::{
    address,
    connection::{BUFFER_BYTES, Connection},
    dial::dial,
    error::{Code, Deadline, SendError, StartError},
    exchange::{Exchange, head_too_large},
    headers::{self, FIELDS_MAX},
    host::Host,
    pool::{Lease, Origin, Pool, Slot, Taken},
    reply::{BodyLimits, Reply, ReplyBody, too_large},
    request::{Request, Scheme},
    resolve::Resolver,
    route::Route,
    rule::Timeouts,
    tls::{Identity, Tls},
    upload::{RequestBody, Upload},
};

#[cfg(test)]
mod tests;

/// Sends requests. Cheap to clone: all clones share connections and names.
#[derive(Clone)]
pub struct Egress(Arc<Parts>);

struct Parts {
    resolver: Option<Arc<Resolver>>,
    tls: Arc<Tls>,
    pool: Arc<Pool>,
    own: Vec<SocketAddr>,
    connections: usize,
    idle: Duration,
}

/// How the daemon reaches the network.
pub struct Settings {
    /// Whether anything is called by its name: if not, there need be no name server.
    pub names: bool,
    /// Name servers. If there are none, those that `/etc/resolv.conf` names at start.
    pub dns_servers: Vec<SocketAddr>,
    /// PEM files with certificate authorities that are trusted beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// Where the daemon itself listens, which no request may reach.
    pub own: Vec<SocketAddr>,
    /// Connections that are open at a time, idle ones among them.
    pub connections: usize,
    /// How long a connection without a request stays open.
    pub idle: Duration,
}

/// A request that was allowed, and how it goes out.
pub struct Outgoing {
    pub tenant: String,
    pub route: Route,
    pub request: Request,
    /// The route's, or shorter.
    pub timeouts: Timeouts,
    pub attachment: Attachment,
    /// At its end from the start if there is none.
    pub body: RequestBody,
    /// Whether it does no harm when the upstream gets it twice: it is then sent again if a connection that had been
    /// idle breaks before anything of a response, and its body was not begun.
    pub repeatable: bool,
}

/// What a credential adds to a request.
#[derive(Default)]
pub struct Attachment {
    /// They replace those of the same name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Added to the query. Encoded already.
    pub query: Option<String>,
    pub identity: Option<Arc<Identity>>,
}

impl Egress {
    /// Reads the certificate authorities, and the name servers. Must run inside of the runtime.
    pub fn new(settings: Settings) -> Result<Self, StartError> {
        let Settings { names, dns_servers, ca_files, own, connections, idle } = settings;
        Ok(Self(Arc::new(Parts {
            resolver: if names { Some(Arc::new(Resolver::new(&dns_servers)?)) } else { None },
            tls: Arc::new(Tls::new(&ca_files)?),
            pool: Pool::new(connections, idle),
            own,
            connections,
            idle,
        })))
    }

    /// Returns an egress with connections of its own, which nobody else's requests can use up.
    pub fn apart(&self, connections: usize) -> Self {
        let Parts { resolver, tls, own, idle, .. } = &*self.0;
        Self(Arc::new(Parts {
            resolver: resolver.clone(),
            tls: tls.clone(),
            pool: Pool::new(connections, *idle),
            own: own.clone(),
            connections,
            idle: *idle,
        }))
    }

    /// Closes every connection as soon as it is without a request. For when rules, policies or credentials change.
    pub fn forget(&self) {
        self.0.pool.forget();
    }

    /// Sends a request and returns when the response's header is there. Nothing is dialled before every address of the
    /// host was judged, and the request goes over a connection to one of them. Dropping the future aborts the request.
    ///
    /// The route must admit the request: that is not looked at again here. Fails with a [`Code`].
    pub async fn send(&self, outgoing: Outgoing) -> Result<Reply, SendError> {
        let Outgoing { tenant, route, request, timeouts, attachment, body, repeatable } = outgoing;
        let now = Instant::now();
        let total = Deadline::new(now, "total_ms", timeouts.total());
        let connect = |since| Deadline::new(since, "connect_ms", timeouts.connect()).or(total);
        check_length(&request, route.request_bytes())?;
        let addresses = self.addresses(&request, &route, connect(now)).await?;
        let origin = Arc::new(Origin {
            tenant,
            rule: route.rule().clone(),
            revision: route.revision().into(),
            scheme: request.scheme,
            host: request.host.clone(),
            port: request.port,
            identity: attachment.identity.as_ref().map(|identity| identity.id.clone()),
        });
        let identity = attachment.identity.as_deref();
        let upload = Upload::new(body, request.content_length, route.request_bytes());

        let lease = self.lease(&origin, &addresses, identity, false, connect(now)).await?;
        let mut exchange = Exchange { lease, upload };
        let first = exchange.begin(&request, &attachment, &timeouts, total).await;
        let failed = match first {
            Ok(response) => return accept(response, exchange, &route, timeouts.idle(), total, 1).await,
            Err(failed) => failed,
        };
        let again =
            exchange.lease.reused && (failed.unsent || repeatable && failed.silent) && exchange.upload.untouched();
        if !again {
            return Err(failed.error);
        }
        // Whatever comes of it, the first time may have reached the upstream.
        let maybe_sent = |error: SendError| SendError { sent: error.sent || failed.error.sent, ..error };
        let Exchange { lease, upload } = exchange;
        drop(lease);
        let lease =
            self.lease(&origin, &addresses, identity, true, connect(Instant::now())).await.map_err(maybe_sent)?;
        let mut exchange = Exchange { lease, upload };
        match exchange.begin(&request, &attachment, &timeouts, total).await {
            Ok(response) => accept(response, exchange, &route, timeouts.idle(), total, 2).await,
            Err(failed) => Err(maybe_sent(failed.error)),
        }
    }

    /// Returns the addresses of the request's host, each of which may be dialled.
    async fn addresses(
        &self,
        request: &Request,
        route: &Route,
        deadline: Deadline,
    ) -> Result<Vec<SocketAddr>, SendError> {
        let addresses = match &request.host {
            Host::Name(name) => {
                let none =
                    || SendError::new(Code::DnsFailed, format!("`{name}` cannot be looked up: no rule has a name"));
                let resolver = self.0.resolver.as_ref().ok_or_else(none)?;
                deadline.limit(&format!("looking `{name}` up"), resolver.addresses(name)).await??
            }
            Host::V4(v4) => vec![(*v4).into()],
            Host::V6(v6) => vec![(*v6).into()],
        };
        for address in &addresses {
            address::allowed(*address, route.cidrs(), &self.0.own, request.port).map_err(|reason| {
                SendError::new(Code::AddressForbidden, format!("`{}` may not be reached: {reason}", request.host))
            })?;
        }
        Ok(addresses.iter().map(|address| SocketAddr::new(address.to_canonical(), request.port)).collect())
    }

    /// Returns a connection to one of `addresses`: one that is open, or a new one.
    async fn lease(
        &self,
        origin: &Arc<Origin>,
        addresses: &[SocketAddr],
        identity: Option<&Identity>,
        fresh: bool,
        deadline: Deadline,
    ) -> Result<Lease, SendError> {
        let Parts { pool, connections, .. } = &*self.0;
        let taken = tokio::time::timeout_at(deadline.at, pool.take(origin, addresses, fresh)).await;
        match taken {
            Ok(Taken::Open(lease)) => Ok(lease),
            Ok(Taken::Room(slot)) => self.connect(origin, addresses, identity, slot, deadline).await,
            Err(_) => {
                let message =
                    format!("no connection came free in time: the limit `egress_connections` is {connections}");
                Err(SendError::new(Code::EgressBusy, message))
            }
        }
    }

    async fn connect(
        &self,
        origin: &Arc<Origin>,
        addresses: &[SocketAddr],
        identity: Option<&Identity>,
        slot: Slot,
        deadline: Deadline,
    ) -> Result<Lease, SendError> {
        let tls = (origin.scheme == Scheme::Https).then_some((&*self.0.tls, identity));
        let wire = dial(addresses, &origin.host, tls, deadline).await?;
        let address = wire.address;
        let opened = deadline.limit("the beginning of HTTP/2", Connection::open(wire, slot)).await?;
        let connection = opened
            .map_err(|error| SendError::new(Code::HttpProtocol, format!("`{address}` does not speak HTTP: {error}")))?;
        Ok(self.0.pool.lend(origin, address, connection))
    }
}

fn check_length(request: &Request, bytes_max: u64) -> Result<(), SendError> {
    match request.content_length {
        Some(length) if length > bytes_max => Err(SendError::new(
            Code::RequestTooLarge,
            format!("the request's body of {length} bytes is longer than the limit `request_bytes` of {bytes_max}"),
        )),
        _ => Ok(()),
    }
}

/// Judges a response by its header, and lets its body come.
async fn accept(
    response: Response<Incoming>,
    exchange: Exchange,
    route: &Route,
    idle: Duration,
    total: Deadline,
    attempts: u32,
) -> Result<Reply, SendError> {
    let (head, body) = response.into_parts();
    let (status, mut headers) = (head.status, head.headers);
    let refused = |reason: &dyn std::fmt::Display| {
        SendError::new(Code::ResponseRefused, format!("the response is refused: {reason}")).sent()
    };
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > FIELDS_MAX || bytes > BUFFER_BYTES {
        return Err(head_too_large().sent());
    }
    headers::check_response(status, &mut headers).map_err(|reason| refused(&reason))?;
    let (address, http2, reused) = (exchange.lease.address, exchange.lease.connection.http2(), exchange.lease.reused);
    let body = if body.is_end_stream() {
        exchange.finish().await;
        ReplyBody::empty()
    } else {
        route.admits_response(&headers).map_err(|reason| refused(&reason))?;
        let bytes_max = route.response_bytes();
        if body.size_hint().lower() > bytes_max {
            return Err(too_large(bytes_max).sent());
        }
        ReplyBody::read(exchange, body, BodyLimits { bytes_max, idle, total })
    };
    let protocol = if http2 { "h2" } else { "http/1.1" };
    Ok(Reply { status: status.as_u16(), headers, address, protocol, reused, attempts, body })
}
