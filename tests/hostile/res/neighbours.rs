//! One who behaves beside eight who do not, each of another tenant, with a share of the node's slots.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures::future::{Either, FutureExt as _, join_all, select};
use palisade_proto::v1;
use serde_json::{Value, json};
use tonic::transport::Endpoint;

use super::{
    super::{report, siege::end},
    MEMORY,
    acts::hostile,
    milliseconds,
};
use crate::harness::{Daemon, for_tenant, limited, probe};

/// Steps of the one who behaves, alone and under attack, in each round.
const STEPS: usize = 200;

/// The time between two of them.
const PACE: Duration = Duration::from_millis(20);

/// How much longer half of its steps may take: there are fewer processors than attackers.
const SLOWER: u32 = 3;

/// The machine has other things to do as well: so often it may be that which makes a round slow.
const ROUNDS: usize = 8;

async fn besieged() -> Daemon {
    let own = nix::unistd::getuid();
    let tenants: String = std::iter::once("victim")
        .chain(hostile().map(|(name, _)| name))
        .map(|name| format!("[[tenant]]\nname = \"{name}\"\ncallers = [\"unix:{own}\"]\n"))
        .collect();
    let limits = "[limits]\ntenant_concurrent_steps = 4\ntenant_memory_bytes = 268435456\n";
    Daemon::with(&format!("{limits}[workers]\nspares = 1\n{tenants}")).await
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
            let ended = end(channel.clone(), for_tenant("victim", probe(json!([{ "output": 100 }])))).await;
            assert_eq!(ended, "SUCCEEDED");
            times.push(asked.elapsed());
        }
        times.sort();
        times
    };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::spawn_blocking(move || runtime().block_on(steps)).await.unwrap()
}

/// Runs a tenant's hostile steps until it is given up.
async fn attack(daemon: &Daemon, tenant: &str, acts: &Value, ended: &AtomicUsize) {
    let limits =
        v1::StepLimits { memory_bytes: Some(MEMORY as i64), timeout: milliseconds(3_000), ..Default::default() };
    let slots = (0..4).map(|_| async {
        loop {
            end(daemon.channel.clone(), for_tenant(tenant, limited(probe(acts.clone()), limits))).await;
            ended.fetch_add(1, Relaxed);
        }
    });
    join_all(slots).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn res_12_who_behaves_is_served_as_before_beside_eight_who_do_not() {
    let (daemon, began) = (besieged().await, Instant::now());
    victim(&daemon).await;
    let hostile = hostile();
    let mut seen = Vec::new();
    for _round in 0..ROUNDS {
        let alone = victim(&daemon).await;
        let ended = AtomicUsize::new(0);
        let attacks = join_all(hostile.iter().map(|(tenant, acts)| attack(&daemon, tenant, acts, &ended)));
        // The first round of attacks starts the workers.
        let beside = async {
            while ended.load(Relaxed) < hostile.len() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            victim(&daemon).await
        };
        let Either::Right((beside, _)) = select(attacks.boxed(), beside.boxed()).await else {
            panic!("attacks never end")
        };
        let of = |times: &[Duration], percent: usize| times[times.len() * percent / 100];
        let (median, p99) = ((of(&alone, 50), of(&beside, 50)), (of(&alone, 99), of(&beside, 99)));
        println!("median {median:?}, 99 of 100 {p99:?}, {} hostile steps ended", ended.load(Relaxed));
        if median.1 <= SLOWER * median.0 {
            report::held(hostile.len(), hostile.len(), began.elapsed());
            return;
        }
        seen.push(median);
    }
    panic!("half of the steps of who behaves always took more than {SLOWER} times as long: {seen:?}");
}
