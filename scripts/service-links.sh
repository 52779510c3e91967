#!/usr/bin/env bash
# The environment that Kubernetes gives the service's pod for the Services of deploy/, as the shim interprets it:
#   scripts/service-links.sh env               prints it, one NAME=value per line
#   scripts/service-links.sh run COMMAND ...   runs a command in it
# OVERLAY names an overlay other than shim. The shim replaces each variable of spin.toml whose upper-case name is in the
# container's environment, even where SPIN_VARIABLE_... is set; such a line begins with SPIN_VARIABLE_ here.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh

fail() { echo "service-links: $*" >&2; exit 1; }

links=$(scripts/verify-deploy.sh links "${OVERLAY:-shim}")
mapfile -t links <<<"$links"
case ${1:-} in
    env) printf '%s\n' "${links[@]}" ;;
    run)
        shift
        [ $# -gt 0 ] || fail "usage: scripts/service-links.sh run COMMAND ..."
        exec env "${links[@]}" "$@"
        ;;
    *) fail "usage: scripts/service-links.sh env, or run COMMAND ..." ;;
esac
