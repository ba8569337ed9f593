//! What a caller asks for, and whether it can be asked.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    execution::unix_ms,
    grant::Narrowing,
    step::{Accepted, RunError},
};
use crate::{
    config::{AskedBudget, AskedLimits},
    journal::Payload,
    manifest::Manifest,
    step::{BadName, FIXED, Kind as ComponentKind, Mount, Name, Origin, StepLimits, StepSpec, Task},
    store::{Component, random_seed},
    telemetry::Context,
};

/// What a caller asks for.
#[derive(Debug, Default)]
pub struct StepRequest {
    /// Who asks: `unix:<uid>` or `loopback`.
    pub caller: String,
    /// The tenant for which it asks; empty if it calls for one only.
    pub tenant: String,
    /// The caller's trace.
    pub context: Context,
    pub component: String,
    pub agent: String,
    pub job: String,
    pub input: Vec<u8>,
    pub content_type: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub workspace: String,
    pub mounts: Vec<MountUse>,
    pub limits: AskedLimits,
    pub budget: AskedBudget,
    pub narrow: Option<Narrowing>,
    /// 32 bytes; drawn if there are none.
    pub seed: Option<Vec<u8>>,
    /// Milliseconds since 1970; now if there are none.
    pub start_ms: Option<u64>,
}

/// A mount that a caller asks for.
#[derive(Debug)]
pub struct MountUse {
    pub mount: String,
    pub path: String,
    pub read_only: bool,
}

/// Reads a name that may be left out.
pub fn optional_name(field: &'static str, text: &str) -> Result<Option<Name>, RunError> {
    if text.is_empty() {
        return Ok(None);
    }
    let name = text.parse().map_err(|e: BadName| RunError::Field { field, problem: e.to_string() })?;
    Ok(Some(name))
}

/// Returns what a step's random bytes and its clocks are made of: as asked, or drawn.
pub fn origin(request: &StepRequest) -> Result<Origin, RunError> {
    let field = |field, problem| Err(RunError::Field { field, problem });
    let seed = match &request.seed {
        None => random_seed(),
        Some(seed) => match <[u8; 32]>::try_from(seed.as_slice()) {
            Ok(seed) => seed,
            Err(_) => return field("seed", format!("has {} bytes: a seed has 32", seed.len())),
        },
    };
    let start_ms = request.start_ms.unwrap_or_else(unix_ms);
    if start_ms > Origin::START_MS_MAX {
        return field("start_time", "is after the year 9999".into());
    }
    Ok(Origin { seed, start_ms })
}

/// What a request leaves must be there.
pub fn check_narrowing(request: &StepRequest, manifest: Option<&Manifest>) -> Result<(), RunError> {
    let Some(narrow) = &request.narrow else { return Ok(()) };
    let has_tool = |name: &String| manifest.is_some_and(|m| m.tools.iter().any(|tool| tool.name.as_str() == name));
    let has_space = |name: &String| manifest.is_some_and(|m| m.spaces.iter().any(|s| s.space.as_str() == name));
    let has_rule = |name: &String| manifest.is_some_and(|m| m.egress.iter().any(|rule| rule.rule.as_str() == name));
    let missing = narrow.tools.iter().find(|name| !has_tool(name));
    let missing = missing.or_else(|| narrow.spaces.iter().find(|name| !has_space(name)));
    match missing.or_else(|| narrow.egress.iter().find(|name| !has_rule(name))) {
        Some(name) => Err(RunError::NotInManifest(name.chars().take(80).collect())),
        None => Ok(()),
    }
}

/// Checks everything that a request carries along.
pub fn check_sizes(request: &StepRequest, input_bytes: u64) -> Result<(), RunError> {
    let field = |field, problem| Err(RunError::Field { field, problem });
    if request.input.len() as u64 > input_bytes {
        return Err(RunError::InputTooLarge { bytes: request.input.len(), max: input_bytes });
    }
    if request.content_type.len() > 256 {
        return field("content_type", "has more than 256 bytes".into());
    }
    if request.args.len() as u64 > FIXED.args {
        return field("args", format!("has {} arguments; at most {} are allowed", request.args.len(), FIXED.args));
    }
    let args: usize = request.args.iter().map(String::len).sum();
    let env: usize = request.env.iter().map(|(key, value)| key.len() + value.len()).sum();
    if (args + env) as u64 > FIXED.args_bytes {
        return field(
            "args",
            format!("and `env` have {} bytes together; at most {} are allowed", args + env, FIXED.args_bytes),
        );
    }
    if request.env.iter().any(|(key, value)| key.is_empty() || key.contains(['=', '\0']) || value.contains('\0')) {
        return field("env", "has a name that is empty or holds `=`, or a text that holds a NUL".into());
    }
    if request.args.iter().any(|arg| arg.contains('\0')) {
        return field("args", "has a text that holds a NUL".into());
    }
    Ok(())
}

/// Returns what the caller gives the step, to be kept with its record.
pub fn given(request: &StepRequest) -> Vec<Payload> {
    let mut payloads = Vec::new();
    if !request.input.is_empty() {
        payloads.push(Payload { bytes: request.input.clone(), media_type: request.content_type.clone() });
    }
    if !request.args.is_empty() || !request.env.is_empty() {
        // Of the environment only the names: the values may be secrets.
        let env: Vec<_> = request.env.iter().map(|(name, _)| name).collect();
        let args = json!({ "args": request.args, "env": env });
        payloads.push(Payload { bytes: args.to_string().into_bytes(), media_type: "application/json".into() });
    }
    payloads
}

/// Returns what the record of an accepted step says.
pub fn accepted_record(
    request: &StepRequest,
    accepted: &Accepted,
    mounts: &[Mount],
    decision: Value,
    engine: &str,
) -> Value {
    let mounts: Vec<_> =
        mounts.iter().map(|mount| json!({ "path": mount.guest_path, "writable": mount.writable.is_some() })).collect();
    json!({
        "caller": request.caller, "component": accepted.component.to_string(), "agent": accepted.agent,
        "engine": engine, "workspace": request.workspace, "mounts": mounts, "args": request.args.len(),
        "env": request.env.len(),
        "narrow": request.narrow.as_ref().map(|narrow| json!({ "tools": narrow.tools, "spaces": narrow.spaces, "egress": narrow.egress })),
        "limits": accepted.limits, "budget": accepted.budget, "decision": decision,
        "seed": accepted.origin.seed_hex(), "start_ms": accepted.origin.start_ms,
    })
}

/// Returns what a worker is told of a step.
pub fn spec(
    component: &Arc<Component>,
    request: StepRequest,
    mounts: Vec<Mount>,
    limits: StepLimits,
    origin: Origin,
) -> StepSpec {
    let content_type = if request.content_type.is_empty() { "application/json".into() } else { request.content_type };
    let (program, task) = match component.kind {
        ComponentKind::Command => ("command", Task::Command { stdin: request.input }),
        ComponentKind::Step | ComponentKind::Tool => ("step", Task::Run { payload: request.input, content_type }),
    };
    StepSpec {
        component: component.digest,
        task,
        args: std::iter::once(program.to_owned()).chain(request.args).collect(),
        env: request.env,
        mounts,
        limits,
        origin,
    }
}
