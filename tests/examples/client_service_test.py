"""The three clients of examples/ and a real service, with a proxy between them that loses, cuts, delays and refuses.

Needs BASE_URL and DATABASE_URL: run it through scripts/examples.sh. ORDERS is how many orders each client is to place, 100 by default.
"""

import collections
import http.client
import itertools
import json
import os
import queue
import random
import subprocess
import threading
import time
import unittest
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

from faults import DROP, HOLD, Answer, Driven, Server, answer
from feed import seeded

ORDERS = int(os.environ.get("ORDERS") or 100)
WORKERS = 4
ATTEMPT = 2  # seconds; only a HOLD lasts as long
# Before the service gets the request, or once it has answered: then the order is placed, and its client does not know it.
REFUSALS = [answer(status, {"type": f"/problems/{name}"}, headers) for status, name in [(409, "idempotency-key-in-use"), (503, "store-unavailable"),
            (408, "request-timeout"), (429, "slow-down"), (500, "internal")] for headers in ({}, {"Retry-After": "1"},
            {"Retry-After": "Thu, 01 Jan 2026 00:00:00 GMT"})] + [Answer(502, b"<h1>Bad gateway</h1>"), Answer(504)]
BEFORE = [DROP, *REFUSALS]
AFTER = [DROP, *REFUSALS, "cut", "closes"]


