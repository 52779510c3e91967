#!/usr/bin/env bash
# Runs storms against their own stores, which are killed during the run and deleted at the end.
# STORM_SEED, STORM_SECONDS, CUTS, RESTARTS, SILENCE_SECONDS, FREEZE_SECONDS and FAILOVERS set the run. Arguments go to the test binary.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh

fail() { echo "storm: $*" >&2; exit 1; }

forget=$(scripts/services.sh own)
eval "$forget"
export ORDER_LOCAL_DIR=$PWD/.local/storm
export REDIS_PORT=$((${REDIS_PORT:-16379} + 2)) PG_PORT=$((${PG_PORT:-15432} + 2))
unset REDIS_URL DATABASE_URL PG_SERVICE_PASSWORD "${!SPIN_VARIABLE_@}"
mkdir -p "$ORDER_LOCAL_DIR"
if command -v flock >/dev/null; then
    exec 8>"$PWD/.local/storm.lock"
    flock -n 8 || fail "another storm runs in this checkout"
fi
# For servers that a failover creates: the user who runs PostgreSQL must reach it, and may not be able to enter the checkout.
FAILOVER_DIR=$(mktemp -d /var/tmp/order-failover.XXXXXX)
export FAILOVER_DIR
trap 'scripts/services.sh clean 8>&-; rm -rf "$FAILOVER_DIR"' EXIT
trap 'exit 130' INT TERM
scripts/services.sh migrate 8>&-
[ ! -e "$ORDER_LOCAL_DIR/compose" ] || fail "install redis-server and postgresql: a storm kills their processes, which it cannot do in containers"
exports=$(scripts/services.sh env)
eval "$exports"

# A failure shows the history of the key; a backtrace after it would only push it out of sight.
export RUST_BACKTRACE=0
# One after another: each kills the stores that another would use.
cargo test --test storm -- --nocapture --test-threads=1 "$@" 8>&-
