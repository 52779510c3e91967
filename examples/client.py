#!/usr/bin/env python3
"""A client that places one order per key, whatever gets lost. Copy this file: it needs Python 3.11 and no packages.

It keeps nothing itself. Store the key and the order in `pending`, which runs before the first attempt, and delete them once
place_order returns or raises Refused. After GaveUp or a crash, place the same order with the same key.

    python3 examples/client.py [KEY]     places and confirms an order at BASE_URL; again with its key, it changes nothing
"""
import contextlib, email.utils, http.client, json, logging, os, random, re, socket, sys, threading, time, urllib.parse, uuid


class Refused(Exception):
    """An answer that sending again does not change. `type` is the problem's name, such as invalid-order."""

    def __init__(self, status, text):
        self.status, self.problem = status, {}
        with contextlib.suppress(ValueError, TypeError):
            self.problem = dict(json.loads(text))
        self.type = str(self.problem.get("type", "about:blank")).split("/")[-1]
        super().__init__(f"{status} {self.type}: {self.problem.get('detail')}")


class Moved(Exception):
    """The order has another version than the one to change. `order` is the present one: decide, and change that."""
    order = property(lambda self: self.args[0])


class GaveUp(Exception):
    """No definite answer within the limit. The order may be placed or not: the same order with this `key` settles it."""
    cause, key = property(lambda self: self.args[0]), property(lambda self: self.args[1])


class Orders:
    def __init__(self, url, token=None, attempt=20, total=120, pending=lambda key, order: None):
        """`attempt` limits one attempt, `total` all of them with their pauses, in seconds."""
        self.url, self.authorization = urllib.parse.urlsplit(url), {"Authorization": f"Bearer {token}"} if token else {}
        self.attempt, self.total, self.pending, self.sleep = attempt, total, pending, time.sleep

    def place_order(self, order, key=None):
        """Returns the order as it was placed. The key, made here unless given, names it in all attempts."""
        key = key or str(uuid.uuid4())
        self.pending(key, order)
        return self.send("POST", "/orders", order, {"Idempotency-Key": key, "Content-Type": "application/json"})[0]

    def change_order(self, order_id, version, status):
        """Returns the changed order, or raises Moved. The version is the key: sending it again is safe."""
        headers = {"If-Match": f'"{version}"', "Content-Type": "application/merge-patch+json"}
        try:
            return self.send("PATCH", f"/orders/{order_id}", {"status": status}, headers)[0]
        except Refused as refused:
            raise Moved(self.send("GET", f"/orders/{order_id}")[0]) if refused.status == 412 else refused

    def orders(self, **filters):
        """Yields the orders, newest first. Filters are customerId, status and idempotencyKey."""
        query = {"limit": 100, **filters}
        while query:
            page = self.send("GET", f"/orders?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}")[0]
            yield from page["orders"]  # an empty page need not be the last one
            query = "nextCursor" in page and {**query, "cursor": page["nextCursor"]}

    def events(self, after=None):
        """Yields each page of the feed with the cursor after it, without end; an empty page is up to date. Keep both together.
        On Refused with the type cursor-expired begin without a cursor, and drop the orders that do not come again."""
        while True:
            page, headers = self.send("GET", f"/events?limit=100{f'&after={after}' if after else ''}")
            link = re.search("after=([^&>]+)", headers.get("Link", ""))
            if not link:
                raise Refused(200, '{"detail": "no Link with a cursor"}')
            yield page, (after := link[1])  # not the whole link, which may lead the token elsewhere
            if not page:
                self.sleep(max(1, retry_after(headers)))

    def send(self, method, path, body=None, headers={}):
        """Sends the same bytes until an answer settles it. Returns its JSON and its headers."""
        body, left, grown = json.dumps(body).encode() if body else None, self.total, 0.25
        while True:
            started, asked = time.monotonic(), 0
            try:
                status, answered, text = self.try_once(method, path, body, headers, min(self.attempt, left))
                if 200 <= status < 300:
                    return json.loads(text), answered
                cause, asked = Refused(status, text), retry_after(answered)
                if status not in (408, 429) and status < 500 and cause.type != "idempotency-key-in-use":
                    raise cause
            except (OSError, http.client.HTTPException, json.JSONDecodeError, UnicodeDecodeError) as error:  # no answer, or a cut one
                cause = error
            pause = asked + grown * random.uniform(0.5, 1)
            left, grown = left - pause - (time.monotonic() - started), min(2 * grown, 10)
            if left <= 0:
                raise GaveUp(cause, headers.get("Idempotency-Key"))
            logging.getLogger(__name__).warning("%s; again in %.1f s", cause, pause)
            self.sleep(pause)

    def try_once(self, method, path, body, headers, limit):
        until, name = time.monotonic() + limit, f"{self.url.scheme.upper()}Connection"
        connection = getattr(http.client, name)(self.url.netloc, timeout=limit)  # limits each read, `cut` all of them
        connection.connect()
        (cut := threading.Timer(until - time.monotonic(), connection.sock.shutdown, [socket.SHUT_RDWR])).start()
        try:
            connection.request(method, self.url.path.rstrip("/") + path, body, {**headers, **self.authorization})
            answer = connection.getresponse()  # follows no redirect
            return answer.status, answer.headers, answer.read()
        finally:
            cut.cancel()
            connection.close()


def retry_after(headers):
    """In seconds, from a number or a date."""
    asked = headers.get("Retry-After", "")
    with contextlib.suppress(ValueError, OverflowError):
        return float(asked) if asked.isdecimal() else max(0, email.utils.parsedate_to_datetime(asked).timestamp() - time.time())
    return 0


if __name__ == "__main__":
    client = Orders(os.environ.get("BASE_URL") or "http://127.0.0.1:3000", os.environ.get("TOKEN"), pending=print)
    book = {"customerId": "c-42", "currency": "RUB", "items": [{"sku": "BOOK-1", "quantity": 2, "unitAmount": 59900}]}
    placed = client.place_order(book, *sys.argv[1:])
    print(client.change_order(placed["orderId"], placed["version"], "confirmed"))
