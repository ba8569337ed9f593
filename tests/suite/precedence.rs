//! Who computes first: a tenant that computes much leaves processors to the others, and gets them back.

use std::fs;

use nix::{
    sched::{CpuSet, sched_getaffinity},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use palisade_proto::v1::{self, hold::Action, run_step_response::Message};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, timeout};
use tonic::Streaming;

use crate::{
    control::{imposed, order},
    harness::{Daemon, PATIENCE, eventually, for_tenant, limited, probe, seconds},
};

/// How the kernel runs a process: whether all its threads have what others leave only, and on which processors.
#[derive(Debug, PartialEq)]
struct Placed {
    last: bool,
    processors: CpuSet,
}

fn placed(process: i32) -> Option<Placed> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let threads: Vec<_> =
        tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse::<i32>().unwrap()).collect();
    // SAFETY: takes a number.
    let last: Vec<_> = threads.iter().map(|id| unsafe { libc::sched_getscheduler(*id) } == libc::SCHED_IDLE).collect();
    let processors: Vec<_> = threads.iter().filter_map(|id| sched_getaffinity(Pid::from_raw(*id)).ok()).collect();
    let alike = last.iter().all(|one| *one == last[0]) && processors.iter().all(|one| *one == processors[0]);
    alike.then(|| Placed { last: last[0], processors: processors[0] })
}

fn own() -> CpuSet {
    sched_getaffinity(Pid::from_raw(0)).unwrap()
}

fn count(set: &CpuSet) -> usize {
    (0..CpuSet::count()).filter(|at| set.is_set(*at).unwrap()).count()
}

/// Whether this process, and so the daemon, may give a thread the usual class back.
fn may_come_first() -> bool {
    let tried = || {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: both read the parameters during the call.
        unsafe {
            assert_eq!(libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters), 0);
            libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) == 0
        }
    };
    std::thread::spawn(tried).join().unwrap()
}

/// All but one, where there are several.
fn is_confined(placed: &Placed) -> bool {
    placed.last && count(&placed.processors) == (count(&own()) - 1).max(1)
}

async fn two_tenants() -> Daemon {
    let own = nix::unistd::getuid();
    let tenant = |name| format!("[[tenant]]\nname = \"{name}\"\ncallers = [\"unix:{own}\"]\n");
    Daemon::with(&format!("[workers]\nspares = 0\n{}{}", tenant("greedy"), tenant("modest"))).await
}

/// As many steps of the greedy one as are much on this node.
async fn spin(daemon: &Daemon) -> Vec<(String, Streaming<v1::RunStepResponse>)> {
    let mut spinning = Vec::new();
    for _ in 0..=count(&own()) / 4 {
        spinning.push(spins(daemon).await);
    }
    spinning
}

/// A step of the greedy one that computes until it is stopped.
async fn spins(daemon: &Daemon) -> (String, Streaming<v1::RunStepResponse>) {
    spins_for(daemon, 300).await
}

/// The same, for so many seconds at most. It says when it begins.
async fn spins_for(daemon: &Daemon, timeout: i64) -> (String, Streaming<v1::RunStepResponse>) {
    let limits = v1::StepLimits { timeout: seconds(timeout), fuel: Some(1_000_000_000_000), ..Default::default() };
    let acts = json!([{ "log": { "message": "running", "count": 1 } }, "spin"]);
    let request = for_tenant("greedy", limited(probe(acts), limits));
    let mut stream = daemon.steps().run_step(request).await.unwrap().into_inner();
    let Some(Message::Accepted(accepted)) = stream.message().await.unwrap().unwrap().message else { panic!() };
    (accepted.step, stream)
}

/// Runs short steps, one after another, until `holds`.
async fn until(daemon: &Daemon, tenant: &str, what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        runs(daemon, tenant).await;
        tokio::time::sleep(Duration::from_millis(100)).await; // it is modest
    }
}

async fn runs(daemon: &Daemon, tenant: &str) {
    let ran = daemon.run(for_tenant(tenant, probe(json!([{ "output": 10 }])))).await.unwrap();
    assert_eq!(ran.outcome(), v1::step_result::Outcome::Succeeded);
}

/// The worker of a tenant that was started last.
fn worker_of(daemon: &Daemon, tenant: &str) -> i32 {
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("\"worker ready\""));
    let mut fields = lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"].clone());
    fields.rfind(|fields| fields["tenant"] == tenant).unwrap()["pid"].as_i64().unwrap() as i32
}

