//! `Audit`: the journal, read.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use palisade_proto::v1::{self, audit_server::Audit};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    callers,
    components::{bad_page_token, page_size},
    convert, status,
};
use crate::{
    journal::{Filter, Journal, Kind, ReadError, Stored},
    lifecycle::{ForgetError, Lifecycle},
    step::Digest,
};

/// Bytes of one piece of an export.
const CHUNK_BYTES: usize = 64 << 10;

/// Records that a stream reads ahead of its caller.
const AHEAD: usize = 256;

/// Exports at a time: each holds one of the few that can read the journal.
const EXPORTS_MAX: usize = 2;

/// Streams of records at a time: each looks at the journal whenever something is recorded.
const FOLLOWERS_MAX: usize = 32;

/// How long a caller may take for one piece of an export.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves `palisade.v1.Audit`.
pub struct Service {
    lifecycle: Lifecycle,
    exports: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

impl Service {
    /// Returns the service of a daemon.
    pub fn new(lifecycle: Lifecycle) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { lifecycle, exports: places(EXPORTS_MAX), followers: places(FOLLOWERS_MAX) }
    }
}

type Records = Pin<Box<dyn Stream<Item = Result<v1::Record, Status>> + Send>>;
type Chunks = Pin<Box<dyn Stream<Item = Result<v1::ExportChunk, Status>> + Send>>;

#[tonic::async_trait]
impl Audit for Service {
    type StreamRecordsStream = Records;
    type ExportRecordsStream = Chunks;

    async fn list_records(
        &self,
        request: Request<v1::ListRecordsRequest>,
    ) -> Result<Response<v1::ListRecordsResponse>, Status> {
        let tenant = self.shown(&request)?;
        let v1::ListRecordsRequest { filter: asked, descending, page_size: size, page_token } = request.into_inner();
        let count = page_size(size)?;
        let mut filter = Filter { descending, ..filter(asked.unwrap_or_default(), tenant)? };
        match page_token.as_str() {
            "" => {}
            token => {
                let last = token.parse().map_err(|_| bad_page_token())?;
                if descending { filter.before = Some(last) } else { filter.after_sequence = Some(last) }
            }
        }
        let found = self.read(move |journal| journal.list(&filter, count)).await?;
        // A page of large records has fewer of them: only an empty page is surely the last.
        let next_page_token = found.last().map(|last| last.sequence.to_string()).unwrap_or_default();
        let records = found.into_iter().map(record).collect();
        Ok(Response::new(v1::ListRecordsResponse { records, next_page_token }))
    }

