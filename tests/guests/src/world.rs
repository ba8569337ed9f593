//! What the probe looks at: time, chance, files as the host shows them, and the corners of arithmetic. All of it should be
//! the same on every machine. WASI as it is, because the standard library hides most of it.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use wasip2::{
    clocks::{monotonic_clock, wall_clock},
    filesystem::{
        preopens,
        types::{Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags},
    },
    io::poll::{self, Pollable},
    random::{insecure, insecure_seed, random},
};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// So many bytes of each kind.
    Random(u64),
    /// What both clocks say, and how exact they say to be.
    Clocks,
    /// Computes so many rounds, and says by how much the clock went on.
    Compute(u64),
    /// Polls timers of so many milliseconds, and says which are over and what the time is then, until all are over.
    Timers(Vec<u64>),
    /// Asks of a timer whether it is over, so many times.
    AskTimer {
        milliseconds: u64,
        times: u32,
    },
    /// Polls a file's stream beside a timer.
    StreamAndTimer {
        path: String,
        nanoseconds: u64,
    },
    /// A directory's entries in the order in which they come.
    Entries(String),
    /// All that is said of a file.
    Stat(String),
    /// The identity of a file, of its other name, and whether they are the same.
    Identity {
        a: String,
        b: String,
    },
    /// Makes and deletes so many files, and says how many identities they had.
    Reuse {
        directory: String,
        count: u32,
    },
    /// The identity of a file that is deleted while it is open, and of one that is made after it.
    Deleted {
        path: String,
    },
    SetTimes {
        path: String,
        seconds: u64,
        nanoseconds: u32,
    },
    /// The order in which a hash map gives so many keys.
    Hashed(u32),
    /// The bits of NaNs that come out of arithmetic.
    Nans,
    /// The bits of relaxed vector instructions where machines differ.
    Relaxed,
    /// A file's stream, read without waiting.
    ReadNow(String),
}

impl World {
    pub fn outcome(self) -> String {
        match self {
            Self::Random(bytes) => {
                let seed = insecure_seed::insecure_seed();
                let insecure = insecure::get_insecure_random_bytes(bytes);
                let numbers = (random::get_random_u64(), insecure::get_insecure_random_u64());
                format!("{} {} {numbers:x?} {seed:x?}", hex(&random::get_random_bytes(bytes)), hex(&insecure))
            }
            Self::Clocks => {
                let (wall, resolution) = (wall_clock::now(), wall_clock::resolution());
                let monotonic = (monotonic_clock::now(), monotonic_clock::resolution());
                format!(
                    "wall {}.{:09} by {}.{:09}, monotonic {} by {}",
                    wall.seconds,
                    wall.nanoseconds,
                    resolution.seconds,
                    resolution.nanoseconds,
                    monotonic.0,
                    monotonic.1
                )
            }
            Self::Compute(rounds) => {
                let before = monotonic_clock::now();
                let mut state = 1_u64;
                for _ in 0..rounds {
                    state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
                }
                format!("{state:x} in {} ns", monotonic_clock::now() - before)
            }
            Self::Timers(milliseconds) => timers(&milliseconds),
            Self::AskTimer { milliseconds, times } => {
                let timer = monotonic_clock::subscribe_duration(milliseconds * 1_000_000);
                let over = (0..times).filter(|_| timer.ready()).count();
                format!("{over} times over, at {}", monotonic_clock::now())
            }
            Self::StreamAndTimer { path, nanoseconds } => {
                let stream = open(&path).read_via_stream(0).unwrap();
                let (file, timer) = (stream.subscribe(), monotonic_clock::subscribe_duration(nanoseconds));
                let first = poll::poll(&[&file, &timer]);
                format!("{first:?}, then {:?} at {}", poll::poll(&[&timer]), monotonic_clock::now())
            }
            Self::Entries(path) => {
                let entries = open(&path).read_directory().unwrap();
                let mut names = Vec::new();
                while let Some(entry) = entries.read_directory_entry().unwrap() {
                    names.push(format!("{}:{:?}", entry.name, entry.type_));
                }
                names.join(" ")
            }
            Self::Stat(path) => {
                let (root, name) = find(&path);
                format!("{:?}", root.stat_at(PathFlags::empty(), &name).unwrap())
            }
            Self::Identity { a, b } => {
                let (a, b) = (open(&a), open(&b));
                let (one, other) = (a.metadata_hash().unwrap(), b.metadata_hash().unwrap());
                format!("{:x}{:x} {:x}{:x} {}", one.lower, one.upper, other.lower, other.upper, a.is_same_object(&b))
            }
            Self::Reuse { directory, count } => {
                let mut seen = HashSet::new();
                for number in 0..count {
                    let path = format!("{directory}/{number}");
                    seen.insert(identity(&create(&path)));
                    std::fs::remove_file(&path).unwrap();
                }
                let mut seen: Vec<_> = seen.into_iter().collect();
                seen.sort();
                format!("{} {}", seen.len(), seen.join(" "))
            }
            Self::Deleted { path } => {
                let open = create(&path);
                let before = identity(&open);
                std::fs::remove_file(&path).unwrap();
                let deleted = identity(&open);
                drop(open);
                format!("{before} {deleted} {}", identity(&create(&path)))
            }
            Self::SetTimes { path, seconds, nanoseconds } => {
                let time = || NewTimestamp::Timestamp(wall_clock::Datetime { seconds, nanoseconds });
                let (root, name) = find(&path);
                let set = root.set_times_at(PathFlags::empty(), &name, time(), time());
                format!("{set:?} {:?} {:?}", open(&path).set_times(time(), time()), open(&path).stat().unwrap())
            }
            Self::Hashed(count) => {
                let map: HashMap<u32, u32> = (0..count).map(|key| (key, key)).collect();
                map.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            }
            Self::Nans => nans(),
            Self::Relaxed => relaxed(),
            Self::ReadNow(path) => {
                let stream = open(&path).read_via_stream(0).unwrap();
                let mut reads = Vec::new();
                while let Ok(bytes) = stream.read(1_000) {
                    reads.push(bytes.len().to_string());
                }
                reads.join(" ")
            }
        }
    }
}

