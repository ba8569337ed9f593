//! Callers that hang up: ten thousand, at every point of a step's life.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::future::join_all;
use palisade_proto::v1::{self, Effect, run_step_response::Message, steps_client::StepsClient};
use serde_json::{Value, json};
use tonic::transport::Endpoint;

use super::super::{
    report::number,
    siege::{SLOTS, Siege},
};
use crate::harness::{Daemon, asked, limited, seconds};

/// Callers at once: more than there are slots, so that some wait for one.
const CALLERS: u64 = 24;

/// Steps that one connection asks for: a caller that resets too many is sent away.
const STEPS_OF_CONNECTION: u64 = 10;

const PERMIT: &str = "permit (principal, action, resource) when { action in [Palisade::Action::\"CallTool\", Palisade::Action::\"UseMemory\"] };";

/// When a caller hangs up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    /// After so many microseconds, wherever the step is: before it is accepted, or while it waits for a slot.
    Soon,
    Accepted,
    /// After so many events: inside a host call, or while the guest computes.
    Event,
    /// Without reading, while events wait.
    Deaf,
    /// When the result is there.
    End,
}

/// A generator that is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What guests do meanwhile: compute, sleep, ask the host, speak, write, or end.
fn acts(random: &mut Random) -> Value {
    let said = json!({ "log": { "message": "here", "count": 1 + random.below(3) } });
    let last = match random.below(8) {
        0 => json!("spin"),
        1 => json!({ "sleep": { "milliseconds": 20_000 } }),
        2 => json!({ "repeat": { "count": 500, "act": { "memory-put": { "space": "s", "key": "k", "value": "v" } } } }),
        3 => {
            json!({ "repeat": { "count": 50, "act": { "call-tool": { "name": "t", "arguments": { "act": "spin" } } } } })
        }
        4 => json!({ "print": { "text": "x".repeat(30_000), "count": 30 } }),
        5 => json!({ "files": { "directory": "/workspace", "count": 20 } }),
        6 => json!("spin-in-host"),
        _ => json!({ "output": 1 }),
    };
    json!([said, last])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn res_14_ten_thousand_callers_hang_up_and_nothing_leaks() {
    let cancels = number("PALISADE_HOSTILE_CANCELS", 10_000);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let seed = number("PALISADE_HOSTILE_SEED", now) | 1;
    println!("PALISADE_HOSTILE_SEED={seed} PALISADE_HOSTILE_CANCELS={cancels}");
    let daemon = Daemon::governed(PERMIT, &format!("[limits]\nconcurrent_steps = {SLOTS}\n")).await;
    daemon.tool("t", Effect::Read).await.unwrap();
    daemon.agent("[[tool]]\nname = \"t\"\n[[memory]]\nspace = \"s\"\nwritable = true\n").await.unwrap();
    let mut siege = Siege::around(daemon).await;
    let left = AtomicU64::new(cancels);
    let endpoint = siege.daemon.endpoint();
    let callers = join_all((0..CALLERS).map(|n| caller(&endpoint, &left, Random(seed.wrapping_mul(2 * n + 1))))).await;
    let mut reached = BTreeMap::<Point, u64>::new();
    for (point, count) in callers.into_iter().flatten() {
        *reached.entry(point).or_default() += count;
    }
    println!("hung up: {reached:?}");
    for (point, count) in &reached {
        for n in 0..*count {
            siege.judge(&format!("{point:?} {n}"), Ok(()));
        }
    }
    assert_eq!(reached.values().sum::<u64>(), cancels);
    assert!(reached.len() == 5 && reached.values().all(|count| *count > cancels / 50), "{reached:?}");
    let daemon = siege.lift(SLOTS as u64 * 2 * (16 << 20)).await;
    // What an earlier daemon left unfinished, the next one says.
    let daemon = daemon.restart().await;
    assert!(!daemon.log().contains("unfinished"), "{}", daemon.log());
}

/// Asks for steps and hangs up, as long as there are any left to ask for.
async fn caller(endpoint: &str, left: &AtomicU64, mut random: Random) -> BTreeMap<Point, u64> {
    let mut reached = BTreeMap::new();
    let one_less = |left: u64| left.checked_sub(1);
    'connections: loop {
        let channel = Endpoint::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap();
        for _ in 0..STEPS_OF_CONNECTION {
            if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
                break 'connections;
            }
            let limits = v1::StepLimits { timeout: seconds(30), memory_bytes: Some(16 << 20), ..Default::default() };
            let request = limited(asked(acts(&mut random)), limits);
            let point = [Point::Soon, Point::Accepted, Point::Event, Point::Deaf, Point::End][random.below(5) as usize];
            let patience = Duration::from_micros(random.below(16_000));
            hang_up(StepsClient::new(channel.clone()), request, point, patience, random.below(4)).await;
            *reached.entry(point).or_default() += 1;
        }
    }
    reached
}

async fn hang_up(
    mut steps: StepsClient<tonic::transport::Channel>,
    request: v1::RunStepRequest,
    point: Point,
    patience: Duration,
    events: u64,
) {
    if point == Point::Soon {
        let _ = tokio::time::timeout(patience, steps.run_step(request)).await;
        return;
    }
    // Whoever is told to come back later has hung up as well.
    let Ok(accepted) = steps.run_step(request).await else { return };
    let mut stream = accepted.into_inner();
    let watch = async {
        let mut seen = 0;
        while let Ok(Some(response)) = stream.message().await {
            let reached = match (point, response.message) {
                (Point::Accepted, Some(Message::Accepted(_))) => true,
                (Point::Event, Some(Message::Event(_))) => {
                    seen += 1;
                    seen > events
                }
                (Point::End, Some(Message::Result(_))) => true,
                _ => false,
            };
            if reached {
                break;
            }
        }
    };
    match point {
        Point::Deaf => tokio::time::sleep(patience / 4).await,
        // Steps that never end are not waited for.
        _ => drop(tokio::time::timeout(Duration::from_millis(16) + patience, watch).await),
    }
}
