#![allow(clippy::unwrap_used)]

use tokio::net::UnixStream;

use super::*;

#[tokio::test]
async fn a_call_that_the_daemon_would_not_take_ends_its_step_and_not_the_worker() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let gate = Gate::new(1, Outbox::new(ours.into_split().1));
    let arguments = "x".repeat(FIXED.hostcall_bytes as usize);
    let refused = gate.ask(Call::CallTool { name: "x".into(), arguments }).await.unwrap_err();
    assert_eq!(refused.downcast_ref::<Exceeded>().unwrap().limit, "hostcall_bytes");
}
