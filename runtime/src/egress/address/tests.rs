use ipnet::Ipv4Net;
use proptest::prelude::*;

use super::*;

/// Every block of the two registries of IANA that is not globally reachable, and what else is special: what it is, and
/// what its neighbours on either side are.
#[rustfmt::skip]
const BLOCKS: [(&str, &str, Option<&str>, Option<&str>); 49] = [
    ("0.0.0.0/8", "this network", None, None),
    ("10.0.0.0/8", "private", None, None),
    ("100.64.0.0/10", "shared by a carrier", None, None),
    ("127.0.0.0/8", "loopback", None, None),
    ("169.254.0.0/16", "link-local", None, None),
    ("172.16.0.0/12", "private", None, None),
    ("192.0.0.0/24", "protocol assignments", None, None),
    ("192.0.0.0/29", "protocol assignments", None, Some("protocol assignments")),
    ("192.0.0.8/32", "protocol assignments", Some("protocol assignments"), Some("protocol assignments")),
    ("192.0.0.170/31", "protocol assignments", Some("protocol assignments"), Some("protocol assignments")),
    ("192.0.2.0/24", "documentation", None, None),
    ("192.88.99.0/24", "6to4 relay", None, None),
    ("192.168.0.0/16", "private", None, None),
    ("198.18.0.0/15", "benchmarking", None, None),
    ("198.51.100.0/24", "documentation", None, None),
    ("203.0.113.0/24", "documentation", None, None),
    ("224.0.0.0/4", "multicast", None, Some("reserved")),
    ("240.0.0.0/5", "reserved", Some("multicast"), Some("reserved")),
    ("255.255.255.255/32", "broadcast", Some("reserved"), None),
    ("168.63.129.16/32", "cloud metadata", None, None),
    ("169.254.169.254/32", "cloud metadata", Some("link-local"), Some("link-local")),
    ("169.254.170.2/32", "cloud metadata", Some("link-local"), Some("link-local")),
    ("169.254.170.23/32", "cloud metadata", Some("link-local"), Some("link-local")),
    ("100.100.100.200/32", "cloud metadata", Some("shared by a carrier"), Some("shared by a carrier")),
    ("192.0.0.192/32", "cloud metadata", Some("protocol assignments"), Some("protocol assignments")),
    ("::/128", "unspecified", None, Some("loopback")),
    ("::1/128", "loopback", Some("unspecified"), Some("this network")),
    ("::ffff:8.8.8.0/120", "IPv4-mapped", Some("IPv4-mapped"), Some("IPv4-mapped")),
    ("64:ff9b::808:800/120", "NAT64", Some("NAT64"), Some("NAT64")),
    ("64:ff9b:1::/48", "this network", Some("unallocated"), Some("unallocated")),
    ("100::/64", "discard", Some("unallocated"), Some("dummy")),
    ("100:0:0:1::/64", "dummy", Some("discard"), Some("unallocated")),
    ("2001:0:808:808:0:0:f7f7:f700/120", "Teredo", Some("Teredo"), Some("Teredo")),
    ("2001:1::/32", "protocol assignments", Some("this network"), Some("protocol assignments")),
    ("2001:2::/48", "protocol assignments", Some("protocol assignments"), Some("protocol assignments")),
    ("2001:1ff::/32", "protocol assignments", Some("protocol assignments"), None),
    ("2a00:1:2:3:0:5efe:808:800/120", "ISATAP", Some("ISATAP"), Some("ISATAP")),
    ("2a00:1:2:3:200:5efe:808:800/120", "ISATAP", Some("ISATAP"), Some("ISATAP")),
    ("2001:10::/28", "protocol assignments", Some("protocol assignments"), Some("protocol assignments")),
    ("2001:db8::/32", "documentation", None, None),
    ("2002:808:800::/40", "6to4", Some("6to4"), Some("6to4")),
    ("3fff::/20", "documentation", None, None),
    ("5f00::/16", "segment routing", Some("unallocated"), Some("unallocated")),
    ("fc00::/7", "private", Some("unallocated"), Some("unallocated")),
    ("fe80::/10", "link-local", Some("unallocated"), Some("site-local")),
    ("fec0::/10", "site-local", Some("link-local"), Some("multicast")),
    ("ff00::/8", "multicast", Some("site-local"), None),
    ("fd00:ec2::254/128", "cloud metadata", Some("private"), Some("private")),
    ("fd20:ce::254/128", "cloud metadata", Some("private"), Some("private")),
];

