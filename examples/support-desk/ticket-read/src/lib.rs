//! The tool `ticket.read`: lists the tickets of a queue, or reads one of them.

#[cfg(test)]
mod tests;

use std::{fs, path::Path};

use palisade_guest::{
    Error, events,
    schemars::{self, JsonSchema},
    tool,
};
use serde::{Deserialize, Serialize};

/// A file for each queue, a list of its tickets.
const TICKETS: &str = "/workspace/tickets";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The queue to look into: policy decides by it, and so nothing outside it is read, whatever `ticket` says.
    // The daemon holds the arguments to their schema before the tool runs: no path can be in here.
    #[schemars(regex(pattern = "^[a-z]{1,32}$"))]
    queue: String,
    /// The ticket to read; without it, the queue is listed.
    #[schemars(length(max = 32))]
    ticket: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    tickets: Vec<Ticket>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
pub struct Ticket {
    id: String,
    opened: String,
    customer: u32,
    subject: String,
    state: State,
    /// What the customer wrote. A list leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Open,
    Closed,
}

/// Lists the tickets of a queue; with a ticket's id, reads it.
#[tool]
pub fn ticket_read(arguments: Arguments) -> Result<Output, Error> {
    // The story counts these: one for each time that the tool ran.
    events::info!("reading", queue = arguments.queue, ticket = arguments.ticket.as_deref().unwrap_or("all"));
    read(Path::new(TICKETS), arguments)
}

fn read(tickets: &Path, Arguments { queue, ticket }: Arguments) -> Result<Output, Error> {
    let Ok(text) = fs::read_to_string(tickets.join(format!("{queue}.json"))) else {
        return Err(Error::new("QUEUE_NOT_FOUND", format!("there is no queue `{queue}`")));
    };
    let all: Vec<Ticket> = serde_json::from_str(&text)
        .map_err(|e| Error::new("QUEUE_UNREADABLE", format!("the tickets of queue `{queue}` cannot be read: {e}")))?;
    let Some(id) = ticket else {
        let tickets = all.into_iter().map(|ticket| Ticket { text: None, ..ticket }).collect();
        return Ok(Output { tickets });
    };
    match all.into_iter().find(|ticket| ticket.id == id) {
        Some(ticket) => Ok(Output { tickets: vec![ticket] }),
        None => Err(Error::new("TICKET_NOT_FOUND", format!("there is no ticket `{id}` in queue `{queue}`"))),
    }
}
