//! A name server of one test's own: says what it is told to say, and keeps what it was asked.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

/// Serves UDP and TCP on one port as long as the test's runtime. A name that it was told nothing of does not exist.
pub struct Dns {
    pub address: SocketAddr,
    state: Arc<State>,
}

/// What is said of a name. Everything has a time to live of zero.
#[derive(Clone, Debug)]
pub enum Says {
    /// Those of the queried type; none of it is an empty answer.
    Addresses(Vec<IpAddr>),
    /// A chain of other names, the last of which has these addresses, all in one answer.
    Aliases(Vec<String>, Vec<IpAddr>),
    /// One other name and nothing about it: the resolver has to ask again.
    Alias(String),
    /// Addresses of `owner`, whatever was asked: an attempt to poison a cache.
    Other {
        owner: String,
        addresses: Vec<IpAddr>,
    },
    NoSuchName,
    Failure,
    Refusal,
    /// Nothing at all, over either transport.
    Silence,
    /// Over UDP that the answer is too long for UDP, over TCP the answer.
    Truncated(Vec<IpAddr>),
    /// These bytes after the query's id.
    Bytes(Vec<u8>),
}

/// A query as it was received, its name in lower case and without the last dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub name: String,
    pub kind: u16,
    pub over: &'static str,
    pub from: SocketAddr,
}

#[derive(Default)]
struct State {
    names: Mutex<HashMap<String, Vec<Says>>>,
    /// How often a name was asked for, by type.
    asked: Mutex<HashMap<(String, u16), usize>>,
    queries: Mutex<Vec<Query>>,
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

/// More than this is truncated over UDP: what resolvers say that they take.
const DATAGRAM: usize = 1232;

/// The header, and a root name with type and class.
const SHORTEST: usize = 12 + 5;

impl Dns {
    pub async fn start(ip: &str) -> Self {
        let state = Arc::new(State::default());
        loop {
            let udp = UdpSocket::bind(format!("{ip}:0")).await.unwrap();
            let address = udp.local_addr().unwrap();
            // The same port may be taken for TCP: then another one.
            let Ok(tcp) = TcpListener::bind(address).await else { continue };
            tokio::spawn(datagrams(state.clone(), udp));
            tokio::spawn(streams(state.clone(), tcp));
            return Self { address, state };
        }
    }

    pub fn says(&self, name: &str, says: Says) {
        self.says_in_turn(name, vec![says]);
    }

    /// Says the first to the first query of each type, and so on. The last one stays.
    pub fn says_in_turn(&self, name: &str, says: Vec<Says>) {
        assert!(!says.is_empty());
        self.state.names.lock().unwrap().insert(name.to_lowercase(), says);
    }

    pub fn has(&self, name: &str, addresses: &[&str]) {
        self.says(name, Says::addresses(addresses));
    }

    pub fn queries(&self) -> Vec<Query> {
        self.state.queries.lock().unwrap().clone()
    }

    /// Returns every name that was asked for.
    pub fn names(&self) -> BTreeSet<String> {
        self.queries().into_iter().map(|query| query.name).collect()
    }
}

impl Says {
    pub fn addresses(addresses: &[&str]) -> Self {
        Self::Addresses(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }
}

async fn datagrams(state: Arc<State>, socket: UdpSocket) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        if let Some(reply) = state.reply(&buffer[..length], "udp", from) {
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

async fn streams(state: Arc<State>, listener: TcpListener) {
    while let Ok((mut stream, from)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut query = vec![0; length.into()];
                if stream.read_exact(&mut query).await.is_err() {
                    return;
                }
                if let Some(reply) = state.reply(&query, "tcp", from) {
                    let mut framed = (reply.len() as u16).to_be_bytes().to_vec();
                    framed.extend(reply);
                    let _ = stream.write_all(&framed).await;
                }
            }
        });
    }
}

impl State {
    fn reply(&self, query: &[u8], over: &'static str, from: SocketAddr) -> Option<Vec<u8>> {
        let (name, kind, end) = question(query)?;
        self.queries.lock().unwrap().push(Query { name: name.clone(), kind, over, from });
        let says = self.next(&name, kind, over);
        let (code, truncated, records) = match says {
            Says::Silence => return None,
            Says::Bytes(bytes) => return Some([&query[..2], &bytes].concat()),
            Says::NoSuchName => (3, false, Vec::new()),
            Says::Failure => (2, false, Vec::new()),
            Says::Refusal => (5, false, Vec::new()),
            Says::Addresses(addresses) => (0, false, hosts(&name, kind, &addresses)),
            Says::Other { owner, addresses } => (0, false, hosts(&owner, kind, &addresses)),
            Says::Truncated(_) if over == "udp" => (0, true, Vec::new()),
            Says::Truncated(addresses) => (0, false, hosts(&name, kind, &addresses)),
            Says::Alias(target) => (0, false, vec![record(&name, CNAME, &labels(&target))]),
            Says::Aliases(chain, addresses) => {
                let owners = std::iter::once(&name).chain(&chain);
                let mut records: Vec<_> =
                    owners.zip(&chain).map(|(owner, target)| record(owner, CNAME, &labels(target))).collect();
                records.extend(hosts(chain.last().unwrap_or(&name), kind, &addresses));
                (0, false, records)
            }
        };
        let message = |truncated: bool, records: &[Vec<u8>]| {
            let mut message = query[..2].to_vec();
            // A response, authoritative, recursion desired and available.
            message.extend([0x85 | u8::from(truncated) << 1, 0x80 | code, 0, 1]);
            message.extend((records.len() as u16).to_be_bytes());
            message.extend([0; 4]);
            message.extend(&query[12..end]);
            message.extend(records.iter().flatten());
            message
        };
        let whole = message(truncated, &records);
        Some(if over == "udp" && whole.len() > DATAGRAM { message(true, &[]) } else { whole })
    }

    /// Returns what is to be said now. That a query is repeated over TCP is no new turn.
    fn next(&self, name: &str, kind: u16, over: &str) -> Says {
        let names = self.names.lock().unwrap();
        let Some(says) = names.get(name) else { return Says::NoSuchName };
        let mut asked = self.asked.lock().unwrap();
        let turn = asked.entry((name.to_owned(), kind)).or_default();
        if over == "udp" {
            *turn += 1;
        }
        says[turn.saturating_sub(1).min(says.len() - 1)].clone()
    }
}

/// Reads the first question: its name, its type, and where it ends.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    if query.len() < SHORTEST {
        return None;
    }
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        let label = query.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_lowercase());
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    (at + 4 <= query.len()).then(|| (labels.join("."), kind, at + 4))
}

fn hosts(owner: &str, kind: u16, addresses: &[IpAddr]) -> Vec<Vec<u8>> {
    let data = addresses.iter().filter_map(|address| match (kind, address) {
        (A, IpAddr::V4(address)) => Some(address.octets().to_vec()),
        (AAAA, IpAddr::V6(address)) => Some(address.octets().to_vec()),
        _ => None,
    });
    data.map(|data| record(owner, kind, &data)).collect()
}

fn record(owner: &str, kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = labels(owner);
    record.extend(kind.to_be_bytes());
    // Class IN, time to live 0.
    record.extend([0, 1, 0, 0, 0, 0]);
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

fn labels(name: &str) -> Vec<u8> {
    let of = |label: &str| [&[label.len() as u8], label.as_bytes()].concat();
    let mut bytes: Vec<u8> = name.split('.').filter(|label| !label.is_empty()).flat_map(of).collect();
    bytes.push(0);
    bytes
}
