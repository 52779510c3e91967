"""examples/consumer against a feed of canned pages: what it keeps, whatever comes and whenever it dies."""

import contextlib
import importlib.util
import io
import multiprocessing
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import unittest
from unittest import mock

from feed import Feed, event, pages_of, seeded, settled, shuffled

FILE = pathlib.Path(__file__).parents[2] / "examples/consumer/__main__.py"
spec = importlib.util.spec_from_file_location("consumer", FILE)
consumer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(consumer)


def table(db):
    with contextlib.closing(sqlite3.connect(db)) as db:
        return {order_id: (version, status) for order_id, version, status in db.execute("SELECT * FROM orders")}


# Not forked from this process: a thread of the feed may hold a lock at that moment, for which the fork would wait forever.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def run_until(line, url, path):
    """Runs the consumer, and ends without a word before the given line of its file."""
    left = line

    def trace(frame, happened, _):
        nonlocal left
        if frame.f_code.co_filename != str(FILE):
            return None
        if happened == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.stdout = sys.stderr = io.StringIO()
    sys.settrace(trace)
    consumer.client.time.sleep = lambda _: None
    consumer.main(["--once", "--url", url, "--table", path])


class Consumer(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/table.sqlite3"

    def run_once(self, url, *arguments):
        """In this process; returns how long it paused each time, what it printed and what it complained of."""
        pauses, printed, complaints = [], io.StringIO(), io.StringIO()
        with mock.patch("time.sleep", pauses.append):
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complaints):
                consumer.main(["--once", "--url", url, "--table", self.path, *arguments])
        return pauses, printed.getvalue(), complaints.getvalue()

    def test_any_order_any_repeat_and_any_gap_end_in_the_same_table(self):
        draw = seeded("permutations")
        for _ in range(2000):
            shown, expected = shuffled(draw)
            with contextlib.closing(sqlite3.connect(":memory:")) as db:
                db.executescript(consumer.TABLES)
                for number, page in enumerate(pages_of(shown, draw)):
                    consumer.keep(db, page, str(number))
                kept = {order_id: (version, status) for order_id, version, status in db.execute("SELECT * FROM orders")}
            self.assertEqual(kept, expected, shown)

    def test_killed_at_any_line_it_ends_in_the_same_table(self):
        shown, expected = shuffled(seeded("lines"))
        pages = [shown[: len(shown) // 2], shown[len(shown) // 2 :]]
        pages = [page for page in pages if page]
        with Feed(pages).served() as url:
            for line in range(1, 10_000):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(self.path)
                was_killed = self.killed_at(line, url)
                # Whole pages and their link, or neither.
                kept, after = table(self.path) if os.path.exists(self.path) and self.has_tables() else {}, self.after()
                self.assertIn(kept, [settled(sum(pages[:n], [])) for n in range(len(pages) + 1)])
                if after:
                    self.assertEqual(kept, settled(sum(pages[: int(after)], [])))
                self.run_once(url)
                self.assertEqual(table(self.path), expected)
                if not was_killed:
                    break
        self.assertGreater(line, 40)
        print(f"lines: killed at each of {line - 1}")

    def test_killed_at_any_line_after_its_cursor_has_expired_it_keeps_what_is_left(self):
        # Set back: an order and a version are gone, and there are others.
        before = [[event(1, 1), event(1, 3)], [event(2, 1), event(4, 2)]]
        after = [[event(1, 2)], [event(3, 1), event(4, 2)]]
        for line in range(1, 10_000):
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.path)
            with Feed(before).served() as url:
                self.run_once(url)
            # Of the cursors that it may have, that of the life before is known by the orders that it has.
            is_old = lambda number: number == 2 and event(2, 1)["data"]["orderId"] in table(self.path) and not self.stale()
            with Feed(after, lambda number: (410, {}, {}) if is_old(number) else None).served() as url:
                was_killed = self.killed_at(line, url)
                self.run_once(url)
            self.assertEqual(table(self.path), settled(sum(after, [])), line)
            if not was_killed:
                break
        self.assertGreater(line, 60)

    def killed_at(self, line, url):
        """Whether the consumer, in a process of its own, has so many lines that it was killed."""
        process = PROCESSES.Process(target=run_until, args=(line, url, self.path))
        process.start()
        process.join()
        self.assertIn(process.exitcode, (0, -signal.SIGKILL))
        return process.exitcode != 0

    def has_tables(self):
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            return db.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('orders', 'stale', 'feed')").fetchone() == (3,)

    def stale(self):
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            return db.execute("SELECT count(*) FROM stale").fetchone()[0]

    def after(self):
        if not os.path.exists(self.path) or not self.has_tables():
            return None
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            return (db.execute("SELECT after FROM feed").fetchone() or (None,))[0]

    def test_the_command_survives_sigkill_whenever_it_comes(self):
        draw = seeded("kills")
        pages = [[event(order_id, version) for order_id in range(20)] for version in range(1, 16)]
        draw.shuffle(pages)
        running, kills = None, 0

        def kill(_):
            nonlocal kills
            if kills < 20 and draw.random() < 0.7:
                kills += 1
                # Before the answer, while it is read, or while it is kept.
                threading.Timer(draw.choice([0, 0.001, 0.003, 0.01]), running.kill).start()

        with Feed(pages, kill).served() as url:
            while True:
                running = subprocess.Popen([sys.executable, FILE.parent, "--once", "--url", url, "--table", self.path], stdout=subprocess.PIPE)
                with running:
                    printed = running.stdout.read().decode()
                if running.returncode == 0:
                    break
                self.assertEqual(running.returncode, -signal.SIGKILL)
        self.assertEqual(table(self.path), settled(sum(pages, [])))
        self.assertEqual(printed.splitlines()[0].split()[0], "order-0")
        self.assertGreater(kills, 0)
        print(f"kills: {kills}")

    def test_it_goes_on_where_it_was_and_follows_the_link_of_an_empty_page(self):
        feed = Feed([[event(1, 1)], [event(2, 1)]])
        with feed.served() as url:
            self.run_once(url)
            feed.pages.append([event(1, 2)])
            _, printed, _ = self.run_once(url)
        self.assertEqual(feed.asked, [0, 1, 2, 2, 3])
        self.assertEqual(printed, "order-1 2 created\norder-2 1 created\n")

    def test_it_waits_as_long_as_an_empty_page_says(self):
        asked = []

        def more(number):
            asked.append(number)
            if len(asked) == 4:
                return 401, {}, {}

        with Feed([[event(1, 1)]], more).served() as url, mock.patch("time.sleep") as sleep:
            with self.assertRaises(SystemExit):
                consumer.main(["--url", url, "--table", self.path])
        self.assertEqual([call.args[0] for call in sleep.mock_calls], [7, 7])

    def test_an_expired_cursor_begins_again_and_drops_what_is_not_there_any_more(self):
        feed = Feed([[event(1, 1), event(1, 3)], [event(2, 1)]])
        with feed.served() as url:
            self.run_once(url)
            feed.pages = [[event(1, 2)], [event(3, 1)]]
            # Twice: once more while it reads the second page again.
            expired = [2, 1]
            feed.before = lambda number: (410, {"type": "/problems/cursor-expired"}, {}) if number in expired[:1] and expired.pop(0) else None
            self.run_once(url)
        self.assertEqual(feed.asked, [0, 1, 2, 2, 0, 1, 0, 1, 2])
        self.assertEqual(table(self.path), settled([event(1, 2), event(3, 1)]))

    def test_nothing_is_dropped_before_the_whole_feed_was_read_again(self):
        feed = Feed([[event(1, 1)], [event(2, 1)]])
        with feed.served() as url:
            self.run_once(url)
            answers = iter([(410, {}, {}), None, (401, {"detail": "ends it"}, {})])
            feed.before = lambda number: next(answers)
            with self.assertRaises(SystemExit):
                self.run_once(url)
            self.assertEqual(table(self.path), settled([event(1, 1), event(2, 1)]))
            feed.before = lambda number: None
            self.run_once(url)
        self.assertEqual(table(self.path), settled([event(1, 1), event(2, 1)]))

    def test_a_page_that_repeats_changes_nothing(self):
        feed = Feed([[event(1, 2)], [event(1, 1), event(2, 1)], [event(1, 2)], [event(2, 1)]])
        with feed.served() as url:
            self.run_once(url)
        self.assertEqual(table(self.path), settled([event(1, 2), event(2, 1)]))

    def test_an_expired_cursor_where_none_was_sent_ends_it(self):
        with Feed([], lambda _: (410, {}, {})).served() as url, self.assertRaises(SystemExit):
            self.run_once(url)

    def test_it_tries_again_forever_and_says_so(self):
        failures = [(503, {}, {"Retry-After": "5000"}), *[(500, {}, {})] * 40]
        feed = Feed([[event(1, 1)]], lambda _: failures.pop(0) if failures else None)
        with feed.served() as url, self.assertLogs() as complaints:
            pauses, printed, _ = self.run_once(url)
        self.assertEqual(len(pauses), 41)
        self.assertGreater(pauses[0], 5000)
        self.assertEqual(printed, "order-1 1 cancelled\n")
        self.assertIn("503 about:blank: None; again in 5000.", complaints.output[0])

    def test_a_page_that_is_cut_is_asked_for_again(self):
        cut = [(200, [event(1, 1)], {"Content-Length": "1000", "Link": '</events?after=1&limit=100>; rel="next"'})]
        feed = Feed([[event(1, 1)]], lambda _: cut.pop() if cut else None)
        with feed.served() as url:
            self.run_once(url)
        self.assertEqual(feed.asked, [0, 0, 1])

    def test_a_refusal_ends_it_with_the_problem(self):
        with Feed([], lambda _: (401, {"detail": "Send Authorization"}, {})).served() as url:
            with self.assertRaises(SystemExit) as ended:
                self.run_once(url)
        self.assertRegex(str(ended.exception), "401.*Send Authorization")

    def test_the_token_goes_to_the_service_and_no_link_takes_it_elsewhere(self):
        leading_away = [(200, [event(1, 1)], {"Link": '<http://127.0.0.1:1/events?after=1&limit=100>; rel="next"'})]
        feed = Feed([[event(1, 1)]], lambda _: leading_away.pop() if leading_away else None)
        with feed.served() as url:
            self.run_once(url + "/", "--token", "t0ken")
        self.assertEqual((feed.asked, feed.tokens), ([0, 1], ["Bearer t0ken"] * 2))
        feed = Feed([])
        with feed.served() as url, mock.patch.dict(os.environ, TOKEN=""):
            self.run_once(url)
        self.assertEqual(feed.tokens, [None])

    def test_the_examples_are_short_and_say_how_they_are_used(self):
        folder = FILE.parents[1]
        for file in [FILE, folder / "producer.py", folder / "client.py", folder / "client.mjs"]:
            self.assertLessEqual(len(file.read_text().splitlines()), 120, file)
        for file in [FILE, folder / "producer.py"]:
            said = subprocess.run([sys.executable, file, "--help"], capture_output=True, text=True, check=True).stdout
            self.assertIn("usage: ", said)
            self.assertIn("--token", said)
        wrong = subprocess.run([sys.executable, FILE, "--url", "arch.homework"], capture_output=True, text=True)
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("no http:// or https:// address", wrong.stderr)


if __name__ == "__main__":
    unittest.main()
