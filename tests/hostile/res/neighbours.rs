//! One who behaves beside eight who do not, each of another tenant, with a share of the node's slots.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures::future::join_all;
use palisade_proto::v1::{self, hold::Action, run_step_response::Message};
use serde_json::{Value, json};
use tonic::transport::Endpoint;

use super::{
    super::{report, siege::end},
    MEMORY,
    acts::hostile,
    milliseconds,
};
use crate::{
    control::{
        imposed, order,
        times::{BOUND, STOPS, Times, answer, in_time, took},
    },
    harness::{Daemon, eventually, for_tenant, limited, probe},
};

/// Steps of the one who behaves, alone and under attack, in each round.
const STEPS: usize = 200;

/// The time between two of them.
const PACE: Duration = Duration::from_millis(20);

/// How much longer 99 of 100 of its steps may take.
const SLOWER: u32 = 2;

/// After it a worker is started again in place of one that was lost.
const PAUSE: Duration = Duration::from_secs(5);

/// The machine has other things to do as well: so often it may be that which makes a round slow.
const ROUNDS: usize = 10;

async fn besieged() -> Daemon {
    let own = nix::unistd::getuid();
    let tenants: String = std::iter::once("victim")
        .chain(hostile().map(|(name, _)| name))
        .map(|name| format!("[[tenant]]\nname = \"{name}\"\ncallers = [\"unix:{own}\"]\n"))
        .collect();
    let limits = "[limits]\ntenant_concurrent_steps = 8\ntenant_memory_bytes = 268435456\n";
    Daemon::with(&format!("{limits}[workers]\nspares = 1\n{tenants}")).await
}

fn modest() -> tonic::Request<v1::RunStepRequest> {
    for_tenant("victim", probe(json!([{ "output": 100 }])))
}

/// Times of the victim's steps: one every now and then, over a connection and from a thread of its own.
async fn victim(daemon: &Daemon) -> Vec<Duration> {
    let endpoint = daemon.endpoint();
    let steps = async move {
        let channel = Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
        let mut times = Vec::new();
        for _ in 0..STEPS {
            tokio::time::sleep(PACE).await;
            let asked = Instant::now();
            let ended = end(channel.clone(), modest()).await;
            assert_eq!(ended, "SUCCEEDED");
            times.push(asked.elapsed());
        }
        times.sort();
        times
    };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::spawn_blocking(move || runtime().block_on(steps)).await.unwrap()
}

/// Steps of each hostile tenant at once.
const AT_ONCE: usize = 4;

/// The hostile tenants, who attack until this is given up.
#[derive(Default)]
struct Attacks {
    ended: AtomicUsize,
    /// Slots of which a step has ended: their workers are there, and it is known who computes much.
    begun: AtomicUsize,
}

impl Attacks {
    async fn go_on(&self, daemon: &Daemon) {
        let hostile = hostile();
        let slots = hostile.iter().flat_map(|attacker| [attacker; AT_ONCE]);
        join_all(slots.map(|(tenant, acts)| self.attack(daemon, tenant, acts))).await;
    }

    async fn attack(&self, daemon: &Daemon, tenant: &str, acts: &Value) {
        let limits =
            v1::StepLimits { memory_bytes: Some(MEMORY as i64), timeout: milliseconds(3_000), ..Default::default() };
        for round in 0.. {
            end(daemon.channel.clone(), for_tenant(tenant, limited(probe(acts.clone()), limits))).await;
            self.ended.fetch_add(1, Relaxed);
            self.begun.fetch_add(usize::from(round == 0), Relaxed);
        }
    }

    async fn have_begun(&self) {
        while self.begun.load(Relaxed) < hostile().len() * AT_ONCE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn res_12_who_behaves_is_served_as_before_beside_eight_who_do_not() {
    let (daemon, began) = (besieged().await, Instant::now());
    victim(&daemon).await;
    let mut seen = Vec::new();
    for _round in 0..ROUNDS {
        let count = |what| daemon.log().matches(what).count();
        eventually("attacks have ended", || count("\"step accepted\"") == count("\"step ended\"")).await;
        let alone = victim(&daemon).await;
        let attacks = Attacks::default();
        let beside = async {
            attacks.have_begun().await;
            victim(&daemon).await
        };
        let beside = tokio::select! {
            beside = beside => beside,
            () = attacks.go_on(&daemon) => panic!("attacks never end"),
        };
        let of = |times: &[Duration], percent: usize| times[times.len() * percent / 100];
        let (median, p99) = ((of(&alone, 50), of(&beside, 50)), (of(&alone, 99), of(&beside, 99)));
        println!("median {median:?}, 99 of 100 {p99:?}, {} hostile steps ended", attacks.ended.load(Relaxed));
        if p99.1 <= SLOWER * p99.0 {
            report::held(hostile().len(), hostile().len(), began.elapsed());
            return;
        }
        seen.push(p99);
    }
    panic!("99 of 100 steps of who behaves always took more than {SLOWER} times as long: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn res_12_who_comes_last_is_stopped_in_time() {
    let (daemon, began) = (besieged().await, Instant::now());
    let attacks = Attacks::default();
    let stopped = async {
        attacks.have_begun().await;
        let mut late = Vec::new();
        for _round in 0..ROUNDS {
            let mut times = Times::default();
            while times.stops.len() < STOPS && stops(&daemon, "spins", &mut times).await.is_some() {}
            if times.stops.len() < STOPS {
                late.push("a worker was lost".to_owned());
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            match in_time(times) {
                Ok(()) => return,
                Err(times) => late.push(format!("{times:?}")),
            }
        }
        panic!("99 of 100 were never stopped within {BOUND:?} and what an answer takes: {late:?}");
    };
    let served = async {
        loop {
            end(daemon.channel.clone(), modest()).await;
            tokio::time::sleep(PACE).await;
        }
    };
    tokio::select! {
        () = stopped => report::held(1, 1, began.elapsed()),
        () = served => panic!("who behaves never ends"),
        () = attacks.go_on(&daemon) => panic!("attacks never end"),
    }
}

/// Starts a few steps of a tenant that compute until they are stopped, kills them, and notes how long that took. One that
/// does not end in time takes its worker with it, and the others with that: then none is returned.
async fn stops(daemon: &Daemon, tenant: &str, times: &mut Times) -> Option<()> {
    let mut running = Vec::new();
    for _ in 0..4 {
        let acts = json!([{ "log": { "message": "running", "count": 1 } }, "spin"]);
        let limits = v1::StepLimits {
            memory_bytes: Some(16 << 20),
            timeout: milliseconds(60_000),
            fuel: Some(1_000_000_000_000),
            ..Default::default()
        };
        let request = for_tenant(tenant, limited(probe(acts), limits));
        let mut stream = daemon.steps().run_step(request).await.ok()?.into_inner();
        let Some(Message::Accepted(accepted)) = stream.message().await.unwrap().unwrap().message else { panic!() };
        while !matches!(stream.message().await.ok()??.message, Some(Message::Event(_))) {}
        running.push((accepted.step, stream));
    }
    for (step, _stream) in &running {
        times.answers.push(answer(daemon).await);
        let killed = imposed(daemon, order(Action::Kill, step)).await.unwrap();
        times.stops.push(took(killed.evidence.unwrap().steps.first()?.took.as_ref()));
    }
    Some(())
}
