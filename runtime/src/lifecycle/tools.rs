//! The tools power: a tool runs in a sandbox of its own, with what its caller was granted for it and no more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::block_in_place;

use super::{
    Lifecycle,
    act::{Done, cut, refused},
    conduct::{Cut, Ended, conduct_tool},
    denial::{failed, invalid, unavailable},
    execution::Execution,
    gate::Permit,
    grant::Lack,
    living::{self, Identity},
};
use crate::{
    budget::{Account, Amounts},
    config::Mode,
    journal::Payload,
    json::{Canonical, Problem, Schema},
    manifest::{Access, ToolGrant},
    policy::ToolFacts,
    step::{Answer, CallError, Denial, FIXED, Mount, Outcome, StepLimits, StepSpec, Task, ToolInfo, Usage},
    store::Tool,
};

/// JSON that is checked in no time, whatever the schema.
const QUICK_BYTES: usize = 1024;

/// A registered tool, ready to be called.
pub struct ReadyTool {
    pub tool: Arc<Tool>,
    /// What policy knows of it.
    pub facts: ToolFacts,
    input: Schema,
    output: Option<Schema>,
}

impl ReadyTool {
    /// Compiles a tool's schemas. They were checked when it was registered.
    pub fn new(tool: Arc<Tool>) -> Result<Self, String> {
        let parse = |text: &str| serde_json::from_str(text).map_err(|e| e.to_string());
        let input: serde_json::Value = parse(&tool.input_schema)?;
        let output = tool.output_schema.as_deref().map(parse).transpose()?;
        let schema = Schema::compile_input(&input).map_err(|e| e.to_string())?;
        let output = output.as_ref().map(Schema::compile).transpose().map_err(|e| e.to_string())?;
        let facts = ToolFacts {
            name: tool.name.to_string(),
            version: tool.version.to_string(),
            digest: tool.component,
            effect: tool.effect,
            labels: tool.labels.iter().map(ToString::to_string).collect(),
            input_schema: input,
        };
        Ok(Self { tool, facts, input: schema, output })
    }

    /// Checks arguments against the schema. Both are hostile: where there is much to check, it is not done on a thread
    /// that others wait for.
    pub fn check_arguments(&self, arguments: &Canonical) -> Result<(), CallError> {
        let check = || self.input.check(arguments.value());
        let checked = if arguments.bytes().len() > QUICK_BYTES { block_in_place(check) } else { check() };
        checked.map_err(|problems| {
            let message = format!("the arguments of `{}` do not fit its schema: {}", self.tool.name, words(&problems));
            invalid("ARGUMENTS_INVALID", message)
        })
    }
}

/// Returns the tool that `name` means for this guest, and what it gets.
pub fn find(execution: &Execution, name: &str) -> Result<(Arc<ReadyTool>, ToolGrant), Lack> {
    let agent = execution.step.agent.as_deref().ok_or(Lack::NotInManifest)?;
    let (name, version) = agent.tools.iter().find(|(known, _)| known.as_str() == name).ok_or(Lack::NotInManifest)?;
    let grant = execution.grant.tools.get(name).ok_or(Lack::Narrowed)?;
    let ready = execution.lifecycle.ready_tool(name.as_str(), version.as_str()).ok_or(Lack::NotInManifest)?;
    if ready.tool.disabled {
        return Err(Lack::Disabled);
    }
    if !execution.grant.effects.contains(&ready.tool.effect) {
        return Err(Lack::Ceiling);
    }
    if execution.depth >= FIXED.tool_depth {
        return Err(Lack::TooDeep);
    }
    Ok((ready, grant.clone()))
}

