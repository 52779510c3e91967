"""Drives a client in Python for client_test.py: a command a line on stdin, its outcome on stdout."""

import importlib.util
import itertools
import json
import logging
import sys
import time

logging.disable()
spec = importlib.util.spec_from_file_location("client", sys.argv[1])
client = importlib.util.module_from_spec(spec)
spec.loader.exec_module(client)
options, pauses = json.loads(sys.argv[2]), []


def say(line):
    print(json.dumps(line), flush=True)


def sleep(pause):
    pauses.append(pause)
    if options.get("stops"):
        say({"pausing": True})
        time.sleep(600)


def run(orders, command):
    match command["do"]:
        case "place":
            return orders.place_order(command["order"], command.get("key"))
        case "change":
            return orders.change_order(command["id"], command["version"], command["status"])
        case "orders":
            return list(orders.orders(**command.get("filters", {})))
        case "events":
            return list(itertools.islice(orders.events(command.get("after")), command["pages"]))


limits = {name: options[name] for name in ("attempt", "total") if name in options}
orders = client.Orders(options["url"], options.get("token"), pending=lambda key, order: say({"pending": key, "order": order}), **limits)
orders.sleep = sleep
for line in sys.stdin:
    try:
        outcome = {"value": run(orders, json.loads(line))}
    except client.Refused as refused:
        outcome = {"failure": "Refused", "status": refused.status, "type": refused.type, "problem": refused.problem}
    except client.Moved as moved:
        outcome = {"failure": "Moved", "order": moved.order}
    except client.GaveUp as gave_up:
        outcome = {"failure": "GaveUp", "cause": str(gave_up.cause)}
    say({**outcome, "pauses": pauses})
    pauses.clear()
