//! What an upstream answers.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;
use tokio::sync::Semaphore;

use super::Seen;

#[derive(Clone, Debug)]
pub enum Reply {
    /// A well-formed response. A body of one piece has its length said; others are chunked.
    Answer { status: u16, headers: Vec<(String, Vec<u8>)>, body: Vec<Piece>, trailers: Vec<(String, String)> },
    /// These bytes instead of a response. HTTP/1.1 only.
    Raw(Vec<Piece>),
}

#[derive(Clone, Debug)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// Again and again, until the client has gone.
    Forever(Vec<u8>),
    /// One byte at a time, with this between them.
    Drip(Vec<u8>, Duration),
    /// Nothing before the test opens the gate.
    Wait(Arc<Gate>),
    /// Nothing more, until the client has gone.
    Hang,
    /// Closes the connection. HTTP/1.1 only.
    Close,
}

/// Closed until the test opens it.
#[derive(Debug)]
pub struct Gate(Semaphore);

impl Gate {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Semaphore::new(0)))
    }

    pub fn open(&self) {
        self.0.close();
    }

    pub async fn opened(&self) {
        let _ = self.0.acquire().await;
    }
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new(), trailers: Vec::new() }
    }

    pub fn text(body: impl Into<Vec<u8>>) -> Self {
        Self::status(200).header("content-type", "text/plain").body(vec![Piece::Bytes(body.into())])
    }

    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Raw(vec![Piece::Bytes(bytes.into()), Piece::Close])
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }

    pub fn body(mut self, pieces: Vec<Piece>) -> Self {
        if let Self::Answer { body, .. } = &mut self {
            *body = pieces;
        }
        self
    }

    /// The same body, each byte by itself.
    pub fn byte_by_byte(self) -> Self {
        let Self::Answer { status, headers, body, trailers } = self else { return self };
        let split = body.into_iter().flat_map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.into_iter().map(|byte| Piece::Bytes(vec![byte])).collect(),
            other => vec![other],
        });
        Self::Answer { status, headers, body: split.collect(), trailers }
    }

    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        if let Self::Answer { trailers, .. } = &mut self {
            trailers.push((name.into(), value.into()));
        }
        self
    }
}

/// Answers with the request itself, as JSON.
pub fn echo(seen: &Seen) -> Reply {
    let text = |(name, value): &(String, Vec<u8>)| json!([name, String::from_utf8_lossy(value)]);
    let body = json!({
        "method": seen.method,
        "target": seen.target,
        "headers": seen.headers.iter().map(text).collect::<Vec<_>>(),
        "trailers": seen.trailers.iter().map(text).collect::<Vec<_>>(),
        "body": BASE64_STANDARD.encode(&seen.body),
        "protocol": seen.protocol,
        "sni": seen.sni,
    });
    let body = Piece::Bytes(body.to_string().into_bytes());
    Reply::status(200).header("content-type", "application/json").body(vec![body])
}
