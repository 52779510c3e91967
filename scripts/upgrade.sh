#!/usr/bin/env bash
# Upgrades a service under load: builds the component of an earlier commit; clients then place orders while it migrates the
# database and moves two hosts to this checkout's component.
#   scripts/upgrade.sh COMMIT    this checkout must have that commit's migrations; UPGRADE_SECONDS is the time between steps
set -euo pipefail
cd "$(dirname "$0")/.."
usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0"; }
case ${1:-} in
    -h | --help) usage; exit ;;
    '' | -*) usage >&2; exit 2 ;;
esac
git rev-parse --quiet --verify "$1^{commit}" >/dev/null || { echo "upgrade: there is no commit $1" >&2; exit 1; }

folder=$PWD/target/upgrade
rm -rf "$folder/src"
mkdir -p "$folder/src"
git archive "$1" | tar -x -C "$folder/src"
echo "upgrade: builds the component of $(git log -1 --format='%h, %cs' "$1")"
(cd "$folder/src" && cargo build --quiet --target wasm32-wasip2 --release --target-dir "$folder/built")
scripts/runtime.sh build
export OLD_WASM=$folder/built/wasm32-wasip2/release/order.wasm OLD_MIGRATIONS=$folder/src/migrations
exec scripts/storm.sh upgrade:: --ignored
