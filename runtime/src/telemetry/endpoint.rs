//! The Prometheus endpoint: `GET /metrics` and nothing else.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Telemetry;

#[cfg(test)]
mod tests;

/// Connections at a time. The next one waits to be accepted.
const CONNECTIONS_MAX: usize = 16;

/// How long a client may take.
const PATIENCE: Patience = Patience { headers: Duration::from_secs(5), connection: Duration::from_secs(15) };

/// Number of headers of a request, and bytes of all of them: the least that the server can be told.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 8 << 10;

/// How long to wait after a connection could not be accepted, out of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take for its request's headers, and for the whole connection.
#[derive(Clone, Copy)]
struct Patience {
    headers: Duration,
    connection: Duration,
}

/// Answers scrapes until `stop`, one on each connection. Connections that are open then are cut.
pub async fn serve_metrics(listener: TcpListener, telemetry: Telemetry, stop: CancellationToken) {
    stop.run_until_cancelled(serve(listener, telemetry, PATIENCE)).await;
}

async fn serve(listener: TcpListener, telemetry: Telemetry, patience: Patience) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new(); // ends all of them when it is dropped
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let telemetry = telemetry.clone();
                connections.spawn(async move {
                    answer(stream, telemetry, patience).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection for metrics");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What goes wrong on one connection is the client's affair.
async fn answer(stream: TcpStream, telemetry: Telemetry, patience: Patience) {
    let service = service_fn(move |request| {
        let response = respond(&request, &telemetry);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.headers)
        .keep_alive(false)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let _ = timeout(patience.connection, connection).await;
}

fn respond(request: &Request<Incoming>, telemetry: &Telemetry) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "there is only /metrics\n");
    }
    if request.method() != Method::GET {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let mut response = Response::new(Full::new(Bytes::from(telemetry.render())));
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
