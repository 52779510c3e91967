#!/usr/bin/env python3
"""Measures what an order costs in bytes, processor time and connections, and computes how large an installation has to be.

Bytes: orders are placed over HTTP, and the growth of the table, each index, PostgreSQL's log and Redis is divided by their number;
the log also in a large table right after a checkpoint, where nearly every order changes pages that are then logged whole.
Processor time: of service, PostgreSQL and Redis, for creates and replays, by one client and by 16.
Then it prints a table for several rates with its formula, and runs the service at two rates to compare the processor time.
It takes two to three minutes.
"""

import argparse
import http.client
import json
import math
import os
import random
import re
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import proc
from bench import Bench, wrk
from world import INDEXES, ORDER, ROOT, Target

RECORD, PAGE = ROOT / "docs" / "bench" / "size.md", ROOT / "docs" / "scaling.md"
DAY, YEAR = 86_400, 365 * 86_400
RATES = (10, 100, 500, 1_000, 10_000)
# Repeats per order, the share of the processors that is planned for, and the processors of a replica: its limit in deploy/base/order.yaml.
REPLAYS, BUSY, REPLICA_CORES = 0.1, 0.7, 2
# What one server often has. A row's first limit is the resource with the largest share of its bound.
BOUNDS = {"Redis": 64e9, "disk after a year": 10e12, "log": 100e6, "PostgreSQL's cores": 32, "connections": 1_000}
HEADS = ["orders a second", "disk: a day; a year", "log a day; compressed", "Redis", "cores: service; PostgreSQL", "replicas; connections", "first limit"]
NAMES = ("service", "postgres", "redis")


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh size", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=3_000, help="orders placed to measure bytes (3000; of the largest a tenth)")
    parser.add_argument("--rows", type=int, default=200_000, help="orders in the large table (200000)")
    parser.add_argument("--seconds", type=int, default=5, help="length of a load (5); the runs at a rate take four times as long")
    parser.add_argument("--rates", default="10,100", help="orders a second of the runs that check the table (10,100)")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.relative_to(ROOT)}, and the table of {PAGE.relative_to(ROOT)}")
    return parser.parse_args()


def order(kind):
    """A key and a body: as small as can be; of two items with a comment; that under a UUIDv7; or at every limit of the contract, hard to compress."""
    def text(length):
        return "".join(chr(random.randrange(0x10000, 0x10000 + 4096)) for _ in range(length))
    key, body = str(uuid.uuid4()), {**ORDER, "customerId": f"c-{random.randrange(10_000)}"}
    if kind == "small":
        del body["comment"]
        body["items"] = [{"sku": "A", "quantity": 1, "unitAmount": 1}]
    elif kind == "largest":
        items = [{"sku": text(64), "quantity": 10_000, "unitAmount": 9_000_000_000} for _ in range(100)]
        key, body = key.ljust(255, "x"), {"customerId": text(64), "currency": "RUB", "items": items, "comment": text(500)}
    elif kind == "key by time":
        key = str(uuid.UUID(f"{time.time_ns() // 1_000_000:012x}7{uuid.uuid4().hex[13:]}"))
    return key, json.dumps(body, ensure_ascii=False).encode()


def place(target, orders, clients=8, rate=math.inf):
    """Places them over kept connections, each at its moment whether or not earlier ones are answered. Returns the longest delay of one."""
    own, started = threading.local(), time.monotonic()

    def connect():
        own.connection = http.client.HTTPConnection(target.address, timeout=30)

    def send(number, one):
        due = started + number / rate
        time.sleep(max(due - time.monotonic(), 0))
        late = time.monotonic() - due
        own.connection.request("POST", "/orders", one[1], {"Content-Type": "application/json", "Idempotency-Key": one[0]})
        answer = own.connection.getresponse()
        answer.read()
        return late, answer.status

    with ThreadPoolExecutor(clients, initializer=connect) as pool:
        late, statuses = zip(*pool.map(send, range(len(orders)), orders))
    if set(statuses) != {201}:
        raise SystemExit(f"size: {len(orders) - statuses.count(201)} of {len(orders)} requests failed; see {target.log}")
    return max(late)


def say(text):
    print(f"size: {text}", file=sys.stderr, flush=True)


def in_redis(stores, wanted):
    """The entries and their bytes, once there are as many as wanted: they are written after the answer, and may miss their deadline."""
    deadline = time.monotonic() + 10
    while (entries := int(stores.redis("dbsize"))) < wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return entries, int(re.search(r"used_memory_dataset:(\d+)", stores.redis("info", "memory")).group(1))


