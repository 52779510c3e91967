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
import queue
import random
import re
import sys
import threading
import time
import uuid

import proc
from bench import wrk
from world import FIXED_KEYS, ORDER, ROOT, Stores, Target, spin_version

RECORD, PAGE = ROOT / "docs" / "bench" / "size.md", ROOT / "docs" / "scaling.md"
DAY, YEAR = 86_400, 365 * 86_400
RATES = (10, 100, 500, 1_000, 10_000)
# The share of the processors that is planned for, and the processors of a replica: its limit in deploy/base/order.yaml.
BUSY, REPLICA_CORES = 0.7, 2
# What one server often has. A row's first limit is the resource with the largest share of its bound.
BOUNDS = {"Redis": 64e9, "disk after a year": 10e12, "log": 100e6, "PostgreSQL's cores": 32, "connections": 1_000}
INDEXES = {"orders_pkey": "index: order id", "orders_client_idempotency_key_key": "index: key",
           "orders_client_customer_id_order_id_idx": "index: customer", "orders_client_status_order_id_idx": "index: status",
           "orders_client_changed_xid_order_id_idx": "index: feed"}
NAMES = ("service", "postgres", "redis")


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh size", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=3_000, help="orders placed to measure bytes (3000; of the largest a tenth)")
    parser.add_argument("--rows", type=int, default=200_000, help="orders in the large table (200000)")
    parser.add_argument("--seconds", type=int, default=5, help="length of a load whose processor time is measured (5)")
    parser.add_argument("--rates", default="10,100", help="orders a second of the runs that check the table (10,100)")
    parser.add_argument("--check-seconds", type=int, default=20, help="length of such a run (20)")
    parser.add_argument("--replays", type=float, default=0.1, help="repeats per order in the table and in those runs (0.1)")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.relative_to(ROOT)}, and the table of {PAGE.relative_to(ROOT)}")
    args = parser.parse_args()
    args.rates = [int(rate) for rate in args.rates.split(",")]
    return args


def order(kind):
    """As small as can be; of two items with a comment; the same under a UUIDv7; or at every limit of the contract, hard to compress."""
    key = str(uuid.uuid4())
    if kind == "key by time":
        now = f"{time.time_ns() // 1_000_000:012x}"
        return str(uuid.UUID(f"{now}7{random.getrandbits(12):03x}8{random.getrandbits(60):015x}")), order("typical")[1]
    if kind == "small":
        return key, {"customerId": f"c-{random.randrange(10_000)}", "currency": "RUB", "items": [{"sku": "A", "quantity": 1, "unitAmount": 1}]}
    if kind == "typical":
        return key, {**ORDER, "customerId": f"c-{random.randrange(10_000)}"}

    def text(length):
        return "".join(chr(random.randrange(0x10000, 0x10000 + 4096)) for _ in range(length))
    items = [{"sku": text(64), "quantity": 10_000, "unitAmount": 9_000_000_000} for _ in range(100)]
    return key.ljust(255, "x"), {"customerId": text(64), "currency": "RUB", "items": items, "comment": text(500)}


class Sender:
    """Keeps a connection, as a client does."""

    def __init__(self, target):
        self.address = target.address
        self.connection = http.client.HTTPConnection(self.address, timeout=30)

    def place(self, key, body):
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        self.connection.request("POST", "/orders", body, headers)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status


def place_all(target, count, kind, clients=8):
    """So many orders of that kind, and sees that each is placed."""
    orders = [(key, json.dumps(body, ensure_ascii=False).encode()) for key, body in (order(kind) for _ in range(count))]
    statuses = []

    def send(own):
        sender = Sender(target)
        statuses.extend(sender.place(*one) for one in own)
    in_threads(send, [orders[at::clients] for at in range(clients)])
    if statuses.count(201) != count:
        raise SystemExit(f"size: {count - statuses.count(201)} of {count} {kind} orders were not placed; see {target.log}")
    return len(orders[0][1])


