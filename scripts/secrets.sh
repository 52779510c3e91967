#!/usr/bin/env bash
# Writes deploy/secrets/secrets.env with random passwords, once: PostgreSQL would not take others later.
#   scripts/secrets.sh [file]
set -euo pipefail
cd "$(dirname "$0")/.."
file=${1:-deploy/secrets/secrets.env}

random_hex() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

if [ -s "$file" ]; then
    echo "secrets: $file is there already and stays as it is"
    exit
fi
draft=$(mktemp "$file.XXXXXX") # mode 600
trap 'rm -f "$draft"' EXIT
while IFS='=' read -r name _; do
    case $name in '' | '#'*) ;; *) printf '%s=%s\n' "$name" "$(random_hex)" ;; esac
done <deploy/secrets/secrets.env.example >"$draft"
mv "$draft" "$file"
echo "secrets: wrote $file; git ignores it, so keep a copy where your secrets are kept"
