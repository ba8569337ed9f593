//! System calls on files that no guest has a word for: native code in the jail asks for each.

use std::time::Instant;

use serde_json::json;

use super::{table::said, world::World};
use crate::hostile::{report, settings::Setting};

#[tokio::test(flavor = "multi_thread")]
async fn the_jail_answers_no_system_call_that_it_does_not_need() {
    let mut world = World::new(Setting::OsWall).await;
    let began = Instant::now();
    let request = world.request(json!([{ "denied-calls": world.root.join("secret") }]));
    let said = said(&world.run(request).await.outcomes()[0]);
    // `<name>: <what was answered>`
    let wrong: Vec<_> = said.iter().filter(|line| !line.ends_with(": EPERM") && !line.ends_with(": EACCES")).collect();
    report::held_in("os-wall", "FS-CALLS", said.len(), said.len() - wrong.len(), began.elapsed());
    assert!(said.len() >= 40, "{said:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    world.must_be_clean();
    // Without the jail some are answered, or the table proves nothing.
    let mut open = World::new(Setting::NoWall).await;
    let request = open.request(json!([{ "denied-calls": open.root.join("secret") }]));
    let said = super::table::said(&open.run(request).await.outcomes()[0]);
    let answered = said.iter().filter(|line| line.ends_with(": done")).count();
    assert!(answered >= 10, "{said:?}");
}
