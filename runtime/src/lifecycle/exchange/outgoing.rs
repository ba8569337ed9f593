//! What leaves: the request's body, charged and judged piece by piece, and what its credential adds.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::Frame;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};

use super::{Exchange, closing, lock};
use crate::{
    budget::Amounts,
    credentials::{AttachError, Attached, Scrubber, Signing},
    egress::{self, Attachment, BodyError, Outgoing, RequestBody, headers},
    lifecycle::denial::{invalid, unavailable},
    step::{CallError, Effect, FIXED, Piece},
    worker::Upload,
};

/// Returns a body of pieces that ends with `None`. If it ends without, it broke: whoever passes pieces on may be gone at
/// any time, and what has left by then must not look whole.
pub(super) fn whole(
    pieces: mpsc::Receiver<Option<Frame<Bytes>>>,
) -> impl Stream<Item = Result<Frame<Bytes>, BodyError>> + Send {
    let gone = tokio_stream::once(Some(Err(BodyError("the request was given up".into()))));
    ReceiverStream::new(pieces).map(|piece| piece.map(Ok)).chain(gone).map_while(|piece| piece)
}

impl Exchange<'_> {
    /// Takes a whole body, because its signature goes before it.
    pub(super) async fn collect(&self, upload: &mut Upload) -> Result<Bytes, CallError> {
        let mut body = Vec::new();
        loop {
            match self.next(upload).await? {
                Some(frame) if frame.is_data() => body.extend(frame.into_data().unwrap_or_default()),
                Some(_) => return Err(invalid("REQUEST_INVALID", "a request that is signed has no trailers")),
                None => return Ok(body.into()),
            }
            let max = FIXED.signed_body_bytes;
            if body.len() as u64 > max {
                let message = format!("a body that is signed by its credential has at most {max} bytes");
                return Err(invalid("REQUEST_TOO_LARGE", message));
            }
        }
    }

    /// Passes on the request's body.
    pub(super) async fn pump(
        &self,
        mut upload: Upload,
        pieces: mpsc::Sender<Option<Frame<Bytes>>>,
    ) -> Result<(), CallError> {
        if !self.sending.request.body {
            return Ok(());
        }
        loop {
            let piece = self.next(&mut upload).await?;
            let last = piece.as_ref().is_none_or(Frame::is_trailers);
            if pieces.send(piece).await.is_err() || last {
                return Ok(()); // the upstream has answered, and wants no more
            }
        }
    }

    /// Returns the next of the request's body, judged and charged. `None` is its end.
    async fn next(&self, upload: &mut Upload) -> Result<Option<Frame<Bytes>>, CallError> {
        match upload.next().await {
            Piece::Data(data) => {
                self.sending.standing.check(self.execution(), self.sending)?;
                self.permit.charge(Amounts { bytes_out: data.len() as u64, ..Amounts::default() })?;
                lock(&self.sent).pass(&data);
                Ok(Some(Frame::data(data.into())))
            }
            Piece::End { trailers } if trailers.is_empty() => Ok(None),
            Piece::End { trailers } => {
                let trailers = headers::parse_trailers(&trailers)
                    .map_err(|error| invalid("REQUEST_INVALID", format!("the trailers: {error}")))?;
                self.sending.check_trailers(self.execution(), &trailers)?;
                self.charge_trailers(&trailers, |bytes| Amounts { bytes_out: bytes, ..Amounts::default() })?;
                Ok(Some(Frame::trailers(trailers)))
            }
            Piece::Broken(error) => Err(error),
        }
    }

    /// Asks for what the request's credential adds.
    pub(super) async fn attach(&self, body: Option<&Bytes>) -> Result<(Attachment, Scrubber), CallError> {
        let Some(name) = self.sending.route.credential() else {
            return Ok((Attachment::default(), Scrubber::default()));
        };
        // In a task of its own: a guest that hangs up must not make us ask a token server again and again.
        let (lifecycle, request) = (self.execution().lifecycle.clone(), self.sending.request.clone());
        let (of, body) = (name.clone(), body.cloned());
        let attached = tokio::spawn(async move {
            let host = request.host.to_string();
            let signing = Signing {
                method: &request.method,
                scheme: request.scheme.as_str(),
                host: &host,
                port: request.port,
                path: &request.path,
                query: request.query.as_deref(),
                headers: &request.headers,
                body: body.as_deref(),
            };
            lifecycle.credentials().attach(of.as_str(), &signing).await
        });
        let attached = attached.await.map_err(|_| closing())?;
        match attached {
            Ok(Attached { headers, query, identity, scrubber }) => {
                let identity = identity.map(|identity| {
                    let (id, chain, key) = (identity.id.clone(), identity.chain.clone(), identity.key.clone_key());
                    Arc::new(egress::Identity { id, chain, key })
                });
                let query = query.map(|query| query.as_str().to_owned());
                Ok((Attachment { headers, query, identity }, scrubber))
            }
            Err(AttachError::Revoked(_)) => Err(self.sending.revoked(name)),
            Err(error) => {
                if let AttachError::Unavailable { why, .. } = &error {
                    // The credential's status says it as well; guests must not be able to flood the log.
                    tracing::debug!(credential = %name, why, "a credential cannot be read");
                }
                Err(unavailable("CREDENTIAL_UNAVAILABLE", error.to_string()))
            }
        }
    }

    pub(super) fn outgoing(&self, attachment: Attachment, body: RequestBody) -> Result<Outgoing, CallError> {
        let (route, mut request) = (self.sending.route.clone(), self.sending.request.clone());
        // What the rule calls more than reading is not said twice, whatever its method.
        let mut repeatable = request.method.is_safe() && self.sending.effect() == Effect::Read;
        if let Some(name) = route.idempotency_header() {
            let id = self.permit.effect_id();
            let id = HeaderValue::try_from(id).map_err(|e| invalid("REQUEST_INVALID", e.to_string()))?;
            request.headers.insert(name.clone(), id);
            // Where the credential sets the same header, the id does not arrive.
            repeatable = !attachment.headers.iter().any(|(header, _)| header == name);
        }
        if route.credential().is_some() {
            // What is encoded cannot be scrubbed.
            request.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let (tenant, timeouts) = (self.execution().step.tenant.name.to_string(), self.timeouts());
        Ok(Outgoing { tenant, route, request, timeouts, attachment, body, repeatable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_whole_only_if_somebody_said_so() {
        for said in [true, false] {
            let (pieces, taken) = mpsc::channel(2);
            pieces.send(Some(Frame::data(Bytes::from_static(b"half")))).await.ok();
            if said {
                pieces.send(None).await.ok();
            }
            drop(pieces);
            let frames: Vec<_> = whole(taken).map(|frame| frame.is_ok()).collect().await;
            assert_eq!(frames, if said { vec![true] } else { vec![true, false] });
        }
    }
}
