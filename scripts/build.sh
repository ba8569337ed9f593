#!/usr/bin/env bash
# Builds the daemon and the guests: build.sh [guests]. With `guests`, only those: tests leave the daemon, and building it
# without them would compile much of it once more, with other features.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "${1:-}" = guests ] || cargo build --workspace --locked
cargo build --locked --profile guest --target wasm32-wasip2 -p repo-auditor -p palisade-test-guests -p palisade-test-tool \
    -p palisade-test-fetch -p support-desk -p ticket-read -p ticket-append -p customer-delete -p issue-triage
