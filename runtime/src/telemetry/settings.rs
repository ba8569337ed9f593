//! What the operator asked for: the standard variables, read once at the start.

use super::names;

#[cfg(test)]
mod tests;

/// Where a collector listens by default.
const ENDPOINT: &str = "http://localhost:4317";

const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const PROTOCOL_VARIABLE: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

/// Spans that wait for the collector: by default, and at most, since room for all of them is reserved.
const QUEUE_SPANS: usize = 2_048;
const QUEUE_SPANS_MAX: usize = 65_536;

/// What the daemon decides about telemetry. Everything else is in the standard variables.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Of the daemon.
    pub service_version: &'static str,
    /// Whether metrics are kept for the Prometheus endpoint. Independent of what is sent to a collector.
    pub metrics: bool,
}

/// Telemetry that was asked for and cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("`{variable}` is `{value}`: use `otlp` or `none`")]
    Exporter { variable: &'static str, value: String },
    #[error("`{variable}` is `{value}`: only `grpc` is supported; unset it, and use the collector's port for gRPC")]
    Protocol { variable: &'static str, value: String },
    #[error(
        "`{variable}` is `{value}`: use `http://host:port`; there is no TLS, so let a collector on this host send it on"
    )]
    Endpoint { variable: &'static str, value: String },
    #[error("cannot set up the export of {signal}: {reason}")]
    Export { signal: &'static str, reason: String },
    #[error("cannot start a thread for telemetry: {0}")]
    Thread(#[from] std::io::Error),
}

/// What is sent, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The collector for spans, if they are sent.
    pub traces: Option<String>,
    /// The collector for metrics, if they are sent.
    pub metrics: Option<String>,
    /// Spans that may wait for the collector.
    pub queue_spans: usize,
    /// Whether arguments and results go into spans.
    pub content: bool,
    /// Whether the operator named the service.
    pub named: bool,
}

impl Plan {
    /// Reads the variables that the SDK leaves to us.
    pub fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, TelemetryError> {
        let disabled = is_true(env, "OTEL_SDK_DISABLED");
        let sent = |signal: &Signal| if disabled { Ok(None) } else { signal.endpoint(env) };
        Ok(Self {
            traces: sent(&TRACES)?,
            metrics: sent(&METRICS)?,
            queue_spans: value(env, "OTEL_BSP_MAX_QUEUE_SIZE")
                .and_then(|size| size.parse().ok())
                .filter(|size| *size > 0)
                .map_or(QUEUE_SPANS, |size: usize| size.min(QUEUE_SPANS_MAX)),
            content: is_true(env, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"),
            named: value(env, "OTEL_SERVICE_NAME").is_some() || has_service_name(env),
        })
    }
}

/// The variables of one kind of telemetry.
struct Signal {
    exporter: &'static str,
    endpoint: &'static str,
    protocol: &'static str,
}

const TRACES: Signal = Signal {
    exporter: "OTEL_TRACES_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
};

const METRICS: Signal = Signal {
    exporter: "OTEL_METRICS_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
};

impl Signal {
    /// Returns where to send this signal, if it is sent.
    fn endpoint(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, TelemetryError> {
        let endpoint = first(env, [self.endpoint, ENDPOINT_VARIABLE]);
        match value(env, self.exporter).as_deref() {
            Some("none") => return Ok(None),
            None if endpoint.is_none() => return Ok(None),
            None | Some("otlp") => {}
            Some(other) => {
                return Err(TelemetryError::Exporter { variable: self.exporter, value: shown(other) });
            }
        }
        if let Some((variable, protocol)) = first(env, [self.protocol, PROTOCOL_VARIABLE])
            && protocol != "grpc"
        {
            return Err(TelemetryError::Protocol { variable, value: shown(&protocol) });
        }
        match endpoint {
            None => Ok(Some(ENDPOINT.into())),
            Some((_, endpoint)) if endpoint.starts_with("http://") => Ok(Some(endpoint)),
            Some((variable, endpoint)) => Err(TelemetryError::Endpoint { variable, value: shown(&endpoint) }),
        }
    }
}

/// Returns the first of these variables that is set, with its name.
fn first(env: &dyn Fn(&str) -> Option<String>, names: [&'static str; 2]) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| value(env, name).map(|value| (name, value)))
}

/// An empty variable is as good as none: so the specification says.
fn value(env: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn is_true(env: &dyn Fn(&str) -> Option<String>, name: &str) -> bool {
    value(env, name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn has_service_name(env: &dyn Fn(&str) -> Option<String>) -> bool {
    value(env, "OTEL_RESOURCE_ATTRIBUTES").is_some_and(|attributes| {
        attributes.split(',').filter_map(|pair| pair.split_once('=')).any(|(key, _)| key.trim() == names::SERVICE_NAME)
    })
}

/// Cuts an operator's text for an error message.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
