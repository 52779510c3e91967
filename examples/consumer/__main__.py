#!/usr/bin/env python3
"""Follows the changes of orders, GET /events, and keeps the highest version of each order, with its status, in SQLite.

A page and the place of the next one are kept in one transaction, so it may be killed at any point and started again.
It then sees some events twice. Keep the highest version, and order, repeats and gaps stop mattering.

If the service answers 410, its database was set back or loaded elsewhere, and some orders or versions may be gone. So the
consumer marks all of its orders as stale, reads the feed from its beginning, and drops those that it does not see again.
"""

import argparse
import http.client
import json
import os
import re
import signal
import sqlite3
import sys
import time
import urllib.parse
import urllib.request

BEGINNING = "limit=100"  # the query of the first page; each page names the query of the next one
TABLES = """
    CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, version INTEGER NOT NULL, status TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS stale (order_id TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS feed (one INTEGER PRIMARY KEY CHECK (one = 1), query TEXT NOT NULL);
"""
# This condition alone makes the events commute.
KEEP = """
    INSERT INTO orders VALUES (:orderId, :version, :status) ON CONFLICT (order_id)
    DO UPDATE SET version = excluded.version, status = excluded.status WHERE excluded.version > orders.version
"""
DROP_STALE = "DELETE FROM orders WHERE order_id IN (SELECT order_id FROM stale)"


def keep(db, events, following):
    """Keeps a page and the query of the next one: both or neither. Other changes to this database belong in this transaction."""
    with db:
        for order in (event["data"] for event in events):
            # A stale version may be higher than any that is left.
            db.execute(f"{DROP_STALE} AND order_id = :orderId", order)
            db.execute("DELETE FROM stale WHERE order_id = :orderId", order)
            db.execute(KEEP, order)
        if not events:  # it has seen all orders
            db.execute(DROP_STALE)
            db.execute("DELETE FROM stale")
        db.execute("INSERT OR REPLACE INTO feed VALUES (1, ?)", (following,))


def begin_again(db):
    with db:
        db.execute("INSERT OR IGNORE INTO stale SELECT order_id FROM orders")
        db.execute("INSERT OR REPLACE INTO feed VALUES (1, ?)", (BEGINNING,))


def fetch(url, query, token):
    """A page: its events, the query of the next one, and after how many seconds to ask for that."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/events?{query}", headers=headers), timeout=30) as answer:
        events, link = json.load(answer), re.search(r'<([^>]*)>; *rel="next"', answer.headers.get("Link", ""))
    if not link:
        raise ValueError("an answer without a next page is not the feed's")
    # Only the query, so that no link can send the token elsewhere.
    return events, urllib.parse.urlsplit(link[1]).query, 0 if events else pause_of(answer, 1)


def pause_of(answer, at_least):
    said = (getattr(answer, "headers", None) or {}).get("Retry-After", "")  # a broken connection has none
    return max(int(said), at_least) if said.isdecimal() else at_least


def follow(db, url, token, once):
    failures = 0
    while True:
        (query,) = db.execute("SELECT query FROM feed").fetchone() or (BEGINNING,)
        try:
            events, following, pause = fetch(url, query, token)
            keep(db, events, following)
            failures = 0
            if once and not events:
                return
        except (OSError, http.client.HTTPException, ValueError) as error:
            code = getattr(error, "code", 500)
            if code == 410 and query != BEGINNING:  # cursor-expired
                begin_again(db)
                continue
            if code < 500 and code not in (408, 429):
                sys.exit(f"consumer: {error}: {error.read().decode(errors='replace')}")
            pause = pause_of(error, min(2**failures, 30))
            failures += 1
            print(f"consumer: {error}; again in {pause} s", file=sys.stderr)
        time.sleep(pause)


def main(arguments=None):
    parser = argparse.ArgumentParser("consumer", None, __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--url", default=os.environ.get("BASE_URL") or "http://127.0.0.1:3000", help="or BASE_URL; %(default)s")
    add("--token", default=os.environ.get("TOKEN"), help="a client's token, if the service has clients; safer as TOKEN")
    add("--table", default="consumer.sqlite3", help="the SQLite file: %(default)s")
    add("--once", action="store_true", help="end at the first empty page and print the table")
    asked = parser.parse_args(arguments)
    if not asked.url.startswith(("http://", "https://")):
        parser.error(f"{asked.url} is no http:// or https:// address")
    # A proxy cannot reach a service on this machine.
    os.environ["no_proxy"] = ",".join(filter(None, ("127.0.0.1", "localhost", os.environ.get("no_proxy") or os.environ.get("NO_PROXY"))))
    db = sqlite3.connect(asked.table)
    db.executescript(TABLES)
    follow(db, asked.url.rstrip("/"), asked.token, asked.once)
    for row in db.execute("SELECT * FROM orders ORDER BY order_id"):
        print(*row)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # it may be stopped anywhere
    main()
