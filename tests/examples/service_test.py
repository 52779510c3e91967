"""The consumer and the producer with a real service and its intake. Needs BASE_URL and REDIS_URL: run it through scripts/examples.sh."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid
from concurrent.futures import ThreadPoolExecutor

from feed import seeded

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
import client

ORDER = {"customerId": "c-42", "currency": "RUB", "items": [{"sku": "BOOK-1", "quantity": 2, "unitAmount": 59900}]}


class Service(unittest.TestCase):
    def setUp(self):
        self.service = client.Orders(os.environ["BASE_URL"], os.environ.get("TOKEN"))

    def test_a_consumer_that_is_killed_again_and_again_ends_with_the_orders(self):
        draw = seeded("changes")
        is_over = threading.Event()

        def work():
            while not is_over.is_set():
                order = self.service.place_order(ORDER)
                for status in draw.choice([[], ["confirmed"], ["cancelled"], ["confirmed", "cancelled"]]):
                    order = self.service.change_order(order["orderId"], order["version"], status)

        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
            command = [sys.executable, EXAMPLES / "consumer", "--table", f"{folder}/table.sqlite3"]
            workers = [pool.submit(work) for _ in range(4)]
            try:
                for _ in range(20):
                    with subprocess.Popen(command) as running:
                        time.sleep(draw.uniform(0, 0.4))  # it takes a tenth of a second to begin
                        running.kill()
            finally:
                is_over.set()
            for worker in workers:
                worker.result()
            expected = {order["orderId"]: (str(order["version"]), order["status"]) for order in self.service.orders()}
            until = time.monotonic() + 60
            self.assertGreater(len(expected), 20)
            # A change is shown once none can come before it any more, so the first empty page may come too early.
            while True:
                printed = subprocess.run([*command, "--once"], capture_output=True, text=True, check=True).stdout
                kept = {order_id: (version, status) for order_id, version, status in map(str.split, printed.splitlines())}
                if kept == expected or time.monotonic() > until:
                    break
        self.assertEqual(kept, expected)
        print(f"changes: {len(expected)} orders")

    def test_a_command_and_a_post_of_one_key_are_one_order(self):
        key = str(uuid.uuid4())
        command = [sys.executable, EXAMPLES / "producer.py", "--key", key, "--order", json.dumps(ORDER), "--timeout", "60"]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        first, again = (line.split(": ", 1) for line in done.stdout.splitlines()[1:])
        self.assertEqual([first[0], again[0]], ["first     201, replayed false", "again     201, replayed true"])
        self.assertEqual(self.service.place_order(ORDER, key), json.loads(first[1]))
        self.assertEqual([*self.service.orders(idempotencyKey=key)], [json.loads(first[1])])


if __name__ == "__main__":
    unittest.main()
