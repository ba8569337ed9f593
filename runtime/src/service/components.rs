//! `Components`: push, look, list, delete.

use palisade_proto::v1::{self, components_server::Components, push_component_request::Message};
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status, Streaming};

use super::{convert, status, upload};
use crate::{
    host,
    lifecycle::{Lifecycle, PushError},
    step::{Digest, Name},
    store,
};

/// Serves `palisade.v1.Components`.
pub struct Service(pub Lifecycle);

#[tonic::async_trait]
impl Components for Service {
    async fn push_component(
        &self,
        request: Request<Streaming<v1::PushComponentRequest>>,
    ) -> Result<Response<v1::Component>, Status> {
        let mut messages = request.into_inner();
        let header = upload::header(upload::next(&mut messages).await?.and_then(|m| match m.message {
            Some(Message::Header(header)) => Some(header),
            _ => None,
        }))?;
        let (digest, alias) = checked(&header)?;
        let mut push = self.0.push().map_err(status::storage)?;
        while let Some(message) = upload::next(&mut messages).await? {
            let chunk = upload::chunk(match message.message {
                Some(Message::Chunk(chunk)) => Some(chunk),
                _ => None,
            })?;
            let written = spawn_blocking(move || push.write(&chunk).map(|()| push)).await;
            push = written.map_err(PushError::from).flatten().map_err(status::push)?;
        }
        let component = push.finish(digest, alias).await.map_err(status::push)?;
        Ok(Response::new(self.component(&component)))
    }

    async fn get_component(
        &self,
        request: Request<v1::GetComponentRequest>,
    ) -> Result<Response<v1::Component>, Status> {
        let component = self.0.components().find(&request.into_inner().name).map_err(status::component)?;
        Ok(Response::new(self.component(&component)))
    }

    async fn list_components(
        &self,
        request: Request<v1::ListComponentsRequest>,
    ) -> Result<Response<v1::ListComponentsResponse>, Status> {
        let request = request.into_inner();
        let count = page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse::<Digest>().map_err(|_| bad_page_token())?),
        };
        let found = self.0.components().list(after, count);
        let next_page_token = match found.last() {
            Some(last) if found.len() == count => last.digest.to_string(),
            _ => String::new(),
        };
        let components = found.iter().map(|component| self.component(component)).collect();
        Ok(Response::new(v1::ListComponentsResponse { components, next_page_token }))
    }

    async fn inspect_component(
        &self,
        request: Request<v1::InspectComponentRequest>,
    ) -> Result<Response<v1::ComponentInspection>, Status> {
        let component = self.0.components().find(&request.into_inner().name).map_err(status::component)?;
        let mut powers: Vec<_> = component.imports.iter().filter_map(|import| host::power_of(import)).collect();
        powers.sort_by_key(|power| power.word);
        powers.dedup_by_key(|power| power.word);
        let reach = powers.iter().map(|power| v1::Reach { power: power.word.into(), description: power.reach.into() });
        Ok(Response::new(v1::ComponentInspection {
            component: Some(self.component(&component)),
            imports: component.imports.clone(),
            exports: component.exports.clone(),
            reach: reach.collect(),
            adapted: component.adapted,
        }))
    }

    async fn delete_component(&self, request: Request<v1::DeleteComponentRequest>) -> Result<Response<()>, Status> {
        let component = self.0.components().find(&request.into_inner().name).map_err(status::component)?;
        let lifecycle = self.0.clone();
        let removed = spawn_blocking(move || lifecycle.components().remove(component.digest)).await;
        removed.map_err(std::io::Error::from).flatten().map_err(status::storage)?;
        Ok(Response::new(()))
    }
}

impl Service {
    fn component(&self, component: &store::Component) -> v1::Component {
        v1::Component {
            name: format!("components/{}", component.digest),
            digest: component.digest.to_string(),
            aliases: self.0.components().aliases(component.digest),
            kind: convert::kind(component.kind).into(),
            size_bytes: convert::int(component.size_bytes),
            create_time: Some(component.create_time.into()),
        }
    }
}

fn checked(header: &v1::PushHeader) -> Result<(Option<Digest>, Option<Name>), Status> {
    let digest =
        match header.digest.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|e: crate::step::BadDigest| {
                status::bad_field("FIELD_INVALID", "header.digest", e.to_string())
            })?),
        };
    let alias = match header.alias.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|e: crate::step::BadName| status::bad_field("FIELD_INVALID", "header.alias", e.to_string()))?,
        ),
    };
    Ok((digest, alias))
}

/// Returns how many entries a page has: 100 unless the caller says, and never more than 1,000.
pub fn page_size(asked: i32) -> Result<usize, Status> {
    match asked {
        0 => Ok(100),
        1.. => Ok(asked.min(1000) as usize),
        _ => Err(status::bad_field(
            "FIELD_INVALID",
            "page_size",
            format!("`page_size` is {asked}: it must not be negative"),
        )),
    }
}

pub fn bad_page_token() -> Status {
    status::bad_field("FIELD_INVALID", "page_token", "`page_token` is not one that this method returned")
}
