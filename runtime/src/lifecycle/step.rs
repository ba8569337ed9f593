//! The life of a step: checked, authorised, admitted, recorded, run, attended, ended.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    AdmitError, Lifecycle, PushError, Tenant, TenantError, authorize,
    ended::{StepRun, Unstarted, attend},
    execution::{Execution, StepFacts, agent_facts, unix_ms},
    grant::{Grant, narrowed_budget, narrowed_limits},
    jobs::JobHold,
    labels::JOINED,
    living::{Identity, Life},
    request::{StepRequest, accepted_record, check_narrowing, check_sizes, given, optional_name, origin, spec},
    trail::{self, Note, Trail},
};
use crate::{
    budget::{Account, Amounts, Exhausted},
    config::Mode,
    control::Hold,
    journal::{JournalError, Kind},
    manifest::Manifest,
    policy::{BudgetLeft, Question, Surroundings},
    step::{
        BadLimit, Denial, Digest, FIXED, Kind as ComponentKind, Mount, Name, Origin, Outcome, Quota, Range, StepLimits,
    },
    store::{Agent, Component, ComponentError, Lease, VersionError, WorkspaceError, random_id},
    telemetry::{self, Context, Span, StepStart},
    worker::WorkerError,
};

/// Where a step finds its workspace.
const WORKSPACE_PATH: &str = "/workspace";

/// Events of tools that wait for the caller.
const SAID_MAX: usize = 64;

/// What a caller is told before anything else.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub step: String,
    pub component: Digest,
    /// `name@version`.
    pub agent: Option<String>,
    pub limits: StepLimits,
    pub budget: Amounts,
    pub origin: Origin,
}

