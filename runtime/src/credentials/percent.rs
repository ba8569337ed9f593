//! Percent-encoding of queries and forms.

#[cfg(test)]
mod tests;

use zeroize::Zeroizing;

/// Encodes everything but RFC 3986's unreserved characters and those in `keep`.
pub fn encode(bytes: &[u8], keep: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    // Large enough for all: a buffer that grows would leave copies of a secret behind.
    let mut encoded = Zeroizing::new(String::with_capacity(3 * bytes.len()));
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || (byte.is_ascii() && keep.contains(byte)) {
            encoded.push(char::from(*byte));
        } else {
            let (high, low) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
            encoded.extend([b'%', high, low].map(char::from));
        }
    }
    encoded
}

/// Decodes a name or a value of a query, where a plus is a space. What is no encoding stays.
pub fn decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(digit(*high) << 4 | digit(*low));
                rest = after;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(*byte),
        }
    }
    decoded
}

/// The value of a hex digit.
fn digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        letter => (letter | 0x20).wrapping_sub(b'a' - 10) & 15,
    }
}
