//! Runs one step: a fresh store, the guest's one call, and what became of it.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use wasmtime::{
    Engine, Store, Trap,
    component::{Component, Linker, ResourceTableError},
};
use wasmtime_wasi::{I32Exit, p2::bindings::CommandPre};
use wasmtime_wasi_http::FieldMapError;

use super::{
    meter::{Stopped, metered},
    state::{StepState, Ways},
    turn::Turn,
};
use crate::{
    host::{
        self, Exceeded,
        bindings::{StepPre, exports::palisade::agent::run::Input, palisade::agent::types::Error, tool::ToolPre},
    },
    step::{Digest, FIXED, Failure, GUEST_STOPPED, Outcome, StepLimits, StepSpec, Task, ToolDescription, Usage},
};

/// Components that are kept linked. The one used longest ago goes first.
const COMPONENTS_MAX: usize = 64;

/// Runs the steps of one worker.
pub struct Runner {
    engine: Engine,
    linker: Linker<StepState>,
    artifacts: PathBuf,
    components: Mutex<HashMap<Digest, (Linked, Instant)>>,
}

/// A component, linked and its export found.
#[derive(Clone)]
enum Linked {
    Step(StepPre<StepState>),
    Tool(ToolPre<StepState>),
    Command(CommandPre<StepState>),
}

/// Bytes of a failure's message that are told.
const MESSAGE_BYTES: usize = 16 << 10;

/// Media type of what tools take and give.
const JSON: &str = "application/json";

/// What a guest that ended by itself left.
enum Ended {
    Returned(Vec<u8>, String),
    Refused(Failure),
    Exited(u8),
}

impl Runner {
    /// Returns a runner of the artifacts below `artifacts`.
    pub fn new(engine: Engine, artifacts: PathBuf) -> wasmtime::Result<Self> {
        let linker = host::linker(&engine)?;
        Ok(Self { engine, linker, artifacts, components: Mutex::default() })
    }

    /// Runs `spec` to its end. Never fails: whatever goes wrong is an outcome.
    pub async fn run(&self, mut spec: StepSpec, ways: Ways, cancel: &CancellationToken) -> (Outcome, Usage) {
        let start = Instant::now();
        let mut usage = Usage { input_bytes: spec.task.input_bytes(), ..Usage::default() };
        let limits = spec.limits;
        let (component, mut store) = match self.prepare(&mut spec, ways) {
            Ok(prepared) => prepared,
            Err(error) => return (lost("STEP_NOT_STARTED", &error), usage),
        };

        let stdio = store.data().stdio.clone();
        let call = async {
            let ended = call(&component, &mut store, spec).await;
            stdio.finish().await;
            ended
        };
        let (ended, cpu_time) = metered(call, Duration::from_millis(limits.timeout_ms), cancel).await;

        let state = store.data();
        usage.fuel = limits.fuel - store.get_fuel().unwrap_or(0).min(limits.fuel);
        usage.memory_peak_bytes = state.limiter.memory_peak_bytes();
        usage.stdio_bytes = state.stdio.written();
        usage.events = state.events.sent();
        (usage.disk_bytes, usage.disk_entries) = state.growth();
        usage.cpu_time_us = cpu_time.as_micros() as u64;
        let outcome = outcome(ended, &limits, state.limiter.refused_memory());
        if let Outcome::Succeeded { output, .. } = &outcome {
            usage.output_bytes = output.len() as u64;
        }
        drop(store);
        usage.wall_time_us = start.elapsed().as_micros() as u64;
        (outcome, usage)
    }

    fn prepare(&self, spec: &mut StepSpec, ways: Ways) -> wasmtime::Result<(Linked, Store<StepState>)> {
        let component = self.component(spec.component, &spec.task)?;
        Ok((component, store(&self.engine, spec, ways)?))
    }

    /// Returns a component, linked: mapped from its artifact, or kept from an earlier step.
    fn component(&self, digest: Digest, task: &Task) -> wasmtime::Result<Linked> {
        let lock = || self.components.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((component, used)) = lock().get_mut(&digest) {
            *used = Instant::now();
            return Ok(component.clone());
        }
        let path = self.artifacts.join(format!("{}.cwasm", digest.hex()));
        // SAFETY: the file was written by the compiler that the daemon started and moved here by the daemon. Guests
        // and callers cannot write to this directory, and Landlock makes it read-only for this process.
        let component = unsafe { Component::deserialize_file(&self.engine, path)? };
        let component = host::linker_for(&self.linker, &component)?.instantiate_pre(&component)?;
        let component = match task {
            Task::Run { .. } => Linked::Step(StepPre::new(component)?),
            Task::Command { .. } => Linked::Command(CommandPre::new(component)?),
            Task::Invoke { .. } | Task::Describe => Linked::Tool(ToolPre::new(component)?),
        };
        let mut components = lock();
        if components.len() >= COMPONENTS_MAX
            && let Some(oldest) = components.iter().min_by_key(|(_, (_, used))| *used).map(|(digest, _)| *digest)
        {
            components.remove(&oldest);
        }
        components.insert(digest, (component.clone(), Instant::now()));
        Ok(component)
    }
}

/// Returns the store of a step, with every limit that a store holds.
pub(super) fn store(engine: &Engine, spec: &mut StepSpec, ways: Ways) -> wasmtime::Result<Store<StepState>> {
    let mut store = Store::new(engine, StepState::new(spec, ways)?);
    store.limiter(|state| &mut state.limiter);
    store.set_fuel(spec.limits.fuel)?;
    store.fuel_async_yield_interval(Some(FIXED.yield_fuel))?;
    store.call_hook_async(Turn::new());
    store.set_hostcall_fuel(FIXED.hostcall_bytes as usize);
    store.set_max_component_handles(FIXED.handles as usize);
    Ok(store)
}

