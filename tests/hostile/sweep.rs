//! Searches everything for a secret, in the forms in which secrets are found.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};
use memchr::memmem;

/// Where to look.
pub enum Place {
    File(PathBuf),
    Buffer(String, Vec<u8>),
    /// Everything that is mapped into a process.
    Memory(i32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub place: String,
    pub offset: u64,
    pub encoding: &'static str,
    /// The secret, cut short.
    pub secret: String,
}

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Swept {
    pub hits: Vec<Hit>,
    /// Processes that do not let themselves be read: what a worker should be.
    pub unreadable: Vec<String>,
    /// How much was read. A sweep of nothing finds nothing.
    pub bytes: u64,
    pub places: usize,
}

/// So much is read at once.
const BLOCK: usize = 4 << 20;

/// Searches all places for all secrets.
pub fn sweep(secrets: &[impl AsRef<[u8]>], places: impl IntoIterator<Item = Place>) -> Swept {
    let needles: Vec<_> = secrets.iter().flat_map(|secret| needles(secret.as_ref())).collect();
    let mut swept = Swept::default();
    for place in places {
        swept.places += 1;
        match place {
            Place::Buffer(name, bytes) => swept.search(&needles, &name, 0, &bytes),
            Place::File(path) => match File::open(&path) {
                Ok(file) => swept.read(&needles, &path.display().to_string(), file, 0, u64::MAX),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if path.starts_with("/proc") => {
                    swept.unreadable.push(format!("{}: {error}", path.display()));
                }
                Err(error) => panic!("{} cannot be swept: {error}", path.display()),
            },
            Place::Memory(pid) => swept.memory(&needles, pid),
        }
    }
    swept.hits.dedup();
    swept
}

struct Needle {
    encoding: &'static str,
    secret: String,
    bytes: Vec<u8>,
}

/// Returns a secret's forms: as it is, percent, base64 and base64url at each of three alignments, hexadecimal,
/// escaped as JSON, UTF-16LE, and backwards.
fn needles(bytes: &[u8]) -> Vec<Needle> {
    let secret = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
    assert!(bytes.len() >= 12, "too short to be found by chance: {secret}");
    let each = |form: fn(&u8) -> String| bytes.iter().map(form).collect::<String>().into_bytes();
    let reserved = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        other => format!("%{other:02X}"),
    };
    let mut forms = vec![
        ("raw", bytes.to_vec()),
        ("percent", each(reserved)),
        ("percent", each(|byte| format!("%{byte:02X}"))),
        ("percent", each(|byte| format!("%{byte:02x}"))),
        ("hex", each(|byte| format!("{byte:02x}"))),
        ("hex", each(|byte| format!("{byte:02X}"))),
        ("json", each(|byte| format!("\\u{byte:04x}"))),
        ("json", each(|byte| format!("\\u{byte:04X}"))),
        ("utf-16", bytes.iter().flat_map(|byte| [*byte, 0]).collect()),
        ("reversed", bytes.iter().rev().copied().collect()),
    ];
    for before in 0..3 {
        let shifted = [&[0; 2][..before], bytes].concat();
        // Characters that also depend on what stands before or behind it are left out.
        let (from, until) = ([0, 2, 3][before], shifted.len() / 3 * 4);
        forms.push(("base64", BASE64_STANDARD.encode(&shifted)[from..until].into()));
        forms.push(("base64url", BASE64_URL_SAFE.encode(&shifted)[from..until].into()));
    }
    // Some are alike: each is looked for once.
    forms.sort_by(|a, b| a.1.cmp(&b.1));
    forms.dedup_by(|a, b| a.1 == b.1);
    forms.into_iter().map(|(encoding, bytes)| Needle { encoding, secret: secret.to_string(), bytes }).collect()
}

impl Swept {
    pub fn add(&mut self, other: Self) {
        self.hits.extend(other.hits);
        self.unreadable.extend(other.unreadable);
        self.bytes += other.bytes;
        self.places += other.places;
    }

