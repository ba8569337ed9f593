//! Listeners where nobody may come.

use std::{
    io::{ErrorKind, Read as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
};

/// Listens and accepts nothing until it is asked: what came waits in the kernel, so there is no race to lose.
pub struct Canary {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

/// Somebody who came.
#[derive(Debug, Clone)]
pub struct Touch {
    /// The address that was aimed at, also if the canary listens on a wildcard.
    pub at: SocketAddr,
    pub over: &'static str,
    /// The first of what was sent.
    pub bytes: Vec<u8>,
}

impl Canary {
    /// Listens on every address, TCP and UDP. An address that cannot be had is an error: a canary that is not there
    /// sees nothing.
    pub fn listen(addresses: &[SocketAddr]) -> std::io::Result<Self> {
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for address in addresses {
            let (listener, socket) = (TcpListener::bind(address)?, UdpSocket::bind(address)?);
            listener.set_nonblocking(true)?;
            socket.set_nonblocking(true)?;
            tcp.push(listener);
            udp.push(socket);
        }
        Ok(Self { tcp, udp })
    }

    /// Returns who came since it was asked before.
    pub fn touched(&self) -> Vec<Touch> {
        let mut touches = Vec::new();
        for listener in &self.tcp {
            loop {
                match listener.accept() {
                    Ok((stream, _)) => {
                        touches.push(Touch { at: stream.local_addr().unwrap(), over: "tcp", bytes: arrived(stream) })
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // It came and went before it was accepted, which is as bad.
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {
                        touches.push(Touch { at: listener.local_addr().unwrap(), over: "tcp", bytes: Vec::new() });
                    }
                    Err(error) => panic!("a canary cannot see: {error}"),
                }
            }
        }
        for socket in &self.udp {
            let mut bytes = vec![0; 4096];
            while let Ok(length) = socket.recv(&mut bytes) {
                let bytes = bytes[..length].to_vec();
                touches.push(Touch { at: socket.local_addr().unwrap(), over: "udp", bytes });
            }
        }
        touches
    }

    pub fn must_be_untouched(&self) {
        let touches = self.touched();
        let words: Vec<_> = touches
            .iter()
            .map(|touch| format!("{} {}: {}", touch.over, touch.at, String::from_utf8_lossy(&touch.bytes)))
            .collect();
        assert!(touches.is_empty(), "canaries were touched: {words:#?}");
    }
}

fn arrived(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let _ = stream.set_nonblocking(true);
    let length = stream.read(&mut bytes).unwrap_or(0);
    bytes.truncate(length);
    bytes
}
