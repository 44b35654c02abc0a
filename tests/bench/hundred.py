# SPDX-License-Identifier: MIT
"""A root of 100,000 environments: started again after a kill, listed, held in memory. And a tree of a million files:
deleted, and removed for good, beside somebody who asks all the time.

Wall-clock times stand beside those of something bare in the same run; the daemon's own processor time is given too, for it
says the same on a busy machine.
"""

import contextlib
import os
import select
import statistics
import time

from common import (
    NO_POOL, PYTHON, Client, Daemon, Echo, Failure, call_bytes, client_environment, descendants, memory_kib, quantile,
    row, spread, timed,
)  # fmt: skip

FIELDS = ["name", "version", "state"]
FILES_EACH = 1000


def make_many(root, count, first=0):
    """What `python -m venv --without-pip` leaves that anybody looks at, by the fewest calls: 5 inodes each."""
    for number in range(first, first + count):
        path = f"{root}/env{number:06d}"
        os.mkdir(path)
        os.mkdir(path + "/bin")
        for name, text in (
            ("pyvenv.cfg", f"home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n"
             f"executable = {PYTHON}\ncommand = {PYTHON} -m venv {path}\n"),
            ("bin/activate", f"VIRTUAL_ENV={path}\n"),
        ):  # fmt: skip
            fd = os.open(f"{path}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, text.encode())
            os.close(fd)
        os.symlink(PYTHON, path + "/bin/python")


def processor_ms(pid):
    """Of all threads of a process, so far."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat") as text:
            total += int(text.read().split()[0])
    return total / 1e6


def kill(daemon):
    """As a power cut would; its workers end by themselves, and hold the lock until then."""
    os.kill(daemon.pid, 9)
    os.waitpid(daemon.pid, 0)


def settle(daemon, seconds=300):
    """Until the background has nothing left to do: no child but the resident worker, and no processor time taken."""
    end, before = time.monotonic() + seconds, -1.0
    while time.monotonic() < end:
        time.sleep(0.25)
        now = processor_ms(daemon.pid)
        if now - before < 0.5 and len(descendants(daemon.pid)) <= 2:
            return
        before = now
    raise Failure("the daemon does not come to rest")


def read_list(client, fields):
    """Bytes of a streamed list, rows, and after how long the first came. It is not parsed: that would be Python's time."""
    began, first = time.perf_counter(), 0.0
    message = call_bytes("List", fields=fields)[:-2] + b',"more":true}\0'
    client.socket.sendall(message)
    size, rows, tail = 0, 0, b""
    while True:
        data = client.socket.recv(1 << 18)
        if not data:
            raise Failure("the list has no end")
        first = first or time.perf_counter() - began
        size += len(data)
        rows += data.count(b"\0")
        tail = (tail + data)[-512:]
        if tail.endswith(b"\0") and b'"continues":true' not in tail[:-1].rsplit(b"\0", 1)[-1]:
            return size, rows, first


def start_again(root, count, starts):
    """Seconds until ready after kill -9, processor milliseconds of it, and what a bare look at the root takes."""
    wall, processor, bare = [], [], []
    for number in range(starts + 1):
        bare_seconds = timed(lambda: sorted((entry.name, entry.inode()) for entry in os.scandir(root)))
        daemon = Daemon(root, *NO_POOL)
        took = processor_ms(daemon.pid)
        with Client(daemon.socket) as client:
            known = client.call("Status")["counts"]["ready"]
        if known != count:
            raise Failure(f"{known} environments of {count} are ready")
        settle(daemon)
        kill(daemon)
        if number > 0:
            wall.append(daemon.start_seconds)
            processor.append(took)
            bare.append(bare_seconds)
    return wall, processor, bare


def measure_start(root, count, starts):
    make_many(root, count)
    client_environment(root)
    # Adopted; then looked into again when no file is new any more, so that each has its mark.
    for _ in range(2):
        daemon = Daemon(root, *NO_POOL)
        settle(daemon)
        kill(daemon)
        time.sleep(2.5)
    wall, processor, bare = start_again(root, count, starts)
    row(
        f"ready after `kill -9` with {count:,}",
        spread(wall, digits=0) + " ms",
        f"processor {statistics.median(processor):.0f} ms; names alone, in Python {spread(bare, digits=0)} ms",
        f"{statistics.median(wall) / statistics.median(bare):.2f}x",
        "at most 500 ms",
        statistics.median(wall) <= 0.5,
    )


def measure_list(root, count, lists):
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon(root, *NO_POOL))
        client = stack.enter_context(Client(daemon.socket))
        size, rows, _ = read_list(client, FIELDS)
        if rows != count:
            raise Failure(f"{rows} rows of {count} are listed")
        settle(daemon)
        echo = stack.enter_context(Echo(root.parent / "echo", size))
        bare = stack.enter_context(Client(echo.socket))
        wall, firsts, theirs, processor = [], [], [], []
        for _ in range(lists):
            before = processor_ms(daemon.pid)
            began = time.perf_counter()
            firsts.append(read_list(client, FIELDS)[2])
            wall.append(time.perf_counter() - began)
            processor.append(processor_ms(daemon.pid) - before)
            theirs.append(timed(read_bytes, bare, size))
        peak, now = memory_kib(daemon.pid, "VmHWM") / 1024, memory_kib(daemon.pid) / 1024
    row(
        f"list of {count:,}, three fields, streamed",
        spread(wall, digits=0) + " ms",
        f"processor {statistics.median(processor):.0f} ms; its bytes from a bare echo {spread(theirs, digits=0)} ms",
        f"{statistics.median(wall) / statistics.median(theirs):.2f}x",
        "at most 300 ms",
        statistics.median(wall) <= 0.3,
    )
    row("... until its first rows", spread(firsts) + " ms", f"{size / 1e6:.1f} MB in all", "")
    row(
        f"memory with {count:,}: the daemon's peak, from its start on",
        f"{peak:.1f} MiB",
        f"{now:.1f} MiB now",
        "",
        "at most 40 MiB",
        peak <= 40,
    )


