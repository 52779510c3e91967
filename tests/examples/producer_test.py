"""examples/producer.py with a Redis of its own, and with an intake that works as in docs/queues.md."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import redis

FILE = pathlib.Path(__file__).parents[2] / "examples/producer.py"
ENVIRONMENT = {**os.environ, "TOKEN": ""}  # another test's service may have one


@contextlib.contextmanager
def started_redis():
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/redis.sock"
        command = ["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                store = redis.Redis.from_url(f"unix://{socket}", decode_responses=True)
                until = time.monotonic() + 30
                while True:
                    try:
                        store.ping()
                        break
                    except redis.ConnectionError:
                        if time.monotonic() > until or server.poll() is not None:
                            raise
                        time.sleep(0.01)
                yield f"unix://{socket}", store
            finally:
                store.close()
                server.kill()


class Intake(threading.Thread):
    """Answers each command once somebody rings. `status` is what a new key gets. Before each result there is another client's
    for the same key, and one of an earlier command with it."""

    def __init__(self, store, status="201"):
        super().__init__()
        self.store, self.status, self.bodies, self.is_over = store, status, {}, threading.Event()
        self.doorbell = store.pubsub(ignore_subscribe_messages=True)

    def __enter__(self):
        self.doorbell.subscribe("orders:doorbell")
        self.doorbell.get_message(timeout=5)  # that it is subscribed
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.join()
        self.doorbell.close()

    def run(self):
        last = "0"
        while not self.is_over.is_set():
            if not self.doorbell.get_message(timeout=0.05):
                continue
            for last, command in self.store.xrange("orders:commands", min=f"({last}"):
                for stranger in ({"command": "1-0", "client": "shop"}, {"command": "1-1", "client": ""}):
                    self.store.xadd("orders:results", {**stranger, "key": command["key"], "status": "422", "body": "not yours", "replayed": "false"})
                is_known = command["key"] in self.bodies
                body = self.bodies.setdefault(command["key"], f"answer to {command['order']} of {command.get('token')}")
                replayed = "true" if is_known and self.status == "201" else "false"
                own = {"command": last, "client": "", "key": command["key"]}
                self.store.xadd("orders:results", {**own, "status": self.status, "body": body, "replayed": replayed})


class Producer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.url, cls.store = cls.enterClassContext(started_redis())

    def setUp(self):
        self.store.flushall()

    def produce(self, *arguments):
        command = [sys.executable, FILE, "--redis", self.url, *arguments]
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)

    def test_the_second_result_is_the_first_one_replayed(self):
        with Intake(self.store):
            done = self.produce("--key", "k-1", "--order", "two books", "--token", "t0ken")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.splitlines(), [
            "key       k-1",
            "first     201, replayed false: answer to two books of t0ken",
            "again     201, replayed true: answer to two books of t0ken",
        ])
        self.assertEqual([command["key"] for _, command in self.store.xrange("orders:commands")], ["k-1", "k-1"])

    def test_each_run_has_a_key_of_its_own_and_an_order_that_is_json(self):
        with Intake(self.store):
            keys = {self.produce().stdout.splitlines()[0] for _ in range(2)}
        self.assertEqual(len(keys), 2)
        self.assertIn("customerId", self.store.xrange("orders:commands")[0][1]["order"])
        self.assertNotIn("token", self.store.xrange("orders:commands")[0][1])

    def test_a_refusal_is_told_and_not_sent_again(self):
        with Intake(self.store, "422"):
            done = self.produce()
        self.assertEqual(done.returncode, 1)
        self.assertIn("first     422, replayed false", done.stdout)
        self.assertEqual(self.store.xlen("orders:commands"), 1)

    def test_without_an_intake_it_says_so_and_how_to_go_on(self):
        done = self.produce("--key", "k-2", "--timeout", "0.2")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no intake listens on orders:doorbell", done.stderr)
        self.assertIn("no result in 0.2 s", done.stderr)
        self.assertIn("--key k-2", done.stderr)
        with Intake(self.store):
            done = self.produce("--key", "k-2")
        self.assertIn("first     201", done.stdout)

    def test_a_ring_that_is_lost_is_rung_again(self):
        waiting = subprocess.Popen([sys.executable, FILE, "--redis", self.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with waiting:
            until = time.monotonic() + 30
            while not self.store.xlen("orders:commands"):
                self.assertLess(time.monotonic(), until)
            with Intake(self.store):
                self.assertEqual(waiting.wait(60), 0)

    def test_a_redis_that_is_not_there_is_told(self):
        done = subprocess.run([sys.executable, FILE, "--redis", "redis://127.0.0.1:1", "--key", "k-3"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("Connection refused", done.stderr)
        self.assertIn("--key k-3 sends it again", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main()
