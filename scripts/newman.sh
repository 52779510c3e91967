#!/usr/bin/env bash
# Runs the Postman collection against its own service (RUNTIME=spin: on Spin), on a free port, under the name http://arch.homework.
# BASE_URL=http://... runs it against a running service. Further arguments go to newman.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh
BASE_URL=${BASE_URL:-}
export BASE_URL=${BASE_URL%/}

scripts/lib/npm.sh
newman=(node_modules/.bin/newman run postman/order.postman_collection.json)
if [ -n "$BASE_URL" ]; then
    exec "${newman[@]}" -e postman/local.postman_environment.json --env-var "baseUrl=$BASE_URL" "$@"
fi
# A proxy does not know the name either.
export no_proxy=arch.homework,$no_proxy NO_PROXY=arch.homework,$no_proxy
# shellcheck disable=SC2016
exec scripts/lib/with-service.sh \
    bash -c 'ARCH_HOMEWORK=${BASE_URL#http://} NODE_OPTIONS="--require ./postman/resolve.cjs" exec "$@"' newman \
    "${newman[@]}" -e postman/cluster.postman_environment.json "$@"
