#!/usr/bin/env python3
"""Measures the host's peak memory with many clients, in the phases that a pod's limit has to allow for.

The phases follow one another on one process, as bursts do during a day. The peak is written to docs/bench/memory.json;
`make verify-deploy` checks the limit in deploy/ against it. With --minutes the phases repeat in a random order, with varying
numbers of clients and pauses between them, to see whether the memory grows.
"""

import argparse
import json
import random
import time

import proc
from bench import wrk
from world import ROOT, Target, spin_version

PHASES = ("healthz", "replay", "mixed", "create", "replay", "create")
RECORD = ROOT / "docs" / "bench" / "memory.json"


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh memory", description=__doc__)
    parser.add_argument("--clients", type=int, default=256, help="clients at once (256)")
    parser.add_argument("--seconds", type=int, default=10, help="length of a phase (10)")
    parser.add_argument("--minutes", type=int, metavar="MINUTES", help="continue for so long with a varying load")
    parser.add_argument("--seed", type=int, default=1, help="seed of the varying load (1)")
    parser.add_argument("--record", action="store_true", help=f"write the peak to {RECORD.relative_to(ROOT)}")
    return parser.parse_args()


def changing(args):
    """Random phases, numbers of clients and pauses, until the time is over."""
    draw, end = random.Random(args.seed), time.monotonic() + 60 * args.minutes
    while time.monotonic() < end:
        yield draw.choice(PHASES), draw.choice([1, 16, 64, args.clients])
        time.sleep(args.seconds * draw.choice([0, 2, 4]))


def main():
    args = arguments()
    host = (spin_version() or "bundled host").split(" (")[0]
    service = Target("service", manifest=ROOT / "spin.toml")
    # With `spin up` the child process serves; a pod has only that one.
    server = proc.tree(service.pid)[-1]
    peak = 0
    try:
        service.check_contract()
        proc.reset_peak(server)
        print(f"memory: {host}, {args.clients} clients, {args.seconds} s a phase, {proc.resident_mb(server):.0f} MiB at rest")
        started, errors = time.monotonic(), 0
        for phase, clients in changing(args) if args.minutes else [(phase, args.clients) for phase in PHASES]:
            cell = wrk(service.url, phase, clients, args.seconds)
            peak = proc.peak_mb(server)
            print(f"memory: {time.monotonic() - started:4.0f} s: {phase:8} x{clients:<3} {cell['requests'] / cell['seconds']:6.0f}/s, "
                  f"errors {cell['errors']}, {proc.resident_mb(server):.0f} MiB, peak so far {peak:.0f} MiB", flush=True)
            errors += cell["errors"]
            # Within an hour the machine may be busy for a while, and a request miss its deadline.
            if errors and not args.minutes:
                raise SystemExit(f"memory: {phase} had errors; see {service.log}")
        print(f"memory: {errors} errors")
    finally:
        service.stop()
    if args.record:
        RECORD.write_text(json.dumps({"host": host, "clients": args.clients, "peak_mib": round(peak)}) + "\n")
        print(f"memory: wrote {RECORD.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
