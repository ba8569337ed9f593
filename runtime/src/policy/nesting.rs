//! Bounds how deep a policy nests before it is parsed: Cedar's parser recurses, and so does dropping its trees.

#[cfg(test)]
mod tests;

/// Brackets inside brackets.
pub const DEPTH_MAX: usize = 32;

/// Operators, field accesses and opening brackets of one policy: chains of them become trees as deep as they are long.
pub const OPERATORS_MAX: usize = 256;

/// A place where a text breaks a bound.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooComplex {
    #[error("this policy nests more than {DEPTH_MAX} brackets: split it into several policies")]
    Depth { offset: usize },
    #[error("this policy has more than {OPERATORS_MAX} operators and brackets: split it into several policies")]
    Operators { offset: usize },
    #[error("there are more than {max} policies in the set")]
    Policies { offset: usize, max: usize },
}

impl TooComplex {
    /// Returns the byte at which the bound is broken.
    pub fn offset(&self) -> usize {
        match *self {
            Self::Depth { offset } | Self::Operators { offset } | Self::Policies { offset, .. } => offset,
        }
    }
}

/// Checks a text that is to be parsed as policies, at most `policies_max` of them. Returns how many it ends.
pub fn check(text: &str, policies_max: usize) -> Result<usize, TooComplex> {
    let bytes = text.as_bytes();
    let (mut offset, mut depth, mut operators, mut policies) = (0, 0_usize, 0, 0);
    while let Some(&byte) = bytes.get(offset) {
        let start = offset;
        offset += 1;
        match byte {
            b'"' => offset = string_end(bytes, offset),
            b'/' if bytes.get(offset) == Some(&b'/') => offset = line_end(bytes, offset),
            b'(' | b'[' | b'{' => {
                depth += 1;
                operators += 1;
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' => (depth, operators, policies) = (0, 0, policies + 1),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'0'..=b'9' => {
                offset = word_end(bytes, offset);
                operators += usize::from(&bytes[start..offset] == b"if");
            }
            b'&' | b'|' | b'=' | b'<' | b'>' | b'!' | b'+' | b'-' | b'*' | b'.' | b'/' | b'%' => {
                let pair = bytes.get(start..start + 2);
                offset += usize::from(matches!(pair, Some(b"&&" | b"||" | b"==" | b"!=" | b"<=" | b">=")));
                operators += 1;
            }
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(TooComplex::Depth { offset: start });
        }
        if operators > OPERATORS_MAX {
            return Err(TooComplex::Operators { offset: start });
        }
        if policies > policies_max {
            return Err(TooComplex::Policies { offset: start, max: policies_max });
        }
    }
    Ok(policies)
}

fn string_end(bytes: &[u8], mut offset: usize) -> usize {
    while let Some(byte) = bytes.get(offset) {
        match byte {
            b'"' => return offset + 1,
            b'\\' => offset += 2,
            _ => offset += 1,
        }
    }
    bytes.len()
}

fn line_end(bytes: &[u8], offset: usize) -> usize {
    bytes[offset..].iter().position(|b| matches!(b, b'\n' | b'\r')).map_or(bytes.len(), |length| offset + length)
}

fn word_end(bytes: &[u8], offset: usize) -> usize {
    let in_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    bytes[offset..].iter().position(|b| !in_word(b)).map_or(bytes.len(), |length| offset + length)
}
