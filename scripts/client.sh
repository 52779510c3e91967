#!/usr/bin/env bash
# Creates a token for a client and prints it once, with its entry for the setting `clients`. The token is not stored.
#   scripts/client.sh NAME    a name of 1 to 32 of a-z, 0-9 and -
set -euo pipefail
. "$(dirname "$0")/lib/start.sh"

usage="usage: scripts/client.sh NAME, or make client NAME=...; a name is 1 to 32 of a-z, 0-9 and -"
fail() { echo "client: $*" >&2; exit 1; }

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1; }

case ${1:-} in
    -h | --help) echo "$usage"; exit ;;
    -*) fail "no option $1; $usage" ;;
esac
# It accepts no token or password from you: a plain digest protects random tokens only.
[ $# -eq 1 ] || fail "$usage"
name=$1
# In other locales a-z may contain more letters.
LC_ALL=C
[[ $name =~ ^[a-z0-9-]{1,32}$ ]] || fail "not a name; $usage"

token=$(od -An -N32 -v -tx1 /dev/urandom | tr -d ' \n')
[ ${#token} -eq 64 ] || fail "/dev/urandom gave no 32 bytes"
digest=$(printf %s "$token" | sha256)
[ ${#digest} -eq 64 ] || fail "neither sha256sum nor shasum works here"

echo "token, for the client, shown this once:"
echo "  $token"
echo "entry, for the setting clients:"
echo "  $name:$digest"
