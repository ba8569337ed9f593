#!/usr/bin/env bash
# Runs one example's story: story.sh NAME. It fails if a claim of the story does not hold.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?which example? one of: $(ls examples)}
if [ ! -f "examples/$name/story.py" ]; then
    echo "error: there is no example '$name'; there are: $(cd examples && ls -d -- */ | tr -d / | xargs)" >&2
    exit 1
fi
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export PALISADE=${PALISADE:-$target/debug/palisade} GUESTS=${GUESTS:-$target/wasm32-wasip2/guest}
exec python3 "examples/$name/story.py"
