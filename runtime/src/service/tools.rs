//! `Tools`: what agents can be given to call.

use palisade_proto::v1::{self, tools_server::Tools};
use tonic::{Request, Response, Status};

use super::{
    callers,
    components::{bad_page_token, page_size},
    convert, status,
};
use crate::{
    lifecycle::{Lifecycle, NewTool},
    step::{BadName, Effect, Name},
    store,
};

/// Labels of one tool.
const LABELS_MAX: usize = 16;

/// Serves `palisade.v1.Tools`.
pub struct Service(pub Lifecycle);

#[tonic::async_trait]
impl Tools for Service {
    async fn register_tool(&self, request: Request<v1::RegisterToolRequest>) -> Result<Response<v1::Tool>, Status> {
        let caller = callers::name(&request);
        let new = new_tool(request.into_inner(), caller)?;
        let tool = self.0.register_tool(new).await.map_err(status::register)?;
        Ok(Response::new(tool_message(&tool)))
    }

    async fn get_tool(&self, request: Request<v1::GetToolRequest>) -> Result<Response<v1::Tool>, Status> {
        let reference = request.into_inner().name;
        let (name, version) = named(&reference, "tools/");
        let tool = self.0.tools().find(name, version).map_err(status::version)?;
        Ok(Response::new(tool_message(&tool)))
    }

    async fn list_tools(
        &self,
        request: Request<v1::ListToolsRequest>,
    ) -> Result<Response<v1::ListToolsResponse>, Status> {
        let v1::ListToolsRequest { page_size: asked, page_token } = request.into_inner();
        let (count, skip) = (page_size(asked)?, skip(&page_token)?);
        let (found, more) = self.0.tools().list(skip, count);
        let next_page_token = if more { (skip + found.len()).to_string() } else { String::new() };
        let tools = found.iter().map(|tool| tool_message(tool)).collect();
        Ok(Response::new(v1::ListToolsResponse { tools, next_page_token }))
    }

    async fn set_tool_disabled(
        &self,
        request: Request<v1::SetToolDisabledRequest>,
    ) -> Result<Response<v1::Tool>, Status> {
        let v1::SetToolDisabledRequest { name: reference, disabled } = request.into_inner();
        let (name, version) = exactly(&reference, "tools/")?;
        let tool = self.0.set_tool_disabled(name, version, disabled).await.map_err(status::register)?;
        Ok(Response::new(tool_message(&tool)))
    }
}

fn tool_message(tool: &store::Tool) -> v1::Tool {
    v1::Tool {
        name: format!("tools/{}", tool.reference()),
        component: format!("components/{}", tool.component),
        description: tool.description.clone(),
        input_schema: tool.input_schema.clone(),
        output_schema: tool.output_schema.clone().unwrap_or_default(),
        effect: convert::effect(tool.effect).into(),
        labels: tool.labels.iter().map(ToString::to_string).collect(),
        disabled: tool.disabled,
        create_time: Some(tool.create_time.into()),
    }
}

fn new_tool(request: v1::RegisterToolRequest, caller: String) -> Result<NewTool, Status> {
    let bad = |field: &str, problem: &str| status::bad_field("FIELD_INVALID", field, format!("`{field}`: {problem}"));
    let effect = match request.effect() {
        v1::Effect::Unspecified => return Err(bad("effect", "say what the tool does to the world outside")),
        v1::Effect::Read => Effect::Read,
        v1::Effect::Append => Effect::Append,
        v1::Effect::Mutate => Effect::Mutate,
        v1::Effect::Destroy => Effect::Destroy,
        v1::Effect::ExternalSend => Effect::ExternalSend,
    };
    if request.labels.len() > LABELS_MAX {
        return Err(bad("labels", &format!("at most {LABELS_MAX} are allowed")));
    }
    let labels: Result<Vec<Name>, BadName> = request.labels.iter().map(|label| label.parse()).collect();
    Ok(NewTool {
        name: request.name.parse().map_err(|e: BadName| bad("name", &e.to_string()))?,
        version: request.version.parse().map_err(|e: BadName| bad("version", &e.to_string()))?,
        component: request.component,
        effect,
        labels: labels.map_err(|e| bad("labels", &e.to_string()))?,
        caller,
    })
}

/// Returns the name and the version of `[<kind>/]<name>[@<version>]`.
pub fn named<'a>(reference: &'a str, kind: &str) -> (&'a str, Option<&'a str>) {
    let reference = reference.strip_prefix(kind).unwrap_or(reference);
    reference.split_once('@').map_or((reference, None), |(name, version)| (name, Some(version)))
}

/// As [`named`], for where a version must be named.
pub fn exactly<'a>(reference: &'a str, kind: &str) -> Result<(&'a str, &'a str), Status> {
    match named(reference, kind) {
        (name, Some(version)) => Ok((name, version)),
        _ => Err(status::bad_field("FIELD_INVALID", "name", format!("`name`: use `{kind}<name>@<version>`"))),
    }
}

/// Returns how many entries earlier pages had.
pub fn skip(page_token: &str) -> Result<usize, Status> {
    match page_token {
        "" => Ok(0),
        token => token.parse().map_err(|_| bad_page_token()),
    }
}
