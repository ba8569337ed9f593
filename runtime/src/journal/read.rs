//! Reading records. Everything here blocks: call it where that is allowed.

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, types::Value};

use super::{entry::Kind, handle::Journal, merkle::Hash, proof, readers::ReadError, record::Record};
use crate::step::Digest;

/// Records that one [`Journal::list`] returns at most.
pub const LIST_MAX: usize = 1_000;

/// Bytes of records that one [`Journal::list`] returns, about.
const LIST_BYTES: usize = 2 << 20;

/// The lowest level of the tree whose hashes are stored. Those below are computed from up to 256 records.
pub const STORED_LEVEL: u32 = 8;

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub sequence: u64,
    pub hash: Hash,
    /// The canonical JSON.
    pub bytes: Vec<u8>,
}

impl Stored {
    /// Returns what the record says.
    pub fn record(&self) -> Result<Record, ReadError> {
        serde_json::from_slice(&self.bytes).map_err(|_| ReadError::Broken(self.sequence))
    }
}

/// Which records to read: those that meet all conditions.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Above this sequence number.
    pub after_sequence: Option<u64>,
    /// Below this sequence number.
    pub before: Option<u64>,
    /// Of one of these kinds. None means all.
    pub kinds: Vec<Kind>,
    pub tenant: Option<String>,
    pub step: Option<String>,
    pub call: Option<u64>,
    pub job: Option<String>,
    pub agent: Option<String>,
    /// From this time on, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Before this time.
    pub until_ms: Option<u64>,
    /// The last record first.
    pub descending: bool,
}

/// A step without a `result` or a call without an `outcome`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The record that began it.
    pub sequence: u64,
    pub tenant: String,
    pub step: String,
    /// None if it is the step itself.
    pub call: Option<u64>,
    pub job: Option<String>,
    pub agent: Option<String>,
}

impl Journal {
    /// Returns the next records that `filter` lets through: up to `limit`, 1,000 or 2 MiB, but one if there is one.
    /// Only an empty answer means that there are no more.
    pub fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<Stored>, ReadError> {
        self.readers.with(|connection| list(connection, filter, limit))
    }

