//! Requests of the probe, made with wasi:http itself, so that it can ask what no client would. An outcome is JSON:
//! `ok: {"status": 200, "headers": [["a", "b"]], "body": "…", "body_bytes": 7, "trailers": null}`, or
//! `error: {"error": "http-request-denied", "at": "response", "text": "…", "why": {"class": "denied", …}}`.

#[cfg(target_os = "wasi")]
mod exchange;
#[cfg(target_os = "wasi")]
mod reading;
#[cfg(target_os = "wasi")]
mod refusal;

use serde::Deserialize;
#[cfg(target_os = "wasi")]
use serde_json::Value;

#[derive(Deserialize)]
pub enum Http {
    /// Sends one request and reads its response.
    #[serde(rename = "http")]
    One(Box<Asked>),
    /// Sends the requests, so many of them at once (all, if it is not said), and says their outcomes in their order.
    #[serde(rename = "http-many")]
    Many { requests: Vec<Asked>, at_once: Option<usize> },
    /// Writes a chunk of the body and reads as much of the response, and so on: what an echo answers.
    #[serde(rename = "http-stream")]
    Alternate(Box<Asked>),
}

/// A request. What is not said is left as it is when nobody sets it, but for method, scheme and path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    method: String,
    scheme: Option<String>,
    authority: Option<String>,
    path: Option<String>,
    headers: Vec<(String, Bytes)>,
    /// A write for each chunk. An empty list is a body of nothing; none is no body.
    body: Option<Vec<Bytes>>,
    trailers: Vec<(String, Bytes)>,
    connect_timeout_ms: Option<u64>,
    first_byte_timeout_ms: Option<u64>,
    between_bytes_timeout_ms: Option<u64>,
    /// Reads so many bytes of the response and drops it.
    read_max: Option<u64>,
    /// Says so many bytes of the response's body, 64 KiB if nothing is said. All are counted.
    said_max: Option<usize>,
    drop: Option<Dropped>,
    /// Reads nothing of the response, and keeps it open for ever.
    hold: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dropped {
    /// The body, when its chunks are written but before it is finished.
    Request,
    /// The response that is to come.
    Response,
    /// The response's body, unread.
    Body,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum Bytes {
    Text(String),
    Hex {
        hex: String,
    },
    /// So many `x`.
    Fill {
        fill: usize,
    },
}

impl Http {
    #[cfg(target_os = "wasi")]
    pub fn outcome(self) -> String {
        match self {
            Self::One(asked) => line(exchange::one(&asked)),
            Self::Many { requests, at_once } => format!("ok: {}", exchange::many(&requests, at_once)),
            Self::Alternate(asked) => line(exchange::alternate(&asked)),
        }
    }

    #[cfg(not(target_os = "wasi"))]
    pub fn outcome(self) -> String {
        "error: there is no wasi:http".into()
    }
}

#[cfg(target_os = "wasi")]
fn line(outcome: Result<Value, Value>) -> String {
    match outcome {
        Ok(said) => format!("ok: {said}"),
        Err(said) => format!("error: {said}"),
    }
}

#[cfg(target_os = "wasi")]
impl Bytes {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Hex { hex } => {
                let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
                hex.as_bytes().chunks(2).map(|pair| digits(pair).expect("hexadecimal digits")).collect()
            }
            Self::Fill { fill } => vec![b'x'; *fill],
        }
    }
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            scheme: Some("https".into()),
            authority: None,
            path: Some("/".into()),
            headers: Vec::new(),
            body: None,
            trailers: Vec::new(),
            connect_timeout_ms: None,
            first_byte_timeout_ms: None,
            between_bytes_timeout_ms: None,
            read_max: None,
            said_max: None,
            drop: None,
            hold: false,
        }
    }
}
