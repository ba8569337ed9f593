#!/usr/bin/env bash
# Builds the fuzz targets and runs each for FUZZ_SECONDS (0: only what is kept already): fuzz.sh [TARGET …]. It fails if
# an input breaks a promise, and keeps that input.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(basename -s .rs fuzz/fuzz_targets/*.rs)
host=$(rustc -vV | sed -n 's/^host: //p')

# What cargo-fuzz sets without a sanitizer. Every toolchain takes it. As the build names its target, build scripts and
# macros are built without it.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0"
cargo build --locked --manifest-path fuzz/Cargo.toml --target "$host" "${targets[@]/#/--bin=}"

programs=${CARGO_TARGET_DIR:-fuzz/target}/$host/debug
length=(-max_total_time="$seconds")
[ "$seconds" != 0 ] || length=(-runs=0)
failed=0
for target in "${targets[@]}"; do
    kept=fuzz/artifacts/$target log=fuzz/artifacts/$target.log words=fuzz/words/$target
    mkdir -p "fuzz/corpus/$target" "$kept"
    options=("${length[@]}" -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$kept/")
    [ ! -f "$words" ] || options+=(-dict="$words")
    echo "$target: $seconds s"
    # The first folder grows.
    if "$programs/$target" "${options[@]}" "fuzz/corpus/$target" "fuzz/seeds/$target" 2>"$log"; then
        grep '^Done' "$log" || tail -n 1 "$log"
    else
        failed=1
        grep -A 3 "panicked at" "$log" || tail -n 5 "$log"
        echo "error: '$target' failed; the whole story is in $log, the input in $kept" >&2
    fi
done
exit "$failed"
