//! Spans on their way to the collector: a bounded queue that never blocks, and a count of what was lost.
//!
//! The SDK's batch processor drops what finds no room in its queue and keeps the number to itself. So the room is
//! counted here, in front of it: what is refused here is counted, and what is let through always fits.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::Duration,
};

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor},
};

/// Spans that never reached the collector, by reason.
#[derive(Debug, Default)]
pub struct Losses {
    pub queue_full: AtomicU64,
    pub export_failed: AtomicU64,
    pub shut_down: AtomicU64,
}

impl Losses {
    /// Returns how many there are.
    pub fn total(&self) -> u64 {
        [&self.queue_full, &self.export_failed, &self.shut_down].iter().map(|count| count.load(Relaxed)).sum()
    }
}

/// Returns a provider that sends spans to `exporter`, with at most `queue_spans` waiting.
pub fn provider<E>(exporter: E, queue_spans: usize, resource: Resource, losses: Arc<Losses>) -> SdkTracerProvider
where
    E: SpanExporter + 'static,
{
    let queue = Arc::new(Queue { max: queue_spans, waiting: AtomicUsize::new(0), losses });
    let exporter = Counted { next: exporter, queue: queue.clone() };
    let config = BatchConfigBuilder::default().with_max_queue_size(queue_spans).build();
    let next = BatchSpanProcessor::new(exporter, config);
    SdkTracerProvider::builder().with_resource(resource).with_span_processor(Bounded { next, queue }).build()
}

#[derive(Debug)]
struct Queue {
    max: usize,
    /// Never less than what is in the processor's queue: raised before a span goes in, lowered after it came out.
    waiting: AtomicUsize,
    losses: Arc<Losses>,
}

/// In front of the SDK's processor.
#[derive(Debug)]
struct Bounded {
    next: BatchSpanProcessor,
    queue: Arc<Queue>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &opentelemetry::Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.waiting.fetch_add(1, AcqRel) >= self.queue.max {
            self.queue.waiting.fetch_sub(1, AcqRel);
            self.queue.losses.queue_full.fetch_add(1, Relaxed);
        } else {
            self.next.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let result = self.next.shutdown_with_timeout(timeout);
        self.queue.losses.shut_down.fetch_add(self.queue.waiting.load(Relaxed) as u64, Relaxed);
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// Behind the SDK's processor.
#[derive(Debug)]
struct Counted<E> {
    next: E,
    queue: Arc<Queue>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.queue.waiting.fetch_sub(count, AcqRel);
        let result = self.next.export(batch).await;
        if result.is_err() {
            self.queue.losses.export_failed.fetch_add(count as u64, Relaxed);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.next.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}
