//! From paths to patterns, carefully: a pattern stands for what was seen and for little else.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::egress::PathPattern;

/// One segment whose values vary, or look as if they would.
const ANY: &str = "*";

/// The rest of a path of which the end is not on record.
const REST: &str = "**";

/// Different values of a segment before it stands for any.
const VARIES: usize = 3;

/// Patterns that are kept before they are made fewer.
const KEPT_MAX: usize = 1_024;

/// Hex digits of the shortest segment that looks like an identifier.
const HEX_DIGITS: usize = 8;

/// Paths, made to patterns.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// Segments, and how often they were seen. The first is before the slash, and empty.
    patterns: BTreeMap<Vec<String>, u64>,
    left_out: u64,
}

impl Paths {
    /// Adds a path as it is recorded: one that ends in `…` was cut.
    pub fn add(&mut self, path: &str) {
        let (whole, cut) = match path.strip_suffix('…') {
            Some(beginning) => (beginning, true),
            None => (path, false),
        };
        let mut segments: Vec<String> = whole.split('/').map(segment).collect();
        if cut {
            segments.pop();
            segments.push(REST.into());
        }
        // Of a path that is cut in its first segment nothing is known that could hold it.
        if (cut && segments.len() < 3) || segments.join("/").parse::<PathPattern>().is_err() {
            self.left_out += 1;
            return;
        }
        if self.patterns.len() >= KEPT_MAX && !self.patterns.contains_key(&segments) {
            self.patterns = generalised(std::mem::take(&mut self.patterns));
            if self.patterns.len() >= KEPT_MAX {
                self.left_out += 1;
                return;
            }
        }
        *self.patterns.entry(segments).or_default() += 1;
    }

    /// Returns the patterns, at most `max`, the most used ones, sorted; and how many paths they leave out.
    pub fn patterns(&self, max: usize) -> (Vec<String>, u64) {
        let mut found: Vec<(String, u64)> =
            generalised(self.patterns.clone()).into_iter().map(|(segments, uses)| (segments.join("/"), uses)).collect();
        found.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        let beyond: u64 = found.iter().skip(max).map(|(_, uses)| uses).sum();
        found.truncate(max);
        let mut patterns: Vec<String> = found.into_iter().map(|(pattern, _)| pattern).collect();
        patterns.sort_unstable();
        (patterns, self.left_out + beyond)
    }
}

/// Returns a segment, or what stands for any if it looks like an identifier. A star in it is no character of patterns.
fn segment(text: &str) -> String {
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let identifies = !text.is_empty() && digits == text.len() || hex && text.len() >= HEX_DIGITS && digits > 0;
    if identifies || is_uuid(text) || text.contains('*') { ANY.into() } else { text.into() }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Lets a segment stand for any where all else is the same and it has [`VARIES`] values, or stands for any already. The
/// first segment says what an API is about: it never varies.
fn generalised(mut patterns: BTreeMap<Vec<String>, u64>) -> BTreeMap<Vec<String>, u64> {
    let longest = patterns.keys().map(Vec::len).max().unwrap_or_default();
    loop {
        let before = patterns.len();
        for at in 2..longest {
            let mut alike: BTreeMap<Vec<String>, Vec<(String, u64)>> = BTreeMap::new();
            let mut next = BTreeMap::new();
            for (mut segments, uses) in std::mem::take(&mut patterns) {
                match segments.get_mut(at) {
                    Some(text) if !text.is_empty() && text != REST => {
                        let text = std::mem::replace(text, ANY.into());
                        alike.entry(segments).or_default().push((text, uses));
                    }
                    _ => *next.entry(segments).or_default() += uses,
                }
            }
            for (segments, values) in alike {
                if values.len() >= VARIES || values.iter().any(|(text, _)| text == ANY) {
                    *next.entry(segments).or_default() += values.iter().map(|(_, uses)| uses).sum::<u64>();
                    continue;
                }
                for (text, uses) in values {
                    let mut segments = segments.clone();
                    segments[at] = text;
                    *next.entry(segments).or_default() += uses;
                }
            }
            patterns = next;
        }
        if patterns.len() == before {
            return patterns;
        }
    }
}
