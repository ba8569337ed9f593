//! Computes: one of five kernels, by name. For the benches.

use std::{collections::BTreeMap, hint::black_box};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("sieve") => black_box(sieve(4_000_000)),
        Some("sort") => black_box(sort(600_000)),
        Some("matrix") => black_box(matrix(220)),
        Some("json") => black_box(json(3_000)),
        Some("hash") => black_box(hash(24 << 20)),
        _ => std::process::exit(1),
    };
}

/// A generator that is the same everywhere.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn sieve(max: usize) -> u64 {
    let mut prime = vec![true; max];
    for n in 2..max {
        if prime[n] && n * n < max {
            (n * n..max).step_by(n).for_each(|multiple| prime[multiple] = false);
        }
    }
    prime.iter().filter(|p| **p).count() as u64
}

fn sort(count: usize) -> u64 {
    let mut state = 42;
    let mut numbers: Vec<u64> = (0..count).map(|_| random(&mut state)).collect();
    numbers.sort();
    numbers[count / 2]
}

fn matrix(size: usize) -> u64 {
    let a: Vec<f64> = (0..size * size).map(|n| n as f64 * 0.5).collect();
    let mut product = vec![0.0; size * size];
    for row in 0..size {
        for inner in 0..size {
            for column in 0..size {
                product[row * size + column] += a[row * size + inner] * a[inner * size + column];
            }
        }
    }
    product[size] as u64
}

fn json(count: usize) -> u64 {
    let records: Vec<BTreeMap<String, serde_json::Value>> = (0..count)
        .map(|n| BTreeMap::from([("id".into(), n.into()), ("name".into(), format!("record number {n}").into())]))
        .collect();
    let mut length = 0;
    for _ in 0..5 {
        let text = serde_json::to_string(&records).unwrap_or_default();
        let read: Vec<BTreeMap<String, serde_json::Value>> = serde_json::from_str(&text).unwrap_or_default();
        length += text.len() + read.len();
    }
    length as u64
}

fn hash(bytes: usize) -> u64 {
    let data = vec![7u8; bytes];
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
