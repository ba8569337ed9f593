//! HTTP/2 that breaks its rules, or uses them against the server.

use std::path::PathBuf;

use futures::future::{BoxFuture, join_all};

use super::{
    super::siege::Siege,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY, PUSH_PROMISE,
        RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, Went, frame, header, integer, request,
    },
};

const INFO: &str = "/palisade.v1.System/GetServerInfo";

/// What must become of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Must {
    /// The daemon ends it.
    End,
    /// The daemon ends it, or answers the stream.
    EndOrAnswer,
    /// It may go on: the daemon has only to stay as small as it was.
    Bound,
}

type Assault = Box<dyn FnOnce(Raw) -> BoxFuture<'static, Raw> + Send>;

/// Sends this once, after the greeting.
fn once(bytes: Vec<u8>) -> Assault {
    Box::new(move |mut raw| {
        Box::pin(async move {
            raw.send(&bytes).await;
            raw
        })
    })
}

/// Sends `first`, and then `again` so many times without reading an answer.
fn flood(first: Vec<u8>, again: Vec<u8>, count: usize) -> Assault {
    Box::new(move |mut raw| {
        Box::pin(async move {
            raw.send(&first).await;
            raw.flood(&again, count).await;
            raw
        })
    })
}

/// Sends something for each of so many streams.
fn streams(count: u32, each: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Assault {
    Box::new(move |mut raw| {
        Box::pin(async move {
            let all: Vec<u8> = (0..count).flat_map(|n| each(2 * n + 1)).collect();
            for block in all.chunks(65_536) {
                if !raw.send(block).await {
                    break;
                }
            }
            raw
        })
    })
}

fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request(INFO))
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

