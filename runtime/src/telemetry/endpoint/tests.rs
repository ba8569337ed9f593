use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};

use super::*;
use crate::telemetry::Settings;

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let (listener, telemetry) = parts().await;
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve_metrics(listener, telemetry, stop.clone()));
        Self { address, stop, serving }
    }

    async fn get(&self) -> String {
        self.ask(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await
    }

    async fn ask(&self, bytes: &[u8]) -> String {
        ask(self.address, bytes).await
    }
}

async fn parts() -> (TcpListener, Telemetry) {
    let telemetry = Telemetry::start(Settings { service_version: "0", metrics: true }, &|_| None).unwrap();
    telemetry.meters().worker_moved(None, Some("spare"));
    (TcpListener::bind("127.0.0.1:0").await.unwrap(), telemetry)
}

/// Sends `bytes` and returns all that comes back until the server closes.
async fn ask(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may hang up in the middle of garbage.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_scrape_gets_the_page_and_then_the_connection_ends() {
    let server = Server::start().await;
    let answer = server.get().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.contains("\npalisade_workers{state=\"spare\"} 1\n"), "{answer}");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let server = Server::start().await;
    let answer = server.ask(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = server.ask(b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET"), "{answer}");
}

#[tokio::test]
async fn garbage_gets_no_page_and_the_next_scrape_does() {
    let server = Server::start().await;
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let many_headers = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1_000));
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello \r\n\r\n".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\0\0\0\0\r\n\r\n",
        long_path.as_bytes(),
        many_headers.as_bytes(),
    ] {
        let answer = server.ask(garbage).await;
        assert!(!answer.contains("palisade_workers"), "{answer}");
    }
    assert!(server.get().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn more_clients_than_there_is_room_for_wait_until_one_leaves() {
    let server = Server::start().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut scrape = std::pin::pin!(server.get());
    // The clock does not move for the server meanwhile: the scrape can only end if there were more places.
    tokio::select! {
        biased;
        answer = &mut scrape => panic!("{answer}"),
        () = async { for _ in 0..1_000 { tokio::task::yield_now().await } } => {}
    }
    silent.pop();
    assert!(scrape.await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_is_slow_is_cut_off() {
    let short = Duration::from_millis(50);
    let long = Duration::from_secs(600);
    for (headers, connection) in [(short, long), (long, short)] {
        let (listener, telemetry) = parts().await;
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, telemetry, Patience { headers, connection }));
        let answer = timeout(long / 10, ask(address, b"GET /metrics HTTP/1.1\r\n")).await.unwrap();
        assert!(!answer.contains("palisade_workers"), "{answer}");
        serving.abort();
    }
}

#[tokio::test]
async fn the_end_does_not_wait_for_clients() {
    let server = Server::start().await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert!(server.get().await.starts_with("HTTP/1.1 200")); // so that the silent one was accepted before
    server.stop.cancel();
    server.serving.await.unwrap();
    let mut answer = Vec::new();
    assert_eq!(silent.read_to_end(&mut answer).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(server.address).await.is_err());
}
