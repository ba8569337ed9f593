//! Requests over HTTP: what an operator gives, a tenant and an agent take of it, and a guest does with it.

mod bounds;
mod budgets;
mod changes;
mod clients;
mod credentials;
mod crowd;
mod effects;
mod labels;
mod narrowing;
mod policies;
mod streams;

use palisade_proto::v1;
use serde_json::{Value, json};

use crate::harness::{Daemon, upstream::Upstream, write_policies};

/// Everybody may send everything.
const ALL: &str = "@id(\"send\") permit (principal, action == Palisade::Action::\"SendRequest\", resource);\n";

/// The manifest's part that takes the rule `api` as it is.
const API: &str = "[[egress]]\nrule = \"api\"\n";

/// A daemon with the rule `api`, which has `rule` at its end, and an agent that takes it.
async fn api(rule: &str) -> (Daemon, Upstream) {
    governed(ALL, rule, "").await
}

/// The same with these policies, and more configuration.
async fn governed(policies: &str, rule: &str, config: &str) -> (Daemon, Upstream) {
    let upstream = upstream().await;
    let config = format!("{}{config}", self::rule("api", &upstream, rule));
    let daemon = Daemon::governed(policies, &config).await;
    daemon.agent(API).await.unwrap();
    (daemon, upstream)
}

async fn upstream() -> Upstream {
    Upstream::plain(([127, 0, 0, 1], 0).into()).await
}

/// Returns the rule of this name for an upstream without TLS, with this at its end.
fn rule(name: &str, upstream: &Upstream, more: &str) -> String {
    let (ip, port) = (upstream.address.ip(), upstream.address.port());
    let to = format!("scheme = \"http\"\nhost = \"{ip}\"\nport = {port}\ncidrs = [\"{ip}/32\"]");
    format!("[[egress]]\nname = \"{name}\"\n{to}\n{more}\n")
}

/// An act that gets `path`.
fn get(upstream: &Upstream, path: &str) -> Value {
    with(upstream, path, json!({}))
}

/// An act that posts a body of nothing but a word.
fn post(upstream: &Upstream, path: &str) -> Value {
    with(upstream, path, json!({ "method": "POST", "body": ["word"] }))
}

/// An act that sends a request with these members.
fn with(upstream: &Upstream, path: &str, more: Value) -> Value {
    json!({ "http": asked(upstream, path, more) })
}

/// The request of such an act.
fn asked(upstream: &Upstream, path: &str, more: Value) -> Value {
    let mut asked = json!({ "scheme": "http", "authority": upstream.address.to_string(), "path": path });
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked
}

/// Returns what a request's outcome says, which must be one that was answered.
fn answered(outcome: &str) -> Value {
    let said = outcome.strip_prefix("ok: ").unwrap_or_else(|| panic!("no answer: {outcome}"));
    serde_json::from_str(said).unwrap()
}

/// Returns the code of the refusal or the failure that an outcome tells of.
fn code(outcome: &str) -> String {
    let said = outcome.strip_prefix("error: ").unwrap_or_else(|| panic!("no error: {outcome}"));
    let said: Value = serde_json::from_str(said).unwrap();
    said["why"]["code"].as_str().unwrap_or_else(|| panic!("no reason: {said}")).to_owned()
}

/// Returns a step of a job.
fn of_job(job: &str, request: v1::RunStepRequest) -> v1::RunStepRequest {
    v1::RunStepRequest { job: job.into(), ..request }
}

/// Makes the agent do `acts` in a job.
async fn ask_in(daemon: &Daemon, job: &str, acts: Value) -> Vec<String> {
    daemon.run(of_job(job, crate::harness::asked(acts))).await.unwrap().outcomes()
}

/// Puts other policies in force.
async fn reload(daemon: &Daemon, policies: &str) {
    write_policies(daemon.dir.path(), policies);
    daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
}

/// Puts another `egress.toml` of the tenant in force.
async fn reload_egress(daemon: &Daemon, text: &str) {
    std::fs::write(daemon.dir.path().join("policies/egress.toml"), text).unwrap();
    daemon.policies().reload_policies(v1::ReloadPoliciesRequest {}).await.unwrap();
}
