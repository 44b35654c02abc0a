# SPDX-License-Identifier: MIT
"""Many clients at once over the socket: a burst from a full pool, sustained work, and a prompt beside it."""

import contextlib
import json
import os
import select
import shutil
import statistics
import time

import creation
from common import (
    PYTHON, Client, Daemon, Echo, Failure, call_bytes, descendants, make_environments, memory_kib, quantile, row, spread,
    timed, wait_for_pool,
)  # fmt: skip

CALLER = {"umask": 0o022, "path": "/usr/bin:/bin", "cwd": "/"}


class Crowd:
    """A process with so many connections. Each creates, one after the other (and deletes and purges it again), until
    `count` were created in all or `seconds` are over; then it says on a pipe how it went."""

    def __init__(self, path, clients, prefix, python, count=None, seconds=None, delete=False, without_pip=False):
        self.count, self.seconds, self.delete, self.prefix = count, seconds, delete, prefix
        more = {"withoutPip": True} if without_pip else {}
        self.create_bytes = lambda name: call_bytes("Create", name=name, python=python, caller=CALLER, **more)
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            try:
                os.write(write, json.dumps(self.work(path, clients)).encode())
            except Exception as e:  # its parent says so
                os.write(write, json.dumps({"failure": f"{type(e).__name__}: {e}"}).encode())
            os._exit(0)
        os.close(write)
        self.pipe = read

    def work(self, path, clients):
        poll, states = select.epoll(), {}
        for number in range(clients):
            connection = Client(path).socket
            states[connection.fileno()] = [connection, number, 0, b"", 0.0]
            poll.register(connection, select.EPOLLIN)
        self.begun, self.created, self.took, self.errors = 0, 0, [], {}
        began = time.perf_counter()
        end = began + self.seconds if self.seconds else None
        active = sum(self.create(state) for state in states.values())
        while active > 0:
            for fd, _ in poll.poll():
                state = states[fd]
                state[3] += state[0].recv(65536)
                if state[3].endswith(b"\0"):
                    active -= not self.answered(state, end)
        seconds = time.perf_counter() - began
        return {"created": self.created, "seconds": seconds, "errors": self.errors, "took": sorted(self.took)}

    def create(self, state):
        if self.count is not None and self.begun >= self.count:
            return False
        self.begun += 1
        state[2] += 1
        state[4] = time.perf_counter()
        state[0].sendall(self.create_bytes(f"{self.prefix}{state[1]}-{state[2]}"))
        return True

    def answered(self, state, end):
        """Sends the next call; False when this one is done."""
        data, state[3] = state[3], b""
        if b'"error"' in data:
            error = json.loads(data[:-1])
            key = f"{error['error']} {error.get('parameters', {}).get('reason', '')}"[:120]
            self.errors[key] = self.errors.get(key, 0) + 1
        elif state[4]:
            self.created += 1
            self.took.append(time.perf_counter() - state[4])
            if self.delete:
                state[4] = 0.0
                state[0].sendall(call_bytes("Delete", name=f"{self.prefix}{state[1]}-{state[2]}", now=True))
                return True
        return (end is None or time.perf_counter() < end) and self.create(state)

    def result(self, beside):
        """What it says in the end; `beside` is called again and again until then."""
        text = b""
        while True:
            if select.select([self.pipe], [], [], 0)[0]:
                data = os.read(self.pipe, 65536)
                if not data:
                    break
                text += data
            else:
                beside()
        os.close(self.pipe)
        os.waitpid(self.pid, 0)
        result = json.loads(text)
        if "failure" in result or not result.get("created"):
            raise Failure(f"the clients say {text[:300]!r}")
        if result["errors"]:
            print(f"bench: some were refused: {result['errors']}", flush=True)
        return result


