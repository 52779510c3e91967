#!/usr/bin/env bash
# Builds the release component and fails if it is above 788 KiB: every pod compiles and instantiates it.
# The intake is 35 KB of it. A separate component for it would contain 700 KB of the same code.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh
wasm=target/wasm32-wasip2/release/order.wasm
limit_bytes=806912

scripts/lib/toolchain.sh
cargo build --target wasm32-wasip2 --release
bytes=$(wc -c <"$wasm" | tr -d ' ')
echo "size: $wasm has $bytes bytes, the limit is $limit_bytes"
[ "$bytes" -le "$limit_bytes" ] || { echo "size: too large" >&2; exit 1; }
