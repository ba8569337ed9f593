//! Certificates of a test's own authority: good ones, and each kind of bad one.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

/// An authority. The daemon trusts those whose file it is given.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// What a certificate says.
pub struct Leaf {
    names: Vec<String>,
    from: i32,
    until: i32,
}

/// A certificate with its key.
pub struct Identity {
    pub chain_pem: String,
    pub key_pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// Writes the authority's certificate as the daemon's `ca_files` want it.
    pub fn file(&self, dir: &Path) -> PathBuf {
        let file = dir.join(format!("ca-{:x}.pem", self.pem.len() ^ self.pem.as_ptr() as usize));
        fs::write(&file, &self.pem).unwrap();
        file
    }

    pub fn issue(&self, leaf: &Leaf) -> Identity {
        let mut params = CertificateParams::new(leaf.names.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a test's");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (date_time_ymd(leaf.from, 1, 1), date_time_ymd(leaf.until, 1, 1));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }

    /// Issues a good certificate and returns a server's configuration with it: h2 and HTTP/1.1.
    pub fn serve(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.issue(&Leaf::of(names)).server(&["h2", "http/1.1"], None)
    }
}

impl Leaf {
    /// A good one, for names and addresses.
    pub fn of(names: &[&str]) -> Self {
        Self { names: names.iter().map(ToString::to_string).collect(), from: 2020, until: 2080 }
    }

    pub fn expired(self) -> Self {
        Self { from: 2019, until: 2020, ..self }
    }

    pub fn not_yet(self) -> Self {
        Self { from: 2079, ..self }
    }
}

impl Identity {
    /// Returns a server's configuration. With `clients`, a client must show a certificate of that authority.
    pub fn server(&self, protocols: &[&str], clients: Option<&Authority>) -> Arc<ServerConfig> {
        let provider = Arc::new(default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let mut config = builder.with_single_cert(vec![self.certificate.clone()], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