def read_bytes(client, size):
    client.socket.sendall(b"x")
    got = 0
    while got < size:
        got += len(client.socket.recv(1 << 18))


def measure_hundred(root, count, runs):
    measure_start(root, count, runs)
    measure_list(root, count, runs)


# --- a million files ---


def make_large(path, files):
    os.makedirs(path + "/bin")
    os.symlink(PYTHON, path + "/bin/python")
    with open(path + "/pyvenv.cfg", "w") as cfg:
        cfg.write("home = /usr/bin\nversion = 3.11.2\n")
    for number in range(files):
        if number % FILES_EACH == 0:
            part = f"{path}/lib/part{number // FILES_EACH:04d}"
            os.makedirs(part)
        os.close(os.open(f"{part}/f{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


class Asking:
    """One who asks for the status and a prompt in turn, and a bare echo after each, until `done` says so."""

    def __init__(self, daemon, root, stack):
        self.messages = [call_bytes("Status"), call_bytes("Prompt", name="small")]
        self.ours = stack.enter_context(Client(daemon.socket))
        size = len(self.ours.round_trip(self.messages[0]))
        echo = stack.enter_context(Echo(root.parent / "echo", size))
        self.bare = stack.enter_context(Client(echo.socket))

    def until(self, done):
        mine, other, number = [], [], 0
        while not done() or number < 100:
            mine.append(timed(self.ours.round_trip, self.messages[number % 2]))
            other.append(timed(self.bare.round_trip, self.messages[0]))
            number += 1
            time.sleep(0.0002)
        return mine, other


def stalls(what, mine, other):
    row(
        f"Status and Prompt {what}, p99",
        f"{quantile(mine, 0.99) * 1000:.2f} ms",
        f"a bare echo {quantile(other, 0.99) * 1000:.2f} ms; {len(mine):,} of each",
        f"{quantile(mine, 0.99) / quantile(other, 0.99):.1f}x",
    )
    row(
        "... the longest",
        f"{max(mine) * 1000:.2f} ms",
        f"a bare echo {max(other) * 1000:.2f} ms",
        f"{max(mine) / max(other):.1f}x",
        "at most 10 ms",
        max(mine) <= 0.01,
    )


def measure_million(root, files, deletes):
    small = f"{root}/small"
    os.makedirs(small + "/bin")
    os.symlink(PYTHON, small + "/bin/python")
    with open(small + "/pyvenv.cfg", "w") as cfg:
        cfg.write("home = /usr/bin\n")
    make_large(f"{root}/large", files)
    os.sync()  # else the first answer would wait for all that was just made
    client_environment(root)
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon(root, *NO_POOL))
        deleting = stack.enter_context(Client(daemon.socket))
        answers, beside = [], []
        for _ in range(deletes):
            for name, seconds in (("large", answers), ("small", beside)):
                seconds.append(timed(lambda name=name: deleting.call("Delete", name=name)))
                deleting.call("Restore", name=name)
        row(
            f"delete of {files:,} files, until the answer",
            spread(answers) + " ms",
            f"of two files {spread(beside)} ms",
            f"{statistics.median(answers) / statistics.median(beside):.2f}x",
            "at most 5 ms",
            statistics.median(answers) <= 0.005,
        )
        asking = Asking(daemon, root, stack)
        deleting.call("Delete", name="large")
        deleting.socket.sendall(call_bytes("EmptyTrash"))
        began = time.perf_counter()
        mine, other = asking.until(lambda: select.select([deleting.socket], [], [], 0)[0])
        took = time.perf_counter() - began
        answer = deleting.socket.recv(65536)
        if b'"error"' in answer or os.path.exists(f"{root}/large"):
            raise Failure(f"the large one is not removed: {answer!r}")
    stalls(f"while {files:,} files are removed ({took:.1f} s)", mine, other)
