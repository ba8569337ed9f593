//! What comes back: the response, from its head to its trailers, without the credential and with its labels.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::json;

use super::{Exchange, Facts, lock};
use crate::{
    budget::Amounts,
    credentials::Scrubber,
    egress::{self, Code, Outgoing, Reply, SendError, headers},
    lifecycle::{
        act::cut,
        denial::{failed, invalid, unavailable},
    },
    step::{CallError, Headers, HttpResponse, PIECE_BYTES_MAX, header_bytes},
    worker::Download,
};

impl Exchange<'_> {
    /// Sends the request, and passes the response on, from its head to its trailers.
    pub(super) async fn receive(
        &self,
        outgoing: Outgoing,
        scrubber: &Scrubber,
        download: &Download,
    ) -> Result<Headers, CallError> {
        // It may have waited for its place, its body or its credential.
        self.sending.standing.check(self.execution(), self.sending)?;
        self.began.store(true, Ordering::Relaxed);
        let mut reply = match self.execution().lifecycle.egress().send(outgoing).await {
            Ok(reply) => reply,
            Err(error) => return Err(self.failed(error, scrubber).await),
        };
        let head = self.head(&reply, scrubber).await?;
        let at_ms = self.execution().elapsed_ms();
        lock(&self.facts).about["at_ms"] = json!(at_ms);
        download.begin(at_ms, head).await;
        let mut scrub = scrubber.stream();
        let mut trailers = Headers::new();
        while let Some(piece) = reply.body.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => return Err(self.failed(error, scrubber).await),
            };
            match piece {
                egress::Piece::Data(data) => {
                    self.sending.standing.check_coming(self.execution(), self.sending)?;
                    self.permit.charge(Amounts { bytes_in: data.len() as u64, ..Amounts::default() })?;
                    self.pass_on(scrub.push(data), download).await;
                }
                egress::Piece::Trailers(map) => {
                    self.charge_trailers(&map, |bytes| Amounts { bytes_in: bytes, ..Amounts::default() })?;
                    trailers = scrubbed(&map, scrubber);
                }
            }
        }
        self.pass_on(scrub.finish(), download).await;
        lock(&self.facts).about["scrubbed"] = json!(scrub.hits());
        Ok(trailers)
    }

    /// Takes the head of a response. What it brings joins the job before the guest sees any of it.
    async fn head(&self, reply: &Reply, scrubber: &Scrubber) -> Result<HttpResponse, CallError> {
        let mut codings = reply.headers.get_all(header::CONTENT_ENCODING).iter();
        let encoded = codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        if encoded && self.sending.route.credential().is_some() {
            let message = "the response is encoded, and cannot be looked through for the credential that was sent";
            return Err(failed("RESPONSE_REFUSED", message));
        }
        self.join().await?;
        let head = HttpResponse { status: reply.status, headers: scrubbed(&reply.headers, scrubber) };
        let bytes_in = header_bytes(&head.headers);
        self.permit.charge(Amounts { bytes_in, ..Amounts::default() })?;
        let content_type = headers::content_type(&reply.headers).unwrap_or_default();
        let mut facts = lock(&self.facts);
        *facts = Facts {
            trailers: facts.trailers,
            about: json!({
                "status": reply.status, "address": reply.address.to_string(), "protocol": reply.protocol,
                "reused": reply.reused, "attempts": reply.attempts,
            }),
            responded: Some((reply.status, reply.protocol, reply.address)),
            head_bytes: bytes_in,
            content_type: cut(&scrubber.text(content_type.as_deref().unwrap_or("application/octet-stream"))),
        };
        Ok(head)
    }

    async fn pass_on(&self, mut data: Bytes, download: &Download) {
        lock(&self.received).pass(&data);
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE_BYTES_MAX));
            download.send(piece.into()).await;
        }
    }

    /// Returns what the guest is told of an error, and nothing that the credential was.
    async fn failed(&self, error: SendError, scrubber: &Scrubber) -> CallError {
        if !error.sent {
            self.began.store(false, Ordering::Relaxed);
        }
        // How it fails is up to the upstream, too, and parts of the text can be its own.
        if (error.sent || error.code == Code::TlsFailed)
            && let Err(error) = self.join().await
        {
            return error;
        }
        let message = scrubber.text(&error.message);
        match error.code {
            Code::AddressForbidden => self.sending.forbidden(message),
            Code::RequestTooLarge | Code::BodyBroken => invalid(error.code.as_str(), message),
            Code::EgressBusy => unavailable(error.code.as_str(), message),
            code => failed(code.as_str(), message),
        }
    }
}

fn scrubbed(map: &HeaderMap, scrubber: &Scrubber) -> Headers {
    map.iter().map(|(name, value)| (name.as_str().to_owned(), scrubber.header(value).as_bytes().to_vec())).collect()
}
