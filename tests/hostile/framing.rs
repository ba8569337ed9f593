//! Framing: where a message begins and ends, how large it is, and how long it may take.

mod requests;
mod responses;
mod slow;

use super::{
    ask::Ask,
    scene::{GOOD, Scene},
};

/// Asks the good upstream in the clear: HTTP/1.1, as the raw server speaks it.
fn clear(scene: &Scene, path: &str) -> Ask {
    Ask::new("GET", "http", &scene.clear_at(GOOD), path)
}
