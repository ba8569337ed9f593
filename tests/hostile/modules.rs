//! Hostile modules and components (MOD-01 to MOD-07): each is refused by name, or taken and then ends by name; the
//! compiler keeps to its bounds, the daemon answers others meanwhile, and what it has compiled before stays what it was.

mod abi;
mod bombs;
mod malformed;
mod poison;
mod smith;
mod structure;
mod texts;
mod worlds;

use futures::stream::{self, StreamExt as _};
use palisade_proto::v1::{self, components_client::ComponentsClient, push_component_request::Message};
use tonic::{Code, transport::Channel};

use super::siege::{Siege, end};
use crate::harness::{PATIENCE, limited, reason};

/// Pushes at once: one more than are compiled.
const AT_ONCE: usize = 3;

/// Every reason for which a component is refused.
const REFUSALS: &[&str] =
    &["NOT_WASM", "WASM_INVALID", "IMPORT_UNKNOWN", "EXPORT_MISSING", "COMPILE_LIMIT", "COMPONENT_TOO_LARGE"];

/// What becomes of a guest that nobody can know before.
const ENDS: &[&str] = &[
    "SUCCEEDED",
    "NONZERO_EXIT",
    "TRAPPED",
    "FUEL_EXHAUSTED",
    "TIMEOUT",
    "MEMORY_EXHAUSTED",
    "STACK_EXHAUSTED",
    "HOSTCALL_BYTES_EXCEEDED",
    "RESOURCES_EXCEEDED",
    "STDIO_BYTES_EXCEEDED",
];

/// What must become of a component.
#[derive(Clone, Copy)]
enum Fate {
    /// It is refused for one of these reasons.
    Refused(&'static [&'static str]),
    /// It is taken, and a step of it ends with one of these codes.
    Ends(&'static [&'static str]),
    /// One of the two, with any name that there is.
    Named,
}

/// What is refused because it is not what it should be.
const INVALID: Fate = Fate::Refused(&["WASM_INVALID"]);

/// Bytes that are pushed, and what must become of them.
struct Row {
    name: String,
    bytes: Vec<u8>,
    fate: Fate,
}

impl Row {
    fn new(name: impl Into<String>, bytes: Vec<u8>, fate: Fate) -> Self {
        Self { name: name.into(), bytes, fate }
    }

    fn text(name: impl Into<String>, text: &str, fate: Fate) -> Self {
        let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}: {text:.2000}"));
        Self::new(name, bytes, fate)
    }

    async fn judge(self, channel: Channel) -> (String, Result<(), String>) {
        let Self { name, bytes, fate } = self;
        let pushed = match push(channel.clone(), bytes).await {
            Err(status) if !matches!(status.code(), Code::InvalidArgument | Code::ResourceExhausted) => {
                return (name, Err(format!("{status:?}")));
            }
            Err(status) => Err((reason(&status), status.message().to_owned())),
            Ok(component) => Ok(end(channel, request(&component.name)).await),
        };
        let held = match (fate, &pushed) {
            (Fate::Refused(reasons), Err((reason, _))) => reasons.contains(&reason.as_str()),
            (Fate::Ends(ends), Ok(end)) => ends.contains(&end.as_str()),
            (Fate::Named, Err((reason, _))) => REFUSALS.contains(&reason.as_str()),
            (Fate::Named, Ok(end)) => ENDS.contains(&end.as_str()),
            _ => false,
        };
        (name, held.then_some(()).ok_or_else(|| format!("refused or ended: {pushed:.300?}")))
    }
}

/// Pushes all rows, some at once, runs what is taken, and judges.
async fn hold(siege: &mut Siege, rows: impl IntoIterator<Item = Row>) {
    let channel = siege.daemon.channel.clone();
    let judged = stream::iter(rows).map(|row| row.judge(channel.clone())).buffer_unordered(AT_ONCE);
    for (name, held) in judged.collect::<Vec<_>>().await {
        siege.judge(&name, held);
    }
}

async fn push(channel: Channel, bytes: Vec<u8>) -> Result<v1::Component, tonic::Status> {
    let chunks: Vec<_> = bytes.chunks(1 << 20).map(|chunk| Message::Chunk(chunk.to_vec())).collect();
    let messages = std::iter::once(Message::Header(v1::PushHeader::default())).chain(chunks);
    let messages: Vec<_> = messages.map(|message| v1::PushComponentRequest { message: Some(message) }).collect();
    let mut components = ComponentsClient::new(channel);
    let pushed = components.push_component(tokio_stream::iter(messages));
    Ok(tokio::time::timeout(PATIENCE, pushed).await.expect("pushed in time")?.into_inner())
}

/// Returns a request that runs a component for a short while.
fn request(component: &str) -> v1::RunStepRequest {
    let limits = v1::StepLimits {
        fuel: Some(50_000_000),
        memory_bytes: Some(32 << 20),
        timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..Default::default()
    };
    let env = [("NAME".to_owned(), "välue".to_owned())].into();
    limited(v1::RunStepRequest { component: component.into(), env, ..Default::default() }, limits)
}

/// Bytes of memory of all steps that run at once.
const MEMORY_AT_ONCE: u64 = 3 * (32 << 20);

/// A generator that is the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Returns a number as WebAssembly writes it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// Returns a section.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

/// Returns a custom section.
fn custom(name: &str, content: &[u8]) -> Vec<u8> {
    section(0, &[&leb(name.len())[..], name.as_bytes(), content].concat())
}

/// The first bytes of a module, and of a component.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Returns the text of a component that runs `run`, the body of a core function in a module with these fields.
fn runnable(fields: &str, body: &str) -> String {
    format!(
        r#"(component
            (core module $m {fields} (func (export "run") (result i32) {body}))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $out (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $out)))"#
    )
}
