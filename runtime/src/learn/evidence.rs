//! What a part of a draft was made of.

use std::collections::HashSet;

/// Numbers of records that are told.
const SHOWN: usize = 8;

/// Records, and the steps that they are of.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    records: u64,
    shown: Vec<u64>,
    steps: HashSet<u32>,
}

impl Evidence {
    /// Adds a record.
    pub fn add(&mut self, sequence: u64, step: u32) {
        self.records += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(sequence);
        }
        self.steps.insert(step);
    }

    /// Returns how many records there are.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Returns it for people: `12 records of 3 steps: 41, 57, 63 and 9 more`.
    pub fn words(&self) -> String {
        let numbers: Vec<String> = self.shown.iter().map(ToString::to_string).collect();
        let more = match self.records - self.shown.len() as u64 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (records, steps) = (counted(self.records, "record"), counted(self.steps.len() as u64, "step"));
        format!("{records} of {steps}: {}{more}", numbers.join(", "))
    }
}

/// Returns `1 step`, `2 steps`.
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Returns a text that can stand in a comment: on one line, without what steers, and not too long.
pub fn comment(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut cut: String = text.chars().take(CHARS_MAX).map(|c| if steers(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        cut.push('…');
    }
    cut
}
