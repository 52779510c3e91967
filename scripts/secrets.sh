#!/usr/bin/env bash
# Writes deploy/secrets/secrets.env with random passwords, once: PostgreSQL would not accept other ones later.
# An existing file keeps its lines. A line that a later release needs, and that is not a password, is added to it.
#   scripts/secrets.sh [file]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh
file=${1:-deploy/secrets/secrets.env}
example=deploy/secrets/secrets.env.example

random_hex() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

if [ -s "$file" ]; then
    added=
    while IFS= read -r line; do
        name=${line%%=*}
        case $name in '' | '#'* | *_PASSWORD) continue ;; INSTALLATION) line=$name=$(random_hex) ;; esac
        grep -q "^$name=" "$file" && continue
        [ -z "$(tail -c 1 "$file")" ] || echo >>"$file"
        printf '%s\n' "$line" >>"$file"
        added="$added $name"
    done <"$example"
    if [ -n "$added" ]; then
        echo "secrets: $file exists; added to it:$added"
    else
        echo "secrets: $file exists and is unchanged"
    fi
    exit
fi
draft=$(mktemp "$file.XXXXXX") # mode 600
trap 'rm -f "$draft"' EXIT
while IFS= read -r line; do
    case $line in
        '' | '#'*) ;;
        *_PASSWORD=* | INSTALLATION=*) printf '%s%s\n' "${line%%=*}=" "$(random_hex)" ;;
        *) printf '%s\n' "$line" ;;
    esac
done <"$example" >"$draft"
mv "$draft" "$file"
echo "secrets: wrote $file; git ignores it, so keep a copy with your other secrets"
