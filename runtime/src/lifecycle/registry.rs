//! How agents and tools come in: checked against everything that is there, recorded, and only then kept.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use serde_json::{Value, json};
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    AdmitError, Lifecycle, PushError,
    conduct::Cut,
    grant::{narrowed_budget, narrowed_limits},
    living::{Identity, Life},
    mounts::check_together,
    policies::PolicyError,
    routes::BadEgress,
    tools::ReadyTool,
};
use crate::{
    config::DEFAULT_TENANT,
    control::Hold,
    host::{self, Way},
    journal::{Entry, JournalError, Kind, Payload},
    manifest::{self, BadManifest, Difference, Manifest},
    policy::ToolFacts,
    step::{
        BadLimit, BadName, Digest, Effect, Kind as ComponentKind, Name, Origin, Outcome, StepSpec, Task,
        ToolDescription, ToolName, Version,
    },
    store::{Agent, Component, ComponentError, Tool, VersionError, Versioned as _},
    worker::{Next, WorkerError},
};

/// Bytes of a tool's description.
const DESCRIPTION_BYTES_MAX: usize = 4 << 10;

/// What a tool may use to describe itself.
const DESCRIBE_FUEL: i64 = 100_000_000;
const DESCRIBE_TIMEOUT_MS: i64 = 5_000;

/// A tool to be registered.
#[derive(Debug)]
pub struct NewTool {
    pub name: ToolName,
    pub version: Version,
    pub component: String,
    pub effect: Effect,
    pub labels: Vec<Name>,
    /// Who registers it: `unix:<uid>` or `loopback`.
    pub caller: String,
}

