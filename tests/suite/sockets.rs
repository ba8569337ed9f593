use std::net::{TcpListener, UdpSocket};

use serde_json::json;

use crate::harness::Daemon;

#[tokio::test]
async fn every_socket_and_every_name_is_denied_and_no_listener_sees_anything() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    let daemon = Daemon::start().await;
    let outcomes = daemon
        .probe(json!([
            { "connect": tcp.local_addr().unwrap().to_string() },
            { "connect": "localhost:80" },
            { "udp": udp.local_addr().unwrap().to_string() },
            { "resolve": "localhost" },
            { "resolve": "canary.example.com" },
        ]))
        .await;
    assert!(outcomes.iter().all(|outcome| outcome.contains("Permission denied")), "{outcomes:?}");
    assert_eq!(tcp.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody connected");
    assert!(udp.recv(&mut [0; 16]).is_err(), "nothing was sent");
}
