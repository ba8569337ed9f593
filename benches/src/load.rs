//! Calls a server from several tasks at once, and times each call.

use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use palisade_proto::v1::{self, push_component_request::Message, step_result::Outcome};
use tonic::transport::{Channel, Endpoint};

/// How the probe says that an act failed.
const FAILED: &[u8] = b"\"error: ";

/// What a round of calls took.
pub struct Round {
    /// Microseconds of each call.
    pub latencies_us: Vec<f64>,
    pub calls_per_second: f64,
}

/// Makes calls for so long, `in_flight` at once; at least one each.
pub async fn round<F: Future<Output = anyhow::Result<()>>>(
    lasting: Duration,
    in_flight: usize,
    call: impl Fn() -> F,
) -> anyhow::Result<Round> {
    let start = Instant::now();
    let caller = async || {
        let mut latencies_us = Vec::new();
        while latencies_us.is_empty() || start.elapsed() < lasting {
            let start = Instant::now();
            call().await?;
            latencies_us.push(start.elapsed().as_secs_f64() * 1e6);
        }
        anyhow::Ok(latencies_us)
    };
    let callers = futures::future::try_join_all((0..in_flight).map(|_| caller())).await?;
    let latencies_us: Vec<_> = callers.into_iter().flatten().collect();
    let calls_per_second = latencies_us.len() as f64 / start.elapsed().as_secs_f64();
    Ok(Round { latencies_us, calls_per_second })
}

pub async fn connect(address: &str) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(address.to_owned())?.connect().await?)
}

/// Pushes a guest.
pub async fn push(address: &str, file: &Path, alias: &str) -> anyhow::Result<()> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let header = v1::PushHeader { alias: alias.into(), ..Default::default() };
    let messages = std::iter::once(Message::Header(header)).chain([Message::Chunk(bytes)]);
    let requests: Vec<_> = messages.map(|message| v1::PushComponentRequest { message: Some(message) }).collect();
    let mut components = v1::components_client::ComponentsClient::new(connect(address).await?);
    components.push_component(tokio_stream::iter(requests)).await?;
    Ok(())
}

/// Runs one step that does nothing, to its result.
pub async fn step(steps: v1::steps_client::StepsClient<Channel>) -> anyhow::Result<()> {
    let input = br#"{"acts":[]}"#.to_vec();
    let request = v1::RunStepRequest { component: "probe".into(), input, ..Default::default() };
    run(steps, request).await.map(drop)
}

/// Runs a step of the probe to its result. It is an error if one of its acts failed.
pub async fn run(
    mut steps: v1::steps_client::StepsClient<Channel>,
    request: impl tonic::IntoRequest<v1::RunStepRequest>,
) -> anyhow::Result<v1::StepResult> {
    let mut messages = steps.run_step(request).await?.into_inner();
    let mut last = None;
    while let Some(message) = messages.message().await? {
        last = message.message;
    }
    let Some(v1::run_step_response::Message::Result(result)) = last else {
        anyhow::bail!("the step ended with {last:?}");
    };
    let failed = result.output.windows(FAILED.len()).any(|words| words == FAILED);
    anyhow::ensure!(result.outcome() == Outcome::Succeeded && !failed, "the step ended with {result:?}");
    Ok(result)
}
