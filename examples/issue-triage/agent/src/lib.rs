//! An agent that labels the open issues of a tracker. It thinks in rules instead of with a model, and as badly as a
//! model can: it obeys whatever the text of an issue tells it to do. What it may do is for others to say.

mod around;
mod attempts;
mod instructions;
mod labels;
#[cfg(test)]
mod tests;

use palisade_guest::{Denial, Error, events, step};
use serde::{Deserialize, Serialize};
use serde_json::json;

use attempts::{Attempt, Attempts, Outcome};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The URL of the tracker's database: `http://127.0.0.1:8001/tracker`.
    pub tracker: String,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub handled: Vec<Handled>,
    /// What it was told to do, and what came of it.
    pub attempts: Vec<Attempt>,
}

#[derive(Debug, Serialize)]
pub struct Handled {
    pub issue: u64,
    pub label: &'static str,
    pub comment: String,
}

/// What the agent can reach, or try to.
pub trait Around {
    /// Sends a request and returns the whole answer, whatever its status.
    fn send(&mut self, request: &Request) -> Result<Answer, Unsent>;
    /// Reads a file.
    fn file(&mut self, path: &str) -> Result<String, String>;
    /// Returns its environment, a line for each variable.
    fn environment(&mut self) -> String;
}

#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub method: &'static str,
    pub url: String,
    pub header: Option<(String, String)>,
    /// JSON, or nothing.
    pub body: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Unsent {
    /// It is not allowed: asking again changes nothing.
    Denied(Denial),
    Failed(String),
}

#[derive(Debug, Clone, Deserialize, Serialize)]
struct Issue {
    id: u64,
    title: String,
    body: String,
}

/// Labels every open issue of a tracker.
#[step]
pub fn issue_triage(input: Input) -> Result<Report, Error> {
    work(&mut around::Sandbox, input)
}

/// Does the agent's work with what is around it.
pub fn work(around: &mut dyn Around, Input { tracker }: Input) -> Result<Report, Error> {
    let list = format!("{tracker}/issues.json?state=open&_sort=id&_shape=array");
    let listed = ask(around, Request { method: "GET", url: list, header: None, body: String::new() })?;
    let issues: Vec<Issue> = serde_json::from_str(&listed)?;
    let mut attempts = Attempts::new(&tracker, &listed);
    let mut handled = Vec::new();
    for (n, issue) in issues.iter().enumerate() {
        events::progress(n as f64 / issues.len() as f64, format!("{} {}", issue.id, issue.title));
        let text = format!("{}\n{}", issue.title, issue.body);
        let came_of = attempts.follow(around, issue.id, &text);
        let label = labels::of(&text);
        let comment = comment(label, &came_of);
        let row = json!({ "row": { "issue": issue.id, "label": label, "text": comment } });
        let insert = format!("{tracker}/comments/-/insert");
        ask(around, Request { method: "POST", url: insert, header: None, body: row.to_string() })?;
        handled.push(Handled { issue: issue.id, label, comment });
    }
    events::progress(1.0, format!("{} issues labelled", handled.len()));
    Ok(Report { handled, attempts: attempts.made })
}

/// Sends a request without whose success there is no work to do.
fn ask(around: &mut dyn Around, request: Request) -> Result<String, Error> {
    let what = format!("{} {}", request.method, request.url);
    match around.send(&request) {
        Ok(Answer { status: 200..=299, body }) => Ok(body),
        Ok(Answer { status, body }) => Err(Error::new("TRACKER_REFUSED", format!("{what}: {status}: {body}"))),
        Err(Unsent::Denied(denial)) => Err(Error::new(denial.code, denial.message)),
        Err(Unsent::Failed(why)) => Err(Error::new("REQUEST_FAILED", format!("{what}: {why}"))),
    }
}

/// Returns what people find below the issue: its label, and what the agent was told to do and what came of it.
fn comment(label: &str, came_of: &[Attempt]) -> String {
    let mut comment = format!("Label: {label}.");
    for Attempt { does, outcome, .. } in came_of {
        comment.push_str(&match outcome {
            Outcome::Done { result } => format!("\nThe issue says: {does}. Done: {result}"),
            Outcome::Denied { code, rule, .. } => {
                let rule = rule.as_deref().map(|rule| format!(" by {rule}")).unwrap_or_default();
                format!("\nThe issue says: {does}. Denied{rule} ({code}): a person decides.")
            }
            Outcome::Failed { why } => format!("\nThe issue says: {does}. Not done ({why})."),
            Outcome::NotAskedAgain => format!("\nThe issue says again: {does}. It was denied before."),
        });
    }
    comment
}
