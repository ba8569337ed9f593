//! Tables for people, JSON for programs. What a guest said is printed without its control characters.

use std::io::{self, Write as _, stdout};

use comfy_table::{Table, presets::NOTHING};
use palisade_proto::v1::{self, run_step_response::Message, step_event, step_result};
use serde_json::{Value, json};

use super::{Common, arguments::Output, component::to_json, record};

/// Prints rows. `row` returns the cells for people and the JSON for programs.
pub fn rows<T>(
    common: &Common,
    header: &[&str],
    items: &[&T],
    row: impl Fn(&T) -> (Vec<String>, Value),
) -> io::Result<()> {
    let rows = items.iter().map(|item| row(item));
    match common.output {
        Output::Json => {
            for (_, json) in rows {
                writeln!(stdout(), "{json}")?;
            }
        }
        Output::Table => {
            let mut table = Table::new();
            table.load_preset(NOTHING).set_header(header.iter().map(|name| name.to_uppercase()));
            for (cells, _) in rows {
                table.add_row(cells);
            }
            writeln!(stdout(), "{}", table.trim_fmt())?;
        }
    }
    Ok(())
}

/// Returns a component's row.
pub fn component(component: &v1::Component) -> (Vec<String>, Value) {
    let kind = component.kind().as_str_name().to_lowercase();
    let cells = vec![component.digest.clone(), kind, component.size_bytes.to_string(), component.aliases.join(" ")];
    (cells, to_json(component))
}

/// Prints what a component is.
pub fn inspection(common: &Common, inspection: &v1::ComponentInspection) -> io::Result<()> {
    let Some(component) = &inspection.component else { return Ok(()) };
    if common.output == Output::Json {
        let reach: Vec<_> =
            inspection.reach.iter().map(|r| json!({ "power": r.power, "description": r.description })).collect();
        let json = json!({
            "component": to_json(component),
            "imports": inspection.imports,
            "exports": inspection.exports,
            "reach": reach,
            "adapted": inspection.adapted,
        });
        return writeln!(stdout(), "{json}");
    }
    writeln!(stdout(), "{}", component.name)?;
    let adapted = if inspection.adapted { ", adapted from WASI 0.1" } else { "" };
    writeln!(stdout(), "{}{adapted}, {} bytes", component.kind().as_str_name().to_lowercase(), component.size_bytes)?;
    for (title, names) in [("imports", &inspection.imports), ("exports", &inspection.exports)] {
        writeln!(stdout(), "\n{title}:")?;
        for name in names {
            writeln!(stdout(), "  {}", safe(name))?;
        }
    }
    writeln!(stdout(), "\ncould reach:")?;
    for reach in &inspection.reach {
        writeln!(stdout(), "  {:12} {}", reach.power, reach.description)?;
    }
    Ok(())
}

/// Returns a message of a step's stream as one line of JSON.
pub fn message(message: &Message) -> Value {
    match message {
        Message::Accepted(accepted) => {
            let mut json = json!({ "step": accepted.step, "component": accepted.component });
            if !accepted.agent.is_empty() {
                json["agent"] = accepted.agent.clone().into();
            }
            // What `--seed` and `--start-time` take to run it again.
            json["seed"] = accepted.seed.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
            json["start_time"] = accepted.start_time.as_ref().map(ToString::to_string).into();
            json!({ "accepted": json })
        }
        Message::Event(event) => json!({ "event": self::event(event) }),
        Message::Result(result) => json!({ "result": self::result(result) }),
    }
}

fn event(event: &v1::StepEvent) -> Value {
    let (name, value) = match &event.kind {
        Some(step_event::Kind::Log(log)) => {
            let fields: Value = log
                .fields
                .iter()
                .map(|f| (f.key.clone(), f.value.clone().into()))
                .collect::<serde_json::Map<_, _>>()
                .into();
            (
                "log",
                json!({ "level": log.level().as_str_name().to_lowercase(), "message": log.message, "fields": fields }),
            )
        }
        Some(step_event::Kind::Progress(p)) => ("progress", json!({ "fraction": p.fraction, "message": p.message })),
        Some(step_event::Kind::Output(chunk)) => {
            let stream = chunk.stream().as_str_name().to_lowercase();
            ("output", json!({ "stream": stream, "data": String::from_utf8_lossy(&chunk.data) }))
        }
        None => ("unknown", Value::Null),
    };
    let mut json = json!({ "sequence": event.sequence, name: value });
    if !event.tool.is_empty() {
        json["tool"] = event.tool.clone().into();
    }
    json
}

