//! NET: every way around the rules by name, address, redirect, header or parser.

mod answers;
mod authority;
mod headers;
mod identity;
mod literals;
mod redirects;
mod reuse;
mod surroundings;
mod target;

use super::{ask::Ask, rig::Why, scene::Scene};

/// A request that is not one, or that no rule admits.
const NEVER: &[Why] = &[Why::Request, Why::Rule];

/// Whether the address is wrong, or there is none.
const NOWHERE: &[Why] = &[Why::Address, Why::Dns];

/// Asks the good upstream over TLS.
fn get(scene: &Scene, host: &str, path_with_query: &str) -> Ask {
    Ask::new("GET", "https", &scene.at(host), path_with_query)
}
