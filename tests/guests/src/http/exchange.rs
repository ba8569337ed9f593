//! One request of the probe and its response, over the functions of wasi:http.

use serde_json::{Value, json};
use wasip2::{
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
            RequestOptions, Scheme,
        },
    },
    io::{
        poll,
        streams::{OutputStream, StreamError},
    },
};

use super::{
    Asked, Bytes, Dropped,
    reading::{Reading, head, joined},
    refusal,
};

type Answer = Result<IncomingResponse, ErrorCode>;

/// A request under way. Fields are dropped in this order.
struct Exchange<'a> {
    asked: &'a Asked,
    /// The response, if it came while the body was written.
    early: Option<Answer>,
    future: FutureIncomingResponse,
    /// How writing the body ended, if not well.
    written: Option<Value>,
    /// Until it is finished. Dropping it earlier gives the request up.
    body: Option<OutgoingBody>,
}

/// Sends a request and reads its response.
pub fn one(asked: &Asked) -> Result<Value, Value> {
    let mut exchange = Exchange::begin(asked)?;
    exchange.send()?;
    exchange.end()
}

/// Sends requests, so many at once, and returns their outcomes in their order.
pub fn many(requests: &[Asked], at_once: Option<usize>) -> Value {
    let at_once = at_once.unwrap_or(requests.len()).max(1);
    let mut outcomes = vec![Value::Null; requests.len()];
    let mut open = Vec::new();
    let mut waiting = requests.iter().enumerate();
    loop {
        for (number, asked) in waiting.by_ref().take(at_once - open.len()) {
            match begun(asked) {
                Ok(exchange) => open.push((number, exchange)),
                Err(refusal) => outcomes[number] = refusal,
            }
        }
        if open.is_empty() && waiting.len() == 0 {
            return outcomes.into();
        }
        if let Some(ready) = first_ready(&open) {
            let (number, exchange) = open.swap_remove(ready);
            outcomes[number] = exchange.end().unwrap_or_else(|refusal| refusal);
        }
    }
}

/// Writes a chunk, reads as many bytes as were written so far, and so on, to the end of both.
pub fn alternate(asked: &Asked) -> Result<Value, Value> {
    let mut exchange = Exchange::begin(asked)?;
    let Some(body) = exchange.body.take() else { return Err(refusal::of("body")) };
    let stream = body.write().map_err(|()| refusal::of("write"))?;
    let mut reading: Option<Reading> = None;
    let mut written = 0;
    let mut rounds = Vec::new();
    for chunk in asked.body.iter().flatten() {
        let chunk = chunk.bytes();
        if !exchange.write(&stream, &chunk) {
            break;
        }
        written += chunk.len() as u64;
        if reading.is_none() {
            reading = Some(Reading::new(exchange.answer()?, asked.said_max)?);
        }
        let Some(reading) = &mut reading else { break };
        reading.until(written)?;
        rounds.push(reading.bytes());
        if reading.ended() {
            break;
        }
    }
    drop(stream);
    exchange.finish(body)?;
    let mut reading = match reading {
        Some(reading) => reading,
        None => Reading::new(exchange.answer()?, asked.said_max)?,
    };
    reading.until(u64::MAX)?;
    Ok(joined(reading.end()?, json!({ "rounds": rounds, "written": exchange.written })))
}

fn begun(asked: &Asked) -> Result<Exchange<'_>, Value> {
    let mut exchange = Exchange::begin(asked)?;
    exchange.send()?;
    Ok(exchange)
}

