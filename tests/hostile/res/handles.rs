//! Handles, waits, random bytes and fields of HTTP: what the host keeps for a guest.

use super::{super::siege::Siege, MEMORY_AT_ONCE, flood, flood_within, floods, timed};

const RESOURCES: &[&str] = &["RESOURCES_EXCEEDED"];
const CLOCK: &[&str] = &["TIMEOUT"];
const HAD: &[&str] = &["SUCCEEDED"];
const TRAP: &[&str] = &["TRAPPED"];
const HANDLES: &[&str] = &["HANDLES_EXCEEDED"];

#[tokio::test]
async fn res_06_every_kind_of_handle_is_counted() {
    let mut siege = Siege::lay("").await;
    let floods = siege.push(&floods()).await;
    let kinds = [
        "fields",
        "requests",
        "request-bodies",
        "pollables",
        "subscriptions",
        "outputs",
        "directories",
        "descriptors",
        "file-streams",
    ];
    let mut attacks: Vec<_> = kinds.map(|kind| flood(&floods, kind, 5_000, RESOURCES)).into();
    attacks.extend(kinds.map(|kind| flood(&floods, kind, 100, HAD)));
    // Of a resource that is nothing, only the guest's own handles are counted.
    attacks.push(flood(&floods, "networks", 5_000, HAD));
    attacks.push(flood(&floods, "networks", 20_000, HANDLES));
    attacks.push(flood(&floods, "listings", 5_000, &["DIRECTORY_STREAMS_EXCEEDED"]));
    attacks.push(flood(&floods, "listings", 60, HAD));
    // Many fields that are large, and together larger than what one step may have.
    attacks.push(flood(
        &floods,
        "field-copies",
        900,
        &["SUCCEEDED", "RESOURCES_EXCEEDED", "HEADER_FIELDS_BYTES_EXCEEDED"],
    ));
    siege.steps(attacks).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn res_07_waiting_for_much_or_for_ever_costs_only_who_waits() {
    let mut siege = Siege::lay("").await;
    let floods = siege.push(&floods()).await;
    let mut attacks = vec![
        flood(&floods, "poll-ready", 1_000, HAD),
        // More than a guest may have handles.
        flood(&floods, "poll-ready", 100_000, HANDLES),
        flood(&floods, "poll-ready", 2_000_000, &["HOSTCALL_BYTES_EXCEEDED", "MEMORY_EXHAUSTED"]),
        flood(&floods, "poll-none", 0, TRAP),
    ];
    let waits = [("poll-many", 1), ("poll-many", 1_000), ("sleep", 1), ("sleep-until", 1)];
    attacks.extend(waits.map(|(what, count)| flood_within(&floods, what, count, timed(500), CLOCK)));
    siege.steps(attacks).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn res_08_random_bytes_come_in_small_pieces() {
    let mut siege = Siege::lay("").await;
    let floods = siege.push(&floods()).await;
    let mut attacks = Vec::new();
    for source in ["random", "insecure-random"] {
        attacks.extend([1, 65_536].map(|count| flood(&floods, source, count, HAD)));
        attacks.extend([65_537, 1 << 32, u64::MAX].map(|count| flood(&floods, source, count, TRAP)));
    }
    siege.steps(attacks).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn res_09_fields_of_http_are_few_and_small() {
    let mut siege = Siege::lay("").await;
    let floods = siege.push(&floods()).await;
    const FIELDS: &[&str] = &["HEADER_FIELDS_BYTES_EXCEEDED", "NONZERO_EXIT"];
    let mut attacks = vec![
        flood(&floods, "field-names", 100, HAD),
        flood(&floods, "field-values", 100, HAD),
        flood(&floods, "field-value", 10_000, HAD),
    ];
    for (what, count) in [
        ("field-names", 40_000),
        ("field-names", 1_000_000),
        ("field-values", 40_000),
        ("field-values", 1_000_000),
        ("field-value", 132_000),
        ("field-value", 3 << 20),
    ] {
        attacks.push(flood(&floods, what, count, FIELDS));
    }
    attacks.push(flood(&floods, "field-value", 10 << 20, &["HOSTCALL_BYTES_EXCEEDED"]));
    siege.steps(attacks).await;
    siege.lift(MEMORY_AT_ONCE).await;
}
