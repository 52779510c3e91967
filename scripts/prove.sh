#!/usr/bin/env bash
# The long proof of docs/reliability.md: every interleaving of a few requests, crash points, a lying Redis, clients that
# disconnect, restarts, a silent Redis, a frozen path to PostgreSQL, failovers to a standby, the example clients, storms.
#   scripts/prove.sh [--brief] [--storms N] [--seconds S] [--seed SEED] [--cuts N] [--failovers N]
# It runs on the bundled host; RUNTIME=spin chooses Spin, on which host calls cannot be made to fail.
# Storm number i has the seed SEED + i. `make fuzz` and `make mutants` are the other two parts.
# --brief is what `make test` runs: one storm of 25 s, less of the rest, and none of the interleavings, the lying Redis and
# the clients, which `make test` runs separately.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/start.sh

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0"; }
fail() { echo "prove: $*" >&2; usage >&2; exit 2; }

storms=5 seconds=60 cuts=1000 restarts=10 silence=30 freeze=48 failovers=20 liar=1 deep=1 seed=$((RANDOM * 32768 + RANDOM))
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit ;;
        --brief) storms=1 seconds=25 restarts=3 silence=6 freeze=6 failovers=2 liar='' deep=''; shift ;;
        --storms | --seconds | --seed | --cuts | --failovers)
            [[ ${2:-} =~ ^[0-9]{1,9}$ ]] || fail "$1 needs a number"
            printf -v "${1#--}" '%d' "$((10#$2))" # 08 is eight, too
            shift 2
            ;;
        *) fail "unknown argument $1" ;;
    esac
done

log=target/prove.log counts=target/prove.txt
mkdir -p target
: >"$log"
: >"$counts"
# The service's log of provoked failures goes only to the file; the tests' counts also go to the terminal.
run() {
    echo "== $*"
    "$@" 2>>"$log" | tee -a "$counts" |
        grep --line-buffered -E '^(test .* \.\.\. )?(interleavings|crash points|cuts|restarts|silence|freeze|failover|storm|clients): |^test .* (ok|FAILED)$' |
        sed -u -E 's/^test .* \.\.\. (interleavings|crash points|cuts|restarts|silence|freeze|failover|storm|clients): /\1: /' ||
        { tail -n 60 "$counts" "$log" >&2; echo "prove: failed: $*; see $counts and $log" >&2; exit 1; }
}

# The shortest schedule that kills each mutant that an interleaving can reveal.
mutants() {
    echo "== scripts/mutants.sh --interleavings"
    scripts/mutants.sh --interleavings 2>&1 | tee -a "$counts" ||
        { echo "prove: failed: scripts/mutants.sh --interleavings" >&2; exit 1; }
}

[ "$storms" -gt 0 ] || fail "--storms needs a number above 0"
started=$SECONDS
export RUNTIME=${RUNTIME:-bundled}
runtime=$(scripts/runtime.sh name)
echo "== on $runtime"
scripts/runtime.sh build >>"$log" 2>&1 || { tail -n 40 "$log" >&2; exit 1; }
forget=$(scripts/services.sh own)
eval "$forget"
# Settings for another service; ours come with the stores.
unset "${!SPIN_VARIABLE_@}"
scripts/services.sh migrate
exports=$(scripts/services.sh env)
eval "$exports"
if [ -n "$deep" ]; then
    run scripts/interleavings.sh --deep
    grep -q 'interleavings: three_requests' "$counts" || { echo "prove: no interleaving ran; see $counts" >&2; exit 1; }
    mutants
fi
# Spin has no way to make a host call fail.
[ "$RUNTIME" = spin ] || run cargo test -p order-host --profile host --test crash_points --test intake_crash_points -- --nocapture
[ -z "$liar" ] || run cargo test --test e2e redis_liar
[ -z "$deep" ] || ORDERS=1000 run scripts/examples.sh -k client_service
run cargo test --test storm history::
CUTS=$cuts STORM_SEED=$seed RESTARTS=$restarts SILENCE_SECONDS=$silence FREEZE_SECONDS=$freeze FAILOVERS=$failovers \
    run scripts/storm.sh cuts:: restarts:: silence:: freeze:: failover::
for part in cuts restarts silence freeze 'failover: synchronous' 'failover: asynchronous'; do
    grep -qE "^(test .* \.\.\. )?$part: " "$counts" || { echo "prove: nothing of $part ran; see $counts" >&2; exit 1; }
done
for ((storm = 1; storm <= storms; storm++)); do
    STORM_SEED=$((seed + storm)) STORM_SECONDS=$seconds run scripts/storm.sh storm::no_storm
done

echo "== $storms storms from seed $seed"
grep '^storm: seed .* requests' "$counts" | tr -d ';:,' | awk '
    { for (i = 1; i < NF; i++) if ($i ~ /^[0-9]+$/) sum[$(i + 1)] += $i }
    END {
        printf "prove: %d requests, %d keys, %d faults injected, %d troubles; ", sum["requests"], sum["keys"], sum["faults"], sum["troubles"]
        printf "%d duplicates, %d lost acknowledged orders, %d wrong replays, %d other violations\n", sum["duplicates"], sum["lost"], sum["wrong"], sum["other"]
    }'
echo "prove: all held on $runtime, in $((SECONDS - started)) s"
