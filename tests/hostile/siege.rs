//! A daemon under attack: somebody else is served meanwhile, each attack ends with a name, and when it is over nothing
//! is left of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::stream::{self, StreamExt as _};
use palisade_proto::v1::{self, run_step_response::Message, steps_client::StepsClient};
use serde_json::json;
use tokio::task::JoinHandle;
use tonic::{
    IntoRequest,
    transport::{Channel, Endpoint},
};

use super::{holdings::Holdings, report};
use crate::harness::{Daemon, PATIENCE, for_tenant, limited, probe, reason, seconds};

/// Bytes by which the daemon may grow under any attack, and a worker beyond the memory of its steps.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// Steps at once in a besieged daemon.
pub const SLOTS: usize = 16;

/// The tenant of all callers, where there are no others.
const TENANT: &str = "default";

/// Attacks at once: the neighbour always has a slot.
const AT_ONCE: usize = 6;

/// How often the neighbour comes.
const PACE: Duration = Duration::from_millis(25);

/// One attack by a step: what it asks, and the codes with which it may end.
pub struct Attack {
    name: String,
    request: v1::RunStepRequest,
    ends: &'static [&'static str],
}

impl Attack {
    pub fn new(name: impl Into<String>, request: v1::RunStepRequest, ends: &'static [&'static str]) -> Self {
        Self { name: name.into(), request, ends }
    }
}

/// A daemon, its neighbour, and what it held before.
pub struct Siege {
    pub daemon: Daemon,
    tenant: &'static str,
    neighbour: Neighbour,
    before: Holdings,
    began: Instant,
    rows: usize,
    wrong: Vec<String>,
    forgiving: bool,
}

impl Siege {
    /// Starts a daemon with `extra` in its configuration, and measures it when it has run steps.
    pub async fn lay(extra: &str) -> Self {
        let limits = format!("[limits]\nconcurrent_steps = {SLOTS}\n");
        // A table cannot be opened twice.
        let extra =
            extra.strip_prefix("[limits]\n").map_or(format!("{extra}\n{limits}"), |own| format!("{limits}{own}"));
        Self::around(Daemon::with(&extra).await).await
    }

    /// Besieges a daemon that has `SLOTS` slots.
    pub async fn around(daemon: Daemon) -> Self {
        Self::beside(daemon, TENANT, TENANT).await
    }

    /// The same with attacks by one tenant and a neighbour of another, which has workers of its own.
    pub async fn beside(daemon: Daemon, tenant: &'static str, neighbour: &'static str) -> Self {
        all_slots_are_free(&daemon, tenant).await;
        let list = v1::ListRecordsRequest { page_size: 1_000, ..Default::default() };
        daemon.audit().list_records(for_tenant(tenant, list)).await.unwrap();
        end(daemon.channel.clone(), for_tenant(neighbour, probe(json!([])))).await;
        let before = Holdings::of(&daemon);
        let neighbour = Neighbour::of(&daemon, neighbour).await;
        Self { daemon, tenant, neighbour, before, began: Instant::now(), rows: 0, wrong: Vec::new(), forgiving: false }
    }

    /// Counts an attack, and what is wrong about how it ended.
    pub fn judge(&mut self, name: &str, held: Result<(), String>) {
        self.rows += 1;
        if let Err(wrong) = held {
            self.wrong.push(format!("  {name}: {wrong}"));
        }
    }

    /// Runs attacks, some at once, and judges each by the code with which it ended.
    pub async fn steps(&mut self, attacks: Vec<Attack>) {
        self.run(attacks, AT_ONCE).await;
    }

    /// Runs attacks all at once.
    pub async fn all_at_once(&mut self, attacks: Vec<Attack>) {
        self.run(attacks, usize::MAX).await;
    }

    async fn run(&mut self, attacks: Vec<Attack>, at_once: usize) {
        let channel = self.daemon.channel.clone();
        let ended = stream::iter(attacks).map(|attack| {
            let channel = channel.clone();
            async move {
                let began = Instant::now();
                let end = end(channel, attack.request).await;
                (attack.name, attack.ends, end, began.elapsed())
            }
        });
        let ended: Vec<_> = ended.buffer_unordered(at_once).collect().await;
        for (name, ends, end, took) in ended {
            let held = ends.contains(&end.as_str());
            self.judge(&name, held.then_some(()).ok_or_else(|| format!("{end} after {took:?}, not {ends:?}")));
        }
    }

    /// Pushes a component for the attacks that follow.
    pub async fn push(&self, bytes: &[u8]) -> String {
        self.daemon.push(bytes).await.unwrap_or_else(|status| panic!("it must be taken: {status:?}")).name
    }

    /// Says that the neighbour may have been refused meanwhile, though not every time.
    pub fn forgive_the_neighbour(&mut self) {
        self.forgiving = true;
    }

