//! One request over HTTP, from its permit to the last byte of its response.
//!
//! Nothing is looked at twice in two ways: what was parsed is what was judged is what is sent. While bodies pass, each
//! piece is charged before it goes on, and a change of policy, of rules or of labels is asked about again.

mod incoming;
mod outgoing;

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::sleep,
};

use super::{
    act::{Done, cut},
    denial::{self, failed, invalid, unavailable},
    execution::Execution,
    flow::Flow,
    gate::Permit,
    http::{Sending, lanes},
};
use crate::{
    budget::Amounts,
    egress::{RequestBody, Timeouts},
    step::{Answer, CallError, Effect, Headers},
    worker::{Bodies, Download, Upload},
};

/// The code of a request that its guest gave up.
const DROPPED: &str = "REQUEST_DROPPED";

/// Sends it.
pub async fn perform(permit: &Permit<'_>, sending: Sending, bodies: Option<Bodies>) -> Done {
    let head_bytes = sending.head_bytes();
    let Some(Bodies { upload, download, dropped }) = bodies else {
        return Done::new(Amounts::default(), Err(invalid("REQUEST_INVALID", "the request came without its bodies")));
    };
    let keep = permit.execution().lifecycle.kept_body_bytes();
    let exchange = Exchange {
        permit,
        sending: &sending,
        began: AtomicBool::new(false),
        sent: Mutex::new(Flow::new(keep)),
        received: Mutex::new(Flow::new(keep)),
        facts: Mutex::default(),
    };
    let total = exchange.timeouts().total();
    let result = tokio::select! {
        biased;
        result = exchange.converse(upload, download) => result,
        () = dropped.cancelled() => Err(failed(DROPPED, "the guest gave the request up")),
        () = sleep(total) => {
            let ms = total.as_millis();
            let rule = sending.rule();
            Err(failed("HTTP_TIMEOUT", format!("it took longer than `timeouts.total_ms` = {ms} of the egress rule `{rule}`")))
        }
    };
    exchange.done(head_bytes, result)
}

struct Exchange<'a> {
    permit: &'a Permit<'a>,
    sending: &'a Sending,
    /// A byte of it may have left.
    began: AtomicBool,
    sent: Mutex<Flow>,
    received: Mutex<Flow>,
    facts: Mutex<Facts>,
}

/// What is known of the response.
#[derive(Default)]
struct Facts {
    about: Value,
    responded: Option<(u16, &'static str, SocketAddr)>,
    head_bytes: u64,
    /// What trailers were charged, in both directions.
    trailers: Amounts,
    content_type: String,
}

impl Exchange<'_> {
    /// Sends the request and passes on the response; returns its trailers.
    async fn converse(&self, mut upload: Upload, download: Download) -> Result<Headers, CallError> {
        self.sending.standing.check(self.execution(), self.sending)?;
        let _places = self.places().await?;
        let signed = match self.sending.route.credential() {
            Some(name) if self.execution().lifecycle.credentials().needs_body(name.as_str()) => {
                // Of a request without a body nothing comes.
                Some(if self.sending.request.body { self.collect(&mut upload).await? } else { Bytes::new() })
            }
            _ => None,
        };
        let (attachment, scrubber) = self.attach(signed.as_ref()).await?;
        let (pieces, taken) = mpsc::channel(1);
        let has_body = self.sending.request.body;
        let body: RequestBody = match signed {
            Some(body) => Full::new(body).map_err(|never| match never {}).boxed_unsync(),
            None if has_body => StreamBody::new(outgoing::whole(taken)).boxed_unsync(),
            None => http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync(),
        };
        let receiving = self.receive(self.outgoing(attachment, body)?, &scrubber, &download);
        let pumping = self.pump(upload, pieces);
        tokio::pin!(receiving, pumping);
        let mut pumped = false;
        loop {
            tokio::select! {
                biased;
                received = &mut receiving => return received,
                // To drop the exchange in the middle of a body is what tells the upstream that it is not whole.
                broken = &mut pumping, if !pumped => {
                    broken?;
                    pumped = true;
                }
            }
        }
    }

