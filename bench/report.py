"""Turns the cells of a run into medians, ratios, a Markdown page and plots."""

import json
from statistics import median

import plot

# The service's rate divided by another target's: which ratio, and the least that is wanted for each number of clients.
RATIOS = [
    ("healthz", "floor", {16: 0.85, 64: 0.85}),
    ("replay", "floor", {16: 0.92, 64: 0.92}),
    ("create", "floor", {16: 1.15, 64: 1.6, 256: 1.6}),
    ("replay", "plain", {16: 3, 64: None}),
    ("create", "plain", {16: 1.7, 64: 2}),
    ("replay", "native", {16: None, 64: None}),
    ("create", "native", {16: None, 64: None}),
]
# The most processor time of the host that the service may take, divided by the floor's: steadier than rates.
PROCESSOR = {"healthz": 1.3, "replay": 1.15, "create": 0.9}
NAMES = {
    ("service", "healthz"): "no-store route",
    ("floor", "healthz"): "floor no-store",
    ("service", "replay"): "service",
    ("service", "create"): "service",
    ("plain", "replay"): "plain handler",
    ("plain", "create"): "plain handler",
    ("native", "healthz"): "native no-store",
    ("native", "replay"): "native axum",
    ("native", "create"): "native axum",
    ("redis", "replay"): "redis-benchmark GET",
    ("postgres", "create"): "pgbench insert",
}


def medians(cells):
    """One entry per (phase, rows, target, mode, clients), each figure the median of its rounds."""
    groups = {}
    for cell in cells:
        groups.setdefault((cell["phase"], cell["rows"], cell["target"], cell["mode"], cell["clients"]), []).append(cell)
    result = []
    for (phase, rows, target, mode, clients), group in groups.items():
        entry = {"phase": phase, "rows": rows, "target": target, "mode": mode, "clients": clients, "rounds": len(group)}
        for name in ("per_second", "p50_ms", "p99_ms"):
            entry[name] = round(median(cell[name] for cell in group), 3)
        entry["max_ms"] = max(cell["max_ms"] for cell in group)
        for name in ("errors", "wrong"):
            entry[name] = sum(cell[name] for cell in group)
        if phase == "table":
            entry["wal_kb"] = median(cell["wal_kb"] for cell in group)
        for name in ("cpu_seconds_per_1000", "memory_mb"):
            entry[name] = {of: round(median(cell[name][of] for cell in group), 4) for of in group[0][name]}
        result.append(entry)
    order = {"main": 0, "redis-down": 1, "table": 2, "healthz": 0, "replay": 1, "create": 2}
    return sorted(result, key=lambda e: (order[e["phase"]], order[e["mode"]], e["rows"] or 0, e["target"], e["clients"]))


def _figures(cells, phase, target, mode, clients, rows=None, of=lambda cell: cell["per_second"]):
    return {cell["round"]: of(cell) for cell in cells
            if (cell["phase"], cell["target"], cell["mode"], cell["clients"], cell["rows"]) == (phase, target, mode, clients, rows)}


def _ratio(top, bottom):
    """The median of the ratios within a round: a slow minute affects both sides of one round."""
    both = [top[number] / bottom[number] for number in top.keys() & bottom.keys() if bottom[number]]
    return round(median(both), 3) if both else None


def ratios(cells, runtime):
    rows = []

    def add(name, value, wanted, is_met):
        if value is not None:
            rows.append({"name": name, "value": value, "wanted": wanted, "met": is_met(value)})

    def against(mode, other, clients, least):
        value = _ratio(_figures(cells, "main", "service", mode, clients), _figures(cells, "main", other, mode, clients))
        name = f"{NAMES['service', 'healthz'] if mode == 'healthz' else mode} ÷ {NAMES.get((other, 'create'), other)}'s"
        add(f"{name}, {clients} clients", value, f"≥ {least}" if least else "", lambda value: value >= least if least else None)

    for mode, other, wanted in RATIOS:
        for clients, least in wanted.items():
            against(mode, other, clients, least)
    for mode, most in PROCESSOR.items():
        for clients in (16, 64):
            of_host = [_figures(cells, "main", target, mode, clients, of=lambda cell: cell["cpu_seconds_per_1000"]["service"])
                       for target in ("service", "floor")]
            name = NAMES["service", "healthz"] if mode == "healthz" else mode
            add(f"processor time of the host per {name} ÷ floor's, {clients} clients", _ratio(*of_host), f"≤ {most}",
                lambda value: value <= most)
    for clients in (64, 256):
        value = _ratio(_figures(cells, "main", "service", "create", clients), _figures(cells, "main", "service", "create", 16))
        add(f"create at {clients} clients ÷ at 16", value, "≥ 1.0", lambda value: value >= 1.0)
    at_256 = [cell for cell in cells if cell["phase"] == "main" and cell["target"] == "service" and cell["clients"] == 256]
    if at_256:
        creates = [cell["max_ms"] for cell in at_256 if cell["mode"] == "create"]
        add("slowest create at 256 clients, ms", max(creates), "< 1000", lambda value: value < 1000)
        add("errors at 256 clients", sum(cell["errors"] + cell["wrong"] for cell in at_256), "0", lambda value: value == 0)
        # The memory limit belongs to a pod, and a pod runs Spin.
        if runtime.startswith("spin "):
            peak = max(cell["memory_mb"]["service"] for cell in at_256)
            add("peak memory of the host at 256 clients, MB", peak, "< 300", lambda value: value < 300)
    largest = max((cell["rows"] for cell in cells if cell["rows"]), default=None)
    for clients in (16, 64):
        value = _ratio(_figures(cells, "table", "service", "create", clients, largest),
                       _figures(cells, "table", "service", "create", clients, 0))
        add(f"create with {largest} rows ÷ with none, {clients} clients", value, "≥ 0.9", lambda value: value >= 0.9)
    for other in sorted({cell["target"] for cell in cells} - {"service", "floor", "plain", "native", "redis", "postgres"}):
        for mode in ("healthz", "replay", "create"):
            for clients in sorted({cell["clients"] for cell in cells}):
                against(mode, other, clients, None)
    return rows