class Proxy(Server):
    """Passes requests on to the service. `plan(request)` are the faults of a request's attempts, one after the other, then none."""

    def __init__(self, plan):
        self.plan, self.lock, self.left, self.seen = plan, threading.Lock(), {}, collections.Counter()
        self.service, self.kept, self.placed = urllib.parse.urlsplit(os.environ["BASE_URL"]), queue.SimpleQueue(), threading.Event()
        super().__init__(self.answer_or_fail)

    def server_close(self):
        super().server_close()
        while not self.kept.empty():
            self.kept.get().close()

    def answer_or_fail(self, request):
        name = request.method, request.path, request.body  # without the key, so a fresh key does not escape the faults
        with self.lock:
            self.seen[name] += 1
            if name not in self.left:
                self.left[name] = self.plan(request)
            moment, fault = self.left[name].pop(0) if self.left[name] else (None, None)
        if moment == "before":
            return fault
        passed = self.passed(request)
        if fault == "cut":
            passed.cut = len(passed.body) // 2
        elif fault == "closes":
            passed.closes = True
        elif fault:
            self.placed.set()
            return fault
        return passed

    def passed(self, request):
        try:
            connection = self.kept.get_nowait()
        except queue.Empty:
            connection = http.client.HTTPConnection(self.service.netloc, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length", "connection")}
        connection.request(request.method, self.service.path + request.path, request.body or None, headers)
        response = connection.getresponse()
        passed = Answer(response.status, response.read(), {name: value for name, value in response.headers.items() if name.lower() != "content-length"})
        self.kept.put(connection)
        return passed


def faults_of(draw):
    """The faults of one order's attempts: mostly none or one, at most three. HOLD lasts a whole attempt, so it is rare."""
    def one():
        moment = draw.choice(["before", "after"])
        return moment, HOLD if draw.random() < 0.01 else draw.choice(BEFORE if moment == "before" else AFTER)

    return [one() for _ in range(draw.choice([0, 0, 1, 1, 2, 3]))]


def order_of(customer):
    return {"customerId": customer, "currency": "RUB", "items": [{"sku": "BOOK-1", "quantity": 2, "unitAmount": 59900}]}


def rows(prefix):
    """The orders in PostgreSQL of customers whose name begins with `prefix`: by customer, the id, status and version of each."""
    sql = f"SELECT customer_id, order_id, status, version FROM orders WHERE customer_id LIKE '{prefix}%'"
    told = subprocess.run(["psql", os.environ["DATABASE_URL"], "-XqwtAF,", "-c", sql], capture_output=True, text=True, check=True).stdout
    found = collections.defaultdict(list)
    for customer, *order in (line.split(",") for line in told.splitlines()):
        found[customer].append(tuple(order))
    return found


class Client:
    """What each language's client has to pass."""

    def start(self, proxy, **options):
        return self.enterContext(Driven(self.language, **{"url": proxy.url, "token": os.environ.get("TOKEN") or None, **options}))

    def proxy(self, plan):
        return self.enterContext(Proxy(plan).serving())

    def setUp(self):
        self.draw = seeded(f"clients: {self.language}")
        self.prefix = f"{self.language}-{random.randbytes(6).hex()}-"

    def test_each_intended_order_is_placed_once_whatever_gets_lost(self):
        seed, planned = self.draw.random(), {}

        def plan(request):
            customer = json.loads(request.body).get("customerId") if request.body else None
            faults = faults_of(random.Random(f"{seed} {customer or request.path}"))
            planned[customer] = len(list(itertools.takewhile(lambda fault: fault[1] != "closes", faults)))
            return faults

        proxy, left = self.proxy(plan), iter(range(ORDERS))

        def work(client):
            for number in left:
                customer = f"{self.prefix}{number}"
                outcome = client.run(do="place", order=order_of(customer))
                self.assertIn("value", outcome)
                self.assertGreaterEqual(len(outcome["pauses"]), planned[customer])
                placed, changed = outcome["value"], None
                if number % 10 == 0:
                    changed = client.run(do="change", id=placed["orderId"], version=1, status="confirmed")["value"]
                    self.assertEqual((changed["status"], changed["version"]), ("confirmed", 2))
                yield customer, (placed["orderId"], *(("confirmed", "2") if changed else ("created", "1")))

        started = time.monotonic()
        clients = [self.start(proxy, attempt=ATTEMPT) for _ in range(WORKERS)]
        with ThreadPoolExecutor(WORKERS) as pool:
            told = dict(itertools.chain.from_iterable(pool.map(lambda client: list(work(client)), clients)))
        self.assertEqual(len(told), ORDERS)
        self.assertEqual(rows(self.prefix), {customer: [order] for customer, order in told.items()})
        self.assertEqual(sum(len(client.pending) for client in clients), ORDERS)
        print(f"clients: {self.language}: {ORDERS} orders, {proxy.seen.total()} requests, {sum(planned.values())} faults, {time.monotonic() - started:.1f} s")

    def test_a_client_that_is_killed_and_started_again_with_its_pending_keys_places_no_second_order(self):
        deaths = [("before", DROP), ("before", REFUSALS[0]), ("after", DROP), ("after", REFUSALS[3]), ("after", "cut"), ("after", HOLD)]
        proxy = self.proxy(lambda _: [faults.pop()])
        for number, death in enumerate(deaths):
            faults, customer = [death], f"{self.prefix}{number}"
            first = self.start(proxy, stops=True)
            proxy.placed.clear()
            first.start(do="place", order=order_of(customer))
            pending = first.next_line()
            if death[1] is HOLD:  # killed while it waits for the answer to an order that is placed
                self.assertTrue(proxy.placed.wait(60))
            else:
                self.assertEqual(first.next_line(), {"pausing": True})
            first.process.kill()
            self.assertEqual(len(rows(customer)), death[0] == "after")
            outcome = self.start(proxy).run(do="place", order=pending["order"], key=pending["pending"])
            self.assertIn("value", outcome)
            self.assertEqual(rows(customer), {customer: [(outcome["value"]["orderId"], "created", "1")]})

    def test_the_list_and_the_feed_have_every_order_whatever_gets_lost(self):
        seed = self.draw.random()
        proxy = self.proxy(lambda request: faults_of(random.Random(f"{seed} {request.path}")))
        client = self.start(proxy, attempt=ATTEMPT)
        placed = {client.run(do="place", order=order_of(f"{self.prefix}of all"))["value"]["orderId"] for _ in range(3)}
        listed = client.run(do="orders", filters={"customerId": f"{self.prefix}of all"})["value"]
        self.assertEqual({order["orderId"] for order in listed}, placed)
        shown, after = set(), None
        until = time.monotonic() + 60
        while not placed <= shown:
            self.assertLess(time.monotonic(), until, "the feed does not show the orders")
            for page, after in client.run(do="events", after=after, pages=1)["value"]:
                shown |= {event["subject"] for event in page}


class Python(Client, unittest.TestCase):
    language = "Python"


class JavaScript(Client, unittest.TestCase):
    language = "JavaScript"


class Rust(Client, unittest.TestCase):
    language = "Rust"


if __name__ == "__main__":
    unittest.main()