    /// Waits for a place among the requests of the node, and of the rule at each level.
    async fn places(&self) -> Result<Vec<OwnedSemaphorePermit>, CallError> {
        let execution = self.execution();
        let route = &self.sending.route;
        let mut places = Vec::new();
        // Innermost first: an agent that waits for its own keeps no place from others.
        let levels: Vec<_> = lanes(execution, route).zip(route.concurrencies()).collect();
        for (lane, concurrency) in levels.into_iter().rev() {
            let Some(concurrency) = concurrency else { continue };
            places.push(execution.lifecycle.traffic().place(&lane, *concurrency).await.ok_or_else(closing)?);
        }
        places.push(execution.lifecycle.request_place().await.ok_or_else(closing)?);
        Ok(places)
    }

    /// Says that something of the rule's, and by the credential, enters the job.
    async fn join(&self) -> Result<(), CallError> {
        let lifecycle = &self.execution().lifecycle;
        let credential = self.sending.route.credential().map(|name| lifecycle.credentials().labels(name.as_str()));
        self.permit.join(self.sending.route.labels().iter().chain(credential.unwrap_or_default())).await
    }

    /// Trailers are charged as the pieces before them are.
    fn charge_trailers(&self, trailers: &HeaderMap, amounts: impl FnOnce(u64) -> Amounts) -> Result<(), CallError> {
        let bytes: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let amounts = amounts(bytes as u64);
        self.permit.charge(amounts)?;
        let mut facts = lock(&self.facts);
        facts.trailers = facts.trailers.saturating_add(amounts);
        Ok(())
    }

    /// Returns the rule's time-outs, or what the guest is willing to wait if that is less.
    fn timeouts(&self) -> Timeouts {
        let (given, patience) = (self.sending.route.timeouts(), &self.sending.patience);
        let less = |given: u64, asked: Option<u64>| given.min(asked.unwrap_or(given)).max(1);
        let left = self.execution().deadline.saturating_duration_since(std::time::Instant::now());
        Timeouts {
            connect_ms: less(given.connect_ms, patience.connect_ms),
            first_byte_ms: less(given.first_byte_ms, patience.first_byte_ms),
            idle_ms: less(given.idle_ms, patience.between_bytes_ms),
            // A step that is over has no request.
            total_ms: less(given.total_ms, Some((left + Duration::from_secs(1)).as_millis() as u64)),
        }
    }

    fn execution(&self) -> &Execution {
        self.permit.execution()
    }

    fn done(self, head_bytes: u64, mut result: Result<Headers, CallError>) -> Done {
        let sent = self.sent.into_inner().unwrap_or_else(PoisonError::into_inner);
        let received = self.received.into_inner().unwrap_or_else(PoisonError::into_inner);
        let facts = self.facts.into_inner().unwrap_or_else(PoisonError::into_inner);
        let began = self.began.into_inner();
        let answered = !facts.about.is_null();
        let bytes_out = if began || answered { sent.bytes() + head_bytes } else { 0 };
        let used = Amounts { bytes_out, bytes_in: received.bytes() + facts.head_bytes, ..Amounts::default() };
        let used = used.saturating_add(facts.trailers);
        let mut about = json!({ "request": sent.record(), "response": received.record() });
        if answered {
            about["answered"] = facts.about;
            // Who has seen the head may want no more, which is no failure.
            if matches!(&result, Err(error) if denial::code(error) == DROPPED) {
                about["answered"]["dropped"] = json!(true);
                result = Ok(Headers::new());
            }
        }
        let request_type = cut(&self.sending.facts.content_type);
        let kept = sent.payload(request_type).into_iter().chain(received.payload(facts.content_type)).collect();
        // What left and was not answered may have been done.
        let lost = began && !answered && result.is_err() && self.sending.effect() != Effect::Read;
        let result = result.map(|trailers| Answer::Ended { trailers });
        Done { lost, about: json!({ "http": about }), kept, responded: facts.responded, ..Done::new(used, result) }
    }
}

fn closing() -> CallError {
    unavailable("EGRESS_BUSY", "the daemon is shutting down: retry later, or elsewhere")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