/// Instantiates the component and calls its one export.
async fn call(component: &Linked, store: &mut Store<StepState>, spec: StepSpec) -> wasmtime::Result<Ended> {
    match (component, spec.task) {
        (Linked::Command(command), Task::Command { .. }) => {
            let command = command.instantiate_async(&mut *store).await?;
            match command.wasi_cli_run().call_run(store).await {
                Ok(Ok(())) => Ok(Ended::Exited(0)),
                Ok(Err(())) => Ok(Ended::Exited(1)),
                Err(error) => match error.downcast_ref::<I32Exit>() {
                    Some(I32Exit(code)) => Ok(Ended::Exited(u8::try_from(*code).unwrap_or(1))),
                    None => Err(error),
                },
            }
        }
        (Linked::Step(step), Task::Run { payload, content_type }) => {
            let step = step.instantiate_async(&mut *store).await?;
            Ok(match step.palisade_agent_run().call_run(store, &Input { payload, content_type }).await? {
                Ok(output) => Ended::Returned(output.payload, output.content_type),
                Err(error) => Ended::Refused(failure(error)),
            })
        }
        (Linked::Tool(tool), Task::Invoke { arguments }) => {
            let tool = tool.instantiate_async(&mut *store).await?;
            Ok(match tool.palisade_agent_invoke().call_invoke(store, &arguments).await? {
                Ok(result) => Ended::Returned(result.into_bytes(), JSON.into()),
                Err(error) => Ended::Refused(failure(error)),
            })
        }
        (Linked::Tool(tool), Task::Describe) => {
            let tool = tool.instantiate_async(&mut *store).await?;
            let said = tool.palisade_agent_invoke().call_describe(store).await?;
            let description =
                ToolDescription { text: said.text, input_schema: said.input_schema, output_schema: said.output_schema };
            Ok(Ended::Returned(serde_json::to_vec(&description).map_err(wasmtime::Error::new)?, JSON.into()))
        }
        _ => Err(wasmtime::Error::msg("the component is of another kind than the task")),
    }
}

fn failure(error: Error) -> Failure {
    Failure::new(shorten(error.code, 128), shorten(error.message, MESSAGE_BYTES))
}

fn outcome(ended: Result<wasmtime::Result<Ended>, Stopped>, limits: &StepLimits, refused_memory: bool) -> Outcome {
    let error = match ended {
        Err(Stopped::Deadline) => return exceeded("timeout_ms", limits.timeout_ms),
        Err(Stopped::Cancelled) => return Outcome::Cancelled(Failure::new("CANCELLED", "the step was cancelled")),
        Ok(Ok(Ended::Returned(output, _))) if output.len() as u64 > limits.output_bytes => {
            return exceeded("output_bytes", limits.output_bytes);
        }
        Ok(Ok(Ended::Returned(output, content_type))) => {
            return Outcome::Succeeded { output, content_type: shorten(content_type, 256) };
        }
        Ok(Ok(Ended::Refused(failure))) => return Outcome::Failed(failure),
        Ok(Ok(Ended::Exited(code))) => return Outcome::Exited { code },
        Ok(Err(error)) => error,
    };
    if let Some(I32Exit(code)) = error.downcast_ref() {
        let message = format!("the step called exit({code}) instead of returning");
        return Outcome::Trapped(Failure::new("EXITED", message));
    }
    if let Some(Exceeded { limit, value }) = error.downcast_ref() {
        return exceeded(limit, *value);
    }
    if let Some(FieldMapError::TooManyFields | FieldMapError::TotalSizeTooBig) = error.downcast_ref() {
        return exceeded("header_fields_bytes", FIXED.header_fields_bytes);
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return exceeded("resources", FIXED.resources);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => exceeded("fuel", limits.fuel),
        _ if refused_memory => exceeded("memory_bytes", limits.memory_bytes),
        Some(Trap::StackOverflow) => exceeded("stack_bytes", FIXED.stack_bytes),
        _ if format!("{error:#}").contains("fuel allocated for hostcalls") => {
            exceeded("hostcall_bytes", FIXED.hostcall_bytes)
        }
        _ if format!("{error:#}").contains("store handle limit exceeded") => exceeded("handles", FIXED.handles),
        Some(trap) => Outcome::Trapped(Failure::new("TRAPPED", format!("the guest trapped: {trap}"))),
        None => {
            // A resource that is used wrongly, or in the wrong order, is an ordinary mistake.
            let mistaken = error.is::<ResourceTableError>();
            let code = if mistaken { "TRAPPED" } else { GUEST_STOPPED };
            Outcome::Trapped(Failure::new(code, shorten(format!("the guest was stopped: {error:#}"), MESSAGE_BYTES)))
        }
    }
}

/// Returns the outcome of a step that ran into a limit.
fn exceeded(limit: &str, value: u64) -> Outcome {
    let code = match limit {
        "fuel" => "FUEL_EXHAUSTED".into(),
        "timeout_ms" => "TIMEOUT".into(),
        "memory_bytes" => "MEMORY_EXHAUSTED".into(),
        "stack_bytes" => "STACK_EXHAUSTED".into(),
        other => format!("{}_EXCEEDED", other.to_ascii_uppercase()),
    };
    let message = format!("the step exceeded its limit `{limit}` of {value}");
    Outcome::LimitExceeded { failure: Failure::new(code, message), limit: limit.into(), value }
}

fn lost(code: &str, error: &wasmtime::Error) -> Outcome {
    Outcome::WorkerLost(Failure::new(code, shorten(format!("{error:#}"), MESSAGE_BYTES)))
}

/// Cuts a text to `bytes_max`.
fn shorten(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}
