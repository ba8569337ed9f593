//! Exhaustion (RES-01 to RES-14): steps that take too much of something. Each ends with the name of what stopped it, its
//! slot comes back, somebody else is served, and the daemon does not grow.

mod acts;
mod cancels;
mod compute;
mod handles;
mod memory;
mod neighbours;
mod recursion;
mod residue;
mod storms;
mod texts;
mod volume;

use palisade_proto::v1;

use super::siege::Attack;
use crate::harness::limited;

/// Bytes of memory of one attack, unless it says otherwise.
const MEMORY: u64 = 32 << 20;

/// Bytes of memory of all attacks that run at once.
const MEMORY_AT_ONCE: u64 = 6 * MEMORY;

/// What an attack may use: little, so that it ends soon.
fn little() -> v1::StepLimits {
    v1::StepLimits {
        fuel: Some(300_000_000),
        memory_bytes: Some(MEMORY as i64),
        timeout: milliseconds(10_000),
        ..Default::default()
    }
}

/// The same with so much time, and fuel that outlasts it.
fn timed(ms: i64) -> v1::StepLimits {
    v1::StepLimits { fuel: Some(1_000_000_000_000), timeout: milliseconds(ms), ..little() }
}

fn milliseconds(ms: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: ms / 1_000, nanos: (ms % 1_000) as i32 * 1_000_000 })
}

/// Returns a WASI 0.1 command that does `body`, in a module with these fields beside a memory of one page.
fn command(fields: &str, body: &str) -> Vec<u8> {
    let text = format!(r#"(module (memory (export "memory") 1) {fields} (func (export "_start") {body}))"#);
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Returns a request that runs a component with arguments.
fn run(component: &str, args: &[&str], limits: v1::StepLimits) -> v1::RunStepRequest {
    let args = args.iter().map(ToString::to_string).collect();
    limited(v1::RunStepRequest { component: component.into(), args, ..Default::default() }, limits)
}

/// Returns an attack by the guest `floods`, which was pushed as `component`.
fn flood(component: &str, what: &str, count: u64, ends: &'static [&'static str]) -> Attack {
    flood_within(component, what, count, little(), ends)
}

fn flood_within(
    component: &str,
    what: &str,
    count: u64,
    limits: v1::StepLimits,
    ends: &'static [&'static str],
) -> Attack {
    let name = format!("{what} {count}");
    Attack::new(name, run(component, &[what, &count.to_string()], limits), ends)
}

/// Returns the guest `floods`.
fn floods() -> Vec<u8> {
    std::fs::read(crate::harness::guest("floods")).unwrap()
}
