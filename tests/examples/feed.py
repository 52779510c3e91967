"""A feed of canned pages, served as GET /events is, and what its events come to."""

import contextlib
import os
import random
import urllib.parse

from faults import Server, answer

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

    def page(self, request):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.path).query)
        number = int(query.get("after", ["0"])[0])
        self.asked.append(number)
        self.tokens.append(request.headers["Authorization"])
        if answered := self.before(number):
            return answered
        page = self.pages[number] if number < len(self.pages) else []
        link = f'</events?after={number + 1 if page else number}&limit={query["limit"][0]}>; rel="next"'
        return 200, page, {"Link": link} if page else {"Link": link, "Retry-After": "7"}

    @contextlib.contextmanager
    def served(self):
        with Server(lambda request: answer(*self.page(request), closes=True)).serving() as server:
            yield server.url


def seeded(about):
    """Random numbers, from the seed in the environment or a new one, which is printed."""
    seed = int(os.environ.get("SEED") or random.randrange(2**32))
    print(f"{about}: SEED={seed}")
    return random.Random(seed)
