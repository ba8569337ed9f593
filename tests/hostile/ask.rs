//! What a guest asks, raw, and what it was answered: the acts of the probe's `http`, and its lines.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// A request as the guest's probe builds it with `wasi:http`, part by part and unchecked.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ask {
    pub method: String,
    pub scheme: Option<String>,
    pub authority: Option<String>,
    #[serde(rename = "path")]
    pub path_with_query: Option<String>,
    pub headers: Vec<(String, Chunk)>,
    /// The body's writes, in order. None: the guest does not take the body.
    pub body: Option<Vec<Chunk>>,
    pub trailers: Vec<(String, Chunk)>,
    #[serde(flatten)]
    pub options: Options,
}

/// Bytes on their way to the probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Chunk {
    Text(String),
    Hex {
        hex: String,
    },
    /// So many `x`.
    Fill {
        fill: usize,
    },
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Options {
    pub connect_timeout_ms: Option<u64>,
    pub first_byte_timeout_ms: Option<u64>,
    pub between_bytes_timeout_ms: Option<u64>,
    /// `request`: the request's body is dropped without being finished.
    pub drop: Option<&'static str>,
    /// Bytes of the response's body that the probe repeats; 64 KiB if it is not said.
    pub said_max: Option<usize>,
}

#[derive(Clone, Debug)]
pub enum Answered {
    Ok(Response),
    Err(Failure),
}

#[derive(Clone, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    /// As much of it as the probe repeats.
    pub body: Vec<u8>,
    /// How long all of it is.
    pub length: u64,
    pub trailers: Vec<(String, Vec<u8>)>,
    /// Why the body, or the request's, did not come to its end.
    pub broken: Option<Failure>,
}

#[derive(Clone)]
pub struct Failure {
    /// The name of `wasi:http`'s error code, `header-error:…`, or `refused` by a function that says no more.
    pub name: String,
    /// Of the request or the response.
    pub at: String,
    pub why: Option<Reason>,
    /// All that the guest was told.
    pub said: String,
}

/// What the daemon said of it.
#[derive(Clone, Debug)]
pub struct Reason {
    pub code: String,
    pub message: String,
}

impl Ask {
    pub fn new(method: &str, scheme: &str, authority: &str, path_with_query: &str) -> Self {
        Self {
            method: method.into(),
            scheme: Some(scheme.into()),
            authority: Some(authority.into()),
            path_with_query: Some(path_with_query.into()),
            ..Self::default()
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), Chunk::new(value)));
        self
    }

    pub fn trailer(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.trailers.push((name.into(), Chunk::new(value)));
        self
    }

    /// Adds a write to the body.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body.get_or_insert_default().push(Chunk::new(bytes));
        self
    }

    pub fn fill(mut self, count: usize) -> Self {
        self.body.get_or_insert_default().push(Chunk::Fill { fill: count });
        self
    }

    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Wants to be told so many bytes of the response.
    pub fn said(mut self, bytes: usize) -> Self {
        self.options.said_max = Some(bytes);
        self
    }

    /// The bytes of the body.
    pub fn content(&self) -> Vec<u8> {
        self.body.iter().flatten().flat_map(Chunk::bytes).collect()
    }
}

impl Chunk {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        String::from_utf8(bytes.into()).map_or_else(|error| Self::Hex { hex: hex(error.as_bytes()) }, Self::Text)
    }

    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Hex { hex } => unhex(hex),
            Self::Fill { fill } => vec![b'x'; *fill],
        }
    }
}

