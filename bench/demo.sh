#!/usr/bin/env bash
# Train, export, measure and compare two recommenders on MovieLens-100K: one full, one under 64 KiB.
# usage: demo.sh FOLDER      (edgerec on the PATH; `make demo` does that)
set -euo pipefail
out=${1:?usage: demo.sh FOLDER}
mkdir -p "$out"

run() { # print a command, then run it
    printf '\n$ %s\n' "$*"
    "$@"
}

run edgerec train ml-100k --backbone ials --method dense --out "$out/dense" --overwrite
run edgerec export "$out/dense" --layout dense --titles --out "$out/dense.bundle"

run edgerec train ml-100k --backbone ials --method popularity --budget 64KiB --precision int8 \
    --out "$out/small" --overwrite
run edgerec export "$out/small" --layout mixed --titles --max-bytes 100KiB --out "$out/small.bundle"

run edgerec export "$out/small" --layout mixed --no-users --titles --out "$out/page.bundle"
run edgerec export "$out/dense" --layout dense --no-users --titles --out "$out/full-page.bundle"

run edgerec bench "$out/dense.bundle" "$out/small.bundle" --out "$out/bench.json"

printf '\nA catalogue of 1,682 films is small enough for any table to be fast. At a million items it is not:\n'
run python -m bench.experiments.scale --items 1000000 --rounds 3 --only 'dense fp32' --only 'mixed fp32' \
    --only 'mixed int8' --out "$out/scale.json"

run edgerec report "$out/bench.json" "$out/scale.json" "$out/small" --out "$out/report.html"
run edgerec recommend "$out/small.bundle" --user 42 --data ml-100k -k 10
run edgerec evaluate "$out/dense.bundle" "$out/small.bundle" --data ml-100k

printf '\nThe report: %s\n' "$(cd "$out" && pwd)/report.html"
edgerec=$(command -v edgerec)
printf 'Try it in a browser: %s devices setup browser && %s demo %s %s\n' "$edgerec" "$edgerec" \
    "$out/page.bundle" "$out/full-page.bundle"
