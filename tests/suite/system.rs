use palisade_proto::v1;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::harness::Daemon;

#[tokio::test]
async fn the_daemon_says_what_it_is_and_every_limit_it_holds() {
    let mount = tempfile::tempdir().unwrap();
    let daemon = Daemon::with(&format!(
        "[limits]\nevents = {{ default = 3, max = 5 }}\n[[mount]]\nname = \"m\"\npath = {:?}\n",
        mount.path()
    ))
    .await;
    let info = daemon.system().get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    assert!(info.engine.starts_with("wasmtime 48") && info.engine_hash.len() == 16);
    let events = info.limits.iter().find(|limit| limit.name == "events").unwrap();
    assert_eq!((events.default_value, events.maximum), (3, 5));
    // No limit is infinite. Tests have no spare workers.
    let bounded = |limit: &v1::Limit| limit.maximum > 0 && limit.default_value > 0 || limit.name == "workers.spares";
    assert!(info.limits.iter().all(bounded), "{:?}", info.limits);
    assert_eq!(info.mounts, [v1::MountInfo { name: "m".into(), read_only: true }]);
    assert!(!format!("{info:?}").contains(mount.path().to_str().unwrap()), "host paths are not shown");
}

#[tokio::test]
async fn health_is_served_for_every_service() {
    let daemon = Daemon::start().await;
    let mut health = HealthClient::new(daemon.channel.clone());
    for service in [
        "",
        "palisade.v1.Steps",
        "palisade.v1.Components",
        "palisade.v1.Workspaces",
        "palisade.v1.Control",
        "palisade.v1.Credentials",
        "palisade.v1.System",
    ] {
        let checked = health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        assert_eq!(checked.status, 1, "{service} serves");
    }
}

#[tokio::test]
async fn reflection_lists_every_service() {
    let daemon = Daemon::start().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut responses = ServerReflectionClient::new(daemon.channel.clone())
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        responses.message().await.unwrap().unwrap().message_response
    else {
        panic!()
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for service in [
        "palisade.v1.Steps",
        "palisade.v1.Components",
        "palisade.v1.Workspaces",
        "palisade.v1.Control",
        "palisade.v1.Credentials",
        "palisade.v1.System",
        "grpc.health.v1.Health",
    ] {
        assert!(names.iter().any(|name| name == service), "{service} in {names:?}");
    }
}