def soak_ratio(soak):
    """Medians over half a minute: a single sample varies by a twentieth."""
    end = soak["samples"][-1][0]
    around_minute = [megabytes for seconds, megabytes in soak["samples"] if 45 <= seconds <= 75]
    around_end = [megabytes for seconds, megabytes in soak["samples"] if seconds >= end - 30]
    if end < 120:
        return None
    first, last = round(median(around_minute), 1), round(median(around_end), 1)
    return {"name": f"memory after {end} s ÷ after 60 s ({last} MB ÷ {first} MB)",
            "value": round(last / first, 3), "wanted": "≤ 1.05", "met": last / first <= 1.05}


def _table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(field) for field in row) + " |" for row in rows])


def _name(entry):
    return NAMES.get((entry["target"], entry["mode"]), entry["target"])


def _rows(entries):
    for entry in entries:
        cpu, memory = entry["cpu_seconds_per_1000"], entry["memory_mb"]
        yield [
            _name(entry), entry["mode"], *([entry["rows"]] if entry["phase"] == "table" else []), entry["clients"],
            f"{entry['per_second']:.0f}", f"{entry['p50_ms']:.2f}", f"{entry['p99_ms']:.1f}", f"{entry['max_ms']:.0f}",
            entry["errors"] + entry["wrong"],
            *(f"{cpu[name]:.3f}" if name in cpu else "" for name in ("service", "postgres", "redis")),
            *(f"{memory[name]:.0f}" if name in memory else "" for name in ("service", "postgres", "redis")),
            *([f"{entry['wal_kb']:.1f}"] if "wal_kb" in entry else []),
        ]


def markdown(result):
    world, settings = result["world"], result["settings"]
    versions = ", ".join(f"{name} {value}" for name, value in world["versions"].items())
    rounds = (
        f"{settings['rounds']} interleaved rounds of {settings['seconds']} s, each load of a service after "
        f"{settings['warm_up']} s of warm-up, of which errors and the slowest answer count"
    )
    soak = f"one load of {settings['soak_seconds']} s, three replays for each create, 64 clients"
    parts = [
        f"- services on: {world['runtime']}\n- machine: {world['machine']}\n- versions: {versions}\n"
        f"- {soak if 'soak' in result else rounds}, started {world['started']} "
        f"at a load average of {world['load_average_before']:.1f}",
    ]
    if result["ratios"]:
        verdict = {True: "yes", False: "no", None: ""}
        parts.append(_table(["figure", "measured", "wanted", "met"],
                            [[row["name"], row["value"], row["wanted"], verdict[row["met"]]] for row in result["ratios"]]))
    columns = ["clients", "per second", "p50 ms", "p99 ms", "max ms", "errors", "CPU s/1000: service", "PostgreSQL", "Redis",
               "peak MB: service", "PostgreSQL", "Redis"]
    titles = {"main": "Both stores up", "redis-down": "Redis down", "table": "Table size"}
    for phase, title in titles.items():
        entries = [entry for entry in result["medians"] if entry["phase"] == phase]
        if entries:
            head = ["target", "request", *(["rows before"] if phase == "table" else []), *columns]
            head += ["WAL kB per create"] if phase == "table" else []
            parts += [f"## {title}", _table(head, _rows(entries))]
    return "\n\n".join(parts) + "\n"


def plots(result):
    entries = result["medians"]

    def by_clients(mode, figure, left_out=()):
        series = {}
        for entry in entries:
            if entry["phase"] == "main" and entry["mode"] in (mode, "healthz") and entry["target"] not in left_out:
                if entry["mode"] == "healthz" and entry["target"] != "service":
                    continue
                series.setdefault(_name(entry), []).append((entry["clients"], entry[figure]))
        return series

    if any(entry["phase"] == "main" for entry in entries):
        yield "throughput.svg", plot.chart([
            # The native peer and bare Redis are in the table only: on their scale the other lines would be flat.
            ("Replays per second", by_clients("replay", "per_second", ("redis", "native"))),
            ("Creates per second", by_clients("create", "per_second")),
        ], "clients")
        yield "p99.svg", plot.chart([
            ("Replay, p99 in ms", by_clients("replay", "p99_ms")),
            ("Create, p99 in ms", by_clients("create", "p99_ms")),
        ], "clients")
    table = [entry for entry in entries if entry["phase"] == "table"]
    if table:
        def by_rows(figure):
            series = {}
            for entry in table:
                series.setdefault(f"{entry['clients']} clients", []).append((max(entry["rows"], 1), figure(entry)))
            return series

        def cost(entry):
            return sum(entry["cpu_seconds_per_1000"][name] for name in ("service", "postgres"))

        yield "table-size.svg", plot.chart([
            ("Creates per second", by_rows(lambda entry: entry["per_second"])),
            ("CPU ms per create, service and PostgreSQL", by_rows(cost)),
        ], "orders in the table before (1 means none)")


def write(result, folder):
    """Writes the report and prints its Markdown; true if anything was answered wrongly or with an error."""
    result["medians"] = medians(result["cells"])
    result["ratios"] = ratios(result["cells"], result["world"]["runtime"])
    if "soak" in result:
        result["ratios"] += filter(None, [soak_ratio(result["soak"])])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "bench.md").write_text(markdown(result))
    for name, svg in plots(result):
        (folder / name).write_text(svg)
    print(markdown(result))
    return any(cell["wrong"] for cell in result["cells"])
