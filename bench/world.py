"""The stores and the services under measurement: start, reset, stop."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "target" / "bench"
FIXED_KEYS = 500
ORDER = {
    "customerId": "c-{}",
    "currency": "RUB",
    "items": [
        {"sku": "BOOK-1", "quantity": 2, "unitAmount": 59900},
        {"sku": "PEN-7", "quantity": 1, "unitAmount": 9900},
    ],
    "comment": "leave at the door",
}
INDEXES = {
    "orders_pkey": "index: order id",
    "orders_client_idempotency_key_key": "index: key",
    "orders_client_customer_id_order_id_idx": "index: customer",
    "orders_client_status_order_id_idx": "index: status",
    "orders_client_changed_xid_order_id_idx": "index: feed",
}


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout.strip()


def spin_version():
    """The version of the Spin that scripts/runtime.sh chooses, or None if it chooses the bundled host."""
    name = run("scripts/runtime.sh", "name", cwd=ROOT)
    return name if name.startswith("spin ") else None


class Stores:
    """The private Redis and PostgreSQL that scripts/bench.sh started."""

    def __init__(self):
        self.redis_port = os.environ["REDIS_PORT"]
        self.superuser_url = os.environ["PG_SUPERUSER_URL"]

    def sql(self, statement, database="orders"):
        url = re.sub(r"/[^/]*$", f"/{database}", self.superuser_url)
        return run("psql", url, "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement)

    def redis(self, *command):
        return run("redis-cli", "-p", self.redis_port, *command)

    def redis_pid(self):
        return int(re.search(r"process_id:(\d+)", self.redis("info", "server")).group(1))

    def pg_pid(self):
        pid_file = Path(self.sql("SHOW data_directory")) / "postmaster.pid"
        return int(pid_file.read_text().splitlines()[0])

    def stop_redis(self):
        self.redis("shutdown", "nosave")

    def start_redis(self):
        run(str(ROOT / "scripts" / "services.sh"), "up")

    def wal_bytes(self):
        """The bytes of WAL that the whole server has written so far."""
        return int(self.sql("SELECT pg_current_wal_insert_lsn() - '0/0'"))

    def count(self, database="orders"):
        return int(self.sql("SELECT count(*) FROM orders", database))

    def check_durability(self):
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            if self.sql(f"SHOW {name}") != "on":
                raise SystemExit(f"bench: {name} is off: what is measured would not be durable")

    def make_database(self, rows):
        """A copy of the schema with this many orders of 10 000 customers."""
        name = f"orders_{rows}"
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", "postgres")
        self.sql(f"CREATE DATABASE {name} TEMPLATE orders OWNER orders_owner", "postgres")
        self.sql(f"GRANT CONNECT ON DATABASE {name} TO orders_service", "postgres")
        self.fill(name, rows)
        self.sql("VACUUM ANALYZE orders", name)
        self.sql("CHECKPOINT", name)
        return name

    def fill(self, name, rows, client="''"):
        """`client` is an expression of the number n."""
        self.sql(
            f"""INSERT INTO orders (order_id, idempotency_key, fingerprint, customer_id, currency, items, comment,
                                    total_amount, created_at, updated_at, client)
                SELECT encode(set_byte(substring(int8send(extract(epoch FROM placed)::bigint * 1000) FROM 3)
                              || substring(uuid_send(gen_random_uuid()) FROM 7), 6, 112), 'hex')::uuid,
                       gen_random_uuid()::text, sha256(n::text::bytea), 'c-' || n % 10000, 'RUB',
                       '{json.dumps(ORDER["items"])}', 'leave at the door', 129700, placed, placed, {client}
                FROM generate_series(1, {rows}) n, LATERAL (SELECT now() - ({rows} - n) * interval '1 second') t(placed)""",
            name,
        )

    def drop_database(self, name):
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", "postgres")


class Target:
    """One service under measurement, as its own process on its own port."""

    def __init__(self, name, manifest=None, binary=None, database="orders", environment=None, under=()):
        self.name = name
        self.database = database
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        if binary:
            command, health = [binary, self.address], "/healthz"
        elif spin_version():
            command, health = ["spin", "up", "--quiet", "-f", manifest, "--listen", self.address], "/.well-known/spin/health"
        else:
            host = ROOT / "target" / "host" / "order-host"
            command, health = [host, "--manifest", manifest, "--listen", self.address], "/.well-known/spin/health"
        (BUILD / "logs").mkdir(parents=True, exist_ok=True)
        self.log = BUILD / "logs" / f"{name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*under, *command],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "SPIN_VARIABLE_PG_DATABASE": database, **(environment or {})},
            )
        self._wait_until_up(health)

    def _wait_until_up(self, path):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self.url + path, timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise SystemExit(f"bench: {self.name} did not start; see {self.log}")

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def post(self, key, number=0):
        order = {**ORDER, "customerId": f"c-{number}"}
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        request = urllib.request.Request(self.url + "/orders", json.dumps(order).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read()

    def check_contract(self):
        """Services that are compared must do the same: place once, replay the bytes, refuse another order.

        The floor does not look at the order, so it replays there too.
        """
        key = f"contract-{self.name}-{time.time_ns()}"
        first, again, other = self.post(key), self.post(key), self.post(key, 1)
        expected = [(first, 201, "false"), (again, 201, "true")]
        good = all((status, headers.get("Idempotent-Replayed")) == (want, replayed)
                   for (status, headers, _), want, replayed in expected)
        good = good and all(first[1].get(name) and first[1].get(name) == again[1].get(name) for name in ("Location", "ETag"))
        if not good or first[2] != again[2] or other[0] != (201 if self.name == "floor" else 422):
            raise SystemExit(f"bench: {self.name} does not keep the contract: {first[0]}, {again[0]}, {other[0]}; see {self.log}")


def manifest_for(wasm):
    """The service's spin.toml with another component."""
    text = (ROOT / "spin.toml").read_text()
    source = re.sub(r'^source = ".*"$', f'source = "{Path(wasm).resolve()}"', text, flags=re.M)
    path = BUILD / f"spin-{abs(hash(str(wasm)))}.toml"
    path.write_text(source)
    return path
