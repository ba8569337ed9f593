//! Guests that fill a disk, and directories that are too long to be read.

use std::{
    fs,
    time::{Duration, Instant},
};

use palisade_proto::v1::{self, step_result::Outcome};
use serde_json::{Value, json};

use super::{
    cases::control,
    descriptors::resident,
    table::{Row, hold},
    world::World,
};
use crate::{
    harness::seconds,
    hostile::{report, settings::GUESTS},
};

const BYTES: u64 = 100_000;
const ENTRIES: u64 = 300;

/// FS-12: whatever a guest tries, no more is on the disk afterwards than its quota. The jail knows no quota: guests only.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_never_has_more_on_the_disk_than_its_quota() {
    for setting in GUESTS {
        let mut world = World::with_room(setting, (BYTES, ENTRIES)).await;
        let before = used(&world);
        let rows = hoards();
        hold(&mut world, "FS-12", rows).await;
        let now = used(&world);
        assert!(now.0 - before.0 <= BYTES, "{setting:?}: {} bytes", now.0 - before.0);
        assert!(now.1 - before.1 <= ENTRIES, "{setting:?}: {} entries", now.1 - before.1);
        assert!(now.1 - before.1 > ENTRIES / 2, "{setting:?}: nothing was made");
        world.must_be_clean();
    }
}

fn hoards() -> Vec<Row> {
    let case = |act: &str, path: &str, size: u64, to: &str| json!({ "act": act, "at": "/rw", "path": path, "time": [size, 0], "to": ["/rw", to], "follow": true });
    let mut rows =
        vec![control("a file inside"), Row::control("a file", case("create", "sparse", 0, ""), "written: true")];
    for size in [BYTES + 20, 1 << 20, 1 << 32, 1 << 40, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX - 1, u64::MAX] {
        rows.push(Row::refused(format!("a sparse file of {size}"), case("set-size", "sparse", size, "")));
        rows.push(Row::refused(format!("unasked, {size}"), case("set-size-unasked", "sparse", size, "")));
    }
    rows.push(Row::control("a sparse file that fits", case("set-size", "sparse", BYTES / 2, ""), "set"));
    // Deep: each directory in the one before.
    let mut deep = String::from("deep");
    for depth in 0..80 {
        rows.push(Row::control(format!("directory {depth}"), case("make-directory", &deep, 0, ""), "made"));
        deep += "/d";
    }
    for number in 0..400 {
        // Some of each kind fit; what counts is the sum.
        let path = format!("many-{number}");
        let (act, to) = match number % 4 {
            0 => ("create", ""),
            1 => ("symlink", "file"),
            2 => ("make-directory", ""),
            _ => ("create-unasked", ""),
        };
        rows.push(Row::either(format!("{act} {number}"), case(act, &path, 0, to)));
    }
    for number in 0..60 {
        rows.push(Row::refused(format!("link {number}"), case("link", "file", 0, &format!("linked-{number}"))));
        rows.push(Row::refused(format!("one more {number}"), case("create", &format!("more-{number}"), 0, "")));
    }
    rows
}

/// Returns the apparent bytes and the entries below the writable mount.
fn used(world: &World) -> (u64, u64) {
    let (mut bytes, mut entries) = (0, 0);
    let mut waiting = vec![world.writable("rw")];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            entries += 1;
            match entry.metadata().unwrap() {
                data if data.is_dir() => waiting.push(entry.path()),
                data if data.is_file() => bytes += data.len(),
                _ => {}
            }
        }
    }
    (bytes, entries)
}

/// Entries of a directory that somebody else has filled.
const MANY: usize = 40_000;

/// FS-13: a directory that is too long costs its reader, within what the reader may have.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_too_long_is_read_within_bounds() {
    for setting in GUESTS {
        let mut world = World::new(setting).await;
        world.plant("many", |at| {
            for number in 0..MANY {
                fs::write(at.join(format!("{number:0>60}")), "").unwrap();
            }
        });
        world.plant("moving", |at| {
            (0..500).for_each(|number| fs::write(at.join(format!("{number:0>20}")), "").unwrap());
        });
        let began = Instant::now();
        let before = resident(&world);
        let list = |act: Value| world.request(json!([act]));
        let limited = |acts| v1::RunStepRequest {
            limits: Some(v1::StepLimits { timeout: seconds(20), ..Default::default() }),
            ..list(acts)
        };
        for act in [
            json!({ "list": "/rw/many" }),
            json!({ "hoard-listings": { "directory": "/rw/many", "count": 20 } }),
            json!({ "list-for-ever": "/rw/many" }),
        ] {
            let request = v1::RunStepRequest {
                limits: Some(v1::StepLimits { timeout: seconds(2), ..Default::default() }),
                ..limited(act.clone())
            };
            let ran = world.daemon.run(request).await.unwrap();
            let ended = matches!(ran.outcome(), Outcome::Succeeded | Outcome::LimitExceeded);
            assert!(ended, "{setting:?} {act}: {:?}", ran.result.failure);
        }
        let grown = resident(&world).saturating_sub(before);
        assert!(grown < 256 << 20, "{setting:?}: the worker grew by {} MiB", grown >> 20);
        let ran = world.daemon.run(limited(json!({ "list-while-changing": "/rw/moving" }))).await.unwrap();
        assert_eq!(ran.outcome(), Outcome::Succeeded, "{setting:?}: {:?}", ran.result.failure);
        world.heard(&ran);
        report::held_in(setting.name(), "FS-13", 4, 4, began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(60));
        world.must_be_clean();
    }
}
