//! A tool that does what its arguments say: `{"queue": "billing", "act": {"read": "/workspace/ticket"}}`. What fails
//! is the tool's own failure, but for what it calls in turn: that is said.

use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    io::Write as _,
    time::{Duration, Instant, SystemTime},
};

use palisade_guest::{
    Error, events, http, memory,
    schemars::{self, JsonSchema},
    tool, tools,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What to do, and what policy can see of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arguments {
    queue: Option<String>,
    number: Option<i64>,
    #[serde(default)]
    act: Act,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Act {
    /// Says the queue and the number.
    #[default]
    Echo,
    Read(String),
    Append {
        path: String,
        text: String,
    },
    List(String),
    /// Calls a tool and says its result, or its error.
    Call {
        name: String,
        #[serde(default)]
        arguments: serde_json::Map<String, Value>,
    },
    /// Says the names of the tools.
    ListTools,
    MemoryGet {
        space: String,
        key: String,
    },
    MemoryPut {
        space: String,
        key: String,
        value: Value,
    },
    /// Sends a GET request to a URL.
    Fetch(String),
    Log(String),
    Progress(f64),
    Print(String),
    Env,
    /// Says something by chance, and what the time is.
    Origin,
    /// Says so many bytes.
    Output(usize),
    Sleep {
        milliseconds: u64,
    },
    Spin,
    /// Calls the host for ever.
    SpinInHost,
    Grow,
    Recurse,
    Panic,
    Exit(i32),
    Fail {
        code: String,
        message: String,
    },
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Said {
    said: String,
}

/// Does what its arguments say.
#[tool]
fn probe(arguments: Arguments) -> Result<Said, Error> {
    let said = match arguments.act {
        Act::Echo => {
            let queue = arguments.queue.unwrap_or_else(|| "none".into());
            let number = arguments.number.map_or_else(|| "none".into(), |number| number.to_string());
            format!("queue {queue}, number {number}")
        }
        Act::Read(path) => String::from_utf8_lossy(&fs::read(path)?).into_owned(),
        Act::Append { path, text } => {
            fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())?;
            "appended".into()
        }
        Act::List(path) => {
            let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
            names.sort();
            names.join(" ")
        }
        Act::Call { name, arguments } => match tools::call::<_, Said>(&name, &arguments) {
            Ok(result) => format!("{name} said: {}", result.said),
            Err(error) => format!("{name} did not: {}: {error}", error.code()),
        },
        Act::ListTools => tools::list()?.into_iter().map(|tool| tool.name).collect::<Vec<_>>().join(" "),
        Act::MemoryGet { space, key } => {
            let found = memory::space(space).get::<Value>(&key)?;
            found.map_or_else(|| "none".into(), |item| item.value.to_string())
        }
        Act::MemoryPut { space, key, value } => format!("version {}", memory::space(space).put(&key, &value)?),
        Act::Fetch(url) => {
            let response = http::get(url)?;
            format!("{} {}", response.status(), response.text()?)
        }
        Act::Origin => {
            let time = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_millis());
            format!("chance {:x} at {time}", RandomState::new().hash_one(1))
        }
        Act::Log(message) => {
            events::info!(message);
            "logged".into()
        }
        Act::Progress(fraction) => {
            events::progress(fraction, "on the way");
            "told".into()
        }
        Act::Print(text) => {
            println!("{text}");
            "printed".into()
        }
        Act::Env => {
            let variables: Vec<_> = std::env::vars().collect();
            format!("{:?} {variables:?}", std::env::args().collect::<Vec<_>>())
        }
        Act::Output(bytes) => "x".repeat(bytes),
        Act::Sleep { milliseconds } => {
            std::thread::sleep(Duration::from_millis(milliseconds));
            "slept".into()
        }
        Act::Spin => loop {
            std::hint::black_box(0);
        },
        Act::SpinInHost => loop {
            std::hint::black_box(Instant::now());
        },
        Act::Grow => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
            }
        }
        Act::Recurse => recurse(0).to_string(),
        Act::Panic => panic!("the tool was told to panic"),
        Act::Exit(code) => std::process::exit(code),
        Act::Fail { code, message } => return Err(Error::new(code, message)),
    };
    Ok(Said { said })
}

/// Never returns: each call needs the one below it.
#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box(recurse(std::hint::black_box(depth + 1))) + 1
}
