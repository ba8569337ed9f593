//! Paths that nobody thought of: a grammar of all that was ever a trick, from a seed.

use serde_json::{Value, json};

use super::{
    cases::control,
    table::{Row, hold, said},
    world::World,
};
use crate::hostile::{
    report,
    settings::{GUESTS, WALLED},
};

const PIECES: &[&str] = &[
    "..",
    "..",
    "..",
    ".",
    "",
    "dir",
    "deep",
    "file",
    "link",
    "up",
    "abs",
    "loop",
    "rw",
    "ro",
    "mounts",
    "secret",
    "outside",
    "neighbour",
    "in",
    "dir/..",
    "up/..",
    "missing",
    "...",
    "..\u{0}",
    "proc",
    "self",
    "root",
    "wide",
];

const ACTS: &[&str] =
    &["open-read", "create", "stat", "open-directory", "truncate", "set-times", "append", "read-link"];

/// A random path for each number, always the same.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*: any will do that is the same tomorrow.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn path(&mut self) -> String {
        let mut path = String::from(["", "", "", "", "/", "./", "../"][self.below(7)]);
        for _ in 0..=self.below(9) {
            path += PIECES[self.below(PIECES.len())];
            path += ["/", "/", "/", "//", "/./", ""][self.below(6)];
        }
        path
    }
}

fn cases(seed: u64, count: usize) -> Vec<Value> {
    let mut random = Random(seed);
    let mut case = || {
        let act = ACTS[random.below(ACTS.len())];
        let (path, follow) = (random.path(), random.below(2) == 0);
        json!({ "act": act, "at": "/rw", "path": path, "follow": follow, "time": [7, 7] })
    };
    (0..count).map(|_| case()).collect()
}

fn plant(world: &World) {
    use std::os::unix::fs::symlink;
    let rw = world.writable("rw");
    for (name, target) in [
        ("up", "../neighbour"),
        ("loop", "loop"),
        ("in", "dir/deep"),
        ("wide", "../../outside"),
        ("dir/up", "../.."),
        ("dir/deep/up", "../../../secret"),
    ] {
        symlink(target, rw.join(name)).unwrap();
    }
    symlink(&world.root, rw.join("abs")).unwrap();
    symlink(world.root.join("outside"), rw.join("dir/abs")).unwrap();
}

/// From `PALISADE_HOSTILE_SEED`, if it is set: whoever has an hour tries others.
fn seed() -> u64 {
    report::number("PALISADE_HOSTILE_SEED", 0x5eed)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_random_path_leads_out() {
    for setting in WALLED {
        let mut world = World::new(setting).await;
        plant(&world);
        let mut rows = vec![control("a file inside")];
        let cases = cases(seed(), 1_200);
        let named = |(number, case)| Row::either(format!("path {number} of seed {}", seed()), case);
        rows.extend(cases.into_iter().enumerate().map(named));
        hold(&mut world, "FS-PATHS", rows).await;
        world.must_be_clean();
    }
}

/// wasmtime's own resolver and the kernel's must agree: where they do not, one of them may be wrong.
#[tokio::test(flavor = "multi_thread")]
async fn the_resolvers_agree_about_every_path() {
    let cases = cases(seed() + 1, 800);
    let mut answers = Vec::new();
    for setting in GUESTS {
        let mut world = World::new(setting).await;
        plant(&world);
        let request = world.request(json!([{ "file-cases": cases }]));
        let said = said(&world.run(request).await.outcomes()[0]);
        // Of an error the fact: words differ between resolvers, and so may sizes of directories.
        let fact = |said: String| {
            if said.starts_with("error") || said.contains("irectory") { said[..2].to_owned() } else { said }
        };
        answers.push(said.into_iter().map(fact).collect::<Vec<_>>());
        world.must_be_clean();
    }
    for (number, case) in cases.iter().enumerate() {
        let [both, wasm, own] = [0, 1, 2].map(|setting| &answers[setting][number]);
        assert!(both == wasm && wasm == own, "{case}: {both:?}, {wasm:?}, {own:?}");
    }
}
