//! The file of the store: how it is opened, and what is in it.

use std::{
    fs::{OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};

use super::MemoryError;

/// The version of the tables below.
const VERSION: i64 = 2;

/// A space outlives its items, because its version must never be given out again. Its `keys` and `bytes` count what is
/// in `items`, expired or not. `bytes` of an item are those of key and value.
const TABLES: &str = "
    CREATE TABLE spaces (
        id INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        keys INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        UNIQUE (tenant, name)
    ) STRICT;
    CREATE TABLE items (
        space INTEGER NOT NULL REFERENCES spaces (id),
        key TEXT NOT NULL,
        version INTEGER NOT NULL,
        agent TEXT NOT NULL,
        step TEXT NOT NULL,
        written_ms INTEGER NOT NULL,
        expires_ms INTEGER,
        bytes INTEGER NOT NULL,
        value BLOB NOT NULL,
        labels TEXT NOT NULL DEFAULT '',
        UNIQUE (space, key)
    ) STRICT;
    CREATE INDEX items_that_expire ON items (space, expires_ms) WHERE expires_ms IS NOT NULL;
";

/// From the first version: what was written then has no labels.
const FROM_1: &str = "ALTER TABLE items ADD COLUMN labels TEXT NOT NULL DEFAULT ''";

/// Opens the file, and makes it if there is none.
pub(super) fn open(path: &Path) -> Result<Connection, MemoryError> {
    // SQLite gives its other files the mode of this one.
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    // Nothing in the file may act when it is read, whoever wrote it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(io::Error::other(format!("it is not in WAL mode but in `{mode}`")).into());
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    create_tables(&mut connection)?;
    Ok(connection)
}

fn create_tables(connection: &mut Connection) -> Result<(), MemoryError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match transaction.pragma_query_value(None, "user_version", |row| row.get(0))? {
        0 => {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            Ok(transaction.commit()?)
        }
        1 => {
            transaction.execute_batch(FROM_1)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            Ok(transaction.commit()?)
        }
        VERSION => Ok(()),
        other => Err(MemoryError::UnknownVersion(other)),
    }
}
