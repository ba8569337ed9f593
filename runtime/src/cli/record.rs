//! A record of the journal in a line for people. `docs/journal.md` describes what its body holds.

use palisade_proto::v1;
use serde_json::{Map, Value};

use super::{Failure, print};
use crate::journal::Record;

/// Characters of the longest summary.
const SUMMARY_CHARS_MAX: usize = 160;

/// Characters by which a step or a digest is named where the whole would fill the line.
const SHORT_CHARS: usize = 8;

/// The names of the columns of [`line`].
pub const HEADER: &str = "SEQUENCE  TIME                      KIND           STEP      CALL  WHAT";

/// Reads a record.
pub fn read(record: &v1::Record) -> Result<Record, Failure> {
    serde_json::from_str(&record.canonical)
        .map_err(|e| Failure::other(format!("record {} cannot be read: {e}", record.sequence)))
}

/// Returns a record as a line of a list.
pub fn line(record: &Record) -> String {
    let step = record.step.as_deref().map(short_step).unwrap_or_default();
    let call = record.call.map(|call| call.to_string()).unwrap_or_default();
    let summary = cut(&summary(record), SUMMARY_CHARS_MAX);
    let (sequence, time, kind) = (record.sequence, time(record.time_ms), print::one_line(&record.kind));
    let line = format!("{sequence:>8}  {time:<24}  {kind:<13}  {step:<8}  {call:>4}  {summary}");
    // Names and keys in it are guests' words.
    print::one_line(line.trim_end())
}

/// Returns the moment of a record.
pub fn time(time_ms: u64) -> String {
    let seconds = i64::try_from(time_ms / 1000).unwrap_or(i64::MAX);
    prost_types::Timestamp { seconds, nanos: (time_ms % 1000) as i32 * 1_000_000 }.to_string()
}

/// Returns the beginning of a step's id.
pub fn short_step(step: &str) -> String {
    let id = step.strip_prefix("steps/").unwrap_or(step);
    print::one_line(id).chars().take(SHORT_CHARS).collect()
}

/// Returns what a host call asks: `calls ticket.read@1 (read)`.
pub fn asked(body: &Map<String, Value>) -> String {
    let text = |key: &str| print::one_line(word(body, key));
    let asked = match (word(body, "power"), word(body, "verb")) {
        ("tools", "list") => "lists tools".into(),
        ("tools", _) => format!("calls {}", text("tool")),
        ("memory", "list") if text("key").is_empty() => format!("lists memory {}", text("space")),
        ("memory", "list") => format!("lists `{}…` in memory {}", text("key"), text("space")),
        ("memory", "get") => format!("gets `{}` from memory {}", text("key"), text("space")),
        ("memory", "put") => format!("puts `{}` into memory {}", text("key"), text("space")),
        ("memory", _) => format!("deletes `{}` from memory {}", text("key"), text("space")),
        ("http", verb) if word(body, "url").is_empty() => format!("sends {}", print::one_line(verb)),
        ("http", verb) => format!("sends {} {}", print::one_line(verb), text("url")),
        ("run", _) => {
            let question = body.get("decision").and_then(|decision| decision["question"].as_str());
            format!("{} for {}", print::one_line(question.unwrap_or("running it")), text("caller"))
        }
        _ => format!("{} {}", text("power"), text("verb")),
    };
    let effect = text("effect");
    // Of a list, the effect goes without saying.
    if effect.is_empty() || word(body, "verb") == "list" { asked } else { format!("{asked} ({effect})") }
}

/// Returns the policies that decided: `own-queue, desk.read`.
pub fn policies(decision: &Value) -> String {
    let ids = decision["policies"].as_array().into_iter().flatten().filter_map(Value::as_str);
    ids.map(print::one_line).collect::<Vec<_>>().join(", ")
}

/// Returns why a call was refused, as policy, the grant or the budget said: an object with `code` and `message`.
pub fn refusal(body: &Map<String, Value>) -> &Value {
    match body.get("error") {
        Some(error) if error.is_object() => error,
        _ => body.get("decision").unwrap_or(&Value::Null),
    }
}

/// Returns whether somebody said no, rather than that the call made no sense or cannot be paid.
pub fn is_denial(body: &Map<String, Value>) -> bool {
    refusal(body)["class"].as_str().is_none_or(|class| class == "denied")
}

/// Returns `CODE: message` of an object that has them.
pub fn coded(failure: &Value) -> String {
    format!("{}: {}", print::one_line(failure["code"].as_str().unwrap_or_default()), message(failure))
}

/// Returns a refusal or a failure in words. An exhausted budget is recorded in numbers alone.
pub fn message(failure: &Value) -> String {
    let text = |key: &str| print::one_line(failure[key].as_str().unwrap_or_default());
    if !failure["message"].is_string() && failure["class"] == "exhausted" {
        let (account, dimension) = (text("account"), text("dimension"));
        let [limit, left, asked] = ["limit", "left", "asked"].map(|key| failure[key].as_u64().unwrap_or_default());
        return format!("the {account}'s budget of {limit} {dimension} has {left} left; the call needs {asked}");
    }
    text("message")
}

