//! What an audit finds, collected file by file. `report.json` is this, as it is.

use std::{collections::BTreeMap, io};

use palisade_guest::events;
use serde::Serialize;

use crate::{
    dependencies::Dependencies,
    languages::{self, Language, Languages},
    licences::{self, Licence},
    markers::{self, Marker},
    sample::Sample,
    secrets::{self, Secret},
    walk::{Content, File, Unreadable},
};

#[derive(Default, Serialize)]
pub struct Findings {
    pub files: u64,
    pub bytes: u64,
    pub lines: u64,
    pub languages: Languages,
    pub largest: Vec<File>,
    pub markers: Sample<Marker>,
    pub licences: Sample<Licence>,
    pub dependencies: Dependencies,
    pub possible_secrets: Sample<Secret>,
    /// How many entries were left out, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    pub unreadable: Sample<Unreadable>,
}

/// What the step returns: the findings without their long lists.
#[derive(Serialize)]
pub struct Summary {
    pub files: u64,
    pub bytes: u64,
    pub lines: u64,
    pub languages: Vec<Language>,
    pub largest: Vec<File>,
    pub markers: u64,
    pub licences: Vec<Licence>,
    /// Different packages, over all lock files.
    pub dependencies: u64,
    pub possible_secrets: u64,
    pub skipped: BTreeMap<&'static str, u64>,
    pub unreadable: u64,
    /// Where the report for people is.
    pub report: String,
}

impl Findings {
    /// Adds one file, as it could be read.
    pub fn add(&mut self, file: &File, content: io::Result<Content>) {
        match content {
            Ok(Content::Text(text)) => self.add_text(file, &text),
            Ok(Content::Binary) => self.count(file, languages::BINARY, 0),
            Ok(Content::TooLarge) => self.count(file, languages::of(file.name()), 0),
            Err(error) => self.add_unreadable(file, error.to_string()),
        }
    }

    fn add_text(&mut self, file: &File, text: &str) {
        self.count(file, languages::of(file.name()), text.lines().count() as u64);
        for (number, line) in (1..).zip(text.lines()) {
            self.add_line(file, number, line);
        }
        if licences::is_licence(file.name()) {
            self.licences.add(Licence { path: file.path.clone(), licence: licences::guess(text) });
        }
        if let Err(reason) = self.dependencies.add(file, text) {
            self.add_unreadable(file, reason);
        }
    }

    fn add_line(&mut self, file: &File, number: u64, line: &str) {
        let secret = secrets::find(line);
        if let Some((word, text)) = markers::find(line) {
            // The report must not hold a secret, also not as a part of somebody's to-do.
            let text = if secret.is_some() { String::from("(not quoted: a possible secret)") } else { text };
            self.markers.add(Marker { path: file.path.clone(), line: number, word, text });
        }
        if let Some((kind, redacted)) = secret {
            self.possible_secrets.add(Secret { path: file.path.clone(), line: number, kind, redacted });
        }
    }

    fn add_unreadable(&mut self, file: &File, reason: String) {
        self.unreadable.add(Unreadable { path: file.path.clone(), reason });
    }

    fn count(&mut self, file: &File, language: &'static str, lines: u64) {
        self.files += 1;
        self.bytes += file.bytes;
        self.lines += lines;
        self.languages.add(language, lines, file.bytes);
    }

    /// Tells the caller what a person should look at. One event each: the report has the details.
    pub fn warn(&self) {
        if self.possible_secrets.total > 0 {
            events::warn!("possible secrets found", count = self.possible_secrets.total);
        }
        if let Some(first) = self.unreadable.first.first() {
            let count = self.unreadable.total;
            events::warn!("some paths are unreadable", count = count, first = first.path, reason = first.reason);
        }
    }

    /// Returns the findings without their long lists.
    pub fn into_summary(self, report: String) -> Summary {
        Summary {
            files: self.files,
            bytes: self.bytes,
            lines: self.lines,
            languages: self.languages.ranked(),
            largest: self.largest,
            markers: self.markers.total,
            licences: self.licences.first,
            dependencies: self.dependencies.different(),
            possible_secrets: self.possible_secrets.total,
            skipped: self.skipped,
            unreadable: self.unreadable.total,
            report,
        }
    }
}
