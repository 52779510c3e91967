#!/usr/bin/env bash
# What serves the component: a Spin 4 on the PATH, or the bundled host. RUNTIME=spin or RUNTIME=bundled chooses.
#   scripts/runtime.sh name                     says which, and fails where it is not to be had
#   scripts/runtime.sh build                    builds the component, and the bundled host where that serves
#   scripts/runtime.sh serve MANIFEST [ADDRESS] serves in the foreground; intake/spin.toml listens on no address
# Without RUNTIME it is Spin where there is one, else the bundled host.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "runtime: $*" >&2; exit 1; }

spin_version() { command -v spin >/dev/null && [[ $(spin --version 2>/dev/null) =~ ^(spin\ 4\.[0-9.]+) ]] && echo "${BASH_REMATCH[1]}"; }

name() {
    case ${RUNTIME:-} in
        bundled) echo "the bundled host" ;;
        spin) spin_version || fail "RUNTIME=spin, but there is no Spin 4 on the PATH; install it from https://spinframework.dev/install" ;;
        '') spin_version || echo "the bundled host" ;;
        *) fail "RUNTIME is '$RUNTIME', not bundled or spin" ;;
    esac
}

build() {
    scripts/toolchain.sh
    cargo build --target wasm32-wasip2 --release
    [ "$runtime" != "the bundled host" ] || cargo build -p order-host --profile host
}

runtime=$(name)
case ${1:-} in
    name) echo "$runtime" ;;
    build) build ;;
    serve)
        [ $# -eq 2 ] || [ $# -eq 3 ] || fail "usage: scripts/runtime.sh serve MANIFEST [ADDRESS]"
        if [ "$runtime" = "the bundled host" ]; then exec target/host/order-host --manifest "$2" ${3:+--listen "$3"}; fi
        exec spin up --from "$2" ${3:+--listen "$3"}
        ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0" >&2; exit 2 ;;
esac
