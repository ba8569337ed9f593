//! `http`: requests, made by ordinary clients with `wasi:http`, through the gate. Nothing here can send one by itself.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use http::Request;
use http_body::Body as _;
use http_body_util::{BodyExt, BodyStream, Empty, StreamBody};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::{
    bindings::palisade::agent::{http::Host, types},
    exchange::{header_map, headers},
    gate::Gate,
};
use crate::step::{CallError, HttpRequest, Patience};

impl Host for Gate {
    fn why(&mut self) -> wasmtime::Result<Option<types::CallError>> {
        Ok(self.last_failure().map(Into::into))
    }
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Io), Error>;

impl WasiHttpHooks for Gate {
    /// The daemon says which host a request goes to, from the same name that it judged.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        crate::step::PIECE_BYTES_MAX
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _told: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let gate = self.clone();
        Box::new(async move { send(gate, request, options).await })
    }
}

async fn send(gate: Gate, request: Request<WasiBody>, options: Option<RequestOptions>) -> Sent {
    let (parts, body) = request.into_parts();
    let (body, has_body) = if parts.method.is_safe() { peeked(body).await? } else { (body, true) };
    let asked = HttpRequest {
        method: parts.method.as_str().into(),
        scheme: parts.uri.scheme_str().unwrap_or_default().into(),
        authority: parts.uri.authority().map(|authority| authority.as_str().into()).unwrap_or_default(),
        path_with_query: parts.uri.path_and_query().map(|path| path.as_str().into()).unwrap_or_default(),
        headers: headers(&parts.headers),
        has_body,
        patience: options.map(patience).unwrap_or_default(),
    };
    let mut exchange = match gate.request(asked).await {
        Ok(exchange) => exchange,
        Err(error) => {
            let code = error_code(&error);
            gate.failed_because(error);
            return Err(code);
        }
    };
    // The response can begin, and end, before the request's body does.
    let mut upload = Some(Box::pin(exchange.upload(body))).filter(|_| has_body);
    let head = loop {
        let Some(sending) = &mut upload else { break exchange.head().await };
        tokio::select! {
            biased;
            head = exchange.head() => break head,
            () = sending => upload = None,
        }
    };
    let head = match head {
        Ok(head) => head,
        Err(error) => {
            // Ends with the guest's end of it.
            upload.map(tokio::spawn);
            return Err(error);
        }
    };
    let mut response = http::Response::new(exchange.boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(head.status).map_err(|_| Error::HttpProtocolError)?;
    *response.headers_mut() = header_map(head.headers);
    let rest: Io = Box::new(async move {
        if let Some(upload) = upload {
            upload.await;
        }
        Ok(())
    });
    Ok((response, rest))
}

/// Looks whether a body holds anything. Ordinary clients open one for each request, and end it at once where there is
/// nothing to send.
async fn peeked(mut body: WasiBody) -> Result<(WasiBody, bool), Error> {
    if body.is_end_stream() {
        return Ok((body, false));
    }
    let Some(first) = body.frame().await else { return Ok((Empty::new().map_err(never).boxed_unsync(), false)) };
    let first = stream::iter([first]);
    let rest = BodyStream::new(body);
    Ok((BodyExt::boxed_unsync(StreamBody::new(first.chain(rest))), true))
}

fn never(never: std::convert::Infallible) -> Error {
    match never {}
}

fn patience(options: RequestOptions) -> Patience {
    let ms = |duration: Option<Duration>| duration.map(|duration| duration.as_millis().max(1) as u64);
    Patience {
        connect_ms: ms(options.connect_timeout),
        first_byte_ms: ms(options.first_byte_timeout),
        between_bytes_ms: ms(options.between_bytes_timeout),
    }
}

/// Returns the code of `wasi:http` that is nearest to an error.
pub fn error_code(error: &CallError) -> Error {
    let (CallError::Invalid(failure) | CallError::Failed(failure) | CallError::Unavailable(failure)) = error else {
        return match error {
            CallError::Denied(denial) if denial.code == "ADDRESS_FORBIDDEN" => Error::DestinationIpProhibited,
            _ => Error::HttpRequestDenied,
        };
    };
    match failure.code.as_str() {
        "REQUEST_INVALID" => Error::HttpProtocolError,
        "REQUEST_TOO_LARGE" => Error::HttpRequestBodySize(None),
        "DNS_FAILED" => Error::DnsError { rcode: None, info_code: None },
        "CONNECT_FAILED" => Error::ConnectionRefused,
        "TLS_FAILED" => Error::TlsProtocolError,
        "HTTP_TIMEOUT" => Error::HttpResponseTimeout,
        "RESPONSE_TOO_LARGE" => Error::HttpResponseBodySize(None),
        "BODY_BROKEN" => Error::ConnectionTerminated,
        "RATE_LIMITED" | "EGRESS_BUSY" => Error::ConnectionLimitReached,
        "HTTP_PROTOCOL" | "RESPONSE_REFUSED" => Error::HttpProtocolError,
        _ => Error::InternalError(Some(format!("{}: {}", failure.code, failure.message))),
    }
}
