#!/usr/bin/env python3
"""Measures what clients that stall cost the others: bodies that never arrive, and pages of the list that are read at 1 KB/s.

Each phase has the same load of quick clients, so its rate and 99th percentile show what the slow ones cost.
"""

import argparse
import contextlib
import json
import selectors
import socket
import threading
import time
import urllib.request
import uuid

import proc
from bench import wrk
from world import ROOT, Target, spin_version

STALLED = 200
READERS = 110
READ_BYTES_PER_SECOND = 1024
# A page of the list ends at about 256 KiB: twelve of these reach that.
LARGE_ORDERS = 12


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh slow", description=__doc__)
    parser.add_argument("--clients", type=int, default=16, help="quick clients at once (16)")
    parser.add_argument("--seconds", type=int, default=8, help="length of a phase (8); a body is waited for 10 s")
    return parser.parse_args()


def place_large_orders(url, customer):
    item = {"sku": "€" * 64, "quantity": 1, "unitAmount": 1}
    order = json.dumps({"customerId": customer, "currency": "RUB", "items": [item] * 100}, ensure_ascii=False).encode()
    for _ in range(LARGE_ORDERS):
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        urllib.request.urlopen(urllib.request.Request(f"{url}/orders", order, headers))


def connect(url, receive_buffer=None):
    host, port = url.removeprefix("http://").split(":")
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect((host, int(port)))
    return client


@contextlib.contextmanager
def stalled(url):
    """Clients that send half a body and then nothing."""
    clients = []
    for _ in range(STALLED):
        client = connect(url)
        client.sendall(b"POST /orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nIdempotency-Key: stalled\r\n"
                       b"Content-Length: 100\r\n\r\n" + b" " * 50)
        clients.append(client)
    yield
    for client in clients:
        client.close()


@contextlib.contextmanager
def reading(url, customer):
    """Clients that read a page at so many bytes a second."""
    selector = selectors.DefaultSelector()
    clients = []
    for _ in range(READERS):
        client = connect(url, receive_buffer=4096)
        client.sendall(f"GET /orders?customerId={customer}&limit=100 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        clients.append(client)
        selector.register(client, selectors.EVENT_READ)
    stop = threading.Event()

    def read():
        while not stop.wait(1):
            for key, _ in selector.select(0):
                key.fileobj.recv(READ_BYTES_PER_SECOND)

    thread = threading.Thread(target=read)
    thread.start()
    yield
    stop.set()
    thread.join()
    for client in clients:
        client.close()


def main():
    args = arguments()
    host = (spin_version() or "bundled host").split(" (")[0]
    service = Target("service", manifest=ROOT / "spin.toml")
    server = proc.tree(service.pid)[-1]
    try:
        service.check_contract()
        customer = str(uuid.uuid4())
        place_large_orders(service.url, customer)
        phases = (
            ("alone", contextlib.nullcontext),
            (f"{STALLED} stalled bodies", lambda: stalled(service.url)),
            ("alone", contextlib.nullcontext),
            (f"{READERS} slow readers", lambda: reading(service.url, customer)),
        )
        print(f"slow: {host}, {args.clients} quick clients, {args.seconds} s a phase")
        for name, slow in phases:
            proc.reset_peak(server)
            with slow():
                time.sleep(1)
                cell = wrk(service.url, "mixed", args.clients, args.seconds - 1)
                peak = proc.peak_mb(server)
            print(f"slow: {name:18} {cell['requests'] / cell['seconds']:5.0f}/s, p99 {cell['p99_ms']:.1f} ms, "
                  f"errors {cell['errors']}, peak {peak:.0f} MiB", flush=True)
    finally:
        service.stop()


if __name__ == "__main__":
    main()
