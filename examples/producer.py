#!/usr/bin/env python3
"""Places an order through the stream orders:commands, waits for its result, then sends the same again.

The second result is the first one's, marked as replayed: however often a command comes, its key has one order.
Needs the package redis, which scripts/producer.sh installs.
"""

import argparse
import os
import sys
import time
import uuid

COMMANDS, RESULTS, DOORBELL = "orders:commands", "orders:results", "orders:doorbell"
ORDER = '{"customerId":"c-42","currency":"RUB","items":[{"sku":"BOOK-1","quantity":2,"unitAmount":59900}]}'
RING_AGAIN_SECONDS = 2


def place(store, command, timeout):
    """Sends a command and returns its result, or None if none arrives in time: then the outcome is unknown."""
    # The current end of the results. Read after XADD, it could miss a quick result.
    newest = store.xrevrange(RESULTS, count=1)
    last = newest[0][0] if newest else "0-0"
    # The client may send this twice over a broken connection: two commands of one key are one order.
    sent = store.xadd(COMMANDS, command)
    # The ring wakes the intake up. The stream keeps the command even if no intake hears it.
    if not store.publish(DOORBELL, "ring"):
        print(f"producer: no intake listens on {DOORBELL}; the command waits in the stream", file=sys.stderr)
    until = time.monotonic() + timeout
    while (left := until - time.monotonic()) > 0:
        found = store.xread({RESULTS: last}, block=max(1, int(1000 * min(left, RING_AGAIN_SECONDS))))
        if not found:
            store.publish(DOORBELL, "ring")
        for _, entries in found:
            for last, result in entries:
                # Not by the key: another client may use the same one, or it may have the result of an earlier command.
                if result.get("command") == sent:
                    return result
    return None


def run(store, command, timeout):
    print(f"key       {command['key']}")
    bodies = []
    for attempt in ("first", "again"):
        result = place(store, command, timeout)
        if result is None:
            sys.exit(f"producer: no result in {timeout:g} s; it may be placed or not; --key {command['key']} sends it again")
        print(f"{attempt}     {result['status']}, replayed {result['replayed']}: {result['body']}")
        if result["status"] != "201":
            sys.exit(1)
        bodies.append(result["body"])
    if bodies[0] != bodies[1]:
        sys.exit("producer: the second body is not the first one's")


def main(arguments=None):
    parser = argparse.ArgumentParser("producer", None, __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--redis", default=os.environ.get("REDIS_URL") or "redis://127.0.0.1:16379", help="or REDIS_URL; otherwise a local one")
    add("--key", default=str(uuid.uuid4()), help="the idempotency key; otherwise a fresh one")
    add("--order", default=ORDER, help="the JSON of a POST /orders; %(default)s")
    add("--token", default=os.environ.get("TOKEN"), help="a client's token, if the service has clients; safer as TOKEN")
    add("--timeout", type=float, default=30, help="seconds to wait for a result; %(default)s")
    asked = parser.parse_args(arguments)
    try:
        import redis
    except ImportError:
        sys.exit("producer: the package redis is missing; scripts/producer.sh installs it and runs this")
    command = {"key": asked.key, "order": asked.order, **({"token": asked.token} if asked.token else {})}
    try:
        run(redis.Redis.from_url(asked.redis, decode_responses=True), command, asked.timeout)
    except (redis.RedisError, ValueError, KeyboardInterrupt) as error:
        sys.exit(f"producer: {str(error) or 'stopped'}; if the command was sent, --key {asked.key} sends it again")


if __name__ == "__main__":
    main()
