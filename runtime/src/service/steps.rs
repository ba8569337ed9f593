//! `Steps`: one stream for each step.

use std::pin::Pin;

use futures::{Stream, stream};
use palisade_proto::v1::{self, run_step_response, steps_server::Steps};
use tonic::{Request, Response, Status};

use super::{convert, status};
use crate::{
    config::AskedLimits,
    lifecycle::{Lifecycle, MountUse, StepRequest, StepRun},
    worker::Message,
};

/// Serves `palisade.v1.Steps`.
pub struct Service(pub Lifecycle);

#[tonic::async_trait]
impl Steps for Service {
    type RunStepStream = Pin<Box<dyn Stream<Item = Result<v1::RunStepResponse, Status>> + Send>>;

    async fn run_step(&self, request: Request<v1::RunStepRequest>) -> Result<Response<Self::RunStepStream>, Status> {
        let run = self.0.run_step(step_request(request.into_inner())?).await.map_err(status::run)?;
        Ok(Response::new(Box::pin(responses(run))))
    }
}

/// What is still to be said of a step.
enum Next {
    Accepted(StepRun),
    Message(StepRun, i64),
    Nothing,
}

/// Returns the responses of a step. Dropping the stream, as a hang-up does, cancels the step.
fn responses(run: StepRun) -> impl Stream<Item = Result<v1::RunStepResponse, Status>> {
    stream::unfold(Next::Accepted(run), async |next| {
        let (message, next) = match next {
            Next::Accepted(run) => (accepted(&run), Next::Message(run, 1)),
            Next::Message(mut run, sequence) => match run.next().await? {
                Message::Event(event) => {
                    let event = run_step_response::Message::Event(convert::event(sequence, event));
                    (event, Next::Message(run, sequence + 1))
                }
                Message::Done(outcome, usage) => {
                    let result = convert::result(run.accepted.step.clone(), outcome, &usage);
                    (run_step_response::Message::Result(result), Next::Nothing)
                }
            },
            Next::Nothing => return None,
        };
        Some((Ok(v1::RunStepResponse { message: Some(message) }), next))
    })
}

fn accepted(run: &StepRun) -> run_step_response::Message {
    run_step_response::Message::Accepted(v1::StepAccepted {
        step: run.accepted.step.clone(),
        component: format!("components/{}", run.accepted.component),
        limits: Some(convert::limits(&run.accepted.limits)),
    })
}

fn step_request(request: v1::RunStepRequest) -> Result<StepRequest, Status> {
    let asked = request.limits.unwrap_or_default();
    let timeout_ms = match asked.timeout {
        None => None,
        Some(timeout) => Some(milliseconds(&timeout).ok_or_else(|| {
            let message =
                "`limits.timeout` is not a duration of whole nanoseconds between -999,999,999 and 999,999,999";
            status::bad_field("LIMIT_INVALID", "limits.timeout", message)
        })?),
    };
    let limits = AskedLimits {
        fuel: asked.fuel,
        memory_bytes: asked.memory_bytes,
        timeout_ms,
        output_bytes: asked.output_bytes,
        stdio_bytes: asked.stdio_bytes,
        events: asked.events,
    };
    let mounts = request.mounts.into_iter().map(|m| MountUse { mount: m.mount, path: m.path, read_only: m.read_only });
    Ok(StepRequest {
        component: request.component,
        input: request.input,
        content_type: request.content_type,
        args: request.args,
        env: request.env.into_iter().collect(),
        workspace: request.workspace,
        mounts: mounts.collect(),
        limits,
    })
}

/// Returns a duration in milliseconds, rounded towards zero. `None` if it is not a valid one.
fn milliseconds(time: &prost_types::Duration) -> Option<i64> {
    let valid = time.nanos.abs() < 1_000_000_000 && i128::from(time.seconds) * i128::from(time.nanos) >= 0;
    let milliseconds = time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos) / 1_000_000);
    valid.then_some(milliseconds)
}
