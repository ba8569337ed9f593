//! Takes values and their common encodings out of what an upstream answers.

mod encodings;
mod patterns;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use zeroize::Zeroizing;

use patterns::Patterns;

/// What stands in the place of a secret. The length stays, so that `content-length` stays true.
const MASK: u8 = b'*';

/// Knows the values of one attachment. Cheap to clone.
///
/// It finds a value as it is, percent-encoded, in base64 (also inside of longer base64), in hex, escaped for JSON or
/// HTML, in UTF-16 and reversed. It cannot find what was compressed, encrypted, cut into pieces or encoded twice: so
/// a request with a credential should not accept a content encoding, and rules should bind credentials to hosts that
/// do not echo them.
#[derive(Clone, Default)]
pub struct Scrubber(Option<Arc<Patterns>>);

impl Scrubber {
    /// Returns a scrubber of these values. Empty values are nothing to look for.
    ///
    /// A value below 8 bytes is looked for as it is only: its encodings would be found everywhere by chance.
    pub fn of(values: &[&[u8]]) -> io::Result<Self> {
        let patterns = Patterns::of(values)?;
        Ok(Self((patterns.longest() > 0).then(|| Arc::new(patterns))))
    }

    /// Returns the text without the values.
    pub fn text(&self, text: &str) -> String {
        match &self.0 {
            None => text.into(),
            Some(_) => String::from_utf8_lossy(&self.all(text.as_bytes())).into_owned(),
        }
    }

    /// Returns the header's value without the values. It is sensitive if the original is, or if something was found.
    pub fn header(&self, value: &HeaderValue) -> HeaderValue {
        if self.0.is_none() {
            return value.clone();
        }
        let clean = self.all(value.as_bytes());
        if clean == value.as_bytes() {
            return value.clone();
        }
        // A mask is always legal in a header; what is not must not come through.
        let mut clean = HeaderValue::from_maybe_shared(clean).unwrap_or_else(|_| HeaderValue::from_static("*"));
        clean.set_sensitive(true);
        clean
    }

    /// Starts a stream.
    pub fn stream(&self) -> Scrub {
        Scrub { patterns: self.0.clone(), held: Zeroizing::default(), masked: 0, hits: 0 }
    }

    fn all(&self, bytes: &[u8]) -> Bytes {
        let mut stream = self.stream();
        let mut clean = BytesMut::from(&stream.push(Bytes::copy_from_slice(bytes))[..]);
        clean.extend_from_slice(&stream.finish());
        clean.freeze()
    }
}

/// A stream that is being scrubbed. What comes out does not depend on how the stream was cut into chunks.
///
/// It holds back only what may be the beginning of a value: nothing as a rule, and never more than the longest
/// encoding of a value, less one byte.
pub struct Scrub {
    patterns: Option<Arc<Patterns>>,
    /// The end of the stream so far, not yet decided.
    held: Zeroizing<Vec<u8>>,
    /// How many of the next bytes belong to a value that was found.
    masked: usize,
    hits: u64,
}

impl Scrub {
    /// Takes the next chunk, and returns what is decided by now. It may be empty.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        self.decide(chunk, false)
    }

    /// Returns the rest: the stream has ended.
    pub fn finish(&mut self) -> Bytes {
        self.decide(Bytes::new(), true)
    }

    /// Returns how many places were masked so far. Values that overlap count as one place.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    fn decide(&mut self, chunk: Bytes, last: bool) -> Bytes {
        let Some(patterns) = self.patterns.clone() else { return chunk };
        let chunk = if self.held.is_empty() {
            chunk
        } else {
            let held = std::mem::take(&mut self.held);
            Bytes::from([&held[..], &chunk[..]].concat())
        };
        let mut clean: Option<BytesMut> = None;
        let mut at = 0;
        while at < chunk.len() {
            let rest = &chunk[at..];
            if self.masked == 0 {
                // Nothing can begin before the next candidate.
                at += patterns.skip(rest);
                if at == chunk.len() {
                    break;
                }
            }
            let rest = &chunk[at..];
            if let Some(len) = patterns.longest_at(rest) {
                self.hits += u64::from(self.masked == 0);
                self.masked = self.masked.max(len);
            }
            if !last && patterns.may_begin(rest) {
                self.held = Zeroizing::new(rest.to_vec());
                break;
            }
            if self.masked > 0 {
                self.masked -= 1;
                clean.get_or_insert_with(|| BytesMut::from(&chunk[..]))[at] = MASK;
            }
            at += 1;
        }
        match clean {
            None => chunk.slice(..at),
            Some(clean) => clean.freeze().slice(..at),
        }
    }
}