class Beside:
    """Prompts on one connection, and the same bytes to a bare echo, a millisecond apart."""

    def __init__(self, daemon, root, stack):
        self.message = call_bytes("Prompt", name="env00000")
        self.ours = stack.enter_context(Client(daemon.socket))
        size = len(self.ours.round_trip(self.message))
        echo = stack.enter_context(Echo(root.parent / "echo", size))
        self.bare = stack.enter_context(Client(echo.socket))
        self.mine, self.other = [], []

    def __call__(self):
        time.sleep(0.001)
        self.mine.append(timed(self.ours.round_trip, self.message))
        self.other.append(timed(self.bare.round_trip, self.message))

    def report(self, what, limit_ms):
        mine, other = quantile(self.mine, 0.99), quantile(self.other, 0.99)
        row(
            f"a prompt's answer, p99, {what}",
            f"{mine * 1000:.2f} ms",
            f"a bare echo {other * 1000:.2f} ms",
            f"{mine / other:.1f}x",
            f"under {limit_ms} ms",
            mine * 1000 < limit_ms,
        )
        self.mine, self.other = [], []


def fill(daemon, python, entries, without_pip):
    """Asks for one, so that there is a bucket, and waits until it is full."""
    more = {"withoutPip": True} if without_pip else {}
    with Client(daemon.socket) as client:
        client.call("Create", name=f"first{time.monotonic_ns()}", python=python, caller=CALLER, **more)
    return wait_for_pool(daemon, entries, 300)


def measure_burst(root, python, size, clients, bursts, without_pip):
    rates, latencies = [], []
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(
            Daemon(root, "-o", f"pool-initial={size}", "-o", f"pool-entries={size}", "-o", "pool-mib=100000")
        )
        beside = Beside(daemon, root, stack)
        for number in range(bursts):
            full = fill(daemon, python, size, without_pip)
            crowd = Crowd(daemon.socket, clients, f"burst{number}-", python, count=size, without_pip=without_pip)
            result = crowd.result(beside)
            rates.append(result["created"] / result["seconds"])
            latencies += result["took"]
        words = "" if full >= size else f" (only {full} were ready)"
        row(
            f"a burst of {size} from {clients} clients, a second{words}",
            spread(rates, 1, 0),
            f"each takes {spread(latencies, 1000, 0)} ms",
            "",
            "at least 1,000",
            statistics.median(rates) >= 1000,
        )
        beside.report("in the burst", 5)


def measure_sustained(root, python, clients, seconds, delete, without_pip, goal):
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon(root, "-o", "pool-mib=4096"))
        beside = Beside(daemon, root, stack)
        fill(daemon, python, 4, without_pip)
        crowd = Crowd(daemon.socket, clients, "s", python, seconds=seconds, delete=delete, without_pip=without_pip)
        result = crowd.result(beside)
        rate = result["created"] / result["seconds"]
        what = "created, deleted and purged" if delete else "created"
        memory = memory_kib(daemon.pid, "VmHWM") / 1024
        workers = sum(memory_kib(p) for p in descendants(daemon.pid)[1:]) / 1024
        left = sum(len(os.listdir(root / ".venvd" / d)) for d in ("trash", "stage") if (root / ".venvd" / d).exists())
        row(
            f"{clients} clients for {seconds:g} s, {what} a second",
            f"{rate:,.0f}",
            f"at most {memory:.0f} MiB, workers {workers:.0f}; trash, stage {left}",
            "",
            f"at least {goal}",
            rate >= goal,
        )
        beside.report(f"while they are {what}", 1)


def measure_crowd(root, short):
    python = PYTHON if short else next(iter(creation.pythons().values()))[0]
    clients = 4 if short else 64
    rows = [
        lambda part: measure_burst(part, python, 8 if short else 256, clients, 1 if short else 3, short),
        lambda part: measure_sustained(part, python, clients, 0.2 if short else 30, False, short, 60),
        lambda part: measure_sustained(part, python, clients, 0.2 if short else 30, True, short, 30),
    ]
    for number, measure in enumerate(rows):
        part = root.parent / str(number) / "root"
        part.mkdir(parents=True)
        make_environments(part, 40)
        measure(part)
        shutil.rmtree(part.parent, ignore_errors=True)


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
            *(("under 1 ms", mine < 0.001) if name == "p99" else ()),
        )
