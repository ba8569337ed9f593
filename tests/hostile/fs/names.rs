//! Names that confuse, and times that overflow.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

use serde_json::{Value, json};

use super::{
    cases::{control, matrix},
    table::{Row, hold},
    world::World,
};
use crate::hostile::settings::WALLED;

/// Names that a file can have.
const LEGAL: &[&str] = &[
    "caf\u{e9}",
    "cafe\u{301}",
    "CASE",
    "case",
    "Case",
    "a\nb",
    "a\tb",
    "a\rb",
    "\u{1b}[31mred",
    "\u{202e}txt.exe",
    "\u{200b}",
    "\u{feff}file",
    "\u{2215}slash",
    "\u{ff0e}\u{ff0e}",
    "\u{ff0e}\u{ff0e}\u{ff0f}secret",
    "..\\secret",
    "...",
    ". .",
    " ",
    " file",
    "file ",
    "-rf",
    "~",
    "$HOME",
    "*",
    "COM1",
    "COM\u{b9}",
    "NUL",
    "a:b",
    "%2e%2e%2fsecret",
    "..%c0%afsecret",
    "\u{10ffff}",
    "'; DROP TABLE",
    "{}",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_what_it_is_or_no_name_at_all_and_no_time_is_too_long() {
    for setting in WALLED {
        let mut world = World::new(setting).await;
        world.plant("names", |_| {});
        let rows = names();
        hold(&mut world, "FS-10", rows).await;
        let held: BTreeSet<_> = fs::read_dir(world.writable("rw").join("names"))
            .unwrap()
            .map(|it| it.unwrap().file_name().into_vec())
            .collect();
        let meant: BTreeSet<_> = LEGAL.iter().map(|name| name.as_bytes().to_vec()).collect();
        let other: Vec<_> = held.difference(&meant).map(|name| String::from_utf8_lossy(name).len()).collect();
        assert!(meant.is_subset(&held), "{setting:?}: a name was changed");
        assert_eq!(other, [255, 255], "{setting:?}: another name was made");
        let rows = bad_names(&world);
        hold(&mut world, "FS-10", rows).await;
        let rows = times(&mut world);
        hold(&mut world, "FS-11", rows).await;
        world.must_be_clean();
    }
}

/// Each is made with its own content to be found under it.
fn names() -> Vec<Row> {
    let mut rows = vec![control("a file inside")];
    let (long, wide) = ("n".repeat(255), "\u{e9}".repeat(127) + "n");
    for name in LEGAL.iter().copied().chain([long.as_str(), wide.as_str()]) {
        let case = |act: &str| json!({ "act": act, "at": "/rw", "path": format!("names/{name}") });
        let short: String = name.chars().take(20).collect();
        rows.push(Row::control(format!("make {short:?}"), case("exclusive"), "written: true"));
        rows.push(Row::control(format!("read {short:?}"), case("open-read"), "written from inside"));
        rows.push(Row::control(format!("stat {short:?}"), case("stat"), ""));
        rows.push(Row::refused(format!("make {short:?} again"), case("exclusive")));
    }
    rows
}

/// What is no name, and a name that no text can be: a guest is answered, and nothing is made of it.
fn bad_names(world: &World) -> Vec<Row> {
    let odd = std::ffi::OsStr::from_bytes(b"odd-\xff\xfe-name");
    world.plant("odd", |at| fs::write(at.join(odd), "inside").unwrap());
    let mut rows = vec![control("a file inside")];
    let list = json!({ "act": "open-directory", "at": "/rw", "path": "odd" });
    rows.push(Row::either("list a name that is no text", list));
    let names: [(&str, String); 9] = [
        ("nothing", String::new()),
        ("NUL", "names/\0".into()),
        ("NUL in front of a way out", "\0/../../secret".into()),
        ("NUL behind a name", "file\0".into()),
        ("NUL behind a way out", "../secret\0".into()),
        ("256 bytes", "n".repeat(256)),
        ("512 bytes of 256 characters", "\u{e9}".repeat(256)),
        ("a megabyte", "n".repeat(1 << 20)),
        ("the replacement character", "odd/odd-\u{fffd}\u{fffd}-name".into()),
    ];
    for (number, (name, path)) in names.iter().enumerate() {
        let all = matrix("/rw", path, "file", 30_000 + number);
        // A megabyte in each of 46 inputs is too much.
        let all = if path.len() > 10_000 { all.into_iter().take(1).collect() } else { all };
        rows.extend(all.into_iter().map(|(act, case)| {
            let made = *name == "the replacement character";
            let name = format!("{act} {name}");
            if made { Row::either(name, case) } else { Row::refused(name, case) }
        }));
    }
    rows
}

/// FS-11: times at every edge, set and then looked at; and such as the host has set.
fn times(world: &mut World) -> Vec<Row> {
    world.plant("times", |at| {
        fs::write(at.join("file"), "inside").unwrap();
        fs::create_dir(at.join("dir")).unwrap();
        for (name, seconds) in [("early", -(1_i64 << 33)), ("first", i64::MIN), ("late", 1 << 40), ("last", i64::MAX)] {
            fs::write(at.join(name), "inside").unwrap();
            let time = nix::sys::time::TimeSpec::new(seconds, 0);
            let file = fs::File::open(at.join(name)).unwrap();
            // What the file system cannot hold it cuts.
            let _ = nix::sys::stat::futimens(&file, &time, &time);
        }
    });
    let mut rows = vec![control("a file inside")];
    for name in ["early", "first", "late", "last"] {
        for act in ["stat", "open-read", "metadata-hash"] {
            let case = json!({ "act": act, "at": "/rw", "path": format!("times/{name}") });
            rows.push(Row::control(format!("{act} a file that the host has made {name}"), case, ""));
        }
    }
    let seconds = [
        0,
        1,
        u64::from(u32::MAX),
        1 << 33,
        1 << 34,
        (1 << 34) - 1,
        9_223_372_036,
        9_223_372_037,
        18_446_744_073,
        18_446_744_074,
        i64::MAX as u64 - 1,
        i64::MAX as u64,
        i64::MAX as u64 + 1,
        u64::MAX - 1,
        u64::MAX,
    ];
    for second in seconds {
        for nano in [0, 1, 999_999_999, 1_000_000_000, 0x3fff_ffff, 0x3fff_fffe, u32::MAX] {
            for (path, follow) in [("times/file", true), ("times/file", false), ("times/dir", true)] {
                let case = |act: &str| -> Value {
                    json!({ "act": act, "at": "/rw", "path": path, "follow": follow, "time": [second, nano] })
                };
                let name = format!("{second} and {nano} of {path}{}", if follow { " following" } else { "" });
                rows.push(Row::either(format!("set {name}"), case("set-times")));
                rows.push(Row::control(format!("look at {name}"), case("stat"), ""));
            }
        }
    }
    rows
}
