#!/usr/bin/env python3
"""Measures how much memory the host takes at its peak, with many clients, in the phases that a pod's limit has to bear.

The phases follow one another on one process, as a day's bursts would. The figure that `make verify-deploy` holds the
limit in deploy/ against is written to docs/bench/memory.json. With --minutes they go on in a drawn order, with other
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
    parser.add_argument("--minutes", type=int, metavar="MINUTES", help="go on for so long, with a changing load")
    parser.add_argument("--seed", type=int, default=1, help="of the changing load (1)")
    parser.add_argument("--record", action="store_true", help=f"write the peak to {RECORD.relative_to(ROOT)}")
    return parser.parse_args()


def changing(args):
    """Phases, numbers of clients and pauses, as they are drawn, until the time is over."""
    draw, end = random.Random(args.seed), time.monotonic() + 60 * args.minutes
    while time.monotonic() < end:
        yield draw.choice(PHASES), draw.choice([1, 16, 64, args.clients])
        time.sleep(args.seconds * draw.choice([0, 2, 4]))


def main():
    args = arguments()
    host = (spin_version() or "bundled host").split(" (")[0]
    service = Target("service", manifest=ROOT / "spin.toml")
    # Of `spin up` the process that serves is the child; a pod has that one only.
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
            # Over an hour the machine may have other work for a while, and a request its deadline.
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
