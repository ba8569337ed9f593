//! The tool `ticket.append`: appends a note to a ticket.

#[cfg(test)]
mod tests;

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
};

use palisade_guest::{
    Error, events,
    schemars::{self, JsonSchema},
    tool,
};
use serde::{Deserialize, Serialize};

/// `tickets` has a file for each queue, and `notes` another.
const DESK: &str = "/workspace";

/// Who writes the notes that this tool appends.
const AUTHOR: &str = "support-desk";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// The queue that the ticket is in.
    // The daemon holds the arguments to their schema before the tool runs: no path can be in here.
    #[schemars(regex(pattern = "^[a-z]{1,32}$"))]
    queue: String,
    /// The ticket's id.
    #[schemars(length(max = 32))]
    ticket: String,
    /// What to note.
    #[schemars(length(min = 1, max = 4000))]
    note: String,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Output {
    /// Bytes of all notes of the queue.
    bytes: u64,
}

#[derive(Deserialize)]
struct Ticket {
    id: String,
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Note {
    by: String,
    note: String,
    ticket: String,
}

/// Appends a note to a ticket. What is there stays as it is.
#[tool]
pub fn ticket_append(arguments: Arguments) -> Result<Output, Error> {
    // The story counts these: one for each time that the tool ran.
    events::info!("appending", queue = arguments.queue, ticket = arguments.ticket);
    append(Path::new(DESK), arguments)
}

fn append(desk: &Path, Arguments { queue, ticket, note }: Arguments) -> Result<Output, Error> {
    let Ok(tickets) = fs::read_to_string(desk.join(format!("tickets/{queue}.json"))) else {
        return Err(Error::new("QUEUE_NOT_FOUND", format!("there is no queue `{queue}`")));
    };
    let tickets: Vec<Ticket> = serde_json::from_str(&tickets)
        .map_err(|e| Error::new("QUEUE_UNREADABLE", format!("the tickets of queue `{queue}` cannot be read: {e}")))?;
    if !tickets.iter().any(|known| known.id == ticket) {
        return Err(Error::new("TICKET_NOT_FOUND", format!("there is no ticket `{ticket}` in queue `{queue}`")));
    }
    let mut line = serde_json::to_vec(&Note { by: AUTHOR.into(), note, ticket })?;
    line.push(b'\n');
    let mut notes = OpenOptions::new().append(true).create(true).open(desk.join(format!("notes/{queue}.jsonl")))?;
    notes.write_all(&line)?;
    Ok(Output { bytes: notes.metadata()?.len() })
}
