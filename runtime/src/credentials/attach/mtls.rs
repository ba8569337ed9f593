//! A client certificate.

use std::sync::Arc;

use async_trait::async_trait;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2_11::{Digest, Sha256};

use super::{Attach, Attached, ClientIdentity, Sets, Signing, hmac::hex, made::Made};
use crate::credentials::{
    secret::Secret,
    source::{Read, Unreadable},
};

/// Certificates in a chain.
const CHAIN_MAX: usize = 10;

/// Shows a certificate when it connects.
pub struct Client {
    certificates: Arc<dyn Read>,
    key: Arc<dyn Read>,
    made: Made<Attached>,
}

impl Client {
    /// Returns the client with its PEM texts. Each may hold more than what is looked for: so both can be the same.
    pub fn new(certificates: Arc<dyn Read>, key: Arc<dyn Read>) -> Self {
        Self { certificates, key, made: Made::default() }
    }
}

#[async_trait]
impl Attach for Client {
    fn sets(&self) -> Sets {
        Sets::default()
    }

    async fn attach(&self, _to: &Signing<'_>) -> Result<(Attached, u64), Unreadable> {
        let (certificates, key) = (self.certificates.read().await?, self.key.read().await?);
        self.made.of(&[&certificates, &key], || {
            let identity = Some(Arc::new(identity(&certificates, &key)?));
            // The key is never sent: there is nothing to scrub.
            Ok(Attached { identity, ..Attached::default() })
        })
    }

    fn forget(&self) -> bool {
        self.certificates.forget() | self.key.forget() | self.made.forget()
    }
}

/// The errors of the parser are not shown: they may quote the key.
fn identity(certificates: &Secret, key: &Secret) -> Result<ClientIdentity, Unreadable> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates.expose()).take(CHAIN_MAX + 1).collect();
    let chain = chain.map_err(|_| Unreadable("its certificates are not valid PEM".into()))?;
    if chain.is_empty() || chain.len() > CHAIN_MAX {
        return Err(Unreadable(format!("it has {} certificates, and must have 1 to {CHAIN_MAX}", chain.len())));
    }
    let key = PrivateKeyDer::from_pem_slice(key.expose())
        .map_err(|_| Unreadable("its key is not a PEM private key without a password".into()))?;
    let mut digest = Sha256::new();
    for certificate in &chain {
        digest.update(Sha256::digest(certificate));
    }
    Ok(ClientIdentity { id: hex(&digest.finalize()), chain, key })
}
