//! `palisade kill`, `freeze`, `cordon`, `drain` and `hold`.

use std::io::{Write as _, stdout};

use palisade_proto::v1::{self, hold::Action};
use serde_json::{Value, json};

use super::{
    Client, Common, Failure,
    arguments::{Drain, Hold, Order, Output},
    print,
};
use crate::store::random_id;

/// Imposes a hold and prints the evidence.
pub async fn impose(action: Action, order: Order, common: &Common) -> Result<(), Failure> {
    imposed(action, order, None, common).await
}

/// Imposes a drain.
pub async fn drain(Drain { order, grace }: Drain, common: &Common) -> Result<(), Failure> {
    imposed(Action::Drain, order, grace, common).await
}

/// Runs a subcommand of `hold`.
pub async fn hold(command: Hold, common: &Common) -> Result<(), Failure> {
    let client = connect(common).await?;
    let done = run(&client, command, common).await;
    client.finish(done).await
}

async fn imposed(action: Action, order: Order, grace: Option<i64>, common: &Common) -> Result<(), Failure> {
    let request_id = order.request_id.unwrap_or_else(random_id);
    // Before it is asked: whoever stops waiting can ask again.
    if common.output != Output::Json {
        writeln!(stdout(), "request id {}", print::one_line(&request_id))?;
    }
    let seconds = |seconds| prost_types::Duration { seconds, nanos: 0 };
    let request = v1::ImposeHoldRequest {
        action: action.into(),
        scope: order.scope,
        reason: order.reason,
        expire: order.duration.map(seconds),
        request_id: request_id.clone(),
        drain_timeout: grace.map(seconds),
    };
    let client = connect(common).await?;
    let done = match client.control().impose_hold(request).await {
        Ok(response) => show_evidence(common, &request_id, response.into_inner()),
        Err(status) => {
            if common.output == Output::Json {
                eprintln!("request id {}", print::one_line(&request_id));
            }
            Err(status.into())
        }
    };
    client.finish(done).await
}

/// A daemon of this command's own has nothing to stop, and whoever means another must be told.
async fn connect(common: &Common) -> Result<Client, Failure> {
    if common.endpoint.is_none() {
        return Err(Failure::usage("name the daemon with --endpoint or PALISADE_ENDPOINT: nothing else is stopped"));
    }
    Client::connect(common, Vec::new()).await
}

async fn run(client: &Client, command: Hold, common: &Common) -> Result<(), Failure> {
    let mut control = client.control();
    match command {
        Hold::List => Ok(list(common, &all(client).await?.iter().collect::<Vec<_>>())?),
        Hold::Show { hold } => show(common, &control.get_hold(v1::GetHoldRequest { name: hold }).await?.into_inner()),
        Hold::Lift { hold, reason } => {
            let request = v1::LiftHoldRequest { name: hold, reason };
            let lifted = control.lift_hold(request).await?.into_inner();
            if common.output == Output::Json {
                return Ok(writeln!(stdout(), "{}", hold_json(&lifted))?);
            }
            Ok(writeln!(stdout(), "lifted {}: {}", lifted.name, in_words(&lifted))?)
        }
    }
}

async fn all(client: &Client) -> Result<Vec<v1::Hold>, Failure> {
    let mut holds = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListHoldsRequest { page_token, page_size: 1000 };
        let page = client.control().list_holds(request).await?.into_inner();
        holds.extend(page.holds);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(holds);
        }
    }
}

fn list(common: &Common, holds: &[&v1::Hold]) -> std::io::Result<()> {
    print::rows(common, &["hold", "what", "since", "until", "by", "reason"], holds, |hold| {
        let cells = vec![
            hold.name.clone(),
            in_words(hold),
            print::moment(&hold.impose_time),
            until(hold),
            hold.by.clone(),
            print::one_line(&hold.reason),
        ];
        (cells, hold_json(hold))
    })
}

fn show(common: &Common, hold: &v1::Hold) -> Result<(), Failure> {
    let mut stdout = stdout();
    if common.output == Output::Json {
        return Ok(writeln!(stdout, "{}", hold_json(hold))?);
    }
    writeln!(stdout, "{}: {}", hold.name, in_words(hold))?;
    let records = hold.records.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    for (name, value) in [
        ("reason", &hold.reason),
        ("by", &hold.by),
        ("since", &print::moment(&hold.impose_time)),
        ("until", &until(hold)),
        ("records", &records),
    ] {
        if !value.is_empty() {
            writeln!(stdout, "{name:8} {}", print::one_line(value))?;
        }
    }
    Ok(())
}

