#!/usr/bin/env bash
# Lints docs/openapi.yaml, generates Python models and a typed client in TypeScript from it, and checks what generators for
# other languages need. Then the typed client places an order at its own service (RUNTIME=spin: on Spin), and schemathesis
# sends requests that it generates from the file.
# BASE_URL=http://... tests a running service. Further arguments go to schemathesis.
# Needs Node.js 20 and Python 3.11, or newer, with venv; installs the tools from npm, and from PyPI into .local/contract/.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh
BASE_URL=${BASE_URL:-}
export BASE_URL=${BASE_URL%/}
tools=.local/contract
least_cases=2000

fail() { echo "contract: $*" >&2; exit 1; }

scripts/lib/npm.sh
scripts/lib/venv.sh "$tools/venv" tests/contract/requirements.txt

export PYTHONDONTWRITEBYTECODE=1
"$tools/venv/bin/openapi-spec-validator" docs/openapi.yaml
mkdir -p "$tools/models"
PYTHONWARNINGS=ignore "$tools/venv/bin/datamodel-codegen" --input docs/openapi.yaml --input-file-type openapi --formatters builtin \
    --use-annotated --output-model-type pydantic_v2.BaseModel --output "$tools/models/models.py"
PYTHONPATH=$tools/models "$tools/venv/bin/python" tests/contract/portable.py docs/openapi.yaml
# The command of docs/idempotency.md.
npx openapi-typescript docs/openapi.yaml --output "$tools/orders.d.ts" >/dev/null
npx tsc --strict --target es2022 --module nodenext --outDir "$tools/typed" tests/contract/typed.mts
[ -n "$BASE_URL" ] || exec scripts/lib/with-service.sh "$PWD/scripts/contract.sh" "$@"

node "$tools/typed/typed.mjs"
export PYTHONPATH=tests/contract HYPOTHESIS_STORAGE_DIRECTORY=$tools/hypothesis
"$tools/venv/bin/schemathesis" --config-file tests/contract/schemathesis.toml \
    run docs/openapi.yaml --url "$BASE_URL" --checks all --no-color "$@" | tee "$tools/log"
cases=$(sed -n 's/^ *\([0-9]*\) generated.*/\1/p' "$tools/log")
[ "${cases:-0}" -ge "$least_cases" ] || fail "only ${cases:-0} requests were generated, at least $least_cases are needed"
echo "contract: $cases requests, no failure"
