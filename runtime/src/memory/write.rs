//! What changes a space, within a transaction.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{
    MemoryError, PutOptions, Quota, Writer,
    store::{signed, unsigned},
};

/// A space that is being changed. None of its items has expired.
pub(super) struct Space<'a> {
    transaction: &'a Transaction<'a>,
    quota: &'a Quota,
    id: i64,
    name: &'a str,
    /// The highest version that was given out.
    version: u64,
    keys: u64,
    bytes: u64,
}

/// What is known of an item that is there.
struct Present {
    version: u64,
    bytes: u64,
}

impl<'a> Space<'a> {
    /// Opens a space, and makes it if there is none. Fails if the tenant has too many with keys.
    pub(super) fn open_or_make(
        transaction: &'a Transaction<'_>,
        tenant: &str,
        name: &'a str,
        quota: &'a Quota,
        now_ms: u64,
    ) -> Result<Self, MemoryError> {
        let space = match Self::open(transaction, tenant, name, quota, now_ms)? {
            Some(space) => space,
            None => {
                let sql = "INSERT INTO spaces (tenant, name, version, keys, bytes) VALUES (?1, ?2, 0, 0, 0)";
                transaction.prepare_cached(sql)?.execute(params![tenant, name])?;
                let id = transaction.last_insert_rowid();
                Self { transaction, quota, id, name, version: 0, keys: 0, bytes: 0 }
            }
        };
        if space.keys == 0 && count_spaces(transaction, tenant, now_ms)? >= quota.spaces {
            return Err(MemoryError::TooManySpaces { max: quota.spaces });
        }
        Ok(space)
    }

    /// Opens a space if it was ever written to, and removes its expired items.
    pub(super) fn open(
        transaction: &'a Transaction<'_>,
        tenant: &str,
        name: &'a str,
        quota: &'a Quota,
        now_ms: u64,
    ) -> Result<Option<Self>, MemoryError> {
        let sql = "SELECT id FROM spaces WHERE tenant = ?1 AND name = ?2";
        let id = transaction.prepare_cached(sql)?.query_row([tenant, name], |row| row.get(0)).optional()?;
        let Some(id) = id else { return Ok(None) };
        remove_expired(transaction, id, now_ms)?;
        let sql = "SELECT version, keys, bytes FROM spaces WHERE id = ?1";
        let (version, keys, bytes) = transaction
            .prepare_cached(sql)?
            .query_row([id], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?, unsigned(row, 2)?)))?;
        Ok(Some(Self { transaction, quota, id, name, version, keys, bytes }))
    }

    pub(super) fn put(
        &mut self,
        key: &str,
        value: &[u8],
        options: PutOptions,
        writer: &Writer,
        now_ms: u64,
    ) -> Result<u64, MemoryError> {
        let present = self.find(key)?;
        check_version(options.if_version, present.as_ref().map_or(0, |item| item.version))?;
        let bytes = (key.len() + value.len()) as u64;
        self.make_room(present.as_ref(), bytes)?;
        self.version += 1;
        self.keys += u64::from(present.is_none());
        self.bytes = (self.bytes + bytes).saturating_sub(present.map_or(0, |item| item.bytes));
        let expires_ms = options.ttl_ms.map(|ttl_ms| signed(now_ms.saturating_add(ttl_ms)));
        let sql = "INSERT OR REPLACE INTO items
                   (space, key, version, agent, step, written_ms, expires_ms, bytes, value, labels)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        self.transaction.prepare_cached(sql)?.execute(params![
            self.id,
            key,
            signed(self.version),
            writer.agent,
            writer.step,
            signed(now_ms),
            expires_ms,
            signed(bytes),
            value,
            writer.labels.join(" ")
        ])?;
        self.save()?;
        Ok(self.version)
    }

    pub(super) fn delete(&mut self, key: &str, if_version: Option<u64>) -> Result<bool, MemoryError> {
        let present = self.find(key)?;
        check_version(if_version, present.as_ref().map_or(0, |item| item.version))?;
        let Some(present) = present else { return Ok(false) };
        let sql = "DELETE FROM items WHERE space = ?1 AND key = ?2";
        self.transaction.prepare_cached(sql)?.execute(params![self.id, key])?;
        self.keys = self.keys.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(present.bytes);
        self.save()?;
        Ok(true)
    }

    fn find(&self, key: &str) -> Result<Option<Present>, MemoryError> {
        let sql = "SELECT version, bytes FROM items WHERE space = ?1 AND key = ?2";
        let mut query = self.transaction.prepare_cached(sql)?;
        let present = |row: &rusqlite::Row<'_>| Ok(Present { version: unsigned(row, 0)?, bytes: unsigned(row, 1)? });
        Ok(query.query_row(params![self.id, key], present).optional()?)
    }

    /// Checks that an item of so many bytes fits in place of the present one. One that takes no more than that always
    /// does, also where the quota was lowered.
    fn make_room(&self, present: Option<&Present>, bytes: u64) -> Result<(), MemoryError> {
        let full = |limit, max| Err(MemoryError::SpaceFull { space: self.name.into(), limit, max });
        let before = present.map_or(0, |item| item.bytes);
        if present.is_none() && self.keys >= self.quota.keys {
            full("keys", self.quota.keys)
        } else if bytes > before && self.bytes + bytes - before > self.quota.bytes {
            full("bytes", self.quota.bytes)
        } else {
            Ok(())
        }
    }

    fn save(&self) -> Result<(), MemoryError> {
        let sql = "UPDATE spaces SET version = ?2, keys = ?3, bytes = ?4 WHERE id = ?1";
        let counts = params![self.id, signed(self.version), signed(self.keys), signed(self.bytes)];
        self.transaction.prepare_cached(sql)?.execute(counts)?;
        Ok(())
    }
}

/// Checks that a key has the version that is expected, if one is. 0 stands for no such key.
pub(super) fn check_version(expected: Option<u64>, found: u64) -> Result<(), MemoryError> {
    match expected {
        Some(expected) if expected != found => Err(MemoryError::Conflict { expected, found }),
        _ => Ok(()),
    }
}

/// Removes the expired items of a space and returns how many there were.
pub(super) fn remove_expired(transaction: &Transaction<'_>, space: i64, now_ms: u64) -> Result<u64, MemoryError> {
    let expired = params![space, signed(now_ms)];
    let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM items WHERE space = ?1 AND expires_ms <= ?2";
    let (keys, bytes): (i64, i64) =
        transaction.prepare_cached(sql)?.query_row(expired, |row| Ok((row.get(0)?, row.get(1)?)))?;
    if keys > 0 {
        let sql = "DELETE FROM items WHERE space = ?1 AND expires_ms <= ?2";
        transaction.prepare_cached(sql)?.execute(expired)?;
        let sql = "UPDATE spaces SET keys = keys - ?2, bytes = bytes - ?3 WHERE id = ?1";
        transaction.prepare_cached(sql)?.execute([space, keys, bytes])?;
    }
    Ok(keys.cast_unsigned())
}

/// Counts the spaces of a tenant that have keys.
fn count_spaces(transaction: &Transaction<'_>, tenant: &str, now_ms: u64) -> Result<u64, MemoryError> {
    let sql = "SELECT count(*) FROM spaces WHERE tenant = ?1 AND keys > 0 AND EXISTS
               (SELECT 1 FROM items WHERE space = id AND (expires_ms IS NULL OR expires_ms > ?2))";
    let count = transaction.prepare_cached(sql)?.query_row(params![tenant, signed(now_ms)], |row| unsigned(row, 0))?;
    Ok(count)
}
