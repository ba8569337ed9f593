//! `Control`: stops and holds, for operators.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::unistd::getuid;
use palisade_proto::v1::{self, control_server::Control};
use tonic::{Code, Request, Response, Status};

use super::{callers, components::page_size, convert, status, tools::skip};
use crate::{
    control::{self, Action, Evidence, Hold, Order, Scope, hold_id},
    lifecycle::Lifecycle,
    store::random_id,
};

/// The longest and the shortest time of a hold that ends by itself.
const EXPIRE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
const EXPIRE_MIN: Duration = Duration::from_secs(1);

/// How long what is drained may go on, if the operator does not say, and at most.
const DRAIN: Duration = Duration::from_secs(60);
const DRAIN_MAX: Duration = Duration::from_secs(3600);

/// Entries of each list in an answer: all of them together fit into a message.
const LISTED_MAX: usize = 1_000;

/// Bytes of the longest id of a request.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Serves `palisade.v1.Control`.
pub struct Service {
    lifecycle: Lifecycle,
    operators: BTreeSet<String>,
}

#[tonic::async_trait]
impl Control for Service {
    async fn impose_hold(
        &self,
        request: Request<v1::ImposeHoldRequest>,
    ) -> Result<Response<v1::ImposeHoldResponse>, Status> {
        let by = self.operator(&request)?;
        let order = order(request.into_inner(), by)?;
        let imposed = self.lifecycle.impose(order).await.map_err(status::control)?;
        let (hold, evidence) = (Some(hold(&imposed.hold)), Some(evidence(imposed.evidence)));
        Ok(Response::new(v1::ImposeHoldResponse { hold, evidence }))
    }

    async fn lift_hold(&self, request: Request<v1::LiftHoldRequest>) -> Result<Response<v1::Hold>, Status> {
        let by = self.operator(&request)?;
        let v1::LiftHoldRequest { name, reason } = request.into_inner();
        check_reason(&reason)?;
        let lifted = self.lifecycle.lift(&named(&name), by, reason).await.map_err(status::control)?;
        Ok(Response::new(hold(&lifted)))
    }

    async fn get_hold(&self, request: Request<v1::GetHoldRequest>) -> Result<Response<v1::Hold>, Status> {
        self.operator(&request)?;
        let found = self.lifecycle.hold(&named(&request.into_inner().name)).map_err(status::control)?;
        Ok(Response::new(hold(&found)))
    }

    async fn list_holds(
        &self,
        request: Request<v1::ListHoldsRequest>,
    ) -> Result<Response<v1::ListHoldsResponse>, Status> {
        self.operator(&request)?;
        let v1::ListHoldsRequest { page_size: asked, page_token } = request.into_inner();
        let (count, skip) = (page_size(asked)?, skip(&page_token)?);
        let in_force = self.lifecycle.holds();
        let mut rest = in_force.iter().skip(skip);
        let holds: Vec<_> = rest.by_ref().take(count).map(|found| hold(found)).collect();
        let next_page_token = match rest.next() {
            Some(_) => (skip + holds.len()).to_string(),
            None => String::new(),
        };
        Ok(Response::new(v1::ListHoldsResponse { holds, next_page_token }))
    }
}

impl Service {
    /// Serves the daemon's own user, and the operators of its configuration.
    pub fn new(lifecycle: Lifecycle) -> Self {
        let operators = operators(&lifecycle);
        Self { lifecycle, operators }
    }

    /// Returns who calls, if it is an operator.
    fn operator<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let caller = callers::name(request);
        if self.operators.contains(&caller) {
            return Ok(caller);
        }
        let message =
            format!("`{caller}` is no operator: call as the daemon's user, or have `control.operators` name it");
        Err(status::refuse(Code::PermissionDenied, "CONTROL_NOT_ALLOWED", message))
    }
}

/// Returns who operates, by the names of callers.
pub fn operators(lifecycle: &Lifecycle) -> BTreeSet<String> {
    let own = format!("unix:{}", getuid());
    lifecycle.config().control.operators.iter().cloned().chain([own]).collect()
}

fn order(request: v1::ImposeHoldRequest, by: String) -> Result<Order, Status> {
    let action = match request.action() {
        v1::hold::Action::Kill => Action::Kill,
        v1::hold::Action::Freeze => Action::Freeze,
        v1::hold::Action::Cordon => Action::Cordon,
        v1::hold::Action::Drain => Action::Drain,
        _ => return Err(bad("action", "`action`: use KILL, FREEZE, CORDON or DRAIN")),
    };
    let v1::ImposeHoldRequest { scope, reason, expire, request_id, drain_timeout, .. } = request;
    let scope: Scope = scope.parse().map_err(|error: control::BadScope| bad("scope", &error.to_string()))?;
    check_reason(&reason)?;
    if request_id.len() > REQUEST_ID_BYTES_MAX {
        return Err(bad(
            "request_id",
            &format!("`request_id` has {} bytes; at most 128 are allowed", request_id.len()),
        ));
    }
    let id = if request_id.is_empty() { format!("holds/{}", random_id()) } else { hold_id(&by, &request_id) };
    let expire = match expire {
        Some(asked) => Some(within(asked, EXPIRE_MIN..=EXPIRE_MAX).ok_or_else(|| {
            bad(
                "expire",
                "`expire` must be at least one second and at most 366 days; leave it out to hold until it is lifted",
            )
        })?),
        None => None,
    };
    let drain_timeout = match drain_timeout {
        Some(_) if action != Action::Drain => return Err(bad("drain_timeout", "`drain_timeout` is for DRAIN only")),
        Some(asked) => within(asked, Duration::ZERO..=DRAIN_MAX)
            .ok_or_else(|| bad("drain_timeout", "`drain_timeout` must be at most one hour, and not negative"))?,
        None => DRAIN,
    };
    Ok(Order { id, action, scope, reason, by, expire, drain_timeout })
}

