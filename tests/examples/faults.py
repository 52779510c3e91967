"""An HTTP server that misbehaves as it is told, and the three clients, each driven in a process of its own."""

import collections
import contextlib
import dataclasses
import http.client
import json
import pathlib
import socket
import socketserver
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).parents[2]
COMMANDS = {
    "Python": [sys.executable, f"{ROOT}/tests/examples/drive.py", f"{ROOT}/examples/client.py"],
    "JavaScript": ["node", f"{ROOT}/tests/examples/drive.mjs", f"{ROOT}/examples/client.mjs"],
    "Rust": [f"{ROOT}/target/debug/examples/drive"],
}

Request = collections.namedtuple("Request", "method path headers body")


@dataclasses.dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict = dataclasses.field(default_factory=dict)
    cut: int = None  # how much of the body is sent, after which the connection breaks
    closes: bool = False  # the connection, after the answer
    drips: str = None  # "head" or "body": that part and what follows, a byte every tenth of a second

    def bytes(self):
        lines = [f"HTTP/1.1 {self.status} As-Asked"]
        lines += [f"{name}: {value}" for name, value in {"Content-Length": len(self.body), **self.headers}.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def answer(status, content=None, headers=None, **more):
    kind = "application/problem+json" if status >= 400 else "application/json"
    return Answer(status, json.dumps(content).encode(), {"Content-Type": kind, **(headers or {})}, **more)


def problem(status, name, headers=None, **more):
    return answer(status, {"type": f"/problems/{name}", "title": name, "status": status, "detail": f"{name}, it is", **more}, headers)


# What a server may do instead of an answer.
DROP = "closes the connection"
HOLD = "says nothing until the client gives up"


class Server(socketserver.ThreadingTCPServer):
    """Answers each request with what `answering(request)` returns, and keeps connections open. `requests` are all that came."""

    daemon_threads = allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, answering):
        self.answering, self.requests = answering, []
        super().__init__(("127.0.0.1", 0), Connection)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_):
        pass  # a client that went away

    @contextlib.contextmanager
    def serving(self):
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        while line := self.rfile.readline():
            headers = http.client.parse_headers(self.rfile)
            body = self.rfile.read(int(headers.get("Content-Length", 0)))
            request = Request(*line.decode().split()[:2], headers, body)
            self.server.requests.append(request)
            answered = self.server.answering(request)
            if answered is DROP:
                return
            if answered is HOLD:
                self.rfile.read(1)
                return
            sent = answered.bytes()
            head = len(sent) - len(answered.body)
            if answered.cut is not None:
                self.wfile.write(sent[: head + answered.cut])
                return
            at_once = {None: len(sent), "head": 0, "body": head}[answered.drips]
            self.wfile.write(sent[:at_once])
            for byte in sent[at_once:]:
                time.sleep(0.1)
                self.wfile.write(bytes([byte]))
            if answered.closes:
                return


class Driven:
    """A client in a process of its own. `run` sends it a command and returns the outcome."""

    def __init__(self, language, **options):
        command = [*COMMANDS[language], json.dumps(options)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.pending = []  # the keys and orders that it was to keep

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def start(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")

    def next_line(self):
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(f"the client ended with {self.process.wait()}")
        return json.loads(line)

    def outcome(self):
        while "pending" in (line := self.next_line()):
            self.pending.append((line["pending"], line["order"]))
        return line

    def run(self, **command):
        self.start(**command)
        return self.outcome()
