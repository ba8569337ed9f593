#!/usr/bin/env bash
# Sees to it that guests can be built: the rustc in use has a standard library for wasm32-wasip2.
set -euo pipefail
target=wasm32-wasip2

has_target() {
    local libdir
    libdir=$(rustc --print target-libdir --target "$target" 2>/dev/null) && ls "$libdir"/libstd-*.rlib >/dev/null 2>&1
}

# Guests built with a sysroot of their own name it here (docs/guest-target.md).
[ -n "${CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS:-}" ] && exit 0
has_target && exit 0
if ! command -v rustup >/dev/null; then
    echo "error: this rustc has no $target, and there is no rustup to add it: see docs/guest-target.md" >&2
    exit 1
fi
echo "adding the Rust target $target: rustup target add $target" >&2
rustup target add "$target" >&2 || true
if ! has_target; then
    echo "error: rustup could not add $target. Check the network and run 'rustup target add $target'," >&2
    echo "       or build it by hand: docs/guest-target.md" >&2
    exit 1
fi
