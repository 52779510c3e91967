#!/usr/bin/env bash
# Chooses what serves the component: the Spin on the PATH, or the bundled host. RUNTIME=spin or RUNTIME=bundled chooses.
#   scripts/runtime.sh name                     prints which one; fails if it is not available
#   scripts/runtime.sh build                    builds the component, and the bundled host if that serves it
#   scripts/runtime.sh serve MANIFEST [ADDRESS] serves in the foreground; intake/spin.toml listens on no address
# Without RUNTIME it is Spin if a new enough one is on the PATH, otherwise the bundled host.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh

fail() { echo "runtime: $*" >&2; exit 1; }

. ./versions.env
# The oldest that runs the component: older ones have no final WASI 0.3.
oldest=${SPIN%.*}
update="install Spin $oldest or newer: curl -fsSL https://spinframework.dev/downloads/install.sh | bash"

# Prints `spin 4.1.0`, or on stderr why the Spin on the PATH is not used, and the consequence.
spin_version() {
    command -v spin >/dev/null || return 1
    if ! [[ $(spin --version 2>/dev/null) =~ ^spin\ ([0-9]+)\.([0-9]+)[0-9a-z.-]* ]]; then
        echo "runtime: the spin on the PATH prints no version${1:-}; $update" >&2
        return 1
    fi
    local version=${BASH_REMATCH[0]} major=${BASH_REMATCH[1]} minor=${BASH_REMATCH[2]}
    if [ "$major" -lt "${oldest%.*}" ] || { [ "$major" -eq "${oldest%.*}" ] && [ "$minor" -lt "${oldest#*.}" ]; }; then
        echo "runtime: $version is too old for this component${1:-}; $update" >&2
        return 1
    fi
    echo "$version"
}

name() {
    case ${RUNTIME:-} in
        bundled) echo "the bundled host" ;;
        spin)
            command -v spin >/dev/null || fail "RUNTIME=spin, but there is no spin on the PATH; $update"
            spin_version || exit 1
            ;;
        '') spin_version ", so the bundled host serves it" || echo "the bundled host" ;;
        *) fail "RUNTIME is '$RUNTIME', not bundled or spin" ;;
    esac
}

build() {
    scripts/lib/toolchain.sh
    cargo build --target wasm32-wasip2 --release
    [ "$runtime" = "the bundled host" ] || return 0
    if [ ! -x target/host/order-host ]; then
        echo "runtime: building the bundled host, once; this takes three to five minutes on two cores. With Spin on the PATH it is not needed: $update" >&2
    fi
    cargo build -p order-host --profile host
}

# Only `name` explains why a Spin is not used; the other commands do not repeat it.
if [ "${1:-}" = name ]; then runtime=$(name); else runtime=$(name 2>/dev/null) || runtime=$(name); fi
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
