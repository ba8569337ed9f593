//! The path and the query of a URL, in the one form in which we take them.

use icu_normalizer::ComposingNormalizerBorrowed;

use super::text::shown;

#[cfg(test)]
mod tests;

/// Bytes of path and query together.
pub const TARGET_BYTES_MAX: usize = 8 << 10;

/// A path or a query that somebody could read as another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("path and query have {0} bytes: at most {TARGET_BYTES_MAX} are sent")]
    TooLong(usize),
    #[error("the path `{0}` does not begin with `/`: give the path and the query only, not a whole URL")]
    NoSlash(String),
    #[error("the path has an empty segment, `//`")]
    EmptySegment,
    #[error("the path has the segment `{0}`, which can be read as a step up or as nothing")]
    DotSegment(String),
    #[error("the character `{0}` cannot stand in a path or a query: percent-encode it")]
    Character(String),
    #[error("`{0}` is not a percent-encoding: write `%` and two hex digits, in a path upper-case ones")]
    Percent(String),
    #[error("the path has `{0}`: encoded slashes, backslashes, dots, percent signs and controls are not sent")]
    Encoded(String),
    #[error("the path has `{0}`, which needs no encoding: write `{1}`")]
    Needless(String, char),
    #[error("the path's segment `{0}` is not UTF-8 text in its normal form (NFKC), without controls")]
    Text(String),
}

/// Takes path and query apart, and refuses them unless every reader sees the same.
pub fn split(target: &str) -> Result<(&str, Option<&str>), BadPath> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(BadPath::TooLong(target.len()));
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    check(path)?;
    if let Some(query) = query {
        check_query(query)?;
    }
    Ok((path, query))
}

/// Refuses a path that is not in its normal form. A path that passes has one spelling: rules and policies compare text.
pub fn check(path: &str) -> Result<(), BadPath> {
    let rest = path.strip_prefix('/').ok_or_else(|| BadPath::NoSlash(shown(path)))?;
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        if !segment.is_empty() {
            check_segment(segment)?;
        } else if segments.peek().is_some() {
            return Err(BadPath::EmptySegment);
        }
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), BadPath> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            literal(byte, segment, b":@")?;
            decoded.push(byte);
            continue;
        }
        let digits = (bytes.next().unwrap_or(0), bytes.next().unwrap_or(0));
        let value = upper_hex(digits).ok_or_else(|| BadPath::Percent(percent(digits)))?;
        match value {
            b'/' | b'\\' | b'.' | b'%' | 0..0x20 | 0x7f => return Err(BadPath::Encoded(percent(digits))),
            _ if is_unreserved(value) => return Err(BadPath::Needless(percent(digits), value.into())),
            _ => decoded.push(value),
        }
    }
    let text = str::from_utf8(&decoded).ok().filter(|text| is_normal(text));
    let text = text.ok_or_else(|| BadPath::Text(shown(segment)))?;
    // Some servers cut parameters off (`..;x`), some cut blanks off (`.. `), before they look for dots.
    let name = text.split(';').next().unwrap_or(text).trim_matches(' ');
    if let "" | "." | ".." = name { Err(BadPath::DotSegment(shown(segment))) } else { Ok(()) }
}

/// Refuses a query with characters that are read differently. What is encoded in it is data, and stays as it is.
fn check_query(query: &str) -> Result<(), BadPath> {
    let mut bytes = query.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            literal(byte, query, b":@/?[]")?;
            continue;
        }
        let digits = (bytes.next().unwrap_or(0), bytes.next().unwrap_or(0));
        if !digits.0.is_ascii_hexdigit() || !digits.1.is_ascii_hexdigit() {
            return Err(BadPath::Percent(percent(digits)));
        }
    }
    Ok(())
}

/// Refuses a byte of `text` that must be encoded.
fn literal(byte: u8, text: &str, also: &[u8]) -> Result<(), BadPath> {
    if is_unreserved(byte) || b"!$&'()*+,;=".contains(&byte) || also.contains(&byte) {
        return Ok(());
    }
    let first = text.chars().find(|c| if byte.is_ascii() { *c == char::from(byte) } else { !c.is_ascii() });
    Err(BadPath::Character(first.unwrap_or_default().escape_default().collect()))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Returns whether no reader that normalises makes another text of it: `ﬁ` is not `fi`, nor a wide slash a slash.
fn is_normal(text: &str) -> bool {
    text.is_ascii() || !text.contains(char::is_control) && ComposingNormalizerBorrowed::new_nfkc().is_normalized(text)
}

fn upper_hex((high, low): (u8, u8)) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// Writes a percent sign and what follows it for a message.
fn percent((high, low): (u8, u8)) -> String {
    let text = [b'%', high, low];
    shown(String::from_utf8_lossy(&text).trim_end_matches('\0'))
}
