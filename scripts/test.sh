#!/usr/bin/env bash
# Runs every check and test, the quick parts first.
# It tests on the bundled host, and then on Spin if a new enough one is on the PATH. RUNTIME=bundled or RUNTIME=spin chooses
# one: Spin runs all but the tests that make a host call fail, and the bundled host is then not built.
# The stores are the machine's own, or those that POSTGRES and VALKEY choose (scripts/services.sh).
# It ends with brief runs on PostgreSQL 17 with Valkey 9 and on PostgreSQL 18.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh

# With the time since the start.
title() { printf '== %d:%02d %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }
step() { title "$@"; "$@"; }
# The service logs every failure that a test provokes: the log is kept, and shown only if a test fails.
log=target/test.log
quiet_step() {
    title "$@"
    "$@" 2>"$log" || { tail -n 200 "$log" >&2; echo "test: failed: $*; its log is $log" >&2; exit 1; }
}
# Runs a step beside those that follow, until `join` waits for it and shows its output.
beside() {
    # Its own process group, so that a failure elsewhere can stop all of it.
    set -m
    step "$@" >target/beside.log 2>&1 &
    beside=$!
    set +m
}
join() {
    local status=0
    wait "$beside" || status=$?
    beside=
    cat target/beside.log
    return "$status"
}
beside='' others=''
at_exit() {
    [ -z "$beside" ] || kill -- "-$beside" 2>/dev/null || true
    [ -z "$others" ] || ORDER_LOCAL_DIR=$others scripts/services.sh clean
}
trap at_exit EXIT
trap 'exit 130' INT TERM

forget=$(scripts/services.sh own)
eval "$forget"
# Settings for another service; ours come with the stores.
unset "${!SPIN_VARIABLE_@}"
if [ -n "${BASE_URL:-}" ]; then
    echo "test: BASE_URL is set and ignored: this tests services of its own only" >&2
    unset BASE_URL
fi

# Also fails early if Spin is chosen but missing.
case ${RUNTIME:-} in
    '') runtimes=(bundled); [[ $(scripts/runtime.sh name) != spin* ]] || runtimes+=(spin) ;;
    *) scripts/runtime.sh name >/dev/null; runtimes=("$RUNTIME") ;;
esac
on() { [[ " ${runtimes[*]} " == *" $1 "* ]]; }

if on spin && ! command -v openssl >/dev/null; then
    scripts/lib/install.sh openssl || { echo "test: openssl is missing: on Spin the tests make certificates; install it" >&2; exit 1; }
fi
# Debian has it in /usr/sbin.
if ! PATH=$PATH:/usr/sbin command -v nginx >/dev/null; then
    scripts/lib/install.sh nginx-light || { echo "test: nginx is missing: the tests put it in front of the service; install it" >&2; exit 1; }
fi
scripts/lib/toolchain.sh
step scripts/lib/versions.sh
step scripts/lib/prose.py
# Early, so that missing tools are reported before anything is built.
step scripts/lib/npm.sh
step scripts/verify-deploy.sh
step tests/machines.sh
step cargo fmt --all --check
step cargo fmt --manifest-path fuzz/Cargo.toml --check
# Clippy runs as the compiler of what follows, and any lint fails it. `cargo clippy` would check every dependency again,
# wasmtime included.
export RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__
step cargo build --target wasm32-wasip2 --release
step scripts/mutants.sh --check
step cargo test --test structure --test settings --test group_commit --test timer --test intake
step scripts/interleavings.sh
step scripts/interleavings.sh --designs
step cargo test --test interleavings honesty::
step cargo test --test api
step cargo test --test properties
step scripts/fuzz.sh --check
if on spin; then
    # The bench's peers share the service's code and SQL. A bare machine would take minutes to compile what they need.
    step cargo check --locked --manifest-path bench/Cargo.toml --target-dir target/bench -p floor -p plain --target wasm32-wasip2
    step cargo check --locked --manifest-path bench/Cargo.toml --target-dir target/bench -p native
fi
# One mutant with a native test: it checks the script, and `make mutants` runs all of them.
step scripts/mutants.sh unreadable_clients_are_open
if on bundled; then
    step cargo test -p order-host --profile host --lib
    step cargo build -p order-host --profile host
fi
step scripts/size.sh
step tests/commands.sh
step scripts/services.sh migrate
exports=$(scripts/services.sh env)
eval "$exports"
# The tests of the stores and of the running service mostly wait.
step cargo test --test stores -- --test-threads=8
step scripts/interleavings.sh --designs --real
if on bundled; then step cargo test -p order-host --profile host --no-run; fi
step cargo test --no-run
# On a service with two clients, which the collection's last folder needs. A new client has a short feed to walk through.
newman_with_clients() (
    tokens=() entries=()
    for name in a b; do
        made=$(scripts/client.sh "newman-$name-$RANDOM$RANDOM")
        tokens+=("$(sed -n '2s/ //gp' <<<"$made")") entries+=("$(sed -n '4s/ //gp' <<<"$made")")
    done
    export SPIN_VARIABLE_CLIENTS="${entries[*]}"
    scripts/newman.sh --env-var "token=${tokens[0]}" --env-var "tokenA=${tokens[0]}" --env-var "tokenB=${tokens[1]}"
)
for RUNTIME in "${runtimes[@]}"; do
    export RUNTIME
    title "on $(scripts/runtime.sh name)"
    quiet_step cargo test --test e2e -- --test-threads=4
    step scripts/prove.sh --brief
    step newman_with_clients
    beside scripts/contract.sh
    step scripts/examples.sh
    join
done
# In brief, on other versions: the migrations, the laws of the stores, replays of what an earlier build stored, and an order
# through the stream. Then a test that reads the feed from its start, which is short here: these stores have their own ports and
# data, and the second run replaces the servers of the first.
on_other_stores() (
    # shellcheck disable=SC2163
    export "${@:2}" ORDER_LOCAL_DIR=$others
    unset REDIS_URL DATABASE_URL PG_SERVICE_PASSWORD
    scripts/services.sh migrate
    exports=$(scripts/services.sh env)
    eval "$exports"
    cargo test --test stores -- --test-threads=8
    quiet_step cargo test --test e2e -- golden:: intake::a_command_gets_the_answer
    for RUNTIME in "${runtimes[@]}"; do step "$1"; done
)
REDIS_PORT=$((${REDIS_PORT:-16379} + 5)) PG_PORT=$((${PG_PORT:-15432} + 5))
export REDIS_PORT PG_PORT
others=$PWD/.local/other
step on_other_stores scripts/newman.sh POSTGRES=17 VALKEY=9
step on_other_stores scripts/browser.sh POSTGRES=18
names=$(for RUNTIME in "${runtimes[@]}"; do RUNTIME=$RUNTIME scripts/runtime.sh name; done)
title "all green on ${names//$'\n'/ and on }"