    /// Ends the siege: the neighbour was served, everything is free again, and the daemon has not grown. `budget` is the
    /// memory that the attacks' steps were allowed, all that ran at once together.
    pub async fn lift(mut self, budget: u64) -> Daemon {
        let (served, refused, peak) = self.neighbour.leave().await;
        let refused = if self.forgiving { Vec::new() } else { refused };
        self.wrong.extend(refused.into_iter().map(|why| format!("  the neighbour was not served: {why}")));
        if served == 0 {
            self.wrong.push("  the neighbour was never served".into());
        }
        if tokio::time::timeout(PATIENCE, all_slots_are_free(&self.daemon, self.tenant)).await.is_err() {
            self.wrong.push("  slots are missing".into());
        }
        let deadline = Instant::now() + PATIENCE / 2;
        while let Err(left) = Holdings::of(&self.daemon).is_no_more_than(&self.before) {
            if Instant::now() > deadline {
                self.wrong.push(format!("  something is left: {left}"));
                break;
            }
            tokio::time::sleep(PACE).await;
        }
        let peak = peak.max(Holdings::of(&self.daemon));
        self.wrong.extend(peak.has_grown_beyond(&self.before, GROWTH_BYTES_MAX, budget));
        if let Some(line) = self.daemon.log().lines().find(|line| line.contains("panicked")) {
            self.wrong.push(format!("  the daemon's log: {line}"));
        }
        let bad = self.wrong.len().min(self.rows);
        report::held(self.rows, self.rows - bad, self.began.elapsed());
        let wrong: Vec<_> = self.wrong.iter().map(|what| what.chars().take(2000).collect::<String>()).collect();
        assert!(wrong.is_empty(), "of {} attacks {bad} do not hold:\n{}", self.rows, wrong.join("\n"));
        self.daemon
    }
}

/// Runs a step and returns the code of its failure or refusal, or `SUCCEEDED`. Why the engine stopped a guest, by a trap
/// or for what is none, is all the same here.
pub async fn end(channel: Channel, request: impl IntoRequest<v1::RunStepRequest>) -> String {
    let run = async {
        let mut stream = StepsClient::new(channel).run_step(request).await?.into_inner();
        let mut result = None;
        while let Some(response) = stream.message().await? {
            if let Some(Message::Result(ended)) = response.message {
                result = Some(ended);
            }
        }
        Ok::<_, tonic::Status>(result)
    };
    match tokio::time::timeout(PATIENCE, run).await {
        Err(_) => "NEVER".into(),
        Ok(Err(refused)) if refused.details().is_empty() => format!("{:?}: {}", refused.code(), refused.message()),
        Ok(Err(refused)) => reason(&refused),
        Ok(Ok(None)) => "NO_RESULT".into(),
        Ok(Ok(Some(result))) => match result.failure {
            None => "SUCCEEDED".into(),
            Some(failure) if failure.code == "GUEST_STOPPED" => "TRAPPED".into(),
            Some(failure) => failure.code,
        },
    }
}

/// Fills every slot at once with steps that say so, and lets them go.
async fn all_slots_are_free(daemon: &Daemon, tenant: &str) {
    let acts = json!([{ "log": { "message": "here", "count": 1 } }, { "sleep": { "milliseconds": 50_000 } }]);
    let request = limited(probe(acts), v1::StepLimits { timeout: seconds(55), ..Default::default() });
    let mut running = Vec::new();
    for _ in 0..SLOTS {
        let mut stream = daemon.steps().run_step(for_tenant(tenant, request.clone())).await.unwrap().into_inner();
        while !matches!(stream.message().await.unwrap().unwrap().message, Some(Message::Event(_))) {}
        running.push(stream);
    }
}

/// Somebody else, who comes again and again with a small step and looks at the daemon's size.
struct Neighbour {
    leaving: Arc<AtomicBool>,
    served: JoinHandle<(usize, Vec<String>, Holdings)>,
}

impl Neighbour {
    async fn of(daemon: &Daemon, tenant: &'static str) -> Self {
        let leaving = Arc::new(AtomicBool::new(false));
        let channel = Endpoint::from_shared(daemon.endpoint()).unwrap().connect().await.unwrap();
        let (until, pid) = (leaving.clone(), daemon.child.id());
        let served = tokio::spawn(async move {
            let (mut served, mut refused, mut peak) = (0, Vec::new(), Holdings::default());
            while !until.load(Ordering::Relaxed) {
                match end(channel.clone(), for_tenant(tenant, probe(json!([{ "output": 1 }])))).await.as_str() {
                    "SUCCEEDED" => served += 1,
                    other => refused.push(other.to_owned()),
                }
                peak = peak.max(Holdings::memory(pid));
                tokio::time::sleep(PACE).await;
            }
            (served, refused, peak)
        });
        Self { leaving, served }
    }

    async fn leave(self) -> (usize, Vec<String>, Holdings) {
        self.leaving.store(true, Ordering::Relaxed);
        self.served.await.unwrap()
    }
}
