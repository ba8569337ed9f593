#!/usr/bin/env bash
# Builds the fuzz targets and runs each for FUZZ_SECONDS (0: only what is kept already), FUZZ_JOBS of them at a time, with
# the seed FUZZ_SEED or one of its own: fuzz.sh [TARGET …]. It fails if an input breaks a promise, and keeps that input.
set -euo pipefail
cd "$(dirname "$0")/.."
export seconds=${FUZZ_SECONDS:-60}
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(basename -s .rs fuzz/fuzz_targets/*.rs)
if ! command -v "${CXX:-c++}" >/dev/null; then
    echo "error: libFuzzer is C++, and there is no '${CXX:-c++}': install g++ (apt-get install g++), or set CXX" >&2
    exit 1
fi

# Only ours is built anew, a little optimised and with counters; see fuzz/Cargo.toml and fuzz/counters.sh.
RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/counters.sh CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_INCREMENTAL=0 \
    cargo build --locked --workspace --features palisade-fuzz/targets "${targets[@]/#/--example=}"

programs=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug/examples
export programs
run() {
    target=$1 kept=fuzz/artifacts/$1 log=fuzz/artifacts/$1.log words=fuzz/words/$1
    mkdir -p "fuzz/corpus/$target" "$kept"
    options=(-timeout=10 -rss_limit_mb=2048 -artifact_prefix="$kept/")
    if [ "$seconds" = 0 ]; then options+=(-runs=0); else options+=(-max_total_time="$seconds"); fi
    [ -z "${FUZZ_SEED:-}" ] || options+=(-seed="$FUZZ_SEED")
    [ ! -f "$words" ] || options+=(-dict="$words")
    # The first folder grows.
    if "$programs/$target" "${options[@]}" "fuzz/corpus/$target" "fuzz/seeds/$target" 2>"$log"; then
        echo "$target: $(grep '^Done' "$log" || tail -n 1 "$log")"
    else
        { grep -A 3 "panicked at" "$log" || tail -n 5 "$log"; } >&2
        echo "error: '$target' failed; the whole story is in $log, the input in $kept" >&2
        return 1
    fi
}
export -f run
printf '%s\n' "${targets[@]}" | xargs -P "${FUZZ_JOBS:-$(nproc)}" -I{} bash -c 'run {}'
