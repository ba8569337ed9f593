//! What a tree is, so that a change of anything in it is seen.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use palisade::step::Digest;

/// Each path and all that is to be known about it, but when it was read.
pub type Tree = BTreeMap<PathBuf, String>;

/// Returns all below `path` and `path` itself, without `but` and what is below it.
pub fn tree(path: &Path, but: &[PathBuf]) -> Tree {
    let mut tree = Tree::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        if but.contains(&path) {
            continue;
        }
        let data = fs::symlink_metadata(&path).unwrap();
        let content = match data.file_type() {
            kind if kind.is_dir() => {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            }
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
            kind if kind.is_file() => Digest::of(&fs::read(&path).unwrap()).to_string(),
            kind => format!("fifo {} socket {}", kind.is_fifo(), kind.is_socket()),
        };
        let (modified, changed) = ((data.mtime(), data.mtime_nsec()), (data.ctime(), data.ctime_nsec()));
        let (inode, mode, links, size) = (data.ino(), data.mode(), data.nlink(), data.len());
        tree.insert(path, format!("{inode} {modified:?} {changed:?} {mode:o} {links} {size} {content}"));
    }
    tree
}

/// Returns what differs, in words.
pub fn difference(before: &Tree, after: &Tree) -> Vec<String> {
    let gone =
        before.keys().filter(|path| !after.contains_key(*path)).map(|path| format!("{} is gone", path.display()));
    let other = after.iter().filter_map(|(path, now)| match before.get(path) {
        None => Some(format!("{} is new", path.display())),
        Some(was) if was != now => Some(format!("{} was {was} and is {now}", path.display())),
        Some(_) => None,
    });
    gone.chain(other).collect()
}

/// Lets everybody do everything below `path`: then no file's mode stands in for a wall.
pub fn open_up(path: &Path) {
    let data = fs::symlink_metadata(path).unwrap();
    if data.is_symlink() {
        return;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(if data.is_dir() { 0o777 } else { 0o666 })).unwrap();
    if data.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| open_up(&entry.unwrap().path()));
    }
}

#[test]
fn a_tree_sees_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let (path, file) = (dir.path(), dir.path().join("dir/file"));
    fs::create_dir(path.join("dir")).unwrap();
    fs::write(&file, "one").unwrap();
    let changes: [(&str, &dyn Fn()); 6] = [
        ("content", &|| fs::write(&file, "two").unwrap()),
        ("mode", &|| fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap()),
        ("time", &|| fs::File::open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap()),
        ("link", &|| fs::hard_link(&file, path.join("link")).unwrap()),
        ("symlink", &|| std::os::unix::fs::symlink("dir", path.join("symlink")).unwrap()),
        ("name", &|| fs::rename(&file, path.join("dir/other")).unwrap()),
    ];
    for (what, change) in changes {
        let before = tree(path, &[]);
        assert_eq!(difference(&before, &tree(path, &[])), [""; 0], "{what}");
        change();
        assert_ne!(difference(&before, &tree(path, &[])), [""; 0], "{what}");
    }
    assert_eq!(tree(path, &[path.join("dir")]).len(), 3);
}
