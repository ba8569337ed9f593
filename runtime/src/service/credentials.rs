//! `Credentials`: what requests can carry, by name and never by value.

use palisade_proto::v1::{self, credentials_server::Credentials};
use tonic::{Request, Response, Status};

use super::{components::page_size, convert, status, tools::skip};
use crate::{credentials, lifecycle::Lifecycle};

/// Serves `palisade.v1.Credentials`.
pub struct Service(pub Lifecycle);

#[tonic::async_trait]
impl Credentials for Service {
    async fn list_credentials(
        &self,
        request: Request<v1::ListCredentialsRequest>,
    ) -> Result<Response<v1::ListCredentialsResponse>, Status> {
        let v1::ListCredentialsRequest { page_size: asked, page_token } = request.into_inner();
        let (count, skip) = (page_size(asked)?, skip(&page_token)?);
        let mut rest = self.0.credentials().list().into_iter().skip(skip);
        let credentials: Vec<_> = rest.by_ref().take(count).map(|status| self.message(status)).collect();
        let next_page_token = match rest.next() {
            Some(_) => (skip + credentials.len()).to_string(),
            None => String::new(),
        };
        Ok(Response::new(v1::ListCredentialsResponse { credentials, next_page_token }))
    }

    async fn get_credential(
        &self,
        request: Request<v1::GetCredentialRequest>,
    ) -> Result<Response<v1::Credential>, Status> {
        let found = self.0.credential(named(&request.into_inner().name)).map_err(status::credential)?;
        Ok(Response::new(self.message(found)))
    }

    async fn revoke_credential(
        &self,
        request: Request<v1::RevokeCredentialRequest>,
    ) -> Result<Response<v1::Credential>, Status> {
        self.set_revoked(&request.into_inner().name, true).await
    }

    async fn restore_credential(
        &self,
        request: Request<v1::RestoreCredentialRequest>,
    ) -> Result<Response<v1::Credential>, Status> {
        self.set_revoked(&request.into_inner().name, false).await
    }
}

impl Service {
    async fn set_revoked(&self, name: &str, revoked: bool) -> Result<Response<v1::Credential>, Status> {
        let changed = self.0.set_credential_revoked(named(name), revoked).await.map_err(status::credential)?;
        Ok(Response::new(self.message(changed)))
    }

    fn message(&self, status: credentials::Status) -> v1::Credential {
        let credentials::Status { name, kind, source, labels, revoked, version, attached, failure } = status;
        let listing = self.0.config().egress.iter().filter(|rule| rule.credentials.contains(&name));
        v1::Credential {
            rules: listing.map(|rule| rule.name.to_string()).collect(),
            name: format!("credentials/{name}"),
            r#type: kind.into(),
            source,
            labels: labels.iter().map(ToString::to_string).collect(),
            revoked,
            version: convert::int(version),
            last_attach_time: attached.map(Into::into),
            failure: failure.unwrap_or_default(),
        }
    }
}

fn named(reference: &str) -> &str {
    reference.strip_prefix("credentials/").unwrap_or(reference)
}
