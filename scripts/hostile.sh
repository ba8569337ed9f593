#!/usr/bin/env bash
# Runs the hostile tests, on the loopback network and in a network namespace and with each wall away, adds up what they
# say, and if every attack failed everywhere, writes that into docs/hostile-tests.md.
set -euo pipefail
cd "$(dirname "$0")/.."
log=${CARGO_TARGET_DIR:-target}/hostile.log
page=docs/hostile-tests.md
mkdir -p "$(dirname "$log")"
failed=0
cargo test --locked -p palisade --test suite -- hostile:: --nocapture 2>&1 | tee "$log" || failed=1

# counts COLUMN...: a table of the classes that were run in any of these worlds or settings.
counts() {
    printf '| class |%s\n|---|%s\n' "$(printf ' %s |' "$@")" "$(printf -- '---|%.0s' "$@")"
    awk -v names="$*" '
        BEGIN { columns = split(names, column, " "); for (i in column) wanted[column[i]] }
        match($0, /hostile [a-z-]+ [A-Z0-9-]+ [0-9]+\/[0-9]+/) {
            split(substr($0, RSTART, RLENGTH), word, " ")
            if (!(word[2] in wanted)) next
            split(word[4], count, "/")
            classes[word[3]]
            held[word[3], word[2]] += count[1]
            rows[word[3], word[2]] += count[2]
        }
        END {
            for (class in classes) {
                line = "| " class " |"
                for (i = 1; i <= columns; i++) {
                    at = class SUBSEP column[i]
                    line = line " " (rows[at] ? held[at] "/" rows[at] : "–") " |"
                }
                print line
            }
        }' "$log" | sort
}

networks=$(counts loopback namespace)
settings=$(counts both-walls wasm-wall wasm-wall-own-resolver os-wall)
printf '\n%s\n\n%s\n' "$networks" "$settings"
# Without a namespace the first table would not be whole. What attacks no network is not run in one.
if [ "$failed" = 0 ] && ! grep -vE '^\| (RES|MOD|RPC|FRAMES)' <<<"$networks" | grep -q "–"; then
    written=$(awk -v networks="$networks" -v settings="$settings" '
        /^<!-- networks -->$/ { print; print networks; skip = 1 }
        /^<!-- settings -->$/ { print; print settings; skip = 1 }
        /^<!-- end -->$/ { skip = 0 }
        !skip && !/^<!-- (networks|settings) -->$/' "$page")
    printf '%s\n' "$written" >"$page"
fi
exit "$failed"
