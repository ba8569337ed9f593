//! A daemon in a setting, mounts, and what lies around them.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::SystemTime,
};

use memchr::memmem;
use palisade_proto::v1::{self, MountUse};
use serde_json::Value;
use tempfile::TempDir;

use super::tree::{Tree, difference, open_up, tree};
use crate::{
    harness::{Daemon, Ran, limited, palisade, probe},
    hostile::{
        settings::Setting,
        sweep::{Place, Swept, sweep},
    },
};

/// ```text
/// <root>/secret, <root>/outside/…                    what nobody may reach
///        mounts/secret, mounts/neighbour/secret      beside the mounts
///        mounts/ro                                   /ro, read-only
///        mounts/rw, mounts/other                     /rw and /other, writable
/// <data>/tenants/other/workspaces/kept/secret        in a workspace of another tenant
///        tenants/default/workspaces/kept/secret      in one of the same tenant; native code shares its worker with that
/// ```
pub struct World {
    pub setting: Setting,
    pub daemon: Daemon,
    pub root: PathBuf,
    /// What is in the secret files, each with the name of its place.
    secrets: Vec<String>,
    /// Workspaces of others.
    kept: Vec<PathBuf>,
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
        let mut secret = |within: &Path, place: &str| {
            let path = within.join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            secrets.push(format!("canary-{}-{}", place.replace('/', "-"), random()));
            fs::write(path, secrets.last().unwrap()).unwrap();
        };
        let around = ["secret", "outside/secret", "outside/dir/secret", "outside/dir/deep/secret"];
        let beside = ["mounts/secret", "mounts/neighbour/secret"];
        around.into_iter().chain(beside).for_each(|place| secret(&root, place));
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
        let tenants = daemon.dir.path().join("data/tenants");
        let of_tenants: &[&str] = if setting.has_guests() { &["other", "default"] } else { &["other"] };
        let kept: Vec<_> = of_tenants.iter().map(|tenant| tenants.join(tenant).join("workspaces/kept")).collect();
        for kept in &kept {
            secret(kept, "secret");
            open_up(kept);
            for folder in kept.ancestors().skip(1).take_while(|folder| folder.starts_with(daemon.dir.path())) {
                fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
            }
        }
        let (before, told) = (Tree::new(), Vec::new());
        let mut world = Self { setting, daemon, root, secrets, kept, before, told, began, _home: home };
        world.settle();
        world
    }

    /// Takes the outside as it is now for what it must stay.
    pub fn settle(&mut self) {
        self.before = self.outside();
    }

    fn outside(&self) -> Tree {
        let mut outside = tree(&self.root, &[self.writable("rw"), self.writable("other")]);
        outside.extend(self.kept.iter().flat_map(|kept| tree(kept, &[])));
        outside
    }

    /// Returns the workspaces of others, on the host.
    pub fn kept(&self) -> &[PathBuf] {
        &self.kept
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

    /// Searches for secrets in all that the daemon wrote, its log, its metadata and its journal, that also as it is
    /// exported, and in the memory of its workers.
    pub fn swept(&self) -> Swept {
        let new = |path: &PathBuf| fs::metadata(path).is_ok_and(|data| data.modified().unwrap() >= self.began);
        let ours = |path: &PathBuf| !self.kept.iter().any(|kept| path.starts_with(kept));
        let written = files(self.daemon.dir.path()).into_iter().filter(new).filter(ours).map(Place::File);
        let told = Place::Buffer("what was told".into(), self.told.clone());
        let export = palisade().args(["audit", "export", "--endpoint", &self.daemon.endpoint()]).output().unwrap();
        assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
        let export = Place::Buffer("the journal, exported".into(), export.stdout);
        let memory = self.daemon.children().into_iter().map(Place::Memory);
        sweep(&self.secrets, written.chain([told, export]).chain(memory))
    }

    /// Nothing has come out, and nothing is as it must not be.
    pub fn must_be_clean(&self) {
        let swept = self.swept();
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
