#!/usr/bin/env bash
# Storms against stores of their own, which are killed on the way: in .local/storm, stopped at the end.
# STORM_SEED, STORM_SECONDS and CUTS choose the run. Arguments go to the test binary.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "storm: $*" >&2; exit 1; }

export LOCAL_DIR=$PWD/.local/storm REDIS_PORT=${STORM_REDIS_PORT:-16380} PG_PORT=${STORM_PG_PORT:-15433}
unset REDIS_URL DATABASE_URL PG_SERVICE_PASSWORD
scripts/services.sh migrate
[ ! -e "$LOCAL_DIR/compose" ] || fail "the stores run in containers; install redis-server and postgresql, whose processes can be killed"
trap 'scripts/services.sh down' EXIT
trap 'exit 130' INT TERM
exports=$(scripts/services.sh env)
eval "$exports"
superuser_password=$(sed -n 's/^PG_SUPERUSER_PASSWORD=//p' "$LOCAL_DIR/passwords")
export PG_SUPERUSER_URL=postgres://postgres:$superuser_password@127.0.0.1:$PG_PORT/orders

# One after another: each kills the stores that the other would use.
cargo test --test storm -- --nocapture --test-threads=1 "$@"
