//! A value in a file.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use rustix::fs::{Mode, OFlags};
use tokio::sync::Mutex;

use super::{Read, Unreadable, VALUE_BYTES_MAX, keep, value_of};
use crate::credentials::secret::Secret;

/// How long a file system may take to answer.
const READ_TIME_MAX: Duration = Duration::from_secs(5);

/// A file that changed this short ago may change again without a new time stamp.
const SETTLED: Duration = Duration::from_secs(2);

/// A file that is read again when it changes. Whoever rotates it should rename a new file over it.
pub struct File {
    path: PathBuf,
    /// In a directory that guards its files, whatever their modes say.
    guarded: bool,
    kept: Arc<Mutex<Option<Kept>>>,
}

struct Kept {
    stamp: Stamp,
    settled: bool,
    value: Arc<Secret>,
}

/// Changes when the file does.
#[derive(PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl File {
    /// Returns the source. `path` is absolute.
    pub fn new(path: PathBuf, guarded: bool) -> Self {
        Self { path, guarded, kept: Arc::default() }
    }
}

#[async_trait]
impl Read for File {
    async fn read(&self) -> Result<Arc<Secret>, Unreadable> {
        let (path, guarded, kept) = (self.path.clone(), self.guarded, self.kept.clone());
        let read = async {
            // Also while the file system hangs: at most one thread waits for it.
            let mut kept = kept.lock_owned().await;
            tokio::task::spawn_blocking(move || read(&path, guarded, &mut kept)).await
        };
        let why = match tokio::time::timeout(READ_TIME_MAX, read).await {
            Ok(Ok(Ok(value))) => return Ok(value),
            Ok(Ok(Err(why))) => why,
            Ok(Err(_)) => "could not be read".into(),
            Err(_) => format!("took longer than {READ_TIME_MAX:?} to read"),
        };
        Err(Unreadable(format!("the file `{}` {why}", self.path.display())))
    }

    fn forget(&self) -> bool {
        // Whoever is reading now keeps it for the next time. It is read again then, and found unchanged.
        self.kept.try_lock().is_ok_and(|mut kept| kept.take().is_some())
    }
}

/// Blocks. The error continues a sentence about the file.
fn read(path: &Path, guarded: bool, kept: &mut Option<Kept>) -> Result<Arc<Secret>, String> {
    let cannot = |e: std::io::Error| format!("cannot be read: {e}");
    // Not blocking: a pipe in its place must not hang us.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| cannot(e.into()))?;
    let mut file = fs::File::from(opened);
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    if metadata.mode() & 0o002 != 0 {
        return Err("can be written by everybody: chmod o-w".into());
    }
    if metadata.mode() & 0o004 != 0 && !guarded {
        return Err("can be read by everybody: chmod o-r, or move it below `/run/secrets`".into());
    }
    let stamp = Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    if let Some(kept) = kept.as_ref().filter(|kept| kept.settled && kept.stamp == stamp) {
        return Ok(kept.value.clone());
    }
    // Room for one newline, and for one byte that shows that there is more.
    let mut buffer = Secret::blank(VALUE_BYTES_MAX + 3).map_err(cannot)?;
    let mut len = 0;
    loop {
        match file.read(&mut buffer.expose_mut()[len..]).map_err(cannot)? {
            0 => break,
            more => len += more,
        }
    }
    buffer.truncate(len);
    let value = keep(kept.take().map(|kept| kept.value), value_of(buffer.expose())?);
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64)
        - stamp.modified.0.max(stamp.changed.0);
    *kept = Some(Kept { stamp, settled: age > SETTLED.as_secs() as i64, value: value.clone() });
    Ok(value)
}
