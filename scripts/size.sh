#!/usr/bin/env bash
# Builds the release component and fails if it is above 748 KiB: every pod compiles and instantiates it.
# The intake is 43 KB of it. A separate component for it would contain most of the rest a second time.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh
wasm=target/wasm32-wasip2/release/order.wasm
limit_bytes=765952

scripts/lib/toolchain.sh
cargo build --target wasm32-wasip2 --release
bytes=$(wc -c <"$wasm" | tr -d ' ')
echo "size: $wasm has $bytes bytes, the limit is $limit_bytes"
[ "$bytes" -le "$limit_bytes" ] || { echo "size: too large" >&2; exit 1; }
