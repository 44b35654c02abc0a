# SPDX-License-Identifier: MIT
"""What venvd costs, measured beside something that everybody has, in the same run on the same machine.

Whole processes stand beside /bin/true, answers on a socket beside a bare echo of the same bytes. Runs
are interleaved, so that a busy moment hits both sides. Numbers are medians with the middle half in
brackets; what counts is the ratio. With --short each row is only tried, and nothing is asserted.
"""

import argparse
import contextlib
import json
import os
import platform
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
BUILD = REPOSITORY / os.environ.get("VENVD_BUILD", "build")
TRUE = "/bin/true"
PYTHON = "/usr/bin/python3"
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


def row(what, ours, beside, ratio, goal):
    print(f"{what:<46} {ours:<26} {beside:<34} {ratio:>7}   {goal}", flush=True)


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
    os.environ.update(VENVD_ROOT=str(root), VENVD_AUTOSTART="0", HOME=str(root.parent), **more)


def beside_true(what, runs, command, goal):
    ours, true = interleaved(runs, lambda: run_seconds(command), lambda: run_seconds([TRUE]))
    ratio = statistics.median(ours) / statistics.median(true)
    row(what, spread(ours) + " ms", f"/bin/true {spread(true)} ms", f"{ratio:.2f}x", goal)


def measure_processes(root, runs):
    venvctl = str(BUILD / "venvctl")
    make_environments(root, 40)
    client_environment(root, VIRTUAL_ENV=str(root / "env00007"))
    with Daemon(root):
        said = subprocess.run([venvctl, "prompt"], capture_output=True, text=True, check=True).stdout
        if platform.python_version() not in said:
            raise Failure(f"venvctl prompt did not hear from the daemon: {said!r}")
        beside_true("venvctl prompt", runs, [venvctl, "prompt"], "<= 2x")
        beside_true("venvctl list, 40 environments", runs, [venvctl, "list"], "")


def measure_round_trips(root, rounds, calls):
    make_environments(root, 1)
    message = call_bytes("Prompt", name="env00000")

    def over_one(client):
        return lambda: timed(lambda: [client.round_trip(message) for _ in range(calls)]) / calls

    def each_its_own(path):
        def connect_and_call():
            with Client(path) as client:
                client.round_trip(message)

        return lambda: timed(lambda: [connect_and_call() for _ in range(calls // 4)]) / (calls // 4)

    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon(root))
        client = stack.enter_context(Client(daemon.socket))
        echo = stack.enter_context(Echo(root.parent / "echo", len(client.round_trip(message))))
        bare = stack.enter_context(Client(echo.socket))
        for what, pair in (
            ("Prompt, one connection", (over_one(client), over_one(bare))),
            ("Prompt, a connection for each", (each_its_own(daemon.socket), each_its_own(echo.socket))),
        ):
            ours, theirs = interleaved(rounds, *pair)
            a_second, bare_second = 1 / statistics.median(ours), 1 / statistics.median(theirs)
            ratio = statistics.median(ours) / statistics.median(theirs)
            row(what, f"{a_second:,.0f} a second", f"bare echo {bare_second:,.0f} a second", f"{ratio:.2f}x", "")


def measure_large_root(root, count, runs):
    make_environments(root, count)
    client_environment(root)
    venvctl = str(BUILD / "venvctl")
    with Daemon(root) as daemon:
        first = daemon.start_seconds
        with Client(daemon.socket) as client:
            known = sum(client.call("Status")["counts"].values())
        if known != count:
            raise Failure(f"{known} environments of {count} are known")
    scan = timed(lambda: [entry.stat() for entry in os.scandir(root)])
    scanned = f"scandir and stat {scan * 1000:.0f} ms"
    row(f"first start on {count:,} environments", f"{first * 1000:.0f} ms", scanned, f"{first / scan:.2f}x", "")
    starts = []
    for _ in range(3):
        with Daemon(root) as daemon:
            starts.append(daemon.start_seconds)
    again = statistics.median(starts)
    row("start again, until ready", spread(starts, digits=0) + " ms", scanned, f"{again / scan:.2f}x", "< 1000 ms")
    with Daemon(root):
        beside_true(f"venvctl list, {count:,} environments", runs, [venvctl, "list"], "<= 30 ms")


def creating_clients(path, clients):
    """A process in which so many clients create (with pip) and delete again, without end."""
    pid = os.fork()
    if pid != 0:
        return pid
    poll, connections = select.epoll(), {}
    for number in range(clients):
        connection = Client(path).socket
        connections[connection.fileno()] = [connection, f"busy{number}", "Delete", b""]
        poll.register(connection, select.EPOLLIN)
        connection.sendall(call_bytes("Create", name=f"busy{number}", python=PYTHON))
    while True:
        for fd, _ in poll.poll():
            state = connections[fd]
            data = state[0].recv(65536)
            if not data or b'"error"' in data:
                os.write(2, b"bench: a creating client got: " + data + b"\n")
                os._exit(1)
            if data.endswith(b"\0"):
                method, state[2] = state[2], "Create" if state[2] == "Delete" else "Delete"
                more = {"python": PYTHON} if method == "Create" else {"now": True}
                state[0].sendall(call_bytes(method, name=state[1], **more))


def measure_while_creating(root, clients, seconds):
    make_environments(root, 40)
    message = call_bytes("Prompt", name="env00007")
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon(root))
        client = stack.enter_context(Client(daemon.socket))
        echo = stack.enter_context(Echo(root.parent / "echo2", len(client.round_trip(message))))
        bare = stack.enter_context(Client(echo.socket))
        creating = creating_clients(daemon.socket, clients)
        try:
            end = time.monotonic() + seconds
            ours, theirs = [], []
            while time.monotonic() < end:
                time.sleep(0.001)
                ours.append(timed(client.round_trip, message))
                theirs.append(timed(bare.round_trip, message))
            if os.waitpid(creating, os.WNOHANG)[0] != 0:
                raise Failure("the creating clients ended early")
        finally:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(creating, 9)
                os.waitpid(creating, 0)
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        mine, other = quantile(ours, share), quantile(theirs, share)
        row(
            f"Prompt {name} while {clients} clients create",
            f"{mine * 1000:.3f} ms",
            f"bare echo {other * 1000:.3f} ms",
            f"{mine / other:.2f}x",
            "< 1 ms" if name == "p99" else "",
        )


def machine():
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    usable = len(os.sched_getaffinity(0))
    return f"{model}, {usable} cores, Linux {platform.release()}, client of the sockets: Python {platform.python_version()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="try each row for a moment")
    short = parser.parse_args().short
    print(machine())
    print("the median and [the middle half]; a ratio is our time over that of what stands beside it\n")
    row("what", "venvd", "beside it", "ratio", "goal")
    scratch = Path(tempfile.mkdtemp(prefix="venvd-bench.", dir="/tmp"))
    try:
        for number, (function, arguments) in enumerate(
            (
                (measure_processes, (20 if short else 400,)),
                (measure_round_trips, (3 if short else 15, 200 if short else 4000)),
                (measure_large_root, (300 if short else 10000, 5 if short else 40)),
                (measure_while_creating, (4 if short else 16, 2 if short else 20)),
            )
        ):
            root = scratch / str(number) / "root"
            root.mkdir(parents=True)
            client_environment(root)
            function(root, *arguments)
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


sys.exit(main())
