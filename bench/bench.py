#!/usr/bin/env python3
"""Measures the service beside its peers and its stores, in interleaved rounds on one machine.

Run it with scripts/bench.sh, which builds what is measured and starts private stores.
The report is bench.json, bench.md and three SVG plots.
`scripts/bench.sh anatomy` shows instead what one request waits for, call by call;
`scripts/bench.sh instructions` what the host executes for it, `scripts/bench.sh calls` which host calls the component
makes, `scripts/bench.sh memory` how much memory the host uses, `scripts/bench.sh stream` orders through the stream,
`scripts/bench.sh slow` how slow clients affect the others.
"""

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import proc
import report
from world import BUILD, FIXED_KEYS, ROOT, Stores, Target, manifest_for, run, spin_version

BENCH = Path(__file__).resolve().parent
PHASES = ("main", "redis-down", "table")
SERVICES = ("service", "floor", "plain", "native")
# wrk leaves its last requests unanswered; they end within this time. An idle instance lives longer: a second.
CUT_OFF_SECONDS = 0.5


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median is reported (5)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one measurement (3)")
    parser.add_argument("--warm-up", type=int, default=8, metavar="SECONDS",
                        help="length of the same load before each measurement (8); only its errors and its slowest answer count")
    parser.add_argument("--clients", default="1,16,64,256", help="client counts (1,16,64,256); the phases redis-down and table use only 16 and 64 of them")
    parser.add_argument("--rows", type=int, default=1_000_000, help="orders in the large table (1000000)")
    parser.add_argument("--phases", default=",".join(PHASES), help="which of main, redis-down, table (all)")
    parser.add_argument("--services", default=",".join(SERVICES), help="which of service, floor, plain, native (all)")
    parser.add_argument("--against", action="append", default=[], metavar="NAME=WASM",
                        help="another build of the component, measured beside this one; leaves out the stores' ceilings")
    parser.add_argument("--quick", action="store_true", help="one short round: checks that the bench works, measures nothing")
    parser.add_argument("--soak", action="store_true", help="instead: one long mixed load, watching the memory")
    parser.add_argument("--soak-seconds", type=int, default=600, help="length of the soak (600)")
    parser.add_argument("--out", type=Path, default=BUILD / "report", help="folder of the report (target/bench/report)")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.warm_up, args.clients, args.rows = 1, 1, 0, "1,16", 10_000
    args.clients = [int(count) for count in args.clients.split(",")]
    args.phases, args.services = args.phases.split(","), args.services.split(",")
    args.against = [tuple(pair.split("=", 1)) for pair in args.against]
    if not set(args.phases) <= set(PHASES) or not set(args.services) <= set(SERVICES):
        parser.error(f"phases are {', '.join(PHASES)}; services are {', '.join(SERVICES)}")
    for pair in args.against:
        if len(pair) != 2 or not Path(pair[1]).is_file():
            parser.error("--against takes NAME=WASM, and the file must exist")
    return args


def wrk(url, mode, clients, seconds, prefix="fixed-"):
    """One load. A single thread is enough: it stays below half a core."""
    out = run("wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", "-s", str(BENCH / "load.lua"), url,
              "--", mode, prefix, str(FIXED_KEYS))
    return json.loads(out.splitlines()[-1])


