//! How far is a step, through both walls and the gate, from a gRPC call that does nothing, over the same kind of socket?

use std::{future::Future, path::Path, time::Duration};

use futures::TryStreamExt as _;
use palisade_proto::v1::steps_client::StepsClient;
use serde_json::json;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server as Grpc};

use crate::{
    Server, governed, home, load,
    report::{Goal, Report, Row, quantile},
};

#[allow(clippy::unwrap_used)] // generated
mod echo {
    tonic::include_proto!("palisade.benches");
}

/// Rounds of the two alternate, so that a noisy moment hits both.
const ROUND: Duration = Duration::from_millis(400);
const ROUNDS: usize = 5;

pub async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let bare = Server::echo()?;
    let echoes = echo::echo_client::EchoClient::new(load::connect(&bare.address).await?);
    for acknowledge in ["asynchronous", "durable"] {
        let dir = home()?;
        let daemon = governed::start(&dir, acknowledge).await?;
        let steps = StepsClient::new(load::connect(&daemon.address).await?);
        let calls = json!([governed::call(), governed::get()]);
        for (what, acts) in [("step", json!([])), ("step, tool call, memory get", calls)] {
            let request = governed::request(&acts);
            let step = || {
                let (steps, request) = (steps.clone(), request.clone());
                async { load::run(steps, request).await.map(drop) }
            };
            let say = || {
                let (mut echoes, payload) = (echoes.clone(), request.input.clone());
                async move {
                    echoes.say(echo::Words { payload }).await?;
                    Ok(())
                }
            };
            let what = format!("{what}, {acknowledge} : tonic echo");
            for in_flight in [1, 64] {
                compare(report, &what, in_flight, goal(in_flight, acknowledge), step, say).await?;
            }
        }
    }
    Ok(())
}

/// One in flight, the goal is about the median; with 64, about the throughput.
fn goal(in_flight: usize, acknowledge: &str) -> Goal {
    match (in_flight, acknowledge) {
        (1, "asynchronous") => Goal::AtMost(2.5),
        (64, "asynchronous") => Goal::AtLeast(0.45),
        (64, "durable") => Goal::AtLeast(0.35),
        _ => Goal::None,
    }
}

async fn compare<O: Future<Output = anyhow::Result<()>>, T: Future<Output = anyhow::Result<()>>>(
    report: &mut Report,
    what: &str,
    in_flight: usize,
    goal: Goal,
    step: impl Fn() -> O,
    say: impl Fn() -> T,
) -> anyhow::Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
    load::round(ROUND, in_flight, &step).await?;
    load::round(ROUND, in_flight, &say).await?;
    for _ in 0..ROUNDS {
        let round = load::round(ROUND, in_flight, &step).await?;
        ours.extend(round.latencies_us);
        our_rates.push(round.calls_per_second);
        let round = load::round(ROUND, in_flight, &say).await?;
        theirs.extend(round.latencies_us);
        their_rates.push(round.calls_per_second);
    }
    let samples = ours.len();
    let row = |name: &str, (ours, theirs), unit, goal| Row {
        id: format!("G1 {name} at {in_flight}"),
        what: what.into(),
        ours,
        theirs,
        unit,
        samples,
        goal,
    };
    let mut latency = |share| (quantile(&mut ours, share), quantile(&mut theirs, share));
    if in_flight == 1 {
        report.add(row("p50", latency(0.5), "µs", goal));
    } else {
        let rates = (quantile(&mut our_rates, 0.5), quantile(&mut their_rates, 0.5));
        report.add(row("throughput", rates, "calls/s", goal));
    }
    report.add(row("p99", latency(0.99), "µs", Goal::None));
    Ok(())
}

struct Echo;

#[tonic::async_trait]
impl echo::echo_server::Echo for Echo {
    async fn say(&self, words: Request<echo::Words>) -> Result<Response<echo::Words>, Status> {
        Ok(Response::new(words.into_inner()))
    }
}

/// Serves echoes on a Unix socket until it is killed.
pub async fn serve_echo(path: &Path) -> anyhow::Result<()> {
    let incoming = UnixListenerStream::new(UnixListener::bind(path)?).map_err(anyhow::Error::from);
    println!("unix:{}", path.display());
    Grpc::builder().add_service(echo::echo_server::EchoServer::new(Echo)).serve_with_incoming(incoming).await?;
    Ok(())
}
