//! What the tests talk to: a name server that says what it is told, upstreams, and an authority that they prove themselves by.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use hickory_resolver::proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::*;

/// What the name server says of a name.
#[derive(Clone)]
pub enum Said {
    Addresses(Vec<IpAddr>),
    /// Another name, and its addresses.
    Alias(&'static str, Vec<IpAddr>),
    Code(ResponseCode),
    Nothing,
}

/// A name server on 127.0.0.53, by UDP and TCP.
#[derive(Clone)]
pub struct Names {
    pub address: SocketAddr,
    said: Arc<Mutex<HashMap<String, Said>>>,
    pub asked: Arc<Mutex<Vec<(String, RecordType)>>>,
}

impl Names {
    pub async fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.53:0").await.unwrap();
            // The same port is most likely free.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let names = Self { address: udp.local_addr().unwrap(), said: Arc::default(), asked: Arc::default() };
        let (by_udp, by_tcp) = (names.clone(), names.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((count, from)) = udp.recv_from(&mut buffer).await {
                if let Some(mut answer) = by_udp.answer(&buffer[..count]) {
                    if answer.to_vec().unwrap().len() > 512 {
                        answer.answers.clear();
                        answer.metadata.truncation = true;
                    }
                    udp.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let names = by_tcp.clone();
                tokio::spawn(async move {
                    while let Ok(count) = stream.read_u16().await {
                        let mut question = vec![0; count.into()];
                        stream.read_exact(&mut question).await.unwrap();
                        if let Some(answer) = names.answer(&question) {
                            let answer = answer.to_vec().unwrap();
                            stream.write_u16(answer.len() as u16).await.unwrap();
                            stream.write_all(&answer).await.unwrap();
                        }
                    }
                });
            }
        });
        names
    }

    pub fn say(&self, name: &str, said: Said) {
        self.said.lock().unwrap().insert(format!("{name}."), said);
    }

    /// The name has these addresses.
    pub fn set(&self, name: &str, addresses: &[&str]) {
        self.say(name, Said::Addresses(addresses.iter().map(|address| address.parse().unwrap()).collect()));
    }

    fn answer(&self, question: &[u8]) -> Option<Message> {
        let question = Message::from_vec(question).unwrap();
        let query = question.queries[0].clone();
        let name = query.name().to_lowercase().to_ascii();
        self.asked.lock().unwrap().push((name.clone(), query.query_type()));
        let said = self.said.lock().unwrap().get(&name).cloned().unwrap_or(Said::Code(ResponseCode::NXDomain));
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        let mut add = |owner: &Name, addresses: Vec<IpAddr>| {
            for address in addresses {
                let data = match address {
                    IpAddr::V4(v4) => RData::A(v4.into()),
                    IpAddr::V6(v6) => RData::AAAA(v6.into()),
                };
                if data.record_type() == query.query_type() {
                    answer.add_answer(Record::from_rdata(owner.clone(), 0, data));
                }
            }
        };
        match said {
            Said::Addresses(addresses) => add(query.name(), addresses),
            Said::Alias(alias, addresses) => {
                let alias = Name::from_ascii(alias).unwrap();
                add(&alias, addresses);
                let record = Record::from_rdata(query.name().clone(), 0, RData::CNAME(rdata::CNAME(alias)));
                answer.answers.insert(0, record);
            }
            Said::Code(code) => answer.metadata.response_code = code,
            Said::Nothing => return None,
        }
        Some(answer)
    }
}

/// A listener that runs a script for every connection, and counts them.
pub struct Upstream {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Upstream {
    /// Listens on `ip`. The script gets the connection and its number, from 0.
    pub async fn start<F, S>(ip: &str, script: S) -> Self
    where
        F: Future<Output = ()> + Send,
        S: Fn(TcpStream, usize) -> F + Clone + Send + 'static,
    {
        Self::at(TcpListener::bind((ip, 0)).await.unwrap(), script)
    }

    pub fn at<F, S>(listener: TcpListener, script: S) -> Self
    where
        F: Future<Output = ()> + Send,
        S: Fn(TcpStream, usize) -> F + Clone + Send + 'static,
    {
        let upstream = Self { address: listener.local_addr().unwrap(), accepted: Arc::default() };
        let accepted = upstream.accepted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, number) = (script.clone(), accepted.fetch_add(1, SeqCst));
                tokio::spawn(async move { script(stream, number).await });
            }
        });
        upstream
    }

    /// Connections that were made.
    pub fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

/// Reads up to the end of a request's header. Empty if the connection ends before.
pub async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

/// Answers every request on a connection with `response`, whole.
pub async fn answer(mut stream: TcpStream, response: &str) {
    while !read_head(&mut stream).await.is_empty() {
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub type Proof = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for a name or an address.
    pub fn prove(&self, host: &str) -> Proof {
        self.sign(CertificateParams::new(vec![host.into()]).unwrap())
    }

    pub fn sign(&self, mut params: CertificateParams) -> Proof {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    pub fn file(&self) -> PathBuf {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("egress-{}-{}.pem", std::process::id(), COUNT.fetch_add(1, SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, self.0.pem()).unwrap();
        path
    }

    /// A server that speaks `protocols`; with `clients`, only to those who prove themselves.
    pub fn server(&self, proof: Proof, protocols: &[&str], clients: bool) -> tokio_rustls::TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(proof.0, proof.1).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config).into()
    }
}

/// An egress that asks `names` and trusts `authority`.
pub fn egress(names: &Names, authority: Option<&Authority>, connections: usize) -> Egress {
    let ca_files: Vec<PathBuf> = authority.map(Authority::file).into_iter().collect();
    let settings = Settings {
        names: true,
        dns_servers: vec![names.address],
        ca_files: ca_files.clone(),
        own: Vec::new(),
        connections,
        idle: Duration::from_secs(30),
    };
    let egress = Egress::new(settings).unwrap();
    ca_files.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    egress
}
