#!/usr/bin/env bash
# Tests the pages in headless Chromium, against its own service (RUNTIME=spin: on Spin), and draws the diagrams of the
# Markdown pages; pictures go to target/browser/.
# BASE_URL=http://... tests a running service; CHROMIUM=... chooses another Chromium.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh
BASE_URL=${BASE_URL:-}
export BASE_URL=${BASE_URL%/}

fail() { echo "browser: $*" >&2; exit 1; }

find_chromium() {
    local name
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" && return
    done
    return 1
}

if [ -z "${CHROMIUM:-}" ]; then
    CHROMIUM=$(find_chromium) || { scripts/lib/install.sh chromium fonts-liberation || true; CHROMIUM=$(find_chromium); } ||
        fail "Chromium is missing; install it (Debian: apt-get install chromium) or set CHROMIUM"
    export CHROMIUM
fi
scripts/lib/npm.sh
[ -n "$BASE_URL" ] || exec scripts/lib/with-service.sh "$PWD/scripts/browser.sh"
mkdir -p target/browser
node --test tests/browser/*.test.mjs