/// Says why the guest was not granted a tool.
pub fn lacking(execution: &Execution, name: &str, lack: Lack, decision: &str) -> Denial {
    let nearest = nearest(execution, name);
    let name = cut(name);
    let denied = |code, message, rule| refused(code, message, rule, nearest.clone(), decision);
    match lack {
        Lack::NotInManifest | Lack::ReadOnly => {
            let message = match &execution.step.agent {
                Some(agent) => format!("tool `{name}` is not in the manifest of {}", agent.reference()),
                None => "a component that runs without an agent has no tools".into(),
            };
            denied("NOT_IN_MANIFEST", message, "manifest.tool")
        }
        Lack::Narrowed => {
            let rule = if execution.via.is_empty() { "request.narrow.tools" } else { "manifest.tool.tools" };
            denied("NARROWED", format!("tool `{name}` is left out for this step or tool"), rule)
        }
        Lack::Ceiling => {
            let message = format!("tool `{name}` has an effect that this daemon allows to nobody");
            denied("ABOVE_CEILING", message, "ceiling.effects")
        }
        Lack::Disabled => denied("TOOL_DISABLED", format!("tool `{name}` is disabled"), "tools"),
        Lack::TooDeep => {
            let message = format!("tool `{name}` would run inside {} others", execution.depth);
            denied("TOO_DEEP", message, "limits.tool_depth")
        }
    }
}

/// Returns, in words, the tool that can be called and whose name is the most like `name`.
pub fn nearest(execution: &Execution, name: &str) -> Option<String> {
    let alike = |other: &str| name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let others = callable(execution).into_iter().filter(|tool| tool.tool.name.as_str() != name);
    let nearest = others.max_by_key(|tool| alike(tool.tool.name.as_str()))?;
    Some(format!("tool `{}` is available", nearest.tool.name))
}

/// Returns the tools that policy may let the guest call, for some arguments.
fn callable(execution: &Execution) -> Vec<Arc<ReadyTool>> {
    let Some(agent) = execution.agent_facts() else { return Vec::new() };
    let (set, surroundings) = (execution.lifecycle.policies(), execution.surroundings());
    let observed = execution.lifecycle.config().policy.mode == Mode::Observe;
    let granted = execution.grant.tools.keys().filter_map(|name| find(execution, name.as_str()).ok());
    let allowed = |tool: &ReadyTool| observed || set.could_call(&agent, &tool.facts, &surroundings);
    granted.map(|(tool, _)| tool).filter(|tool| allowed(tool)).collect()
}

/// Lists tools.
pub fn list(permit: &Permit<'_>) -> Done {
    let info = |tool: Arc<ReadyTool>| ToolInfo {
        name: tool.tool.name.to_string(),
        version: tool.tool.version.to_string(),
        description: tool.tool.description.clone(),
        effect: tool.tool.effect,
        input_schema: tool.tool.input_schema.clone(),
        output_schema: tool.tool.output_schema.clone(),
    };
    let answer = Answer::Tools(callable(permit.execution()).into_iter().map(info).collect());
    Done::new(Amounts { bytes_in: answer.bytes(), ..Amounts::default() }, Ok(answer))
}

/// Returns what a call can cost at most: never more than the guest has left.
pub fn cost(execution: &Execution, tool: &ReadyTool, grant: &ToolGrant, arguments: &Canonical) -> Amounts {
    let (limits, left) = (limits(execution, grant), execution.account.left());
    let time = execution.deadline.saturating_duration_since(Instant::now()).as_millis() as u64;
    // Where nothing is left, one more than nothing is asked: that is how it is refused.
    let within = |limit: u64, left: u64| limit.min(left).max(1);
    Amounts {
        fuel: within(limits.fuel, left.fuel),
        wall_ms: within(limits.timeout_ms.min(time), left.wall_ms),
        host_calls: 0,
        tool_calls: 1,
        bytes_in: within(limits.output_bytes, left.bytes_in),
        bytes_out: (tool.tool.name.as_str().len() + arguments.bytes().len()) as u64,
    }
}

