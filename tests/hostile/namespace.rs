//! The same tests once more, in a network namespace where the canaries have the very addresses that attackers aim at.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::OnceLock,
};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::scene::AIMS;
use crate::harness::unshare;

/// The upstream's address there: a public one, which no rule has to list.
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);

/// Says that this process was started in the namespace, by the test below.
const INSIDE: &str = "PALISADE_HOSTILE_NAMESPACE";

pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Prepares the namespace and returns the addresses that canaries can have in it.
pub fn aims() -> Vec<&'static str> {
    static AIMED: OnceLock<Vec<&'static str>> = OnceLock::new();
    AIMED.get_or_init(|| prepare().expect("the namespace can be prepared")).clone()
}

#[test]
fn every_attack_fails_also_where_the_canaries_have_the_addresses_that_it_aims_at() {
    if inside() {
        return;
    }
    let possible = unshare(&["--net"]).arg("true").output();
    if !possible.is_ok_and(|ended| ended.status.success()) {
        println!("SKIPPED: this machine lets nobody make a network namespace; canaries were in 127.0.0.0/8 only");
        return;
    }
    crate::harness::guest("probe");
    let ended = unshare(&["--net"])
        .arg(std::env::current_exe().unwrap())
        // One at a time: they share the usual ports.
        .args(["hostile::", "--test-threads=1", "--nocapture"])
        // These attack no network.
        .args(["--skip", "hostile::settings::", "--skip", "hostile::fs::"])
        .args([
            "--skip",
            "hostile::res::",
            "--skip",
            "hostile::modules::",
            "--skip",
            "hostile::rpc::",
            "--skip",
            "hostile::frames::",
        ])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "in a network namespace of its own:\n{said}");
    // What it counted, for who counts.
    let counts = said.lines().filter_map(|line| line.find("hostile namespace ").map(|at| &line[at..]));
    counts.for_each(|line| println!("{line}"));
    // A filter that finds nothing would also succeed.
    let passed = said.split("test result: ok. ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    assert!(passed.is_some_and(|passed| passed >= 40), "{said}");
}

#[tokio::test]
async fn there_a_packet_to_anywhere_is_seen() {
    if !inside() {
        return;
    }
    let scene = super::scene::Scene::new().await;
    for aim in ["169.254.169.254:80", "8.8.8.8:443", "10.9.8.7:22", "[fd00:ec2::254]:80", "[2001:4860:4860::8888]:443"]
    {
        let _ = std::net::TcpStream::connect(aim);
        let packets = scene.packets.as_ref().unwrap().seen();
        assert!(packets.iter().any(|packet| packet.to == aim.parse().unwrap()), "{aim}: {packets:?}");
    }
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"leak", "127.0.0.53:53").unwrap();
    assert!(scene.packets.as_ref().unwrap().seen().iter().any(|packet| packet.to == "127.0.0.53:53".parse().unwrap()));
    let touched = scene.canary.touched();
    for aim in ["169.254.169.254:80", "[fd00:ec2::254]:80"] {
        assert!(touched.iter().any(|touch| touch.at == aim.parse().unwrap()), "{aim}: {touched:?}");
    }
}

const REQUEST_ACK_CREATE: u16 = 0x1 | 0x4 | 0x400;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const INET: u8 = 2;
const INET6: u8 = 10;

/// The loopback device of a new namespace.
const LO: u32 = 1;

/// Raises `lo`, gives it the addresses, and makes every other address lead to it, so that no packet goes unseen.
fn prepare() -> nix::Result<Vec<&'static str>> {
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(SockProtocol::NetlinkRoute))?;
    let up = 1_u32.to_ne_bytes();
    ask(&netlink, NEW_LINK, &[&[0; 4], &LO.to_ne_bytes()[..], &up, &up].concat())?;
    add(&netlink, PUBLIC.into())?;
    let mut aims = Vec::new();
    for aim in AIMS {
        let address: IpAddr = aim.parse().expect("an address");
        match if address.is_loopback() { Ok(()) } else { add(&netlink, address) } {
            Ok(()) => aims.push(*aim),
            Err(error) => println!("no canary can be at {aim}: {error}"),
        }
    }
    for family in [INET, INET6] {
        // To everywhere, in the table `local`, of type and scope `local` and `host`.
        let to = [family, 0, 0, 0, 255, 3, 254, 2, 0, 0, 0, 0];
        let through = attribute(4, &LO.to_ne_bytes());
        if let Err(error) = ask(&netlink, NEW_ROUTE, &[&to[..], &through].concat()) {
            println!("packets to other addresses of family {family} are seen by nobody: {error}");
        }
    }
    Ok(aims)
}

fn add(netlink: &OwnedFd, address: IpAddr) -> nix::Result<()> {
    let (family, bits, bytes) = match address {
        IpAddr::V4(address) => (INET, 32, address.octets().to_vec()),
        IpAddr::V6(address) => (INET6, 128, address.octets().to_vec()),
    };
    // At once, without looking for duplicates.
    let of_lo = [&[family, bits, 2, 0], &LO.to_ne_bytes()[..]].concat();
    ask(netlink, NEW_ADDRESS, &[of_lo, attribute(1, &bytes), attribute(2, &bytes)].concat())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [((4 + value.len()) as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes
}

fn ask(netlink: &OwnedFd, kind: u16, body: &[u8]) -> nix::Result<()> {
    let mut message = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend([kind.to_ne_bytes(), REQUEST_ACK_CREATE.to_ne_bytes()].concat());
    message.extend([0; 8]);
    message.extend(body);
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut reply = [0; 1024];
    let length = recv(netlink.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    // An acknowledgement is an error message with a number of zero.
    let number = reply[..length].get(16..20).and_then(|bytes| bytes.try_into().ok()).map_or(-1, i32::from_ne_bytes);
    if number == 0 { Ok(()) } else { Err(nix::errno::Errno::from_raw(-number)) }
}
