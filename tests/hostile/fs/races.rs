//! Names that change while they are resolved.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use serde_json::json;

use super::world::World;
use crate::hostile::{report, settings::WALLED};

/// Attempts of each race. The default takes a few seconds in all; `PALISADE_HOSTILE_ATTEMPTS=1000000` a minute or more
/// in each setting.
fn attempts() -> u64 {
    report::number("PALISADE_HOSTILE_ATTEMPTS", 6_000)
}

/// Paths that one guest opens while the others change what they mean.
const PATHS: [&str; 6] =
    ["race/d/secret", "race/d/", "race/d/dir/secret", "race/d/../d/secret", "race/d/made", "race/d"];

#[tokio::test(flavor = "multi_thread")]
async fn no_name_that_changes_meanwhile_leads_out() {
    for setting in WALLED {
        let mut world = World::new(setting).await;
        world.plant("race", |at| {
            fs::create_dir_all(at.join("d/dir")).unwrap();
            fs::write(at.join("d/secret"), "harmless").unwrap();
            fs::write(at.join("d/dir/secret"), "harmless").unwrap();
            symlink("../../../outside", at.join("l")).unwrap();
        });
        let began = Instant::now();
        let outcomes = race(&mut world).await;
        let tried: u64 = outcomes.values().sum();
        assert!(tried >= attempts(), "{tried} of {} attempts: {outcomes:?}", attempts());
        // Both meanings were met, or it was no race.
        let won = outcomes.iter().filter(|(said, _)| said.contains("harmless")).map(|(_, times)| times).sum::<u64>();
        assert!(won > 0, "{setting:?}: never won: {outcomes:?}");
        assert!(outcomes.keys().any(|said| said.starts_with("error")), "{setting:?}: never lost: {outcomes:?}");
        let told: String = outcomes.keys().cloned().collect();
        assert_eq!(world.secret_in(&told), None, "{setting:?}: {outcomes:?}");
        report::held_in(setting.name(), "FS-07", tried as usize, tried as usize, began.elapsed());
        world.must_be_clean();
    }
}

/// Two steps swap a directory for a link that leads out and back, one opens what is below it, and the host renames
/// elsewhere all the time: the kernel then gives up on `openat2` and wasmtime resolves by itself.
async fn race(world: &mut World) -> BTreeMap<String, u64> {
    let storm = Storm::start();
    let rename = |from: &str, to: &str| json!({ "act": "rename", "at": "/rw", "path": from, "to": ["/rw", to] });
    let swap = json!([
        rename("race/d", "race/parked"),
        rename("race/l", "race/d"),
        rename("race/d", "race/l"),
        rename("race/parked", "race/d")
    ]);
    let opens = PATHS.map(|path| {
        let act = if path.ends_with("made") { "create" } else { "open-read" };
        json!({ "act": act, "at": "/rw", "path": path, "follow": true })
    });
    let turns = attempts() / opens.len() as u64 + 1;
    let act = |cases, times| json!([{ "file-race": { "cases": cases, "times": times } }]);
    let (swapping, opening) = (world.request(act(swap, turns)), world.request(act(json!(opens), turns)));
    let (a, b) = tokio::join!(world.daemon.run(swapping), world.daemon.run(opening));
    let renames = storm.stop();
    println!("{renames} renames of the host's meanwhile");
    let (a, b) = (a.unwrap(), b.unwrap());
    world.heard(&a);
    world.heard(&b);
    let said = b.outcomes();
    serde_json::from_str(said[0].strip_prefix("ok: ").unwrap()).unwrap()
}

/// A thread of the host's that renames something, over and over.
struct Storm {
    over: Arc<AtomicBool>,
    renames: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Storm {
    fn start() -> Self {
        let (over, renames) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (over.clone(), renames.clone());
        let dir = tempfile::tempdir().unwrap();
        let thread = std::thread::spawn(move || {
            let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
            fs::create_dir(&a).unwrap();
            while !until.load(Ordering::Relaxed) {
                fs::rename(&a, &b).unwrap();
                fs::rename(&b, &a).unwrap();
                count.fetch_add(2, Ordering::Relaxed);
            }
        });
        Self { over, renames, thread }
    }

    fn stop(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.renames.load(Ordering::Relaxed)
    }
}
