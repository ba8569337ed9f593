//! Lists a directory tree, and reads its files.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs::{self, DirEntry},
    io::{self, Read as _},
    path::Path,
};

use serde::Serialize;

use crate::sample::Sample;

/// A larger text is data rather than source, and it would have to be held in memory.
pub const SCANNED_MAX_BYTES: u64 = 4 << 20;

/// A NUL in so many first bytes makes a file binary; git decides in the same way.
const HEAD_BYTES: u64 = 8 << 10;

/// Directories that tools fill: what is in them was not written here.
const SKIPPED_DIRECTORIES: [&str; 4] = [".git", "target", "node_modules", "__pycache__"];

/// What is below the root, in a stable order.
#[derive(Default)]
pub struct Tree {
    pub files: Vec<File>,
    /// How many entries were left out, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    pub unreadable: Sample<Unreadable>,
}

/// A regular file.
#[derive(Clone, Serialize)]
pub struct File {
    /// Relative to the root.
    pub path: String,
    pub bytes: u64,
}

/// Something that could not be looked at, and why.
#[derive(Serialize)]
pub struct Unreadable {
    pub path: String,
    pub reason: String,
}

/// What a file holds.
pub enum Content {
    Text(String),
    Binary,
    /// Text beyond [`SCANNED_MAX_BYTES`].
    TooLarge,
}

/// Lists the tree. Only the root must be readable; anything else that cannot be read is noted, and passed by.
pub fn list(root: &Path) -> io::Result<Tree> {
    let mut tree = Tree::default();
    let mut pending = tree.visit(root, "")?;
    while let Some(directory) = pending.pop() {
        match tree.visit(root, &directory) {
            Ok(below) => pending.extend(below),
            Err(error) => tree.unreadable.add(Unreadable { path: directory, reason: error.to_string() }),
        }
    }
    Ok(tree)
}

/// Returns the `count` largest files, largest first.
pub fn largest(files: &[File], count: usize) -> Vec<File> {
    let mut by_size: Vec<&File> = files.iter().collect();
    by_size.sort_by_key(|file| Reverse(file.bytes));
    by_size.into_iter().take(count).cloned().collect()
}

/// Reads a file that was listed with so many bytes. It may have grown since: no more than the maximum is read.
pub fn read(path: &Path, bytes: u64) -> io::Result<Content> {
    let mut file = fs::File::open(path)?;
    let mut content = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut content)?;
    if content.contains(&0) {
        return Ok(Content::Binary);
    }
    if bytes > SCANNED_MAX_BYTES {
        return Ok(Content::TooLarge);
    }
    file.take(SCANNED_MAX_BYTES - HEAD_BYTES).read_to_end(&mut content)?;
    // Latin-1 and other old encodings still have lines, licences and markers.
    let text = String::from_utf8(content).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    Ok(Content::Text(text))
}

impl Tree {
    /// Notes what is in a directory. Returns the directories to visit next, the first one last.
    fn visit(&mut self, root: &Path, directory: &str) -> io::Result<Vec<String>> {
        let mut entries = fs::read_dir(root.join(directory))?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_cached_key(DirEntry::file_name);
        let mut below = Vec::new();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let skipped = SKIPPED_DIRECTORIES.into_iter().find(|skipped| *skipped == name);
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            // This metadata is the entry's own: a symbolic link is not followed, as it may lead out of the root.
            match (entry.metadata(), skipped) {
                (Err(error), _) => self.unreadable.add(Unreadable { path, reason: error.to_string() }),
                (Ok(metadata), Some(name)) if metadata.is_dir() => self.skip(name),
                (Ok(metadata), None) if metadata.is_dir() => below.push(path),
                (Ok(metadata), _) if metadata.is_file() => self.note(File { path, bytes: metadata.len() }),
                (Ok(metadata), _) if metadata.is_symlink() => self.skip("symbolic link"),
                _ => self.skip("special file"),
            }
        }
        below.reverse();
        Ok(below)
    }

    fn note(&mut self, file: File) {
        if file.bytes > SCANNED_MAX_BYTES {
            self.skip("too large to scan");
        }
        self.files.push(file);
    }

    fn skip(&mut self, reason: &'static str) {
        *self.skipped.entry(reason).or_default() += 1;
    }
}

impl File {
    /// Returns the last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}
