#!/usr/bin/env bash
# Runs the Postman collection against a bundled host of its own, on a free port, as against the cluster: at http://arch.homework.
# BASE_URL=http://... runs it against a service that is already there. Further arguments go to newman.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "newman: $*" >&2; exit 1; }

command -v npm >/dev/null || fail "npm is missing; install Node.js"
# npm writes this file at the end of each install.
if [ ! -x node_modules/.bin/newman ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    echo "newman: npm ci"
    npm ci --no-audit --no-fund --loglevel=error
fi

run_newman() { node_modules/.bin/newman run postman/order.postman_collection.json "$@"; }

if [ -n "${BASE_URL:-}" ]; then
    run_newman -e postman/local.postman_environment.json --env-var "baseUrl=$BASE_URL" "$@"
    exit
fi

scripts/toolchain.sh
scripts/services.sh migrate
exports=$(scripts/services.sh env)
eval "$exports"
cargo build --target wasm32-wasip2 --release
cargo build -p order-host --profile host

log=$(mktemp)
target/host/order-host --listen 127.0.0.1:0 --manifest spin.toml >"$log" 2>&1 &
host=$!
stop_host() { kill "$host" 2>/dev/null || true; wait "$host" 2>/dev/null || true; rm -f "$log"; }
trap stop_host EXIT
trap 'exit 130' INT TERM

url=
for _ in $(seq 300); do
    url=$(sed -n 's|.*Serving \(http://[0-9.:]*\).*|\1|p' "$log" | head -n 1)
    [ -z "$url" ] || break
    kill -0 "$host" 2>/dev/null || break
    sleep 0.1
done
[ -n "$url" ] || { tail -n 20 "$log" >&2; fail "the host did not start; its last lines are above"; }
echo "newman: against $url, called http://arch.homework"
export ARCH_HOMEWORK=${url#http://} NODE_OPTIONS='--require ./postman/resolve.cjs'
if ! run_newman -e postman/cluster.postman_environment.json "$@"; then
    echo "newman: the host's last lines:" >&2
    tail -n 20 "$log" >&2
    exit 1
fi
