//! The matrix of acts: everything that can be done with one path.

use std::fmt::Display;

use serde_json::{Value, json};

use super::table::Row;

/// Acts on one path that begin by opening or looking at it, each with and without following a link.
const ONE: &[&str] = &[
    "open-read",
    "open-write",
    "open-read-write",
    "create",
    "exclusive",
    "create-unasked",
    "truncate",
    "truncate-unasked",
    "append",
    "open-directory",
    "open-mutable",
    "stat",
    "set-times",
    "set-size",
    "set-size-unasked",
    "metadata-hash",
    "sync",
    "advise",
];

/// Acts on one path that never follow.
const NAMES: &[&str] = &["read-link", "unlink", "remove-directory", "make-directory", "symlink"];

/// Returns the matrix for a path: each act's name and case. `number` makes second names unique; `from` is a file that may
/// be moved or linked.
pub fn matrix(at: &str, path: &str, from: &str, number: impl Display) -> Vec<(String, Value)> {
    let one = |act: &str, follow: bool| json!({ "act": act, "at": at, "path": path, "follow": follow, "time": [7, 7] });
    let mut all = Vec::new();
    for act in ONE {
        all.push((act.to_string(), one(act, false)));
        all.push((format!("{act} following"), one(act, true)));
    }
    for act in NAMES {
        let mut case = one(act, false);
        case["to"] = json!(["", "file"]);
        all.push((act.to_string(), case));
    }
    let got = |what: &str| format!("got-{what}-{number}");
    let two = |act: &str, (at, path): (&str, &str), (to, new): (&str, &str), follow: bool| json!({ "act": act, "at": at, "path": path, "to": [to, new], "follow": follow });
    all.push(("link from".into(), two("link", (at, path), ("/rw", &got("linked")), false)));
    all.push(("link from following".into(), two("link", (at, path), ("/rw", &got("followed")), true)));
    all.push(("link to".into(), two("link", ("/rw", from), (at, path), false)));
    all.push(("rename to".into(), two("rename", ("/rw", from), (at, path), false)));
    all.push(("rename from".into(), two("rename", (at, path), ("/rw", &got("moved")), false)));
    all
}

/// Returns the matrix with `@` in its paths, to be replaced by a directory of each row's own: some acts take away what
/// they act on.
pub fn rows_in(at: &str, path: &str, dir: impl Fn(usize) -> String) -> Vec<(String, String, Value)> {
    let all = matrix(at, &format!("@/{path}"), "@/from", "@").into_iter().enumerate();
    all.map(|(number, (act, case))| {
        let dir = dir(number);
        let case = case.to_string().replace('@', &dir);
        (dir, act, serde_json::from_str(&case).unwrap())
    })
    .collect()
}

/// What only looks: for paths of this machine that are not a test's to change.
pub fn looks(at: &str, path: &str) -> Vec<(String, Value)> {
    let acts = ["open-read", "open-directory", "stat", "metadata-hash", "read-link"];
    let case = |act: &str, follow: bool| json!({ "act": act, "at": at, "path": path, "follow": follow });
    let all = acts
        .iter()
        .flat_map(|act| [(act.to_string(), case(act, false)), (format!("{act} following"), case(act, true))]);
    all.collect()
}

/// Says whether an act may make nothing of a link but follow it or fail.
pub fn follows(act: &str) -> bool {
    act.ends_with(" following") && !act.starts_with("link")
        || ["open", "create", "exclusive", "truncate", "append", "set-size"].iter().any(|it| act.starts_with(it))
}

/// A file that is there for whoever is meant to have it.
pub fn control(name: impl Into<String>) -> Row {
    let case = json!({ "act": "open-read", "at": "/rw", "path": "dir/./deep/../file" });
    Row::control(name, case, "inside")
}
