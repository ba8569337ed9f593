//! The database file: its tables, and connections to it.

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, config::DbConfig};

/// The version of the tables.
const VERSION: i64 = 1;

/// Pages are 4 KiB; this many are cached by the writer.
const CACHE_KIB: i64 = 16 << 10;

/// How long another program's lock, such as that of somebody's `sqlite3`, is waited for.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// `bytes` comes last so that reading the other columns of a record does not read it.
///
/// `nodes` has the complete subtrees of the Merkle tree from [`super::read::STORED_LEVEL`] up. `unfinished` has the
/// records that still wait for a `result` or an `outcome`; `call` is -1 for the step itself.
const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE records (
        sequence INTEGER PRIMARY KEY,
        hash BLOB NOT NULL,
        kind TEXT NOT NULL,
        time_ms INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        step TEXT,
        call INTEGER,
        job TEXT,
        agent TEXT,
        bytes BLOB NOT NULL
    ) STRICT;
    CREATE INDEX records_by_kind ON records (kind);
    CREATE INDEX records_by_time ON records (time_ms);
    CREATE INDEX records_by_tenant ON records (tenant);
    CREATE INDEX records_by_step ON records (step, call) WHERE step IS NOT NULL;
    CREATE INDEX records_by_job ON records (job) WHERE job IS NOT NULL;
    CREATE INDEX records_by_agent ON records (agent) WHERE agent IS NOT NULL;
    CREATE TABLE nodes (
        level INTEGER NOT NULL,
        position INTEGER NOT NULL,
        hash BLOB NOT NULL,
        PRIMARY KEY (level, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE payloads (
        digest TEXT NOT NULL,
        kept_digest TEXT NOT NULL,
        bytes BLOB NOT NULL,
        PRIMARY KEY (digest, kept_digest)
    ) STRICT;
    CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
    CREATE TABLE unfinished (
        step TEXT NOT NULL,
        call INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        PRIMARY KEY (step, call)
    ) STRICT, WITHOUT ROWID;
";

/// What went wrong with the tables.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("cannot create the file: {0}")]
    Create(#[from] io::Error),
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error(
        "it has version {0}, but this version of palisade knows only {VERSION}: use the newer palisade that wrote it"
    )]
    Newer(i64),
}

/// Creates the file if it is not there, for nobody else to read. Blocks.
pub fn create_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens the only connection that writes, and creates or migrates the tables. Blocks.
pub fn open_writer(path: &Path) -> Result<Connection, SchemaError> {
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The writer moves the log into the file itself, to see its errors.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // Deleted payloads are overwritten.
    connection.pragma_update(None, "secure_delete", "ON")?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// Opens a connection that only reads. Blocks.
pub fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn open(path: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // The writer empties the log, and never after a failure.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), SchemaError> {
    let transaction = connection.transaction()?;
    match transaction.pragma_query_value(None, "user_version", |row| row.get(0))? {
        VERSION => return Ok(()),
        0 => transaction.execute_batch(TABLES)?,
        newer => return Err(SchemaError::Newer(newer)),
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

/// Returns what was written under a name.
pub fn meta(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}

/// Writes a value under a name.
pub fn set_meta(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)", [name, value]).map(drop)
}

/// Writes a signed checkpoint of `size` records.
pub fn add_checkpoint(connection: &Connection, size: u64, note: &str) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO checkpoints (size, note) VALUES (?1, ?2)";
    connection.execute(sql, (size as i64, note)).map(drop)
}

/// Returns the last checkpoint that was written.
pub fn last_checkpoint(connection: &Connection) -> rusqlite::Result<Option<(u64, String)>> {
    let sql = "SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1";
    connection.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?))).optional()
}

/// Returns the sequence number of the last record, or 0.
pub fn last_sequence(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(max(sequence), 0) FROM records";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|last| last as u64)
}