def bytes_of(stores, target, kind, count):
    """Bytes of an order, by place."""
    stores.sql("TRUNCATE orders")
    stores.redis("flushall")
    stores.sql("CHECKPOINT")
    # Pages of an empty table are logged whole once.
    first = count // 10
    place(target, [order(kind) for _ in range(first)])
    (entries, redis), wal = in_redis(stores, first), stores.wal_bytes()
    orders = [order(kind) for _ in range(count)]
    place(target, orders)
    entries_now, redis_now = in_redis(stores, first + count)
    indexes = {label: int(stores.sql(f"SELECT pg_relation_size('{name}')")) / (first + count) for name, label in INDEXES.items()}
    total = int(stores.sql("SELECT pg_total_relation_size('orders')")) / (first + count)
    return {"body of the request": len(orders[0][1]), "Redis": (redis_now - redis) / max(entries_now - entries, 1),
            "log": (stores.wal_bytes() - wal) / count, "table with TOAST": total - sum(indexes.values()), **indexes, "table and indexes": total}


def log_of_large_table(stores, rows, count):
    """Bytes per order right after a checkpoint: as it is, with wal_compression, and with keys that begin with the time too."""
    say(f"filling a table of {rows} orders")
    database, found = stores.make_database(rows), []
    target = Target("large", manifest=ROOT / "spin.toml", database=database)
    try:
        for compression, kind in (("off", "typical"), ("on", "typical"), ("on", "key by time")):
            stores.sql(f"ALTER SYSTEM SET wal_compression = {compression}")
            stores.sql("SELECT pg_reload_conf()")
            place(target, [order(kind) for _ in range(8)])
            stores.sql("CHECKPOINT", database)
            wal = stores.wal_bytes()
            place(target, [order(kind) for _ in range(count)])
            found.append((stores.wal_bytes() - wal) / count)
    finally:
        target.stop()
        stores.sql("ALTER SYSTEM RESET wal_compression")
        stores.sql("SELECT pg_reload_conf()")
        stores.drop_database(database)
    return found


