//! `palisade audit timeline`: the story of one step, for people.

use std::io::{Write as _, stdout};

use palisade_proto::v1;
use serde_json::{Map, Value};

use super::{
    Client, Failure,
    audit::{kept, notes},
    print,
    record::{self, asked, coded, cut, policies, took, word},
};
use crate::journal::Record;

/// Characters of the most that is shown of a payload.
const PAYLOAD_CHARS_MAX: usize = 200;

/// How far what happens inside a tool stands in.
const INDENT: usize = 4;

/// Where the story begins on a line, after the moment.
const MARGIN: usize = 12;

/// Prints the story of the step whose records these are, the oldest first.
pub async fn timeline(client: &Client, records: &[v1::Record], payloads: bool) -> Result<(), Failure> {
    let records = records.iter().map(record::read).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = records.first() else {
        return Err(Failure::new(Failure::NOT_FOUND, "the journal has no such step"));
    };
    let mut story = Story { client, first, payloads, open: Vec::new() };
    story.head()?;
    let mut told = 0;
    while let Some(record) = records.get(told) {
        // A call that nothing interrupts is told in one piece.
        let ended = records.get(told + 1).filter(|next| {
            record.kind == "intent" && next.kind == "outcome" && next.call.is_some() && next.call == record.call
        });
        story.tell(record, ended).await?;
        told += if ended.is_some() { 2 } else { 1 };
    }
    story.tail(&records)
}

struct Story<'a> {
    client: &'a Client,
    first: &'a Record,
    payloads: bool,
    /// Calls that were begun, those inside others last.
    open: Vec<Open>,
}

struct Open {
    call: Option<u64>,
    /// The name of the tool that is called, without its version.
    tool: String,
    depth: usize,
}

impl Story<'_> {
    fn head(&self) -> Result<(), Failure> {
        let mut stdout = stdout();
        let optional = |text: &Option<String>| text.as_deref().map(print::one_line).unwrap_or_default();
        writeln!(stdout, "{}", optional(&self.first.step))?;
        let body = &self.first.body;
        let agent = match word(body, "agent") {
            "" => optional(&self.first.agent),
            agent => print::one_line(agent),
        };
        for (name, value) in [
            ("agent", agent),
            ("component", print::one_line(word(body, "component"))),
            ("caller", print::one_line(word(body, "caller"))),
            ("job", optional(&self.first.job)),
            ("began", record::time(self.first.time_ms)),
            ("trace", optional(&self.first.trace)),
        ] {
            if !value.is_empty() {
                writeln!(stdout, "{name:11} {value}")?;
            }
        }
        writeln!(stdout)?;
        Ok(())
    }

    async fn tell(&mut self, record: &Record, ended: Option<&Record>) -> Result<(), Failure> {
        let body = &record.body;
        match record.kind.as_str() {
            "step" => {
                self.line(record, 0, &format!("accepted{}", verdict(body)))?;
                self.content("input", record, 0).await
            }
            "intent" => {
                let depth = self.depth(body);
                let how = ended.map(|ended| format!(": {}", came_of(&ended.body))).unwrap_or_default();
                self.line(record, depth, &format!("{}{}{}{how}", number(record), asked(body), verdict(body)))?;
                self.content(sent(body), record, depth).await?;
                if let Some(decision) = body.get("decision").filter(|decision| decision["verdict"] == "would-deny") {
                    self.reasons(record, decision, depth)?;
                }
                if let Some(ended) = ended {
                    return self.content("result", ended, depth).await;
                }
                let tool = word(body, "tool").split('@').next().unwrap_or_default().to_owned();
                self.open.push(Open { call: record.call, tool, depth });
                Ok(())
            }
            "outcome" => {
                let begun = self.open.iter().position(|open| open.call == record.call);
                let depth = begun.map_or(0, |begun| self.open.remove(begun).depth);
                self.line(record, depth, &format!("{}{}", number(record), came_of(body)))?;
                self.content("result", record, depth).await
            }
            "denial" => self.denial(record).await,
            "result" => self.result(record).await,
            kind => self.line(record, 0, &print::one_line(kind)),
        }
    }

    async fn denial(&self, record: &Record) -> Result<(), Failure> {
        let (body, depth) = (&record.body, self.depth(&record.body));
        let refusal = record::refusal(body);
        let denied = if record::is_denial(body) { "DENIED" } else { "REFUSED" };
        self.line(record, depth, &format!("{}{}: {denied}, {}", number(record), asked(body), by_rule(refusal)))?;
        self.content(sent(body), record, depth).await?;
        self.reasons(record, refusal, depth)
    }

    /// Prints why somebody said no, what else there is, and where to read on.
    fn reasons(&self, record: &Record, refusal: &Value, depth: usize) -> Result<(), Failure> {
        let missing: Vec<_> = refusal["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if missing.is_empty() {
            self.under(depth, &record::message(refusal))?;
        }
        for missing in missing {
            self.under(depth, &print::one_line(missing))?;
        }
        let by_policy = refusal["code"].as_str().is_some_and(|code| code.starts_with("POLICY_"));
        if let (Some(alternative), true) = (refusal["alternative"].as_str(), by_policy) {
            self.under(depth, &format!("instead: {}", print::one_line(alternative)))?;
        }
        if let (Some(step), Some(call), true) = (&record.step, record.call, record::is_denial(&record.body)) {
            let id = step.strip_prefix("steps/").unwrap_or(step);
            self.under(depth, &format!("palisade policy explain decisions/{}/{call}", print::one_line(id)))?;
        }
        Ok(())
    }

    async fn result(&self, record: &Record) -> Result<(), Failure> {
        let body = &record.body;
        let spent = |key: &str| body.get("spent").and_then(|spent| spent[key].as_i64()).unwrap_or_default();
        let failure = body.get("failure").filter(|failure| failure.is_object());
        let failure = failure.map(|failure| format!(", {}", coded(failure))).unwrap_or_default();
        self.line(record, 0, &format!("{}{failure}", print::one_line(word(body, "outcome"))))?;
        self.content("output", record, 0).await?;
        let fuel = format!("{} fuel", spent("fuel"));
        let calls = record::calls(spent("tool_calls"), spent("host_calls"));
        let spent: Vec<_> = [Some(fuel), calls].into_iter().flatten().collect();
        self.under(0, &format!("spent {}", spent.join(", ")))
    }

    fn tail(&self, records: &[Record]) -> Result<(), Failure> {
        let over = records.iter().any(|record| record.kind == "result");
        let began = records.iter().any(|record| record.kind == "step");
        if began && !over {
            writeln!(stdout(), "{:MARGIN$}it has not ended yet", "")?;
        }
        Ok(())
    }

    /// Returns how many tools the guest is in whose call this is.
    fn depth(&self, body: &Map<String, Value>) -> usize {
        let around = |via: &str| self.open.iter().rev().find(|open| open.tool == via);
        match word(body, "via") {
            "" => 0,
            via => around(via).map_or(1, |open| open.depth + 1),
        }
    }

    /// Prints a line with its moment.
    fn line(&self, record: &Record, depth: usize, text: &str) -> Result<(), Failure> {
        let since = took(self.since(record));
        let (indent, text) = (depth * INDENT, print::one_line(text));
        Ok(writeln!(stdout(), "{since:>width$}  {:indent$}{text}", "", width = MARGIN - 2)?)
    }

    /// Prints what belongs to the line before.
    fn under(&self, depth: usize, text: &str) -> Result<(), Failure> {
        let indent = MARGIN + depth * INDENT + INDENT;
        Ok(writeln!(stdout(), "{:indent$}{}", "", print::one_line(text))?)
    }

    async fn content(&self, name: &str, record: &Record, depth: usize) -> Result<(), Failure> {
        if !self.payloads {
            return Ok(());
        }
        for note in notes(record) {
            let text = match kept(self.client, note).await? {
                Some(payload) => shown(&payload.content),
                None if note["kept"] == "none" => format!("of {} bytes, which was not kept", note["size"]),
                None => format!("of {} bytes, which was deleted since", note["size"]),
            };
            self.under(depth, &format!("{name} {text}"))?;
        }
        Ok(())
    }

    /// Returns the microseconds since the first record.
    fn since(&self, record: &Record) -> u64 {
        let by_clock = record.time_ms.saturating_sub(self.first.time_ms).saturating_mul(1000);
        let since_boot = record.boot_us.checked_sub(self.first.boot_us);
        // What a later daemon says of a step may be of another boot.
        since_boot.filter(|since| since.abs_diff(by_clock) < 1_000_000).unwrap_or(by_clock)
    }
}

