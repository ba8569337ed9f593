//! Every power that a guest can be given: one word, its interfaces, and what it can reach.
//!
//! A component that imports anything that is not in this list is refused when it is pushed. To add a power, see
//! `docs/adding-a-host-interface.md`.

pub mod bindings;
mod clocks;
mod events;
mod exchange;
mod file_stream;
pub mod files;
mod filesystem;
mod gate;
mod http;
mod memory;
mod objects;
mod poll;
mod quota;
pub mod random;
mod sockets;
mod stdio;
mod tools;

use bindings::palisade;
use wasmtime::component::{Component, HasData, Linker, ResourceTable};
use wasmtime_wasi::{
    cli::{WasiCli, WasiCliView as _},
    p2::bindings as wasi,
    random::WasiRandom,
};
use wasmtime_wasi_http::{WasiHttp, p2::bindings as wasi_http};
use wasmtime_wasi_io::bindings::wasi::io;

pub use clocks::Clock;
pub use events::{EventSink, Exceeded, Outlet};
pub use files::{Files, Trees};
pub use gate::Gate;
pub use stdio::{Stdin, Stdio};

use crate::sandbox::StepState;

/// One power of a guest.
pub struct Power {
    /// The same word in `wit/`, in this folder, in the SDK and in the documentation.
    pub word: &'static str,
    /// Interfaces without their version.
    pub interfaces: &'static [&'static str],
    /// What a guest that imports it could reach.
    pub reach: &'static str,
    /// How its calls are held.
    pub way: Way,
    /// Links the interfaces: nothing else does.
    link: fn(&mut Linker<StepState>) -> wasmtime::Result<()>,
}

/// How the calls of a power are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Each call passes the daemon's gate: charged, authorised, recorded.
    Gated,
    /// A call reaches nothing but what the step has anyway, for this reason.
    Pure(&'static str),
}

