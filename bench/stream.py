#!/usr/bin/env python3
"""Measures orders that arrive through the stream and orders that arrive by HTTP, in one run.

It measures how many queued commands one intake settles in a second, compared with creates over HTTP, and how long a
command takes from XADD to its result if commands arrive one by one. Both times are Redis' own: those in the entries' ids.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import time
import uuid

from bench import wrk
from world import BUILD, ORDER, ROOT, Stores, Target, spin_version


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh stream", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median is reported (3)")
    parser.add_argument("--commands", type=int, default=10_000, help="commands that wait in a round (10000)")
    parser.add_argument("--seconds", type=int, default=5, help="length of a load over HTTP (5)")
    parser.add_argument("--rate", type=int, default=100, help="commands a second, one by one (100)")
    return parser.parse_args()


class Queue:
    """The streams, through one redis-cli."""

    def __init__(self, stores):
        self.stores = stores
        self.stores.redis("DEL", "orders:commands", "orders:results")
        self.cli = subprocess.Popen(["redis-cli", "-p", stores.redis_port], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *lines):
        """Sends a hundred at a time: neither pipe may fill up while the other one is not read."""
        replies = []
        for first in range(0, len(lines), 100):
            some = lines[first:first + 100]
            self.cli.stdin.write("\n".join(some) + "\n")
            self.cli.stdin.flush()
            replies += [self.cli.stdout.readline().strip() for _ in some]
        return replies

    def add(self, count):
        """The times in the ids of this many commands."""
        keys = [str(uuid.uuid4()) for _ in range(count)]
        order = json.dumps(ORDER).replace('"', '\\"')
        ids = self.ask(*(f'XADD orders:commands * key {key} order "{order}"' for key in keys))
        return {id: at(id) for id in ids}

    def ring(self):
        self.ask("PUBLISH orders:doorbell ring")

    def results(self, count):
        """The times of the results, by command, once there are as many results as commands."""
        deadline = time.monotonic() + 120
        while int(self.ask("XLEN orders:results")[0]) < count:
            if time.monotonic() > deadline:
                raise SystemExit("stream: results are missing; see target/bench/logs/intake.log")
            time.sleep(0.05)
        lines = self.stores.redis("--json", "XRANGE", "orders:results", "-", "+")
        entries = [(at(id), dict(zip(fields[::2], fields[1::2]))) for id, fields in json.loads(lines)]
        if any(fields["status"] != "201" for _, fields in entries):
            raise SystemExit("stream: an order was refused")
        self.stores.redis("DEL", "orders:results")
        return {fields["command"]: ms for ms, fields in entries}


def at(id):
    return int(id.split("-")[0])


def main():
    args = arguments()
    stores = Stores()
    stores.check_durability()
    service = Target("service", manifest=ROOT / "spin.toml")
    queue = Queue(stores)
    with (BUILD / "logs" / "intake.log").open("w") as log:
        command = [ROOT / "scripts" / "runtime.sh", "serve", "intake/spin.toml"]
        intake = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        while stores.redis("PUBSUB", "NUMSUB", "orders:doorbell").split()[-1] != "1":
            if intake.poll() is not None:
                raise SystemExit("stream: the intake did not start; see target/bench/logs/intake.log")
            time.sleep(0.1)
        print(f"stream: {(spin_version() or 'bundled host').split(' (')[0]}")
        ratios = []
        for number in range(1, args.rounds + 1):
            stores.sql("TRUNCATE orders")
            rates = {}
            for clients in (16, 64):
                wrk(service.url, "create", clients, args.seconds)
                cell = wrk(service.url, "create", clients, args.seconds)
                rates[clients] = cell["requests"] / cell["seconds"]
            queue.add(args.commands)
            started = int(float(".".join(stores.redis("TIME").split())) * 1000)
            queue.ring()
            rate = args.commands / (max(queue.results(args.commands).values()) - started) * 1000
            ratios.append(rate / max(rates.values()))
            print(f"stream: round {number}: {rate:.0f} commands a second; creates over HTTP {rates[16]:.0f} with 16 clients, "
                  f"{rates[64]:.0f} with 64", flush=True)
        print(f"stream: commands / creates, against the faster of the two, median: {statistics.median(ratios):.2f}")
        sent, due = {}, time.monotonic()
        for _ in range(args.rate * 10):
            sent |= queue.add(1)
            queue.ring()
            due += 1 / args.rate
            time.sleep(max(due - time.monotonic(), 0))
        told = queue.results(len(sent))
        delays = sorted(told[id] - ms for id, ms in sent.items())
        print(f"stream: {args.rate} commands a second for 10 s, from XADD to the result: p50 {delays[len(delays) // 2]} ms, "
              f"p99 {delays[len(delays) * 99 // 100]} ms, max {delays[-1]} ms")
    finally:
        os.killpg(intake.pid, signal.SIGTERM)
        service.stop()


if __name__ == "__main__":
    main()
