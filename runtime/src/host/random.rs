//! `random`: bytes that follow from the step's seed. Each interface has a stream of its own, so that what one gives says
//! nothing of the others.

use chacha20::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use wasmtime_wasi::WasiCtxBuilder;

use crate::step::FIXED;

/// The streams. Their numbers are part of what a seed means: changing one changes what every step sees.
const SECURE: u64 = 0;
const INSECURE: u64 = 1;
const INSECURE_SEED: u64 = 2;

/// Gives a step the streams of `seed`.
pub fn seed(wasi: &mut WasiCtxBuilder, seed: [u8; 32]) {
    let mut hash_seed = [0; 16];
    stream(seed, INSECURE_SEED).fill_bytes(&mut hash_seed);
    wasi.secure_random(stream(seed, SECURE))
        .insecure_random(stream(seed, INSECURE))
        .insecure_random_seed(u128::from_le_bytes(hash_seed))
        .max_random_size(FIXED.random_bytes);
}

fn stream(seed: [u8; 32], number: u64) -> ChaCha20Rng {
    let mut stream = ChaCha20Rng::from_seed(seed);
    stream.set_stream(number);
    stream
}
