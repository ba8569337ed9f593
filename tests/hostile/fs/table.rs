//! Rows of an attack on files, and their judgement.

use std::{collections::BTreeSet, time::Instant};

use serde_json::{Value, json};

use super::world::World;
use crate::hostile::{report, settings::Setting};

/// One act, and what must hold.
#[derive(Clone)]
pub struct Row {
    pub name: String,
    /// As `tests/guests/src/files/case.rs` has it.
    case: Value,
    holds: Holds,
}

#[derive(Clone)]
enum Holds {
    /// A guest gets an error. Native code may get something that is harmless.
    Refused,
    /// It is answered, with this in it: without such rows a table proves nothing.
    Answered(&'static str),
    /// Only what lies outside decides.
    Either,
}

impl Row {
    pub fn refused(name: impl Into<String>, case: Value) -> Self {
        Self { name: name.into(), case, holds: Holds::Refused }
    }

    pub fn control(name: impl Into<String>, case: Value, has: &'static str) -> Self {
        Self { name: name.into(), case, holds: Holds::Answered(has) }
    }

    pub fn either(name: impl Into<String>, case: Value) -> Self {
        Self { name: name.into(), case, holds: Holds::Either }
    }

    fn judge(&self, world: &World, said: &str) -> Option<String> {
        if let Some(secret) = world.secret_in(said) {
            return Some(format!("was told {secret}"));
        }
        // What every system has: an attack need not find what we planted.
        if said.contains("root:x:0:0") || said.contains("PATH=/") {
            return Some("was told what is in a file of this machine".into());
        }
        let holds = match &self.holds {
            Holds::Refused => said.starts_with("error: ") || !world.setting.has_guests(),
            Holds::Answered(has) => said.starts_with("ok: ") && said.contains(has),
            Holds::Either => true,
        };
        (!holds).then(|| "has an answer that it must not have".into())
    }
}

/// Rows of one step. More would make an input or an output that is too large.
const BATCH: usize = 700;

/// Does all rows in the order in which they are and judges each, and all that lies around.
pub async fn hold(world: &mut World, class: &str, rows: Vec<Row>) {
    let began = Instant::now();
    let control = rows.iter().any(|row| matches!(row.holds, Holds::Answered(_)));
    assert!(control, "a table without a control proves nothing");
    let names: BTreeSet<_> = rows.iter().map(|row| &row.name).collect();
    assert_eq!(names.len(), rows.len(), "each row has a name of its own");
    let (mut bad, mut wrong) = (0, Vec::new());
    for batch in rows.chunks(BATCH) {
        let cases: Vec<_> = batch.iter().map(|row| &row.case).collect();
        let request = world.request(json!([{ "file-cases": cases }]));
        let ran = world.run(request).await;
        let said = said(&ran.outcomes()[0]);
        assert_eq!(said.len(), batch.len(), "each row has its answer");
        for (row, said) in batch.iter().zip(said) {
            if let Some(what) = row.judge(world, &said) {
                bad += 1;
                let said: String = said.chars().take(300).collect();
                wrong.push(format!("  {} {what}: {said} ({})", row.name, row.case));
            }
        }
    }
    wrong.extend(world.wrong().into_iter().map(|what| format!("  {what}")));
    report::held_in(world.setting.name(), class, rows.len(), rows.len() - bad, began.elapsed());
    wrong.truncate(40);
    assert!(
        wrong.is_empty(),
        "{:?} {class}: of {} rows {bad} do not hold:\n{}",
        world.setting,
        rows.len(),
        wrong.join("\n")
    );
}

/// Reads what became of each case.
pub fn said(outcome: &str) -> Vec<String> {
    let list = outcome.strip_prefix("ok: ").unwrap_or_else(|| panic!("the acts were not done: {outcome}"));
    serde_json::from_str(list).unwrap()
}

/// The oracle itself: with no wall at all, it must see what it looks for, or its silence is worth nothing.
#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_wall_every_oracle_sees_it() {
    let mut world = World::new(Setting::NoWall).await;
    let told = async |world: &mut World, case: Value| {
        let request = world.request(json!([{ "file-cases": [case] }]));
        said(&world.run(request).await.outcomes()[0]).remove(0)
    };
    for (at, path) in [("/rw", "../secret"), ("/workspace", "../../../other/workspaces/kept/secret")] {
        let read = told(&mut world, json!({ "act": "open-read", "at": at, "path": path })).await;
        assert!(Row::either("read", Value::Null).judge(&world, &read).is_some(), "{read}");
    }
    assert!(world.wrong().iter().any(|what| what.contains("a secret is found")), "{:?}", world.wrong());
    let swept = world.swept();
    for place in ["what was told", "the journal, exported", "journal.db"] {
        assert!(swept.hits.iter().any(|hit| hit.place.contains(place)), "not found in {place}: {swept:#?}");
    }
    let listed = json!({ "act": "open-directory", "at": "/rw", "path": "../../outside/dir" });
    let listed = told(&mut world, listed).await;
    assert!(Row::either("list", Value::Null).judge(&world, &listed).is_some(), "{listed}");
    for (act, path, to) in [
        ("open-write", "../secret", ""),
        ("create", "../made", ""),
        ("make-directory", "../../outside/made", ""),
        ("set-times", "../../outside", ""),
        ("truncate", "../../ro/file", ""),
        ("link", "../ro/file", "linked"),
        ("rename", "../../outside/link", "moved"),
        ("unlink", "../../outside/secret", ""),
        ("remove-directory", "../../outside/empty", ""),
    ] {
        world.settle();
        let path = if act == "truncate" { "../ro/file" } else { path };
        let said = told(&mut world, json!({ "act": act, "at": "/rw", "path": path, "to": ["/rw", to] })).await;
        assert!(said.starts_with("ok: "), "{act}: {said}");
        let changed = world.wrong().iter().any(|what| what.contains(" was ") || what.contains(" is "));
        assert!(changed, "{act} {path} was not seen");
    }
    let worker = nix::unistd::Pid::from_raw(world.daemon.children()[0]);
    nix::sys::signal::kill(worker, nix::sys::signal::Signal::SIGKILL).unwrap();
    crate::harness::eventually("a lost worker is seen", || {
        world.wrong().iter().any(|what| what.contains("a worker was lost"))
    })
    .await;
}
