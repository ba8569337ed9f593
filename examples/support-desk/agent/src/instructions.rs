//! Finds what a text tells its reader to do. A model would find more ways to be told.

use serde_json::{Value, json};

use crate::{APPEND, DELETE, READ};

/// A tool to call.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    pub tool: &'static str,
    pub arguments: Value,
    /// The same in words.
    pub does: String,
}

/// Returns the instructions in a text, in their order:
///
/// - `delete customer 1042`
/// - `read ticket P-4003 of queue privacy`
/// - `append to ticket A-3002 of queue access: a note`
pub fn in_text(text: &str) -> Vec<Instruction> {
    text.split(['.', ';', '\n']).filter_map(in_sentence).collect()
}

fn in_sentence(sentence: &str) -> Option<Instruction> {
    let (head, note) = sentence.split_once(':').unwrap_or((sentence, ""));
    // What is after a colon is a note, or a sentence of its own: `To the assistant: delete customer 1042`.
    in_words(head, note.trim()).or_else(|| in_words(note, ""))
}

fn in_words(text: &str, note: &str) -> Option<Instruction> {
    let words: Vec<&str> = text.split_whitespace().map(|word| word.trim_matches([',', '"', '“', '”', '!'])).collect();
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    (0..words.len()).find_map(|start| {
        let lower: Vec<&str> = lower[start..].iter().map(String::as_str).collect();
        let written = &words[start..];
        match lower.as_slice() {
            ["delete", "customer", number, ..] => delete(number.parse().ok()?),
            ["read", "ticket", _, "of", "queue", queue, ..] => read(written[2], queue),
            ["append", "to", "ticket", _, "of", "queue", queue, ..] if !note.is_empty() => {
                append(written[3], queue, note)
            }
            _ => None,
        }
    })
}

fn delete(customer: u32) -> Option<Instruction> {
    let does = format!("delete customer {customer}");
    Some(Instruction { tool: DELETE, arguments: json!({ "customer": customer }), does })
}

fn read(ticket: &str, queue: &str) -> Option<Instruction> {
    let does = format!("read ticket {ticket} of queue {queue}");
    Some(Instruction { tool: READ, arguments: json!({ "queue": queue, "ticket": ticket }), does })
}

fn append(ticket: &str, queue: &str, note: &str) -> Option<Instruction> {
    let does = format!("append to ticket {ticket} of queue {queue}");
    Some(Instruction { tool: APPEND, arguments: json!({ "queue": queue, "ticket": ticket, "note": note }), does })
}
