//! How late does a deadline take effect when every slot computes without end?

use palisade_proto::v1::{self, run_step_response::Message, steps_client::StepsClient};

use crate::{
    Server, load,
    report::{Goal, Report, Row, quantile},
};

const STEPS: usize = 64;
const ROUNDS: usize = 5;
const TIMEOUT_MS: i32 = 200;

pub async fn measure(report: &mut Report, daemon: &Server) -> anyhow::Result<()> {
    let steps = StepsClient::new(load::connect(&daemon.address).await?);
    let mut taken = Vec::new();
    for _ in 0..ROUNDS {
        let spinning = (0..STEPS).map(|_| spin(steps.clone()));
        taken.extend(futures::future::try_join_all(spinning).await?);
    }
    report.add(Row {
        id: "G8 p99".into(),
        what: format!("end of {STEPS} endless steps : their deadline"),
        samples: taken.len(),
        ours: quantile(&mut taken, 0.99),
        theirs: TIMEOUT_MS.into(),
        unit: "ms",
        // 50 ms late.
        goal: Goal::AtMost(1.25),
    });
    Ok(())
}

/// Returns the milliseconds that an endless step took by the worker's clock.
async fn spin(mut steps: StepsClient<tonic::transport::Channel>) -> anyhow::Result<f64> {
    let timeout = prost_types::Duration { seconds: 0, nanos: TIMEOUT_MS * 1_000_000 };
    let limits = v1::StepLimits { timeout: Some(timeout), fuel: Some(1_000_000_000_000), ..Default::default() };
    let request = v1::RunStepRequest {
        component: "probe".into(),
        input: br#"{"acts":["spin"]}"#.to_vec(),
        limits: Some(limits),
        ..Default::default()
    };
    let mut messages = steps.run_step(request).await?.into_inner();
    while let Some(response) = messages.message().await? {
        if let Some(Message::Result(result)) = response.message {
            let wall = result.usage.and_then(|usage| usage.wall_time).unwrap_or_default();
            anyhow::ensure!(result.failure.is_some_and(|failure| failure.code == "TIMEOUT"), "it was not the deadline");
            return Ok(wall.seconds as f64 * 1e3 + f64::from(wall.nanos) / 1e6);
        }
    }
    anyhow::bail!("no result")
}
