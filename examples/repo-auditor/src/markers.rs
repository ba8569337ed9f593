//! Finds the words that people leave where work is unfinished.

use serde::Serialize;

const WORDS: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];

/// What is longer is seldom about the work: minified code has lines of a megabyte.
const TEXT_MAX_CHARS: usize = 120;

/// A marker in a file.
#[derive(Serialize)]
pub struct Marker {
    pub path: String,
    pub line: u64,
    pub word: &'static str,
    pub text: String,
}

/// Returns the first marker of a line, and the text that starts with it.
pub fn find(line: &str) -> Option<(&'static str, String)> {
    let (at, word) = WORDS.into_iter().filter_map(|word| Some((position(line, word)?, word))).min()?;
    Some((word, line[at..].trim_end().chars().take(TEXT_MAX_CHARS).collect()))
}

/// Returns where `word` stands alone: neither `TODOS` nor `XXXX` is a marker.
fn position(line: &str, word: &str) -> Option<usize> {
    let mut positions = line.match_indices(word).map(|(at, _)| at);
    positions.find(|&at| !line[..at].ends_with(is_word) && !line[at + word.len()..].starts_with(is_word))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
