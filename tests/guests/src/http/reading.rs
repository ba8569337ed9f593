//! A response of the probe as it is read.

use serde_json::{Value, json};
use wasip2::{
    http::types::{Fields, FutureTrailers, IncomingBody, IncomingResponse},
    io::streams::{InputStream, StreamError},
};

use super::refusal;

/// Bytes that one call reads at most.
const READ_MAX: u64 = 64 << 10;

/// Bytes of a body that are said.
const SAID_MAX: usize = 64 << 10;

/// The stream is dropped before its body.
pub struct Reading {
    said: Value,
    stream: InputStream,
    body: IncomingBody,
    begin: Vec<u8>,
    said_max: usize,
    bytes: u64,
    ended: bool,
}

impl Reading {
    pub fn new(response: IncomingResponse, said_max: Option<usize>) -> Result<Self, Value> {
        let said = head(&response);
        let body = response.consume().map_err(|()| refusal::of("consume"))?;
        let stream = body.stream().map_err(|()| refusal::of("stream"))?;
        let said_max = said_max.unwrap_or(SAID_MAX);
        Ok(Self { said, stream, body, begin: Vec::new(), said_max, bytes: 0, ended: false })
    }

    /// Reads until there are so many bytes in all, or no more.
    pub fn until(&mut self, bytes: u64) -> Result<(), Value> {
        while !self.ended && self.bytes < bytes {
            match self.stream.blocking_read(READ_MAX.min(bytes - self.bytes)) {
                Ok(piece) => {
                    self.bytes += piece.len() as u64;
                    let room = self.said_max - self.begin.len();
                    self.begin.extend_from_slice(&piece[..piece.len().min(room)]);
                }
                Err(StreamError::Closed) => self.ended = true,
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(joined(self.said(), refusal::of_stream("read", &error)));
                }
            }
        }
        Ok(())
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Says what was read. Trailers are there only if that was all.
    pub fn end(self) -> Result<Value, Value> {
        let mut said = self.said();
        drop(self.stream);
        if self.ended {
            match trailers(&IncomingBody::finish(self.body)) {
                Ok(trailers) => said["trailers"] = trailers,
                Err(refusal) => return Err(joined(said, refusal)),
            }
        }
        Ok(said)
    }

    fn said(&self) -> Value {
        joined(self.said.clone(), json!({ "body": text(&self.begin), "body_bytes": self.bytes }))
    }
}

/// Says the head of a response.
pub fn head(response: &IncomingResponse) -> Value {
    json!({ "status": response.status(), "headers": fields(&response.headers()) })
}

/// Returns the members of both.
pub fn joined(mut one: Value, other: Value) -> Value {
    if let (Some(one), Value::Object(other)) = (one.as_object_mut(), other) {
        one.extend(other);
    }
    one
}

fn trailers(future: &FutureTrailers) -> Result<Value, Value> {
    loop {
        match future.get() {
            None => future.subscribe().block(),
            Some(Ok(Ok(None))) => return Ok(Value::Null),
            Some(Ok(Ok(Some(trailers)))) => return Ok(fields(&trailers)),
            Some(Ok(Err(code))) => return Err(refusal::of_code("trailers", &code)),
            Some(Err(())) => return Err(refusal::of("trailers")),
        }
    }
}

fn fields(fields: &Fields) -> Value {
    fields.entries().into_iter().map(|(name, value)| json!([name, text(&value)])).collect()
}

/// Says bytes as a text, or in hexadecimal.
fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}
