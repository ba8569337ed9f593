#!/usr/bin/env bash
# Runs the hostile tests, on the loopback network and in a network namespace, adds up what they say, and if every attack
# failed in both, writes that into docs/hostile-tests.md.
set -euo pipefail
cd "$(dirname "$0")/.."
log=${CARGO_TARGET_DIR:-target}/hostile.log
page=docs/hostile-tests.md
mkdir -p "$(dirname "$log")"
failed=0
cargo test --locked -p palisade --test suite -- hostile:: --nocapture 2>&1 | tee "$log" || failed=1

counts=$(awk '
    match($0, /hostile (loopback|namespace) [A-Z0-9-]+ [0-9]+\/[0-9]+/) {
        split(substr($0, RSTART, RLENGTH), word, " ")
        split(word[4], count, "/")
        classes[word[3]]
        held[word[3], word[2]] += count[1]
        rows[word[3], word[2]] += count[2]
    }
    function cell(class, world) {
        # What attacks no network runs once.
        if (world == "namespace" && class ~ /^(RES|MOD|RPC|FRAMES)/) return "–"
        return rows[class, world] ? held[class, world] "/" rows[class, world] : "not run"
    }
    END {
        for (class in classes)
            print "| " class " | " cell(class, "loopback") " | " cell(class, "namespace") " |"
    }' "$log" | sort)
printf '\n| class | loopback | namespace |\n|---|---|---|\n%s\n' "$counts"
if [ "$failed" = 0 ] && ! grep -q "not run" <<<"$counts"; then
    written=$(awk -v counts="$counts" '
        /^<!-- counts -->$/ { print; print "| class | loopback | namespace |\n|---|---|---|\n" counts; skip = 1 }
        /^<!-- end -->$/ { skip = 0 }
        !skip && !/^<!-- counts -->$/' "$page")
    printf '%s\n' "$written" >"$page"
fi
exit "$failed"
