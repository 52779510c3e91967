#!/usr/bin/env bash
# Runs examples/producer.py, with the package it needs, against this checkout's Redis or the one of REDIS_URL.
# Further arguments go to it: --help lists them.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh

scripts/lib/venv.sh .local/examples/venv examples/requirements.txt
exports=$(scripts/services.sh env)
eval "$exports"
exec .local/examples/venv/bin/python examples/producer.py "$@"
