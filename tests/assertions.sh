# shellcheck shell=bash
# What tests/commands.sh and tests/machines.sh say and ask. `suite` is the name of the one that is sourced here.

fail() { echo "$suite: FAILED: $test: $*" >&2; exit 1; }
test="it begins"
begin() { test=$*; echo "$suite: $test"; }
contains() { [[ $1 == *"$2"* ]] || fail "no '$2' in: $1"; }
contains_not() { [[ $1 != *"$2"* ]] || fail "'$2' is in: $1"; }
equal() { [ "$1" = "$2" ] || fail "'$1' is not '$2'"; }
# Sets said, and expects the command to fail or to succeed.
refused() { if said=$("$@" 2>&1); then fail "this succeeded: $*; it said: $said"; fi; }
done_by() { said=$("$@" 2>&1) || fail "this failed: $*; it said: $said"; }