    /// Returns all records that `filter` lets through, some at a time. Those appended meanwhile are among them.
    pub fn scan(&self, filter: Filter) -> Scan<'_> {
        Scan { journal: self, filter, page: Vec::new().into_iter(), done: false }
    }

    /// Returns the record with this sequence number.
    pub fn get(&self, sequence: u64) -> Result<Option<Stored>, ReadError> {
        let sql = "SELECT sequence, hash, bytes FROM records WHERE sequence = ?1";
        self.readers
            .with(|connection| Ok(connection.prepare_cached(sql)?.query_row([integer(sequence)], stored).optional()?))
    }

    /// Returns the last record of a kind about a step, or about a call of it.
    pub fn find(&self, step: &str, call: Option<u64>, kind: Kind) -> Result<Option<Stored>, ReadError> {
        let sql = "SELECT sequence, hash, bytes FROM records
            WHERE step = ?1 AND call IS ?2 AND kind = ?3 ORDER BY sequence DESC LIMIT 1";
        let call = call.map(integer);
        self.readers.with(|connection| {
            Ok(connection.prepare_cached(sql)?.query_row((step, call, kind.as_str()), stored).optional()?)
        })
    }

    /// Returns the bytes of a payload, redacted if that is how they were kept.
    pub fn payload(&self, digest: Digest) -> Result<Option<Vec<u8>>, ReadError> {
        let sql = "SELECT bytes FROM payloads WHERE digest = ?1 ORDER BY kept_digest = digest DESC LIMIT 1";
        self.readers.with(|connection| {
            Ok(connection.prepare_cached(sql)?.query_row([digest.hex()], |row| row.get(0)).optional()?)
        })
    }

    /// Returns the bytes of a payload as a record says that they were kept.
    pub(super) fn kept_payload(&self, digest: Digest, kept_digest: Digest) -> Result<Option<Vec<u8>>, ReadError> {
        let sql = "SELECT bytes FROM payloads WHERE digest = ?1 AND kept_digest = ?2";
        let digests = [digest.hex(), kept_digest.hex()];
        self.readers
            .with(|connection| Ok(connection.prepare_cached(sql)?.query_row(digests, |row| row.get(0)).optional()?))
    }

    /// Returns what was begun and not ended, in the order of its beginning. To be called before new steps start.
    pub fn unfinished(&self) -> Result<Vec<Unfinished>, ReadError> {
        let sql = "SELECT sequence, tenant, records.step, records.call, job, agent
            FROM unfinished JOIN records USING (sequence) ORDER BY sequence";
        self.readers.with(|connection| {
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(Unfinished {
                    sequence: row.get::<_, i64>(0)? as u64,
                    tenant: row.get(1)?,
                    step: row.get(2)?,
                    call: row.get::<_, Option<i64>>(3)?.map(|call| call as u64),
                    job: row.get(4)?,
                    agent: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Returns the RFC 6962 proof that record `sequence` is in the tree of the first `size` records.
    pub fn prove_inclusion(&self, sequence: u64, size: u64) -> Result<Vec<Hash>, ReadError> {
        self.check_range(size)?;
        if sequence == 0 || sequence > size {
            return Err(ReadError::OutOfRange { asked: sequence, last: size });
        }
        self.readers.with(|connection| {
            proof::inclusion(sequence - 1, size, &mut |level, position| subtree(connection, level, position))
        })
    }

    /// Returns the RFC 6962 proof that the tree of the first `to` records begins with that of the first `from`.
    pub fn prove_consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, ReadError> {
        self.check_range(to)?;
        if from == 0 || from > to {
            return Err(ReadError::OutOfRange { asked: from, last: to });
        }
        self.readers.with(|connection| {
            proof::consistency(from, to, &mut |level, position| subtree(connection, level, position))
        })
    }

    fn check_range(&self, size: u64) -> Result<(), ReadError> {
        let last = *self.shared.durable.borrow();
        if size <= last { Ok(()) } else { Err(ReadError::OutOfRange { asked: size, last }) }
    }
}

/// Records, read some at a time.
pub struct Scan<'a> {
    journal: &'a Journal,
    filter: Filter,
    page: std::vec::IntoIter<Stored>,
    done: bool,
}

impl Iterator for Scan<'_> {
    type Item = Result<Stored, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.len() == 0 && !self.done {
            match self.journal.list(&self.filter, LIST_MAX) {
                Ok(page) => self.page = page.into_iter(),
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        let Some(stored) = self.page.next() else {
            self.done = true;
            return None;
        };
        let end = if self.filter.descending { &mut self.filter.before } else { &mut self.filter.after_sequence };
        *end = Some(stored.sequence);
        Some(Ok(stored))
    }
}

fn list(connection: &Connection, filter: &Filter, limit: usize) -> Result<Vec<Stored>, ReadError> {
    let (sql, values) = query(filter, limit.min(LIST_MAX));
    let mut statement = connection.prepare_cached(&sql)?;
    let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
    let mut rows = statement.query(values.as_slice())?;
    let (mut list, mut bytes) = (Vec::new(), 0);
    while bytes < LIST_BYTES
        && let Some(row) = rows.next()?
    {
        let stored = stored(row)?;
        bytes += stored.bytes.len();
        list.push(stored);
    }
    Ok(list)
}

fn query(filter: &Filter, limit: usize) -> (String, Vec<Value>) {
    let number = |value: Option<u64>| value.map(|value| Value::Integer(integer(value)));
    let text = |value: &Option<String>| value.clone().map(Value::Text);
    let conditions = [
        ("sequence > ?", number(filter.after_sequence)),
        ("sequence < ?", number(filter.before)),
        ("tenant = ?", text(&filter.tenant)),
        ("step = ?", text(&filter.step)),
        ("call = ?", number(filter.call)),
        ("job = ?", text(&filter.job)),
        ("agent = ?", text(&filter.agent)),
        ("time_ms >= ?", number(filter.since_ms)),
        ("time_ms < ?", number(filter.until_ms)),
    ];
    let mut sql = "SELECT sequence, hash, bytes FROM records WHERE 1".to_owned();
    let mut values = Vec::new();
    for (condition, value) in conditions {
        if let Some(value) = value {
            sql.push_str(" AND ");
            sql.push_str(condition);
            values.push(value);
        }
    }
    if !filter.kinds.is_empty() {
        let places = vec!["?"; filter.kinds.len()].join(",");
        sql.push_str(&format!(" AND kind IN ({places})"));
        values.extend(filter.kinds.iter().map(|kind| Value::Text(kind.as_str().to_owned())));
    }
    sql.push_str(if filter.descending { " ORDER BY sequence DESC LIMIT ?" } else { " ORDER BY sequence LIMIT ?" });
    values.push(Value::Integer(integer(limit as u64)));
    (sql, values)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored { sequence: row.get::<_, i64>(0)? as u64, hash: Hash(row.get(1)?), bytes: row.get(2)? })
}

/// SQLite's integers are signed; no number of ours is that large.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Returns the hash of a complete subtree.
pub fn subtree(connection: &Connection, level: u32, position: u64) -> Result<Hash, ReadError> {
    if level < STORED_LEVEL { leaves(connection, level, position) } else { stored_node(connection, level, position) }
}

/// Returns the hash of a complete subtree by the hashes of its records, of which there should be few.
pub fn leaves(connection: &Connection, level: u32, position: u64) -> Result<Hash, ReadError> {
    let (start, end) = (position << level, (position + 1) << level);
    let sql = "SELECT hash FROM records WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((integer(start), integer(end)), |row| row.get(0).map(Hash))?;
    let mut hashes = rows.collect::<rusqlite::Result<Vec<Hash>>>()?;
    if hashes.len() as u64 != end - start {
        return Err(ReadError::Broken(end));
    }
    while hashes.len() > 1 {
        hashes = hashes.chunks(2).map(|pair| Hash::node(&pair[0], &pair[1])).collect();
    }
    hashes.first().copied().ok_or(ReadError::Broken(end))
}

/// Returns the stored hash of a complete subtree.
pub fn stored_node(connection: &Connection, level: u32, position: u64) -> Result<Hash, ReadError> {
    let sql = "SELECT hash FROM nodes WHERE level = ?1 AND position = ?2";
    let hash =
        connection.prepare_cached(sql)?.query_row((level, integer(position)), |row| row.get(0).map(Hash)).optional()?;
    hash.ok_or(ReadError::Broken((position + 1) << level))
}
