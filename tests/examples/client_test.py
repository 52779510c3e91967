"""The three clients of examples/ against a server that answers as it is told: what they send again, how, and what they report."""

import email.utils
import json
import time
import unittest
import uuid

from faults import DROP, HOLD, Answer, Driven, Server, answer, problem

ORDER = {"customerId": "c-42", "currency": "RUB", "items": [{"sku": "BOOK-1", "quantity": 2, "unitAmount": 59900}], "comment": "ждёт"}
PLACED = {"orderId": "019ab0c2-7d1e-7c3a-9a51-3f0a5d0f6b11", "status": "created", "version": 1, **ORDER}
IN_USE = problem(409, "idempotency-key-in-use", {"Retry-After": "1"})
AGAIN = [problem(408, "request-timeout"), IN_USE, Answer(429), problem(500, "internal"), Answer(502, b"<h1>Bad gateway</h1>"),
         problem(503, "store-unavailable", {"Retry-After": "1"}), Answer(503), Answer(504), DROP]
# A connection that breaks, or an answer that is none.
BROKEN = [DROP, answer(201, PLACED, cut=0), answer(201, PLACED, cut=40), Answer(201, b'{"orderId": '), Answer(200, b"<h1>Welcome</h1>"),
          Answer(200), answer(409, {"type": "/problems/idempotency-key-in-use"}, cut=5), answer(503, {}, cut=1)]
FINAL = [(400, "idempotency-key-invalid"), (401, "unauthorized"), (403, "forbidden"), (404, "order-not-found"), (405, "method-not-allowed"),
         (409, "transition-not-allowed"), (410, "cursor-expired"), (413, "payload-too-large"), (415, "unsupported-media-type"),
         (422, "invalid-order"), (422, "idempotency-key-reused"), (428, "precondition-required")]


def scripted(*answers):
    """Answers one after the other, and the last one from then on."""
    left = list(answers)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


