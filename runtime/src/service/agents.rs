//! `Agents`: components, each with all that it may reach.

use palisade_proto::v1::{self, agents_server::Agents};
use tonic::{Request, Response, Status};

use super::{
    components::page_size,
    status,
    tools::{exactly, skip},
};
use crate::{
    lifecycle::Lifecycle,
    manifest::{self, Difference},
    step::Digest,
    store,
};

/// Serves `palisade.v1.Agents`.
pub struct Service(pub Lifecycle);

#[tonic::async_trait]
impl Agents for Service {
    async fn register_agent(
        &self,
        request: Request<v1::RegisterAgentRequest>,
    ) -> Result<Response<v1::RegisterAgentResponse>, Status> {
        let v1::RegisterAgentRequest { manifest, allow_wider, validate_only } = request.into_inner();
        let registered = self.0.register_agent(manifest, allow_wider, validate_only).await;
        let (agent, found) = registered.map_err(status::register)?;
        let difference = Some(difference(found));
        Ok(Response::new(v1::RegisterAgentResponse { agent: Some(agent_message(&agent)), difference }))
    }

    async fn get_agent(&self, request: Request<v1::GetAgentRequest>) -> Result<Response<v1::Agent>, Status> {
        let agent = self.0.find_agent(&request.into_inner().name).map_err(status::version)?;
        Ok(Response::new(agent_message(&agent)))
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let v1::ListAgentsRequest { page_size: asked, page_token } = request.into_inner();
        let (count, skip) = (page_size(asked)?, skip(&page_token)?);
        let (found, more) = self.0.agents().list(skip, count);
        let next_page_token = if more { (skip + found.len()).to_string() } else { String::new() };
        let agents = found.iter().map(|agent| agent_message(agent)).collect();
        Ok(Response::new(v1::ListAgentsResponse { agents, next_page_token }))
    }

    async fn diff_agents(
        &self,
        request: Request<v1::DiffAgentsRequest>,
    ) -> Result<Response<v1::DiffAgentsResponse>, Status> {
        let v1::DiffAgentsRequest { from, to } = request.into_inner();
        let find = |reference: &str| {
            let (name, version) = exactly(reference, "agents/")?;
            self.0.agents().find(name, Some(version)).map_err(status::version)
        };
        let found = manifest::difference(&find(&from)?.reach, &find(&to)?.reach);
        Ok(Response::new(v1::DiffAgentsResponse { difference: Some(difference(found)) }))
    }

    async fn set_agent_disabled(
        &self,
        request: Request<v1::SetAgentDisabledRequest>,
    ) -> Result<Response<v1::Agent>, Status> {
        let v1::SetAgentDisabledRequest { name: reference, disabled } = request.into_inner();
        let (name, version) = exactly(&reference, "agents/")?;
        let agent = self.0.set_agent_disabled(name, version, disabled).await.map_err(status::register)?;
        Ok(Response::new(agent_message(&agent)))
    }
}

fn difference(found: Difference) -> v1::ReachDifference {
    v1::ReachDifference { added: found.added, removed: found.removed }
}

fn agent_message(agent: &store::Agent) -> v1::Agent {
    v1::Agent {
        name: format!("agents/{}", agent.reference()),
        component: format!("components/{}", agent.component),
        owner: agent.manifest.owner.clone(),
        description: agent.manifest.description.clone(),
        labels: agent.manifest.labels.iter().map(ToString::to_string).collect(),
        manifest: agent.text.clone(),
        manifest_digest: Digest::of(agent.text.as_bytes()).to_string(),
        reach: agent.reach.clone(),
        disabled: agent.disabled,
        create_time: Some(agent.create_time.into()),
    }
}