def connections(stores, target):
    """The most at once, under creates of 64 clients: to PostgreSQL, and to Redis without our own."""
    found = []
    with ThreadPoolExecutor() as pool:
        load = pool.submit(wrk, target.url, "create", 64, 4)
        while not load.done():
            sessions = int(stores.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'orders_service'"))
            found.append((sessions, int(re.search(r"connected_clients:(\d+)", stores.redis("info", "clients")).group(1)) - 1))
    return [max(column) for column in zip(*found)]


def check(stores, target, rate, seconds):
    """The cores in use at this rate of orders, with their repeats."""
    orders, requests = [order("typical") for _ in range(rate * seconds)], []
    for number, one in enumerate(orders):
        requests.append(one)
        # The order of half a second before, so that it is placed.
        if number % (1 / REPLAYS) == 0 and number >= rate:
            requests.append(orders[number - rate // 2])
    pids = {"service": target.pid, "postgres": stores.pg_pid(), "redis": stores.redis_pid()}
    before, started = {name: proc.cpu_seconds(pid) for name, pid in pids.items()}, time.monotonic()
    late = place(target, requests, min(32, max(4, rate // 4)), rate * len(requests) / len(orders))
    took = time.monotonic() - started
    say(f"{rate} orders a second for {took:.0f} s: {len(requests)} requests, the latest sent {late * 1000:.0f} ms late")
    return {name: (proc.cpu_seconds(pid) - before[name]) / took for name, pid in pids.items()} | {"rate": len(orders) / took, "asked": rate}


class Formula:
    """What a rate of orders needs. The names are those of the text that is printed with the table."""

    text = f"""\
    disk        = orders x bytes of table and indexes
    log         = orders x bytes of log in a large table right after a checkpoint: an upper bound
    Redis       = orders of 24 h (key_retention_seconds) x bytes of an entry
    cores       = rate x (create + {REPLAYS:g} x replay, by one client) / {BUSY:g}
    replicas    = service cores / {REPLICA_CORES}, rounded up, at least 2
    connections = 64 x (replicas + replicas / 4, rounded up) + 10"""

    def __init__(self, sizes, logs, create, replay):
        self.sizes, self.logs, self.create, self.replay = sizes, logs, create, replay

    def cores(self, name, rate):
        """In use."""
        return rate * (self.create[name] + REPLAYS * self.replay[name]) / 1000

    def row(self, rate):
        service, postgres = self.cores("service", rate) / BUSY, self.cores("postgres", rate) / BUSY
        replicas = max(2, math.ceil(service / REPLICA_CORES))
        disk, redis = rate * self.sizes["table and indexes"], rate * DAY * self.sizes["Redis"]
        sessions = 64 * (replicas + math.ceil(replicas / 4)) + 10
        shares = [used / bound for used, bound in zip((redis, disk * YEAR, rate * self.logs[1], postgres, sessions), BOUNDS.values())]
        first, share = max(zip(BOUNDS, shares), key=lambda pair: pair[1])
        return [spaced(rate), f"{short(disk * DAY)}; {short(disk * YEAR)}", "; ".join(short(rate * DAY * log) for log in self.logs[:2]),
                short(redis), f"{service:.2f}; {postgres:.2f}", f"{replicas}; {sessions}", f"{first}, {share:.0%}"]


def spaced(count):
    return f"{count:,}".replace(",", " ")


def short(count):
    """Three digits, as 1.23 GB."""
    power = int(f"{count:.2e}".partition("e")[2]) // 3
    return f"{count / 1000 ** power:#.3g}".rstrip(".") + " " + ("B", "KB", "MB", "GB", "TB", "PB")[power]


def table(heads, rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows])


def report(args, world, kinds, costs, sessions, formula, checks):
    """The page."""
    logs, labels = formula.logs, list(kinds["typical"])
    bounds = ", ".join(f"{name} {bound if bound < 1e6 else short(bound)}{' a second' * (name == 'log')}" for name, bound in BOUNDS.items())
    return f"""# Size

Written by `scripts/bench.sh size --record`. {world["runtime"].split(" (")[0]}, {os.cpu_count()} cores, load average \
{world["load_average_before"]:.1f} before, PostgreSQL {world["versions"]["postgresql"].split()[0]}, {world["started"][:10]}.

## Measured: bytes of an order

{table(["", *kinds], [[label, *(f"{sizes[label]:.0f}" for sizes in kinds.values())] for label in labels])}

"Log" is what PostgreSQL writes ahead (WAL) with no checkpoint in between. In a table of {spaced(args.rows)} typical orders, right after a \
checkpoint, it is {logs[0]:.0f} bytes an order, {logs[1]:.0f} with `wal_compression = on`, and {logs[2]:.0f} if the keys are UUIDv7 too.

## Measured: processor seconds per 1 000 requests

{table(["", "a second", *NAMES], [[name, f"{cell['per_second']:.0f}", *(f"{cell['cpu_seconds_per_1000'][each]:.2f}" for each in NAMES)]
                                  for name, cell in costs.items()])}

Connections of one replica under creates of 64 clients, at most: PostgreSQL {sessions[0]}, of 64 that it may take; Redis {sessions[1]}.

## Computed: an installation of typical orders, {REPLAYS:g} repeats per order

Extrapolated: every figure is linear in the rate, but for the rounding. Below the table are runs that check two rates.

{table(HEADS, [formula.row(rate) for rate in RATES])}

```
{formula.text}
```

The first limit is the resource with the largest share of what one server often has: {bounds}.

## Measured: runs at a rate against the formula

Cores in use, measured / by the formula before the division by {BUSY:g}. Each run took {4 * args.seconds} s. \
Rare requests each start an instance, which the formula leaves out.

{table(["orders a second", *NAMES], [[f"{run['rate']:.0f}", *(f"{run[name]:.3f} / {formula.cores(name, run['rate']):.3f}" for name in NAMES)]
                                     for run in checks])}
"""


def excerpt(formula, checks):
    """The part that docs/scaling.md contains."""
    rates = " and ".join(str(run["asked"]) for run in checks)
    factors = " and ".join(f"{run['service'] / formula.cores('service', run['rate']):.1f}" for run in checks)
    return (f"{table(HEADS, [formula.row(rate) for rate in RATES])}\n\nRuns at {rates} a second took {factors} times the service's computed "
            "cores, since rare requests each start an instance; other rates are extrapolated.")


def main():
    args = arguments()
    bench = Bench(argparse.Namespace(seconds=args.seconds, warm_up=2, against=()))
    stores, world = bench.stores, bench.world()
    stores.check_durability()
    # First: a database that is a template has no sessions.
    logs = log_of_large_table(stores, args.rows, args.orders // 4)
    service = bench.start("service")
    try:
        say("placing orders of three sizes")
        kinds = {kind: bytes_of(stores, service, kind, args.orders // (10 if kind == "largest" else 1)) for kind in ("small", "typical", "largest")}
        bench.reset([service])
        for mode, clients in (("create", 1), ("create", 16), ("replay", 1), ("replay", 16)):
            bench.measure("main", service, mode, clients, 1)
        costs = {f"{cell['mode']}, {cell['clients']} client{'s' * (cell['clients'] > 1)}": cell for cell in bench.cells}
        if any(cell["errors"] + cell["wrong"] for cell in bench.cells):
            raise SystemExit(f"size: a load had errors; see {service.log}")
        sessions = connections(stores, service)
        formula = Formula(kinds["typical"], logs, *(costs[f"{mode}, 1 client"]["cpu_seconds_per_1000"] for mode in ("create", "replay")))
        # The instances of the load before are gone.
        time.sleep(2)
        checks = [check(stores, service, int(rate), 4 * args.seconds) for rate in args.rates.split(",")]
    finally:
        service.stop()
    page = report(args, world, kinds, costs, sessions, formula, checks)
    print(page)
    if args.record:
        RECORD.write_text(page)
        before, generated, rest = PAGE.read_text().partition("<!-- generated by scripts/bench.sh size --record -->\n")
        after = rest.partition("\n<!-- end -->")[2]
        PAGE.write_text(f"{before}{generated}{excerpt(formula, checks)}\n<!-- end -->{after}")
        say(f"wrote {RECORD.relative_to(ROOT)} and the table of {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