/// Calls a tool.
pub async fn call(
    permit: &Permit<'_>,
    worker_step: u64,
    tool: Arc<ReadyTool>,
    grant: Box<ToolGrant>,
    arguments: Canonical,
) -> Done {
    let execution = permit.execution();
    let reserved = permit.reserved();
    let sent = Amounts { tool_calls: 1, bytes_out: reserved.bytes_out, ..Amounts::default() };
    let limits = StepLimits {
        fuel: reserved.fuel,
        timeout_ms: reserved.wall_ms,
        output_bytes: reserved.bytes_in,
        ..limits(execution, &grant)
    };
    // What a tool knows is in all that it does, and in its errors: its labels are there before it is.
    if let Err(error) = permit.join(&tool.tool.labels).await {
        return Done::new(sent, Err(error));
    }
    match run(permit, worker_step, &tool, &grant, arguments, limits).await {
        Ok(Ended { outcome, usage, lost }) => {
            let used = Amounts { fuel: usage.fuel, wall_ms: wall_ms(&usage), bytes_in: usage.output_bytes, ..sent };
            let used = if lost { reserved } else { used };
            let (result, kept) = match answer(&tool, outcome, limits.output_bytes) {
                Ok((answer, payload)) => (Ok(answer), vec![payload]),
                Err(error) => (Err(error), Vec::new()),
            };
            Done { usage: Some(usage), lost, kept, ..Done::new(used, result) }
        }
        Err(error) => Done::new(sent, Err(error)),
    }
}

async fn run(
    permit: &Permit<'_>,
    worker_step: u64,
    tool: &ReadyTool,
    grant: &ToolGrant,
    arguments: Canonical,
    limits: StepLimits,
) -> Result<Ended, CallError> {
    let execution = permit.execution();
    let lifecycle = &execution.lifecycle;
    let lost = |error: String| {
        tracing::error!(tool = %tool.tool.name, error, "a tool cannot be run");
        unavailable("WORKER_UNAVAILABLE", "the tool cannot be run now: see the daemon's log")
    };
    let (tenant, component) = (&execution.step.tenant.name, tool.tool.component);
    lifecycle.ensure_artifact(tenant, component).await.map_err(|e| lost(e.to_string()))?;
    let (origin, started) = (permit.tool_origin(), Instant::now());
    let caller = (execution.guest().clone(), permit.calling.live.clone());
    let inner = Execution {
        lifecycle: lifecycle.clone(),
        step: execution.step.clone(),
        grant: execution.grant.of_tool(grant),
        account: account(execution, tool, grant).map_err(lost)?,
        via: tool.tool.name.to_string(),
        depth: execution.depth + 1,
        origin,
        started,
        deadline: started + Duration::from_millis(limits.timeout_ms),
        context: permit.context().clone(),
        life: lifecycle.living().begin(
            Identity { component: tool.tool.component, tool: true, ..execution.guest().identity.clone() },
            Some(caller),
        ),
    };
    // Whoever stops what is around it does that first, and looks for it then.
    if let Some(hold) = inner.guest().cut_by() {
        return Err(living::denied(execution, permit.calling.live.call, &hold));
    }
    let spec = StepSpec {
        component: tool.tool.component,
        task: Task::Invoke { arguments: arguments.bytes().into() },
        args: vec!["tool".into()],
        env: Vec::new(),
        mounts: mounts(&inner),
        limits,
        origin,
    };
    let held = execution.step.held.upgrade().ok_or_else(|| lost("its step has ended".into()))?;
    let holds = Box::new((held, inner.life.place()));
    let running = lifecycle.workers().run_tool(worker_step, spec, holds).await;
    let mut running = running.map_err(|e| lost(e.to_string()))?;
    let _cut = Cut::new(inner.guest(), running.handle());
    Ok(conduct_tool(&inner, &mut running, &tool.tool.reference()).await)
}

/// Returns the account of what a tool asks itself. What it uses to run is its caller's.
fn account(execution: &Execution, tool: &ReadyTool, grant: &ToolGrant) -> Result<Account, String> {
    let asked = execution.lifecycle.config().budgets.step.grant(grant.budget).map_err(|e| e.to_string())?;
    Ok(Account::new(format!("tool `{}`", tool.tool.name), asked, Some(execution.account.clone())))
}