/// Blocks of the registries that are globally reachable, and hosts of the public internet.
const PUBLIC: [&str; 16] = [
    "1.0.0.0",
    "8.8.8.8",
    "9.255.255.255",
    "128.0.0.0",
    "192.31.196.1",
    "192.52.193.1",
    "192.175.48.1",
    "223.255.255.255",
    "2000::",
    "2001:200::",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700::1111",
    "2620:4f:8000::1",
    "3ffe:ffff::",
    "2a00:1450:4001:0:0:5efd:a00:1",
];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn what(address: IpAddr) -> Option<&'static str> {
    classify(address).map(|special| special.what)
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Returns the neighbours of a network in the address space of its family.
fn neighbours(net: IpNet) -> [Option<IpAddr>; 2] {
    match (net.network(), net.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => [
            first.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
            last.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        ],
        (IpAddr::V6(first), IpAddr::V6(last)) => [
            first.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
            last.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
        ],
        _ => unreachable!("a network is of one family"),
    }
}

#[test]
fn every_special_block_is_special_from_its_first_to_its_last_address_and_no_further() {
    for (block, is, before, after) in BLOCKS {
        let net: IpNet = block.parse().unwrap();
        assert_eq!(net, net.trunc(), "{block} is mistyped");
        assert_eq!(what(net.network()), Some(is), "first of {block}");
        if block != "64:ff9b:1::/48" {
            assert_eq!(what(net.broadcast()), Some(is), "last of {block}");
        }
        let [one_before, one_after] = neighbours(net);
        assert_eq!(one_before.and_then(what), before, "before {block}");
        assert_eq!(one_after.and_then(what), after, "after {block}");
    }
}

#[test]
fn the_public_internet_is_not_special() {
    for text in PUBLIC {
        assert_eq!(what(ip(text)), None, "{text}");
        assert_eq!(allowed(ip(text), &[], &[], 443), Ok(()));
    }
}

#[test]
fn an_address_within_an_address_gives_the_reason() {
    let within = [
        "::ffff:{}",
        "::{}",
        "64:ff9b::{}",
        "64:ff9b:1::{}",
        "64:ff9b:1:2:3:4:{}",
        "2a00:1:2:3:0:5efe:{}",
        "2a00:1:2:3:200:5efe:{}",
        "fe80::5efe:{}",
    ];
    for (v4, is) in [("127.0.0.1", "loopback"), ("10.1.2.3", "private"), ("169.254.169.254", "cloud metadata")] {
        for form in within {
            let text = form.replace("{}", v4);
            assert_eq!(what(ip(&text)), Some(is), "{text}");
        }
        let v4: Ipv4Addr = v4.parse().unwrap();
        let [a, b] = [v4.to_bits() >> 16, v4.to_bits() & 0xffff];
        assert_eq!(what(ip(&format!("2002:{a:x}:{b:x}::1"))), Some(is), "6to4 of {v4}");
        let [a, b] = [!a & 0xffff, !b & 0xffff];
        assert_eq!(what(ip(&format!("2001:0:808:808:0:1:{a:x}:{b:x}"))), Some(is), "Teredo of {v4}");
    }
}

#[test]
fn a_special_address_is_allowed_only_by_a_network_that_holds_it() {
    let private = nets(&["10.0.0.0/8"]);
    assert_eq!(allowed(ip("10.1.2.3"), &private, &[], 80), Ok(()));
    for text in ["11.0.0.0", "127.0.0.1", "192.168.0.1", "::1", "fc00::1"] {
        let forbidden = allowed(ip(text), &private, &[], 80);
        assert_eq!(forbidden.is_ok(), text == "11.0.0.0", "{text}");
    }
    let message = allowed(ip("192.168.0.1"), &private, &[], 80).unwrap_err().to_string();
    assert_eq!(message, "`192.168.0.1` is special (private): the rule does not list it in `cidrs`");
}

#[test]
fn a_mapped_address_is_held_by_ipv4_networks_only() {
    assert_eq!(allowed(ip("::ffff:10.1.2.3"), &nets(&["10.0.0.0/8"]), &[], 80), Ok(()));
    assert!(allowed(ip("::ffff:10.1.2.3"), &nets(&["::ffff:0:0/96"]), &[], 80).is_err());
    assert!(allowed(ip("::ffff:8.8.8.8"), &[], &[], 80).is_err());
}

#[test]
fn an_address_within_an_address_needs_both_to_be_allowed() {
    let nat64 = ip("64:ff9b::10.1.2.3");
    assert!(allowed(nat64, &nets(&["64:ff9b::/96"]), &[], 80).is_err());
    assert!(allowed(nat64, &nets(&["10.0.0.0/8"]), &[], 80).is_err());
    assert_eq!(allowed(nat64, &nets(&["64:ff9b::/96", "10.0.0.0/8"]), &[], 80), Ok(()));
    assert_eq!(allowed(ip("64:ff9b::8.8.8.8"), &nets(&["64:ff9b::/96"]), &[], 80), Ok(()));
    assert!(allowed(ip("64:ff9b::8.8.8.8"), &[], &[], 80).is_err());
}

