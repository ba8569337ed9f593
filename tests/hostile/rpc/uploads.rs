//! Uploads without end, without beginning, and in pieces that are none.

use futures::stream::{self, BoxStream, StreamExt as _};
use palisade_proto::v1::{self, push_component_request::Message as Push, put_file_request::Message as Put};
use tonic::Status;

use super::super::siege::Siege;
use crate::harness::reason;

/// Says whether it was refused for this reason.
fn because<T>(result: Result<T, Status>, reasons: &[&str]) -> Result<(), String> {
    match result {
        Ok(_) => Err("it was taken".into()),
        Err(status) if reasons.contains(&reason(&status).as_str()) => Ok(()),
        Err(status) => Err(format!("{status:?}")),
    }
}

#[tokio::test]
async fn rpc_05_uploads_without_end_are_ended() {
    let mut siege = Siege::lay("[limits]\ncomponent_bytes = 3000000\n").await;
    let id =
        v1::CreateWorkspaceRequest { workspace_id: "w".into(), quota_bytes: Some(2_000_000), ..Default::default() };
    siege.daemon.workspaces().create_workspace(id).await.unwrap();
    let push = |messages: BoxStream<'static, Push>| {
        let mut components = siege.daemon.components();
        let messages = messages.map(|message| v1::PushComponentRequest { message: Some(message) });
        async move { components.push_component(messages).await }
    };
    let put = |messages: BoxStream<'static, Put>| {
        let mut workspaces = siege.daemon.workspaces();
        let messages = messages.map(|message| v1::PutFileRequest { message: Some(message) });
        async move { workspaces.put_file(messages).await }
    };
    let begin = || Push::Header(v1::PushHeader::default());
    let chunk = |bytes: usize| Push::Chunk([b"\0asm".to_vec(), vec![0; bytes]].concat());
    let file = || Put::Header(v1::PutFileHeader { workspace: "workspaces/w".into(), path: "f".into() });
    let again = |message: Push| stream::repeat(message);
    const INVALID: &[&str] = &["FIELD_INVALID"];
    const LARGE: &[&str] = &["COMPONENT_TOO_LARGE"];
    let mut held = Vec::new();
    for (name, messages, reasons) in [
        ("chunks without end", stream::once(async move { begin() }).chain(again(chunk(60_000))).boxed(), LARGE),
        (
            "the largest chunks without end",
            stream::once(async move { begin() }).chain(again(chunk((1 << 20) - 4))).boxed(),
            LARGE,
        ),
        ("headers without end", again(begin()).boxed(), INVALID),
        ("a chunk without a header", again(chunk(10)).boxed(), INVALID),
        ("a chunk that is too large", stream::iter([begin(), chunk(1 << 20)]).boxed(), INVALID),
        ("a header after a chunk", stream::iter([begin(), chunk(10), begin()]).boxed(), INVALID),
        ("nothing", stream::iter([]).boxed(), INVALID),
        ("a header alone", stream::iter([begin()]).boxed(), &["NOT_WASM"]),
        (
            "ten thousand bytes, one by one",
            stream::iter(std::iter::once(begin()).chain((0..10_000).map(|_| Push::Chunk(vec![7])))).boxed(),
            &["NOT_WASM"],
        ),
        (
            "empty chunks",
            stream::iter(std::iter::once(begin()).chain((0..10_000).map(|_| Push::Chunk(Vec::new())))).boxed(),
            &["NOT_WASM"],
        ),
    ] {
        held.push((name, because(push(messages).await, reasons)));
    }
    let piece = || Put::Chunk(vec![7; 60_000]);
    for (name, messages, reasons) in [
        (
            "a file without end",
            stream::once(async move { file() }).chain(stream::repeat(piece())).boxed(),
            &["QUOTA_EXCEEDED"][..],
        ),
        ("headers of a file without end", stream::repeat(file()).boxed(), INVALID),
        ("a piece of no file", stream::repeat(piece()).boxed(), INVALID),
        ("no file", stream::iter([]).boxed(), INVALID),
    ] {
        held.push((name, because(put(messages).await, reasons)));
    }
    // Hung up in the middle, many at once.
    let hung_up = futures::future::join_all((0..60).map(|n| {
        let stalled = stream::iter([begin(), chunk(10_000 * n)]).chain(stream::pending()).boxed();
        let pushing = push(stalled);
        async { tokio::time::timeout(std::time::Duration::from_millis(300), pushing).await.is_err() }
    }))
    .await;
    held.push((
        "hung up in the middle",
        hung_up.iter().all(|late| *late).then_some(()).ok_or("somebody was answered".into()),
    ));
    for (name, result) in held {
        siege.judge(name, result);
    }
    siege.lift(0).await;
}