async fn assault(siege: &mut Siege, rows: Vec<(&'static str, Must, Assault)>) {
    let socket = siege.daemon.dir.path().join("p.sock");
    let assaults = rows.into_iter().map(|(name, must, assault)| one(socket.clone(), name, must, assault));
    for (name, held) in join_all(assaults).await {
        siege.judge(name, held);
    }
}

async fn one(socket: PathBuf, name: &'static str, must: Must, assault: Assault) -> (&'static str, Result<(), String>) {
    let mut raw = assault(Raw::greeted(&socket).await).await;
    let went = match must {
        Must::Bound => return (name, Ok(())),
        _ => raw.went(must == Must::EndOrAnswer).await,
    };
    let held = went == Went::Ended || (must == Must::EndOrAnswer && went == Went::Answered);
    (name, held.then_some(()).ok_or(format!("{went:?}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_02_frames_that_break_the_rules_end_their_connection() {
    let mut siege = Siege::lay("").await;
    let data = |stream: u32| frame(DATA, 0, stream, b"x");
    use Must::{End, EndOrAnswer};
    let rows: Vec<(&str, Must, Assault)> = vec![
        ("a frame of 16 MiB", End, once([&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &[0; 100]].concat())),
        ("headers on stream 0", End, once(frame(HEADERS, END_HEADERS, 0, &request(INFO)))),
        ("data on stream 0", End, once(data(0))),
        ("data on a stream that nobody opened", End, once(data(1))),
        ("a reset of stream 0", End, once(frame(RST_STREAM, 0, 0, &[0; 4]))),
        ("a reset of a stream that nobody opened", End, once(frame(RST_STREAM, 0, 1, &[0; 4]))),
        ("a reset that is too short", End, once([open(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat())),
        ("a stream of the server's", End, once(open(2))),
        ("streams that count down", End, once([open(5), open(3)].concat())),
        ("a priority that is too short", EndOrAnswer, once(frame(PRIORITY, 0, 1, &[0; 3]))),
        (
            "a stream that depends on itself",
            EndOrAnswer,
            once(frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, &[&[0, 0, 0, 1, 9][..], &request(INFO)].concat())),
        ),
        (
            "a promise by a client",
            End,
            once(frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &request(INFO)].concat())),
        ),
        ("padding longer than the frame", End, once([open(1), frame(DATA, PADDED, 1, &[200, 1, 2])].concat())),
        ("padded headers longer than the frame", End, once(frame(HEADERS, END_HEADERS | PADDED, 1, &[255, 0]))),
        ("a continuation of nothing", End, once(frame(CONTINUATION, END_HEADERS, 1, b""))),
        (
            "headers that are interrupted",
            End,
            once([frame(HEADERS, 0, 1, &request(INFO)), frame(PING, 0, 0, &[0; 8])].concat()),
        ),
        (
            "headers that another stream continues",
            End,
            once([frame(HEADERS, 0, 1, &request(INFO)), frame(CONTINUATION, END_HEADERS, 3, b"")].concat()),
        ),
        ("settings of a stream", End, once(frame(SETTINGS, 0, 1, &[]))),
        ("settings that are cut", End, once(frame(SETTINGS, 0, 0, &[0; 5]))),
        ("an acknowledgement with settings", End, once(frame(SETTINGS, 1, 0, &[0; 6]))),
        ("an initial window of 2^31", End, once(setting(4, 1 << 31))),
        ("frames of one byte", End, once(setting(5, 1))),
        ("frames of 2^24", End, once(setting(5, 1 << 24))),
        ("pushes", End, once(setting(2, 2))),
        ("a ping that is too long", End, once(frame(PING, 0, 0, &[0; 9]))),
        ("a ping of a stream", End, once(frame(PING, 0, 1, &[0; 8]))),
        ("a window that grows by nothing", End, once(frame(WINDOW_UPDATE, 0, 0, &[0; 4]))),
        ("a window that overflows", End, once(frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2))),
        ("a window that is cut", End, once(frame(WINDOW_UPDATE, 0, 0, &[0; 3]))),
        (
            "a stream's window that overflows",
            EndOrAnswer,
            once([open(1), frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)].concat()),
        ),
        ("a farewell that is cut", End, once(frame(GOAWAY, 0, 0, &[0; 3]))),
        ("a greeting twice", End, once(PREFACE.to_vec())),
        ("an index that is none", End, once(frame(HEADERS, END_HEADERS, 1, &[0x80]))),
        (
            "an index beyond the table",
            End,
            once(frame(HEADERS, END_HEADERS, 1, &[&[0xff][..], &integer(10_000, 7)[1..]].concat())),
        ),
        ("a number without end", End, once(frame(HEADERS, END_HEADERS, 1, &[0xff; 40]))),
        ("a text longer than the frame", End, once(frame(HEADERS, END_HEADERS, 1, &[0x10, 0x7f, 0xff, 0xff, 0x7f]))),
        (
            "a Huffman code that is none",
            End,
            once(frame(HEADERS, END_HEADERS, 1, &[0x10, 0x84, 0xff, 0xff, 0xff, 0xff, 0])),
        ),
        (
            "a table larger than agreed",
            End,
            once(frame(HEADERS, END_HEADERS, 1, &[&[0x3f][..], &integer(1 << 30, 5)[1..]].concat())),
        ),
        (
            "headers without a method",
            EndOrAnswer,
            once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &header(":path", INFO))),
        ),
        (
            "pseudo-headers after others",
            EndOrAnswer,
            once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &[header("a", "b"), request(INFO)].concat())),
        ),
        (
            "two paths",
            EndOrAnswer,
            once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &[request(INFO), header(":path", "/")].concat())),
        ),
        (
            "names in capitals",
            EndOrAnswer,
            once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &[request(INFO), header("X-Upper", "x")].concat())),
        ),
        (
            "line breaks in a value",
            EndOrAnswer,
            once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &[request(INFO), header("x", "a\r\nb: c")].concat())),
        ),
        (
            "a connection header",
            EndOrAnswer,
            once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &[request(INFO), header("connection", "close")].concat())),
        ),
        (
            "a length that is none",
            EndOrAnswer,
            once(frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &[request(INFO), header("content-length", "-5")].concat(),
            )),
        ),
        (
            "a length that is not kept",
            EndOrAnswer,
            once(
                [
                    frame(HEADERS, END_HEADERS, 1, &[request(INFO), header("content-length", "1")].concat()),
                    frame(DATA, END_STREAM, 1, &[0; 9]),
                ]
                .concat(),
            ),
        ),
        ("nothing but headers", EndOrAnswer, once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &request(INFO)))),
    ];
    assault(&mut siege, rows).await;
    let socket = siege.daemon.dir.path().join("p.sock");
    for (name, bytes) in [
        ("HTTP/1.1", &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..]),
        ("another preface", b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("zeroes", &[0; 1_000]),
        ("data before settings", &[PREFACE, &frame(DATA, 0, 1, b"x")].concat()),
    ] {
        let mut raw = Raw::connect(&socket).await;
        raw.send(bytes).await;
        let went = raw.went(false).await;
        siege.judge(name, (went == Went::Ended).then_some(()).ok_or(format!("{went:?}")));
    }
    siege.lift(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_03_floods_of_frames_cost_only_who_sends_them() {
    let mut siege = Siege::lay("").await;
    use Must::{Bound, End, EndOrAnswer};
    let indexed = header("x-bomb", &"b".repeat(3_900)).tap(|bytes| bytes[0] = 0x40);
    let bomb = [request(INFO), indexed, vec![0xbe; 12_000]].concat();
    let continued = [frame(HEADERS, 0, 1, &request(INFO))].concat();
    let of_one = |name: &str| frame(HEADERS, END_HEADERS | END_STREAM, 1, &[request(INFO), header("x", name)].concat());
    let rows: Vec<(&str, Must, Assault)> = vec![
        (
            "rapid resets",
            End,
            streams(50_000, |stream| [open(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()),
        ),
        (
            "resets that the server is made to send",
            End,
            streams(20_000, |stream| [open(stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()),
        ),
        (
            "resets by data after the end",
            EndOrAnswer,
            streams(20_000, |stream| {
                [frame(HEADERS, END_HEADERS | END_STREAM, stream, &request(INFO)), frame(DATA, 0, stream, b"x")]
                    .concat()
            }),
        ),
        ("streams that never end", Bound, streams(20_000, open)),
        (
            "continuations without end",
            End,
            flood(continued.clone(), frame(CONTINUATION, 0, 1, &header("x", &"y".repeat(1_000))), 50_000),
        ),
        ("empty continuations", End, flood(continued, frame(CONTINUATION, 0, 1, b""), 500_000)),
        ("empty data", Bound, flood(open(1), frame(DATA, 0, 1, b""), 500_000)),
        (
            "padded empty data",
            Bound,
            flood(open(1), frame(DATA, PADDED, 1, &[[200].to_vec(), vec![0; 200]].concat()), 20_000),
        ),
        ("pings", Bound, flood(Vec::new(), frame(PING, 0, 0, &[7; 8]), 300_000)),
        ("settings", Bound, flood(Vec::new(), setting(4, 65_535), 300_000)),
        ("empty settings", Bound, flood(Vec::new(), frame(SETTINGS, 0, 0, &[]), 300_000)),
        ("acknowledgements of nothing", Bound, flood(Vec::new(), frame(SETTINGS, 1, 0, &[]), 300_000)),
        ("priorities", Bound, flood(Vec::new(), frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9]), 300_000)),
        ("windows", Bound, flood(open(1), frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), 300_000)),
        ("windows of the connection", Bound, flood(Vec::new(), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 300_000)),
        ("frames of no kind", Bound, flood(Vec::new(), frame(0xbe, 0xff, 1, &[7; 100]), 100_000)),
        ("farewells", Bound, flood(Vec::new(), frame(GOAWAY, 0, 0, &[0; 8]), 100_000)),
        ("a table entry of 4 KiB, 12,000 times", EndOrAnswer, once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb))),
        ("a header of 16 KiB", EndOrAnswer, once(of_one(&"y".repeat(16_200 - request(INFO).len())))),
        (
            "a thousand headers",
            EndOrAnswer,
            once(frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &[request(INFO), header("x", "y").repeat(1_000)].concat(),
            )),
        ),
        (
            "cookies",
            EndOrAnswer,
            once(frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &[request(INFO), header("cookie", "y").repeat(1_000)].concat(),
            )),
        ),
        (
            "a byte of body at a time",
            Bound,
            flood([open(1), frame(DATA, 0, 1, &[0, 0, 0x10, 0, 0])].concat(), frame(DATA, 0, 1, b"x"), 60_000),
        ),
    ];
    assault(&mut siege, rows).await;
    siege.lift(0).await;
}

/// Changes something in place.
trait Tap: Sized {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Tap for Vec<u8> {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_04_answers_that_nobody_takes_are_bounded() {
    let mut siege = Siege::lay("").await;
    let info = |stream: u32| [open(stream), frame(DATA, END_STREAM, stream, &[0; 5])].concat();
    let narrow = |window: u32| {
        move |stream: u32| if stream == 1 { [setting(4, window), info(1)].concat() } else { info(stream) }
    };
    let rows: Vec<(&str, Must, Assault)> = (0..8)
        .flat_map(|_| -> [(&str, Must, Assault); 3] {
            [
                ("a window of nothing", Must::Bound, streams(100, narrow(0))),
                ("a window of a byte", Must::Bound, streams(100, narrow(1))),
                ("answers that are not read", Must::Bound, streams(2_000, info)),
            ]
        })
        .collect();
    assault(&mut siege, rows).await;
    siege.lift(0).await;
}
