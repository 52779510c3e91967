#!/usr/bin/env python3
"""Measures orders in one table and then in the partitions of examples/partitions/, in one run on the same orders.

The service's insert by pgbench, prepared each time as the service does, right after a checkpoint; VACUUM after one order in
fifty has changed; the sizes of table and indexes; and what /readyz asks for. Both sides have indexes just built.
With five million orders it takes six minutes and 10 GB of disk. POSTGRES=18 chooses the server.
"""

import argparse
import json
import os
import re
import shutil
import tempfile
import time

import proc
from bench import pgbench
from world import INDEXES, ROOT, Stores, run


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh partitions", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="orders (5000000)")
    parser.add_argument("--clients", type=int, default=1_000, help="clients that have them (1000)")
    parser.add_argument("--sessions", type=int, default=4, help="sessions that place orders at once (4)")
    parser.add_argument("--seconds", type=int, default=20, help="length of that load (20)")
    return parser.parse_args()


class Partitions:
    def __init__(self, args):
        self.args, self.stores = args, Stores()
        self.client = f"'c-' || (random() * {args.clients - 1})::int"

    def sql(self, statement):
        return self.stores.sql(statement, self.database)

    def timed(self, statement):
        started = time.monotonic()
        self.sql(statement)
        return time.monotonic() - started

    def fill(self):
        """Quicker with the indexes afterwards, and they are then as those of the partitions: just built."""
        self.database = self.stores.make_database(0)
        definitions = [self.sql(f"SELECT pg_get_indexdef('{name}'::regclass)") for name in INDEXES]
        self.sql("ALTER TABLE orders DROP CONSTRAINT orders_pkey, DROP CONSTRAINT orders_client_idempotency_key_key")
        self.sql("; ".join(f"DROP INDEX {name}" for name in list(INDEXES)[2:]))
        self.stores.fill(self.database, self.args.rows, f"'c-' || n % {self.args.clients}")
        self.sql("SET maintenance_work_mem = '512MB'; " + "; ".join(definitions))
        self.sql("ALTER TABLE orders ADD CONSTRAINT orders_pkey PRIMARY KEY USING INDEX orders_pkey, "
                 "ADD CONSTRAINT orders_client_idempotency_key_key UNIQUE USING INDEX orders_client_idempotency_key_key")

    def migrate(self):
        url = re.sub(r"/[^/]*$", f"/{self.database}", os.environ["DATABASE_URL"])
        with tempfile.TemporaryDirectory() as folder:
            for source in (ROOT / "migrations", ROOT / "examples" / "partitions"):
                shutil.copytree(source, folder, dirs_exist_ok=True)
            started = time.monotonic()
            run("scripts/migrate.sh", cwd=ROOT, env={**os.environ, "DATABASE_URL": url, "MIGRATIONS_DIR": folder})
        return time.monotonic() - started

    def bytes_of(self, name):
        return int(self.sql(f"""SELECT coalesce((SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree('{name}') WHERE isleaf),
                                                pg_relation_size('{name}'))"""))

    def measure(self):
        self.sql("VACUUM ANALYZE orders")
        figures = {name.removesuffix("_idx"): f"{self.bytes_of(name) / 1e6:.0f} MB" for name in ("orders", *INDEXES)}
        self.sql("CHECKPOINT")
        wal, cpu = self.stores.wal_bytes(), proc.cpu_seconds(self.stores.pg_pid())
        cell = pgbench(self.args.sessions, self.args.seconds, self.database, self.client, "extended")
        count = cell["requests"]
        figures["create, median"] = f"{cell['p50_ms']:.2f} ms"
        figures["create, p99"] = f"{cell['p99_ms']:.1f} ms"
        figures["creates a second"] = f"{count / cell['seconds']:.0f}"
        figures["processor seconds per 1000 creates"] = f"{(proc.cpu_seconds(self.stores.pg_pid()) - cpu) / count * 1000:.2f}"
        figures["log per create"] = f"{(self.stores.wal_bytes() - wal) / count:.0f} bytes"
        self.sql("UPDATE orders SET status = 'confirmed', version = version + 1 WHERE hashtext(order_id::text) % 50 = 0")
        figures["VACUUM"] = f"{self.timed('VACUUM orders'):.1f} s"
        self.sql("UPDATE orders SET version = version + 1 WHERE client = 'c-7' AND hashtext(order_id::text) % 2 = 0")
        table = self.sql("SELECT tableoid::regclass FROM orders WHERE client = 'c-7' LIMIT 1")
        figures["VACUUM of one client's changes"] = f"{self.timed(f'VACUUM (INDEX_CLEANUP ON) {table}'):.1f} s"
        self.sql("SELECT count(*) FROM orders_ahead")
        plan = json.loads(self.sql("EXPLAIN (ANALYZE, FORMAT JSON) SELECT count(*) FROM orders_ahead"))[0]
        figures["orders_ahead, for /readyz"] = f"{plan['Planning Time'] + plan['Execution Time']:.0f} ms"
        return figures


def main():
    args = arguments()
    bench = Partitions(args)
    bench.stores.check_durability()
    started = time.monotonic()
    bench.fill()
    print(f"partitions: PostgreSQL {bench.stores.sql('SHOW server_version')}, {args.rows} orders of {args.clients} clients, "
          f"filled in {time.monotonic() - started:.0f} s, load average {os.getloadavg()[0]:.1f}", flush=True)
    try:
        before = bench.measure()
        print(f"partitions: one table: {before}", flush=True)
        print(f"partitions: the migration took {bench.migrate():.0f} s", flush=True)
        after = bench.measure()
    finally:
        bench.stores.drop_database(bench.database)
    for name, figure in before.items():
        print(f"partitions: {name:50} {figure:>12} {after[name]:>12}")


if __name__ == "__main__":
    main()
