//! Finds licence files, and guesses which licence they hold.

use serde::Serialize;

use crate::languages;

const NAMES: [&str; 4] = ["LICENSE", "LICENCE", "COPYING", "NOTICE"];

/// What a licence says and others do not; in lower case, with single spaces.
const PHRASES: [(&str, &str); 6] = [
    ("apache license", "Apache-2.0"),
    ("the mit license", "MIT"),
    ("permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"),
    ("general public license", "GPL"),
    ("redistribution and use in source and binary forms", "BSD"),
    ("mozilla public license", "MPL"),
];

/// A licence file.
#[derive(Serialize)]
pub struct Licence {
    pub path: String,
    /// The guessed kind, or `unknown`.
    pub licence: &'static str,
}

/// Returns whether a file of this name is a licence. A licence is prose: `license.py` is a program about licences.
pub fn is_licence(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    NAMES.into_iter().any(|start| upper.starts_with(start))
        && matches!(languages::of(name), languages::OTHER | "Text" | "Markdown")
}

/// Guesses the kind of a licence by its text.
pub fn guess(text: &str) -> &'static str {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ").to_ascii_lowercase();
    // The earliest phrase decides: the MPL, for one, names the GPL further down.
    let found = PHRASES.into_iter().filter_map(|(phrase, licence)| Some((text.find(phrase)?, licence)));
    found.min().map_or("unknown", |(_, licence)| licence)
}
