//! Sees every connection that is begun and every datagram that is sent in a network namespace, wherever to.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{Arc, Condvar, Mutex},
};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};

use crate::harness::PATIENCE;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    pub over: &'static str,
    pub from: SocketAddr,
    pub to: SocketAddr,
}

/// Watches as long as the process.
pub struct Packets(Arc<(Mutex<BTreeSet<Packet>>, Condvar)>);

impl Packets {
    pub fn watch() -> Self {
        // Without the link's head: what is read begins with the IP header.
        let all = Some(SockProtocol::EthAll);
        let socket = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, all).unwrap();
        let shared = Arc::new((Mutex::default(), Condvar::new()));
        let watched = shared.clone();
        std::thread::spawn(move || {
            // Enough for both headers: bodies are cut off, so that they cost nothing.
            let mut packet = [0; 128];
            while let Ok(length) = recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
                if let Some(packet) = begun(&packet[..length.min(packet.len())]) {
                    let (packets, more): &(Mutex<BTreeSet<Packet>>, Condvar) = &watched;
                    packets.lock().unwrap().insert(packet);
                    more.notify_all();
                }
            }
        });
        Self(shared)
    }

    /// Returns what was sent so far. A datagram of our own tells when all before it was seen.
    pub fn seen(&self) -> Vec<Packet> {
        let (marker, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), "127.0.0.1:9".parse().unwrap());
        let from = marker.local_addr().unwrap();
        marker.send_to(b"so far", to).unwrap();
        let ours = Packet { over: "udp", from, to };
        let (packets, more) = &*self.0;
        let (mut packets, late) =
            more.wait_timeout_while(packets.lock().unwrap(), PATIENCE, |packets| !packets.contains(&ours)).unwrap();
        assert!(!late.timed_out(), "packets are not seen");
        packets.remove(&ours);
        packets.iter().filter(|packet| packet.to != to).cloned().collect()
    }
}

/// Reads a packet that begins a TCP connection, or a UDP datagram.
fn begun(packet: &[u8]) -> Option<Packet> {
    let (protocol, from, to, rest): (u8, IpAddr, IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            let head = usize::from(packet[0] & 0xf) * 4;
            (*packet.get(9)?, address(12)?, address(16)?, packet.get(head..)?)
        }
        6 => {
            let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            (*packet.get(6)?, address(8)?, address(24)?, packet.get(40..)?)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    // A SYN without an ACK.
    let over = match protocol {
        6 if rest.get(13)? & 0x12 == 0x02 => "tcp",
        17 => "udp",
        _ => return None,
    };
    Some(Packet { over, from: SocketAddr::new(from, port(0)?), to: SocketAddr::new(to, port(2)?) })
}
