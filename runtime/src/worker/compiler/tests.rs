//! Compilers that are in no jail, or somebody else's by now.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, net::UnixStream};

use super::{CompileError, CompileLimits, Compiled, Talk, Terms};
use crate::{
    step::Kind,
    wire::{
        self, CHUNK_BYTES_MAX, Confinement, FromCompiler, Inspection, Refusal, ToCompiler, Wall, WallState, WireError,
    },
};

const WALL: &str = "ids";

fn walls(state: WallState) -> Vec<Wall> {
    vec![Wall { name: WALL.into(), state, detail: "a test".into() }]
}

fn ready() -> FromCompiler {
    FromCompiler::Ready { walls: walls(WallState::Verified) }
}

fn inspected() -> FromCompiler {
    let inspection = Inspection { kind: Kind::Tool, imports: Vec::new(), exports: Vec::new(), adapted: false };
    FromCompiler::Inspected { inspection, engine: "engine".into() }
}

/// Lets a compiler say `first`, and `then` if it is given the component; returns what comes of that, and whether it was.
async fn said(first: FromCompiler, then: Vec<FromCompiler>) -> (Result<Compiled, Talk>, bool) {
    let limits = CompileLimits {
        timeout: Duration::from_secs(1),
        memory_bytes: 1,
        artifact_bytes: 3 << 20,
        step_memory_bytes: 1,
        patience: Duration::from_secs(1),
    };
    let terms = Terms { limits, required: vec![WALL] };
    let dir = tempfile::tempdir().unwrap();
    let (component, artifact) = (dir.path().join("component"), dir.path().join("artifact"));
    std::fs::write(&component, "hostile").unwrap();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let compiler = async move {
        let ToCompiler::Start { .. } = wire::read(&mut theirs).await.unwrap() else { panic!("no start") };
        theirs.write_all(&wire::encode(&first).unwrap()).await.unwrap();
        let given = matches!(wire::read(&mut theirs).await, Ok(ToCompiler::Chunk(_)));
        for message in then {
            // Fails once the daemon has seen enough.
            let _ = theirs.write_all(&wire::encode(&message).unwrap()).await;
        }
        given
    };
    let daemon = async move {
        let confinement = Confinement { daemon: 1, user: None, group: Err("a test".into()) };
        let talked = terms.talk(&mut ours, confinement, &component, &artifact).await;
        drop(ours);
        talked
    };
    tokio::join!(daemon, compiler)
}

#[tokio::test]
async fn a_compiler_is_given_nothing_before_its_jail_is_judged() {
    for (first, why) in [
        (FromCompiler::Ready { walls: walls(WallState::Missing) }, "its jail lacks `ids`: a test"),
        (FromCompiler::Ready { walls: Vec::new() }, "its jail lacks `ids`: nothing was said of it"),
        (FromCompiler::Refused(Refusal::NotWasm), "it spoke out of turn"),
        (inspected(), "it spoke out of turn"),
    ] {
        let (talked, given) = said(first, vec![inspected(), FromCompiler::Done]).await;
        let Err(Talk::Compile(CompileError::Violation(violation))) = talked else { panic!("{why}") };
        assert_eq!((violation.as_str(), given), (why, false));
    }
    let (talked, given) = said(ready(), vec![inspected(), FromCompiler::Done]).await;
    assert!(talked.is_ok() && given);
}

#[tokio::test]
async fn a_compiler_that_breaks_the_rules_makes_no_artifact() {
    let chunk = |bytes: usize| FromCompiler::Chunk(vec![0; bytes]);
    for (then, why) in [
        (vec![inspected(), chunk(CHUNK_BYTES_MAX + 1)], "a chunk of 1048577 bytes; at most 1048576 are taken"),
        (vec![inspected(), chunk(1 << 20), chunk(1 << 20), chunk(1 << 20), chunk(1)], "more than `artifact_bytes`"),
        (vec![inspected(), inspected()], "it spoke out of turn"),
        (vec![ready()], "it spoke out of turn"),
        (vec![chunk(1)], "it spoke out of turn"),
    ] {
        let (talked, _) = said(ready(), then).await;
        let Err(Talk::Compile(CompileError::Violation(violation))) = talked else { panic!("{why}") };
        assert_eq!(violation, why);
    }
    let (talked, _) = said(ready(), vec![inspected(), chunk(1)]).await;
    assert!(matches!(talked, Err(Talk::Wire(WireError::Closed))));
}
