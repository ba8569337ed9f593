//! One transaction: entries become records.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{
    entry::Kind,
    merkle::{Frontier, Hash, Node},
    queue::Pending,
    read::STORED_LEVEL,
    record::{KeptPayload, Moment, Prepared},
};

/// What a transaction leads to, once it is committed.
pub struct Next {
    pub frontier: Frontier,
    /// The hash of the last record.
    pub last: Hash,
    /// The sequence number and the hash that each entry got.
    pub places: Vec<(u64, Hash)>,
}

/// Writes entries after what `next` says. Returns where that leads, and the bytes of the records and payloads.
pub fn write(connection: &mut Connection, pending: &[Pending], mut next: Next) -> rusqlite::Result<(Next, usize)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut bytes = 0;
    for Pending { entry, .. } in pending {
        let sequence = next.frontier.size() + 1;
        let moment = now();
        let record = entry.record(sequence, &next.last, moment);
        let hash = Hash::leaf(&record);
        insert_record(&transaction, entry, sequence, moment, &hash, &record)?;
        bytes += record.len();
        for payload in &entry.kept {
            insert_payload(&transaction, payload)?;
            bytes += payload.bytes.len();
        }
        let mut finished = Vec::new();
        next.frontier.push(hash, |node| finished.push(node));
        for node in finished.iter().filter(|node| node.level >= STORED_LEVEL) {
            insert_node(&transaction, node)?;
        }
        next.last = hash;
        next.places.push((sequence, hash));
    }
    transaction.commit()?;
    Ok((next, bytes))
}

fn insert_record(
    transaction: &Transaction<'_>,
    entry: &Prepared,
    sequence: u64,
    moment: Moment,
    hash: &Hash,
    record: &[u8],
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO records (sequence, hash, kind, time_ms, tenant, step, call, job, agent, bytes)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let call = entry.call.map(|call| call as i64);
    let (step, kind, time_ms) = (entry.step.as_deref(), entry.kind.as_str(), moment.time_ms as i64);
    let (job, agent) = (entry.job.as_deref(), entry.agent.as_deref());
    let sequence = sequence as i64;
    transaction.prepare_cached(sql)?.execute((
        sequence,
        hash.0,
        kind,
        time_ms,
        &entry.tenant,
        step,
        call,
        job,
        agent,
        record,
    ))?;

    let add = "INSERT OR REPLACE INTO unfinished (step, call, sequence) VALUES (?1, ?2, ?3)";
    let remove = "DELETE FROM unfinished WHERE step = ?1 AND call = ?2";
    match entry.kind {
        Kind::Step => transaction.prepare_cached(add)?.execute((step, -1, sequence))?,
        Kind::Intent => transaction.prepare_cached(add)?.execute((step, call, sequence))?,
        Kind::Outcome => transaction.prepare_cached(remove)?.execute((step, call))?,
        Kind::Result => transaction.prepare_cached(remove)?.execute((step, -1))?,
        _ => 0,
    };
    Ok(())
}

fn insert_payload(transaction: &Transaction<'_>, payload: &KeptPayload) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO payloads (digest, kept_digest, bytes) VALUES (?1, ?2, ?3)";
    let (digest, kept_digest) = (payload.digest.hex(), payload.kept_digest.hex());
    transaction.prepare_cached(sql)?.execute((digest, kept_digest, &payload.bytes)).map(drop)
}

fn insert_node(transaction: &Transaction<'_>, node: &Node) -> rusqlite::Result<()> {
    let sql = "INSERT INTO nodes (level, position, hash) VALUES (?1, ?2, ?3)";
    transaction.prepare_cached(sql)?.execute((node.level, node.position as i64, node.hash.0)).map(drop)
}

fn now() -> Moment {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let boot = Duration::new(boot.tv_sec.unsigned_abs(), boot.tv_nsec.unsigned_abs() as u32);
    Moment { time_ms: time.as_millis() as u64, boot_us: boot.as_micros() as u64 }
}