fn within(asked: prost_types::Duration, range: std::ops::RangeInclusive<Duration>) -> Option<Duration> {
    Duration::try_from(asked).ok().filter(|asked| range.contains(asked))
}

fn check_reason(reason: &str) -> Result<(), Status> {
    match reason.len() {
        1..=control::REASON_BYTES_MAX => Ok(()),
        bytes => Err(bad("reason", &format!("`reason` has {bytes} bytes: say in 1 to 1024 bytes why"))),
    }
}

fn bad(field: &str, message: &str) -> Status {
    status::bad_field("FIELD_INVALID", field, message)
}

fn named(reference: &str) -> String {
    if reference.starts_with("holds/") { reference.into() } else { format!("holds/{reference}") }
}

fn hold(hold: &Hold) -> v1::Hold {
    let Hold { id, action, scope, reason, by, since_ms, until_ms, records } = hold.clone();
    let (action, per_minute) = match action {
        Action::Kill => (v1::hold::Action::Kill, 0),
        Action::Freeze => (v1::hold::Action::Freeze, 0),
        Action::Cordon => (v1::hold::Action::Cordon, 0),
        Action::Drain => (v1::hold::Action::Drain, 0),
        Action::Quarantine => (v1::hold::Action::Quarantine, 0),
        Action::ReadOnly => (v1::hold::Action::ReadOnly, 0),
        Action::Throttle { per_minute } => (v1::hold::Action::Throttle, i32::try_from(per_minute).unwrap_or(i32::MAX)),
    };
    v1::Hold {
        name: id,
        action: action.into(),
        scope: scope.to_string(),
        reason,
        by,
        impose_time: Some(time(since_ms)),
        expire_time: until_ms.map(time),
        records: records.into_iter().map(convert::int).collect(),
        per_minute,
    }
}

fn evidence(evidence: Evidence) -> v1::Evidence {
    let Evidence { mut steps, mut calls, leases, mut still_running, took, record, unkept } = evidence;
    let steps_left_out = left_out(&mut steps);
    let calls_left_out = left_out(&mut calls);
    let still_running_left_out = left_out(&mut still_running);
    let (record, unrecorded) = match record {
        Ok(sequence) => (convert::int(sequence), String::new()),
        Err(why) => (0, why),
    };
    v1::Evidence {
        steps: steps.into_iter().map(stopped_step).collect(),
        calls: calls.into_iter().map(stopped_call).collect(),
        leases: leases.into_iter().map(|name| format!("credentials/{name}")).collect(),
        took: Some(convert::duration(took)),
        record,
        unrecorded,
        unkept: unkept.unwrap_or_default(),
        still_running,
        steps_left_out,
        calls_left_out,
        still_running_left_out,
    }
}

/// Cuts a list to what an answer can have; returns how many are left out.
fn left_out<T>(list: &mut Vec<T>) -> i32 {
    let more = list.len().saturating_sub(LISTED_MAX);
    list.truncate(LISTED_MAX);
    i32::try_from(more).unwrap_or(i32::MAX)
}

fn stopped_step(stopped: control::StoppedStep) -> v1::StoppedStep {
    let last_effect = stopped.last_effect.map(|effect| v1::LastEffect {
        record: convert::int(effect.record),
        call: convert::int(effect.call),
        what: effect.what,
        time: Some(time(effect.time_ms)),
    });
    v1::StoppedStep {
        step: stopped.step,
        tenant: stopped.tenant.to_string(),
        agent: stopped.agent,
        stop_time: Some(time(stopped.stop_ms)),
        took: Some(convert::duration(stopped.took)),
        last_effect,
    }
}

fn stopped_call(stopped: control::StoppedCall) -> v1::StoppedCall {
    let control::StoppedCall { step, call, what, took } = stopped;
    v1::StoppedCall { step, call: convert::int(call), what, took: Some(convert::duration(took)) }
}

fn time(unix_ms: u64) -> prost_types::Timestamp {
    // Beyond what the clock can say nothing ends.
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms));
    time.unwrap_or_else(SystemTime::now).into()
}
