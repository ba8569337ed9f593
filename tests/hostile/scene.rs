//! Where an attack takes place: a good upstream, a name server, and canaries wherever else somebody could be led.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

use super::{
    namespace,
    packets::Packets,
    rig::{Rig, RigSetup, folder},
};
use crate::harness::{canary::Canary, certificates::Authority, dns::Dns, upstream::Upstream};

/// The name that rules of these tests allow.
pub const GOOD: &str = "api.allowed.test";

/// What the good upstream's certificate is for, besides its address.
const NAMES: &[&str] = &[GOOD, "*.wild.test", "other.allowed.test", "xn--bcher-kva.allowed.test"];

/// Addresses that attackers aim at. In a network namespace of their own all of them can be listened on.
pub const AIMS: &[&str] = &[
    "127.0.0.1",
    "127.0.0.2",
    "127.255.255.254",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.1.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.17.0.1",
    "172.31.255.254",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.254",
    "198.18.0.1",
    "198.19.255.254",
    "198.51.100.1",
    "203.0.113.1",
    "240.0.0.1",
    "::1",
    "fd00:ec2::254",
    "fd00::1",
    "fc00::1",
    "fec0::1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a9fe:a9fe",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::80ff:fffe",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "2001:2::1",
    "100::1",
    "2606:2800:220:1:0:5efe:127.0.0.1",
    "::127.0.0.1",
    "::169.254.169.254",
];

/// Those of them that can be listened on anywhere.
const LOOPBACK: &[&str] = &["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1"];

pub struct Scene {
    pub dns: Dns,
    /// The good upstream: TLS, h2 and HTTP/1.1.
    pub tls: Upstream,
    /// The good upstream: HTTP/1.1 in the clear.
    pub plain: Upstream,
    pub canary: Canary,
    pub authority: Authority,
    pub dir: TempDir,
    /// Names that the name server may be asked for.
    pub names: Vec<String>,
    /// Where else a request may go.
    pub others: Vec<Upstream>,
    pub packets: Option<Packets>,
    ca: PathBuf,
}

impl Scene {
    /// In the network namespace that is meant for it the upstream has a public address and the usual ports; elsewhere
    /// it has an address in 127.0.0.0/8 of its own.
    pub async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let world = namespace::inside();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let own = format!("127.{}.{}", 10 + std::process::id() % 200, count % 250);
        let address: IpAddr = if world { namespace::PUBLIC.into() } else { format!("{own}.1").parse().unwrap() };
        let authority = Authority::new("a test's authority");
        let text = address.to_string();
        let names = [NAMES, &[text.as_str()]].concat();
        let config = authority.serve(&names);
        let aims = if world { namespace::aims() } else { LOOPBACK.to_vec() };
        let dir = folder();
        let ca = authority.file(dir.path());
        let dns = Dns::start(&format!("{own}.2")).await;
        dns.has(GOOD, &[&address.to_string()]);
        loop {
            let port = |usual: u16| SocketAddr::new(address, if world { usual } else { 0 });
            let tls = Upstream::tls(port(443), config.clone()).await;
            let plain = Upstream::plain(port(80)).await;
            let ports = [tls.address.port(), plain.address.port()];
            let aimed = aims.iter().flat_map(|aim| ports.map(|port| SocketAddr::new(aim.parse().unwrap(), port)));
            // A port may be taken where the canary wants it: then others.
            let canary = match Canary::listen(&aimed.collect::<Vec<_>>()) {
                Ok(canary) => canary,
                Err(error) if world => panic!("no canary: {error}"),
                Err(_) => continue,
            };
            let packets = world.then(Packets::watch);
            let names = vec![GOOD.to_owned()];
            return Self { dns, tls, plain, canary, authority, dir, names, others: Vec::new(), packets, ca };
        }
    }

    /// Returns a rule for a host over TLS, with `more` in it.
    pub fn rule(&self, name: &str, host: &str, more: &str) -> String {
        self.rule_at(name, "https", host, &self.tls, more)
    }

    /// Returns a rule for a host in the clear.
    pub fn clear_rule(&self, name: &str, host: &str, more: &str) -> String {
        self.rule_at(name, "http", host, &self.plain, more)
    }

    pub fn rule_at(&self, name: &str, scheme: &str, host: &str, upstream: &Upstream, more: &str) -> String {
        let ip = upstream.address.ip();
        // A public address needs no leave.
        let cidrs = if namespace::inside() { String::new() } else { format!("cidrs = [\"{ip}/32\"]\n") };
        let port = upstream.address.port();
        let methods =
            if more.contains("methods =") { "" } else { "methods = [\"GET\", \"HEAD\", \"POST\", \"PUT\"]\n" };
        format!(
            "[[egress]]\nname = \"{name}\"\nscheme = \"{scheme}\"\nhost = \"{host}\"\nport = {port}\n{methods}{cidrs}{more}\n"
        )
    }

    pub async fn rig(&self, rules: impl Into<String>) -> Rig {
        Rig::new(self.setup(rules)).await
    }

    pub fn setup(&self, rules: impl Into<String>) -> RigSetup {
        RigSetup { ca: vec![self.ca.clone()], ..RigSetup::new(rules, self.dns.address) }
    }

    /// Returns an authority with the port of the good upstream over TLS.
    pub fn at(&self, host: &str) -> String {
        format!("{host}:{}", self.tls.address.port())
    }

    /// Returns an authority with the port of the good upstream in the clear.
    pub fn clear_at(&self, host: &str) -> String {
        format!("{host}:{}", self.plain.address.port())
    }

    pub fn allow_name(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        [&self.tls, &self.plain].into_iter().chain(&self.others)
    }
}
