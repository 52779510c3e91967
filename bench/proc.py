"""What processes cost, read from /proc: processor seconds and memory of a process and its descendants."""

import os

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    # state ppid ... utime stime cutime cstime are fields 3, 4, 14 to 17 of the whole line.
    return int(fields[1]), [int(field) for field in fields[11:15]]


def tree(root):
    """The process and every living descendant."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = _stat(entry)[0]
            except (FileNotFoundError, ProcessLookupError):
                pass
    pids = [root]
    for pid in pids:
        pids.extend(child for child, parent in parents.items() if parent == pid)
    return pids


def cpu_seconds(root):
    """Processor seconds of the tree since its start, ended processes included."""
    ticks = 0
    for pid in tree(root):
        try:
            user, system, dead_user, dead_system = _stat(pid)[1]
            ticks += user + system + (dead_user + dead_system)
        except (FileNotFoundError, ProcessLookupError):
            pass
    return ticks / TICKS


def reset_peak(root):
    for pid in tree(root):
        with open(f"/proc/{pid}/clear_refs", "w") as file:
            file.write("5")


def _kilobytes(path, name):
    with open(path) as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":"))


def peak_mb(root):
    """Highest resident size since `reset_peak`, summed over the tree."""
    return sum(_kilobytes(f"/proc/{pid}/status", "VmHWM") for pid in tree(root)) / 1024


def resident_mb(root):
    return sum(_kilobytes(f"/proc/{pid}/status", "VmRSS") for pid in tree(root)) / 1024


def proportional_mb(root):
    """Present size with each shared page counted once: memory that PostgreSQL's processes share is not multiplied."""
    total = 0
    for pid in tree(root):
        try:
            total += _kilobytes(f"/proc/{pid}/smaps_rollup", "Pss")
        except (FileNotFoundError, ProcessLookupError, StopIteration):
            pass  # the backend has ended
    return total / 1024
