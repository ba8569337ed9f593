//! Starts telemetry as the operator asked for it, and ends it in time.

use std::{
    borrow::Cow,
    convert::Infallible,
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::MeterProvider as _,
    trace::{SpanKind, TracerProvider as _},
};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    trace::{SdkTracer, SdkTracerProvider},
};
use prometheus::{Registry, TextEncoder};
use tokio::runtime::{Builder, Runtime};
use tracing::warn;

use super::{
    Context, Meters, Settings, Span, TelemetryError,
    export::{self, Losses},
    names,
    settings::Plan,
};

/// How long the end waits for the collector.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Traces and metrics of a daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Telemetry(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub tracer: Option<SdkTracer>,
    pub traces: Option<SdkTracerProvider>,
    pub metrics: Option<SdkMeterProvider>,
    pub registry: Option<Registry>,
    pub meters: Meters,
    pub losses: Arc<Losses>,
    pub content: bool,
    /// Dropped last: the providers flush through it.
    pub sender: Option<Sender>,
}

impl Telemetry {
    /// Starts what `settings` and the variables that `env` reads ask for. The SDK reads some more by itself, from the
    /// process's environment. A collector that is not there is no error: what it misses is counted.
    pub fn start(settings: Settings, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, TelemetryError> {
        let plan = Plan::read(env)?;
        if plan.traces.is_none() && plan.metrics.is_none() && !settings.metrics {
            return Ok(Self::off());
        }
        let resource = resource(settings.service_version, plan.named);
        let sender = if plan.traces.is_some() || plan.metrics.is_some() { Some(Sender::start()?) } else { None };
        let entered = sender.as_ref().map(Sender::enter);

        let mut inner = Inner { content: plan.content, ..Inner::default() };
        if plan.metrics.is_some() || settings.metrics {
            let mut metrics = SdkMeterProvider::builder().with_resource(resource.clone());
            if settings.metrics {
                let registry = Registry::new();
                let exporter = opentelemetry_prometheus::exporter()
                    .with_registry(registry.clone())
                    .scope_info_enabled(false)
                    .build()
                    .map_err(failed("metrics"))?;
                metrics = metrics.with_reader(exporter);
                inner.registry = Some(registry);
            }
            if let Some(endpoint) = plan.metrics {
                let exporter = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build();
                metrics = metrics.with_periodic_exporter(exporter.map_err(failed("metrics"))?);
            }
            let metrics = metrics.build();
            inner.meters = Meters::new(metrics.meter(names::PALISADE), inner.losses.clone());
            inner.metrics = Some(metrics);
        }
        if let Some(endpoint) = plan.traces {
            let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
            let exporter = exporter.map_err(failed("traces"))?;
            let losses = inner.losses.clone();
            inner.trace(export::provider(exporter, plan.queue_spans, resource, losses));
        }
        drop(entered);
        inner.sender = sender;
        Ok(Self(Arc::new(inner)))
    }

    /// Returns telemetry that does nothing.
    pub fn off() -> Self {
        Self(Arc::new(Inner::default()))
    }

    /// Returns where to measure.
    pub fn meters(&self) -> &Meters {
        &self.0.meters
    }

    /// Returns the metrics in Prometheus' text format. Empty if they are not kept.
    pub fn render(&self) -> String {
        let Some(registry) = &self.0.registry else { return String::new() };
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&registry.gather(), &mut text) {
            warn!(%error, "cannot write the metrics");
        }
        text
    }

    /// Sends what is left, and ends. Blocks for up to 5 seconds, so call it from a thread that may. Spans that have not
    /// ended by then are lost. A second call does nothing.
    pub fn shutdown(&self) {
        self.end(SHUTDOWN_TIMEOUT);
    }

    pub(super) fn end(&self, timeout: Duration) {
        // The SDK waits 5 seconds for metrics whatever it is told, hence the threads.
        let (ended, all_ended) = mpsc::channel::<Infallible>();
        if let Some(traces) = self.0.traces.clone() {
            let ended = ended.clone();
            in_background(move || {
                let _ = traces.shutdown_with_timeout(timeout);
                drop(ended);
            });
        }
        if let Some(metrics) = self.0.metrics.clone() {
            in_background(move || {
                let _ = metrics.shutdown_with_timeout(timeout);
                drop(ended);
            });
        } else {
            drop(ended);
        }
        // Nothing is ever sent: the channel closes when both have ended.
        if let Err(mpsc::RecvTimeoutError::Timeout) = all_ended.recv_timeout(timeout) {
            warn!("the collector did not take the last spans or metrics in time");
        }
        let lost = self.0.losses.total();
        if lost > 0 {
            warn!(lost, "spans never reached the collector");
        }
    }

    pub(super) fn span(
        &self,
        parent: &Context,
        kind: SpanKind,
        describe: impl FnOnce() -> (Cow<'static, str>, Vec<KeyValue>),
    ) -> Span {
        Span::start(self.0.tracer.as_ref(), parent, kind, self.0.content, describe)
    }
}

impl Inner {
    pub fn trace(&mut self, provider: SdkTracerProvider) {
        self.tracer = Some(provider.tracer(names::PALISADE));
        self.traces = Some(provider);
    }
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            tracer: None,
            traces: None,
            metrics: None,
            registry: None,
            meters: Meters::off(),
            losses: Arc::default(),
            content: false,
            sender: None,
        }
    }
}

/// The thread that talks to the collector. The SDK's threads block until it has; on the daemon's own runtime they could
/// wait for each other.
#[derive(Debug)]
pub(super) struct Sender(Option<Runtime>);

impl Sender {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("telemetry").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    fn enter(&self) -> Option<tokio::runtime::EnterGuard<'_>> {
        self.0.as_ref().map(Runtime::enter)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A runtime must not be waited for inside of another one.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Who sends. What the operator says in `OTEL_RESOURCE_ATTRIBUTES` is read by the SDK.
fn resource(version: &'static str, named: bool) -> Resource {
    let resource = Resource::builder().with_attribute(KeyValue::new(names::SERVICE_VERSION, version));
    if named { resource.build() } else { resource.with_service_name(names::PALISADE).build() }
}

fn failed<E: std::fmt::Display>(signal: &'static str) -> impl Fn(E) -> TelemetryError {
    move |error| TelemetryError::Export { signal, reason: error.to_string() }
}

/// Without a thread there is nothing to wait for either.
fn in_background(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name("telemetry-end".into()).spawn(work) {
        warn!(%error, "cannot start a thread to end telemetry");
    }
}
