#!/usr/bin/env bash
# Builds the component and serves it on 127.0.0.1:$PORT, with Spin 4 where there is one, else with the bundled host.
# RUNTIME=spin or RUNTIME=bundled chooses.
set -euo pipefail
cd "$(dirname "$0")/.."

runtime=$(scripts/runtime.sh name)
scripts/services.sh migrate
exports=$(scripts/services.sh env)
eval "$exports"
echo "run: building the component, for $runtime"
scripts/runtime.sh build
exec scripts/runtime.sh serve spin.toml "127.0.0.1:${PORT:-3000}"
