#!/usr/bin/env bash
# Breaks the code or the schema on purpose, one mutant at a time, and checks that a named test fails.
# Each tests/mutants/*.patch is a mutant; its first lines name the defect and the test that has to notice it.
# Arguments select mutants: scripts/mutants.sh no_unique upsert. --check only checks that each patch still applies.
# --interleavings runs only the tests in tests/interleavings/ and prints the shortest schedule that kills each mutant.
# It works in target/mutants/, a copy of this checkout with its own stores, one port above REDIS_PORT and PG_PORT,
# so an interrupted run leaves the checkout unchanged. Mutants with native tests need no host, and no stores either except
# for `--test stores`; they take seconds. It fails if a mutant survives or a patch no longer applies.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh
checkout=$PWD
copy=$checkout/target/mutants
# Longer than any test takes. This limit kills a mutant whose patch has the line `Hangs: yes`; for any other it proves nothing.
test_seconds=120

say() { echo "mutants: $*" >&2; }
fail() { say "$*"; exit 1; }

case ${1:-} in -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0"; exit ;; esac
check_only='' only=''
case ${1:-} in
    --check) check_only=1; shift ;;
    --interleavings) only='--test interleavings '; shift ;;
esac
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
    mapfile -t names < <(grep -l -e "^Test: $only" tests/mutants/*.patch | sed 's|.*/||; s|\.patch$||')
fi
for name in "${names[@]}"; do [ -f "tests/mutants/$name.patch" ] || fail "no tests/mutants/$name.patch"; done
command -v patch >/dev/null || scripts/lib/install.sh patch || fail "patch is missing; install it"

what_of() { sed -n 's/^Mutant: //p' "$checkout/tests/mutants/$1.patch"; }
test_of() { sed -n "s/^Test: \($only.*\)/\1/p" "$checkout/tests/mutants/$1.patch"; }
hangs() { grep -q '^Hangs: yes$' "$checkout/tests/mutants/$1.patch"; }
files_of() { sed -n 's|^--- a/||p' "$checkout/tests/mutants/$1.patch"; }

# Makes the copy equal to the checkout. It writes only files that differ, so cargo rebuilds only those.
sync_copy() {
    local file
    mkdir -p "$copy"
    while IFS= read -r -d '' file; do
        [ -f "$file" ] || continue
        cmp -s "$file" "$copy/$file" || { mkdir -p "$copy/$(dirname "$file")"; cp "$file" "$copy/$file"; }
    done < <(git ls-files -z --cached --others --exclude-standard)
    while IFS= read -r -d '' file; do
        [ -f "$checkout/$file" ] || rm -f "$copy/$file"
    done < <(cd "$copy" && find . -path ./target -prune -o -type f -print0)
}
# Copies the checkout's compiled dependencies, which no mutant changes, as hard links: cargo uses what is fresh and
# replaces the rest. Our own crates are left out: in the copy they would pass for fresh.
link_dependencies() {
    local draft=$copy/target/debug.draft name
    [ -d target/debug/deps ] && [ ! -e "$copy/target/debug" ] || return 0
    rm -rf "$draft"
    mkdir -p "$draft"
    cp -al target/debug/{.fingerprint,build,deps} "$draft" 2>/dev/null || { rm -rf "$draft"; return 0; }
    rm -rf "$draft"/{.fingerprint,build}/order-*
    for name in order tests/*; do
        name=$(basename "$name" .rs)
        rm -f "$draft/deps/$name"[-.]* "$draft/deps/lib$name"[-.]*
    done
    mv "$draft" "$copy/target/debug"
}
apply() { # a mutant; the second argument may be --dry-run
    local log=$copy/patch.log
    patch -p1 --force --fuzz=0 --no-backup-if-mismatch -r - ${2:+"$2"} <"$checkout/tests/mutants/$1.patch" >"$log" 2>&1 ||
        { cat "$log" >&2; fail "tests/mutants/$1.patch no longer applies; rewrite it for the present code"; }
}
restore() { # the files of a mutant
    local file
    while read -r file; do cp "$checkout/$file" "$copy/$file"; done < <(files_of "$1")
}

# A mutant may leave something unused; that is not its defect.
unset RUSTC_WORKSPACE_WRAPPER CLIPPY_ARGS
export RUNTIME=bundled
# Size does not matter here, and this builds faster.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
build() { # for the test given as cargo's arguments
    local component=(cargo build --target wasm32-wasip2 --release)
    case " $* " in
        *" order-host "*)
            # The checkout's own: wasmtime takes minutes to compile, and no mutant changes the host.
            "${component[@]}" && host_test=$(cd "$checkout" && cargo test "${@:1:$#-1}" --no-run --message-format=json |
                sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p') && [ -x "$host_test" ]
            ;;
        *" e2e "*) "${component[@]}" && cargo test "${@:1:$#-1}" --no-run ;;
        *" --example "*) cargo build "${@:1:$#-1}" ;;
        *) cargo test "${@:1:$#-1}" --no-run ;;
    esac
}
run() { # that test; replaces the subshell that it runs in
    local command=(cargo test "${@:1:$#-1}" -- --exact "${@: -1}")
    # The test loads ../spin.toml, and so the copy's component.
    if [[ " $* " == *" order-host "* ]]; then
        cd host
        command=("$host_test" --exact "${@: -1}")
    fi
    if [[ " $* " == *" --example "* ]]; then command=(python3 tests/examples/client_test.py "${@: -1}"); fi
    if command -v timeout >/dev/null; then command=(timeout "$test_seconds" "${command[@]}"); fi
    exec "${command[@]}"
}
# The process to end when the script is interrupted: `timeout` passes the signal on to the test and its host.
running=
stop() { [ -z "$running" ] || { kill "$running" && wait "$running"; } 2>/dev/null || true; }
# Sets outcome: passed, failed or late. Anything else, such as an unknown test, ends the script.
run_test() {
    local log=$copy/test.log status=0
    # In the background: a signal interrupts `wait`, but not a command in the foreground.
    run "$@" >"$log" 2>&1 &
    running=$!
    wait "$running" || status=$?
    running=
    if grep -qE '^(test result: ok. 1 passed|OK$)' "$log"; then outcome=passed
    elif grep -qE '^(test result: FAILED. 0 passed; 1 failed|FAILED \()' "$log"; then outcome=failed
    elif [ "$status" -eq 124 ]; then outcome=late
    else
        tail -n 30 "$log" >&2
        fail "this runs no test: cargo test ${*:1:$#-1} -- --exact ${*: -1}"
    fi
}
# Checks that every test that a mutant names passes. The argument goes into the error message.
all_pass() {
    while read -r -a test; do
        build "${test[@]}" >"$copy/build.log" 2>&1 || { tail -n 30 "$copy/build.log" >&2; fail "the copy does not build"; }
        run_test "${test[@]}"
        case $outcome in
            late) fail "$1 this takes more than $test_seconds s: cargo test ${test[*]}" ;;
            failed) tail -n 30 "$copy/test.log" >&2; fail "$1 this fails: cargo test ${test[*]}" ;;
        esac
    done < <(for name in "${names[@]}"; do test_of "$name"; done | sort -u)
}

new_stores() {
    local log=$copy/services.log exports
    { scripts/services.sh clean && scripts/services.sh migrate; } >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "the stores did not start"; }
    exports=$(scripts/services.sh env) || fail "the stores have no addresses"
    eval "$exports"
}
changes_schema() { files_of "$1" | grep -q '^migrations/'; }
# Whether any test of these mutants matches the pattern.
any_test_is() {
    local name tests pattern=$1
    # Not piped into grep, which would end the loop at its first match and make the pipe fail.
    tests=$(for name in "${@:2}"; do test_of "$name"; done)
    grep -qE "($pattern) " <<<"$tests"
}
need_host() { any_test_is '--test e2e|-p order-host' "$@"; }
need_stores() { need_host "$@" || any_test_is '--test stores' "$@"; }

if [ -n "$check_only" ]; then
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    cp -R examples src migrations tests "$copy"
    cd "$copy"
    for name in "${names[@]}"; do apply "$name" --dry-run; done
    say "${#names[@]} patches apply"
    exit
fi

forget=$(scripts/services.sh own)
eval "$forget"
scripts/lib/toolchain.sh
if need_host "${names[@]}"; then
    say "building the host"
    cargo build -q -p order-host --profile host
    mkdir -p "$copy/target/host"
    cmp -s target/host/order-host "$copy/target/host/order-host" || cp target/host/order-host "$copy/target/host/order-host"
fi
sync_copy
link_dependencies
cd "$copy"
for name in "${names[@]}"; do apply "$name" --dry-run; done
unset REDIS_URL DATABASE_URL ORDER_LOCAL_DIR PG_SERVICE_PASSWORD "${!SPIN_VARIABLE_@}"
export REDIS_PORT=$((${REDIS_PORT:-16379} + 1)) PG_PORT=$((${PG_PORT:-15432} + 1))
trap 'stop; exit 130' INT TERM
if need_stores "${names[@]}"; then
    trap 'cd "$copy" && scripts/services.sh clean >/dev/null 2>&1 || true' EXIT
    new_stores
fi

# A test that fails without a mutant would prove nothing.
say "building and running the tests without a mutant"
all_pass "without a mutant"

table='| mutant | what is wrong | killed by |
|---|---|---|'
survived=()
# Every test that a mutant names has to fail.
kill_by() { # mutant, test
    local name=$1 test=("${@:2}")
    if ! build "${test[@]}" >"$copy/build.log" 2>&1; then
        restore "$name"
        tail -n 30 "$copy/build.log" >&2
        fail "with tests/mutants/$name.patch the code does not build; rewrite it"
    fi
    if changes_schema "$name"; then new_stores; fi
    run_test "${test[@]}"
    if [ "$outcome" = late ] && ! hangs "$name"; then
        tail -n 30 "$copy/test.log" >&2
        fail "$name: the test neither passed nor failed within $test_seconds s. Run it where the machine is not busy; if it hangs by design, add the line Hangs: yes to its patch"
    fi
    [ "$outcome" != passed ] || { say "$name: SURVIVED cargo test ${test[*]}"; return 1; }
    # The shortest schedule, if it has one.
    sed -n '/^violated:/,/^replay:/p' "$copy/test.log" >&2
}
for name in "${names[@]}"; do
    started=$SECONDS killers=
    mapfile -t tests < <(test_of "$name")
    [ ${#tests[@]} -gt 0 ] || fail "tests/mutants/$name.patch names no test"
    apply "$name"
    for test in "${tests[@]}"; do
        read -r -a test <<<"$test"
        if kill_by "$name" "${test[@]}"; then
            killers+="${killers:+, }\`${test[${#test[@]}-1]}\`"
        else
            killers='**nothing**'
            survived+=("$name")
            break
        fi
    done
    [ "$killers" = '**nothing**' ] || say "$name: killed in $((SECONDS - started)) s"
    table+=$'\n'"| \`$name\` | $(what_of "$name") | $killers |"
    restore "$name"
    if changes_schema "$name"; then new_stores; fi
done
# Nor would a test that fails because a mutant left something in the stores or in the copy.
say "running the tests again without a mutant"
all_pass "without a mutant, after all of them,"

echo "$table"
[ ${#survived[@]} -eq 0 ] || fail "${#survived[@]} of ${#names[@]} survived: ${survived[*]}"
say "${#names[@]} of ${#names[@]} killed"
