//! A daemon in a setting, mounts, and what lies around them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::SystemTime,
};

use memchr::memmem;
use palisade_proto::v1::{self, MountUse};
use serde_json::Value;
use tempfile::TempDir;

use super::tree::{Tree, difference, open_up, tree};
use crate::{
    harness::{Daemon, Ran, limited, probe},
    hostile::{
        settings::Setting,
        sweep::{Place, sweep},
    },
};

/// ```text
/// <root>/secret, <root>/outside/…                    what nobody may reach
///        mounts/secret, mounts/neighbour/secret      beside the mounts
///        mounts/ro                                   /ro, read-only
///        mounts/rw, mounts/other                     /rw and /other, writable
/// ```
pub struct World {
    pub setting: Setting,
    pub daemon: Daemon,
    pub root: PathBuf,
    /// What is in the secret files, each with the name of its place.
    secrets: Vec<String>,
    before: Tree,
    told: Vec<u8>,
    began: SystemTime,
    _home: TempDir,
}

/// Bytes and entries that a step may add to each writable mount.
const ROOM: (u64, u64) = (1 << 30, 1_000_000);

impl World {
    pub async fn new(setting: Setting) -> Self {
        Self::with_room(setting, ROOM).await
    }

    pub async fn with_room(setting: Setting, (bytes, entries): (u64, u64)) -> Self {
        let (home, began) = (tempfile::tempdir().unwrap(), SystemTime::now());
        let root = fs::canonicalize(home.path()).unwrap();
        let mut secrets = Vec::new();
        let mut secret = |place: &str| {
            let path = root.join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            secrets.push(format!("canary-{}-{}", place.replace('/', "-"), random()));
            fs::write(path, secrets.last().unwrap()).unwrap();
        };
        let around = ["secret", "outside/secret", "outside/dir/secret", "outside/dir/deep/secret"];
        around.into_iter().chain(["mounts/secret", "mounts/neighbour/secret"]).for_each(&mut secret);
        fs::create_dir(root.join("outside/empty")).unwrap();
        symlink("dir/secret", root.join("outside/link")).unwrap();
        for mount in ["ro", "rw", "other"] {
            let mount = root.join("mounts").join(mount);
            fs::create_dir_all(mount.join("dir/deep")).unwrap();
            fs::write(mount.join("file"), "inside").unwrap();
            fs::write(mount.join("dir/file"), "inside").unwrap();
            symlink("file", mount.join("link")).unwrap();
        }
        open_up(&root);
        let config: String = [("ro", false), ("rw", true), ("other", true)]
            .map(|(name, writable)| {
                let path = root.join("mounts").join(name);
                let room = format!("writable = {{ bytes = {bytes}, entries = {entries} }}\n");
                format!("[[mount]]\nname = \"{name}\"\npath = {path:?}\n{}", if writable { &room } else { "" })
            })
            .concat();
        let daemon = setting.daemon(&config).await;
        let mut world =
            Self { setting, daemon, root, secrets, before: Tree::new(), told: Vec::new(), began, _home: home };
        world.settle();
        world
    }

    /// Takes the outside as it is now for what it must stay.
    pub fn settle(&mut self) {
        self.before = self.outside();
    }

    fn outside(&self) -> Tree {
        tree(&self.root, &[self.writable("rw"), self.writable("other")])
    }

    /// Returns the directory on the host of a mount.
    pub fn writable(&self, name: &str) -> PathBuf {
        self.root.join("mounts").join(name)
    }

    /// Makes a directory below the writable mount, with what `plant` puts there.
    pub fn plant(&self, name: &str, plant: impl FnOnce(&Path)) {
        let path = self.writable("rw").join(name);
        fs::create_dir(&path).unwrap();
        plant(&path);
        open_up(&path);
    }

    /// Returns a request with all mounts and a workspace.
    pub fn request(&self, acts: Value) -> v1::RunStepRequest {
        let used = |mount: &str| MountUse { mount: mount.into(), path: format!("/{mount}"), read_only: false };
        let limits = v1::StepLimits { output_bytes: Some(3 << 20), ..Default::default() };
        v1::RunStepRequest { mounts: vec![used("ro"), used("rw"), used("other")], ..limited(probe(acts), limits) }
    }

    /// Runs a step and keeps all that it said.
    pub async fn run(&mut self, request: v1::RunStepRequest) -> Ran {
        let ran = self.daemon.run(request).await.unwrap();
        self.heard(&ran);
        ran
    }

    pub fn heard(&mut self, ran: &Ran) {
        self.told.extend(format!("{:?} {:?}", ran.events, ran.result.failure).as_bytes());
        self.told.extend(&ran.result.output[..]);
    }

    /// Returns the secret that is in a text, if there is one.
    pub fn secret_in(&self, text: &str) -> Option<&String> {
        self.secrets.iter().find(|secret| text.contains(*secret))
    }

    /// Says what is not as it must be, whatever the guest was told.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = difference(&self.before, &self.outside());
        let log = self.daemon.log();
        let lost = ["its process died", "it broke the rules", "it did not end a step in time"];
        wrong.extend(lost.iter().filter(|why| log.contains(*why)).map(|why| format!("a worker was lost: {why}")));
        let writable = ["rw", "other"].map(|mount| files(&self.writable(mount))).concat();
        let shortest = self.secrets.iter().map(|secret| secret.len() as u64).min().unwrap();
        for path in writable.into_iter().filter(|path| fs::metadata(path).unwrap().len() >= shortest) {
            // No wall may be in the way of the one who looks.
            let bytes = fs::read(&path).unwrap();
            if self.secrets.iter().any(|secret| memmem::find(&bytes, secret.as_bytes()).is_some()) {
                wrong.push(format!("a secret is found in {}", path.display()));
            }
        }
        // Where something lies on the host is no guest's business.
        let told = String::from_utf8_lossy(&self.told);
        wrong.extend(self.secret_in(&told).map(|secret| format!("a secret is found in what was told: {secret}")));
        if self.setting.has_guests() && told.contains(self.daemon.dir.path().to_str().unwrap()) {
            wrong.push("a guest was told where the daemon's directory is".into());
        }
        wrong
    }

    /// Searches for secrets in all that the daemon wrote: its log, its journal, its metadata.
    pub fn must_be_clean(&self) {
        let new = |path: &PathBuf| fs::metadata(path).is_ok_and(|data| data.modified().unwrap() >= self.began);
        let written = files(self.daemon.dir.path()).into_iter().filter(new);
        let told = Place::Buffer("what was told".into(), self.told.clone());
        let swept = sweep(&self.secrets, written.map(Place::File).chain([told]));
        assert!(swept.bytes > 10_000 && swept.hits.is_empty(), "{:?}: {:#?}", self.setting, swept.hits);
        let wrong = self.wrong();
        assert!(wrong.is_empty(), "{:?}: {}", self.setting, wrong.join("\n"));
    }
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    found
}

/// Returns a word that nobody can guess.
pub fn random() -> String {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
