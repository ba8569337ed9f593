//! A daemon with policies, a tool and an agent that may use it.

use std::fs;

use palisade_proto::v1::{
    self, Effect, agents_client::AgentsClient, policies_client::PoliciesClient, tools_client::ToolsClient,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Server, guest, load};

const MANIFEST: &str = r#"
name = "bench"
version = "1"
component = "probe"
owner = "benches"
powers = ["filesystem", "tools", "memory", "http"]
[[tool]]
name = "bench.echo"
[[memory]]
space = "notes"
writable = true
"#;

const RUN: &str = r#"
@id("run") permit (principal, action == Palisade::Action::"RunStep", resource);
"#;

/// What the agent may do. It names the tool, so that has to be there first.
const POWERS: &str = r#"
@id("own-queue")
permit (principal == Palisade::Agent::"bench", action == Palisade::Action::"tool:bench.echo", resource)
when { context.arguments has queue && context.arguments.queue == "billing" };
@id("notes")
permit (principal == Palisade::Agent::"bench", action in Palisade::Action::"UseMemory",
    resource == Palisade::Space::"notes");
"#;

/// Starts a daemon in `dir` whose `journal.acknowledge` is this, and writes the note that [`get`] finds.
pub async fn start(dir: &TempDir, acknowledge: &str) -> anyhow::Result<Server> {
    let (config, policies) = (dir.path().join("palisade.toml"), dir.path().join("policies"));
    fs::write(&config, format!("[journal]\nacknowledge = \"{acknowledge}\"\n"))?;
    fs::create_dir(&policies)?;
    fs::write(policies.join("bench.cedar"), RUN)?;
    let daemon = Server::serve(dir, |serve| serve.arg("--config").arg(config).arg("--policies").arg(&policies))?;
    load::push(&daemon.address, &guest("probe"), "probe").await?;
    load::push(&daemon.address, &guest("probe_tool"), "echo").await?;
    let channel = load::connect(&daemon.address).await?;
    let tool = v1::RegisterToolRequest {
        name: "bench.echo".into(),
        version: "1".into(),
        component: "echo".into(),
        effect: Effect::Read.into(),
        labels: Vec::new(),
    };
    ToolsClient::new(channel.clone()).register_tool(tool).await?;
    fs::write(policies.join("bench.cedar"), format!("{RUN}{POWERS}"))?;
    PoliciesClient::new(channel.clone()).reload_policies(v1::ReloadPoliciesRequest {}).await?;
    let agent = v1::RegisterAgentRequest { manifest: MANIFEST.into(), ..Default::default() };
    AgentsClient::new(channel.clone()).register_agent(agent).await?;
    load::run(v1::steps_client::StepsClient::new(channel), request(&json!([put()]))).await?;
    Ok(daemon)
}

/// Returns a request that makes the agent do `acts` of the probe.
pub fn request(acts: &Value) -> v1::RunStepRequest {
    let input = json!({ "acts": acts }).to_string().into_bytes();
    v1::RunStepRequest { agent: "bench".into(), input, ..Default::default() }
}

/// Gets the note.
pub fn get() -> Value {
    json!({ "memory-get": { "space": "notes", "key": "ticket" } })
}

/// Puts the note.
pub fn put() -> Value {
    json!({ "memory-put": { "space": "notes", "key": "ticket", "value": "a short note" } })
}

/// Calls the tool, which says its arguments and no more.
pub fn call() -> Value {
    json!({ "call-tool": { "name": "bench.echo", "arguments": { "queue": "billing", "number": 7 } } })
}
