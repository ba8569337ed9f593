#!/usr/bin/env bash
# A compiler for scripts/fuzz.sh: what is fuzzed gets counters for libFuzzer, as cargo-fuzz sets them without a sanitizer;
# what it stands on is left as it is. Every toolchain takes these.
set -euo pipefail
case " $* " in
    *" --crate-name palisade "* | *" --crate-name palisade_fuzz "*)
        set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
            -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0
        ;;
esac
exec "$@"
