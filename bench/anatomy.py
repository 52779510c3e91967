"""Where a request's time goes: one client, and a relay in front of each store that notes when bytes pass.

Run it with `scripts/bench.sh anatomy`. It prints one table per kind of request: what was waited for, in order, with
the median over many requests. The relay itself costs two wake-ups per call, which the first line shows: compare the
steps with each other, and take throughput from the bench.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import threading
import time
import uuid

from world import ORDER, ROOT, Stores, Target

EVENTS = []


def pg_messages(data):
    """The type bytes of the frontend's messages in `data`; empty for what comes before the session is set up."""
    types, at = "", 0
    while at + 5 <= len(data) and chr(data[at]).isalpha():
        types += chr(data[at])
        at += 1 + int.from_bytes(data[at + 1:at + 5], "big")
    return types if at == len(data) else ""


def name_of(store, data):
    """Names a call to a store; None for one that no request waits for."""
    if store == "redis":
        words = data.split(b"\r\n")
        return f"Redis {words[2].decode().upper()}" if len(words) > 2 else None
    types = pg_messages(data)
    if types == "Q":
        return "PostgreSQL: recycle the pooled connection"
    return {"PDS": "PostgreSQL: prepare", "BES": "PostgreSQL: execute and commit"}.get(types)


def relay(store, port):
    """Listens, and passes bytes to the store's port and back. Returns its own port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source, sink, calls, is_call):
        # An error here means that one side disconnected.
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                arrived = time.perf_counter()
                if is_call:
                    name = name_of(store, data)
                    calls.append(name)
                else:
                    name = calls.pop(0) if calls else None
                sink.sendall(data)
                done = time.perf_counter()
                if name:
                    EVENTS.append((arrived, done, "call" if is_call else "answer", name))
            sink.shutdown(socket.SHUT_WR)

    def accept():
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            calls = []
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink, is_call in ((client, server, True), (server, client, False)):
                threading.Thread(target=copy, args=(source, sink, calls, is_call), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


class Client:
    def __init__(self, address):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, method, path, key=None):
        body = json.dumps(ORDER) if key else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\n"
        if key:
            head += f"Content-Type: application/json\r\nIdempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n"
        started = time.perf_counter()
        self.socket.sendall(f"{head}\r\n{body}".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(65536)
        head, rest = answer.split(b"\r\n\r\n", 1)
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(rest) < int(fields[b"content-length"]):
            rest += self.socket.recv(65536)
        return started, time.perf_counter()


def steps(started, ended):
    """The intervals of one request: (what was waited for, seconds)."""
    result, since, last = [], started, "the service, up to its first call"
    for arrived, done, kind, name in sorted(EVENTS):
        result.append((last, arrived - since))
        since, last = done, name if kind == "call" else f"the service, after {name}"
    result.append((last, ended - since))
    return result


def table(title, client, count, send):
    samples, totals = {}, []
    for number in range(count + 50):
        EVENTS.clear()
        started, ended = send(client)
        time.sleep(0.001)  # lets calls pass that no request waits for
        if number >= 50:
            seen = steps(started, ended)
            samples.setdefault(tuple(name for name, _ in seen), []).append([seconds for _, seconds in seen])
            totals.append(ended - started)
    names, usual = max(samples.items(), key=lambda item: len(item[1]))
    print(f"\n{title}: {statistics.median(totals) * 1e6:.0f} µs in the median; "
          f"{len(usual)} of {count} requests took exactly these steps.\n\n| waiting for | median µs |\n|---|---|")
    for index, name in enumerate(names):
        print(f"| {name} | {statistics.median(times[index] for times in usual) * 1e6:.0f} |")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh anatomy", description=__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="requests of each kind (1000)")
    args = parser.parse_args()
    stores = Stores()
    stores.check_durability()
    redis, pg = relay("redis", int(stores.redis_port)), relay("pg", int(os.environ["PG_PORT"]))
    ports = {"SPIN_VARIABLE_REDIS_ADDRESS": f"redis://127.0.0.1:{redis}", "SPIN_VARIABLE_PG_ADDRESS": f"postgres://127.0.0.1:{pg}"}
    direct = statistics.median(ping(int(stores.redis_port)) for _ in range(1000))
    relayed = statistics.median(ping(redis) for _ in range(1000))
    print(f"The relay adds {(relayed - direct) * 1e6:.0f} µs to a call of {direct * 1e6:.0f} µs.")
    target = Target("service", manifest=ROOT / "spin.toml", environment=ports)
    try:
        client = Client(target.address)
        key = str(uuid.uuid4())
        table("No store (`GET /healthz`)", client, args.requests, lambda client: client.send("GET", "/healthz"))
        table("Replay", client, args.requests, lambda client: client.send("POST", "/orders", key))
        table("Create", client, args.requests, lambda client: client.send("POST", "/orders", str(uuid.uuid4())))
    finally:
        target.stop()


PING = {}


def ping(port):
    if port not in PING:
        PING[port] = socket.create_connection(("127.0.0.1", port))
        PING[port].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    started = time.perf_counter()
    PING[port].sendall(b"*1\r\n$4\r\nPING\r\n")
    PING[port].recv(64)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
