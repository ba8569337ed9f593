//! The store: reading, listing and the transactions that change something.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::{Item, Listed, MemoryError, PutOptions, Quota, SpaceInfo, Writer, database, write};

/// Bytes of the longest key.
pub const KEY_BYTES_MAX: usize = 512;

/// Items that one call lists.
pub const LIST_MAX: usize = 1000;

/// The store. Clones are the same store. All calls block, for as long as a write takes to reach the disk.
///
/// Names of tenants and spaces are the caller's to check. Time is the caller's too, in milliseconds since 1970.
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

struct Inner {
    /// One connection: SQLite lets one write at a time anyway, and a read is shorter than the hop to another thread.
    connection: Mutex<Connection>,
    quota: Quota,
}

impl MemoryStore {
    /// Opens the store in a file, which is made if there is none.
    pub fn open(path: &Path, quota: Quota) -> Result<Self, MemoryError> {
        Ok(Self(Arc::new(Inner { connection: Mutex::new(database::open(path)?), quota })))
    }

    /// Returns an item, if there is one that has not expired.
    pub fn get(&self, tenant: &str, space: &str, key: &str, now_ms: u64) -> Result<Option<Item>, MemoryError> {
        check_key(key)?;
        let connection = self.connection();
        let mut query = connection.prepare_cached(
            "SELECT version, agent, step, written_ms, expires_ms, labels, value FROM items
             WHERE space = (SELECT id FROM spaces WHERE tenant = ?1 AND name = ?2) AND key = ?3
             AND (expires_ms IS NULL OR expires_ms > ?4)",
        )?;
        Ok(query.query_row(params![tenant, space, key, signed(now_ms)], item).optional()?)
    }

    /// Returns items whose keys begin with `prefix`, sorted by the bytes of their keys, from the first key after `after`.
    /// At most `limit` of them and never more than [`LIST_MAX`].
    pub fn list(
        &self,
        tenant: &str,
        space: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now_ms: u64,
    ) -> Result<Vec<Listed>, MemoryError> {
        let after = after.unwrap_or_default();
        let connection = self.connection();
        let mut query = connection.prepare_cached(
            "SELECT version, agent, step, written_ms, expires_ms, labels, key, length(value) FROM items
             WHERE space = (SELECT id FROM spaces WHERE tenant = ?1 AND name = ?2) AND key >= ?3
             AND (expires_ms IS NULL OR expires_ms > ?4) ORDER BY key",
        )?;
        let mut rows = query.query(params![tenant, space, prefix.max(after), signed(now_ms)])?;
        let mut found = Vec::new();
        while found.len() < limit.min(LIST_MAX)
            && let Some(row) = rows.next()?
        {
            let listed = listed(row)?;
            if !listed.key.starts_with(prefix) {
                // All keys with the prefix stand together, unless the list goes on after a key behind them.
                break;
            }
            if listed.key != after {
                found.push(listed);
            }
        }
        Ok(found)
    }

    /// Puts a value and returns its version, which is above all earlier ones of the space.
    #[expect(clippy::too_many_arguments, reason = "where, what, how and who: a struct for one caller would hide them")]
    pub fn put(
        &self,
        tenant: &str,
        space: &str,
        key: &str,
        value: &[u8],
        options: PutOptions,
        writer: &Writer,
        now_ms: u64,
    ) -> Result<u64, MemoryError> {
        check_key(key)?;
        let quota = self.0.quota;
        if value.len() as u64 > quota.value_bytes {
            return Err(MemoryError::ValueTooLarge { bytes: value.len() as u64, max: quota.value_bytes });
        }
        self.change(|transaction| {
            let mut space = write::Space::open_or_make(transaction, tenant, space, &quota, now_ms)?;
            space.put(key, value, options, writer, now_ms)
        })
    }

    /// Deletes an item and returns whether there was one. `if_version` is as in [`PutOptions`].
    pub fn delete(
        &self,
        tenant: &str,
        space: &str,
        key: &str,
        if_version: Option<u64>,
        now_ms: u64,
    ) -> Result<bool, MemoryError> {
        check_key(key)?;
        let quota = self.0.quota;
        self.change(|transaction| match write::Space::open(transaction, tenant, space, &quota, now_ms)? {
            Some(mut space) => space.delete(key, if_version),
            None => write::check_version(if_version, 0).map(|()| false),
        })
    }

    /// Removes the items that have expired and returns how many there were.
    ///
    /// They are invisible before, and each write removes those of its own space: this is for spaces that nobody writes.
    pub fn sweep(&self, now_ms: u64) -> Result<u64, MemoryError> {
        let spaces: Vec<i64> = {
            let connection = self.connection();
            let mut query = connection.prepare_cached("SELECT DISTINCT space FROM items WHERE expires_ms <= ?1")?;
            query.query_map([signed(now_ms)], |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        // One transaction for each space, so that others get their turn in between.
        spaces.into_iter().try_fold(0, |removed, space| {
            Ok(removed + self.change(|transaction| write::remove_expired(transaction, space, now_ms))?)
        })
    }

    /// Returns the spaces of a tenant that have keys, sorted by name.
    pub fn spaces(&self, tenant: &str, now_ms: u64) -> Result<Vec<SpaceInfo>, MemoryError> {
        let connection = self.connection();
        let mut query = connection.prepare_cached(
            "SELECT name, count(*), sum(items.bytes) FROM spaces JOIN items ON items.space = spaces.id
             WHERE tenant = ?1 AND (expires_ms IS NULL OR expires_ms > ?2) GROUP BY spaces.id ORDER BY name",
        )?;
        let spaces = query.query_map(params![tenant, signed(now_ms)], |row| {
            Ok(SpaceInfo { name: row.get(0)?, keys: unsigned(row, 1)?, bytes: unsigned(row, 2)? })
        })?;
        Ok(spaces.collect::<Result<_, _>>()?)
    }

    /// Runs a change as one transaction: wholly, or not at all if it fails.
    fn change<T>(&self, act: impl FnOnce(&Transaction<'_>) -> Result<T, MemoryError>) -> Result<T, MemoryError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = act(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// A panic while the connection was held has rolled its transaction back.
    pub(super) fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_key(key: &str) -> Result<(), MemoryError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(MemoryError::BadKey(key.chars().take(80).flat_map(char::escape_debug).collect()));
    }
    Ok(())
}

fn item(row: &Row<'_>) -> rusqlite::Result<Item> {
    let (version, written_by, written_ms, expires_ms) = provenance(row)?;
    Ok(Item { value: row.get(6)?, version, written_by, written_ms, expires_ms })
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let (version, written_by, written_ms, expires_ms) = provenance(row)?;
    Ok(Listed { key: row.get(6)?, size: unsigned(row, 7)?, version, written_by, written_ms, expires_ms })
}

fn provenance(row: &Row<'_>) -> rusqlite::Result<(u64, Writer, u64, Option<u64>)> {
    let labels: String = row.get(5)?;
    let labels = labels.split_whitespace().map(str::to_owned).collect();
    let written_by = Writer { agent: row.get(1)?, step: row.get(2)?, labels };
    let expires: Option<i64> = row.get(4)?;
    let expires_ms = expires.map(|_| unsigned(row, 4)).transpose()?;
    Ok((unsigned(row, 0)?, written_by, unsigned(row, 3)?, expires_ms))
}

/// SQLite's integers are signed. What does not fit is a time or a size that is never reached.
pub(super) fn signed(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Returns a stored number. One that [`signed`] cannot have made is an error: the file is damaged.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    number.try_into().map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}
