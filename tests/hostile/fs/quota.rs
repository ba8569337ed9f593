//! Guests that fill a disk, and directories that are too long to be read.

use std::fs;

use serde_json::json;

use super::{
    cases::control,
    table::{Row, hold},
    world::World,
};
use crate::hostile::settings::GUESTS;

const BYTES: u64 = 100_000;
const ENTRIES: u64 = 300;

/// FS-12: whatever a guest tries, no more is on the disk afterwards than its quota. The jail knows no quota: guests only.
#[tokio::test]
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
