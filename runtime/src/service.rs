//! The callers' contract over gRPC. Beside it only `serve` and the command line's client say `tonic`.

mod agents;
mod audit;
mod callers;
mod components;
mod control;
mod convert;
mod credentials;
mod listen;
mod places;
mod policies;
mod status;
mod steps;
mod system;
mod tools;
mod upload;
mod workspaces;

use std::{future::Future, time::Duration};

use http_body_util::BodyExt as _;
use palisade_proto::v1::{
    agents_server::AgentsServer, audit_server::AuditServer, components_server::ComponentsServer,
    control_server::ControlServer, credentials_server::CredentialsServer, policies_server::PoliciesServer,
    steps_server::StepsServer, system_server::SystemServer, tools_server::ToolsServer,
    workspaces_server::WorkspacesServer,
};
use tonic::{Code, Status, body::Body, codegen::http::Request, service::InterceptorLayer, transport::Server};
use tonic_health::server::HealthReporter;
use tower::util::MapRequestLayer;

pub use listen::{ListenError, Listener};

use crate::lifecycle::Lifecycle;

/// Largest message in either direction: an input or output of the largest size, and its envelope.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Largest header list of a request.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// How long a caller that does not end its connection is waited for at shutdown.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves callers on `listener` until `stop` is done; then `drain` is awaited while connections are still answered.
pub async fn serve(
    lifecycle: Lifecycle,
    listener: Listener,
    stop: impl Future<Output = ()>,
    drain: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let limits = lifecycle.config().limits.clone();
    let (only, operators) = (callers::Only::new(&lifecycle), control::operators(&lifecycle));
    macro_rules! service {
        ($server:ident, $service:expr) => {
            $server::new($service)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        };
    }
    let reflection = |bytes| {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(bytes)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    set_health(&health, true).await;
    // Both layers are around every service, also one that is added later. What is not set here is unlimited in the
    // library.
    let mut builder = Server::builder()
        .layer(MapRequestLayer::new(whole_or_aborted))
        .layer(InterceptorLayer::new(only))
        .max_concurrent_streams(limits.connection_requests as u32)
        .concurrency_limit_per_connection(limits.connection_requests as usize)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_local_error_reset_streams(Some(256))
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)));
    let mut router = builder
        .add_service(service!(StepsServer, steps::Service(lifecycle.clone())))
        .add_service(service!(ComponentsServer, components::Service(lifecycle.clone())))
        .add_service(service!(WorkspacesServer, workspaces::Service(lifecycle.clone())))
        .add_service(service!(AgentsServer, agents::Service(lifecycle.clone())))
        .add_service(service!(ToolsServer, tools::Service(lifecycle.clone())))
        .add_service(service!(PoliciesServer, policies::Service(lifecycle.clone())))
        .add_service(service!(CredentialsServer, credentials::Service(lifecycle.clone())))
        .add_service(service!(ControlServer, control::Service::new(lifecycle.clone())))
        .add_service(service!(AuditServer, audit::Service::new(lifecycle.clone())))
        .add_service(service!(SystemServer, system::Service(lifecycle)))
        .add_service(health_service);
    if let Ok(service) = reflection(palisade_proto::DESCRIPTORS).build_v1() {
        router = router.add_service(service);
    }
    // Python's grpcio-reflection still asks in this version.
    if let Ok(service) = reflection(palisade_proto::DESCRIPTORS).build_v1alpha() {
        router = router.add_service(service);
    }
    let goodbye = tokio_util::sync::CancellationToken::new();
    let incoming = listener.incoming(limits.connections, operators);
    let serving = router.serve_with_incoming_shutdown(incoming, goodbye.clone().cancelled_owned());
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return served,
        () = async {
            stop.await;
            set_health(&health, false).await;
            drain.await;
            goodbye.cancel();
        } => {}
    }
    // A connection that never finishes its preface would hold the server for ever.
    tokio::time::timeout(GOODBYE, serving).await.unwrap_or(Ok(()))
}

/// A request stream that its caller cancels looks like one that ended: half a file would be taken for a whole one. Here
/// the cancellation becomes an error that the reader of the stream sees.
fn whole_or_aborted(mut request: Request<Body>) -> Request<Body> {
    let called = callers::Called(request.uri().path().to_owned());
    request.extensions_mut().insert(called);
    request.map(|body| {
        Body::new(body.map_err(|error| match error.code() {
            Code::Cancelled => Status::aborted("the caller cancelled the request"),
            _ => error,
        }))
    })
}

async fn set_health(health: &HealthReporter, serving: bool) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    let status = if serving { Serving } else { NotServing };
    health.set_service_status("", status).await;
    for service in [
        "Agents",
        "Audit",
        "Components",
        "Control",
        "Credentials",
        "Policies",
        "Steps",
        "System",
        "Tools",
        "Workspaces",
    ] {
        health.set_service_status(format!("palisade.v1.{service}"), status).await;
    }
}
