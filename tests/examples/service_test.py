"""Both examples against a real service and its intake. Needs BASE_URL and REDIS_URL: run it through scripts/examples.sh."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

from feed import seeded

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
ORDER = {"customerId": "c-42", "currency": "RUB", "items": [{"sku": "BOOK-1", "quantity": 2, "unitAmount": 59900}]}


def call(method, path, body=None, headers=None):
    token = os.environ.get("TOKEN")
    headers = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    sent = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["BASE_URL"] + path, sent, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def place(key):
    return call("POST", "/orders", ORDER, {"Idempotency-Key": key, "Content-Type": "application/json"})


def change(order, status):
    headers = {"If-Match": f'"{order["version"]}"', "Content-Type": "application/merge-patch+json"}
    return call("PATCH", f"/orders/{order['orderId']}", {"status": status}, headers)


def all_orders():
    orders, cursor = {}, ""
    while cursor is not None:
        page = call("GET", f"/orders?limit=100{cursor and '&cursor=' + cursor}")
        orders.update({order["orderId"]: (str(order["version"]), order["status"]) for order in page["orders"]})
        cursor = page.get("nextCursor")
    return orders


class Service(unittest.TestCase):
    def test_a_consumer_that_is_killed_again_and_again_ends_with_the_orders(self):
        draw = seeded("changes")
        is_over = threading.Event()

        def work():
            while not is_over.is_set():
                order = place(str(uuid.uuid4()))
                for status in draw.choice([[], ["confirmed"], ["cancelled"], ["confirmed", "cancelled"]]):
                    order = change(order, status)

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
            expected, until = all_orders(), time.monotonic() + 60
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
        self.assertEqual(place(key), json.loads(first[1]))
        listed = call("GET", f"/orders?idempotencyKey={key}")["orders"]
        self.assertEqual(listed, [json.loads(first[1])])


if __name__ == "__main__":
    unittest.main()