/// Returns `, allowed by own-queue`, or nothing if nobody had to be asked.
fn verdict(body: &Map<String, Value>) -> String {
    let Some(decision) = body.get("decision") else { return String::new() };
    match (decision["verdict"].as_str(), policies(decision).as_str()) {
        (Some("allow"), "") => String::new(),
        (Some("allow"), policies) => format!(", allowed by {policies}"),
        (Some("would-deny"), _) => format!(", WOULD BE DENIED, {}", by_rule(decision)),
        (verdict, _) => format!(", {}", print::one_line(verdict.unwrap_or("decided by nobody"))),
    }
}

/// Returns `CODE by rule`, or the code alone.
fn by_rule(refusal: &Value) -> String {
    let text = |key: &str| print::one_line(refusal[key].as_str().unwrap_or_default());
    match text("rule").as_str() {
        "" => text("code"),
        rule => format!("{} by {rule}", text("code")),
    }
}

/// Returns how a call ended.
fn came_of(body: &Map<String, Value>) -> String {
    let in_time = body.get("took_us").and_then(Value::as_u64).map(|micros| format!(" in {}", took(micros)));
    let in_time = in_time.unwrap_or_default();
    match word(body, "status") {
        "done" => format!("done{in_time}"),
        "failed" => format!("FAILED{in_time}, {}", coded(body.get("error").unwrap_or(&Value::Null))),
        status => format!("{}, {}", print::one_line(status), print::one_line(word(body, "why"))),
    }
}

/// Returns what a call's payload is.
fn sent(body: &Map<String, Value>) -> &'static str {
    if word(body, "power") == "memory" { "value" } else { "arguments" }
}

fn number(record: &Record) -> String {
    record.call.filter(|call| *call > 0).map(|call| format!("{call} ")).unwrap_or_default()
}

fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => cut(&print::one_line(text), PAYLOAD_CHARS_MAX),
        Err(_) => format!("{} bytes, which are no text", bytes.len()),
    }
}
