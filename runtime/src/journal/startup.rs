//! What is checked before the journal is used: that it is ours, whole at its end, and not an older copy.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{
    checkpoint::{BadCheckpoint, Checkpoint},
    key::{Key, KeyError, sync_folder_of},
    merkle::{Frontier, Hash, subtrees},
    proof,
    read::{STORED_LEVEL, leaves, stored_node, subtree},
    readers::ReadError,
    record::{RECORD_BYTES_MAX, Record},
    schema::{self, SchemaError},
};

/// Records at the end whose bytes are checked at each start.
const TAIL: u64 = 1_000;

/// Why the journal is not used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the folder of the journal, `{path}`: {error}")]
    Folder { path: PathBuf, error: io::Error },
    #[error("cannot open the journal `{path}`: {error}")]
    Database { path: PathBuf, error: String },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(
        "`{0}` is missing, but its key file is there: restore it from a backup, or move the key file away to start a new journal"
    )]
    NoJournal(PathBuf),
    #[error(
        "the key file `{0}` is missing, but its journal is there: restore it from a backup, or move the journal away to start a new one"
    )]
    NoKey(PathBuf),
    #[error("the key file is of `{key}`, but the journal is of `{journal}`: restore the pair from a backup")]
    OtherKey { key: String, journal: String },
    #[error(
        "record {sequence} of the journal {problem}: it was changed or damaged; keep a copy and restore the journal from a backup"
    )]
    BadRecord { sequence: u64, problem: &'static str },
    #[error(
        "the journal has {records} records, but its checkpoint says that it had {size}: restore the missing ones from a backup"
    )]
    RolledBack { records: u64, size: u64 },
    #[error(
        "the checkpoint of the journal at {size} records does not hold: {error}; keep a copy and restore the journal from a backup"
    )]
    BadCheckpoint { size: u64, error: BadCheckpoint },
    #[error(
        "the first {size} records of the journal are not those of its checkpoint: some were changed or damaged; keep a copy and restore the journal from a backup"
    )]
    OtherRoot { size: u64 },
    #[error("cannot start the writer of the journal: {0}")]
    Thread(io::Error),
}

/// A journal that was checked.
pub struct Checked {
    pub connection: Connection,
    pub key: Key,
    pub frontier: Frontier,
    /// The hash of the last record.
    pub last: Hash,
    /// The size of the last checkpoint that was written.
    pub checkpointed: u64,
    /// The last stop was not a clean one.
    pub recovered: bool,
}

/// Opens or creates the journal in `folder` and checks it. Blocks.
pub fn open(folder: &Path) -> Result<Checked, OpenError> {
    let (path, key_path) = (folder.join("journal.db"), folder.join("journal.key"));
    let failed = |error: SchemaError| OpenError::Database { path: path.clone(), error: error.to_string() };
    let unusable = |error| OpenError::Folder { path: folder.to_owned(), error };

    let key = Key::read(&key_path)?;
    if key.is_some() && !path.try_exists().map_err(unusable)? {
        return Err(OpenError::NoJournal(path));
    }
    schema::create_file(&path).map_err(|error| failed(error.into()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(unusable)?;
    let connection = schema::open_writer(&path).map_err(failed)?;
    sync_folder_of(&path).map_err(unusable)?;

    let key = check_key(&connection, key, &key_path)?.map_err(|error| failed(error.into()))?;
    let state = schema::meta(&connection, "state").map_err(|error| failed(error.into()))?;
    let recovered = state.is_some_and(|state| state != "closed");
    let (frontier, last, checkpointed) = check(&connection, &key).map_err(|problem| match problem {
        Problem::Found(error) => error,
        Problem::Unreadable(ReadError::Broken(sequence)) => {
            OpenError::BadRecord { sequence, problem: "is not there or has no hash" }
        }
        Problem::Unreadable(error) => OpenError::Database { path: path.clone(), error: error.to_string() },
    })?;
    schema::set_meta(&connection, "state", "open").map_err(|error| failed(error.into()))?;
    Ok(Checked { connection, key, frontier, last, checkpointed, recovered })
}

/// Brings the key and the journal together. The journal learns its key last: before that, it has no records.
fn check_key(connection: &Connection, key: Option<Key>, path: &Path) -> Result<rusqlite::Result<Key>, OpenError> {
    let known = match schema::meta(connection, "key") {
        Ok(known) => known,
        Err(error) => return Ok(Err(error)),
    };
    let key = match (key, &known) {
        (None, Some(_)) => return Err(OpenError::NoKey(path.to_owned())),
        (None, None) => Key::create(path)?,
        (Some(key), _) => key,
    };
    let public = key.public().to_string();
    match known {
        None => Ok(schema::set_meta(connection, "key", &public).map(|()| key)),
        Some(known) if known == public => Ok(Ok(key)),
        Some(journal) => Err(OpenError::OtherKey { key: public, journal }),
    }
}

enum Problem {
    Found(OpenError),
    Unreadable(ReadError),
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        Self::Found(error)
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error)
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unreadable(error.into())
    }
}

