//! The memory power: keys in spaces, as far as the manifest names them.

use std::time::Duration;

use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    Lifecycle,
    act::{Done, Verb, cut, refused},
    denial::{failed, invalid, unavailable},
    execution::{Execution, unix_ms},
    gate::Permit,
    grant::Lack,
    living,
};
use crate::{
    budget::Amounts,
    config::Mode,
    journal::Payload,
    memory::{Item, Listed, MemoryError, MemoryStore, PutOptions, Writer},
    step::{self, Answer, CallError, Denial, Exhaustion, Mark, Name},
};

/// How often expired values are removed. They are invisible before.
const SWEEP_INTERVAL: Duration = Duration::from_secs(300);

/// Keys that one call lists.
pub const LIST_MAX: u64 = 1_000;

/// Bytes of the longest key.
pub const KEY_BYTES_MAX: u64 = 512;

/// Returns the space, and what an enforcing daemon would have said: the daemon observes, and no grant has it.
pub fn find(
    execution: &Execution,
    space: &str,
    writes: bool,
    decision: &str,
) -> Result<(Name, Option<Denial>), CallError> {
    let lack = match granted(execution, space, writes) {
        Ok(name) => return Ok((name, None)),
        Err(lack) => lack,
    };
    let denial = lacking(execution, space, lack, decision);
    let config = execution.lifecycle.config();
    // Who observes wants to learn what the agent does. The operator's ceiling holds all the same.
    let observes = config.policy.mode == Mode::Observe && config.ceiling.memory && execution.step.agent.is_some();
    match space.parse() {
        Ok(name) if observes => Ok((name, Some(denial))),
        _ => Err(CallError::Denied(denial)),
    }
}

fn granted(execution: &Execution, space: &str, writes: bool) -> Result<Name, Lack> {
    let granted = execution.grant.spaces.iter().find(|(name, _)| name.as_str() == space);
    match granted {
        Some((_, false)) if writes => Err(Lack::ReadOnly),
        Some((name, _)) => Ok(name.clone()),
        None => {
            let named = |agent: &crate::store::Agent| agent.manifest.spaces.iter().any(|s| s.space.as_str() == space);
            match execution.step.agent.as_deref() {
                Some(agent) if named(agent) && !execution.lifecycle.config().ceiling.memory => Err(Lack::Ceiling),
                Some(agent) if named(agent) => Err(Lack::Narrowed),
                _ => Err(Lack::NotInManifest),
            }
        }
    }
}

/// Says why the guest was not granted a space.
fn lacking(execution: &Execution, space: &str, lack: Lack, decision: &str) -> Denial {
    let space = cut(space);
    let granted: Vec<_> = execution.grant.spaces.keys().map(|name| format!("`{name}`")).collect();
    let spaces = (!granted.is_empty()).then(|| format!("memory spaces {} are available", granted.join(", ")));
    match lack {
        Lack::ReadOnly => {
            let message = format!("memory space `{space}` is given for reading only");
            let alternative = Some("getting and listing is available".to_owned());
            refused("READ_ONLY", message, "manifest.memory.writable", alternative, decision)
        }
        Lack::Ceiling => {
            refused("ABOVE_CEILING", "this daemon keeps no memory".into(), "ceiling.memory", None, decision)
        }
        Lack::Narrowed => {
            let message = format!("memory space `{space}` is left out for this step or tool");
            let rule = if execution.via.is_empty() { "request.narrow.spaces" } else { "manifest.tool.spaces" };
            refused("NARROWED", message, rule, spaces, decision)
        }
        Lack::NotInManifest | Lack::Disabled | Lack::TooDeep => {
            let message = match &execution.step.agent {
                Some(agent) => format!("memory space `{space}` is not in the manifest of {}", agent.reference()),
                None => "a component that runs without an agent has no memory".into(),
            };
            refused("NOT_IN_MANIFEST", message, "manifest.memory", spaces, decision)
        }
    }
}

/// Checks a call's form.
pub fn check(execution: &Execution, key: &str, verb: &Verb) -> Result<(), CallError> {
    let is_key = |key: &str| !key.is_empty() && key.len() as u64 <= KEY_BYTES_MAX && !key.chars().any(char::is_control);
    let bad = |what: &str| {
        invalid("KEY_INVALID", format!("the {what}: use 1 to {KEY_BYTES_MAX} bytes without control characters"))
    };
    match verb {
        Verb::List { after, limit } => {
            if !key.is_empty() && !is_key(key) {
                return Err(bad("prefix"));
            }
            if after.as_ref().is_some_and(|after| !is_key(after)) {
                return Err(bad("key to go on after"));
            }
            if *limit == 0 || u64::from(*limit) > LIST_MAX {
                return Err(invalid("KEY_INVALID", format!("`limit` is {limit}: use 1 to {LIST_MAX}")));
            }
            Ok(())
        }
        _ if !is_key(key) => Err(bad("key")),
        Verb::Put { value, .. } => {
            let max = execution.lifecycle.config().limits.memory_value_bytes;
            if value.len() as u64 > max {
                let message = format!("the value has {} bytes; the limit `memory_value_bytes` is {max}", value.len());
                return Err(invalid("VALUE_TOO_LARGE", message));
            }
            Ok(())
        }
        Verb::Get | Verb::Delete { .. } => Ok(()),
    }
}

