//! The longest texts and lists, to every function of the host that takes one.

use super::{super::siege::Siege, MEMORY_AT_ONCE, flood, floods};

/// Every function of WASI that takes a text or a list.
const FUNCTIONS: &[&str] = &[
    "open-at",
    "stat-at",
    "link-at",
    "symlink-at",
    "readlink-at",
    "rename-at",
    "unlink-at",
    "create-directory-at",
    "remove-directory-at",
    "metadata-hash-at",
    "set-times-at",
    "write",
    "fields-append",
    "fields-set",
    "fields-get",
    "fields-has",
    "fields-delete",
    "fields-from-list",
    "set-method",
    "set-path",
    "set-authority",
    "set-scheme",
    "stdout-write",
    "resolve-addresses",
];

#[tokio::test]
async fn res_05_no_text_is_too_long_for_the_host() {
    let mut siege = Siege::lay("").await;
    let floods = siege.push(&floods()).await;
    let mut attacks = Vec::new();
    for function in FUNCTIONS {
        // Within what a call may move, the function itself decides.
        const DECIDED: &[&str] = &[
            "SUCCEEDED",
            "NONZERO_EXIT",
            "TRAPPED",
            "HEADER_FIELDS_BYTES_EXCEEDED",
            "HOSTCALL_BYTES_EXCEEDED",
            "STDIO_BYTES_EXCEEDED",
        ];
        attacks.push(flood(&floods, function, 2_000, &["SUCCEEDED", "NONZERO_EXIT"]));
        attacks.push(flood(&floods, function, 1_900_000, DECIDED));
        attacks.push(flood(&floods, function, 5_000_000, &["HOSTCALL_BYTES_EXCEEDED"]));
    }
    siege.steps(attacks).await;
    siege.lift(MEMORY_AT_ONCE).await;
}

#[tokio::test]
async fn res_05_no_length_that_a_guest_says_is_believed() {
    let mut siege = Siege::lay("").await;
    let floods = siege.push(&floods()).await;
    let mut attacks = Vec::new();
    for count in [1 << 20, 1 << 32, 1 << 62, u64::MAX] {
        for what in ["read", "stream-read", "stream-skip", "stdin-read", "zeroes", "file-zeroes", "splice"] {
            const NAMED: &[&str] = &[
                "SUCCEEDED",
                "NONZERO_EXIT",
                "TRAPPED",
                "MEMORY_EXHAUSTED",
                "STDIO_BYTES_EXCEEDED",
                "HOSTCALL_BYTES_EXCEEDED",
            ];
            attacks.push(flood(&floods, what, count, NAMED));
        }
    }
    siege.steps(attacks).await;
    siege.lift(MEMORY_AT_ONCE).await;
}
