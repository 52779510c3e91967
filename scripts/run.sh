#!/usr/bin/env bash
# Builds the component and serves it on 127.0.0.1:$PORT, with Spin 4 where there is one, else with the bundled host.
set -euo pipefail
cd "$(dirname "$0")/.."
port=${PORT:-3000}

scripts/toolchain.sh
scripts/services.sh migrate
exports=$(scripts/services.sh env)
eval "$exports"
echo "run: building the component"
cargo build --target wasm32-wasip2 --release

if command -v spin >/dev/null && version=$(spin --version 2>/dev/null) && [[ $version =~ ^spin\ 4\. ]]; then
    echo "run: serving with Spin ($version)"
    exec spin up --listen "127.0.0.1:$port"
fi
echo "run: no Spin 4 on the PATH, serving with the bundled host"
cargo build -p order-host --profile host
exec target/host/order-host --listen "127.0.0.1:$port" --manifest spin.toml
