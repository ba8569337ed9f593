//! Sends the same request again and again: `fetches AUTHORITY PATH MILLISECONDS AT_ONCE`, and says how long each took, in
//! nanoseconds, from before it was made to the end of its body, and how long all of them took. For the benches.

#[cfg(not(target_os = "wasi"))]
fn main() {}

#[cfg(target_os = "wasi")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [authority, path, milliseconds, at_once] = arguments.as_slice() else { std::process::exit(1) };
    let (Ok(milliseconds), Ok(at_once)) = (milliseconds.parse(), at_once.parse()) else { std::process::exit(1) };
    let target = fetching::Target { authority, path };
    let said = fetching::again_and_again(&target, std::time::Duration::from_millis(milliseconds), at_once);
    println!("{}", said.expect("a response"));
}

#[cfg(target_os = "wasi")]
mod fetching {
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};
    use wasip2::{
        http::{
            outgoing_handler,
            types::{ErrorCode, Fields, FutureIncomingResponse, IncomingBody, Method, OutgoingRequest, Scheme},
        },
        io::{
            poll::{self, Pollable},
            streams::{InputStream, StreamError},
        },
    };

    /// Bytes that one call reads at most.
    const READ_MAX: u64 = 64 << 10;

    pub struct Target<'a> {
        pub authority: &'a str,
        pub path: &'a str,
    }

    /// A request under way.
    struct Fetch {
        began: Instant,
        stage: Stage,
    }

    /// Fields are dropped in this order.
    enum Stage {
        Head(Pollable, FutureIncomingResponse),
        Body(Pollable, InputStream, IncomingBody),
    }

    /// What became of the requests.
    #[derive(Default)]
    struct Log {
        latencies_ns: Vec<u64>,
        bytes: u64,
    }

    /// Keeps so many requests under way, and begins none when the time is over.
    pub fn again_and_again(target: &Target<'_>, lasting: Duration, at_once: usize) -> Result<Value, String> {
        let start = Instant::now();
        let mut log = Log::default();
        let mut open = (0..at_once).map(|_| Fetch::begin(target)).collect::<Result<Vec<_>, _>>()?;
        while !open.is_empty() {
            let mut ready = poll::poll(&open.iter().map(Fetch::pollable).collect::<Vec<_>>());
            ready.sort_unstable();
            // From the end, so that the places of the others stay what they are.
            for index in ready.into_iter().rev() {
                match open.swap_remove(index as usize).go_on(&mut log)? {
                    Some(fetch) => open.push(fetch),
                    None if start.elapsed() < lasting => open.push(Fetch::begin(target)?),
                    None => {}
                }
            }
        }
        let took_ns = start.elapsed().as_nanos() as u64;
        Ok(json!({ "latencies_ns": log.latencies_ns, "bytes": log.bytes, "took_ns": took_ns }))
    }

    impl Fetch {
        fn begin(target: &Target<'_>) -> Result<Self, String> {
            let began = Instant::now();
            let request = OutgoingRequest::new(Fields::new());
            let refused = |()| "a part of the request is refused".to_owned();
            request.set_method(&Method::Get).map_err(refused)?;
            request.set_scheme(Some(&Scheme::Http)).map_err(refused)?;
            request.set_authority(Some(target.authority)).map_err(refused)?;
            request.set_path_with_query(Some(target.path)).map_err(refused)?;
            let future = outgoing_handler::handle(request, None).map_err(said)?;
            Ok(Self { began, stage: Stage::Head(future.subscribe(), future) })
        }

        fn pollable(&self) -> &Pollable {
            match &self.stage {
                Stage::Head(pollable, ..) | Stage::Body(pollable, ..) => pollable,
            }
        }

        /// Takes what is there. Returns nothing once there is no more to come.
        fn go_on(self, log: &mut Log) -> Result<Option<Self>, String> {
            let Self { began, stage } = self;
            let (pollable, stream, body) = match stage {
                Stage::Body(pollable, stream, body) => (pollable, stream, body),
                Stage::Head(pollable, future) => {
                    let Some(answer) = future.get() else {
                        return Ok(Some(Self { began, stage: Stage::Head(pollable, future) }));
                    };
                    drop(pollable);
                    let response = answer.map_err(|()| "the response is gone".to_owned())?.map_err(said)?;
                    if response.status() != 200 {
                        return Err(format!("the status is {}", response.status()));
                    }
                    let body = response.consume().map_err(|()| "the body is gone".to_owned())?;
                    let stream = body.stream().map_err(|()| "the stream is gone".to_owned())?;
                    (stream.subscribe(), stream, body)
                }
            };
            loop {
                match stream.read(READ_MAX) {
                    Ok(piece) if piece.is_empty() => {
                        return Ok(Some(Self { began, stage: Stage::Body(pollable, stream, body) }));
                    }
                    Ok(piece) => log.bytes += piece.len() as u64,
                    Err(StreamError::Closed) => break,
                    Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
                }
            }
            drop((pollable, stream));
            let trailers = IncomingBody::finish(body);
            while trailers.get().is_none() {
                trailers.subscribe().block();
            }
            log.latencies_ns.push(began.elapsed().as_nanos() as u64);
            Ok(None)
        }
    }

    fn said(code: ErrorCode) -> String {
        format!("{code:?}")
    }
}