/// Does it.
pub async fn perform(permit: &Permit<'_>, space: Name, key: String, verb: Verb) -> Done {
    let execution = permit.execution();
    let store = execution.lifecycle.memory().clone();
    let agent = execution.step.agent.as_ref().map(|agent| agent.reference()).unwrap_or_default();
    let writer = Writer { agent, step: execution.step.id.clone(), labels: execution.step.labels.texts() };
    let Amounts { bytes_out, bytes_in: allowed, .. } = permit.reserved();
    let (tenant, named) = (execution.step.tenant.name.clone(), space.clone());
    let calling = permit.calling.clone();
    let touching = move || {
        // The call ends with this, whatever becomes of who waits for it: whoever stops it waits for what is being written,
        // and after that nothing is.
        match calling.live.stop.by() {
            Some(hold) => Err(failed("HELD", living::why(&hold))),
            None => touch(&store, (tenant.as_str(), named.as_str()), &key, verb, writer),
        }
    };
    let done = spawn_blocking(touching).await;
    let result = done.unwrap_or_else(|e| Err(unavailable("STORAGE_UNAVAILABLE", e.to_string())));
    let bytes_in = result.as_ref().map_or(0, |touched| touched.answer.bytes());
    let used = Amounts { bytes_out, bytes_in: bytes_in.min(allowed), ..Amounts::default() };
    let touched = match result {
        Ok(_) if bytes_in > allowed => return Done::new(used, Err(too_much(execution, bytes_in))),
        Ok(touched) => touched,
        Err(error) => return Done::new(used, Err(error)),
    };
    let labels = if touched.reads { execution.lifecycle.config().space_labels(&space) } else { &[] };
    match permit.join(labels.iter().chain(&touched.labels)).await {
        Ok(()) => Done { kept: touched.payload.into_iter().collect(), ..Done::new(used, Ok(touched.answer)) },
        Err(error) => Done::new(used, Err(error)),
    }
}

/// What came of touching a space.
struct Touched {
    answer: Answer,
    payload: Option<Payload>,
    /// Something of the space comes back.
    reads: bool,
    /// Of what comes back.
    labels: Vec<Name>,
}

fn touch(
    store: &MemoryStore,
    (tenant, space): (&str, &str),
    key: &str,
    verb: Verb,
    writer: Writer,
) -> Result<Touched, CallError> {
    let now_ms = unix_ms();
    let reads = matches!(verb, Verb::Get | Verb::List { .. });
    let (mut payload, mut labels) = (None, Vec::new());
    let answer = match verb {
        Verb::Get => {
            let found = store.get(tenant, space, key, now_ms).map_err(error)?;
            if let Some(found) = &found {
                let media_type = "application/octet-stream".into();
                payload = Some(Payload { bytes: found.value.clone(), media_type });
                labels = names(&found.written_by);
            }
            Answer::Item(found.map(item))
        }
        Verb::List { after, limit } => {
            let found = store.list(tenant, space, key, after.as_deref(), limit as usize, now_ms).map_err(error)?;
            labels = found.iter().flat_map(|listed| names(&listed.written_by)).collect();
            Answer::Listed(found.into_iter().map(listed).collect())
        }
        Verb::Put { value, ttl_ms, if_version } => {
            let options = PutOptions { ttl_ms, if_version };
            Answer::Version(store.put(tenant, space, key, &value, options, &writer, now_ms).map_err(error)?)
        }
        Verb::Delete { if_version } => {
            Answer::Deleted(store.delete(tenant, space, key, if_version, now_ms).map_err(error)?)
        }
    };
    Ok(Touched { answer, payload, reads, labels })
}

fn names(writer: &Writer) -> Vec<Name> {
    writer.labels.iter().filter_map(|label| label.parse().ok()).collect()
}

fn error(error: MemoryError) -> CallError {
    let message = error.to_string();
    match error {
        MemoryError::Conflict { .. } => failed("MEMORY_CONFLICT", message),
        MemoryError::SpaceFull { .. } | MemoryError::TooManySpaces { .. } => failed("MEMORY_FULL", message),
        MemoryError::ValueTooLarge { .. } => invalid("VALUE_TOO_LARGE", message),
        MemoryError::BadKey(_) => invalid("KEY_INVALID", message),
        _ => {
            tracing::error!(error = message, "memory store");
            unavailable("STORAGE_UNAVAILABLE", "the memory store cannot be used now: see the daemon's log")
        }
    }
}

fn too_much(execution: &Execution, asked: u64) -> CallError {
    let left = execution.account.left().bytes_in;
    let limit = execution.account.limit().bytes_in;
    CallError::Exhausted(Exhaustion { account: "step".into(), dimension: "bytes_in".into(), limit, left, asked })
}

fn item(item: Item) -> step::Item {
    let mark = mark(item.version, item.written_by, item.written_ms, item.expires_ms);
    step::Item { value: item.value, mark }
}

fn listed(listed: Listed) -> step::Listed {
    let mark = mark(listed.version, listed.written_by, listed.written_ms, listed.expires_ms);
    step::Listed { key: listed.key, size: listed.size, mark }
}

fn mark(version: u64, by: Writer, written_ms: u64, expires_ms: Option<u64>) -> Mark {
    Mark { version, agent: by.agent, step: by.step, written_ms, expires_ms }
}

impl Lifecycle {
    /// Removes what has expired, now and then, until `stop`.
    pub async fn sweep_memory(&self, stop: CancellationToken) {
        let mut ticks = interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let store = self.memory().clone();
            if let Ok(Err(error)) = spawn_blocking(move || store.sweep(unix_ms())).await {
                tracing::warn!(%error, "expired memory cannot be removed");
            }
        }
    }
}
