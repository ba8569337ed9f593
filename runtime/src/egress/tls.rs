//! TLS towards upstreams: whom we trust, and the certificate that we show.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    error::{Code, SendError, StartError},
    host::Host,
};

/// A client certificate, with which a credential proves itself. It has no `Debug`: the key must not be printed.
pub struct Identity {
    /// Changes with the certificate: a connection that was made with one is not used with another.
    pub id: String,
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// What every TLS connection has in common.
pub struct Tls {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    anonymous: Arc<ClientConfig>,
}

impl Tls {
    /// Trusts the system's certificate authorities (those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, if they are set) and
    /// those in `ca_files` (PEM). Reads files.
    pub fn new(ca_files: &[PathBuf]) -> Result<Self, StartError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "a certificate authority of the system cannot be read");
        }
        roots.add_parsable_certificates(system.certs);
        for path in ca_files {
            add(&mut roots, path).map_err(|reason| StartError::CaFile { path: path.clone(), reason })?;
        }
        if roots.is_empty() {
            tracing::warn!("no certificate authority is trusted: every https request will fail; see `ca_files`");
        }
        let (provider, roots) = (Arc::new(ring::default_provider()), Arc::new(roots));
        let anonymous = Arc::new(config(&provider, &roots, None)?);
        Ok(Self { provider, roots, anonymous })
    }

    /// Makes `tcp` a TLS connection to `host`, which must prove its name (or address). Offers HTTP/2 and HTTP/1.1.
    pub async fn connect(
        &self,
        tcp: TcpStream,
        host: &Host,
        identity: Option<&Identity>,
    ) -> Result<TlsStream<TcpStream>, SendError> {
        let failed = |error: &dyn std::error::Error| {
            SendError::new(Code::TlsFailed, format!("no TLS connection to `{host}`: {error}"))
        };
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| failed(&error))?,
            // An address is never sent as the server's name; the certificate must be for the address.
            Host::V4(v4) => ServerName::from(std::net::IpAddr::from(*v4)),
            Host::V6(v6) => ServerName::from(std::net::IpAddr::from(*v6)),
        };
        let config = match identity {
            None => self.anonymous.clone(),
            Some(_) => Arc::new(config(&self.provider, &self.roots, identity).map_err(|error| failed(&error))?),
        };
        TlsConnector::from(config).connect(name, tcp).await.map_err(|error| failed(&error))
    }
}

fn add(roots: &mut RootCertStore, path: &PathBuf) -> Result<(), String> {
    let mut count = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        count += 1;
    }
    if count == 0 { Err(String::from("there is no certificate in it")) } else { Ok(()) }
}

fn config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    identity: Option<&Identity>,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots.clone());
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?,
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A session that is resumed does not show its certificate again, and would link one tenant's connections to
    // another's: every connection is a full handshake.
    config.resumption = Resumption::disabled();
    Ok(config)
}
