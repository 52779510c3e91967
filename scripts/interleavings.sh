#!/usr/bin/env bash
# Runs the service's own code in every interleaving of up to three requests, with up to three faults at any moment, over a
# model of both stores (tests/interleavings/), and prints how many schedules each case has.
#   scripts/interleavings.sh [--deep] [CASE]        all cases, or those whose names begin with CASE; --deep adds the long ones
#   scripts/interleavings.sh --replay CASE:2.0.11   one schedule, step by step; a failing case prints its schedule
# It needs no Redis, PostgreSQL or host.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0"; }
fail() { echo "interleavings: $*" >&2; usage >&2; exit 2; }

which=(cases::) ignored=() profile=dev
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit ;;
        # The long cases need a profile several times as fast as the tests' own.
        --deep) ignored=(--include-ignored --skip given_schedule) profile=host ;;
        --replay)
            [[ ${2:-} =~ ^[a-z_]+:[0-9.]*$ ]] || fail "--replay needs a schedule, such as two_requests:2.0.11"
            export INTERLEAVINGS_REPLAY=$2
            which=(given_schedule) ignored=(--ignored)
            shift
            ;;
        -*) fail "unknown argument $1" ;;
        *) which=("cases::$1") ;;
    esac
    shift
done
cargo=(cargo test --profile "$profile" --test interleavings --)
tests=$("${cargo[@]}" --list "${ignored[@]}" "${which[@]}")
[[ $tests == *": test"* ]] || fail "no case is called ${which[*]#cases::}"
exec "${cargo[@]}" --nocapture "${ignored[@]}" "${which[@]}"