#[tokio::test(flavor = "multi_thread")]
async fn who_computes_much_comes_last_while_another_runs_steps_and_first_after_it_computed_little() {
    let daemon = two_tenants().await;
    let spinning = spin(&daemon).await;
    runs(&daemon, "modest").await;
    let (greedy, modest) = (worker_of(&daemon, "greedy"), worker_of(&daemon, "modest"));
    until(&daemon, "modest", "it comes last", || placed(greedy).is_some_and(|placed| is_confined(&placed))).await;
    let first = Placed { last: false, processors: own() };
    assert_eq!(placed(modest), Some(first));

    for (step, _stream) in &spinning {
        imposed(&daemon, order(Action::Kill, step)).await.unwrap();
    }
    until(&daemon, "greedy", "it comes first again", || daemon.log().contains("\"tenant\":\"greedy\",\"last\":false"))
        .await;
    runs(&daemon, "greedy").await;
    let first = || placed(worker_of(&daemon, "greedy")) == Some(Placed { last: false, processors: own() });
    eventually("its worker comes first", first).await;
    if !may_come_first() {
        assert!(daemon.log().contains("\"reason\":\"precedence\""), "by another worker, since that one cannot");
        eventually("it has gone", || !daemon.children().contains(&greedy)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_alone_has_all_processors_however_much_it_computes() {
    let daemon = two_tenants().await;
    let mut spinning = Vec::new();
    for _ in 0..count(&own()) {
        spinning.push(spins(&daemon).await);
    }
    let greedy = worker_of(&daemon, "greedy");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        runs(&daemon, "greedy").await;
        assert_eq!(placed(greedy), Some(Placed { last: false, processors: own() }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_last_comes_first_while_it_has_to_stop_a_step_for_a_hold() {
    let daemon = two_tenants().await;
    let _spinning = spin(&daemon).await;
    let hurried = Placed { last: !may_come_first(), processors: own() };
    // The moment may be over before it is seen, on a machine that is busy.
    for _attempt in 0..10 {
        let (step, _too) = spins(&daemon).await;
        let greedy = worker_of(&daemon, "greedy");
        let confined = || placed(greedy).is_some_and(|placed| is_confined(&placed));
        until(&daemon, "modest", "it comes last, also after a kill", confined).await;
        let is_seen = async {
            while placed(greedy).as_ref() != Some(&hurried) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let killed = order(Action::Kill, &step);
        let (seen, killed) = tokio::join!(timeout(Duration::from_secs(1), is_seen), imposed(&daemon, killed));
        killed.unwrap();
        if seen.is_ok() {
            until(&daemon, "modest", "it comes last again", confined).await;
            return;
        }
    }
    panic!("it never came first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_last_comes_first_when_it_is_late_to_end_a_step_and_not_before() {
    let daemon = two_tenants().await;
    let _spinning = spin(&daemon).await;
    let greedy = worker_of(&daemon, "greedy");
    let confined = || placed(greedy).is_some_and(|placed| is_confined(&placed));
    until(&daemon, "modest", "it comes last", confined).await;

    // It may be over before it gets a processor, on a machine that is busy.
    for _attempt in 0..10 {
        let asked = Instant::now();
        let (_, mut late) = spins_for(&daemon, 2).await;
        if says(&mut late).await.is_err() {
            continue;
        }
        // As one that gets no processor any more.
        kill(Pid::from_raw(greedy), Signal::SIGSTOP).unwrap();
        let hurried = Placed { last: !may_come_first(), processors: own() };
        while placed(greedy).as_ref() != Some(&hurried) {
            assert!(asked.elapsed() < PATIENCE, "it never came first");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Its deadline, and half of what it may be late.
        assert!(asked.elapsed() > Duration::from_secs(3), "after {:?}", asked.elapsed());
        kill(Pid::from_raw(greedy), Signal::SIGCONT).unwrap();
        assert_eq!(says(&mut late).await, Err(v1::step_result::Outcome::LimitExceeded));
        until(&daemon, "modest", "it comes last again", confined).await;
        return;
    }
    panic!("it never began");
}

/// Waits until a step says something, or returns how it ended.
async fn says(step: &mut Streaming<v1::RunStepResponse>) -> Result<(), v1::step_result::Outcome> {
    loop {
        match step.message().await.unwrap().unwrap().message.unwrap() {
            Message::Event(_) => return Ok(()),
            Message::Result(result) => return Err(result.outcome()),
            Message::Accepted(_) => {}
        }
    }
}
