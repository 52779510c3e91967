#!/usr/bin/env python3
"""Checks the pages: words that have a plainer one, links and anchors that lead nowhere, and how long each page is.
Checks the comments of the other files for the same words.

Prints `file:line: what it found: what to write instead`. An argument is another checkout, or a folder with pages.
"""
import re
import subprocess
import sys
from pathlib import Path

WORDS = {"README.md": 680, "CONTRIBUTING.md": 650, "CHANGELOG.md": 500, "deploy/README.md": 1220, "docs/idempotency.md": 1190,
         "docs/queues.md": 1480, "docs/architecture.md": 1980, "docs/operations.md": 2630, "docs/reliability.md": 2000,
         "docs/performance.md": 1000, "docs/scaling.md": 720, "docs/upstream.md": 740, "docs/homework.ru.md": 840, "docs/designs.md": 1250}
ALL_WORDS, README_LINES = 16000, 140
# What a comment begins with, after the start of the line or white space; in a mutant, its description.
COMMENTS = {ending: re.compile(rf"(?:^|\s)(?:{mark})(.*)") for endings, mark in {
    ".rs .mjs .cjs": "//[/!]? ", ".sql .lua": "-- ", ".py": '# |"""', ".sh .yaml .yml .toml .conf .env": "# ", ".patch": "Mutant: ",
}.items() for ending in endings.split()}
# Comments that are still to be rewritten.
UNCHECKED = ("tests/interleavings/", "tests/proxy/")
# What stays out of the prose, and what to write instead.
INSTEAD = {re.compile(rf"(?<![-\w])({habit})(?![-\w])", re.I): instead for habit, instead in {
    r"(?<!lag )(?<!lags )behind(?! (an?|the)? ?(load balancer|ingress|firewall|gateway|pgbouncer|prox))": "after",
    r"stands(?! for)": "is", r"tells?|says?": "shows, reports, prints", r"where (none|nothing|no|there|it has|they have)": "if",
    r"whoever|nobody|anybody|who comes|(those|one) who": "a named actor", r"whose an? \w+ is": "a noun phrase, such as key scope",
    r"anew": "again", r"for good": "permanently", r"of that(?=[.,;:])": "the thing itself", r"what (came|comes|becomes) of": "the result",
    r"on (the|its|their) way": "in flight", r"in the end": "finally", r"goes (at once|alone|on alone)": "is sent immediately, alone",
    r"rides?": "is batched", r"laxer": "weaker", r"everybody's": "global", r"(is|are) not there": "is invisible, is missing",
    r"is no (failure|error|fault|reason)": "is not a, is not an", r"decides? (speed|truth)": "makes it fast, is the source of truth",
}.items()}


def words(name):
    """Those that somebody wrote to be read: no code, and nothing that a program writes."""
    return len(re.sub(r"(?ms)^<!-- generated.*?^<!-- end -->|^```.*?^```", "", (root / name).read_text()).split())


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", re.sub(r"(?ms)^```.*?^```", "", page.read_text()), re.M)
    names = [re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading)).strip().lower().replace(" ", "-") for heading in headings]
    return {name if name not in names[:at] else f"{name}-{names[:at].count(name)}" for at, name in enumerate(names)}


def faults(name):
    text = (root / name).read_text()
    if words(name) > WORDS.get(name, 0):
        yield f"1: {words(name)} words: at most {WORDS.get(name, 'none, until scripts/lib/prose.py gives the page a budget')}"
    if name == "README.md" and text.count("\n") > README_LINES:
        yield f"{text.count(chr(10))}: {text.count(chr(10))} lines: at most {README_LINES}"
    # Code is cut out, but for its line ends, which count the lines.
    for number, line in enumerate(re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", lambda code: "\n" * code[0].count("\n"), text).split("\n"), 1):
        for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", line):
            page = (root / name).parent / target if target else root / name
            if not page.exists() or (anchor and anchor not in anchors(page)):
                yield f"{number}: {target}{'#' * bool(anchor)}{anchor}: no such page or heading"
        if name not in ("CHANGELOG.md", "docs/homework.ru.md"):
            yield from habits(number, re.sub(r"\]\([^)]*\)", "]", line))


def habits(number, text):
    for habit, instead in INSTEAD.items():
        yield from (f"{number}: {found[0]}: {instead}" for found in habit.finditer(text))


def comment_faults(name):
    for number, line in enumerate((root / name).read_text().split("\n"), 1):
        if comment := COMMENTS[Path(name).suffix].search(line):
            yield from habits(number, re.sub(r"`[^`]*`", "", comment[1]))


root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
pages = sorted({*WORDS, *(str(page.relative_to(root)) for page in root.glob("docs/*.md"))})
found = [f"{name}:{fault}" for name in pages for fault in faults(name)]
files = subprocess.run(["git", "-C", root, "ls-files"], capture_output=True, text=True, check=False).stdout.split()
# A symbolic link is skipped: its file is checked under its own name, or unchecked.
sources = [name for name in files if Path(name).suffix in COMMENTS and not name.startswith(UNCHECKED)
           and (root / name).is_file() and not (root / name).is_symlink()]
found += [f"{name}:{fault}" for name in sources for fault in comment_faults(name)]
# README has its own limit, in lines.
total = sum(words(name) for name in pages if name != "README.md")
print(*found, f"prose: {total} words beside README, of which {ALL_WORDS} are allowed", sep="\n")
sys.exit(bool(found) or total > ALL_WORDS)