fn check(connection: &Connection, key: &Key) -> Result<(Frontier, Hash, u64), Problem> {
    let records = schema::last_sequence(connection)?;
    let last = check_tail(connection, records)?;
    let hashes = subtrees(0, records)
        .map(|(level, position)| check_subtree(connection, level, position))
        .collect::<Result<Vec<_>, Problem>>()?;
    // One hash for each subtree: this cannot be otherwise.
    let frontier = Frontier::new(records, hashes).unwrap_or_else(Frontier::empty);

    let checkpointed = match schema::last_checkpoint(connection)? {
        None => 0,
        Some((size, _)) if size > records => return Err(OpenError::RolledBack { records, size }.into()),
        Some((size, note)) => {
            let bad = |error| OpenError::BadCheckpoint { size, error };
            let checkpoint = Checkpoint::open(&note, &key.public()).map_err(bad)?;
            let root = proof::root_at(size, &mut |level, position| subtree(connection, level, position))?;
            if checkpoint.size != size || checkpoint.root != root {
                return Err(OpenError::OtherRoot { size }.into());
            }
            size
        }
    };
    Ok((frontier, last, checkpointed))
}

/// Checks the last records and returns the hash of the last one.
fn check_tail(connection: &Connection, records: u64) -> Result<Hash, Problem> {
    let before = records.saturating_sub(TAIL);
    let mut previous = match before {
        0 => Hash::ZERO,
        _ => subtree(connection, 0, before - 1)?,
    };
    let mut expected = before;
    let mut statement =
        connection.prepare("SELECT sequence, hash, bytes FROM records WHERE sequence > ?1 ORDER BY sequence")?;
    let mut rows = statement.query([before as i64])?;
    while let Some(row) = rows.next()? {
        expected += 1;
        let bad = |problem| OpenError::BadRecord { sequence: expected, problem };
        if row.get::<_, i64>(0)? as u64 != expected {
            return Err(bad("is missing").into());
        }
        let bytes = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(bad("is too long").into());
        }
        let record: Record = serde_json::from_slice(bytes).map_err(|_| bad("is no record"))?;
        let hash = Hash::leaf(bytes);
        if row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)? != hash.0 {
            return Err(bad("does not have its hash").into());
        }
        if record.sequence != expected {
            return Err(bad("has another sequence number").into());
        }
        if record.previous != previous.to_string() {
            return Err(bad("does not follow the record before it").into());
        }
        previous = hash;
    }
    Ok(previous)
}

/// Returns the hash of a complete subtree, after comparing what is stored with what lies below it.
fn check_subtree(connection: &Connection, level: u32, position: u64) -> Result<Hash, Problem> {
    let below = match level {
        0..STORED_LEVEL => return Ok(subtree(connection, level, position)?),
        STORED_LEVEL => leaves(connection, level, position)?,
        _ => Hash::node(
            &stored_node(connection, level - 1, 2 * position)?,
            &stored_node(connection, level - 1, 2 * position + 1)?,
        ),
    };
    let last = (position + 1) << level;
    if stored_node(connection, level, position)? == below {
        Ok(below)
    } else {
        let problem = "or one before it does not match the tree";
        Err(OpenError::BadRecord { sequence: last, problem }.into())
    }
}
