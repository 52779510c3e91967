#!/usr/bin/env bash
# Makes a Python virtual environment with exactly what a requirements file names: scripts/lib/venv.sh FOLDER REQUIREMENTS
# An existing one that was made from the same file is kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/start.sh

fail() { echo "venv: $*" >&2; exit 1; }

[ $# -eq 2 ] || fail "usage: scripts/lib/venv.sh FOLDER REQUIREMENTS"
venv=$1 requirements=$2

can_venv() { python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
can_venv || scripts/lib/install.sh python3 python3-venv || true
can_venv || fail "Python 3.11 or newer with venv is missing (Debian, Ubuntu: apt-get install python3-venv)"

# Copied last, so that an interrupted installation starts over.
if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    echo "venv: installing $requirements from PyPI"
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$requirements"
    cp "$requirements" "$venv/requirements.txt"
fi
