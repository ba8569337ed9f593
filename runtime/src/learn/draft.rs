//! A draft: two texts and what is in neither.

use super::{Learner, evidence::counted, manifest, permits};
use crate::{
    manifest::{self as manifests, BadManifest, MANIFEST_BYTES_MAX, Manifest},
    step::Version,
};

/// What a draft begins with.
pub struct Basis<'a> {
    /// Of the version that is learned about.
    pub manifest: &'a Manifest,
    /// The digest of the component that it was registered with.
    pub component: &'a str,
    /// Versions of the agent that are there already.
    pub taken: &'a [String],
    /// Whether the daemon observes.
    pub observes: bool,
}

/// A manifest and policies, to be reviewed.
#[derive(Debug)]
pub struct Draft {
    /// TOML that [`manifest::parse`](crate::manifest::parse) takes.
    pub manifest: String,
    /// Cedar; comments alone if no permit is missing.
    pub policy: String,
    /// What is in neither, a line for each.
    pub warnings: Vec<String>,
}

/// Why there is no draft.
#[derive(Debug, thiserror::Error)]
pub enum NoDraft {
    #[error("the records have no step to learn from")]
    NoStep,
    #[error("the draft would not be a manifest: {0}")]
    Manifest(#[from] BadManifest),
}

/// Paths of one egress rule that are tried, until the manifest is small enough.
const PATHS: [usize; 4] = [64, 16, 4, 1];

/// How the policies of a draft are meant.
const BESIDE: &str =
    "//\n// These permits go beside the policies that were in force, and are nothing without the manifest.\n";

impl Learner {
    /// Writes down what was learned.
    pub fn draft(mut self, basis: &Basis<'_>) -> Result<Draft, NoDraft> {
        if self.steps() == 0 {
            return Err(NoDraft::NoStep);
        }
        self.finish();
        if !basis.observes {
            self.warnings
                .note("the daemon enforces: what it denied did not happen, and what came after it neither".into());
        }
        let version = next_version(&basis.manifest.version, basis.taken);
        let policy = permits::write(&self.seen, &version, basis, &mut self.warnings);
        let parts = manifest::Parts::of(&self.seen, basis, &mut self.warnings);
        let warnings = self.warnings.lines();
        let head = self.head(basis, &warnings);
        let written = PATHS.iter().map(|paths| parts.write(&version, &head, *paths));
        let fitting = written.into_iter().find(|text| text.len() <= MANIFEST_BYTES_MAX);
        let manifest = fitting.unwrap_or_else(|| bare(&parts.write(&version, "", 1)));
        manifests::parse(&manifest)?;
        Ok(Draft { manifest, policy: format!("{}{BESIDE}\n{policy}", slashed(&head)), warnings })
    }

    /// Says what a draft is, above it.
    fn head(&self, basis: &Basis<'_>, warnings: &[String]) -> String {
        let Manifest { name, version, .. } = basis.manifest;
        let mut head = format!(
            "# DRAFT, to be reviewed. The least that `{name}@{version}` needed for what it did, right or wrong, by {}.\n\
             # What did not happen is not here.\n",
            self.made_of()
        );
        if !warnings.is_empty() {
            head += &format!(
                "#\n# Look at {} first; nothing of it is in the draft:\n",
                counted(warnings.len() as u64, "thing")
            );
        }
        for warning in warnings {
            head += &format!("# - {warning}\n");
        }
        head
    }
}

fn slashed(head: &str) -> String {
    head.lines().map(|line| format!("//{}\n", line.strip_prefix('#').unwrap_or(line))).collect()
}

/// Returns a text of TOML without its comments, each of which is a line of its own.
fn bare(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// Returns a version that is not taken: the number at its end, and one more.
fn next_version(version: &Version, taken: &[String]) -> Version {
    let text = version.as_str();
    let start = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text[start.len()..].parse().unwrap_or(1);
    // More than there are taken need not be tried.
    let numbers = (1..=taken.len() as u64 + 1).map(|more| number.saturating_add(more));
    let separator = if start.len() == text.len() { "-" } else { "" };
    let tried = numbers.clone().map(|number| format!("{start}{separator}{number}"));
    let tried = tried.chain(numbers.map(|number| format!("learned-{number}")));
    let free = tried.filter(|next| !taken.contains(next)).find_map(|next| next.parse().ok());
    free.unwrap_or_else(|| version.clone())
}
