#!/usr/bin/env bash
# Everything that has to be green, the quick parts first.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { echo "== $*"; "$@"; }
# The service logs every failure that a test provokes: kept, and shown only if a test fails.
log=target/test.log
quiet_step() {
    echo "== $*"
    "$@" 2>"$log" || { tail -n 200 "$log" >&2; echo "test: failed: $*; its log is $log" >&2; exit 1; }
}

forget=$(scripts/services.sh own)
eval "$forget"
if [ -n "${BASE_URL:-}" ]; then
    echo "test: BASE_URL is set and ignored: this tests services of its own only" >&2
    unset BASE_URL
fi

scripts/toolchain.sh
step scripts/versions.sh
# Early, so that what a machine lacks is said before anything is built.
step scripts/npm.sh
step scripts/verify-deploy.sh
step cargo fmt --all --check
step cargo fmt --manifest-path fuzz/Cargo.toml --check
step cargo clippy -p order --all-targets -- -D warnings
step cargo clippy -p order --lib --target wasm32-wasip2 -- -D warnings
step scripts/mutants.sh --check
step cargo test --lib
step cargo test --test api
step cargo test --test properties
step cargo clippy -p order-host --all-targets --profile host -- -D warnings
step cargo test -p order-host --profile host --lib
step cargo build -p order-host --profile host
step scripts/size.sh
step tests/commands.sh
step scripts/services.sh migrate
exports=$(scripts/services.sh env)
eval "$exports"
step cargo test -p order-host --profile host --no-run
quiet_step cargo test -p order-host --profile host --test crash_points -- --nocapture
step cargo test --no-run
quiet_step cargo test --test e2e
quiet_step scripts/storm.sh
step scripts/newman.sh
step scripts/browser.sh
step scripts/contract.sh
echo "== all green"