impl Answered {
    /// Reads what the probe says of an act.
    pub fn read(line: &str) -> Self {
        let said = line.strip_prefix("ok: ").or_else(|| line.strip_prefix("error: "));
        let said = said.and_then(|json| serde_json::from_str::<Map<String, Value>>(json).ok());
        let said = said.unwrap_or_else(|| panic!("the probe said `{line}`"));
        let failure = said.get("error").map(|_| Failure::read(&said));
        match said.get("status").and_then(Value::as_u64) {
            None => Self::Err(failure.unwrap_or_else(|| panic!("the probe said `{line}`"))),
            Some(status) => Self::Ok(Response {
                status: status as u16,
                headers: fields(&said["headers"]),
                body: said.get("body").map(bytes).unwrap_or_default(),
                length: said.get("body_bytes").and_then(Value::as_u64).unwrap_or_default(),
                trailers: said.get("trailers").map(fields).unwrap_or_default(),
                // A response may come before its request was written, and be well.
                broken: failure.or_else(|| Some(Failure::read(said.get("written")?.as_object()?))),
            }),
        }
    }

    /// Returns what went wrong, at once or in the body.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Ok(response) => response.broken.as_ref(),
            Self::Err(failure) => Some(failure),
        }
    }

    pub fn response(&self) -> &Response {
        match self {
            Self::Ok(response) => response,
            Self::Err(failure) => panic!("it was not answered: {failure:?}"),
        }
    }

    /// Returns everything that the guest was told, to look for what it must not know.
    pub fn everything(&self) -> Vec<u8> {
        let told = |failure: &Failure| failure.said.clone().into_bytes();
        match self {
            Self::Err(failure) => told(failure),
            Self::Ok(response) => {
                let fields = response.headers.iter().chain(&response.trailers);
                let fields = fields.flat_map(|(name, value)| [name.as_bytes(), b": ", value, b"\n"].concat());
                let broken = response.broken.iter().flat_map(told);
                fields.chain(response.body.iter().copied()).chain(broken).collect()
            }
        }
    }
}

impl Failure {
    fn read(said: &Map<String, Value>) -> Self {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let why = said.get("why").filter(|why| why.is_object());
        let why = why.map(|why| Reason { code: text(why, "code"), message: text(why, "message") });
        let [name, at] =
            ["error", "at"].map(|key| said.get(key).and_then(Value::as_str).unwrap_or_default().to_owned());
        Self { name, at, why, said: Value::from(said.clone()).to_string() }
    }

    /// Says whether the sandbox did not even let the guest build the request, or hand it over: the daemon has seen
    /// nothing of it.
    pub fn unbuilt(&self) -> bool {
        let of_request = ["headers", "trailers", "method", "scheme", "authority", "path"].contains(&self.at.as_str());
        let refused = self.name.starts_with("header-error:") || self.name == "refused";
        self.at == "handle" || of_request && refused
    }

    /// Says whether the sandbox found that a body is not as long as it said. It gives no reason: the daemon learns only
    /// that the body broke.
    pub fn miscounted(&self) -> bool {
        self.at == "finish" && self.name == "http-request-body-size"
    }
}

impl Response {
    pub fn values(&self, name: &str) -> Vec<String> {
        let named = self.headers.iter().filter(|(of, _)| of.eq_ignore_ascii_case(name));
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.said)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |fields: &[(String, Vec<u8>)]| {
            let texts = fields.iter().take(20).map(|(name, value)| format!("{name}: {}", value.escape_ascii()));
            texts.collect::<Vec<_>>().join(", ")
        };
        let body = self.body[..self.body.len().min(400)].escape_ascii();
        write!(formatter, "{} [{}] [{}]", self.status, fields(&self.headers), fields(&self.trailers))?;
        write!(formatter, " broken: {:?}, {} bytes: `{body}`", self.broken, self.length)
    }
}

fn fields(said: &Value) -> Vec<(String, Vec<u8>)> {
    let fields = said.as_array().into_iter().flatten();
    fields.map(|field| (field[0].as_str().unwrap().to_owned(), bytes(&field[1]))).collect()
}

fn bytes(said: &Value) -> Vec<u8> {
    said.as_str().map_or_else(|| unhex(said["hex"].as_str().unwrap()), |text| text.into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(pair).collect()
}