def pgbench(clients, seconds, database="orders", client="''", mode="prepared"):
    """The service's insert, prepared once per session, or with `extended` each time. `client` is an expression."""
    sql = (ROOT / "src" / "spin" / "sql" / "place_order.sql").read_text()
    now_ms = "(extract(epoch FROM clock_timestamp()) * 1000)"
    values = {
        "$1::": f"encode(set_byte(substring(int8send({now_ms}::bigint) FROM 3) || "
                "substring(uuid_send(gen_random_uuid()) FROM 7), 6, 112), 'hex')::",
        "$2::": "gen_random_uuid()::",
        "$3::": "'\\x" + "5a" * 32 + "'::",
        "$4::": "'c-' || (random() * 9999)::int::",
        "$5::": "'RUB'::",
        "$6::": '\'[{"sku": "BOOK-1", "quantity": 2, "unitAmount": 59900}, '
                '{"sku": "PEN-7", "quantity": 1, "unitAmount": 9900}]\'::',
        "$7::": "'leave at the door'::",
        "$8::": "129700::",
        "$9::": f"{now_ms}::",
        "$10::": f"{client}::",
    }
    for parameter, value in values.items():
        sql = sql.replace(parameter, value)
    script = BUILD / "insert.sql"
    script.write_text(sql.strip() + ";\n")
    service = {"PGHOST": "127.0.0.1", "PGPORT": os.environ["PG_PORT"], "PGUSER": os.environ["SPIN_VARIABLE_PG_USER"],
               "PGPASSWORD": os.environ["SPIN_VARIABLE_PG_PASSWORD"]}
    latencies = BUILD / "pgbench"
    out = run(os.environ["PGBENCH"], "-n", "-M", mode, "-c", str(clients), "-j", "1", "-T", str(seconds),
              "-f", str(script), "-l", "--log-prefix", str(latencies), database, env={**os.environ, **service})
    times = []
    for log in BUILD.glob("pgbench.*"):
        times.extend(int(line.split()[2]) / 1000 for line in log.read_text().splitlines())
        log.unlink()
    times.sort()
    rate = float(re.search(r"tps = ([\d.]+)", out).group(1))
    return {"requests": len(times), "seconds": len(times) / rate, "p50_ms": times[len(times) // 2],
            "p99_ms": times[len(times) * 99 // 100], "max_ms": times[-1], "errors": 0, "wrong": 0}


class Bench:
    def __init__(self, args):
        self.args = args
        self.stores = Stores()
        self.cells = []

    def start(self, name, database="orders"):
        if name == "native":
            return Target(name, binary=BUILD / "release" / "native")
        if name in ("floor", "plain"):
            return Target(name, manifest=BENCH / name / "spin.toml")
        wasm = dict(self.args.against).get(name)
        return Target(name, manifest=manifest_for(wasm) if wasm else ROOT / "spin.toml", database=database)

    def measure(self, phase, target, mode, clients, round_number, rows=None):
        """Drives one load and records what every process spent on it.

        The load runs for a while before it is measured. Its clients arrive all at once and start many instances: 256 clients
        start over a hundred, each with few requests. After 128 requests per instance fewer serve more requests each.
        """
        prefix = f"fixed-{target.name}-"
        warm_up = None
        if self.args.warm_up:
            warm_up = wrk(target.url, mode, clients, self.args.warm_up, prefix)
            time.sleep(CUT_OFF_SECONDS)
        processes = {"service": target.pid, "postgres": self.stores.pg_pid()}
        if phase != "redis-down":
            processes["redis"] = self.stores.redis_pid()
        for name in processes.keys() - {"postgres"}:
            proc.reset_peak(processes[name])
        placed_before, wal_before = self.stores.count(target.database), self.stores.wal_bytes()
        cpu_before = {name: proc.cpu_seconds(pid) for name, pid in processes.items()}
        cell = wrk(target.url, mode, clients, self.args.seconds, prefix)
        cpu = {name: proc.cpu_seconds(pid) - cpu_before[name] for name, pid in processes.items()}
        memory = {name: proc.peak_mb(pid) for name, pid in processes.items() if name != "postgres"}
        memory["postgres"] = proc.proportional_mb(processes["postgres"])
        # Wait until the requests that were cut off at the end are placed too.
        time.sleep(CUT_OFF_SECONDS)
        placed, wal = self.stores.count(target.database) - placed_before, self.stores.wal_bytes() - wal_before
        cell["wal_kb"] = round(wal / 1000 / max(placed, 1), 2)
        cell["wrong"] = self.wrong_count(cell, mode, clients, placed)
        if warm_up:
            cell["errors"] += warm_up["errors"]
            cell["max_ms"] = max(cell["max_ms"], warm_up["max_ms"])
        self.book(cell, phase, target.name, mode, clients, round_number, cpu, memory, rows)

    def wrong_count(self, cell, mode, clients, placed):
        """A create must have placed as many orders as it answered, except those cut off at the end; other modes none."""
        least = cell["requests"] - cell["errors"] if mode == "create" else 0
        most = cell["requests"] + clients if mode == "create" else 0
        return max(least - placed, placed - most, 0)

    def book(self, cell, phase, target, mode, clients, round_number, cpu, memory, rows=None):
        requests = max(cell["requests"], 1)
        cell.update(
            phase=phase, target=target, mode=mode, clients=clients, round=round_number, rows=rows,
            per_second=round(cell["requests"] / cell["seconds"], 1),
            cpu_seconds_per_1000={name: round(seconds / requests * 1000, 4) for name, seconds in cpu.items()},
            memory_mb={name: round(value, 1) for name, value in memory.items()},
        )
        self.cells.append(cell)
        size = f" rows={rows}" if rows is not None else ""
        print(f"bench: round {round_number} {phase}{size} {target} {mode} x{clients}: {cell['per_second']:.0f}/s "
              f"p50 {cell['p50_ms']} ms, p99 {cell['p99_ms']} ms, max {cell['max_ms']} ms, "
              f"errors {cell['errors']}, wrong {cell['wrong']}", file=sys.stderr, flush=True)

    def ceiling(self, name, clients, round_number):
        processes = {"redis": self.stores.redis_pid(), "postgres": self.stores.pg_pid()}
        before = {each: proc.cpu_seconds(pid) for each, pid in processes.items()}
        cell = self.redis_ceiling(clients) if name == "redis" else pgbench(clients, self.args.seconds)
        cpu = {each: proc.cpu_seconds(pid) - before[each] for each, pid in processes.items()}
        mode = "replay" if name == "redis" else "create"
        self.book(cell, "main", name, mode, clients, round_number, {name: cpu[name]}, {})

    def redis_ceiling(self, clients):
        """GET of a value as long as a record."""
        self.stores.redis("set", "ceiling", "x" * 450)
        requests = 40_000 * self.args.seconds
        out = run("redis-benchmark", "-p", self.stores.redis_port, "-c", str(clients), "-n", str(requests), "--csv",
                  "GET", "ceiling")
        _, rate, _, _, p50, _, p99, highest = [field.strip('"') for field in out.splitlines()[-1].split('",')]
        return {"requests": requests, "seconds": requests / float(rate), "p50_ms": float(p50), "p99_ms": float(p99),
                "max_ms": float(highest), "errors": 0, "wrong": 0}

    # ---- phases

    def reset(self, targets):
        """Every round starts with an empty table and the fixed set of orders."""
        self.stores.sql("TRUNCATE orders")
        self.stores.redis("flushall")
        for target in targets:
            target.check_contract()
            for number in range(FIXED_KEYS):
                # Numbered as in load.lua.
                status, _, _ = target.post(f"fixed-{target.name}-{number}", number)
                if status != 201:
                    raise SystemExit(f"bench: {target.name} answered {status}; see {target.log}")

    def main(self, targets):
        cells = [(target, mode, clients) for target in targets for mode in ("healthz", "replay", "create")
                 for clients in self.args.clients if not (target.name == "plain" and mode == "healthz")]
        if not self.args.against:
            # pgbench keeps a session per client, beside the pools of the services.
            cells += [(name, None, clients) for name in ("redis", "postgres") for clients in self.args.clients
                      if clients <= 64 or name == "redis"]
        for round_number in range(1, self.args.rounds + 1):
            self.reset(targets)
            random.Random(round_number).shuffle(cells)
            for target, mode, clients in cells:
                if mode is None:
                    self.ceiling(target, clients, round_number)
                else:
                    self.measure("main", target, mode, clients, round_number)

    def redis_down(self, targets):
        self.stores.stop_redis()
        try:
            # The floor fails without Redis.
            cells = [(target, clients) for target in targets for clients in self.args.clients
                     if clients in (16, 64) and target.name != "floor"]
            for round_number in range(1, self.args.rounds + 1):
                self.stores.sql("TRUNCATE orders")
                random.Random(round_number).shuffle(cells)
                for target, clients in cells:
                    self.measure("redis-down", target, "create", clients, round_number)
        finally:
            self.stores.start_redis()

    def table(self):
        """One service per size, so that sizes alternate too."""
        sizes = [0, self.args.rows // 10, self.args.rows]
        print(f"bench: filling tables of {', '.join(map(str, sizes))} orders", file=sys.stderr, flush=True)
        self.stores.sql("TRUNCATE orders")
        databases = {rows: self.stores.make_database(rows) for rows in sizes}
        targets = {}
        try:
            for rows, database in databases.items():
                targets[rows] = self.start("service", database)
            cells = [(rows, clients) for rows in sizes for clients in self.args.clients if clients in (16, 64)]
            for round_number in range(1, self.args.rounds + 1):
                self.stores.sql("TRUNCATE orders", databases[0])
                random.Random(round_number).shuffle(cells)
                for rows, clients in cells:
                    self.measure("table", targets[rows], "create", clients, round_number, rows)
        finally:
            for target in targets.values():
                target.stop()
            for database in databases.values():
                self.stores.drop_database(database)

    def soak(self):
        """Three replays for each create at 64 clients; the memory every few seconds."""
        target = self.start("service")
        samples = []
        try:
            self.reset([target])
            started = time.monotonic()
            load = subprocess.Popen(
                ["wrk", "-t1", "-c64", f"-d{self.args.soak_seconds}s", "--timeout", "10s", "-s", str(BENCH / "load.lua"),
                 target.url, "--", "mixed", f"fixed-{target.name}-", str(FIXED_KEYS)], stdout=subprocess.PIPE, text=True)
            while load.poll() is None:
                time.sleep(5)
                samples.append((round(time.monotonic() - started), round(proc.resident_mb(target.pid), 1)))
            cell = json.loads(load.stdout.read().splitlines()[-1])
            cell["orders"] = self.stores.count()
        finally:
            target.stop()
        return {"load": cell, "samples": samples[:-1]}

    def world(self):
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
        wasm = ROOT / "target" / "wasm32-wasip2" / "release" / "order.wasm"
        return {
            "runtime": spin_version() or "bundled host (target/host/order-host)",
            "machine": f"{os.cpu_count()} x {model}, {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 30} GiB",
            "load_average_before": os.getloadavg()[0],
            "versions": {
                "kernel": platform.release(),
                "postgresql": self.stores.sql("SHOW server_version"),
                "redis": re.search(r"redis_version:(\S+)", self.stores.redis("info", "server")).group(1),
                "wrk": subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout.split()[1],
                "rustc": run("rustc", "--version", cwd=ROOT).split()[1],
                "component_bytes": wasm.stat().st_size,
            },
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def run(self):
        self.stores.check_durability()
        world = self.world()
        print(f"bench: the services run on: {world['runtime']}", file=sys.stderr)
        result = {"world": world, "settings": {name: str(value) for name, value in vars(self.args).items() if name != "out"}}
        if self.args.soak:
            result["soak"] = self.soak()
        if not self.args.soak and {"main", "redis-down"} & set(self.args.phases):
            targets = []
            try:
                for name in [*self.args.services, *dict(self.args.against)]:
                    targets.append(self.start(name))
                if "main" in self.args.phases:
                    self.main(targets)
                if "redis-down" in self.args.phases:
                    self.redis_down(targets)
            finally:
                for target in targets:
                    target.stop()
        if not self.args.soak and "table" in self.args.phases:
            self.table()
        result["cells"] = self.cells
        return result


if __name__ == "__main__":
    args = arguments()
    wrong = report.write(Bench(args).run(), args.out)
    sys.exit(1 if wrong else 0)