/// The list.
pub const POWERS: &[Power] = &[
    Power {
        word: "tools",
        interfaces: &["palisade:agent/tools"],
        reach: "the tools that the agent's manifest names and policy allows",
        way: Way::Gated,
        link: |l| palisade::agent::tools::add_to_linker::<_, gate::Guest>(l, StepState::gate),
    },
    Power {
        word: "memory",
        interfaces: &["palisade:agent/memory"],
        reach: "the memory spaces that the agent's manifest names and policy allows",
        way: Way::Gated,
        link: |l| palisade::agent::memory::add_to_linker::<_, gate::Guest>(l, StepState::gate),
    },
    Power {
        word: "http",
        interfaces: &["wasi:http/types", "wasi:http/outgoing-handler", "palisade:agent/http"],
        reach: "the destinations of the egress rules that the agent's manifest names and policy allows",
        way: Way::Gated,
        link: |l| {
            let options = wasi_http::LinkOptions::default();
            wasi_http::http::types::add_to_linker::<_, WasiHttp>(l, &(&options).into(), StepState::http)?;
            wasi_http::http::outgoing_handler::add_to_linker::<_, WasiHttp>(l, StepState::http)?;
            palisade::agent::http::add_to_linker::<_, gate::Guest>(l, StepState::gate)
        },
    },
    Power {
        word: "events",
        interfaces: &["palisade:agent/events"],
        reach: "log and progress events to the caller, up to the step's limit",
        way: Way::Pure("its only reader is the caller, who gave the step its input"),
        link: |l| palisade::agent::events::add_to_linker::<_, events::Guest>(l, StepState::events),
    },
    Power {
        word: "stdio",
        interfaces: &[
            "wasi:cli/stdin",
            "wasi:cli/stdout",
            "wasi:cli/stderr",
            "wasi:cli/terminal-input",
            "wasi:cli/terminal-output",
            "wasi:cli/terminal-stdin",
            "wasi:cli/terminal-stdout",
            "wasi:cli/terminal-stderr",
        ],
        reach: "the request's input, and output to the caller up to the step's limit",
        way: Way::Pure("it comes from the caller and goes to the caller"),
        link: |l| {
            wasi::cli::stdin::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
            wasi::cli::stdout::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
            wasi::cli::stderr::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
            wasi::cli::terminal_input::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
            wasi::cli::terminal_output::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
            wasi::cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
            wasi::cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
            wasi::cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, StepState::cli)
        },
    },
    Power {
        word: "environment",
        interfaces: &["wasi:cli/environment", "wasi:cli/exit"],
        reach: "the arguments and variables of the request; nothing of the daemon's own",
        way: Way::Pure("it holds what the caller's request says"),
        link: |l| {
            wasi::cli::environment::add_to_linker::<_, WasiCli>(l, StepState::cli)?;
            wasi::cli::exit::add_to_linker::<_, WasiCli>(l, StepState::cli)
        },
    },
    Power {
        word: "filesystem",
        interfaces: &["wasi:filesystem/types", "wasi:filesystem/preopens"],
        reach: "/workspace, up to its quota, and the mounts that the request names",
        way: Way::Pure("what is mounted was decided, and recorded, when the step was accepted"),
        link: |l| {
            wasi::filesystem::types::add_to_linker::<_, files::Guest>(l, StepState::files)?;
            wasi::filesystem::preopens::add_to_linker::<_, files::Guest>(l, StepState::files)
        },
    },
    Power {
        word: "clocks",
        interfaces: &["wasi:clocks/wall-clock", "wasi:clocks/monotonic-clock"],
        reach: "the step's own time, and sleeping up to the step's timeout",
        way: Way::Pure("its time follows from the step's start and fuel, and it waits inside the step's deadline"),
        link: clocks::link,
    },
    Power {
        word: "random",
        interfaces: &["wasi:random/random", "wasi:random/insecure", "wasi:random/insecure-seed"],
        reach: "bytes that follow from the step's seed",
        way: Way::Pure("it computes"),
        link: |l| {
            wasi::random::random::add_to_linker::<_, WasiRandom>(l, StepState::random)?;
            wasi::random::insecure::add_to_linker::<_, WasiRandom>(l, StepState::random)?;
            wasi::random::insecure_seed::add_to_linker::<_, WasiRandom>(l, StepState::random)
        },
    },
    Power {
        word: "io",
        interfaces: &["wasi:io/error", "wasi:io/poll", "wasi:io/streams"],
        reach: "nothing by itself: the streams of the other powers",
        way: Way::Pure("it moves what the other powers opened"),
        link: |l| {
            io::error::add_to_linker::<_, HasIo>(l, StepState::table)?;
            poll::link(l)?;
            io::streams::add_to_linker::<_, HasIo>(l, StepState::table)
        },
    },
    Power {
        word: "sockets",
        interfaces: &[
            "wasi:sockets/instance-network",
            "wasi:sockets/ip-name-lookup",
            "wasi:sockets/network",
            "wasi:sockets/tcp",
            "wasi:sockets/tcp-create-socket",
            "wasi:sockets/udp",
            "wasi:sockets/udp-create-socket",
        ],
        reach: "nothing: every call answers access-denied",
        way: Way::Pure("there is nothing behind it"),
        // For each component that imports them: see `linker_for`.
        link: |_| Ok(()),
    },
    Power {
        word: "types",
        interfaces: &["palisade:agent/types"],
        reach: "nothing: names of types",
        way: Way::Pure("it has no function"),
        link: |l| palisade::agent::types::add_to_linker::<_, events::Guest>(l, StepState::events),
    },
];

/// Returns the power that provides an import, by its full name with version, or `None` for one that nothing here
/// provides.
pub fn power_of(import: &str) -> Option<&'static Power> {
    let (interface, version) = import.split_once('@')?;
    let package_version = if interface.starts_with("wasi:") { "0.2." } else { "0.1." };
    let patch = version.strip_prefix(package_version)?;
    if patch.is_empty() || !patch.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    POWERS.iter().find(|power| power.interfaces.contains(&interface))
}

/// Links every power.
pub fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<StepState>> {
    let mut linker = Linker::new(engine);
    for power in POWERS {
        (power.link)(&mut linker)?;
    }
    Ok(linker)
}

/// Returns the linker of one component: the sockets that it imports, if any, are answered by a stub.
pub fn linker_for(base: &Linker<StepState>, component: &Component) -> wasmtime::Result<Linker<StepState>> {
    let mut linker = base.clone();
    sockets::deny(&mut linker, component)?;
    Ok(linker)
}

struct HasIo;

impl HasData for HasIo {
    type Data<'a> = &'a mut ResourceTable;
}
