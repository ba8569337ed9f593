//! Names to addresses: one resolver for all, which asks name servers and nothing else.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RecordType},
    system_conf,
};
use tokio::sync::Semaphore;

use super::error::{Code, SendError, StartError};

/// Addresses that a name may have. One that has more is refused: nobody can have meant to allow them all.
pub const ADDRESSES_MAX: usize = 32;

/// Answers that are kept, and records that one of them may have: whoever owns a name must not fill our memory.
const KEPT_MAX: u64 = 1024;
const RECORDS_KEPT_MAX: usize = 64;

/// How long an answer is kept at most, whatever it says. An operator who moves a service waits so long.
const CACHED: Duration = Duration::from_secs(300);

/// How long it is remembered that a name does not exist.
const CACHED_ABSENCE: Duration = Duration::from_secs(5);

/// One question to one server, and how often it is repeated.
const QUESTION: Duration = Duration::from_secs(2);
const REPEATS: usize = 2;

/// Names that are looked up at a time; others wait.
const LOOKUPS_MAX: usize = 128;

/// Asks name servers for addresses. No `/etc/hosts`, no search domains, no multicast.
pub struct Resolver {
    dns: TokioResolver,
    lookups: Semaphore,
}

impl Resolver {
    /// Asks `servers`, or if there are none those of `/etc/resolv.conf`, which is read here and not again.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, StartError> {
        let servers = if servers.is_empty() { system_servers()? } else { servers.iter().map(server).collect() };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = QUESTION;
        options.attempts = REPEATS;
        options.cache_size = KEPT_MAX;
        options.positive_max_ttl = Some(CACHED);
        options.negative_max_ttl = Some(CACHED_ABSENCE);
        // What leads to the addresses is not looked at: it need not be kept.
        options.preserve_intermediates = false;
        let dns = builder.build().map_err(|error| StartError::Resolver(error.to_string()))?;
        Ok(Self { dns, lookups: Semaphore::new(LOOKUPS_MAX) })
    }

    /// Returns every address of `host`, 1 to 32 of them, IPv4 and IPv6 by turns. A kind of address that cannot be had
    /// does not matter while there is one of the other.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, SendError> {
        let failed = |reason: &str| SendError::new(Code::DnsFailed, format!("`{host}` {reason}"));
        // With the dot at its end, a name is whole: no search domain is tried.
        let name = Name::from_ascii(format!("{host}.")).map_err(|_| failed("cannot be a name in DNS"))?;
        let _lookup = self.lookups.acquire().await;
        let (v4, v6) = tokio::join!(self.dns.ipv4_lookup(name.clone()), self.dns.ipv6_lookup(name.clone()));
        for (answer, kind) in [(&v4, RecordType::A), (&v6, RecordType::AAAA)] {
            if records(answer) > RECORDS_KEPT_MAX {
                self.dns.clear_lookup_cache(name.clone(), kind);
            }
        }
        match (addresses(&v4), addresses(&v6)) {
            (v4s, v6s) if !v4s.is_empty() || !v6s.is_empty() => match v4s.len() + v6s.len() {
                ..=ADDRESSES_MAX => Ok(by_turns(v4s, v6s)),
                many => Err(failed(&format!("has {many} addresses, which is more than {ADDRESSES_MAX}"))),
            },
            _ => match [v4, v6].into_iter().filter_map(Result::err).find(|error| !error.is_no_records_found()) {
                Some(error) => Err(failed(&format!("cannot be looked up: {error}"))),
                None => Err(failed("has no address in DNS")),
            },
        }
    }

    /// Forgets every answer.
    #[cfg(test)]
    pub fn forget(&self) {
        self.dns.clear_cache();
    }
}

fn system_servers() -> Result<Vec<NameServerConfig>, StartError> {
    let (config, _) = system_conf::read_system_conf().map_err(|error| StartError::NameServers(error.to_string()))?;
    Ok(config.name_servers().to_vec())
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn addresses(answer: &Result<Lookup, NetError>) -> Vec<IpAddr> {
    let records = answer.as_ref().map(Lookup::answers).unwrap_or_default();
    records.iter().filter_map(|record| record.data.ip_addr()).collect()
}

fn records(answer: &Result<Lookup, NetError>) -> usize {
    answer.as_ref().map_or(0, |answer| answer.message().all_sections().count())
}

/// Both kinds of address get a turn early: a machine may have no way to one of them.
fn by_turns(v4: Vec<IpAddr>, v6: Vec<IpAddr>) -> Vec<IpAddr> {
    let turns = v4.len().max(v6.len());
    (0..turns).flat_map(|turn| [v4.get(turn), v6.get(turn)]).flatten().copied().collect()
}
