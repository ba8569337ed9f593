//! What was attacked and held, in lines that `scripts/hostile.sh` adds up: `hostile NET-01 190/190 …`.

use std::time::Duration;

use super::{namespace, sweep::Swept};

/// Says how many rows of a table held.
pub fn held(rows: usize, held: usize, took: Duration) {
    println!("hostile {} {} {held}/{rows} in {} ms: {}", world(), class(), took.as_millis(), test());
}

/// Says how many rows of a class held in a setting with a wall away.
pub fn held_in(setting: &str, class: &str, rows: usize, held: usize, took: Duration) {
    println!("hostile {setting} {class} {held}/{rows} in {} ms: {}", took.as_millis(), test());
}

/// Says what was swept.
pub fn swept(secrets: usize, swept: &Swept, took: Duration) {
    let unreadable = swept.unreadable.len();
    println!(
        "hostile {} SWEEP {secrets}/{secrets} in {} ms, {} bytes of {} places, {unreadable} unreadable: {}",
        world(),
        took.as_millis(),
        swept.bytes,
        swept.places,
        test()
    );
}

/// Returns how much a test does: what the environment says, for long runs, or as much as fits into the suite.
pub fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

fn world() -> &'static str {
    if namespace::inside() { "namespace" } else { "loopback" }
}

fn test() -> String {
    std::thread::current().name().unwrap_or_default().trim_start_matches("hostile::").to_owned()
}

/// Returns the class of the test that runs: the one in its name, or else its file's.
fn class() -> String {
    let test = test();
    let parts: Vec<_> = test.split("::").collect();
    let words: Vec<_> = parts.last().unwrap_or(&"").splitn(3, '_').collect();
    match words[..] {
        [class @ ("net" | "sec" | "res" | "mod" | "rpc"), number, _] if number.parse::<u8>().is_ok() => {
            format!("{}-{number}", class.to_uppercase())
        }
        _ => parts[..parts.len().saturating_sub(1)].join("-").to_uppercase(),
    }
}
