use std::time::Duration;

use palisade_proto::v1::{self, log_event::Level, run_step_response::Message, step_event::Kind, step_result::Outcome};
use serde_json::json;

use crate::harness::{Daemon, limited, probe};

#[tokio::test]
async fn log_and_progress_arrive_in_order_with_their_fields() {
    let daemon = Daemon::start().await;
    let acts = json!([
        { "log": { "message": "first", "count": 1 } },
        { "progress": { "fraction": 0.5, "message": "half" } },
        { "progress": { "fraction": 7.0, "message": "too much" } },
    ]);
    let ran = daemon.run(probe(acts)).await.unwrap();
    let kinds: Vec<_> = ran.events.iter().map(|event| event.kind.clone().unwrap()).collect();
    let [Kind::Log(log), Kind::Progress(half), Kind::Progress(clamped)] = kinds.as_slice() else { panic!("{kinds:?}") };
    assert_eq!((log.level(), log.message.as_str()), (Level::Info, "first"));
    assert_eq!(log.fields, [v1::Field { key: "count".into(), value: "1".into() }]);
    assert_eq!((half.fraction, half.message.as_str()), (0.5, "half"));
    assert_eq!(clamped.fraction, 1.0);
    assert_eq!(ran.usage().events, 3);
}

#[tokio::test]
async fn a_step_that_says_too_much_is_stopped_by_the_events_limit() {
    let daemon = Daemon::start().await;
    let request = probe(json!([{ "log": { "message": "again", "count": 50 } }]));
    let ran = daemon.run(limited(request, v1::StepLimits { events: Some(20), ..Default::default() })).await.unwrap();
    assert_eq!(ran.outcome(), Outcome::LimitExceeded);
    assert_eq!((ran.failure().limit.as_str(), ran.failure().limit_value), ("events", 20));
    assert_eq!(ran.events.len(), 20);
}

#[tokio::test]
async fn one_event_is_bounded_too() {
    let daemon = Daemon::start().await;
    let ran = daemon.run(probe(json!([{ "log": { "message": "x".repeat(70_000), "count": 1 } }]))).await.unwrap();
    assert_eq!(ran.failure().code, "EVENT_BYTES_EXCEEDED");
}

#[tokio::test]
async fn a_caller_that_does_not_read_holds_up_its_own_step_and_no_other() {
    let daemon = Daemon::start().await;
    // Far more than the connection's window takes.
    let chatty = probe(json!([{ "log": { "message": "x".repeat(10_000), "count": 1_000 } }]));
    let mut slow = daemon.steps().run_step(chatty).await.unwrap().into_inner();
    assert!(matches!(slow.message().await.unwrap().unwrap().message, Some(Message::Accepted(_))));
    for _ in 0..20 {
        let other = tonic::transport::Endpoint::from_shared(daemon.endpoint()).unwrap().connect().await.unwrap();
        let quick = v1::steps_client::StepsClient::new(other).run_step(probe(json!([]))).await.unwrap();
        let mut quick = quick.into_inner();
        let all = async { while quick.message().await.unwrap().is_some() {} };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("the other step ends");
    }
    let mut events = 0;
    let result = loop {
        match slow.message().await.unwrap().unwrap().message.unwrap() {
            Message::Event(_) => events += 1,
            Message::Result(result) => break result,
            Message::Accepted(_) => panic!("twice"),
        }
    };
    assert_eq!((events, result.outcome()), (1_000, Outcome::Succeeded));
}
