# SPDX-License-Identifier: MIT
"""What every row of the bench stands on: a daemon, clients, clocks, and the table itself."""

import contextlib
import json
import os
import platform
import select
import socket
import statistics
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
BUILD = REPOSITORY / os.environ.get("VENVD_BUILD", "build")
TRUE = "/bin/true"
PYTHON = "/usr/bin/python3"
# Where nothing is created, nothing is prepared either.
NO_POOL = ("-o", "pool-entries=0")
HOME = Path(os.environ.get("HOME", "/"))  # before client_environment() takes it away
QUIET = [
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
]


class Failure(Exception):
    """A row could not be measured at all."""


class Daemon:
    """A venvd on a root of its own, from start to ready to end."""

    def __init__(self, root, *options):
        ready, say_ready = os.pipe()
        os.set_inheritable(say_ready, True)
        began = time.perf_counter()
        arguments = ["venvd", "--root", str(root), "--ready-fd", str(say_ready), *options]
        log = (os.POSIX_SPAWN_OPEN, 2, str(root.parent / "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.pid = os.posix_spawn(BUILD / "venvd", arguments, os.environ, file_actions=[log])
        os.close(say_ready)
        with open(ready, "rb") as pipe:
            said = pipe.read()
        self.start_seconds = time.perf_counter() - began
        self.socket = str(root / ".venvd" / "io.venvd")
        if not said.startswith(b"ready"):
            raise Failure("venvd did not start: " + (root.parent / "log").read_text())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, 15)
        os.waitpid(self.pid, 0)


class Echo:
    """A process that answers each message with one of `size` bytes: what a round trip costs without us."""

    def __init__(self, path, size):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(16)
        self.socket = str(path)
        self.pid = os.fork()
        if self.pid == 0:
            self.serve(listener, b"x" * (size - 1) + b"\0")
        listener.close()

    @staticmethod
    def serve(listener, answer):
        poll, connections = select.epoll(), {}
        poll.register(listener, select.EPOLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == listener.fileno():
                    connection = listener.accept()[0]
                    connections[connection.fileno()] = connection
                    poll.register(connection, select.EPOLLIN)
                elif connections[fd].recv(65536):
                    connections[fd].sendall(answer)
                else:
                    connections.pop(fd).close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


class Client:
    """One connection and its calls, one after the other."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def round_trip(self, message):
        self.socket.sendall(message)
        answer = self.socket.recv(65536)
        while not answer.endswith(b"\0"):
            more = self.socket.recv(65536)
            if not more:
                raise Failure(f"no answer to {message!r}")
            answer += more
        return answer

    def call(self, method, **parameters):
        answer = json.loads(self.round_trip(call_bytes(method, **parameters))[:-1])
        if "error" in answer:
            raise Failure(f"{method}: {answer}")
        return answer["parameters"]


def wait_until(condition, seconds):
    """Asks until it is so; False when the time is over. For what venvd does in the background."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def wait_for_pool(daemon, entries, seconds=120):
    """Until so many environments wait in the pool; how many do. 0 at once where there is no pool."""

    def waiting():
        with Client(daemon.socket) as client:
            return sum(image.get("pool", 0) for image in client.call("Status").get("images") or [])

    with Client(daemon.socket) as client:
        if not client.call("Status").get("images"):
            return 0
    wait_until(lambda: waiting() >= entries, seconds)
    return waiting()


def descendants(pid):
    """The process and everything below it."""
    found, rest = [], [pid]
    while rest:
        one = rest.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                rest += map(int, (task / "children").read_text().split())
    return found


def memory_kib(pid, field="VmRSS"):
    """0 for a process that has just ended, as workers do."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0


def call_bytes(method, **parameters):
    return json.dumps({"method": "io.venvd." + method, "parameters": parameters}).encode() + b"\0"


def run_seconds(command):
    began = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=QUIET)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.perf_counter() - began
    if status != 0:
        raise Failure(f"{' '.join(map(str, command))} exited {status}")
    return seconds


def interleaved(runs, *actions):
    """For each action the seconds of its runs, all of them taking turns; the first turn does not count."""
    seconds = [[] for _ in actions]
    for run in range(runs + 1):
        for action, list_of_it in zip(actions, seconds, strict=True):
            took = action()
            if run > 0:
                list_of_it.append(took)
    return seconds


def timed(function, *arguments):
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values, unit=1000, digits=2):
    """The median and the middle half, as text."""
    middle, low, high = (statistics.median(values), quantile(values, 0.25), quantile(values, 0.75))
    return f"{middle * unit:.{digits}f} [{low * unit:.{digits}f} {high * unit:.{digits}f}]"


class Table:
    """Rows in the form that README has. A goal that is missed is said to be, and fails nothing."""

    def __init__(self):
        self.reached = self.missed = 0
        self.short = False  # then nothing was measured, only tried

    def head(self):
        self.line("what", "venvd", "beside it", "ratio", "goal")
        self.line("---", "---", "---", "---", "---")

    @staticmethod
    def line(*cells):
        widths = (58, 28, 40, 14, 0)
        print(
            "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)) + " |", flush=True
        )

    def row(self, what, ours, beside, ratio, goal="", reached=None):
        if reached is not None and not self.short:
            goal = f"{goal}: {'reached' if reached else 'NOT REACHED'}"
            self.reached += bool(reached)
            self.missed += not reached
        self.line(what, ours, beside, ratio, goal)


table = Table()
row = table.row


def make_environments(root, count):
    """Small but complete environments, as fast as they can be written."""
    config = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {platform.python_version()}\n"
    for number in range(count):
        directory = root / f"env{number:05d}"
        (directory / "bin").mkdir(parents=True)
        (directory / "pyvenv.cfg").write_text(config)
        (directory / "bin" / "activate").write_text("")
        (directory / "bin" / "python").symlink_to(PYTHON)


def client_environment(root, **more):
    for name in ("VENVD_SOCKET", "WORKON_HOME", "VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT"):
        os.environ.pop(name, None)
    os.environ.update(
        VENVD_ROOT=str(root), VENVD_AUTOSTART="0", HOME=str(root.parent), VENVD_CONFIG="/dev/null", **more
    )


def beside_true(what, runs, command, goal="", reached=None):
    """reached(median in seconds, ratio) says whether the goal is."""
    ours, true = interleaved(runs, lambda: run_seconds(command), lambda: run_seconds([TRUE]))
    ratio = statistics.median(ours) / statistics.median(true)
    row(
        what,
        spread(ours) + " ms",
        f"/bin/true {spread(true)} ms",
        f"{ratio:.2f}x",
        goal,
        None if reached is None else reached(statistics.median(ours), ratio),
    )
