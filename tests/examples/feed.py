"""A feed of canned pages, served as GET /events is, and what its events come to."""

import contextlib
import http.server
import json
import random
import threading
import urllib.parse

STATUSES = ["created", "confirmed", "cancelled"]


def event(order_id, version):
    """As the service gives it, as far as a consumer reads it. Another version has another status."""
    status = STATUSES[(order_id + version) % 3]
    return {"id": f"{order_id}/{version}", "data": {"orderId": f"order-{order_id}", "version": version, "status": status}}


def settled(events):
    """The final table of their consumer: the newest version of each order."""
    newest = {}
    for order in sorted((event["data"] for event in events), key=lambda order: order["version"]):
        newest[order["orderId"]] = (order["version"], order["status"])
    return newest


def shuffled(draw):
    """Events of some orders in any order, some of them repeated, some missing, but none that is the newest of its order."""
    histories = [[event(order_id, version + 1) for version in range(draw.randint(1, 6))] for order_id in range(draw.randint(1, 8))]
    shown = [history[-1] for history in histories]
    earlier = [event for history in histories for event in history[:-1]]
    shown += draw.sample(earlier, draw.randint(0, len(earlier)))
    shown += draw.choices(shown, k=draw.randint(0, 10))
    draw.shuffle(shown)
    return shown, settled(event for history in histories for event in history)


def pages_of(events, draw):
    pages = []
    while events:
        length = draw.randint(1, 4)
        pages, events = [*pages, events[:length]], events[length:]
    return pages


class Feed:
    """Serves `pages`, each under its number, and an empty one after them. `before(number)` may answer instead, or break off."""

    def __init__(self, pages, before=lambda number: None):
        self.pages, self.before, self.asked, self.tokens = pages, before, [], []

    def answer(self, handler):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)
        number = int(query.get("after", ["0"])[0])
        self.asked.append(number)
        self.tokens.append(handler.headers["Authorization"])
        if answered := self.before(number):
            return answered
        page = self.pages[number] if number < len(self.pages) else []
        link = f'</events?after={number + 1 if page else number}&limit={query["limit"][0]}>; rel="next"'
        return 200, page, {"Link": link} if page else {"Link": link, "Retry-After": "7"}

    @contextlib.contextmanager
    def served(self):
        feed = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                status, body, headers = feed.answer(self)
                sent = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(sent)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a consumer that was killed

        with Server(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()


def seeded(about):
    """Random numbers, from the seed in the environment or a new one, which is printed."""
    import os

    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    print(f"{about}: SEED={seed}")
    return random.Random(seed)