    async fn stream_records(&self, request: Request<v1::StreamRecordsRequest>) -> Result<Response<Records>, Status> {
        let tenant = self.shown(&request)?;
        let v1::StreamRecordsRequest { filter: asked, after } = request.into_inner();
        let after = sequence("after", after)?;
        let filter = Filter { after_sequence: Some(after), ..filter(asked.unwrap_or_default(), tenant)? };
        let place = self.followers.clone().try_acquire_owned();
        let place = place.map_err(|_| status::audit_busy("streams of records", FOLLOWERS_MAX))?;
        let (send, receive) = mpsc::channel(AHEAD);
        let lifecycle = self.lifecycle.clone();
        tokio::spawn(async move {
            follow(lifecycle, filter, send).await;
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn get_payload(&self, request: Request<v1::GetPayloadRequest>) -> Result<Response<v1::Payload>, Status> {
        let digest = digest(&request.into_inner().digest)?;
        let found = self.read(move |journal| journal.payload(digest)).await?;
        let content = found.ok_or_else(|| status::forget(ForgetError::NotFound(digest)))?;
        let redacted = Digest::of(&content) != digest;
        Ok(Response::new(v1::Payload { content, redacted }))
    }

    async fn delete_payload(
        &self,
        request: Request<v1::DeletePayloadRequest>,
    ) -> Result<Response<v1::DeletePayloadResponse>, Status> {
        let v1::DeletePayloadRequest { digest: asked, reason } = request.into_inner();
        let digest = digest(&asked)?;
        if reason.is_empty() || reason.len() > 1024 {
            return Err(status::bad_field("FIELD_INVALID", "reason", "`reason`: say why, in at most 1024 bytes"));
        }
        let sequence = self.lifecycle.forget(digest, reason).await.map_err(status::forget)?;
        Ok(Response::new(v1::DeletePayloadResponse { sequence: convert::int(sequence) }))
    }

    async fn get_checkpoint(&self, _: Request<v1::GetCheckpointRequest>) -> Result<Response<v1::Checkpoint>, Status> {
        let journal = self.lifecycle.journal();
        let public_key = journal.public_key().to_string();
        Ok(Response::new(v1::Checkpoint { text: journal.checkpoint(), public_key }))
    }

    async fn prove_inclusion(
        &self,
        request: Request<v1::ProveInclusionRequest>,
    ) -> Result<Response<v1::Proof>, Status> {
        let v1::ProveInclusionRequest { sequence: record, tree_size } = request.into_inner();
        let (record, size) = (sequence("sequence", record)?, sequence("tree_size", tree_size)?);
        let hashes = self.read(move |journal| journal.prove_inclusion(record, size)).await?;
        Ok(Response::new(v1::Proof { hashes: hashes.iter().map(|hash| hash.0.to_vec()).collect() }))
    }

    async fn prove_consistency(
        &self,
        request: Request<v1::ProveConsistencyRequest>,
    ) -> Result<Response<v1::Proof>, Status> {
        let v1::ProveConsistencyRequest { from_size, to_size } = request.into_inner();
        let (from, to) = (sequence("from_size", from_size)?, sequence("to_size", to_size)?);
        let hashes = self.read(move |journal| journal.prove_consistency(from, to)).await?;
        Ok(Response::new(v1::Proof { hashes: hashes.iter().map(|hash| hash.0.to_vec()).collect() }))
    }

    async fn export_records(&self, request: Request<v1::ExportRecordsRequest>) -> Result<Response<Chunks>, Status> {
        let v1::ExportRecordsRequest { from, without_payloads } = request.into_inner();
        let from = sequence("from", from)?.max(1);
        let place = self.exports.clone().try_acquire_owned().map_err(|_| status::audit_busy("exports", EXPORTS_MAX))?;
        let journal = self.lifecycle.journal().clone();
        let (send, receive) = mpsc::channel(4);
        let runtime = Handle::current();
        spawn_blocking(move || {
            let _place = place;
            let mut sink = Sink { chunk: Vec::with_capacity(CHUNK_BYTES), send, runtime };
            match journal.export(from, !without_payloads, &mut sink) {
                Ok(_) => drop(sink.flush_chunk()),
                Err(error) => drop(sink.send(Err(status::export(&error)))),
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }
}

impl Service {
    /// Returns the tenant whose records alone the caller is shown; `None` shows all.
    fn shown<T>(&self, request: &Request<T>) -> Result<Option<String>, Status> {
        if self.lifecycle.config().tenants.is_empty() {
            return Ok(None);
        }
        if callers::is_operator(request) {
            let said = callers::said_tenant(request)?;
            return Ok((!said.is_empty()).then(|| said.to_owned()));
        }
        Ok(Some(callers::tenant(&self.lifecycle, request)?.name.to_string()))
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Journal) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, Status> {
        let journal: Arc<Journal> = self.lifecycle.journal().clone();
        let found = spawn_blocking(move || read(&journal)).await;
        found.map_err(|e| status::internal(&e.to_string()))?.map_err(|e| status::read_journal(&e))
    }
}

/// Sends what is there, and then what comes, until the caller hangs up or the daemon stops.
async fn follow(lifecycle: Lifecycle, mut filter: Filter, send: mpsc::Sender<Result<v1::Record, Status>>) {
    let mut durable = lifecycle.journal().subscribe();
    loop {
        let _ = durable.borrow_and_update();
        let (journal, asked) = (lifecycle.journal().clone(), filter.clone());
        let found = spawn_blocking(move || journal.list(&asked, AHEAD)).await;
        let found = match found.map_err(|e| status::internal(&e.to_string())) {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return drop(send.send(Err(status::read_journal(&error))).await),
            Err(error) => return drop(send.send(Err(error)).await),
        };
        let more = !found.is_empty();
        for stored in found {
            filter.after_sequence = Some(stored.sequence);
            if send.send(Ok(record(stored))).await.is_err() {
                return;
            }
        }
        if more {
            continue;
        }
        tokio::select! {
            changed = durable.changed() => if changed.is_err() { return },
            () = send.closed() => return,
            () = lifecycle.draining().cancelled() => return,
        }
    }
}

/// Cuts what is written into chunks.
struct Sink {
    chunk: Vec<u8>,
    send: mpsc::Sender<Result<v1::ExportChunk, Status>>,
    runtime: Handle,
}

impl Sink {
    fn flush_chunk(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.send(Ok(v1::ExportChunk { data }))
    }

    /// Fails if the caller is gone, or does not read.
    fn send(&self, chunk: Result<v1::ExportChunk, Status>) -> io::Result<()> {
        let sent = self.runtime.block_on(timeout(PATIENCE, self.send.send(chunk)));
        sent.map_err(|_| io::ErrorKind::TimedOut)?.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_BYTES {
            self.flush_chunk()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn record(stored: Stored) -> v1::Record {
    v1::Record {
        sequence: convert::int(stored.sequence),
        hash: stored.hash.to_string(),
        canonical: String::from_utf8_lossy(&stored.bytes).into_owned(),
    }
}

fn filter(asked: v1::RecordFilter, tenant: Option<String>) -> Result<Filter, Status> {
    let bad = |field: &str, problem: String| status::bad_field("FIELD_INVALID", field, format!("`{field}`: {problem}"));
    let kind = |word: &String| word.parse::<Kind>().map_err(|e| bad("filter.kinds", e.to_string()));
    let time = |field: &str, time: Option<prost_types::Timestamp>| match time {
        None => Ok(None),
        Some(time) => {
            let since = std::time::SystemTime::try_from(time).ok();
            let since = since.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            since.map(|time| Some(time.as_millis() as u64)).ok_or_else(|| bad(field, "is not a time after 1970".into()))
        }
    };
    let text = |text: String| if text.is_empty() { None } else { Some(text) };
    Ok(Filter {
        tenant,
        kinds: asked.kinds.iter().map(kind).collect::<Result<_, _>>()?,
        step: text(asked.step),
        job: text(asked.job),
        agent: text(asked.agent),
        since_ms: time("filter.since", asked.since)?,
        until_ms: time("filter.until", asked.until)?,
        ..Filter::default()
    })
}

fn sequence(field: &str, number: i64) -> Result<u64, Status> {
    u64::try_from(number).map_err(|_| {
        status::bad_field("FIELD_INVALID", field, format!("`{field}` is {number}: it must not be negative"))
    })
}

fn digest(text: &str) -> Result<Digest, Status> {
    text.parse().map_err(|e: crate::step::BadDigest| status::bad_field("FIELD_INVALID", "digest", e.to_string()))
}
