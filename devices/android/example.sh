#!/usr/bin/env bash
# Builds the example with a bundle in it, and installs it on the connected phone.
# usage: example.sh BUNDLE      (exported with --no-users --titles; needs Android's SDK, a JDK 17 and Gradle 8.9 or newer)
set -euo pipefail
bundle=$(realpath "${1:?usage: example.sh BUNDLE}")
here=$(cd "$(dirname "$0")" && pwd)

fail() {
    printf '%s\n' "$1" >&2
    exit 2
}

[ -f "$bundle/manifest.json" ] || fail "$bundle is no bundle; create one: edgerec export RUN --no-users --titles --out BUNDLE"
[ -d "${ANDROID_HOME:-}" ] || fail "ANDROID_HOME names no folder; install Android's SDK and set ANDROID_HOME to its folder"
type -P gradle > /dev/null || fail "there is no gradle on the PATH; install 8.9 or newer: https://gradle.org/install"

assets=$here/example/src/main/assets/films.bundle
rm -rf "$assets"
mkdir -p "$assets"
cp "$bundle"/* "$assets"
cd "$here"
exec gradle :example:installDebug
