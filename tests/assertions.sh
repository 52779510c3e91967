# shellcheck shell=bash
# Messages and assertions of tests/commands.sh and tests/machines.sh. `suite` is the name of the one that sources this.

fail() { echo "$suite: FAILED: $test: $*" >&2; exit 1; }
test="start"
begin() { test=$*; echo "$suite: $test"; }
contains() { [[ $1 == *"$2"* ]] || fail "no '$2' in: $1"; }
contains_not() { [[ $1 != *"$2"* ]] || fail "'$2' is in: $1"; }
equal() { [ "$1" = "$2" ] || fail "'$1' is not '$2'"; }
# Both set said. The first expects the command to fail, the second to succeed.
refused() { if said=$("$@" 2>&1); then fail "this succeeded: $*; it printed: $said"; fi; }
done_by() { said=$("$@" 2>&1) || fail "this failed: $*; it printed: $said"; }