    fn search(&mut self, needles: &[Needle], place: &str, offset: u64, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for needle in needles {
            for at in memmem::find_iter(bytes, &needle.bytes) {
                self.hits.push(Hit {
                    place: place.into(),
                    offset: offset + at as u64,
                    encoding: needle.encoding,
                    secret: needle.secret.clone(),
                });
            }
        }
    }

    /// Searches from one offset to another in blocks that overlap.
    fn read(&mut self, needles: &[Needle], place: &str, mut file: File, from: u64, until: u64) {
        let overlap = needles.iter().map(|needle| needle.bytes.len()).max().unwrap_or(0);
        let mut block = Vec::new();
        let mut at = from;
        if file.seek(SeekFrom::Start(from)).is_err() {
            return;
        }
        loop {
            let kept = block.len();
            let wanted = (BLOCK as u64).min(until.saturating_sub(at + kept as u64));
            // A region that went away in the meantime has nothing to find.
            if wanted == 0 || (&mut file).take(wanted).read_to_end(&mut block).is_err() || block.len() == kept {
                break;
            }
            self.search(needles, place, at, &block);
            let next = block.len().saturating_sub(overlap);
            at += next as u64;
            block.drain(..next);
        }
    }

    fn memory(&mut self, needles: &[Needle], pid: i32) {
        let open = || Ok((fs::read_to_string(format!("/proc/{pid}/smaps"))?, File::open(format!("/proc/{pid}/mem"))?));
        let (maps, mem) = match open() {
            Ok(opened) => opened,
            Err(error) => {
                let error: std::io::Error = error;
                return self.unreadable.push(format!("process {pid}: {error}"));
            }
        };
        let pages = File::open(format!("/proc/{pid}/pagemap"));
        for (from, until, name) in regions(&maps) {
            let present = pages.as_ref().ok().and_then(|pages| present(pages, from, until));
            // Without that, all of it is read, also what was never written.
            for (from, until) in present.unwrap_or_else(|| vec![(from, until)]) {
                let Ok(mem) = mem.try_clone() else { return };
                self.read(needles, &format!("process {pid}, {from:x}-{until:x} {name}"), mem, from, until);
            }
        }
    }
}

const PAGE: u64 = 4096;

/// Returns the parts of a region that have pages, in memory or in swap: a sandbox's memory is reserved, and mostly empty.
fn present(mut pages: &File, from: u64, until: u64) -> Option<Vec<(u64, u64)>> {
    let mut entries = vec![0; usize::try_from((until - from) / PAGE * 8).ok()?];
    pages.seek(SeekFrom::Start(from / PAGE * 8)).ok()?;
    pages.read_exact(&mut entries).ok()?;
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for (at, entry) in (from..).step_by(PAGE as usize).zip(entries.as_chunks::<8>().0) {
        match parts.last_mut() {
            _ if u64::from_ne_bytes(*entry) >> 62 == 0 => {}
            Some(last) if last.1 == at => last.1 += PAGE,
            _ => parts.push((at, at + PAGE)),
        }
    }
    Some(parts)
}

/// Returns the regions of a process's maps that can be read and have anything in them that is not in a file.
fn regions(smaps: &str) -> Vec<(u64, u64, String)> {
    let (mut regions, mut region) = (Vec::new(), None);
    for line in smaps.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let range = words.first().and_then(|range| range.split_once('-'));
        let range = range.and_then(|(from, until)| {
            Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(until, 16).ok()?))
        });
        if let Some((from, until)) = range {
            let readable = words[1].starts_with('r') && !line.ends_with("[vvar]") && !line.ends_with("[vsyscall]");
            region = readable.then(|| (from, until, words[5..].join(" ")));
        } else if line.starts_with("Anonymous:") && words[1] != "0" {
            regions.extend(region.take());
        }
    }
    regions
}
