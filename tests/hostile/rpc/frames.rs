//! HTTP/2 as bytes, for what no client would send.

use std::{path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

/// Kinds of frames.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 0x20;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a daemon may take to end a connection that broke the rules.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Returns a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns a header as HPACK writes it without compression.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    [&[0x10][..], &integer(name.len(), 7), name.as_bytes(), &integer(value.len(), 7), value.as_bytes()].concat()
}

/// Returns a number as HPACK writes it after so many bits of a byte that are zero.
pub fn integer(number: usize, bits: u32) -> Vec<u8> {
    let max = (1 << bits) - 1;
    if number < max {
        return vec![number as u8];
    }
    let (mut bytes, mut rest) = (vec![max as u8], number - max);
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

/// Returns the headers of a request.
pub fn request(method: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    fields.iter().flat_map(|(name, value)| header(name, value)).collect()
}

/// A connection of bytes.
pub struct Raw(UnixStream);

/// How a connection went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// It was closed, or told to go away.
    Ended,
    /// The stream was reset or answered.
    Answered,
    /// Nothing came of it.
    Silent,
}

impl Raw {
    /// Connects, and sends nothing.
    pub async fn connect(socket: &Path) -> Self {
        Self(UnixStream::connect(socket).await.unwrap())
    }

    /// Connects, and says what every client says first.
    pub async fn greeted(socket: &Path) -> Self {
        let mut raw = Self::connect(socket).await;
        raw.send(PREFACE).await;
        raw.send(&frame(SETTINGS, 0, 0, &[])).await;
        raw
    }

    /// Sends bytes; returns whether the other side still takes them. One that takes none for a while has ended it.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout(Duration::from_secs(3), self.0.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Sends the same again and again, without reading; returns whether it was all taken.
    pub async fn flood(&mut self, bytes: &[u8], count: usize) -> bool {
        let many = (65_536 / bytes.len().max(1)).clamp(1, count);
        let block = bytes.repeat(many);
        for _ in 0..count.div_ceil(many) {
            if !self.send(&block).await {
                return false;
            }
        }
        true
    }

    /// Reads until the connection ends, or something comes for a stream if that is enough.
    pub async fn went(&mut self, answer_is_enough: bool) -> Went {
        let mut seen = Vec::new();
        let reading = async {
            let mut bytes = vec![0; 65_536];
            loop {
                match self.0.read(&mut bytes).await {
                    Ok(0) | Err(_) => return Went::Ended,
                    Ok(read) => seen.extend_from_slice(&bytes[..read]),
                }
                for kind in kinds(&mut seen) {
                    match kind {
                        GOAWAY => return Went::Ended,
                        HEADERS | RST_STREAM if answer_is_enough => return Went::Answered,
                        _ => {}
                    }
                }
            }
        };
        timeout(ENDS_WITHIN, reading).await.unwrap_or(Went::Silent)
    }
}

/// Takes whole frames off the front of `bytes` and returns their kinds.
fn kinds(bytes: &mut Vec<u8>) -> Vec<u8> {
    let (mut kinds, mut at) = (Vec::new(), 0);
    while let Some(head) = bytes.get(at..at + 9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if bytes.len() < at + 9 + length {
            break;
        }
        kinds.push(head[3]);
        at += 9 + length;
    }
    bytes.drain(..at);
    kinds
}