def in_threads(work, arguments):
    threads = [threading.Thread(target=work, args=(one,)) for one in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def say(text):
    print(f"size: {text}", file=sys.stderr, flush=True)


class Sizes:
    def __init__(self, args):
        self.args, self.stores = args, Stores()

    # ---- bytes

    def redis_bytes(self):
        return int(re.search(r"used_memory_dataset:(\d+)", self.stores.redis("info", "memory")).group(1))

    def entries(self):
        return int(self.stores.redis("dbsize"))

    def until_entries(self, count):
        """They are written after the answer."""
        deadline = time.monotonic() + 10
        while self.entries() < count and time.monotonic() < deadline:
            time.sleep(0.05)

    def of_kind(self, target, kind):
        count = self.args.orders // (10 if kind == "largest" else 1)
        self.stores.sql("TRUNCATE orders")
        self.stores.redis("flushall")
        self.stores.sql("CHECKPOINT")
        # Pages of an empty table are logged whole once.
        place_all(target, count // 10, kind)
        self.until_entries(count // 10)
        entries, redis, wal = self.entries(), self.redis_bytes(), self.stores.wal_bytes()
        body = place_all(target, count, kind)
        self.until_entries(count // 10 + count)
        # An entry that missed its deadline is missing.
        entries = self.entries() - entries
        sizes = {"body of the request": body, "Redis": (self.redis_bytes() - redis) / max(entries, 1),
                 "log": (self.stores.wal_bytes() - wal) / count}
        rows = count // 10 + count
        indexes = {label: int(self.stores.sql(f"SELECT pg_relation_size('{name}')")) / rows for name, label in INDEXES.items()}
        total = int(self.stores.sql("SELECT pg_total_relation_size('orders')")) / rows
        sizes["table with TOAST"] = total - sum(indexes.values())
        return {**sizes, **indexes, "table and indexes": total}

    def log_of_large_table(self):
        """Per order right after a checkpoint: as it is, with wal_compression, and with keys that begin with the time too."""
        say(f"filling a table of {self.args.rows} orders")
        name, count, found = self.stores.make_database(self.args.rows), self.args.orders // 4, []
        target = Target("large", manifest=ROOT / "spin.toml", database=name)
        try:
            for compression, kind in (("off", "typical"), ("on", "typical"), ("on", "key by time")):
                self.stores.sql(f"ALTER SYSTEM SET wal_compression = {compression}")
                self.stores.sql("SELECT pg_reload_conf()")
                place_all(target, 8, kind)
                self.stores.sql("CHECKPOINT", name)
                wal = self.stores.wal_bytes()
                place_all(target, count, kind)
                found.append((self.stores.wal_bytes() - wal) / count)
        finally:
            target.stop()
            self.stores.sql("ALTER SYSTEM RESET wal_compression")
            self.stores.sql("SELECT pg_reload_conf()")
            self.stores.drop_database(name)
        return found

    # ---- processor time and connections

    def cpu(self, target):
        pids = {"service": target.pid, "postgres": self.stores.pg_pid(), "redis": self.stores.redis_pid()}
        return {name: proc.cpu_seconds(pid) for name, pid in pids.items()}

    def spent(self, target, load):
        """Processor seconds of each during the load, and what the load returns."""
        before = self.cpu(target)
        result = load()
        after = self.cpu(target)
        return {name: after[name] - before[name] for name in NAMES}, result

    def cost(self, target, mode, clients):
        wrk(target.url, mode, clients, 2)
        spent, cell = self.spent(target, lambda: wrk(target.url, mode, clients, self.args.seconds))
        if cell["errors"]:
            raise SystemExit(f"size: {cell['errors']} errors of {mode} by {clients} clients; see {target.log}")
        say(f"{mode} by {clients} clients: {cell['requests'] / cell['seconds']:.0f}/s")
        return {"per second": cell["requests"] / cell["seconds"], **{name: spent[name] / cell["requests"] * 1000 for name in NAMES}}

    def connections(self, target, clients):
        """The most at once, under creates of so many clients: to PostgreSQL, and to Redis without our own."""
        load = threading.Thread(target=wrk, args=(target.url, "create", clients, 4))
        load.start()
        found = [(0, 0)]
        while load.is_alive():
            sessions = int(self.stores.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'orders_service'"))
            in_redis = int(re.search(r"connected_clients:(\d+)", self.stores.redis("info", "clients")).group(1)) - 1
            found.append((sessions, in_redis))
        load.join()
        return [max(column) for column in zip(*found)]

    # ---- a run at a rate

    def check(self, target, rate):
        """A paced load: each request is due at its moment, whether or not earlier ones are answered."""
        due, statuses, late = queue.Queue(), [], []
        count = rate * self.args.check_seconds
        orders = [(key, json.dumps(body).encode()) for key, body in (order("typical") for _ in range(count))]
        started = time.monotonic() + 0.2
        repeats = int(count * self.args.replays)
        for number, one in enumerate(orders):
            due.put((started + number / rate, one))
            # The one of half a second before, so that it is placed.
            if number * repeats // count != (number + 1) * repeats // count and number >= rate:
                due.put((started + number / rate, orders[number - rate // 2]))

        def send(_):
            sender = Sender(target)
            while True:
                try:
                    at, one = due.get_nowait()
                except queue.Empty:
                    return
                time.sleep(max(at - time.monotonic(), 0))
                late.append(time.monotonic() - at)
                statuses.append(sender.place(*one))
        spent, _ = self.spent(target, lambda: in_threads(send, range(min(32, max(4, rate // 4)))))
        seconds = time.monotonic() - started
        if statuses.count(201) != len(statuses):
            raise SystemExit(f"size: {len(statuses) - statuses.count(201)} requests at {rate}/s failed; see {target.log}")
        say(f"{rate}/s for {seconds:.0f} s: {len(statuses)} requests, the latest sent {max(late) * 1000:.0f} ms late")
        return {name: spent[name] / seconds for name in NAMES} | {"rate": count / seconds, "asked": rate}


class Formula:
    """What a rate of orders needs. The names are those of the text that is printed with the table."""

    text = """\
    disk        = orders x bytes of table and indexes
    log         = orders x bytes of log in a large table right after a checkpoint: an upper bound
    Redis       = orders of 24 h (key_retention_seconds) x bytes of an entry
    cores       = rate x (create + {replays:g} x replay, by one client) / {busy:g}
    replicas    = service cores / {cores}, rounded up, at least 2
    connections = 64 x (replicas + replicas / 4, rounded up) + 10"""

    def __init__(self, args, size, logs, create, replay):
        self.args, self.size, self.logs, self.create, self.replay = args, size, logs, create, replay

    def share(self, name, rate):
        """Cores in use."""
        return rate * (self.create[name] + self.args.replays * self.replay[name]) / 1000

    def row(self, rate):
        service, postgres = self.share("service", rate) / BUSY, self.share("postgres", rate) / BUSY
        replicas = max(2, math.ceil(service / REPLICA_CORES))
        disk, redis = rate * self.size["table and indexes"], rate * DAY * self.size["Redis"]
        sessions = 64 * (replicas + math.ceil(replicas / 4)) + 10
        used = {"Redis": redis, "disk after a year": disk * YEAR, "log": rate * self.logs[1], "PostgreSQL's cores": postgres,
                "connections": sessions}
        shares = {name: used[name] / bound for name, bound in BOUNDS.items()}
        first = max(shares, key=shares.get)
        return [f"{rate:,}".replace(",", " "), f"{size(disk * DAY)}; {size(disk * YEAR)}", "; ".join(size(rate * DAY * log) for log in self.logs[:2]),
                size(redis), f"{service:.2f}; {postgres:.2f}", f"{replicas}; {sessions}", f"{first}, {shares[first]:.0%}"]

    heads = ["orders a second", "disk: a day; a year", "log a day; compressed", "Redis", "cores: service; PostgreSQL", "replicas; connections", "first limit"]


def size(count):
    """Three digits, as 1.23 GB."""
    for unit in ("B", "KB", "MB", "GB", "TB", "PB"):
        if count < 999.5 or unit == "PB":
            digits = 0 if count >= 100 or unit == "B" else 1 if count >= 10 else 2
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    return None


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def report(args, world, kinds, logs, costs, sessions, formula, checks):
    """The page."""
    parts = [f"# Size\n\nWritten by `scripts/bench.sh size --record`. {world}\n\n## Measured: bytes of an order"]
    labels = list(next(iter(kinds.values())))
    parts.append(table(["", *kinds], [[label, *(f"{sizes[label]:.0f}" for sizes in kinds.values())] for label in labels]))
    parts.append(f"\"Log\" is what PostgreSQL writes ahead (WAL) with no checkpoint in between. In a table of {args.rows:,} typical orders, right after a "
                 f"checkpoint, it is {logs[0]:.0f} bytes an order, {logs[1]:.0f} with `wal_compression = on`, and {logs[2]:.0f} if the keys are UUIDv7 too."
                 .replace(",", " ", 1))
    parts.append("## Measured: processor seconds per 1 000 requests")
    parts.append(table(["", "a second", *NAMES], [[name, f"{cost['per second']:.0f}", *(f"{cost[each]:.2f}" for each in NAMES)]
                                                  for name, cost in costs.items()]))
    parts.append(f"Connections of one replica under creates of 64 clients, at most: PostgreSQL {sessions[0]}, of 64 that it may take; Redis {sessions[1]}.")
    parts.append(f"## Computed: an installation of typical orders, {args.replays:g} repeats per order\n\n"
                 "Extrapolated: every figure is linear in the rate, but for the rounding. Below the table are runs that check two rates.")
    parts.append(table(formula.heads, [formula.row(rate) for rate in RATES]))
    parts.append("```\n" + formula.text.format(replays=args.replays, busy=BUSY, cores=REPLICA_CORES) + "\n```")
    bounds = ", ".join(f"{name} {bound:.0f}" if bound < 1e6 else f"{name} {size(bound)}{' a second' if name == 'log' else ''}" for name, bound in BOUNDS.items())
    parts.append(f"The first limit is the resource with the largest share of what one server often has: {bounds}.")
    parts.append("## Measured: runs at a rate against the formula\n\nCores in use, measured / by the formula before the division by "
                 f"{BUSY:g}. Each run took {args.check_seconds} s. Rare requests each start an instance, which the formula leaves out.")
    parts.append(table(["orders a second", *NAMES], [
        [f"{run['rate']:.0f}", *(f"{run[name]:.3f} / {formula.share(name, run['rate']):.3f}" for name in NAMES)] for run in checks]))
    return "\n\n".join(parts) + "\n"


def excerpt(formula, checks):
    """What docs/scaling.md has of it."""
    rates = " and ".join(str(run["asked"]) for run in checks)
    factors = " and ".join(f"{run['service'] / formula.share('service', run['rate']):.1f}" for run in checks)
    return (f"{table(formula.heads, [formula.row(rate) for rate in RATES])}\n\nRuns at {rates} a second took {factors} times the service's computed "
            "cores, since rare requests each start an instance; other rates are extrapolated.")


def main():
    args = arguments()
    sizes = Sizes(args)
    sizes.stores.check_durability()
    load = os.getloadavg()[0]
    # First: a database that is a template has no sessions.
    logs = sizes.log_of_large_table()
    service = Target("service", manifest=ROOT / "spin.toml")
    try:
        service.check_contract()
        say("placing orders of three sizes")
        kinds = {kind: sizes.of_kind(service, kind) for kind in ("small", "typical", "largest")}
        sizes.stores.sql("TRUNCATE orders")
        for number in range(FIXED_KEYS):
            service.post(f"fixed-{number}", number)
        costs = {f"{mode}, {clients} client{'s' * (clients > 1)}": sizes.cost(service, mode, clients)
                 for mode in ("create", "replay") for clients in (1, 16)}
        sessions = sizes.connections(service, 64)
        formula = Formula(args, kinds["typical"], logs, costs["create, 1 client"], costs["replay, 1 client"])
        # The instances of the load before are gone.
        time.sleep(2)
        checks = [sizes.check(service, rate) for rate in args.rates]
    finally:
        service.stop()
    world = (f"{(spin_version() or 'bundled host').split(' (')[0]}, {os.cpu_count()} cores, load average {load:.1f} before, PostgreSQL "
             f"{sizes.stores.sql('SHOW server_version').split()[0]}, {time.strftime('%Y-%m-%d', time.gmtime())}.")
    page = report(args, world, kinds, logs, costs, sessions, formula, checks)
    print(page)
    if args.record:
        RECORD.write_text(page)
        before, generated, rest = PAGE.read_text().partition("<!-- generated by scripts/bench.sh size --record -->\n")
        after = rest.partition("\n<!-- end -->")[2]
        PAGE.write_text(f"{before}{generated}{excerpt(formula, checks)}\n<!-- end -->{after}")
        say(f"wrote {RECORD.relative_to(ROOT)} and the table of {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