class Client:
    """What each language's client has to pass."""

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server(None).serving())
        cls.client = cls.enterClassContext(Driven(cls.language, url=cls.server.url, token="t0ken"))

    def drive(self, answering, **options):
        """A server that answers so, and a client of it: with options of its own a new one."""
        self.server.answering, self.server.requests, self.client.pending = answering, [], []
        return self.server, self.enterContext(Driven(self.language, url=self.server.url, **options)) if options else self.client

    def assert_grown(self, pauses, asked=None):
        """Each of them is what was asked for and half to all of a pause that doubles, from a quarter of a second to ten seconds."""
        for number, pause in enumerate(pauses):
            rest, grown = pause - (asked or [0] * len(pauses))[number], min(0.25 * 2**number, 10)
            self.assertTrue(grown / 2 - 0.001 <= rest <= grown + 0.001, f"pause {number} of {pauses}")

    def test_a_retry_has_the_same_key_and_the_same_bytes(self):
        for script in (AGAIN, BROKEN):
            server, client = self.drive(scripted(*script, answer(201, PLACED)))
            outcome = client.run(do="place", order=ORDER)
            self.assertEqual(outcome.get("value"), PLACED, outcome)
            self.assertEqual(len(server.requests), len(script) + 1)
            self.assertEqual(len({(request.headers["Idempotency-Key"], request.body) for request in server.requests}), 1)
            first = server.requests[0]
            self.assertEqual((first.method, first.path), ("POST", "/orders"))
            self.assertEqual(json.loads(first.body), ORDER)
            self.assertEqual(uuid.UUID(first.headers["Idempotency-Key"]).version, 4)
            self.assertEqual({request.headers["Authorization"] for request in server.requests}, {"Bearer t0ken"})
            self.assertEqual({request.headers["Content-Type"] for request in server.requests}, {"application/json"})
            self.assertEqual(client.pending, [(first.headers["Idempotency-Key"], ORDER)])
            self.assert_grown(outcome["pauses"], [1 if getattr(it, "headers", {}).get("Retry-After") else 0 for it in script])

    def test_each_order_has_a_key_of_its_own_unless_one_is_given(self):
        server, client = self.drive(scripted(answer(201, PLACED)), token=None)
        for key in (None, None, "mine", "mine"):
            client.run(do="place", order=ORDER, key=key)
        keys = [request.headers["Idempotency-Key"] for request in server.requests]
        self.assertEqual((len({*keys}), keys[2:]), (3, ["mine", "mine"]))
        self.assertEqual([key for key, _ in client.pending], keys)
        self.assertEqual({request.headers["Authorization"] for request in server.requests}, {None})

    def test_the_key_is_handed_over_before_the_first_attempt(self):
        server, client = self.drive(scripted(HOLD), attempt=100, total=1)
        client.start(do="place", order=ORDER, key="k-1")
        self.assertEqual(client.next_line(), {"pending": "k-1", "order": ORDER})
        self.assertEqual(client.next_line()["failure"], "GaveUp")
        self.assertEqual(len(server.requests), 1)

    def test_pauses_grow_up_to_a_limit_and_differ(self):
        _, client = self.drive(scripted(*[Answer(503)] * 9, answer(201, PLACED)))
        first = client.run(do="place", order=ORDER)["pauses"]
        _, other = self.drive(scripted(*[Answer(503)] * 9, answer(201, PLACED)))
        second = other.run(do="place", order=ORDER)["pauses"]
        self.assertEqual((len(first), len(second)), (9, 9))
        self.assert_grown(first)
        self.assert_grown(second)
        self.assertNotEqual(first, second)

    def test_retry_after_is_the_least_pause_as_a_number_or_a_date(self):
        before = time.time()
        soon = int(before) + 40
        dates = [email.utils.formatdate(soon, usegmt=True), email.utils.formatdate(before - 1000, usegmt=True)]
        asked = ["7", *dates, "soon", "-3", "1.5", ""]
        _, client = self.drive(scripted(*[Answer(503, headers={"Retry-After": it}) for it in asked], answer(201, PLACED)))
        pauses = client.run(do="place", order=ORDER)["pauses"]
        self.assertEqual(len(pauses), len(asked))
        # The client has read its clock at some moment since.
        self.assertTrue(soon - time.time() + 0.25 - 0.01 <= pauses[1] <= soon - before + 0.5 + 0.01, pauses)
        self.assert_grown([pauses[0], 0.25, *pauses[2:]], [7, *[0] * 6])

    def test_it_gives_up_when_the_next_pause_would_end_after_the_limit(self):
        server, client = self.drive(scripted(Answer(503, b"busy")), total=30)
        outcome = client.run(do="place", order=ORDER, key="k-1")
        self.assertEqual(outcome["failure"], "GaveUp", outcome)
        self.assertIn("503", outcome["cause"])
        self.assertEqual(len(server.requests), len(outcome["pauses"]) + 1)
        self.assertTrue(10 < sum(outcome["pauses"]) < 30, outcome)
        server, client = self.drive(scripted(Answer(503, headers={"Retry-After": "3600"})))
        outcome = client.run(do="place", order=ORDER)
        self.assertEqual((outcome["failure"], outcome["pauses"], len(server.requests)), ("GaveUp", [], 1))
        _, client = self.drive(scripted(Answer(503, headers={"Retry-After": "9" * 400})))
        self.assertEqual(client.run(do="place", order=ORDER)["failure"], "GaveUp")

    def test_an_attempt_has_a_limit_whatever_the_server_does(self):
        late = HOLD, answer(201, PLACED, drips="head"), answer(201, PLACED, drips="body")
        server, client = self.drive(scripted(*late, answer(201, PLACED)), attempt=1)
        started = time.monotonic()
        outcome = client.run(do="place", order=ORDER)
        self.assertEqual((outcome.get("value"), len(outcome["pauses"])), (PLACED, 3), outcome)
        self.assertEqual(len({request.headers["Idempotency-Key"] for request in server.requests}), 1)
        self.assertGreater(time.monotonic() - started, 2.9)

    def test_no_server_is_a_broken_connection(self):
        with Server(DROP).serving() as server:
            pass
        client = self.enterContext(Driven(self.language, url=server.url, total=5))
        outcome = client.run(do="place", order=ORDER)
        self.assertEqual(outcome["failure"], "GaveUp")
        self.assertGreater(len(outcome["pauses"]), 2)

    def test_a_refusal_is_not_sent_again_and_says_why(self):
        errors = [{"pointer": "/items/0/quantity", "detail": "is 0"}]
        server, client = self.drive(scripted(*[problem(*it, errors=errors, orderId="o-1") for it in FINAL]))
        for count, (status, name) in enumerate(FINAL, 1):
            outcome = client.run(do="place", order=ORDER)
            self.assertEqual((outcome.get("failure"), outcome.get("status"), outcome.get("type")), ("Refused", status, name), outcome)
            self.assertEqual((outcome["problem"]["errors"], outcome["problem"]["orderId"]), (errors, "o-1"))
            self.assertEqual((len(server.requests), outcome["pauses"]), (count, []))

    def test_a_malformed_problem_is_still_a_refusal(self):
        bodies = [b"", b"<h1>No</h1>", b"[]", b'"no"', b"null", b"7", b'{"detail": 7}', b"\xff\xfe", b'{"type": ', b"[[1]]"]
        odd = [json.dumps({"type": kind}).encode() for kind in (None, 7, {}, [])]
        server, client = self.drive(scripted(*[Answer(409, body) for body in bodies + odd]))
        for count, body in enumerate(bodies + odd, 1):
            outcome = client.run(do="place", order=ORDER)
            self.assertEqual((outcome.get("failure"), outcome.get("status")), ("Refused", 409), (body, outcome))
            if body in bodies:
                self.assertEqual(outcome["type"], "about:blank", body)
            self.assertEqual((len(server.requests), outcome["pauses"]), (count, []))

    def test_no_redirect_is_followed(self):
        other = self.enterContext(Server(lambda _: answer(201, PLACED)).serving())
        statuses = [status for status in (300, 301, 302, 303, 307, 308) for _ in range(2)]
        answers = [Answer(status, headers={"Location": f"{other.url}/orders"}) for status in statuses]
        server, client = self.drive(scripted(*answers))
        for count, status in enumerate(statuses, 1):
            outcome = client.run(**({"do": "place", "order": ORDER} if count % 2 else {"do": "orders"}))
            self.assertEqual((outcome.get("failure"), outcome.get("status")), ("Refused", status), outcome)
            self.assertEqual((len(server.requests), other.requests), (count, []))

    def test_a_change_names_the_version_and_is_sent_again(self):
        confirmed = {**PLACED, "status": "confirmed", "version": 2}
        server, client = self.drive(scripted(DROP, IN_USE, Answer(502), answer(200, confirmed)))
        self.assertEqual(client.run(do="change", id=PLACED["orderId"], version=1, status="confirmed")["value"], confirmed)
        sent = {(it.method, it.path, it.headers["If-Match"], it.headers["Content-Type"], it.body) for it in server.requests}
        self.assertEqual(len(sent), 1)
        self.assertEqual([*sent][0][:4], ("PATCH", f"/orders/{PLACED['orderId']}", '"1"', "application/merge-patch+json"))
        self.assertEqual(json.loads([*sent][0][4]), {"status": "confirmed"})

    def test_a_change_of_an_older_version_gives_the_present_order_back(self):
        present = {**PLACED, "status": "cancelled", "version": 2}
        moved = problem(412, "precondition-failed", {"ETag": '"2"'})
        server, client = self.drive(scripted(moved, DROP, Answer(503), answer(200, present)))
        outcome = client.run(do="change", id=PLACED["orderId"], version=1, status="confirmed")
        self.assertEqual((outcome["failure"], outcome["order"]), ("Moved", present))
        self.assertEqual([request.method for request in server.requests], ["PATCH", "GET", "GET", "GET"])
        _, client = self.drive(scripted(problem(409, "transition-not-allowed")))
        outcome = client.run(do="change", id=PLACED["orderId"], version=1, status="confirmed")
        self.assertEqual((outcome["failure"], outcome["type"], outcome["pauses"]), ("Refused", "transition-not-allowed", []))

    def test_the_list_goes_on_over_an_empty_page_to_the_last_one(self):
        pages = [answer(200, {"orders": [{"n": 1}, {"n": 2}], "nextCursor": "c+1="}), Answer(503), answer(200, {"orders": [], "nextCursor": "c2"}),
                 answer(200, {"orders": [{"n": 3}]}), answer(500)]
        server, client = self.drive(scripted(*pages))
        outcome = client.run(do="orders", filters={"customerId": "a b+c&д"})
        self.assertEqual(outcome.get("value"), [{"n": 1}, {"n": 2}, {"n": 3}], outcome)
        filtered = "/orders?limit=100&customerId=a%20b%2Bc%26%D0%B4"
        cursors = ["", "&cursor=c%2B1%3D", "&cursor=c%2B1%3D", "&cursor=c2"]
        self.assertEqual([request.path.replace("%2D", "-") for request in server.requests], [filtered + cursor for cursor in cursors])

    def test_the_feed_goes_on_forever_and_pauses_at_its_end(self):
        def page(after, *events, **headers):
            link = f'<https://elsewhere.example/events?after={after}&limit=100>; rel="next"'
            return answer(200, list(events), {"Link": link, **headers})

        pages = [page("a1", {"id": 1}, {"id": 2}), DROP, page("a2", {"id": 3}), page("a3", **{"Retry-After": "7"}), page("a4"), page("a5", {"id": 4})]
        server, client = self.drive(scripted(*pages))
        outcome = client.run(do="events", pages=5)
        self.assertEqual(outcome.get("value"), [[[{"id": 1}, {"id": 2}], "a1"], [[{"id": 3}], "a2"], [[], "a3"], [[], "a4"], [[{"id": 4}], "a5"]], outcome)
        asked = ["", "&after=a1", "&after=a1", "&after=a2", "&after=a3", "&after=a4"]
        self.assertEqual([request.path for request in server.requests], ["/events?limit=100" + after for after in asked])
        self.assertEqual([pause for pause in outcome["pauses"] if pause >= 1], [7, 1])

    def test_a_page_of_the_feed_without_a_cursor_is_refused_and_says_why(self):
        for headers in ({}, {"Link": '</orders>; rel="next"'}):
            server, client = self.drive(scripted(answer(200, [{"id": 1}], headers)))
            outcome = client.run(do="events", pages=2)
            self.assertEqual((outcome.get("failure"), outcome.get("status")), ("Refused", 200), outcome)
            self.assertEqual((outcome["problem"], len(server.requests)), ({"detail": "no Link with a cursor"}, 1))

    def test_an_expired_cursor_is_a_refusal_after_which_the_feed_can_begin_again(self):
        def feed(request):
            return problem(410, "cursor-expired") if "after=old" in request.path else answer(200, [{"id": 1}], {"Link": "</events?after=new>"})

        _, client = self.drive(feed)
        outcome = client.run(do="events", after="old", pages=1)
        self.assertEqual((outcome["failure"], outcome["type"]), ("Refused", "cursor-expired"))
        self.assertEqual(client.run(do="events", pages=1)["value"], [[[{"id": 1}], "new"]])

    def test_a_path_before_the_orders_is_kept(self):
        server, client = self.drive(scripted(answer(201, PLACED)))
        with Driven(self.language, url=f"{server.url}/shop/") as client:
            client.run(do="place", order=ORDER)
        self.assertEqual(server.requests[0].path, "/shop/orders")


class Python(Client, unittest.TestCase):
    language = "Python"


class JavaScript(Client, unittest.TestCase):
    language = "JavaScript"


class Rust(Client, unittest.TestCase):
    language = "Rust"


if __name__ == "__main__":
    unittest.main()