/// Returns how long a call took, for people.
pub fn took(micros: u64) -> String {
    match micros {
        0..10_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

/// Returns what was spent beside fuel and time, as far as there was any: `3 tool calls, 5 host calls`.
pub fn calls(tool_calls: i64, host_calls: i64) -> Option<String> {
    let spent: Vec<_> = [(tool_calls, "tool call"), (host_calls, "host call")]
        .into_iter()
        .filter(|(calls, _)| *calls > 0)
        .map(|(calls, what)| count(calls, what))
        .collect();
    (!spent.is_empty()).then(|| spent.join(", "))
}

fn count(count: i64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Returns a text of at most so many characters, and shows if there were more.
pub fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns a text of a body, empty if it is not there.
pub fn word<'a>(body: &'a Map<String, Value>, key: &str) -> &'a str {
    body.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn summary(record: &Record) -> String {
    let body = &record.body;
    let text = |key: &str| print::one_line(word(body, key));
    let null = Value::Null;
    let value = |key: &str| body.get(key).unwrap_or(&null);
    match record.kind.as_str() {
        "started" => format!("palisade {}, {}", text("version"), text("engine")),
        "stopped" => String::new(),
        "configuration" => short_digest(word(body, "digest")),
        "policy" => {
            let files = count(value("files").as_array().map_or(0, Vec::len) as i64, "file");
            format!("revision {} of {files}", short_digest(word(body, "revision")))
        }
        "agent" | "tool" => registration(body),
        "credential" => format!("{} {}", text("change"), text("credential")),
        "control" => {
            let hold = |key: &str| value("hold")[key].as_str().map(print::one_line).unwrap_or_default();
            let listed = |list: &str| value("evidence")[list].as_array().map_or(0, Vec::len);
            let stopped = match (listed("steps"), listed("calls"), listed("still_running")) {
                (0, 0, 0) => String::new(),
                (steps, calls, 0) => format!(" ({steps} steps, {calls} calls)"),
                (steps, calls, still) => format!(" ({steps} steps, {calls} calls, {still} still running)"),
            };
            format!("{} {} {}{stopped}: {}", text("change"), hold("action"), hold("scope"), hold("reason"))
        }
        "step" => {
            let what = match word(body, "agent") {
                "" => short_digest(word(body, "component")),
                agent => print::one_line(agent),
            };
            format!("{what} for {}{}", text("caller"), decided(value("decision")))
        }
        "intent" => format!("{}{}{}", asked(body), via(body), decided(value("decision"))),
        "outcome" => match (word(body, "status"), value("took_us").as_u64()) {
            ("done", Some(micros)) => format!("done in {}", took(micros)),
            ("failed", _) => format!("failed {}", coded(value("error"))),
            _ => format!("{}: {}", text("status"), text("why")),
        },
        "label" => {
            let joined = value("labels_joined").as_array().map(Vec::as_slice).unwrap_or_default();
            joined.iter().filter_map(Value::as_str).map(print::one_line).collect::<Vec<_>>().join(", ")
        }
        "denial" => denied(body),
        "result" if value("failure").is_object() => format!("{} {}", text("outcome"), coded(value("failure"))),
        "result" => text("outcome"),
        "decision" => format!("{}{}", asked(body), decided(value("decision"))),
        "deletion" => format!("{}: {}", short_digest(word(body, "payload")), text("reason")),
        _ => print::one_line(&Value::Object(body.clone()).to_string()),
    }
}

fn registration(body: &Map<String, Value>) -> String {
    let name = if body.contains_key("agent") { word(body, "agent") } else { word(body, "tool") };
    let lines = |key: &str| body.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    let reach = match (lines("added"), lines("removed")) {
        (0, 0) => String::new(),
        (added, removed) => format!(", reach +{added} -{removed}"),
    };
    format!("{} {}{reach}", print::one_line(word(body, "change")), print::one_line(name))
}

fn denied(body: &Map<String, Value>) -> String {
    let text = |key: &str| refusal(body)[key].as_str().map(print::one_line).unwrap_or_default();
    let rule = Some(text("rule")).filter(|rule| !rule.is_empty()).map(|rule| format!(" [{rule}]"));
    let (word, code) = (if is_denial(body) { "denied" } else { "refused" }, text("code"));
    format!("{word} {code} {}{}{}", asked(body), via(body), rule.unwrap_or_default())
}

fn via(body: &Map<String, Value>) -> String {
    match word(body, "via") {
        "" => String::new(),
        tool => format!(" via {}", print::one_line(tool)),
    }
}

/// Returns a verdict and the policies that it is by: ` allow [own-queue]`.
fn decided(decision: &Value) -> String {
    let verdict = print::one_line(decision["verdict"].as_str().unwrap_or_default());
    match policies(decision).as_str() {
        "" => format!(" {verdict}"),
        policies => format!(" {verdict} [{policies}]"),
    }
}

fn short_digest(digest: &str) -> String {
    let end = digest.find(':').map_or(0, |colon| colon + 1) + SHORT_CHARS;
    print::one_line(&cut(digest, end))
}
