"""python -m check.secrets_env FILE EXAMPLE: checks that kubectl reads secrets.env as its author meant it.

Kustomize uses each value as it is: no shell reads the file, so a quote or a space would be part of a password.
"""

import re
import sys
from pathlib import Path

from .project import assignments

CLIENT = re.compile(r"([a-z0-9-]{1,32}):([0-9a-f]{64})")


def faults(text, wanted):
    """Each fault with its line. The values are secrets, so none is repeated."""
    seen = set()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        fault = "exists twice" if name in seen else _fault(name, equals, value, wanted)
        if fault:
            yield f"line {number}: {name if name in wanted else 'it'} {fault}"
        seen.add(name)
    for name in sorted(wanted - {re.sub(r"\W", "", name) for name in seen}):
        yield f"{name} is missing; `make secrets` adds all but passwords"


def _fault(name, equals, value, wanted):
    if value.endswith("\r") or name.endswith("\r"):
        return "ends in CR LF; save the file with LF only"
    if name not in wanted:
        return "is not NAME=value with a name of secrets.env.example, at the beginning of the line and without `export`"
    if not equals:
        return "has no value; kubectl would use the one in your environment"
    if re.search("[\"'`]", value):
        return "is quoted, and the quotes would be part of it; write only the value"
    if name == "CLIENTS":
        return clients_fault(value)
    if not re.fullmatch("[A-Za-z0-9]+", value):
        return "is empty" if not value else "contains something other than letters and digits"
    return None


def clients_fault(value):
    digests = set()
    for number, entry in enumerate(re.findall("[^ \t]+", value), start=1):
        parts = CLIENT.fullmatch(entry)
        if not parts:
            return f"has an entry {number} that is not name:sha256 as `make client` prints it; entries are separated by spaces"
        if parts[2] in digests:
            return f"has the token of an earlier entry in entry {number}"
        digests.add(parts[2])
    return None


def main(file, example):
    # newline="": a CR must stay visible.
    with open(file, encoding="utf-8", newline="", errors="replace") as opened:
        found = list(faults(opened.read(), assignments(Path(example)).keys()))
    for fault in found:
        print(f"verify-deploy: {file}: {fault}", file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
