#!/usr/bin/env bash
# Runs the service's own code in every interleaving of up to three requests, with up to three faults at any moment, over a
# model of both stores (tests/interleavings/), and prints how many schedules each case has.
#   scripts/interleavings.sh [--deep] [CASE]        all cases, or those whose names begin with CASE; --deep adds the long ones
#   scripts/interleavings.sh --replay CASE:2.0.11   one schedule, step by step; a failing case prints its schedule
#   scripts/interleavings.sh --designs              other designs in the service's place: the shortest schedule that breaks each,
#                                                   and a table; fails if docs/designs.md shows something else
#   scripts/interleavings.sh --designs --write      the same, but writes what it finds into docs/designs.md
#   scripts/interleavings.sh --designs --real       those schedules on the real Redis and PostgreSQL of scripts/services.sh
# --mermaid with --replay or --designs prints schedules as Mermaid sequence diagrams. Only --real needs the stores; none needs a host.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0"; }
fail() { echo "interleavings: $*" >&2; usage >&2; exit 2; }

mode=cases case='' deep='' real=''
unset INTERLEAVINGS_MERMAID INTERLEAVINGS_WRITE INTERLEAVINGS_REPLAY
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit ;;
        --deep) deep=1 ;;
        --replay)
            [[ ${2:-} =~ ^[a-z_0-9]+:[0-9.]*$ ]] || fail "--replay needs a schedule, such as two_requests:2.0.11"
            export INTERLEAVINGS_REPLAY=$2
            mode=replay
            shift
            ;;
        --designs) mode=designs ;;
        --mermaid) export INTERLEAVINGS_MERMAID=1 ;;
        --write) export INTERLEAVINGS_WRITE=1 ;;
        --real) real=1 ;;
        -*) fail "unknown argument $1" ;;
        *) case=$1 ;;
    esac
    shift
done
[ $mode = cases ] || [ -z "$case$deep" ] || fail "CASE and --deep go without --$mode"
[ $mode != cases ] || [ -z "${INTERLEAVINGS_MERMAID:-}" ] || fail "--mermaid needs --replay or --designs"
[ $mode = designs ] || [ -z "$real${INTERLEAVINGS_WRITE:-}" ] || fail "--write and --real need --designs"
ignored=() profile=dev
case $mode$real in
    cases) which=cases::$case ;;
    replay) which=given_schedule ignored=(--ignored) ;;
    designs) which=designs:: ;;
    designs1) which=designs::real ignored=(--ignored) ;;
esac
# The long cases need a profile several times as fast as the tests' own.
[ -z "$deep" ] || { ignored=(--include-ignored --skip given_schedule); profile=host; }
if [ -n "$real" ] && [ -z "${REDIS_URL:+${DATABASE_URL:-}}" ]; then
    scripts/services.sh up >&2
    exports=$(scripts/services.sh env)
    eval "$exports"
fi
cargo=(cargo test --profile "$profile" --test interleavings --)
tests=$("${cargo[@]}" --list "${ignored[@]}" "$which")
[[ $tests == *": test"* ]] || fail "no case is called $case"
exec "${cargo[@]}" --nocapture "${ignored[@]}" "$which"
