//! How far is a step, through both walls, from a gRPC call that does nothing, over the same kind of socket?

use futures::TryStreamExt as _;
use palisade_proto::v1::steps_client::StepsClient;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server as Grpc};

use crate::{
    Server, load,
    report::{Goal, Report, Row, quantile},
};

#[allow(clippy::unwrap_used)] // generated
mod echo {
    tonic::include_proto!("palisade.benches");
}

/// Calls of one round. Rounds of the two alternate, so that a noisy moment hits both.
const CALLS: usize = 2_000;
const ROUNDS: usize = 5;

pub async fn measure(report: &mut Report, daemon: &Server) -> anyhow::Result<()> {
    let bare = Server::echo()?;
    let steps = StepsClient::new(load::connect(&daemon.address).await?);
    let echoes = echo::echo_client::EchoClient::new(load::connect(&bare.address).await?);
    let step = || load::step(steps.clone());
    let say = || {
        let mut echoes = echoes.clone();
        async move {
            echoes.say(echo::Words { payload: br#"{"acts":[]}"#.to_vec() }).await?;
            Ok(())
        }
    };
    for in_flight in [1, 8, 64] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
        load::round(CALLS / 4, in_flight, step).await?;
        load::round(CALLS / 4, in_flight, say).await?;
        for _ in 0..ROUNDS {
            let round = load::round(CALLS, in_flight, step).await?;
            ours.extend(round.latencies_us);
            our_rates.push(round.calls_per_second);
            let round = load::round(CALLS, in_flight, say).await?;
            theirs.extend(round.latencies_us);
            their_rates.push(round.calls_per_second);
        }
        let samples = ours.len();
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let goal = if (in_flight, name) == (1, "p50") { Goal::AtMost(2.5) } else { Goal::None };
            report.add(Row {
                id: format!("G1 {name} at {in_flight}"),
                what: "RunStep : tonic echo, same transport".into(),
                ours: quantile(&mut ours, share),
                theirs: quantile(&mut theirs, share),
                unit: "µs",
                samples,
                goal,
            });
        }
        report.add(Row {
            id: format!("G1 throughput at {in_flight}"),
            what: "RunStep : tonic echo, same transport".into(),
            ours: quantile(&mut our_rates, 0.5),
            theirs: quantile(&mut their_rates, 0.5),
            unit: "calls/s",
            samples,
            goal: if in_flight == 64 { Goal::AtLeast(0.45) } else { Goal::None },
        });
    }
    Ok(())
}

struct Echo;

#[tonic::async_trait]
impl echo::echo_server::Echo for Echo {
    async fn say(&self, words: Request<echo::Words>) -> Result<Response<echo::Words>, Status> {
        Ok(Response::new(words.into_inner()))
    }
}

/// Serves echoes on a Unix socket of its own until it is killed.
pub async fn serve_echo() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("echo.sock");
    let incoming = UnixListenerStream::new(UnixListener::bind(&path)?).map_err(anyhow::Error::from);
    println!("unix:{}", path.display());
    Grpc::builder().add_service(echo::echo_server::EchoServer::new(Echo)).serve_with_incoming(incoming).await?;
    Ok(())
}