/// An agent or a tool that is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error(transparent)]
    Manifest(#[from] BadManifest),
    #[error(transparent)]
    Component(#[from] ComponentError),
    #[error("`{0}` is a tool: an agent is a step or a command")]
    NotAnAgent(String),
    #[error("`{0}` is not a tool: it does not export `palisade:agent/invoke`")]
    NotATool(String),
    #[error("the component imports {}, which needs the power `{power}`: add it to `powers`, or use another component", imports.join(", "))]
    ImportNotInManifest { power: String, imports: Vec<String> },
    #[error("there is no mount `{name}`: this daemon has {}", super::step::listed(.known))]
    NoMount { name: String, known: Vec<String> },
    #[error("mount `{name}`: {problem}")]
    Mount { name: String, problem: String },
    #[error(transparent)]
    Egress(#[from] BadEgress),
    #[error("`{key}`: {error}")]
    Limit { key: String, error: BadLimit },
    #[error("it reaches further than {newest} by: {}; register it with `allow_wider` if that is meant", added.join("; "))]
    Wider { newest: String, added: Vec<String> },
    #[error("the tool's {which} schema is not accepted: {problem}")]
    Schema { which: &'static str, problem: String },
    #[error("{} holds `{}`, {}: {}", .0.action, .0.scope, .0.id, .0.reason)]
    Held(Arc<Hold>),
    #[error("the tool did not describe itself: {0}")]
    Undescribed(String),
    #[error("with this tool the policies in force would not be valid: {0}")]
    Policies(PolicyError),
    #[error(transparent)]
    Replace(PolicyError),
    #[error(transparent)]
    Version(#[from] VersionError),
    #[error("it cannot be recorded: {0}")]
    Unrecorded(#[from] JournalError),
    #[error(transparent)]
    Admit(#[from] AdmitError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error("the component cannot be compiled any more: {0}")]
    Compile(PushError),
    #[error("the daemon failed: {0}")]
    Failed(#[from] JoinError),
}

impl Lifecycle {
    /// Registers a tool: it describes itself, and every policy is valid with it.
    pub async fn register_tool(&self, new: NewTool) -> Result<Arc<Tool>, RegisterError> {
        let this = self.clone();
        self.whole(async move { this.take_tool(new).await }).await?
    }

    /// Registers an agent, or only says what that would change. `wider` accepts one that reaches further than the newest.
    pub async fn register_agent(
        &self,
        text: String,
        wider: bool,
        validate_only: bool,
    ) -> Result<(Arc<Agent>, Difference), RegisterError> {
        let this = self.clone();
        self.whole(async move { this.take_agent(text, wider, validate_only).await }).await?
    }

    /// Disables or enables a version of an agent.
    pub async fn set_agent_disabled(
        &self,
        name: &str,
        version: &str,
        disabled: bool,
    ) -> Result<Arc<Agent>, RegisterError> {
        let agent = self.agents().find(name, Some(version))?;
        let body = json!({ "change": change(disabled), "agent": agent.reference() });
        let (this, name, version) = (self.clone(), name.to_owned(), version.to_owned());
        let keep = move || this.agents().set_disabled(&name, &version, disabled);
        let this = self.clone();
        self.whole(async move {
            let _registering = this.0.registering.lock().await;
            this.record_and_keep(Kind::Agent, body, Vec::new(), keep).await
        })
        .await?
    }

    /// Disables or enables a version of a tool.
    pub async fn set_tool_disabled(
        &self,
        name: &str,
        version: &str,
        disabled: bool,
    ) -> Result<Arc<Tool>, RegisterError> {
        let tool = self.tools().find(name, Some(version))?;
        let body = json!({ "change": change(disabled), "tool": tool.reference() });
        let (this, name, version) = (self.clone(), name.to_owned(), version.to_owned());
        let keep = move || this.tools().set_disabled(&name, &version, disabled);
        let this = self.clone();
        self.whole(async move {
            let _registering = this.0.registering.lock().await;
            this.record_and_keep(Kind::Tool, body, Vec::new(), keep).await
        })
        .await?
    }

    async fn take_tool(&self, new: NewTool) -> Result<Arc<Tool>, RegisterError> {
        let component = self.components().find(&new.component)?;
        if component.kind != ComponentKind::Tool {
            return Err(RegisterError::NotATool(new.component));
        }
        let said = self.describe(&component, &new.caller).await?;
        let tool = tool(new, component.digest, said)?;
        let ready = ReadyTool::new(Arc::new(tool.clone()))
            .map_err(|problem| RegisterError::Schema { which: "input or output", problem })?;
        let _registering = self.0.registering.lock().await;
        self.tools().check(&tool)?;
        if let Ok(known) = self.tools().find(tool.name.as_str(), Some(tool.version.as_str())) {
            // A daemon that ended between the two may have kept the tool without the policies knowing it.
            self.refit_policies().await.map_err(RegisterError::Replace)?;
            return Ok(known);
        }
        let mut facts = self.tool_facts();
        facts.push(ready.facts);
        self.try_policies(facts).await.map_err(RegisterError::Policies)?;
        let body = json!({
            "change": "registered", "tool": tool.reference(), "component": tool.component.to_string(),
            "effect": tool.effect.as_str(), "labels": tool.labels,
        });
        let payloads = vec![json_payload(tool.input_schema.clone())];
        let registered = self.record_and_keep(Kind::Tool, body, payloads, {
            let lifecycle = self.clone();
            move || lifecycle.tools().add(tool)
        });
        let registered = registered.await?;
        self.refit_policies().await.map_err(RegisterError::Replace)?;
        Ok(registered)
    }

    async fn take_agent(
        &self,
        text: String,
        wider: bool,
        validate_only: bool,
    ) -> Result<(Arc<Agent>, Difference), RegisterError> {
        let manifest = manifest::parse(&text)?;
        let agent = self.check_agent(manifest, text)?;
        let _registering = self.0.registering.lock().await;
        let newest = self.agents().find(agent.manifest.name.as_str(), None).ok();
        self.agents().check(&agent)?;
        if let Ok(known) = self.agents().find(agent.name(), Some(agent.version().as_str())) {
            return Ok((known, Difference::default()));
        }
        let before = newest.as_ref().map(|newest| newest.reach.as_slice()).unwrap_or_default();
        let difference = manifest::difference(before, &agent.reach);
        if validate_only {
            return Ok((Arc::new(agent), difference));
        }
        if let Some(newest) = newest
            // Other code with the same reach is what versions are for.
            && difference.added.iter().any(|line| !line.starts_with("component "))
            && !wider
        {
            return Err(RegisterError::Wider { newest: newest.reference(), added: difference.added });
        }
        let body = json!({
            "change": "registered", "agent": agent.reference(), "owner": agent.manifest.owner,
            "component": agent.component.to_string(), "manifest": Digest::of(agent.text.as_bytes()).to_string(),
            "added": difference.added, "removed": difference.removed,
        });
        let payloads = vec![Payload { bytes: agent.text.clone().into_bytes(), media_type: "application/toml".into() }];
        let lifecycle = self.clone();
        let registered =
            self.record_and_keep(Kind::Agent, body, payloads, move || lifecycle.agents().add(agent)).await?;
        Ok((registered, difference))
    }

    /// Returns what policy knows of every version of each tool, the newest last.
    pub fn tool_facts(&self) -> Vec<ToolFacts> {
        let ready = |tool: Arc<Tool>| self.ready_tool(tool.name.as_str(), tool.version.as_str());
        self.tools().all().into_iter().filter_map(ready).map(|ready| ready.facts.clone()).collect()
    }

    /// Records a change, and makes it once that is durable.
    async fn record_and_keep<T: Send + 'static>(
        &self,
        kind: Kind,
        body: Value,
        payloads: Vec<Payload>,
        keep: impl FnOnce() -> Result<T, VersionError> + Send + 'static,
    ) -> Result<T, RegisterError> {
        self.0.journal.append(Entry { payloads, ..Entry::new(kind, DEFAULT_TENANT, body) })?.await?;
        let kept = spawn_blocking(keep).await.map_err(|e| VersionError::Io(e.into()))?;
        Ok(kept?)
    }

    /// Runs a tool once, without any power, for what it says of itself. It is a guest as others are: what holds its bytes,
    /// or who registers it, keeps it from running.
    async fn describe(&self, component: &Component, caller: &str) -> Result<ToolDescription, RegisterError> {
        // The operator asks, for nobody's sake: no tenant's files are within reach.
        let nobody: Name = DEFAULT_TENANT.parse().map_err(|e: BadName| RegisterError::Undescribed(e.to_string()))?;
        let identity = Identity {
            tenant: nobody.clone(),
            job: None,
            agent: None,
            component: component.digest,
            caller: caller.into(),
            step: String::new(),
            tool: true,
        };
        let life = self.living().begin(identity, None);
        let guest = life.guest.clone();
        tokio::select! {
            biased;
            hold = self.held(&guest) => Err(RegisterError::Held(hold)),
            said = self.describe_as(component, nobody, life) => said,
        }
    }

    async fn describe_as(
        &self,
        component: &Component,
        nobody: Name,
        life: Life,
    ) -> Result<ToolDescription, RegisterError> {
        self.ensure_artifact(&nobody, component.digest).await.map_err(RegisterError::Compile)?;
        let asked = crate::config::AskedLimits {
            fuel: Some(DESCRIBE_FUEL),
            timeout_ms: Some(DESCRIBE_TIMEOUT_MS),
            ..Default::default()
        };
        let limits = &self.config().limits;
        let limits = limits.grant(asked).or_else(|_| limits.grant(Default::default()));
        let limits = limits.map_err(|error| RegisterError::Limit { key: "limits".into(), error })?;
        let slot = self.admit(&nobody, None, limits.memory_bytes).await?;
        let spec = StepSpec {
            component: component.digest,
            task: Task::Describe,
            args: vec!["tool".into()],
            env: Vec::new(),
            mounts: Vec::new(),
            limits,
            // It says the same of itself each time.
            origin: Origin { seed: [0; 32], start_ms: 0 },
        };
        let holds = Box::new((slot, life.place()));
        let mut running = self.workers().run(&self.home(&nobody, None), spec, holds).await?;
        let _cut = Cut::new(&life.guest, running.handle());
        let mut events = running.take_events();
        let undescribed = |why: String| RegisterError::Undescribed(why);
        let stop = CancellationToken::new();
        loop {
            tokio::select! {
                next = running.next(true) => match next {
                    Next::Ended(Outcome::Succeeded { output, .. }, _) => {
                        return serde_json::from_slice(&output).map_err(|e| undescribed(e.to_string()));
                    }
                    Next::Ended(outcome, _) => return Err(undescribed(super::step::outcome_in_words(&outcome))),
                    // It has no power: whatever it asks, it waits until it is stopped.
                    Next::Call(..) => {
                        running.handle().cancel();
                        stop.cancel();
                    }
                },
                // What it says is for nobody.
                Some(_) = async { match &mut events { Some(events) => events.next().await, None => None } } => {}
            }
        }
    }

    /// Checks a manifest against everything that it names.
    fn check_agent(&self, manifest: Manifest, text: String) -> Result<Agent, RegisterError> {
        let component = self.components().find(&manifest.component)?;
        if component.kind == ComponentKind::Tool {
            return Err(RegisterError::NotAnAgent(manifest.component));
        }
        check_imports(&manifest, &component)?;
        let mount = |mount: &manifest::MountGrant| self.mount_at(&mount.name, &mount.path, mount.writable);
        let mounts: Vec<_> = manifest.mounts.iter().map(mount).collect::<Result<_, _>>()?;
        check_together(&mounts).map_err(|problem| RegisterError::Mount { name: "mount".into(), problem })?;
        let routes = self.check_egress(&manifest.egress)?;
        let mut tools = BTreeMap::new();
        let mut found = BTreeMap::new();
        let config = self.config();
        let limit = |key: String| move |error| RegisterError::Limit { key, error };
        narrowed_limits(&config.limits, &manifest.limits).grant(manifest.limits).map_err(limit("limits".into()))?;
        config.limits.grant(manifest.limits).map_err(limit("limits".into()))?;
        narrowed_budget(&config.budgets.step, &manifest.budget)
            .grant(manifest.budget)
            .map_err(limit("budget".into()))?;
        config.budgets.step.grant(manifest.budget).map_err(limit("budget".into()))?;
        for grant in &manifest.tools {
            let tool = self.tools().find(grant.name.as_str(), grant.version.as_ref().map(Version::as_str))?;
            config.limits.grant(grant.limits).map_err(limit(format!("tool.limits of `{}`", grant.name)))?;
            config.budgets.step.grant(grant.budget).map_err(limit(format!("tool.budget of `{}`", grant.name)))?;
            tools.insert(grant.name.clone(), tool.version.clone());
            found.insert(grant.name.to_string(), tool);
        }
        let pinned = |name: &str| found.get(name).map(|tool| (tool.version.to_string(), tool.component, tool.effect));
        let pinned_manifest = Manifest { component: component.digest.to_string(), ..manifest.clone() };
        let reach = manifest::reach(&pinned_manifest, &routes, pinned);
        let create_time = SystemTime::now();
        Ok(Agent { manifest, text, component: component.digest, tools, reach, disabled: false, create_time })
    }
}

/// What a component imports beyond the pure powers is in the manifest.
fn check_imports(manifest: &Manifest, component: &Component) -> Result<(), RegisterError> {
    for power in host::POWERS {
        let needed = power.way == Way::Gated || power.word == "filesystem";
        let imports: Vec<_> = component
            .imports
            .iter()
            .filter(|import| host::power_of(import).is_some_and(|of| of.word == power.word))
            .cloned()
            .collect();
        let given = manifest.powers.iter().any(|given| given.as_str() == power.word);
        if needed && !imports.is_empty() && !given {
            return Err(RegisterError::ImportNotInManifest { power: power.word.into(), imports });
        }
    }
    Ok(())
}

fn tool(new: NewTool, component: Digest, said: ToolDescription) -> Result<Tool, RegisterError> {
    let NewTool { name, version, component: _, effect, labels, caller: _ } = new;
    if said.text.len() > DESCRIPTION_BYTES_MAX {
        let why = format!("its description has {} bytes; at most {DESCRIPTION_BYTES_MAX} are allowed", said.text.len());
        return Err(RegisterError::Undescribed(why));
    }
    let canonical = |which, text: String| {
        let parsed = crate::json::Canonical::parse(&text, crate::json::SCHEMA_BYTES_MAX);
        let parsed = parsed.map_err(|e| RegisterError::Schema { which, problem: e.to_string() })?;
        Ok::<_, RegisterError>(parsed.bytes().to_owned())
    };
    Ok(Tool {
        name,
        version,
        component,
        description: said.text,
        input_schema: canonical("input", said.input_schema)?,
        output_schema: said.output_schema.map(|text| canonical("output", text)).transpose()?,
        effect,
        labels,
        disabled: false,
        create_time: SystemTime::now(),
    })
}

fn change(disabled: bool) -> &'static str {
    if disabled { "disabled" } else { "enabled" }
}

fn json_payload(text: String) -> Payload {
    Payload { bytes: text.into_bytes(), media_type: "application/json".into() }
}
