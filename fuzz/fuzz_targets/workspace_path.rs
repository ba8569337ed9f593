//! A path in a workspace that a guest has filled with links: whatever a caller asks for, it gets a file of the workspace
//! or a refusal, and never what is outside.
#![no_main]

use std::{fs, io::Read as _, os::unix::fs::symlink, sync::LazyLock};

use cap_std::{ambient_authority, fs::Dir};
use libfuzzer_sys::{Corpus, fuzz_target};
use palisade::store::workspace_files::{list, open};
use tempfile::TempDir;

const INSIDE: &str = "inside";
const NAMES: [&str; 4] = ["file", "dir", "dir/file", "dir/dir"];

/// A workspace, beside a file and a folder that are not part of it.
static WORLD: LazyLock<(TempDir, Dir)> = LazyLock::new(|| {
    let world = tempfile::tempdir().expect("a temporary directory");
    let root = world.path().join("workspace");
    let make = || -> std::io::Result<Dir> {
        fs::create_dir_all(root.join("dir/dir"))?;
        fs::write(world.path().join("secret"), "canary")?;
        for file in ["file", "dir/file"] {
            fs::write(root.join(file), INSIDE)?;
        }
        let links = [
            ("up", ".."),
            ("secret", "../secret"),
            ("root", "/"),
            ("own", "file"),
            ("dir/up", "../.."),
            ("loop", "loop"),
        ];
        for (link, target) in links {
            symlink(target, root.join(link))?;
        }
        symlink(world.path(), root.join("dir/absolute"))?;
        Dir::open_ambient_dir(&root, ambient_authority())
    };
    let dir = make().expect("a workspace");
    (world, dir)
});

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(path) = str::from_utf8(data) else { return Corpus::Reject };
    if let Ok(mut file) = open(&WORLD.1, path) {
        let mut text = String::new();
        file.read_to_string(&mut text).expect("it is text");
        assert_eq!(text, INSIDE, "`{path}` leads out");
    }
    let listed = list(&WORLD.1, path, &mut |entry| {
        let known = NAMES.contains(&entry.path.as_str())
            || entry.kind == palisade::store::workspace_files::FileKind::SymbolicLink;
        assert!(known, "`{path}` shows `{}`", entry.path);
        true
    });
    if listed.is_ok() { Corpus::Keep } else { Corpus::Reject }
});
