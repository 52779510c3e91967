#!/usr/bin/env bash
# Measures the service, its peers and its stores; passes arguments to bench/bench.py (--help lists them).
# `scripts/bench.sh anatomy`: what one request waits for, call by call (bench/anatomy.py);
# `scripts/bench.sh instructions`: how many instructions the host executes for one request (bench/instructions.py);
# `scripts/bench.sh calls`: which calls the component makes to the host for one request (bench/calls.py);
# `scripts/bench.sh memory`: how much memory the host uses with many clients (bench/memory.py);
# `scripts/bench.sh stream`: orders through the stream, compared with HTTP (bench/stream.py);
# `scripts/bench.sh partitions`: orders in one table and in partitions by client (bench/partitions.py);
# `scripts/bench.sh size`: what an order costs in bytes and processor time, and what a rate of orders needs (bench/size.py);
# `scripts/bench.sh slow`: how clients that stall or read slowly affect the others (bench/slow.py).
# It has its own stores in .local/bench, durable as in production, and stops them at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh

fail() { echo "bench: $*" >&2; exit 1; }

program=bench/bench.py
case ${1:-} in
    anatomy | calls | instructions | memory | partitions | size | slow | stream) program=bench/$1.py; shift ;;
esac
for argument in "$@"; do
    case $argument in -h | --help) exec python3 "$program" --help ;; esac
done
command -v python3 >/dev/null || fail "python3 is missing"

export ORDER_LOCAL_DIR=$PWD/.local/bench
export REDIS_PORT=$((${REDIS_PORT:-16379} + 3)) PG_PORT=$((${PG_PORT:-15432} + 3))
forget=$(scripts/services.sh own)
eval "$forget"
unset REDIS_URL DATABASE_URL PG_SERVICE_PASSWORD

scripts/runtime.sh name >/dev/null
command -v wrk >/dev/null || scripts/lib/install.sh wrk || fail "wrk is missing: install it"
command -v redis-benchmark >/dev/null || scripts/lib/install.sh redis-tools || fail "redis-benchmark is missing: install redis-tools"
if [ "$program" = bench/instructions.py ] || [ "$program" = bench/calls.py ]; then
    # Spin's own threads would be counted too.
    [ "${RUNTIME:-bundled}" = bundled ] || fail "instructions and calls are counted on the bundled host alone"
    export RUNTIME=bundled
    command -v valgrind >/dev/null || scripts/lib/install.sh valgrind || fail "valgrind is missing: install it"
fi
peer() { cargo build --manifest-path bench/Cargo.toml --target-dir target/bench -p "$@"; }
case $program in
    bench/bench.py | bench/instructions.py) peer floor --target wasm32-wasip2 --profile component ;;
esac
if [ "$program" = bench/bench.py ]; then
    peer plain --target wasm32-wasip2 --profile component
    peer native --release
fi
scripts/runtime.sh build

scripts/services.sh migrate
[ ! -e "$ORDER_LOCAL_DIR/compose" ] || fail "the stores run in containers; install redis-server and postgresql, whose processes can be read"
trap 'scripts/services.sh down' EXIT
trap 'exit 130' INT TERM
exports=$(scripts/services.sh env)
eval "$exports"
# Its programs are in the server's folder: Debian keeps that out of the PATH.
PGBENCH=$(command -v pgbench || find /usr/lib/postgresql -path '*/bin/pgbench' | sort -V | tail -n 1)
export PGBENCH
PYTHONDONTWRITEBYTECODE=1 python3 "$program" "$@"