#[test]
fn a_metadata_service_is_allowed_only_by_name() {
    for (text, wide, alone) in [
        ("169.254.169.254", "169.254.0.0/16", "169.254.169.254/32"),
        ("100.100.100.200", "100.64.0.0/10", "100.100.100.200/32"),
        ("fd00:ec2::254", "fd00::/8", "fd00:ec2::254/128"),
        ("::ffff:169.254.169.254", "169.254.0.0/16", "169.254.169.254/32"),
    ] {
        assert_eq!(allowed(ip(text), &nets(&[wide]), &[], 80), Err(Forbidden::Metadata { address: ip(text) }));
        assert_eq!(allowed(ip(text), &nets(&[alone]), &[], 80), Ok(()), "{text}");
    }
    let through_nat64 = allowed(ip("64:ff9b::169.254.169.254"), &nets(&["64:ff9b::/96", "169.254.0.0/16"]), &[], 80);
    assert!(through_nat64.is_err());
}

#[test]
fn nothing_allows_the_daemons_own_listeners() {
    let all = nets(&["127.0.0.0/8", "0.0.0.0/8", "10.0.0.0/8", "::1/128", "::/128", "64:ff9b::/96", "::/96"]);
    let own =
        ["127.0.0.1:9000", "[::1]:9001", "8.8.8.8:9002", "[::ffff:10.0.0.9]:9003"].map(|own| own.parse().unwrap());
    for (text, port) in [
        ("127.0.0.1", 9000),
        ("::ffff:127.0.0.1", 9000),
        ("64:ff9b::127.0.0.1", 9000),
        ("0.0.0.0", 9000),
        ("::", 9000),
        ("::1", 9001),
        ("8.8.8.8", 9002),
        ("10.0.0.9", 9003),
        ("::ffff:10.0.0.9", 9003),
    ] {
        assert!(matches!(allowed(ip(text), &all, &own, port), Err(Forbidden::Own(_))), "{text} at {port}");
        assert_eq!(allowed(ip(text), &all, &own, 80), Ok(()), "{text} at another port");
    }
}

#[test]
fn a_listener_on_every_address_is_at_every_address() {
    let all = nets(&["127.0.0.0/8", "10.0.0.0/8", "::1/128"]);
    for own in ["0.0.0.0:9000", "[::]:9000"] {
        let own = [own.parse().unwrap()];
        for text in ["127.0.0.2", "10.0.0.9", "::1", "::ffff:127.0.0.1"] {
            assert!(matches!(allowed(ip(text), &all, &own, 9000), Err(Forbidden::Own(_))), "{text}");
            assert_eq!(allowed(ip(text), &all, &own, 9001), Ok(()), "{text}");
        }
    }
}

proptest! {
    #[test]
    fn what_the_standard_library_knows_to_be_special_is_special(bits: u32, block in 0..BLOCKS.len()) {
        // Half of the addresses are drawn from the blocks: at random, few are special.
        let v4 = match BLOCKS[block].0.parse::<IpNet>().unwrap() {
            IpNet::V4(net) => Ipv4Addr::from_bits(net.network().to_bits() | bits & net.hostmask().to_bits()),
            IpNet::V6(_) => Ipv4Addr::from_bits(bits),
        };
        let special = v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_multicast()
            || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
        prop_assert!(!special || classify(v4.into()).is_some());
        let listed = |(block, ..): &(&str, _, _, _)| block.parse().is_ok_and(|net: Ipv4Net| net.contains(&v4));
        let reserved = v4.octets()[0] >= 240;
        prop_assert_eq!(classify(v4.into()).is_some(), BLOCKS.iter().any(listed) || reserved, "{}", v4);
        for form in ["::ffff:{}", "::{}", "64:ff9b::{}", "64:ff9b:1::{}", "2a00::5efe:{}"] {
            prop_assert!(classify(ip(&form.replace("{}", &v4.to_string()))).is_some(), "{} in {}", v4, form);
        }
    }

    #[test]
    fn outside_of_global_unicast_every_ipv6_address_is_special(bits: u128) {
        let v6 = Ipv6Addr::from_bits(bits);
        if v6.segments()[0] >> 13 != 1 {
            prop_assert!(classify(v6.into()).is_some());
        }
    }

    #[test]
    fn without_networks_exactly_the_special_addresses_are_forbidden(bits: u128, v4: bool, port: u16) {
        let address = if v4 { Ipv4Addr::from_bits(bits as u32).into() } else { IpAddr::V6(Ipv6Addr::from_bits(bits)) };
        prop_assert_eq!(allowed(address, &[], &[], port).is_ok(), classify(address).is_none());
    }
}
