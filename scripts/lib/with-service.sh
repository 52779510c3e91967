#!/usr/bin/env bash
# Runs a command against its own service, on a free port and with this checkout's stores, with BASE_URL set.
# The bundled host serves it, or Spin with RUNTIME=spin. If BASE_URL is already set, the command runs against that service.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/start.sh

fail() { echo "with-service: $*" >&2; exit 1; }

[ $# -gt 0 ] || fail "usage: scripts/lib/with-service.sh command [argument...]"
[ -z "${BASE_URL:-}" ] || exec "$@"

export RUNTIME=${RUNTIME:-bundled}
forget=$(scripts/services.sh own)
eval "$forget"
scripts/services.sh migrate
exports=$(scripts/services.sh env)
eval "$exports"
scripts/runtime.sh build

log=$(mktemp)
# Its own process group: `spin up` is two processes.
set -m
scripts/runtime.sh serve spin.toml 127.0.0.1:0 >"$log" 2>&1 &
host=$!
set +m
stop_host() { kill -- "-$host" 2>/dev/null || true; wait "$host" 2>/dev/null || true; rm -f "$log"; }
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
echo "with-service: $(scripts/runtime.sh name) serves on $url"
if ! BASE_URL=$url "$@"; then
    echo "with-service: the host's last lines:" >&2
    tail -n 20 "$log" >&2
    exit 1
fi
