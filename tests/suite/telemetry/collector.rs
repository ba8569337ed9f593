//! A collector of OpenTelemetry's own making: the server from its published protocol, which keeps what it is sent.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{Metric, metric::Data},
    trace::v1 as otlp,
};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

pub use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};

/// Serves as long as the test's runtime.
pub struct Collector {
    pub endpoint: String,
    received: Received,
}

#[derive(Clone, Default)]
struct Received {
    spans: Arc<Mutex<Vec<Span>>>,
    metrics: Arc<Mutex<Vec<Metric>>>,
}

/// A span as it was received: ids in hex digits, attributes as a JSON object.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub kind: SpanKind,
    pub trace: String,
    pub state: String,
    pub id: String,
    pub parent: String,
    pub attributes: Value,
    pub events: Vec<(String, Value)>,
    pub status: StatusCode,
    pub message: String,
    /// Of the sender.
    pub resource: Value,
    pub start_ns: u64,
    pub end_ns: u64,
}

/// All spans that were received.
#[derive(Debug)]
pub struct Trace(pub Vec<Span>);

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Received::default();
        let server = Server::builder()
            .add_service(TraceServiceServer::new(received.clone()))
            .add_service(MetricsServiceServer::new(received.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { endpoint, received }
    }

    pub fn trace(&self) -> Trace {
        Trace(self.received.spans.lock().unwrap().clone())
    }

    /// Returns the sum of a counter's points whose labels are these, as it was received last.
    pub fn counted(&self, name: &str, labels: &Value) -> Option<i64> {
        let metrics = self.received.metrics.lock().unwrap();
        let points = metrics.iter().rev().find(|metric| metric.name == name).map(|metric| match &metric.data {
            Some(Data::Sum(sum)) => &sum.data_points,
            other => panic!("`{name}` is no counter: {other:?}"),
        })?;
        let points = points.iter().filter(|point| object(&point.attributes) == *labels);
        use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
        points.map(|point| if let Some(Value::AsInt(count)) = point.value { count } else { 0 }).reduce(|a, b| a + b)
    }
}

impl Trace {
    /// Returns the only span of this name.
    pub fn span(&self, name: &str) -> &Span {
        let named: Vec<_> = self.0.iter().filter(|span| span.name == name).collect();
        assert_eq!(named.len(), 1, "{} spans are called `{name}`: {:?}", named.len(), self.names());
        named[0]
    }

    /// Returns the span with this id.
    pub fn with_id(&self, id: &Value) -> &Span {
        let found = self.0.iter().find(|span| json!(span.id) == *id);
        found.unwrap_or_else(|| panic!("no span has the id {id}: {self:?}"))
    }

    /// Returns the names of a span's children, in the order in which they began.
    pub fn children(&self, parent: &Span) -> Vec<&str> {
        let mut children: Vec<_> = self.0.iter().filter(|span| span.parent == parent.id).collect();
        children.sort_by_key(|span| span.start_ns);
        children.into_iter().map(|span| span.name.as_str()).collect()
    }

    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|span| span.name.as_str()).collect()
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.spans.lock().unwrap();
        for of_resource in request.into_inner().resource_spans {
            let resource = object(&of_resource.resource.unwrap_or_default().attributes);
            let found = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
            spans.extend(found.map(|span| Span::new(span, &resource)));
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Received {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let of_scopes = request.into_inner().resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        self.metrics.lock().unwrap().extend(of_scopes.flat_map(|of_scope| of_scope.metrics));
        Ok(Response::new(Default::default()))
    }
}

impl Span {
    fn new(span: otlp::Span, resource: &Value) -> Self {
        let status = span.status.clone().unwrap_or_default();
        Self {
            kind: span.kind(),
            trace: hex(&span.trace_id),
            state: span.trace_state,
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            attributes: object(&span.attributes),
            events: span.events.iter().map(|event| (event.name.clone(), object(&event.attributes))).collect(),
            status: status.code(),
            message: status.message,
            resource: resource.clone(),
            start_ns: span.start_time_unix_nano,
            end_ns: span.end_time_unix_nano,
            name: span.name,
        }
    }
}

/// Returns attributes as an object. None may be there twice.
fn object(attributes: &[KeyValue]) -> Value {
    let mut object = Map::new();
    for KeyValue { key, value, .. } in attributes {
        let before = object.insert(key.clone(), value.as_ref().map_or(Value::Null, plain));
        assert!(before.is_none(), "attribute `{key}` is there twice");
    }
    object.into()
}

fn plain(value: &AnyValue) -> Value {
    match &value.value {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::BoolValue(yes)) => json!(yes),
        Some(any_value::Value::IntValue(number)) => json!(number),
        Some(any_value::Value::DoubleValue(number)) => json!(number),
        Some(any_value::Value::ArrayValue(array)) => array.values.iter().map(plain).collect(),
        other => panic!("no attribute of ours is {other:?}"),
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
