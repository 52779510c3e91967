#!/usr/bin/env python3
"""Counts what the host process executes for one request, outside the kernel: processor instructions, by callgrind.

It counts the service and the floor, which makes the same calls to the stores and does nothing else.
The counts repeat within about one per cent, or four if compilers run at the same time, so they show a step that rates cannot.
They are for one client at a time and for the bundled host.
"""

import argparse
import hashlib
import http.client
import json
import os
import re
import subprocess
import uuid
from pathlib import Path

from world import BUILD, ORDER, ROOT, Stores, Target, manifest_for

MODES = ("healthz", "replay", "create")
# Whole lives of instances, so that each request bears its share of their start.
REQUESTS = 2 * 128
# callgrind is fifty times slower than the processor.
PATIENCE = {"SPIN_VARIABLE_REDIS_DEADLINE_MS": "20000", "SPIN_VARIABLE_PG_DEADLINE_MS": "30000"}


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh instructions", description=__doc__)
    parser.add_argument("--against", action="append", default=[], metavar="NAME=WASM",
                        help="another build of the component, counted beside this one")
    parser.add_argument("--with-clients", type=int, default=0, metavar="N",
                        help="configure N clients and send as the last one (0: the service is open)")
    args = parser.parse_args()
    args.against = [tuple(pair.split("=", 1)) for pair in args.against]
    if len({"service", "floor", *(pair[0] for pair in args.against)}) != 2 + len(args.against):
        parser.error("each --against needs its own name")
    if not all(len(pair) == 2 and Path(pair[1]).is_file() for pair in args.against):
        parser.error("--against takes NAME=WASM, and the file must exist")
    return args


class Counted:
    """A host under callgrind."""

    def __init__(self, name, manifest, clients=0):
        self.folder = BUILD / "callgrind" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.iterdir():
            old.unlink()
        under = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={self.folder}/out"]
        tokens = [f"{number:064x}" for number in range(clients)]
        entries = [f"client-{number}:{hashlib.sha256(token.encode()).hexdigest()}" for number, token in enumerate(tokens)]
        self.headers = {"Authorization": f"Bearer {tokens[-1]}"} if tokens else {}
        environment = {**PATIENCE, "SPIN_VARIABLE_CLIENTS": " ".join(entries)}
        self.target = Target(name, manifest=manifest, environment=environment, under=under)
        host, port = self.target.address.split(":")
        self.connection = http.client.HTTPConnection(host, int(port), timeout=60)

    def request(self, mode, number):
        if mode == "healthz":
            self.connection.request("GET", "/healthz", headers=self.headers)
        else:
            key = f"counted-{self.target.name}" if mode == "replay" else str(uuid.uuid4())
            headers = {**self.headers, "Content-Type": "application/json", "Idempotency-Key": key}
            order = {**ORDER, "customerId": "c-1" if mode == "replay" else f"c-{number}"}
            self.connection.request("POST", "/orders", json.dumps(order, separators=(",", ":")), headers)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("Idempotent-Replayed")

    def control(self, *options):
        run = subprocess.run(["callgrind_control", *options, str(self.target.pid)], capture_output=True, text=True)
        if run.returncode != 0:
            raise SystemExit(f"bench: callgrind_control {' '.join(options)}: {run.stderr.strip()}")

    def count(self, mode):
        for number in range(16):
            self.request(mode, number)
        self.control("-i", "on")
        self.control("-z")
        expected = {"healthz": (200, None), "replay": (201, "true"), "create": (201, "false")}[mode]
        for number in range(REQUESTS):
            answer = self.request(mode, number)
            if answer != expected:
                raise SystemExit(f"bench: {mode} was answered {answer}; see {self.target.log}")
        self.control(f"--dump={mode}")
        self.control("-i", "off")
        for file in self.folder.iterdir():
            text = file.read_text()
            if f"Trigger: dump {mode}" in text[:4096]:
                total = int(re.search(r"^(?:summary|totals): (\d+)", text, re.M).group(1))
                file.rename(self.folder / mode)
                return total / REQUESTS
        raise SystemExit(f"bench: callgrind wrote no counts for {mode}; see {self.folder}")


def main():
    args = arguments()
    stores = Stores()
    stores.sql("TRUNCATE orders")
    stores.redis("flushall")
    print("| component | request | instructions | service ÷ it |\n|---|---|---|---|")
    first = {}
    manifests = {"service": ROOT / "spin.toml", "floor": ROOT / "bench" / "floor" / "spin.toml"}
    manifests.update((name, manifest_for(wasm)) for name, wasm in args.against)
    for name, manifest in manifests.items():
        counted = Counted(name, manifest, args.with_clients)
        try:
            for mode in MODES:
                count = counted.count(mode)
                ratio = first.setdefault(mode, count) / count
                print(f"| {name} | {mode} | {count:,.0f} | {ratio:.3f} |".replace(",", " "), flush=True)
        finally:
            counted.target.stop()
    print(f"\nBy function: callgrind_annotate {os.path.relpath(BUILD, ROOT)}/callgrind/service/replay")


if __name__ == "__main__":
    main()
