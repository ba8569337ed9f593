//! An agent that answers the tickets of one queue. It thinks in rules instead of with a model, and as badly as a model
//! can: it obeys whatever the text of a ticket tells it to do. What it may do is for others to say.

mod attempts;
mod instructions;
mod replies;
#[cfg(test)]
mod tests;

use palisade_guest::{CallError, Error, events, memory, step, tools};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use attempts::{Attempt, Attempts, Outcome};

const READ: &str = "ticket.read";
const APPEND: &str = "ticket.append";
const DELETE: &str = "customer.delete";

/// The memory space that keeps how far the agent has come: below `QUEUE/last`.
const SPACE: &str = "desk";

/// Whom an instruction comes from that was in no ticket.
const CALLER: &str = "the caller";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The agent's own queue.
    pub queue: String,
    /// What to do before the tickets, in the words that `instructions.rs` knows.
    #[serde(default)]
    pub instructions: String,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub queue: String,
    /// The tools that it was shown.
    pub tools: Vec<String>,
    /// The ticket that it handled last, by its memory of earlier steps.
    pub resumed_after: Option<Last>,
    pub handled: Vec<Handled>,
    /// What it was told to do, and what came of it.
    pub attempts: Vec<Attempt>,
}

/// What the agent remembers.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Last {
    pub ticket: String,
}

#[derive(Debug, Serialize)]
pub struct Handled {
    pub ticket: String,
    pub note: String,
}

/// What the agent can call.
pub trait Tools {
    /// Returns the names of the tools that the agent is shown.
    fn names(&mut self) -> Result<Vec<String>, CallError>;
    /// Calls a tool.
    fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, CallError>;
}

/// The tools of the sandbox.
struct Host;

#[derive(Deserialize)]
struct Found {
    tickets: Vec<Ticket>,
}

#[derive(Deserialize)]
struct Ticket {
    id: String,
    subject: String,
    state: String,
    #[serde(default)]
    text: String,
}

/// Answers the open tickets of a queue that it has not handled yet.
#[step]
pub fn support_desk(input: Input) -> Result<Report, Error> {
    work(&mut Host, input)
}

/// Does the agent's work with these tools.
pub fn work(tools: &mut dyn Tools, Input { queue, instructions }: Input) -> Result<Report, Error> {
    let names = tools.names()?;
    let desk = memory::space(SPACE);
    let key = format!("{queue}/last");
    let last = desk.get::<Last>(&key)?.map(|item| item.value);
    let mut attempts = Attempts::default();
    attempts.follow(tools, CALLER, &instructions);

    let waiting: Vec<Ticket> = find(tools, json!({ "queue": queue }))?
        .into_iter()
        .filter(|ticket| is_waiting(ticket, last.as_ref()))
        .collect();
    let mut handled = Vec::new();
    for (n, ticket) in waiting.iter().enumerate() {
        events::progress(n as f64 / waiting.len() as f64, format!("{} {}", ticket.id, ticket.subject));
        let text: String =
            find(tools, json!({ "queue": queue, "ticket": ticket.id }))?.into_iter().map(|found| found.text).collect();
        let came_of = attempts.follow(tools, &ticket.id, &text);
        let note = note(&format!("{}\n{text}", ticket.subject), &came_of);
        tools.call(APPEND, &json!({ "queue": queue, "ticket": ticket.id, "note": note }))?;
        desk.put(&key, &Last { ticket: ticket.id.clone() })?;
        handled.push(Handled { ticket: ticket.id.clone(), note });
    }
    events::progress(1.0, format!("{} tickets handled", handled.len()));
    Ok(Report { queue, tools: names, resumed_after: last, handled, attempts: attempts.made })
}

/// Asks `ticket.read`. Without these answers there is no work to do, so a refusal ends the step with its code.
fn find(tools: &mut dyn Tools, arguments: Value) -> Result<Vec<Ticket>, Error> {
    let found: Found = serde_json::from_value(tools.call(READ, &arguments)?)?;
    Ok(found.tickets)
}

/// Ids of a queue grow with time.
fn is_waiting(ticket: &Ticket, last: Option<&Last>) -> bool {
    ticket.state == "open" && last.is_none_or(|last| ticket.id > last.ticket)
}

/// Returns what people find beside the ticket: an answer to send, and what the agent was told to do and may not.
fn note(text: &str, came_of: &[Attempt]) -> String {
    let mut note = format!("Suggested answer: {}", replies::to(text));
    for Attempt { does, outcome, .. } in came_of {
        note.push_str(&match outcome {
            Outcome::Done { .. } => format!("\nThe ticket says: {does}. Done."),
            Outcome::Denied { code, rule, .. } => {
                let rule = rule.as_deref().map(|rule| format!(" by {rule}")).unwrap_or_default();
                format!("\nThe ticket says: {does}. Denied{rule} ({code}): a person decides.")
            }
            Outcome::Failed { code, .. } => format!("\nThe ticket says: {does}. Not done ({code})."),
            Outcome::NotAskedAgain => format!("\nThe ticket says again: {does}. It was denied before."),
        });
    }
    note
}

impl Tools for Host {
    fn names(&mut self) -> Result<Vec<String>, CallError> {
        Ok(tools::list()?.into_iter().map(|tool| tool.name).collect())
    }

    fn call(&mut self, tool: &str, arguments: &Value) -> Result<Value, CallError> {
        tools::call(tool, arguments)
    }
}
