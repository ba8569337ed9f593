//! `Policies`: what is in force, what would be, and why something was decided.

use palisade_proto::v1::{self, policies_server::Policies};
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};

use super::{convert, status};
use crate::{
    config::Mode,
    lifecycle::Lifecycle,
    policy::{Explanation, PolicyEffect, PolicySet, Source, cases},
};

/// Serves `palisade.v1.Policies`.
pub struct Service(pub Lifecycle);

#[tonic::async_trait]
impl Policies for Service {
    async fn get_policies(&self, _: Request<v1::GetPoliciesRequest>) -> Result<Response<v1::PolicySet>, Status> {
        Ok(Response::new(self.in_force(&self.0.policies())))
    }

    async fn check_policies(
        &self,
        request: Request<v1::CheckPoliciesRequest>,
    ) -> Result<Response<v1::PolicySet>, Status> {
        let set = self.0.check_policies(sources(request.into_inner().files)).await.map_err(status::policies)?;
        Ok(Response::new(self.policy_set(&set)))
    }

    async fn test_policies(
        &self,
        request: Request<v1::TestPoliciesRequest>,
    ) -> Result<Response<v1::TestPoliciesResponse>, Status> {
        let v1::TestPoliciesRequest { files, cases } = request.into_inner();
        let set = match files.is_empty() {
            true => self.0.policies(),
            false => self.0.check_policies(sources(files)).await.map_err(status::policies)?.into(),
        };
        let tools = self.0.tool_facts();
        let ran = spawn_blocking(move || cases::run(&set, &tools, &cases)).await;
        let ran = ran.map_err(|e| status::internal(&e.to_string()))?;
        let results = ran.map_err(|e| status::bad_field("CASES_INVALID", "cases", e.to_string()))?;
        let results = results.into_iter().map(|result| v1::CaseResult {
            name: result.name,
            passed: result.passed,
            allowed: result.decision.allowed,
            policies: result.decision.policies,
            explanation: result.explanation.as_ref().map(explained).unwrap_or_default(),
        });
        Ok(Response::new(v1::TestPoliciesResponse { results: results.collect() }))
    }

    async fn reload_policies(&self, _: Request<v1::ReloadPoliciesRequest>) -> Result<Response<v1::PolicySet>, Status> {
        let set = self.0.reload_policies().await.map_err(status::policies)?;
        Ok(Response::new(self.in_force(&set)))
    }

    async fn explain_decision(
        &self,
        request: Request<v1::ExplainDecisionRequest>,
    ) -> Result<Response<v1::Explanation>, Status> {
        let explained = self.0.explain(&request.into_inner().decision).await.map_err(status::explain)?;
        Ok(Response::new(v1::Explanation {
            decision: explained.decision,
            sequence: convert::int(explained.sequence),
            verdict: explained.verdict,
            question: explained.question,
            policies: explained.policies,
            revision: explained.revision,
            code: explained.code,
            message: explained.message,
            rule: explained.rule,
            missing: explained.missing,
            alternative: explained.alternative,
            addition: explained.addition,
        }))
    }
}

impl Service {
    fn in_force(&self, set: &PolicySet) -> v1::PolicySet {
        v1::PolicySet { refused: self.0.policies_refused().unwrap_or_default(), ..self.policy_set(set) }
    }

    fn policy_set(&self, set: &PolicySet) -> v1::PolicySet {
        let mode = match self.0.config().policy.mode {
            Mode::Enforce => v1::policy_set::Mode::Enforce,
            Mode::Observe => v1::policy_set::Mode::Observe,
        };
        let policies = set.policies().iter().map(|policy| v1::Policy {
            id: policy.id.clone(),
            file: policy.file.clone(),
            effect: match policy.effect {
                PolicyEffect::Permit => "permit".into(),
                PolicyEffect::Forbid => "forbid".into(),
            },
            description: policy.description.clone(),
            text: policy.text.clone(),
        });
        v1::PolicySet {
            revision: set.revision().into(),
            mode: mode.into(),
            policies: policies.collect(),
            warnings: set.warnings().to_vec(),
            schema: set.schema_text().into(),
            refused: String::new(),
        }
    }
}

fn explained(explanation: &Explanation) -> String {
    let rule = explanation.rule.as_deref().unwrap_or("no policy");
    let missing = explanation.missing.join("; ");
    format!("{} ({rule}): {missing}\n{}", explanation.code.as_str(), explanation.addition)
}

fn sources(files: Vec<v1::PolicyFile>) -> Vec<Source> {
    files.into_iter().map(|file| Source { file: file.name, text: file.text }).collect()
}
