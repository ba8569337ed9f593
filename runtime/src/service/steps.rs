//! `Steps`: one stream for each step.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
};

use futures::{Stream, stream};
use palisade_proto::v1::{self, run_step_response, steps_server::Steps};
use tonic::{Request, Response, Status};

use super::{callers, convert, status};
use crate::{
    config::{AskedBudget, AskedLimits},
    lifecycle::{Lifecycle, Message, MountUse, Narrowing, StepRequest, StepRun},
    telemetry::{Context, Span},
};

/// The method's name in traces.
const RUN_STEP: &str = "palisade.v1.Steps/RunStep";

/// Serves `palisade.v1.Steps`.
pub struct Service(pub Lifecycle);

#[tonic::async_trait]
impl Steps for Service {
    type RunStepStream = Pin<Box<dyn Stream<Item = Result<v1::RunStepResponse, Status>> + Send>>;

    async fn run_step(&self, request: Request<v1::RunStepRequest>) -> Result<Response<Self::RunStepStream>, Status> {
        let header = |name| request.metadata().get(name).and_then(|value| value.to_str().ok());
        let context = Context::from_headers(header("traceparent"), header("tracestate"));
        let caller = callers::name(&request);
        let tenant = callers::said_tenant(&request)?.to_owned();
        let mut span = self.0.telemetry().rpc(&context, RUN_STEP);
        let started = async {
            let request =
                StepRequest { caller, tenant, context: span.context().clone(), ..step_request(request.into_inner())? };
            self.0.run_step(request).await.map_err(status::run)
        };
        match started.await {
            Ok(run) => Ok(Response::new(Box::pin(responses(run, span)))),
            Err(refused) => {
                span.rpc_ended(refused.code() as i32, refused.message());
                Err(refused)
            }
        }
    }
}

/// What is still to be said of a step.
enum Next {
    Accepted(StepRun, Span),
    Message(StepRun, Span, i64),
    Nothing,
}

/// Returns the responses of a step. Dropping the stream, as a hang-up does, cancels the step.
fn responses(run: StepRun, span: Span) -> impl Stream<Item = Result<v1::RunStepResponse, Status>> {
    stream::unfold(Next::Accepted(run, span), async |next| {
        let (message, next) = match next {
            Next::Accepted(run, span) => (accepted(&run), Next::Message(run, span, 1)),
            Next::Message(mut run, mut span, sequence) => match run.next().await? {
                Message::Event(tool, event) => {
                    let event = run_step_response::Message::Event(convert::event(sequence, tool, event));
                    (event, Next::Message(run, span, sequence + 1))
                }
                Message::Done(finished) => {
                    span.rpc_ended(0, "");
                    let result = convert::result(run.accepted.step.clone(), *finished);
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
        agent: run.accepted.agent.as_ref().map(|agent| format!("agents/{agent}")).unwrap_or_default(),
        budget: Some(convert::budget(&run.accepted.budget)),
        seed: run.accepted.origin.seed.to_vec(),
        start_time: Some(convert::time(run.accepted.origin.start_ms)),
    })
}

fn step_request(request: v1::RunStepRequest) -> Result<StepRequest, Status> {
    let asked = request.limits.unwrap_or_default();
    let timeout_ms = optional_milliseconds("limits.timeout", asked.timeout)?;
    let summed = request.budget.unwrap_or_default();
    let budget = AskedBudget {
        fuel: summed.fuel,
        wall_ms: optional_milliseconds("budget.wall_time", summed.wall_time)?,
        host_calls: summed.host_calls,
        tool_calls: summed.tool_calls,
        bytes_in: summed.bytes_in,
        bytes_out: summed.bytes_out,
    };
    let narrow = request.narrow.map(|narrow| Narrowing {
        tools: narrow.tools.into_iter().collect::<BTreeSet<_>>(),
        spaces: narrow.spaces.into_iter().collect::<BTreeSet<_>>(),
        egress: narrow.egress.into_iter().collect::<BTreeSet<_>>(),
    });
    let limits = AskedLimits {
        fuel: asked.fuel,
        memory_bytes: asked.memory_bytes,
        timeout_ms,
        output_bytes: asked.output_bytes,
        stdio_bytes: asked.stdio_bytes,
        events: asked.events,
    };
    let start_ms = request.start_time.as_ref().map(start_ms).transpose()?;
    // In the same order each time: the guest sees it.
    let env: BTreeMap<_, _> = request.env.into_iter().collect();
    let mounts = request.mounts.into_iter().map(|m| MountUse { mount: m.mount, path: m.path, read_only: m.read_only });
    Ok(StepRequest {
        component: request.component,
        agent: request.agent,
        job: request.job,
        input: request.input,
        content_type: request.content_type,
        args: request.args,
        env: env.into_iter().collect(),
        workspace: request.workspace,
        mounts: mounts.collect(),
        limits,
        budget,
        narrow,
        seed: request.seed,
        start_ms,
        ..StepRequest::default()
    })
}

fn optional_milliseconds(field: &str, time: Option<prost_types::Duration>) -> Result<Option<i64>, Status> {
    let Some(time) = time else { return Ok(None) };
    let found = milliseconds(&time).ok_or_else(|| {
        let message = format!("`{field}` is not a duration of whole nanoseconds between -999,999,999 and 999,999,999");
        status::bad_field("LIMIT_INVALID", field, message)
    });
    found.map(Some)
}

/// Returns a time in milliseconds since 1970, what is below them cut off.
fn start_ms(time: &prost_types::Timestamp) -> Result<u64, Status> {
    let seconds = u64::try_from(time.seconds).ok().filter(|_| (0..1_000_000_000).contains(&time.nanos));
    let ms = seconds.and_then(|seconds| seconds.checked_mul(1000)?.checked_add(time.nanos as u64 / 1_000_000));
    let why = "`start_time` is not a time between 1970 and 9999, with nanoseconds from 0 to 999,999,999";
    ms.ok_or_else(|| status::bad_field("FIELD_INVALID", "start_time", why))
}

/// Returns a duration in milliseconds, rounded towards zero. `None` if it is not a valid one.
fn milliseconds(time: &prost_types::Duration) -> Option<i64> {
    let valid = time.nanos.abs() < 1_000_000_000 && i128::from(time.seconds) * i128::from(time.nanos) >= 0;
    let milliseconds = time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos) / 1_000_000);
    valid.then_some(milliseconds)
}
