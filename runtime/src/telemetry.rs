//! Traces and metrics: what happened, in the names that tools for OpenTelemetry and Prometheus know.
//!
//! Off unless asked for. While it is off, a span is its parent's context and a measurement is one branch. While it is
//! on, nothing here makes a caller wait: what finds no room is dropped and counted. The journal does not depend on it.
//!
//! Only this module names `opentelemetry` and `prometheus`. Names of spans, attributes and metrics are in `names.rs`
//! and nowhere else.
//!
//! | variable | effect |
//! |---|---|
//! | `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_{TRACES,METRICS}_ENDPOINT` | on, to there; `http://` only |
//! | `OTEL_{TRACES,METRICS}_EXPORTER` | `otlp` is on, `none` is off |
//! | `OTEL_SDK_DISABLED` | `true` is off, whatever else is set; the Prometheus endpoint is not asked |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL`, `OTEL_EXPORTER_OTLP_{TRACES,METRICS}_PROTOCOL` | `grpc`, or the start fails |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | who sends; the name is `palisade` by default |
//! | `OTEL_BSP_MAX_QUEUE_SIZE` | spans that wait for the collector, 2048 by default |
//! | `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` | `true` puts arguments and results into spans |
//!
//! The SDK reads the rest by itself, from the process's environment: `OTEL_EXPORTER_OTLP_HEADERS` and `_TIMEOUT` (also
//! of each signal), `OTEL_TRACES_SAMPLER` and `_ARG`, the other `OTEL_BSP_*`, `OTEL_METRIC_EXPORT_INTERVAL` and
//! `OTEL_SPAN_*_COUNT_LIMIT`.

mod context;
mod endpoint;
mod export;
mod meters;
mod names;
mod record;
mod settings;
mod span;
mod start;
#[cfg(test)]
mod tests;

pub use context::Context;
pub use endpoint::serve_metrics;
pub use meters::{AdmissionStatus, JournalStatus, Meters};
pub use record::{Agent, Decision, MemoryVerb, StepStart, ToolCall, Verdict};
pub use settings::{Settings, TelemetryError};
pub use span::Span;
pub use start::Telemetry;
