//! Which addresses are special: not a host of the public internet, and so forbidden unless a rule lists them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

#[cfg(test)]
mod tests;

/// What makes an address special.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// In a word or two: `loopback`, `private`, `cloud metadata`.
    pub what: &'static str,
}

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    #[error("`{address}` is special ({}): the rule does not list it in `cidrs`", special.what)]
    Special { address: IpAddr, special: Special },
    #[error("`{address}` is special ({METADATA}): the rule does not list it, alone, in `cidrs`")]
    Metadata { address: IpAddr },
    #[error("`{0}` is where the daemon itself listens: no rule can allow it")]
    Own(SocketAddr),
}

/// What answers with the machine's own credentials. Only a CIDR of exactly one address allows such an address: nobody who
/// lists a network means it.
const METADATA: &str = "cloud metadata";

/// Returns whether `address` may be dialled at `port`: it is on the public internet, or one of `cidrs` holds it. An
/// address that carries an IPv4 address within (NAT64, 6to4, …) needs both to be allowed. An IPv4-mapped one is its IPv4
/// address, and only IPv4 CIDRs hold it. Nothing allows `own`, the daemon's own listeners; one that listens on every
/// address is at every address.
pub fn allowed(address: IpAddr, cidrs: &[IpNet], own: &[SocketAddr], port: u16) -> Result<(), Forbidden> {
    let target = address.to_canonical();
    let reaches = |listener: &SocketAddr| {
        let ip = listener.ip().to_canonical();
        // To dial the unspecified address is to dial this machine.
        listener.port() == port && (ip == target || ip.is_unspecified() || target.is_unspecified())
    };
    if own.iter().any(reaches) {
        return Err(Forbidden::Own(SocketAddr::new(address, port)));
    }
    let Some(special) = classify(address) else { return Ok(()) };
    let alone = special.what == METADATA;
    let holds = |cidr: &IpNet| cidr.contains(&target) && (!alone || cidr.prefix_len() == cidr.max_prefix_len());
    if !cidrs.iter().any(holds) {
        return Err(if alone { Forbidden::Metadata { address } } else { Forbidden::Special { address, special } });
    }
    match target {
        IpAddr::V6(v6) => embedded(v6).map_or(Ok(()), |v4| allowed(v4.into(), cidrs, own, port)),
        IpAddr::V4(_) => Ok(()),
    }
}

/// Returns why an address is special: it is in a block of the IANA special-purpose registries that is not globally
/// reachable, multicast, unallocated (IPv6), a cloud's metadata service, or one that carries an IPv4 address, which then
/// gives the reason if it is special itself.
pub fn classify(address: IpAddr) -> Option<Special> {
    let what = match address {
        IpAddr::V4(v4) => of_v4(v4),
        IpAddr::V6(v6) => embedded(v6).and_then(of_v4).or_else(|| of_v6(v6)),
    };
    what.map(|what| Special { what })
}

fn of_v4(address: Ipv4Addr) -> Option<&'static str> {
    Some(match address.octets() {
        // AWS, Google, Azure and most others; AWS for containers and pods; Tencent; Alibaba; Azure; Oracle.
        [169, 254, 169, 254] | [169, 254, 170, 2 | 23] | [169, 254, 0, 23] => METADATA,
        [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => METADATA,
        [0, ..] => "this network",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "private",
        [100, 64..=127, ..] => "shared by a carrier",
        [127, ..] => "loopback",
        [169, 254, ..] => "link-local",
        // Two anycast addresses of it are globally reachable, and answered by the nearest gateway: special as well.
        [192, 0, 0, _] => "protocol assignments",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "documentation",
        [192, 88, 99, _] => "6to4 relay",
        [198, 18..=19, ..] => "benchmarking",
        [224..=239, ..] => "multicast",
        [255, 255, 255, 255] => "broadcast",
        [240..=255, ..] => "reserved",
        _ => return None,
    })
}

fn of_v6(address: Ipv6Addr) -> Option<&'static str> {
    Some(match address.segments() {
        // AWS, its pods; Google; Scaleway.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254 | 0x23] => METADATA,
        [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => METADATA,
        [0, 0, 0, 0, 0, 0, 0, 0] => "unspecified",
        [0, 0, 0, 0, 0, 0, 0, 1] => "loopback",
        [0, 0, 0, 0, 0, 0xffff, ..] => "IPv4-mapped",
        [0, 0, 0, 0, 0, 0, ..] => "IPv4-compatible",
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => "NAT64",
        [0x100, 0, 0, 0, ..] => "discard",
        [0x100, 0, 0, 1, ..] => "dummy",
        [0x2001, 0, ..] => "Teredo",
        // Some of it is globally reachable: none of that is a web server.
        [0x2001, 1..=0x1ff, ..] => "protocol assignments",
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => "documentation",
        [0x2002, ..] => "6to4",
        [0x5f00, ..] => "segment routing",
        [0xfc00..=0xfdff, ..] => "private",
        [0xfe80..=0xfebf, ..] => "link-local",
        [0xfec0..=0xfeff, ..] => "site-local",
        [0xff00..=0xffff, ..] => "multicast",
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => "ISATAP",
        // All that was ever allocated.
        [0x2000..=0x3fff, ..] => return None,
        _ => "unallocated",
    })
}

/// Returns the IPv4 address that a translator or a tunnel takes out of an IPv6 address.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        // Unspecified and loopback, which look IPv4-compatible.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        [0x2001, 0, _, _, _, _, high, low] => v4(!high, !low),
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => v4(high, low),
        _ => None,
    }
}
