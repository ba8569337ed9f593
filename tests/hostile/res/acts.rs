//! What tenants do who misbehave. Benches measure what it costs the others.

use serde_json::{Value, json};

/// What each hostile tenant has the probe do, all the time.
pub fn hostile() -> [(&'static str, Value); 8] {
    let name = "x".repeat(100);
    [
        ("spins", json!(["spin"])),
        ("spins-in-host", json!(["spin-in-host"])),
        ("grows", json!(["grow"])),
        ("logs", json!([{ "log": { "message": name, "count": 1_000_000 } }])),
        ("prints", json!([{ "print": { "text": name, "count": 1_000_000 } }])),
        ("makes-files", json!([{ "files": { "directory": "/workspace", "count": 100_000 } }])),
        ("lists", json!([{ "files": { "directory": "/workspace", "count": 200 } }, { "list-for-ever": "/workspace" }])),
        ("recurses", json!(["recurse"])),
    ]
}
