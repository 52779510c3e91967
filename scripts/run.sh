#!/usr/bin/env bash
# Builds the component and serves it on 127.0.0.1:$PORT, with Spin if a new enough one is on the PATH, otherwise with the bundled host.
# RUNTIME=spin or RUNTIME=bundled chooses. It also runs the intake, which places orders from a stream in Redis.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh

runtime=$(scripts/runtime.sh name)
scripts/services.sh migrate
exports=$(scripts/services.sh env)
eval "$exports"
echo "run: building the component, for $runtime"
scripts/runtime.sh build

url=$REDIS_URL
# Passwords are not printed.
[[ $url != *@* ]] || url=\$REDIS_URL
cat <<TEXT
run: an order by the queue, and its result:
  redis-cli -u $url XADD orders:commands '*' key my-key-1 order '{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,"unitAmount":59900}]}' && redis-cli -u $url PUBLISH orders:doorbell ring
  redis-cli -u $url XREVRANGE orders:results + - COUNT 1
TEXT
# Both in the background: a signal interrupts `wait`, but not a command in the foreground.
# shellcheck disable=SC2046
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM
scripts/runtime.sh serve intake/spin.toml &
scripts/runtime.sh serve spin.toml "127.0.0.1:${PORT:-3000}" &
wait "$!"
