//! The ways in which an upstream may write a value that it was sent.

use std::iter;

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

/// A way to write a value.
type Written = Zeroizing<Vec<u8>>;

/// Values below are too short for anything but themselves.
pub const VALUE_BYTES_MIN: usize = 8;

/// Returns the value in all encodings, with repetitions. Nothing for an empty value.
pub fn all(value: &[u8]) -> Vec<Written> {
    if value.is_empty() {
        return Vec::new();
    }
    let mut all = vec![Zeroizing::new(value.to_vec())];
    if value.len() < VALUE_BYTES_MIN {
        return all;
    }
    all.push(written(value.iter().rev().map(|byte| [*byte])));
    for digits in [b"0123456789abcdef", b"0123456789ABCDEF"] {
        all.push(written(value.iter().map(|byte| hex(*byte, digits))));
        all.extend(percent(value, digits));
        all.extend(json(value, digits));
        all.extend(html(value, digits));
    }
    all.extend(base64(value));
    all.extend(utf16(value));
    all
}

/// RFC 3986, `encodeURIComponent`, `encodeURI`, HTML forms (a space is a plus) and everything.
fn percent(value: &[u8], digits: &[u8; 16]) -> impl Iterator<Item = Written> {
    let kept: [&[u8]; 5] = [b"-._~", b"-_.!~*'()", b"-_.!~*'();,/?:@&=+$#", b"*-._ ", b""];
    kept.into_iter().map(move |kept| {
        written(value.iter().map(|byte| match byte {
            b' ' if kept.contains(&b' ') => Piece::of(b"+"),
            byte if kept.contains(byte) || (byte.is_ascii_alphanumeric() && !kept.is_empty()) => Piece::of(&[*byte]),
            byte => {
                let [high, low] = hex(*byte, digits);
                Piece::of(&[b'%', high, low])
            }
        }))
    })
}

/// With the least escapes; also with `/`, non-ASCII and `<>&` escaped, in all combinations; and everything as `\u`.
fn json(value: &[u8], digits: &[u8; 16]) -> impl Iterator<Item = Written> {
    (0..=8).map(move |way| {
        let [slash, foreign, markup, every] = [1, 2, 4, 8].map(|bit| way & bit != 0);
        written(chars(value).map(move |c| match c {
            '"' | '\\' if !every => Piece::of(&[b'\\', c as u8]),
            '/' if slash => Piece::of(b"\\/"),
            '\n' if !every => Piece::of(b"\\n"),
            '\r' if !every => Piece::of(b"\\r"),
            '\t' if !every => Piece::of(b"\\t"),
            c if every || c.is_control() || (foreign && !c.is_ascii()) || (markup && "<>&".contains(c)) => {
                let mut piece = Piece::default();
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let [high, low] = unit.to_be_bytes().map(|byte| hex(byte, digits));
                    piece.push(&[b'\\', b'u', high[0], high[1], low[0], low[1]]);
                }
                piece
            }
            c => Piece::of(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }))
    })
}

/// Named entities, with the spellings of `'` and `"`, and everything by number, decimal and hex.
fn html(value: &[u8], digits: &[u8; 16]) -> impl Iterator<Item = Written> {
    let quotes = [["&quot;", "&#39;"], ["&#34;", "&#39;"], ["&quot;", "&#x27;"], ["&quot;", "&apos;"], ["\"", "'"]];
    let named = quotes.into_iter().map(move |[double, single]| {
        written(chars(value).map(move |c| match c {
            '&' => Piece::of(b"&amp;"),
            '<' => Piece::of(b"&lt;"),
            '>' => Piece::of(b"&gt;"),
            '"' => Piece::of(double.as_bytes()),
            '\'' => Piece::of(single.as_bytes()),
            c => Piece::of(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }))
    });
    let decimal = written(chars(value).map(|c| number(c, b"&#", 10, b"0123456789abcdef")));
    let hex = written(chars(value).map(|c| number(c, b"&#x", 16, digits)));
    named.chain([decimal, hex])
}

/// The value alone, with padding and without; and what every longer base64 text has of it, wherever it begins there.
fn base64(value: &[u8]) -> impl Iterator<Item = Written> {
    [STANDARD, URL_SAFE].into_iter().flat_map(move |alphabet| {
        let padded = GeneralPurpose::new(&alphabet, GeneralPurposeConfig::new());
        let bare = GeneralPurpose::new(&alphabet, GeneralPurposeConfig::new().with_encode_padding(false));
        let within = (0..3).map({
            let bare = bare.clone();
            move |before| {
                let text = Zeroizing::new([&[0; 3][..before], value].concat());
                let encoded = encode(&bare, &text);
                // A digit has 6 bits: without those that also hold bits of a neighbour.
                let from = (before * 8).div_ceil(6);
                let to = text.len() * 8 / 6;
                Zeroizing::new(encoded[from..to].to_vec())
            }
        });
        within.chain([encode(&padded, value), encode(&bare, value)])
    })
}

fn encode(engine: &GeneralPurpose, bytes: &[u8]) -> Written {
    let mut encoded = Zeroizing::new(vec![0; bytes.len().div_ceil(3) * 4]);
    // There is room for every encoding.
    let len = engine.encode_slice(bytes, &mut encoded).unwrap_or(0);
    encoded.truncate(len);
    encoded
}

/// Little and big endian.
fn utf16(value: &[u8]) -> impl Iterator<Item = Written> {
    [u16::to_le_bytes, u16::to_be_bytes].into_iter().map(move |bytes| {
        written(chars(value).map(|c| {
            let mut piece = Piece::default();
            for unit in c.encode_utf16(&mut [0; 2]) {
                piece.push(&bytes(*unit));
            }
            piece
        }))
    })
}

/// The characters of a text; of what is no text, one for each byte, as in Latin-1.
fn chars(value: &[u8]) -> impl Iterator<Item = char> + Clone {
    let text = std::str::from_utf8(value).ok();
    let bytes = if text.is_none() { value } else { &[] };
    text.into_iter().flat_map(str::chars).chain(bytes.iter().map(|byte| char::from(*byte)))
}

fn hex(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]
}

fn number(c: char, before: &[u8], base: u32, digits: &[u8; 16]) -> Piece {
    let c = u32::from(c);
    let length = iter::successors(Some(c), |c| Some(c / base)).take_while(|c| *c > 0).count().max(1) as u32;
    let mut piece = Piece::of(before);
    for place in (0..length).rev() {
        piece.push(&[digits[(c / base.pow(place) % base) as usize]]);
    }
    piece.push(b";");
    piece
}

/// Puts pieces together without leaving copies behind, as a buffer does that grows.
fn written<T: AsRef<[u8]>>(pieces: impl Iterator<Item = T> + Clone) -> Written {
    let len = pieces.clone().map(|piece| piece.as_ref().len()).sum();
    let mut written = Zeroizing::new(Vec::with_capacity(len));
    for piece in pieces {
        written.extend_from_slice(piece.as_ref());
    }
    written
}

/// One character, written: up to 12 bytes, for `\uXXXX\uXXXX`.
#[derive(Default)]
struct Piece {
    bytes: [u8; 12],
    len: usize,
}

impl Piece {
    fn of(bytes: &[u8]) -> Self {
        let mut piece = Self::default();
        piece.push(bytes);
        piece
    }

    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().take(self.bytes.len() - self.len) {
            self.bytes[self.len] = *byte;
            self.len += 1;
        }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
