#!/usr/bin/env bash
# Builds with optimisation and compares: a table on standard output, and target/bench.json.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --locked --profile guest --target wasm32-wasip2 -p palisade-test-guests -p palisade-test-tool \
  --features palisade-test-guests/programs
cargo build --locked --release --workspace
exec "${CARGO_TARGET_DIR:-target}/release/palisade-bench"
