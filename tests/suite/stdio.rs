use palisade_proto::v1::{self, output_chunk::Stream, step_result::Outcome};
use serde_json::json;

use crate::harness::{Daemon, limited, probe};

#[tokio::test]
async fn standard_output_streams_to_the_caller_whole_and_in_order() {
    let daemon = Daemon::start().await;
    let request = probe(json!([{ "print": { "text": "0123456789\n", "count": 20_000 } }]));
    let ran = daemon.run(request).await.unwrap();
    assert_eq!(ran.outcome(), Outcome::Succeeded);
    assert_eq!(ran.output(Stream::Stdout), "0123456789\n".repeat(20_000));
    assert_eq!(ran.usage().stdio_bytes, 220_000);
}

#[tokio::test]
async fn a_step_that_prints_endlessly_is_stopped_by_the_stdio_limit() {
    let daemon = Daemon::start().await;
    let request = probe(json!([{ "print": { "text": "for ever and ever\n", "count": 1_000_000_000 } }]));
    let ran =
        daemon.run(limited(request, v1::StepLimits { stdio_bytes: Some(10_000), ..Default::default() })).await.unwrap();
    assert_eq!(ran.outcome(), Outcome::LimitExceeded);
    assert_eq!((ran.failure().limit.as_str(), ran.failure().limit_value), ("stdio_bytes", 10_000));
    let received = ran.output(Stream::Stdout).len() as i64;
    assert!(received <= 10_000 && received > 9_000);
    assert_eq!(ran.usage().stdio_bytes, received, "what was refused was not used");
}
