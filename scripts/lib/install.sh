#!/usr/bin/env bash
# Installs Debian packages with apt-get; fails if there is no apt-get or no right to use it.
set -euo pipefail

command -v apt-get >/dev/null || exit 1
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || exit 1
    as_root=(sudo)
    # Without a terminal a password prompt could only hang.
    [ -t 0 ] || as_root=(sudo -n)
    "${as_root[@]}" true || exit 1
fi
echo "installing with apt-get: $*" >&2
{
    "${as_root[@]}" apt-get update -qq || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
} >&2