fn result(result: &v1::StepResult) -> Value {
    let output = serde_json::from_slice(&result.output)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&result.output).into_owned()));
    let failure = result.failure.as_ref().map(|failure| {
        let mut json = json!({ "code": failure.code, "message": failure.message });
        if !failure.limit.is_empty() {
            json["limit"] = failure.limit.clone().into();
            json["limit_value"] = failure.limit_value.into();
        }
        json
    });
    let usage = result.usage.as_ref().map(|usage| {
        json!({
            "fuel": usage.fuel,
            "memory_peak_bytes": usage.memory_peak_bytes,
            "wall_time_ms": milliseconds(&usage.wall_time),
            "cpu_time_ms": milliseconds(&usage.cpu_time),
            "input_bytes": usage.input_bytes,
            "output_bytes": usage.output_bytes,
            "stdio_bytes": usage.stdio_bytes,
            "events": usage.events,
            "disk_bytes": usage.disk_bytes,
            "disk_entries": usage.disk_entries,
        })
    });
    let spent = result.spent.as_ref().map(|spent| {
        json!({
            "fuel": spent.fuel,
            "wall_time_ms": milliseconds(&spent.wall_time),
            "host_calls": spent.host_calls,
            "tool_calls": spent.tool_calls,
            "bytes_in": spent.bytes_in,
            "bytes_out": spent.bytes_out,
        })
    });
    json!({
        "step": result.step,
        "outcome": outcome(result.outcome()),
        "output": output,
        "exit_code": result.exit_code,
        "failure": failure,
        "usage": usage,
        "spent": spent,
        "checkpoint": result.checkpoint,
    })
}

/// Returns an outcome as a word.
pub fn outcome(outcome: step_result::Outcome) -> String {
    outcome.as_str_name().to_lowercase()
}

/// Returns a failure as a line.
pub fn failure(failure: &v1::StepFailure) -> String {
    format!("{} ({})", safe(&failure.message), safe(&failure.code))
}

/// Returns what a step used, and how often it called, as a line.
pub fn usage(usage: &v1::StepUsage, spent: Option<&v1::Budget>) -> String {
    let calls = spent.and_then(|spent| record::calls(spent.tool_calls(), spent.host_calls()));
    format!(
        "used {} fuel, {:.1} MiB of memory at most, {:.1} ms ({:.1} ms of processor time), {} bytes out, {:+} bytes on disk{}",
        usage.fuel,
        usage.memory_peak_bytes as f64 / f64::from(1 << 20),
        milliseconds(&usage.wall_time),
        milliseconds(&usage.cpu_time),
        usage.output_bytes + usage.stdio_bytes,
        usage.disk_bytes,
        calls.map(|calls| format!(", {calls}")).unwrap_or_default(),
    )
}

/// Returns a log event as a line.
pub fn log(log: &v1::LogEvent) -> String {
    let fields: String = log.fields.iter().map(|f| format!(" {}={}", safe(&f.key), safe(&f.value))).collect();
    format!("{:5} {}{fields}", log.level().as_str_name(), safe(&log.message))
}

/// Returns a guest's text without control characters: it must not drive the terminal.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if steers(c) && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// As [`safe`], for what must stay on its line.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Whether a character steers what shows it: control characters, and those that turn the direction of text.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Returns bytes as a person can read them: JSON, indented; or text. None if they are neither.
pub fn readable(bytes: &[u8]) -> Option<String> {
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        return serde_json::to_string_pretty(&value).ok().map(|text| safe(&text));
    }
    std::str::from_utf8(bytes).ok().map(safe)
}

/// Returns the digest in a component's name.
pub fn digest(component: &str) -> String {
    component.strip_prefix("components/").unwrap_or(component).to_owned()
}

/// Returns whether something can be used, as a word.
pub fn state(disabled: bool) -> &'static str {
    if disabled { "disabled" } else { "enabled" }
}

/// Returns a moment as RFC 3339, to the second; empty if there is none.
pub fn moment(time: &Option<prost_types::Timestamp>) -> String {
    let whole = |time: &prost_types::Timestamp| prost_types::Timestamp { seconds: time.seconds, nanos: 0 };
    time.as_ref().map(|time| whole(time).to_string()).unwrap_or_default()
}

/// Returns a resource name for an id, or the name that it is already.
pub fn resource(collection: &str, id: &str) -> String {
    if id.starts_with(&format!("{collection}/")) { id.into() } else { format!("{collection}/{id}") }
}

/// Returns a duration in milliseconds; 0 if there is none.
pub fn milliseconds(time: &Option<prost_types::Duration>) -> f64 {
    time.as_ref().map_or(0.0, |t| t.seconds as f64 * 1e3 + f64::from(t.nanos) / 1e6)
}
