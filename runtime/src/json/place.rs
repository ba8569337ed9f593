//! Where in a JSON document something is, for messages.

use std::fmt;

/// Bytes of a pointer that a message shows.
const SHOWN_BYTES: usize = 160;

/// A JSON pointer (RFC 6901), cut to a bounded length. Displayed in backticks, the empty one as `the top`.
#[derive(Clone, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// Returns the place of a whole document.
    pub(super) fn top() -> Self {
        Self(String::new())
    }

    /// Returns the place that a pointer names.
    pub(super) fn new(pointer: &str) -> Self {
        let mut shown = cut(pointer, SHOWN_BYTES).to_owned();
        if shown.len() < pointer.len() {
            shown.push('…');
        }
        Self(shown)
    }

    /// Returns the pointer, which ends in `…` if it was cut.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("the top") } else { write!(f, "`{}`", self.0) }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Appends a key or an index to a pointer.
pub(super) fn push(pointer: &mut String, token: &str) {
    pointer.push('/');
    for character in token.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

/// Returns as much of the start of `text` as fits into `bytes_max` bytes.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