fn timers(milliseconds: &[u64]) -> String {
    let timer = |ms: &u64| monotonic_clock::subscribe_duration(ms.saturating_mul(1_000_000));
    let mut waiting: Vec<(u64, Pollable)> = milliseconds.iter().map(|ms| (*ms, timer(ms))).collect();
    let mut rounds = Vec::new();
    // A timer that never ends is polled with the others and not waited for.
    while waiting.iter().any(|(ms, _)| *ms < u64::MAX) {
        let over = poll::poll(&waiting.iter().map(|(_, timer)| timer).collect::<Vec<_>>());
        let names: Vec<u64> = over.iter().map(|index| waiting[*index as usize].0).collect();
        rounds.push(format!("{names:?} at {}", monotonic_clock::now()));
        for index in over.into_iter().rev() {
            waiting.remove(index as usize);
        }
    }
    rounds.join(", ")
}

fn nans() -> String {
    use std::hint::black_box as it;
    let payload = |bits: u64| f64::from_bits(it(0x7ff0_0000_0000_0001 | bits));
    let wide = [
        it(0.0) / it(0.0),
        it(f64::INFINITY) - it(f64::INFINITY),
        payload(0x1234) + it(1.0),
        payload(0x0008_0000_dead_beef) * payload(0x42),
        it(-1.0_f64).sqrt(),
        -payload(7) + payload(8),
        (payload(9) as f32) as f64 + it(0.0),
    ];
    let narrow = [it(0.0_f32) / it(0.0), f32::from_bits(it(0xff81_2345)) + it(1.0), it(f64::NAN) as f32 * it(2.0)];
    let wide = wide.iter().map(|nan| format!("{:x}", nan.to_bits()));
    wide.chain(narrow.iter().map(|nan| format!("{:x}", nan.to_bits()))).collect::<Vec<_>>().join(" ")
}

#[target_feature(enable = "relaxed-simd")]
fn relaxed() -> String {
    use std::{arch::wasm32::*, hint::black_box as it};
    let bytes = i8x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    // Indexes that are out of range: zero, or wrapped, as the machine likes.
    let swizzled =
        i8x16_relaxed_swizzle(it(bytes), it(i8x16(16, 17, 31, 32, 64, 127, -1, -128, 0, 1, 2, 3, -113, -16, 20, 30)));
    // With one rounding or with two.
    let (a, b, c) = (f32x4_splat(it(1.000_000_1)), f32x4_splat(it(1.000_000_1)), f32x4_splat(it(-1.000_000_2)));
    let fused = f32x4_relaxed_madd(a, b, c);
    // Out of range: the smallest or the largest number.
    let truncated = i32x4_relaxed_trunc_f32x4(it(f32x4(3e9, -3e9, f32::NAN, 1.5)));
    let least = f32x4_relaxed_min(it(f32x4(f32::NAN, 0.0, -0.0, 1.0)), it(f32x4(1.0, -0.0, 0.0, f32::NAN)));
    let chosen = i8x16_relaxed_laneselect(it(bytes), it(i8x16_splat(-1)), it(i8x16_splat(0x5a)));
    let bits =
        |vector: v128| format!("{:016x}{:016x}", u64x2_extract_lane::<1>(vector), u64x2_extract_lane::<0>(vector));
    [swizzled, fused, truncated, least, chosen].map(bits).join(" ")
}

fn identity(file: &Descriptor) -> String {
    let hash = file.metadata_hash().unwrap();
    format!("{:016x}{:016x}", hash.lower, hash.upper)
}

fn find(path: &str) -> (Descriptor, String) {
    let roots = preopens::get_directories();
    let (root, at) = roots.into_iter().find(|(_, at)| path.starts_with(at.as_str())).expect("a mount");
    let name = path[at.len()..].trim_start_matches('/');
    (root, if name.is_empty() { ".".into() } else { name.to_owned() })
}

fn open(path: &str) -> Descriptor {
    let (root, name) = find(path);
    root.open_at(PathFlags::empty(), &name, OpenFlags::empty(), DescriptorFlags::READ).expect("it is there")
}

fn create(path: &str) -> Descriptor {
    let (root, name) = find(path);
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    root.open_at(PathFlags::empty(), &name, OpenFlags::CREATE, flags).expect("it can be made")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
