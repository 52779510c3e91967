#!/usr/bin/env python3
"""Counts the component's calls to its host for one request, by name: imported functions and built-ins of the component
model, and functions that wasmtime calls instead of compiling, such as memory.copy.

The counts are averages over whole lives of instances: a call made once per instance, such as reading a variable, counts 1/128.
callgrind counts them in the bundled host, one client at a time. The total is the number of entries into the host and complete.
The names are those of the host's functions. If the compiler has inlined one, only its interface is named, or its calls
are under "no name". Calls of the host into the component are not counted.
"""

import argparse
import re
from collections import Counter
from pathlib import Path

from instructions import MODES, REQUESTS, Counted
from world import ROOT, Stores, manifest_for

IMPORT = re.compile(r"wasmtime::runtime::component::func::host::HostFn::cabi_entrypoint$")
BUILT_IN = re.compile(r"wasmtime::runtime::vm::component::libcalls::trampolines::(?:flat_)?(waitable_set|error_context|[a-z]+)_(\w+)$")
HELPER = re.compile(r"wasmtime::runtime::vm::libcalls::raw::(memory|table|[a-z]+)_(\w+)$")
INTERFACE = r"\S*?(?P<version>p2::|p3::|wasi_io::|)bindings::(?:\w+::)?(?P<package>(?:wasi|spin)::\w+)::(?P<interface>\w+)"
TRAIT = rf"<impl {INTERFACE}::Host(?P<resource>\w*?)(?:WithStore)? for .*>::(?P<function>\w+)"
SYNCHRONOUS = re.compile(rf"{TRAIT}$")
# An asynchronous call is a future of the linker, which mostly contains one of the host. Each is polled any number of
# times and dropped once.
PENDING = re.compile(rf"core::ptr::drop_in_place<(?:tracing::instrument::Instrumented<)?{INTERFACE}::add_to_linker<.*>"
                     r"::{{closure}}::{{closure}}>+$")
ASYNCHRONOUS = re.compile(rf"core::ptr::drop_in_place<(?!wasmtime::|order_host::faults::)\S*{TRAIT}<[^<>]*>::{{{{closure}}}}>$")


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh calls", description=__doc__)
    parser.add_argument("--component", type=Path, metavar="WASM", help="another build of the component instead of this one")
    args = parser.parse_args()
    if args.component and not args.component.is_file():
        parser.error("--component takes a file that exists")
    return args


def edges(file):
    """How often which function called which."""
    names, calls, caller, callee = {}, Counter(), None, None
    for line in file.read_text().splitlines():
        if name := re.match(r"(c?)fn=\((\d+)\)(?: (.*))?", line):
            # The name is given only with the first mention of its number.
            number = name[2]
            names.setdefault(number, name[3])
            if name[1]:
                callee = names[number]
            else:
                caller = names[number]
        elif line.startswith("calls="):
            calls[caller, callee] += int(line[len("calls="):].split()[0])
    return calls


def interface(match):
    version = {"p2::": "@0.2", "wasi_io::": "@0.2", "p3::": "@0.3"}.get(match["version"], "")
    name = match["package"].replace("::", ":") + "/" + match["interface"]
    return name.replace("_", "-") + version


def function(match):
    resource = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", match["resource"]).lower()
    return f"{interface(match)} {resource + '.' if resource else ''}{match['function'].replace('_', '-')}"


def counted(file):
    """Calls to imports, to built-ins and to helpers, by name."""
    imports, built_ins, helpers, unnamed = Counter(), Counter(), Counter(), Counter()
    entries = 0
    for (caller, callee), count in edges(file).items():
        # Compiled code has an address as its name. Other callers are callgrind's mistake after a stack switch.
        compiled = caller.startswith("0x")
        if compiled and IMPORT.search(callee):
            entries += count
        elif compiled and (match := BUILT_IN.search(callee)):
            built_ins[f"{match[1]}.{match[2]}".replace("_", "-")] += count
        elif compiled and (match := HELPER.search(callee)):
            helpers[f"{match[1]}.{match[2]}".replace("_", "-")] += count
        elif match := PENDING.match(callee):
            unnamed[interface(match)] += count
        elif match := ASYNCHRONOUS.match(callee):
            imports[function(match)] += count
            unnamed[interface(match)] -= count
        elif "wasmtime::runtime::component::func::host::" in caller and (match := SYNCHRONOUS.search(callee)):
            imports[function(match)] += count
    if not entries:
        raise SystemExit(f"bench: no call is found in {file}: wasmtime's functions have other names now")
    for name, count in unnamed.items():
        if count > 0:
            imports[f"{name}, asynchronous"] += count
    imports["no name"] = entries - imports.total()
    # A call may be in progress when counting begins or ends.
    if abs(imports["no name"]) <= REQUESTS / 50:
        del imports["no name"]
    return entries, imports, built_ins, helpers


def main():
    args = arguments()
    stores = Stores()
    stores.sql("TRUNCATE orders")
    stores.redis("flushall")
    host = Counted("calls", manifest_for(args.component) if args.component else ROOT / "spin.toml")
    try:
        for mode in MODES:
            host.count(mode)
    finally:
        host.target.stop()
    entries, *groups = zip(*(counted(host.folder / mode) for mode in MODES))
    totals = [count + built_ins.total() for count, built_ins in zip(entries, groups[1])]

    def row(name, counts):
        print(f"| {name} | " + " | ".join(f"{count / REQUESTS:.2f}" for count in counts) + " |")

    print(f"| call | {' | '.join(MODES)} |\n|---|" + "---|" * len(MODES))
    for group in groups[:2]:
        for name in sorted(set().union(*group)):
            row(name, [counts[name] for counts in group])
    row("**total**", totals)
    for name in sorted(set().union(*groups[2])):
        row(f"{name}, not in the total", [counts[name] for counts in groups[2]])


if __name__ == "__main__":
    main()
