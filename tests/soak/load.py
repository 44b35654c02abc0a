# SPDX-License-Identifier: MIT
"""What the parts of the soak stand on: a daemon's resources, many calls at once, the table."""
import contextlib
import os
import pathlib
import select
import socket
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "e2e"))

from conftest import DEADLINE  # noqa: E402
from helpers import children  # noqa: E402
from wire import WireDaemon  # noqa: E402

PYTHON = "/usr/bin/python3"
# With no python3 on its PATH it prepares nothing that nobody has asked for, which would take seconds each time.
ENVIRONMENT = {"PATH": "/nowhere"}


class Missed(Exception):
    """A part could not be brought to its end."""


# --- the machine, and the daemon ---

def machine_busy(seconds=1.0):
    """The share of the processors that was used, by everybody."""
    def ticks():
        numbers = list(map(int, pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]))
        return sum(numbers), numbers[3] + numbers[4]
    total, idle = ticks()
    time.sleep(seconds)                                 # silence is what is measured
    now, idle_now = ticks()
    return 1 - (idle_now - idle) / max(1, now - total)


def memory_kib(pid, field="VmRSS"):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise Missed(f"process {pid} has no {field}")


class Resources:
    """What daemon and resident worker have now."""

    def __init__(self, daemon):
        self.resident = daemon.worker()
        pids = daemon.pid, self.resident
        self.memory = [memory_kib(pid) for pid in pids]
        self.descriptors = [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]
        self.children = [len(children(pid)) for pid in pids]

    def same_but_memory(self, other):
        return (self.resident, self.descriptors, self.children) == (other.resident, other.descriptors, other.children)


@contextlib.contextmanager
def running(root, *options, descriptors=None, binary=None, **kwargs):
    """A daemon for as long as it is wanted."""
    if descriptors:
        kwargs["wrapper"] = ["/bin/sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh"]
    if binary:
        kwargs["binary"] = binary
    daemon = WireDaemon(root, options, env=ENVIRONMENT, **kwargs)
    try:
        if not daemon.said.startswith("ready "):
            raise Missed(f"it does not start: {daemon.log()[-500:]}")
        yield daemon
        if daemon.stop() != 0:
            raise Missed(f"it did not end well: {daemon.log()[-800:]}")
    finally:
        if daemon.process.poll() is None:
            daemon.kill()
        os.unlink(daemon.log_path)


def wait_until(condition, seconds=DEADLINE):
    """For what the daemon does after its answers; False when the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def settled(daemon, before=None, quiet=0.5):
    """Its resources once it has been idle for a while, with nobody but us connected; with `before`: once they are as they
    were then, or never will be. The pool is filled when its takers pause, so that idle once is not idle."""
    with daemon.connect() as c:
        since, last, end = time.monotonic(), None, time.monotonic() + DEADLINE
        while True:
            status, now = c.call("Status"), Resources(daemon)
            idle = status["jobsRunning"] + status["jobsQueued"] == 0 and status["connections"] == 1
            if not idle or last is None or not now.same_but_memory(last):
                since = time.monotonic()
            last = now
            waited = time.monotonic() - since
            if waited > quiet and (before is None or now.same_but_memory(before) or waited > 10 * quiet):
                return now
            if time.monotonic() > end:
                raise Missed("it is never idle")
            time.sleep(0.02)


# --- clients ---

class Pipe:
    """A connection on which a batch of calls goes out at once, and as many answers come back."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(path)

    def batch(self, data):
        wanted = data.count(b"\0")
        self.socket.sendall(data)
        while wanted > 0:
            answers = self.socket.recv(1 << 18)
            if not answers:
                raise Missed("it closed the connection")
            wanted -= answers.count(b"\0")

    def close(self):
        self.socket.close()


def connect_without_waiting(path):
    """A connection that never blocks; connecting to a Unix socket is done at once, or refused."""
    s = socket.socket(socket.AF_UNIX)
    s.setblocking(False)
    s.connect(path)
    return s


def drain(sockets):
    """Reads whatever is there; who was hung up on."""
    gone = []
    for s in select.select(sockets, [], [], 0)[0] if sockets else []:
        with contextlib.suppress(BlockingIOError):
            try:
                if not s.recv(1 << 16):
                    gone.append(s)
            except ConnectionError:
                gone.append(s)
    return gone


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# --- the table ---

class Table:
    """Rows, and whether each kept its bound. Where a bound is None the figure is only told."""

    def __init__(self):
        self.missed = self.rows = 0

    @staticmethod
    def line(*cells):
        print("| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(cells, (68, 38, 26, 0), strict=True)) + " |",
              flush=True)

    def head(self):
        self.line("what", "seen", "bound", "")
        self.line("---", "---", "---", "---")

    def row(self, what, seen, bound, kept):
        self.rows += 1
        self.missed += kept is False
        self.line(what, seen, bound, "MISSED" if kept is False else "kept" if kept else "")