fn show_evidence(common: &Common, request_id: &str, response: v1::ImposeHoldResponse) -> Result<(), Failure> {
    let v1::ImposeHoldResponse { hold: Some(hold), evidence: Some(evidence) } = response else {
        return Err(Failure::other("the daemon answered without a hold"));
    };
    let mut stdout = stdout();
    if common.output == Output::Json {
        let evidence = evidence_json(&evidence);
        let answer = json!({ "hold": hold_json(&hold), "evidence": evidence, "request_id": request_id });
        return Ok(writeln!(stdout, "{answer}")?);
    }
    writeln!(stdout, "{}: {}, until {}", hold.name, in_words(&hold), until(&hold))?;
    let record = match evidence.record {
        0 => format!("NOT RECORDED: {}", print::one_line(&evidence.unrecorded)),
        record => format!("record {record}"),
    };
    writeln!(stdout, "in force and done in {:.1} ms, {record}", print::milliseconds(&evidence.took))?;
    if !evidence.unkept.is_empty() {
        writeln!(stdout, "A RESTART LIFTS IT: {}", print::one_line(&evidence.unkept))?;
    }
    if !evidence.still_running.is_empty() {
        let more = more(evidence.still_running_left_out);
        writeln!(stdout, "STILL RUNNING, though told to stop: {}{more}", evidence.still_running.join(" "))?;
    }
    for (what, count) in [("steps", evidence.steps.len()), ("calls", evidence.calls.len())] {
        if count == 0 {
            writeln!(stdout, "no {what} stopped")?;
        }
    }
    if !evidence.steps.is_empty() {
        let steps: Vec<_> = evidence.steps.iter().collect();
        print::rows(common, &["step stopped", "tenant", "agent", "after", "last effect"], &steps, |stopped| {
            let effect = stopped.last_effect.as_ref().map_or_else(
                || "none".to_owned(),
                |effect| format!("{} (record {})", print::one_line(&effect.what), effect.record),
            );
            let after = format!("{:.1} ms", print::milliseconds(&stopped.took));
            let cells = vec![stopped.step.clone(), stopped.tenant.clone(), stopped.agent.clone(), after, effect];
            (cells, Value::Null)
        })?;
    }
    if !evidence.calls.is_empty() {
        let calls: Vec<_> = evidence.calls.iter().collect();
        print::rows(common, &["call stopped", "what", "after"], &calls, |stopped| {
            let after = format!("{:.1} ms", print::milliseconds(&stopped.took));
            (vec![format!("{}/{}", stopped.step, stopped.call), print::one_line(&stopped.what), after], Value::Null)
        })?;
    }
    for (what, left_out) in [("steps", evidence.steps_left_out), ("calls", evidence.calls_left_out)] {
        if left_out > 0 {
            writeln!(stdout, "{left_out} more {what} stopped: `palisade audit list --kind control` has all of them")?;
        }
    }
    if !evidence.leases.is_empty() {
        writeln!(stdout, "cached values dropped: {}", evidence.leases.join(" "))?;
    }
    Ok(())
}

fn more(left_out: i32) -> String {
    if left_out > 0 { format!(" and {left_out} more") } else { String::new() }
}

/// Returns what is done to whom: `throttle agents/desk to 10 calls a minute`.
fn in_words(hold: &v1::Hold) -> String {
    let action = hold.action().as_str_name().to_lowercase().replace('_', "-");
    let rate = match hold.action() {
        Action::Throttle => format!(" to {} calls a minute", hold.per_minute),
        _ => String::new(),
    };
    format!("{action} {}{rate}", print::one_line(&hold.scope))
}

fn until(hold: &v1::Hold) -> String {
    match &hold.expire_time {
        Some(_) => print::moment(&hold.expire_time),
        None => "lifted".into(),
    }
}

fn hold_json(hold: &v1::Hold) -> Value {
    json!({
        "name": hold.name,
        "action": hold.action().as_str_name().to_lowercase().replace('_', "-"),
        "scope": hold.scope,
        "reason": hold.reason,
        "by": hold.by,
        "impose_time": print::moment(&hold.impose_time),
        "expire_time": print::moment(&hold.expire_time),
        "records": hold.records,
        "per_minute": hold.per_minute,
    })
}

fn evidence_json(evidence: &v1::Evidence) -> Value {
    let steps = evidence.steps.iter().map(|stopped| {
        let effect = stopped.last_effect.as_ref().map(|effect| {
            json!({
                "record": effect.record, "call": effect.call, "what": effect.what,
                "time": effect.time.as_ref().map(ToString::to_string),
            })
        });
        json!({
            "step": stopped.step, "tenant": stopped.tenant, "agent": stopped.agent,
            "stop_time": stopped.stop_time.as_ref().map(ToString::to_string),
            "took_ms": print::milliseconds(&stopped.took), "last_effect": effect,
        })
    });
    let calls = evidence.calls.iter().map(|stopped| {
        json!({
            "step": stopped.step, "call": stopped.call, "what": stopped.what,
            "took_ms": print::milliseconds(&stopped.took),
        })
    });
    json!({
        "steps": steps.collect::<Vec<_>>(),
        "calls": calls.collect::<Vec<_>>(),
        "leases": evidence.leases,
        "took_ms": print::milliseconds(&evidence.took),
        "record": evidence.record,
        "unrecorded": evidence.unrecorded,
        "unkept": evidence.unkept,
        "still_running": evidence.still_running,
        "steps_left_out": evidence.steps_left_out,
        "calls_left_out": evidence.calls_left_out,
        "still_running_left_out": evidence.still_running_left_out,
    })
}
