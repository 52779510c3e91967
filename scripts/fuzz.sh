#!/usr/bin/env bash
# Fuzzes the parsers of untrusted bytes: each target in fuzz/ for 60 seconds, or as many as the first argument gives.
# Further arguments name targets. The corpus is kept in fuzz/corpus/, inputs that fail in fuzz/artifacts/.
# libFuzzer needs a nightly compiler; nothing else here does.
# --check needs none: it compiles the targets with the pinned compiler and runs each over fuzz/seeds/ and small variations
# of them. It detects a broken target and searches for nothing new.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh
. ./versions.env

fail() { echo "fuzz: $*" >&2; exit 1; }

case ${1:-} in -h | --help)
    echo "usage: scripts/fuzz.sh [seconds per target] [target...] | --check"
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0"
    exit ;;
--check)
    cargo fetch --quiet --locked --manifest-path fuzz/Cargo.toml || fail "fuzz/Cargo.lock does not match the manifests"
    said=$(cargo test --test properties seeds:: -- --nocapture 2>&1) || { echo "$said" >&2; fail "a target is broken"; }
    sed -n 's/^seeds: /fuzz: /p' <<<"$said"
    exit ;;
esac
seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || fail "seconds per target must be a whole number above 0, not '$seconds'"
known=$(sed -n 's/^name = "\([a-z]*\)"$/\1/p' fuzz/Cargo.toml)
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || read -r -a targets <<<"${known//$'\n'/ }"
for target in "${targets[@]}"; do
    grep -qx -- "$target" <<<"$known" || fail "no target '$target'; there are: ${known//$'\n'/ }"
done

scripts/lib/toolchain.sh
command -v c++ >/dev/null || scripts/lib/install.sh g++ || fail "no C++ compiler (c++) to build libFuzzer with; install g++"
rustup run nightly rustc --version >/dev/null 2>&1 ||
    fail "no nightly compiler; get it with: rustup toolchain install nightly --profile minimal"
if ! command -v cargo-fuzz >/dev/null; then
    cargo install cargo-fuzz --locked --version "$CARGO_FUZZ"
fi

# Without a sanitizer: the crate denies unsafe code, so the fuzzer looks for panics and broken laws, and speed finds more.
fuzz() { cargo +nightly fuzz "$1" --sanitizer none "${@:2}"; }

fuzz build
total=0 broken=()
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target"
    log=$(mktemp)
    fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- -dict=fuzz/order.dict -max_len=8192 -timeout=10 \
        -max_total_time="$seconds" -print_final_stats=1 >"$log" 2>&1 || broken+=("$target")
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    printf 'fuzz: %-8s %12d executions in %d s\n' "$target" "${executions:-0}" "$seconds"
    total=$((total + ${executions:-0}))
    if [[ " ${broken[*]} " == *" $target "* ]]; then
        grep -A3 'panicked at' "$log" >&2 || tail -n 40 "$log" >&2
    fi
    rm -f "$log"
done
printf 'fuzz: %-8s %12d executions\n' total "$total"
[ ${#broken[@]} -eq 0 ] || fail "broken: ${broken[*]}; the input is in fuzz/artifacts/, and 'cargo +nightly fuzz run --sanitizer none TARGET FILE' repeats it"
