#!/usr/bin/env python3
"""Follows the changes of orders, GET /events, and keeps the highest version of each order, with its status, in SQLite.

It reads the feed with ../client.py: copy both. A page and the cursor after it are kept in one transaction, so it may be killed
at any point and started again.
It then sees some events twice. Keep the highest version, and order, repeats and gaps stop mattering.

If the service answers 410, its database was set back or loaded elsewhere, and some orders or versions may be gone. So the
consumer marks all of its orders as stale, reads the feed from its beginning, and drops those that it does not see again.
"""

import argparse
import os
import pathlib
import signal
import sqlite3
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import client

TABLES = """
    CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, version INTEGER NOT NULL, status TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS stale (order_id TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS feed (one INTEGER PRIMARY KEY CHECK (one = 1), after TEXT NOT NULL);
"""
# This condition alone makes the events commute.
KEEP = """
    INSERT INTO orders VALUES (:orderId, :version, :status) ON CONFLICT (order_id)
    DO UPDATE SET version = excluded.version, status = excluded.status WHERE excluded.version > orders.version
"""
DROP_STALE = "DELETE FROM orders WHERE order_id IN (SELECT order_id FROM stale)"


def keep(db, events, after):
    """Keeps a page and the cursor after it: both or neither. Other changes to this database belong in this transaction."""
    with db:
        for order in (event["data"] for event in events):
            # A stale version may be higher than any that is left.
            db.execute(f"{DROP_STALE} AND order_id = :orderId", order)
            db.execute("DELETE FROM stale WHERE order_id = :orderId", order)
            db.execute(KEEP, order)
        if not events:  # it has seen all orders
            db.execute(DROP_STALE)
            db.execute("DELETE FROM stale")
        db.execute("INSERT OR REPLACE INTO feed VALUES (1, ?)", (after,))


def begin_again(db):
    with db:
        db.execute("INSERT OR IGNORE INTO stale SELECT order_id FROM orders")
        db.execute("DELETE FROM feed")


def follow(db, orders, once):
    while True:
        (after,) = db.execute("SELECT after FROM feed").fetchone() or (None,)
        try:
            for events, after in orders.events(after):
                keep(db, events, after)
                if once and not events:
                    return
        except client.Refused as refused:
            if refused.status != 410 or not after:  # cursor-expired
                sys.exit(f"consumer: {refused}")
            begin_again(db)


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
    db = sqlite3.connect(asked.table)
    db.executescript(TABLES)
    # It never gives up: it has nothing else to do.
    follow(db, client.Orders(asked.url, asked.token, total=float("inf")), asked.once)
    for row in db.execute("SELECT * FROM orders ORDER BY order_id"):
        print(*row)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # it may be stopped anywhere
    main()
