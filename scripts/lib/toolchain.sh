#!/usr/bin/env bash
# Sets up what a build needs and this machine lacks: a linker, the pinned toolchain, the wasm target.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/start.sh

fail() { echo "toolchain: $*" >&2; exit 1; }

command -v cc >/dev/null || scripts/lib/install.sh gcc libc6-dev || fail "no C compiler (cc) to link with; install gcc"
command -v rustup >/dev/null || fail "rustup is missing; see https://rustup.rs"
# rustup installs the toolchain of rust-toolchain.toml by itself, unless RUSTUP_AUTO_INSTALL=0.
cargo --version >/dev/null 2>&1 || rustup toolchain install
rustup target list --installed | grep -qx wasm32-wasip2 || rustup target add wasm32-wasip2
