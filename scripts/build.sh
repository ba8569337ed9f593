#!/usr/bin/env bash
# Builds the daemon and the guests, as the tests do.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --workspace --locked
cargo build --locked --profile guest --target wasm32-wasip2 -p repo-auditor -p palisade-test-guests -p palisade-test-tool \
    -p support-desk -p ticket-read -p ticket-append -p customer-delete
