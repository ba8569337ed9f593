use palisade_proto::v1;
use serde_json::json;

use crate::harness::{Daemon, data_dir, palisade, probe};

#[tokio::test]
async fn nothing_of_the_daemons_own_environment_reaches_a_guest() {
    let mut command = palisade();
    command.env("CANARY_IN_ENVIRONMENT", "canary-31415");
    let daemon = Daemon::launch(data_dir(), "", command).await;
    let acts = json!(["env", { "read": "/proc/self/environ" }, { "read": "/proc/1/environ" }]);
    let request =
        v1::RunStepRequest { args: vec!["one".into()], env: [("A".into(), "b".into())].into(), ..probe(acts) };
    let outcomes = daemon.run(request).await.unwrap().outcomes();
    assert_eq!(outcomes[0], r#"ok: ["step", "one"] ["A=b"]"#);
    assert!(!outcomes.concat().contains("canary"));
    for worker in daemon.children() {
        let environment = std::fs::read(format!("/proc/{worker}/environ")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environment).contains("canary"), "nor its worker");
    }
}
