//! Names that people choose.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Defines a text of a certain form.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $is:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                let is: fn(&str) -> bool = $is;
                if is(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(BadName { text: text.chars().take(80).collect(), what: $what })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

name! {
    /// Of a workspace, mount, alias, agent, job, label or memory space: safe as a file name, in a URL and in a shell.
    Name,
    "a name: use 1 to 63 characters of a-z, 0-9 and `-`, a letter first",
    |text| {
        let allowed = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        text.starts_with(|c: char| c.is_ascii_lowercase()) && allowed && text.len() <= 63
    }
}

name! {
    /// Of a tool: words with dots between them, `ticket.read`.
    ToolName,
    "a tool's name: use words of a-z, 0-9, `-` and `_`, a letter first, with dots between them; at most 63 characters",
    |text| {
        let word = |word: &str| {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
            word.starts_with(|c: char| c.is_ascii_lowercase()) && word.bytes().all(allowed)
        };
        text.len() <= 63 && text.split('.').all(word)
    }
}

name! {
    /// Of a version of an agent or a tool. Versions have no order but that of their registration.
    Version,
    "a version: use 1 to 32 characters of A-Z, a-z, 0-9, `.`, `-` and `+`, a letter or digit first",
    |text| {
        let allowed = text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b));
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && allowed && text.len() <= 32
    }
}

/// A text that is no name.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct BadName {
    text: String,
    what: &'static str,
}
