//! What tests ask of steps, and what came of them.

use palisade_proto::v1::{self, step_result::Outcome};
use serde_json::{Value, json};

/// A step that ended.
pub struct Ran {
    pub accepted: v1::StepAccepted,
    pub events: Vec<v1::StepEvent>,
    pub result: v1::StepResult,
}

impl Ran {
    pub fn outcome(&self) -> Outcome {
        self.result.outcome()
    }

    pub fn failure(&self) -> &v1::StepFailure {
        self.result.failure.as_ref().expect("the step failed")
    }

    pub fn usage(&self) -> &v1::StepUsage {
        self.result.usage.as_ref().unwrap()
    }

    /// Returns what the probe says of each of its acts.
    pub fn outcomes(&self) -> Vec<String> {
        assert_eq!(self.outcome(), Outcome::Succeeded, "{:?}", self.result);
        let output: Value = serde_json::from_slice(&self.result.output).unwrap();
        output["outcomes"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    }

    /// Returns standard output, or standard error.
    pub fn output(&self, stream: v1::output_chunk::Stream) -> String {
        let chunks = self.events.iter().filter_map(|event| match &event.kind {
            Some(v1::step_event::Kind::Output(chunk)) if chunk.stream() == stream => Some(chunk.data.to_vec()),
            _ => None,
        });
        String::from_utf8(chunks.flatten().collect()).unwrap()
    }
}

/// Returns a request that makes the probe do `acts`.
pub fn probe(acts: Value) -> v1::RunStepRequest {
    let input = serde_json::to_vec(&json!({ "acts": acts })).unwrap();
    v1::RunStepRequest { component: "probe".into(), input, ..Default::default() }
}

/// Returns a request for a tenant.
pub fn for_tenant<T>(tenant: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("palisade-tenant", tenant.parse().unwrap());
    request
}

/// Returns a request that makes the agent `tester` do `acts`.
pub fn asked(acts: Value) -> v1::RunStepRequest {
    v1::RunStepRequest { component: String::new(), agent: "tester".into(), ..probe(acts) }
}

/// Returns the manifest of the agent `tester`, with this at its end.
pub fn tester(version: &str, manifest: &str) -> String {
    let powers = "powers = [\"filesystem\", \"tools\", \"memory\", \"http\"]";
    format!(
        "name = \"tester\"\nversion = \"{version}\"\ncomponent = \"probe\"\nowner = \"tests\"\n{powers}\n{manifest}"
    )
}

/// Returns the same request with a workspace.
pub fn within(workspace: &str, mut request: v1::RunStepRequest) -> v1::RunStepRequest {
    request.workspace = format!("workspaces/{workspace}");
    request
}

pub fn limited(mut request: v1::RunStepRequest, limits: v1::StepLimits) -> v1::RunStepRequest {
    request.limits = Some(limits);
    request
}

pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}
