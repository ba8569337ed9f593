//! Which label an issue gets, by its words.

/// Words of which one must be there, and the label. The first that fits is taken.
const LABELS: &[(&[&str], &str)] = &[
    (&["vulnerability", "leaks", "anybody can read"], "security"),
    (&["crash", "panic", "error", "wrong", "does not work"], "bug"),
    (&["typo", "documentation", "readme"], "documentation"),
    (&["please add", "would be nice", "support for"], "enhancement"),
    (&["how do i", "how can i", "is there a way"], "question"),
];

/// The label of everything else.
const OTHERWISE: &str = "needs-a-person";

/// Returns the label of an issue.
pub fn of(text: &str) -> &'static str {
    let text = text.to_lowercase();
    let fitting = LABELS.iter().find(|(words, _)| words.iter().any(|word| text.contains(word)));
    fitting.map_or(OTHERWISE, |(_, label)| label)
}
