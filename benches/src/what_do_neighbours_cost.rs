//! How long does a step of a tenant who behaves take beside eight who do not, beside the same alone?

/// As the hostile tests have it.
#[path = "../../tests/hostile/res/acts.rs"]
mod acts;

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use acts::hostile;
use futures::future::try_join_all;
use palisade_proto::v1::{self, steps_client::StepsClient};
use serde_json::{Value, json};

use crate::{
    Server, guest, home, load,
    report::{Goal, Report, Row, quantile},
};

const ROUNDS: usize = 5;

/// Steps of the one who behaves, alone and beside the others, in each round.
const STEPS: usize = 300;

/// The time between two of them.
const PACE: Duration = Duration::from_millis(20);

/// How many steps of each hostile tenant run at once.
const AT_ONCE: usize = 4;

pub async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let dir = home()?;
    let config = dir.path().join("palisade.toml");
    let caller = format!("unix:{}", fs::metadata(dir.path())?.uid());
    let tenants: String = std::iter::once("victim")
        .chain(hostile().map(|(name, _)| name))
        .map(|name| format!("[[tenant]]\nname = \"{name}\"\ncallers = [\"{caller}\"]\n"))
        .collect();
    fs::write(&config, format!("[limits]\ntenant_concurrent_steps = {AT_ONCE}\n{tenants}"))?;
    let daemon = Server::serve(&dir, |serve| serve.arg("--config").arg(&config))?;
    load::push(&daemon.address, &guest("probe"), "probe").await?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    victim(&daemon.address).await?;
    for _ in 0..ROUNDS {
        alone.extend(victim(&daemon.address).await?);
        let hostile = Server::attack(&daemon.address)?;
        beside.extend(victim(&daemon.address).await?);
        drop(hostile);
    }
    for (percent, goal) in [(0.5, Goal::None), (0.99, Goal::AtMost(2.0))] {
        report.add(Row {
            id: format!("neighbours p{}", percent * 100.0),
            what: "a step beside eight hostile tenants : alone".into(),
            ours: quantile(&mut beside, percent),
            theirs: quantile(&mut alone, percent),
            unit: "ms",
            samples: beside.len(),
            goal,
        });
    }
    Ok(())
}

/// Returns the milliseconds of the victim's steps: one every now and then.
async fn victim(address: &str) -> anyhow::Result<Vec<f64>> {
    let steps = StepsClient::new(load::connect(address).await?);
    let mut times = Vec::new();
    for _ in 0..STEPS {
        tokio::time::sleep(PACE).await;
        let asked = Instant::now();
        load::run(steps.clone(), request("victim", &json!([{ "output": 100 }]))?).await?;
        times.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Attacks the daemon at `address` until it is killed. Says a line when each of the hostile has come to an end once.
pub async fn attack(address: &str) -> anyhow::Result<()> {
    let channel = load::connect(address).await?;
    let (hostile, ended) = (hostile(), AtomicUsize::new(0));
    let slots = hostile.iter().flat_map(|attacker| [attacker; AT_ONCE]).map(|(tenant, acts)| {
        let (steps, ended, count) = (StepsClient::new(channel.clone()), &ended, hostile.len() * AT_ONCE);
        async move {
            for round in 0.. {
                // However it ends.
                let _ = load::run(steps.clone(), hostile_request(tenant, acts)?).await;
                if round == 0 && ended.fetch_add(1, Relaxed) + 1 == count {
                    println!("all");
                }
            }
            anyhow::Ok(())
        }
    });
    try_join_all(slots).await.map(drop)
}

/// Returns a request of a hostile tenant.
fn hostile_request(tenant: &str, acts: &Value) -> anyhow::Result<tonic::Request<v1::RunStepRequest>> {
    let mut request = request(tenant, acts)?;
    request.get_mut().limits = Some(v1::StepLimits {
        memory_bytes: Some(32 << 20),
        timeout: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
        ..Default::default()
    });
    Ok(request)
}

fn request(tenant: &str, acts: &Value) -> anyhow::Result<tonic::Request<v1::RunStepRequest>> {
    let input = json!({ "acts": acts }).to_string().into_bytes();
    let mut request =
        tonic::Request::new(v1::RunStepRequest { component: "probe".into(), input, ..Default::default() });
    request.metadata_mut().insert("palisade-tenant", tenant.parse()?);
    Ok(request)
}