/// Returns what a tool may use to run.
fn limits(execution: &Execution, grant: &ToolGrant) -> StepLimits {
    let limits = &execution.lifecycle.config().limits;
    // Checked when the agent was registered; the configuration may have become stricter since.
    limits.grant(grant.limits).or_else(|_| limits.grant(Default::default())).unwrap_or(StepLimits {
        fuel: 1,
        memory_bytes: 1,
        timeout_ms: 1,
        output_bytes: 1,
        stdio_bytes: 1,
        events: 1,
    })
}

fn mounts(inner: &Execution) -> Vec<Mount> {
    let mut mounts = Vec::new();
    for granted in inner.step.agent.iter().flat_map(|agent| &agent.manifest.mounts) {
        if inner.grant.mounts.contains(&granted.name)
            && let Ok(mount) = inner.lifecycle.mount_at(&granted.name, &granted.path, granted.writable)
        {
            mounts.push(mount);
        }
    }
    let workspace = &inner.step.workspace;
    match inner.grant.workspace {
        Access::None => {}
        Access::Read => mounts.push(Mount { writable: None, ..workspace.clone() }),
        Access::Write => mounts.push(workspace.clone()),
    }
    mounts
}

fn answer(tool: &ReadyTool, outcome: Outcome, bytes_max: u64) -> Result<(Answer, Payload), CallError> {
    let name = &tool.tool.name;
    let stopped = |why: String| failed("TOOL_STOPPED", format!("tool `{name}` {why}"));
    match outcome {
        Outcome::Succeeded { output, .. } => {
            let bad = |why: String| failed("RESULT_INVALID", format!("the result of tool `{name}`: {why}"));
            let text = String::from_utf8(output).map_err(|_| bad("it is not UTF-8".into()))?;
            let result = Canonical::parse(&text, bytes_max as usize).map_err(|e| bad(e.to_string()))?;
            if let Some(schema) = &tool.output {
                let check = || schema.check(result.value());
                let checked = if result.bytes().len() > QUICK_BYTES { block_in_place(check) } else { check() };
                checked.map_err(|problems| bad(words(&problems)))?;
            }
            let bytes = result.bytes().as_bytes().to_vec();
            let payload = Payload { bytes, media_type: "application/json".into() };
            Ok((Answer::Json(result.bytes().into()), payload))
        }
        // The tool's own words, which its caller may know.
        Outcome::Failed(failure) => Err(CallError::Failed(failure)),
        Outcome::Exited { code } => Err(stopped(format!("exited with code {code}"))),
        Outcome::LimitExceeded { failure, .. }
        | Outcome::Trapped(failure)
        | Outcome::Cancelled(failure)
        | Outcome::WorkerLost(failure)
        | Outcome::Unrecorded(failure) => Err(stopped(format!("was stopped ({}): {}", failure.code, failure.message))),
    }
}

fn words(problems: &[Problem]) -> String {
    let words = problems.iter().map(|problem| match problem.pointer.as_str() {
        "" => problem.message.clone(),
        pointer => format!("{pointer}: {}", problem.message),
    });
    words.collect::<Vec<_>>().join("; ")
}

/// Returns the wall-clock time of an execution, each begun millisecond whole.
pub fn wall_ms(usage: &Usage) -> u64 {
    usage.wall_time_us.div_ceil(1000)
}

impl Lifecycle {
    /// Returns a version of a tool, ready to be called.
    pub fn ready_tool(&self, name: &str, version: &str) -> Option<Arc<ReadyTool>> {
        let tool = self.tools().find(name, Some(version)).ok()?;
        let mut ready = self.0.ready_tools.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = ready.get(&tool.reference()).filter(|known| Arc::ptr_eq(&known.tool, &tool));
        if let Some(known) = known {
            return Some(known.clone());
        }
        let made = Arc::new(ReadyTool::new(tool).ok()?);
        ready.insert(made.tool.reference(), made.clone());
        Some(made)
    }
}
