#!/usr/bin/env bash
# Tests examples/: the clients in three languages, the consumer of the feed and the producer of commands, with its own service
# and intake (RUNTIME=spin: on Spin). Each client places 100 orders through faults; ORDERS=1000 chooses another number.
# BASE_URL=http://... tests a running service; it needs REDIS_URL, the Redis of that service's intake, DATABASE_URL, where
# the clients' orders are counted, and TOKEN if the service has clients. Further arguments go to unittest.
# Needs Node.js 20 and Python 3.11, or newer, with venv, and redis-server: some tests of the producer start their own Redis.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh
BASE_URL=${BASE_URL:-}
export BASE_URL=${BASE_URL%/}

fail() { echo "examples: $*" >&2; exit 1; }

scripts/lib/venv.sh .local/examples/venv examples/requirements.txt
cargo build --example drive
if [ -z "$BASE_URL" ]; then
    # This run has its own client, so its feed has only the orders of the tests.
    made=$(scripts/client.sh "examples-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')")
    TOKEN=$(sed -n 2p <<<"$made" | tr -d ' ') SPIN_VARIABLE_CLIENTS=$(sed -n 4p <<<"$made" | tr -d ' ')
    export TOKEN SPIN_VARIABLE_CLIENTS
    exec scripts/lib/with-service.sh "$PWD/scripts/examples.sh" --with-intake "$@"
fi
[ -n "${REDIS_URL:-}" ] || fail "set REDIS_URL, too: where the intake of $BASE_URL listens"
[ -n "${DATABASE_URL:-}" ] || fail "set DATABASE_URL, too: where $BASE_URL keeps its orders"
if [ "${1:-}" = --with-intake ]; then
    shift
    # Its own process group: `spin up` is two processes.
    set -m
    scripts/runtime.sh serve intake/spin.toml >target/intake.log 2>&1 &
    intake=$!
    set +m
    trap 'kill -- "-$intake" 2>/dev/null || true' EXIT
    trap 'exit 130' INT TERM
fi
# The path is for the processes that a test starts.
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tests/examples
.local/examples/venv/bin/python -m unittest discover --start-directory tests/examples --pattern '*_test.py' "$@" ||
    { [ -z "${intake:-}" ] || tail -n 20 target/intake.log >&2; exit 1; }
