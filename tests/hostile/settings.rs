//! The settings in which walls are attacked: each wall must hold when the other one is away.
//!
//! A setting is a program in place of `palisade` (`tests/hostile/programs`): the same daemon, other workers. To attack in
//! one: `Setting::WasmWall.daemon(extra).await` starts a daemon with `extra` in its configuration. In the settings with
//! an evil worker, `programs/evil.rs` answers the probe's input.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::harness::{Daemon, data_dir, palisade, palisade_at, root};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// The product as it is shipped.
    BothWalls,
    /// Guests in workers without a jail.
    WasmWall,
    /// The same on a kernel without `openat2`: paths are resolved by wasmtime itself.
    WasmWallOwnResolver,
    /// Native code in the jail, in place of guests.
    OsWall,
    /// Native code without a jail: everything that an oracle looks for must be found here.
    NoWall,
    /// A worker that breaks the rules of the conversation, once it was given a step.
    Frames,
    /// One that begins with something other than that it is ready: with bytes that are no frame, …
    FramesGarbage,
    /// … by ending, …
    FramesNothing,
    /// … with an event, …
    FramesEvent,
    /// … with 5 MB,
    FramesHuge,
    /// … without a word on its walls.
    FramesNoWalls,
}

/// The settings in which every attack must fail.
pub const WALLED: [Setting; 4] = [Setting::BothWalls, Setting::WasmWall, Setting::WasmWallOwnResolver, Setting::OsWall];

impl Setting {
    pub fn name(self) -> &'static str {
        match self {
            Self::BothWalls => "both-walls",
            Self::WasmWall => "wasm-wall",
            Self::WasmWallOwnResolver => "wasm-wall-own-resolver",
            Self::OsWall => "os-wall",
            Self::NoWall => "no-wall",
            Self::Frames => "frames",
            Self::FramesGarbage => "frames-garbage",
            Self::FramesNothing => "frames-nothing",
            Self::FramesEvent => "frames-event",
            Self::FramesHuge => "frames-huge",
            Self::FramesNoWalls => "frames-no-walls",
        }
    }

    /// Says whether guests run: else it is native code that does what they are told.
    pub fn has_guests(self) -> bool {
        !matches!(self, Self::OsWall | Self::NoWall)
    }

    /// Returns the program to run in place of `palisade`.
    pub fn palisade(self) -> Command {
        if self == Self::BothWalls { palisade() } else { palisade_at(&link(self.name())) }
    }

    /// Starts a daemon whose configuration has `extra` at its end.
    pub async fn daemon(self, extra: &str) -> Daemon {
        Daemon::launch(data_dir(), extra, self.palisade()).await
    }
}

/// Returns a link to the programs that tells them by its name which one to be.
fn link(name: &str) -> PathBuf {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(build);
    let link = programs.with_file_name(name);
    let same = |link: &Path| fs::metadata(link).is_ok_and(|it| it.ino() == fs::metadata(programs).unwrap().ino());
    if !same(&link) {
        let new = tempfile::tempdir_in(programs.parent().unwrap()).unwrap();
        fs::hard_link(programs, new.path().join(name)).unwrap();
        fs::rename(new.path().join(name), &link).unwrap();
    }
    link
}

fn build() -> PathBuf {
    let profile: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "-p", "palisade", "--example", "hostile-programs"])
        .args(profile)
        .current_dir(root())
        .status()
        .unwrap();
    assert!(built.success(), "the hostile programs do not build");
    Path::new(env!("CARGO_BIN_EXE_palisade")).with_file_name("examples").join("hostile-programs")
}

/// The settings of [`WALLED`] in which guests run.
pub const GUESTS: [Setting; 3] = [Setting::BothWalls, Setting::WasmWall, Setting::WasmWallOwnResolver];

#[tokio::test]
async fn a_setting_takes_away_what_it_says() {
    use serde_json::json;
    let outside = tempfile::tempdir().unwrap();
    let (mount, secret) = (outside.path().join("mount"), outside.path().join("secret"));
    fs::create_dir(&mount).unwrap();
    fs::write(&secret, "canary-of-settings").unwrap();
    fs::write(mount.join("inside"), "to be read").unwrap();
    let extra = format!("[[mount]]\nname = \"m\"\npath = {mount:?}\nwritable = {{ bytes = 1000, entries = 10 }}\n");
    for setting in [&WALLED[..], &[Setting::NoWall]].concat() {
        let daemon = setting.daemon(&extra).await;
        let workers = daemon.children();
        let status = fs::read_to_string(format!("/proc/{}/status", workers[0])).unwrap();
        let filtered = status.contains("Seccomp:\t2");
        assert_eq!(filtered, !matches!(setting, Setting::WasmWall | Setting::NoWall), "{setting:?}: {status}");
        let case = |path: &str| json!({ "act": "open-read", "at": "/m", "path": path });
        let cases = json!([{ "file-cases": [case("inside"), case("../secret"), case("../mount/inside")] }]);
        let mounts = vec![palisade_proto::v1::MountUse { mount: "m".into(), path: "/m".into(), read_only: false }];
        let request = palisade_proto::v1::RunStepRequest { mounts, ..crate::harness::probe(cases) };
        let said = daemon.run(request).await.unwrap().outcomes();
        assert!(said[0].contains("to be read"), "{setting:?}: {said:?}");
        assert_eq!(said[0].contains("canary-of-settings"), setting == Setting::NoWall, "{setting:?}: {said:?}");
    }
}