/// A step that is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Tenant(#[from] TenantError),
    #[error(transparent)]
    Component(#[from] ComponentError),
    #[error(transparent)]
    Agent(#[from] VersionError),
    #[error("agent `{0}` is disabled")]
    AgentDisabled(String),
    #[error("`{0}` is a tool, and a tool is not run by itself: run a step or a command")]
    NotRunnable(String),
    #[error("the component cannot be compiled any more: {0}")]
    Compile(PushError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("there is no mount `{name}`: this daemon has {}", listed(.known))]
    NoMount { name: String, known: Vec<String> },
    #[error("`{field}` {problem}")]
    Field { field: &'static str, problem: String },
    #[error("`narrow` names `{0}`, which the agent does not have")]
    NotInManifest(String),
    #[error(transparent)]
    Limit(#[from] BadLimit),
    #[error("`input` has {bytes} bytes; the limit `input_bytes` is {max}: put larger data into a workspace")]
    InputTooLarge { bytes: usize, max: u64 },
    #[error("{} holds `{}`, {}: {}", .0.action, .0.scope, .0.id, .0.reason)]
    Held(Arc<Hold>),
    #[error("{}", .0.message)]
    Denied(Denial),
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    #[error("nothing is done that cannot be recorded: {0}")]
    Unrecorded(#[from] JournalError),
    #[error("the journal cannot be read: {0}")]
    Unreadable(String),
    #[error(transparent)]
    Admit(#[from] AdmitError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// A step that nothing is taken for yet: what can be refused before was not.
struct Checked {
    request: StepRequest,
    tenant: Arc<Tenant>,
    subject: Subject,
    limits: StepLimits,
    budget: Amounts,
    origin: Origin,
    job: Option<Name>,
    mounts: Vec<Mount>,
    id: String,
    trail: Trail,
    life: Life,
}

/// What to run, and for whom.
struct Subject {
    component: Arc<Component>,
    agent: Option<Arc<Agent>>,
}

impl Lifecycle {
    /// Accepts a step and starts it.
    pub async fn run_step(&self, request: StepRequest) -> Result<StepRun, RunError> {
        // Everything that can be refused is refused before anything is taken.
        let tenant = self.tenant(&request.caller, &request.tenant)?;
        let subject = self.subject(&request)?;
        let manifest = subject.agent.as_deref().map(|agent| &agent.manifest);
        let (limits, budget) = self.within(&request, manifest)?;
        check_sizes(&request, self.config().limits.input_bytes)?;
        check_narrowing(&request, manifest)?;
        let origin = origin(&request)?;
        let job = optional_name("job", &request.job)?;
        let mounts = self.mounts(&request, manifest)?;
        if !request.workspace.is_empty() {
            tenant.workspaces.find(&request.workspace)?;
        }
        let id = format!("steps/{}", random_id());
        let trail = self.trail(&tenant, &id, job.as_ref(), subject.agent.as_deref());
        // Listed before it is asked whether it is held: whoever imposes a hold meanwhile finds it.
        let life = self.living().begin(
            Identity {
                tenant: tenant.name.clone(),
                job: job.clone(),
                agent: manifest.map(|manifest| (manifest.name.clone(), manifest.version.clone())),
                component: subject.component.digest,
                caller: request.caller.clone(),
                step: id.clone(),
                tool: false,
            },
            None,
        );
        let guest = life.guest.clone();
        let checked = Checked { request, tenant, subject, limits, budget, origin, job, mounts, id, trail, life };
        // Until it runs: what is held while it waits for a slot, a disk or a worker does not begin.
        tokio::select! {
            biased;
            hold = self.held(&guest) => Err(RunError::Held(hold)),
            started = self.start_step(checked) => started,
        }
    }

    /// Does the rest. It may be dropped at any time: what was taken is given back then.
    async fn start_step(&self, checked: Checked) -> Result<StepRun, RunError> {
        let Checked { request, tenant, subject, limits, budget, origin, job, mut mounts, id, trail, life } = checked;
        let manifest = subject.agent.as_deref().map(|agent| &agent.manifest);
        let decision = self.authorize_step(&request, &subject, &id, &trail).await?;
        let home = self.home(&tenant.name, job.as_ref());
        let tracked = self.0.running.token();

        // Then it is prepared: compiled if its artifact is gone, a slot, a budget, a workspace for itself.
        let memory = self.memory_at_once(&limits, manifest);
        self.ensure_artifact(&tenant.name, subject.component.digest).await.map_err(RunError::Compile)?;
        let queued = Instant::now();
        let slot = self.admit(&tenant.name, job.as_ref(), memory).await?;
        self.telemetry().meters().step_queued(queued.elapsed());
        let (account, hold) = self.step_account(&tenant, job.as_ref(), budget).await?;
        let own = Amounts { fuel: limits.fuel, wall_ms: limits.timeout_ms, ..Amounts::default() };
        let reservation = account.reserve(own).inspect_err(|exhausted| self.count_exhausted(exhausted))?;
        let (lease, left) = self.workspace(&tenant, &request.workspace).await?;
        let workspace =
            Mount { guest_path: WORKSPACE_PATH.into(), host_path: lease.path(), writable: Some(left), shared: false };
        mounts.push(workspace.clone());

        // And it runs. The slot and the workspace are free again when the worker is done with them.
        let agent = subject.agent.as_ref().map(|agent| agent.reference());
        let labels = hold.as_ref().map(|hold| hold.labels.clone()).unwrap_or_default();
        let kept_workspace = tenant.workspaces.find(&request.workspace).ok();
        let of_workspace = kept_workspace.iter().flat_map(|workspace| &workspace.labels);
        let joined = labels.join(of_workspace.chain(self.mount_labels(&mounts)));
        let kept_workspace = kept_workspace.map(|workspace| workspace.name);
        tenant.label_workspace(kept_workspace.as_ref(), &labels).await?;
        let accepted = Accepted {
            step: id.clone(),
            component: subject.component.digest,
            agent,
            limits,
            budget: account.limit(),
            origin,
        };
        let span = self.step_span(&request.context, &accepted, subject.agent.as_deref());
        let mut body = accepted_record(&request, &accepted, &mounts, decision, self.hello().engine.as_str());
        if !joined.is_empty() {
            body[JOINED] = json!(joined);
        }
        let payloads = given(&request);
        let live = self.live(&id);
        let record = trail.note(Note { kind: Kind::Step, call: None, context: span.context(), body, payloads }).await?;
        labels.recorded(joined.clone());
        let held = Arc::new((slot, lease));
        let (said, heard) = mpsc::channel(SAID_MAX);
        let grant = Grant::of_step(&self.config().ceiling, manifest, request.narrow.as_ref());
        let facts = StepFacts {
            id,
            caller: request.caller.clone(),
            tenant,
            agent: subject.agent.clone(),
            trail,
            calls: AtomicU64::new(0),
            said,
            workspace,
            kept_workspace,
            labels,
            held: Arc::downgrade(&held),
        };
        let started = Instant::now();
        let execution = Execution {
            lifecycle: self.clone(),
            step: Arc::new(facts),
            grant,
            account,
            via: String::new(),
            depth: 0,
            origin,
            started,
            deadline: started + Duration::from_millis(limits.timeout_ms),
            context: span.context().clone(),
            life,
        };
        let spec = spec(&subject.component, request, mounts, limits, origin);
        // Whoever hangs up now, is held, or finds no worker, leaves a step that is on record and never started.
        let unstarted = Unstarted::new(&execution, live);
        execution.show_labels(&record, &joined).await;
        let holds = Box::new((held, execution.life.place()));
        let mut running = self.workers().run(&home, spec, holds).await?;
        execution.guest().begins();
        let live = unstarted.started();
        info!(step = accepted.step, component = %accepted.component, agent = accepted.agent, "step accepted");
        let events = running.take_events();
        let abandoned = CancellationToken::new();
        let (finish, finished) = oneshot::channel();
        let attended = attend(execution, running, reservation, span, abandoned.clone(), finish, (hold, live));
        self.0.running.spawn(attended);
        let abandon = abandoned.drop_guard();
        Ok(StepRun { accepted, events, said: heard, finished, over: false, _abandon: abandon, _tracked: tracked })
    }

    fn subject(&self, request: &StepRequest) -> Result<Subject, RunError> {
        if !request.component.is_empty() && !request.agent.is_empty() {
            let problem = "and `component`: name one of the two".into();
            return Err(RunError::Field { field: "agent", problem });
        }
        let agent = if request.agent.is_empty() { None } else { Some(self.find_agent(&request.agent)?) };
        if let Some(agent) = &agent
            && agent.disabled
        {
            return Err(RunError::AgentDisabled(agent.reference()));
        }
        let component = match &agent {
            Some(agent) => self.components().find(&agent.component.to_string())?,
            None => self.components().find(&request.component)?,
        };
        if component.kind == ComponentKind::Tool {
            return Err(RunError::NotRunnable(request.component.clone()));
        }
        Ok(Subject { component, agent })
    }

    /// Returns a version of an agent: `agents/<name>[@<version>]`.
    pub fn find_agent(&self, reference: &str) -> Result<Arc<Agent>, VersionError> {
        let reference = reference.strip_prefix("agents/").unwrap_or(reference);
        let (name, version) = reference.split_once('@').map_or((reference, None), |(name, v)| (name, Some(v)));
        self.agents().find(name, version)
    }

    /// Returns the limits and the budget: what is asked, within the manifest, within the configuration.
    fn within(&self, request: &StepRequest, manifest: Option<&Manifest>) -> Result<(StepLimits, Amounts), RunError> {
        let (mut limits, mut budgets) = (self.config().limits.clone(), self.config().budgets.step.clone());
        if let Some(manifest) = manifest {
            limits = narrowed_limits(&limits, &manifest.limits);
            budgets = narrowed_budget(&budgets, &manifest.budget);
        }
        let granted = limits.grant(request.limits)?;
        // Who asks for no budget gets one in which the step fits, and as many tools inside each other as there can be.
        let roomy = |range: &mut Range, one: u64| {
            let all = one.saturating_mul(1 + u64::from(FIXED.tool_depth));
            range.default = range.default.max(all).min(range.max);
        };
        roomy(&mut budgets.fuel, granted.fuel);
        roomy(&mut budgets.wall_ms, granted.timeout_ms);
        Ok((granted, budgets.grant(request.budget)?))
    }

    /// Asks policy whether the caller may run it.
    async fn authorize_step(
        &self,
        request: &StepRequest,
        subject: &Subject,
        id: &str,
        trail: &Trail,
    ) -> Result<Value, RunError> {
        let facts = subject.agent.as_deref().map(agent_facts);
        let (question, words) = match (&facts, &subject.agent) {
            (Some(facts), Some(agent)) => {
                (Question::RunAgent { agent: facts }, format!("running agent `{}`", agent.reference()))
            }
            _ => {
                let component = subject.component.digest;
                (Question::RunComponent { component }, format!("running component `{component}`"))
            }
        };
        let none = BudgetLeft { fuel: 0, wall_ms: 0, host_calls: 0, tool_calls: 0, bytes_in: 0, bytes_out: 0 };
        let surroundings = Surroundings {
            caller: request.caller.clone(),
            environment: self.config().policy.environment.clone(),
            unix_ms: unix_ms(),
            budget_left: none,
            via: String::new(),
            labels: Vec::new(),
        };
        let set = self.policies();
        let decision = set.decide(&question, &surroundings);
        let mut record = json!({ "question": words, "policies": decision.policies, "revision": &*decision.revision });
        let Some(explanation) = set.explain(&question, &surroundings, &decision, &self.config().journal.redact) else {
            record["verdict"] = json!("allow");
            return Ok(record);
        };
        let enforced = self.config().policy.mode == Mode::Enforce;
        record["verdict"] = json!(if enforced { "deny" } else { "would-deny" });
        record["addition"] = json!(explanation.addition);
        let name = format!("decisions/{}/0", id.trim_start_matches("steps/"));
        let denial = authorize::denial(&words, explanation, None, &name);
        record["code"] = json!(denial.code);
        record["message"] = json!(denial.message);
        record["rule"] = json!(denial.rule);
        record["missing"] = json!(denial.missing);
        if !enforced {
            return Ok(record);
        }
        let body = json!({ "power": "run", "caller": request.caller, "decision": record });
        let note = Note { kind: Kind::Denial, call: Some(0), context: &request.context, body, payloads: Vec::new() };
        trail.durable(note).await?;
        Err(RunError::Denied(denial))
    }

    fn trail(&self, tenant: &Tenant, id: &str, job: Option<&Name>, agent: Option<&Agent>) -> Trail {
        let (job, agent) = (job.map(ToString::to_string), agent.map(|agent| agent.manifest.name.to_string()));
        Trail::new(self.0.journal.clone(), trail::Of { tenant: tenant.name.clone(), step: id.into(), job, agent })
    }

    async fn step_account(
        &self,
        tenant: &Arc<Tenant>,
        job: Option<&Name>,
        budget: Amounts,
    ) -> Result<(Account, Option<JobHold>), RunError> {
        let hold = match job {
            Some(job) => Some(tenant.hold_job(job, self.config().budgets.job.amounts(), self.journal()).await?),
            None => None,
        };
        let parent = hold.as_ref().map_or_else(|| tenant.account.clone(), |hold| hold.account.clone());
        Ok((Account::new("step", budget, Some(parent)), hold))
    }

    fn step_span(&self, parent: &Context, accepted: &Accepted, agent: Option<&Agent>) -> Span {
        let reference = accepted.agent.clone().unwrap_or_default();
        let agent = agent.map(|agent| telemetry::Agent {
            id: &reference,
            name: agent.manifest.name.as_str(),
            version: agent.manifest.version.as_str(),
        });
        self.telemetry().step(parent, StepStart { step: &accepted.step, agent, component: accepted.component })
    }

    async fn workspace(&self, tenant: &Tenant, reference: &str) -> Result<(Lease, Quota), RunError> {
        if reference.is_empty() {
            let limits = &self.config().limits;
            let quota = Quota { bytes: limits.workspace_bytes.default, entries: limits.workspace_entries.default };
            return Ok((tenant.workspaces.lease_temporary(quota)?, quota));
        }
        let workspace = tenant.workspaces.find(reference)?;
        let lease = tenant.workspaces.lease(&workspace.name)?;
        let walked = spawn_blocking(move || lease.left().map(|left| (lease, left))).await;
        Ok(walked.map_err(|e| WorkspaceError::Io(e.into()))??)
    }
}

/// Says how a guest ended, for people.
pub fn outcome_in_words(outcome: &Outcome) -> String {
    match outcome.failure() {
        Some(failure) => format!("{}: {}", failure.code, failure.message),
        None => outcome.word().into(),
    }
}

/// Returns names for a message.
pub fn listed(known: &[String]) -> String {
    if known.is_empty() { "none".into() } else { known.iter().map(|m| format!("`{m}`")).collect::<Vec<_>>().join(", ") }
}
