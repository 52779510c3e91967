#!/usr/bin/env bash
# Installs what package-lock.json names, unless it is installed already.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/start.sh

fail() { echo "npm: $*" >&2; exit 1; }

command -v npm >/dev/null || fail "npm is missing; install Node.js 20 or newer"
node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || fail "Node.js $(node --version) is too old; install 20 or newer"
# npm writes this file at the end of each install.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    echo "npm: npm ci"
    npm ci --no-audit --no-fund --loglevel=error
fi
