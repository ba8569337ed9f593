//! What is wrong with a policy set, said so that whoever wrote it finds the place.

use std::fmt;

use cedar_policy::ffi::DetailedError;

/// Problems that are told at once. More would hide the first.
const PROBLEMS_MAX: usize = 100;

/// Bytes of one message.
const MESSAGE_BYTES_MAX: usize = 1024;

/// A policy set that was refused, with everything that is wrong with it, up to 100 problems.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct BadPolicies {
    pub problems: Vec<Problem>,
}

/// Something that is wrong with a policy set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, empty if it is about the set as a whole.
    pub file: String,
    /// Line and column, from 1, in characters.
    pub position: Option<(usize, usize)>,
    /// At most 1 KiB.
    pub message: String,
}

impl BadPolicies {
    pub(super) fn new() -> Self {
        Self { problems: Vec::new() }
    }

    /// Adds a problem, unless it was told already or there are enough.
    pub(super) fn add(&mut self, problem: Problem) {
        if !self.is_full() && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    /// Returns the problems as an error if there are any.
    pub(super) fn check(&self) -> Result<(), Self> {
        if self.problems.is_empty() { Ok(()) } else { Err(self.clone()) }
    }
}

impl Problem {
    pub(super) fn new(file: &str, message: impl fmt::Display) -> Self {
        Self { file: file.into(), position: None, message: cut(message.to_string(), MESSAGE_BYTES_MAX) }
    }

    pub(super) fn at(file: &str, text: &str, offset: usize, message: impl fmt::Display) -> Self {
        Self { position: Some(position(text, offset)), ..Self::new(file, message) }
    }

    /// Puts what Cedar says about `text` into our form.
    pub(super) fn from_cedar(file: &str, text: &str, error: &DetailedError) -> Self {
        let help = error.help.as_ref().map(|help| format!(": {help}")).unwrap_or_default();
        let label = error.source_locations.first();
        let expected = label.and_then(|l| l.label.as_ref()).map(|l| format!(" ({l})")).unwrap_or_default();
        let message = format!("{}{expected}{help}", error.message);
        match label {
            Some(label) => Self::at(file, text, label.loc.start, message),
            None => Self::new(file, message),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if let Some((line, column)) = self.position {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for BadPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.problems.iter().map(Problem::to_string).collect();
        f.write_str(&texts.join("\n"))
    }
}

/// Cuts a text to at most `bytes_max` bytes, and shows that it did.
pub fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max.saturating_sub('…'.len_utf8())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
