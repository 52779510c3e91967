#!/usr/bin/env bash
# Builds the component and pushes it as an OCI artifact: IMAGE=registry/name:tag scripts/image.sh
# MANIFEST=intake/spin.toml builds the image of the intake: the same component in another application.
# Further arguments go to `spin registry push`; --insecure is for a registry without TLS.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh

fail() { echo "image: $*" >&2; exit 1; }

image=${IMAGE:-}
manifest=${MANIFEST:-spin.toml}
case $manifest in
    spin.toml) name=order ;;
    intake/spin.toml) name=order-intake ;;
    *) fail "MANIFEST is '$manifest', not spin.toml or intake/spin.toml" ;;
esac
[ -n "$image" ] || fail "IMAGE is not set: make image IMAGE=registry/name:tag"
# With a moving tag, two replicas could run two versions.
[[ $image =~ ^[^[:space:]]+/[^[:space:]/:]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]] || fail "IMAGE is '$image', not registry/name:tag"
[[ $image != *:latest ]] || fail "give IMAGE a tag of its own, not latest"
RUNTIME=spin scripts/runtime.sh name >/dev/null || fail "only Spin can push the application"

scripts/lib/toolchain.sh
cargo build --target wasm32-wasip2 --release
spin registry push --from "$manifest" "$@" "$image"
cat <<TEXT
image: pushed $image. In deploy/image/kustomization.yaml the entry is now:
images:
  - name: $name
    newName: ${image%:*}
    newTag: ${image##*:}
TEXT