/// Waits for the response of one of them.
fn first_ready(open: &[(usize, Exchange<'_>)]) -> Option<usize> {
    if let Some(early) = open.iter().position(|(_, exchange)| exchange.early.is_some()) {
        return Some(early);
    }
    let pollables: Vec<_> = open.iter().map(|(_, exchange)| exchange.future.subscribe()).collect();
    if pollables.is_empty() {
        return None;
    }
    poll::poll(&pollables.iter().collect::<Vec<_>>()).first().map(|ready| *ready as usize)
}

impl<'a> Exchange<'a> {
    /// Asks the host to send a request, and nothing of its body yet.
    fn begin(asked: &'a Asked) -> Result<Self, Value> {
        let request = OutgoingRequest::new(fields("headers", &asked.headers)?);
        request.set_method(&method(&asked.method)).map_err(|()| refusal::of("method"))?;
        request.set_scheme(asked.scheme.as_deref().map(scheme).as_ref()).map_err(|()| refusal::of("scheme"))?;
        request.set_authority(asked.authority.as_deref()).map_err(|()| refusal::of("authority"))?;
        request.set_path_with_query(asked.path.as_deref()).map_err(|()| refusal::of("path"))?;
        let has_body = asked.body.is_some() || !asked.trailers.is_empty();
        let body = has_body.then(|| request.body()).transpose().map_err(|()| refusal::of("body"))?;
        let options = options(asked)?;
        let future = outgoing_handler::handle(request, Some(options)).map_err(|e| refusal::of_code("handle", &e))?;
        Ok(Self { asked, early: None, future, written: None, body })
    }

    /// Writes the body, and ends it as was asked.
    fn send(&mut self) -> Result<(), Value> {
        let Some(body) = self.body.take() else { return Ok(()) };
        let stream = body.write().map_err(|()| refusal::of("write"))?;
        let chunks = self.asked.body.iter().flatten();
        let _ = chunks.map(Bytes::bytes).all(|chunk| self.write(&stream, &chunk));
        drop(stream);
        self.finish(body)
    }

    /// Writes a chunk and returns whether all of it was taken.
    fn write(&mut self, stream: &OutputStream, mut chunk: &[u8]) -> bool {
        while !chunk.is_empty() {
            let room = match stream.check_write() {
                Ok(0) if self.goes_on(stream) => continue,
                Ok(0) => {
                    self.written = Some("refused".into());
                    return false;
                }
                Ok(room) => chunk.len().min(room as usize),
                Err(error) => return self.broken(error),
            };
            if let Err(error) = stream.write(&chunk[..room]) {
                return self.broken(error);
            }
            chunk = &chunk[room..];
        }
        true
    }

    /// Waits until the stream takes more, and returns false if a response came that refuses the request.
    fn goes_on(&mut self, stream: &OutputStream) -> bool {
        let stream = stream.subscribe();
        if self.early.is_some() {
            stream.block();
            return true;
        }
        let response = self.future.subscribe();
        poll::poll(&[&stream, &response]);
        if !response.ready() {
            return true;
        }
        let Some(Ok(answer)) = self.future.get() else { return true };
        self.early.insert(answer).as_ref().is_ok_and(|response| response.status() < 400)
    }

    fn broken(&mut self, error: StreamError) -> bool {
        self.written = Some(match error {
            StreamError::Closed => "closed".into(),
            StreamError::LastOperationFailed(error) => refusal::of_stream("write", &error),
        });
        false
    }

    fn finish(&mut self, body: OutgoingBody) -> Result<(), Value> {
        if self.asked.drop == Some(Dropped::Request) {
            return Ok(());
        }
        if self.written.is_some() {
            // Open until the response was read: to give it up could break that.
            self.body = Some(body);
            return Ok(());
        }
        let trailers = Some(&self.asked.trailers).filter(|trailers| !trailers.is_empty());
        let trailers = trailers.map(|trailers| fields("trailers", trailers)).transpose()?;
        OutgoingBody::finish(body, trailers).map_err(|code| refusal::of_code("finish", &code))
    }

    /// Waits until the response begins.
    fn answer(&mut self) -> Result<IncomingResponse, Value> {
        let answer = loop {
            match self.early.take().map(Ok).or_else(|| self.future.get()) {
                Some(Ok(answer)) => break answer,
                Some(Err(())) => return Err(refusal::of("response")),
                None => self.future.subscribe().block(),
            }
        };
        let written = json!({ "written": self.written });
        answer.map_err(|code| joined(refusal::of_code("response", &code), written))
    }

    /// Does with the response what was asked.
    fn end(mut self) -> Result<Value, Value> {
        if self.asked.drop == Some(Dropped::Response) {
            return Ok(json!({ "dropped": "response" }));
        }
        let response = self.answer()?;
        if self.asked.drop == Some(Dropped::Body) {
            return Ok(joined(head(&response), json!({ "dropped": "body" })));
        }
        if self.asked.hold {
            let said = joined(head(&response), json!({ "held": true }));
            std::mem::forget((Reading::new(response, self.asked.said_max)?, self));
            return Ok(said);
        }
        let mut reading = Reading::new(response, self.asked.said_max)?;
        reading.until(self.asked.read_max.unwrap_or(u64::MAX))?;
        let said = reading.end()?;
        Ok(if self.written.is_some() { joined(said, json!({ "written": self.written })) } else { said })
    }
}

fn fields(at: &str, given: &[(String, Bytes)]) -> Result<Fields, Value> {
    let fields = Fields::new();
    for (name, value) in given {
        fields.append(name, &value.bytes()).map_err(|error| refusal::of_field(at, name, error))?;
    }
    Ok(fields)
}

fn options(asked: &Asked) -> Result<RequestOptions, Value> {
    let nanoseconds =
        |milliseconds: Option<u64>| milliseconds.map(|milliseconds| milliseconds.saturating_mul(1_000_000));
    let options = RequestOptions::new();
    let set = options.set_connect_timeout(nanoseconds(asked.connect_timeout_ms));
    set.map_err(|()| refusal::of("connect_timeout_ms"))?;
    let set = options.set_first_byte_timeout(nanoseconds(asked.first_byte_timeout_ms));
    set.map_err(|()| refusal::of("first_byte_timeout_ms"))?;
    let set = options.set_between_bytes_timeout(nanoseconds(asked.between_bytes_timeout_ms));
    set.map_err(|()| refusal::of("between_bytes_timeout_ms"))?;
    Ok(options)
}

fn method(method: &str) -> Method {
    match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.into()),
    }
}

fn scheme(scheme: &str) -> Scheme {
    match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    }
}
