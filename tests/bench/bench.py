# SPDX-License-Identifier: MIT
"""What venvd costs, measured beside something that everybody has, in the same run on the same machine.

Creation stands beside `python -m venv`, virtualenv and uv, deleting beside `rm -rf`, other whole processes beside
/bin/true, answers on a socket beside a bare echo of the same bytes. Runs are interleaved, so that a busy moment
hits all sides. Numbers are medians with the middle half in brackets; what counts is the ratio. A goal is said to be
reached or not, and nothing is asserted. TMPDIR says on which file system. With --short each row is only tried, without
the peers.
"""

import argparse
import contextlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import creation
import crowd
import deletion
import footprint
import hundred
from common import (
    BUILD, NO_POOL, Client, Daemon, Echo, Failure, beside_true, call_bytes, client_environment, interleaved,
    make_environments, row, spread, table, timed,
)  # fmt: skip


def measure_processes(root, runs):
    venvctl = str(BUILD / "venvctl")
    make_environments(root, 40)
    client_environment(root, VIRTUAL_ENV=str(root / "env00007"))
    with Daemon(root, *NO_POOL):
        said = subprocess.run([venvctl, "prompt"], capture_output=True, text=True, check=True).stdout
        if platform.python_version() not in said:
            raise Failure(f"venvctl prompt did not hear from the daemon: {said!r}")
        beside_true("venvctl prompt", runs, [venvctl, "prompt"], "at most 2x", lambda _, ratio: ratio <= 2)
        beside_true("venvctl list, 40 environments", runs, [venvctl, "list"])


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
        daemon = stack.enter_context(Daemon(root, *NO_POOL))
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
            row(what, f"{a_second:,.0f} a second", f"bare echo {bare_second:,.0f} a second", f"{ratio:.2f}x")


def measure_large_root(root, count, runs):
    make_environments(root, count)
    client_environment(root)
    venvctl = str(BUILD / "venvctl")
    with Daemon(root, *NO_POOL) as daemon:
        first = daemon.start_seconds
        with Client(daemon.socket) as client:
            known = sum(client.call("Status")["counts"].values())
        if known != count:
            raise Failure(f"{known} environments of {count} are known")
    scan = timed(lambda: [entry.stat() for entry in os.scandir(root)])
    scanned = f"scandir and stat {scan * 1000:.0f} ms"
    row(
        f"first start on {count:,} environments",
        f"{first * 1000:.0f} ms",
        scanned,
        f"{first / scan:.2f}x",
        "under 1 s",
        first < 1,
    )
    starts = []
    for _ in range(3):
        with Daemon(root, *NO_POOL) as daemon:
            starts.append(daemon.start_seconds)
    again = statistics.median(starts)
    row(
        "start again, until ready",
        spread(starts, digits=0) + " ms",
        scanned,
        f"{again / scan:.2f}x",
        "under 1 s",
        again < 1,
    )
    with Daemon(root, *NO_POOL):
        beside_true(
            f"venvctl list, {count:,} environments",
            runs,
            [venvctl, "list"],
            "at most 30 ms",
            lambda median, _: median <= 0.030,
        )


def machine():
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    usable = len(os.sched_getaffinity(0))
    return (
        f"{time.strftime('%Y-%m-%d')}, {model}, {usable} cores, Linux {platform.release()}, "
        f"{file_system(tempfile.gettempdir())}, client of the sockets: Python {platform.python_version()}"
    )


def file_system(directory):
    """What the syncs go to. An ext4 without a journal needs one for each file, and can share none."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    device = os.stat(directory).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kind = next((m[m.index("-") + 1] for m in mounts if m[2] == number), "unknown file system")
    journal = Path(f"/sys/fs/ext4/{Path(f'/sys/dev/block/{number}').resolve().name}/journal_task")
    if kind == "ext4" and journal.exists() and journal.read_text().startswith("<"):
        kind += " WITHOUT A JOURNAL"
    return f"{kind} ({directory})"


def parts(short):
    """name -> (function of a root, its further arguments)"""
    return {
        "processes": (measure_processes, (20 if short else 400,)),
        "answers": (measure_round_trips, (3 if short else 15, 200 if short else 4000)),
        "large": (measure_large_root, (300 if short else 10000, 5 if short else 40)),
        "hundred": (hundred.measure_hundred, (500 if short else 100000, 1 if short else 7)),
        "million": (hundred.measure_million, (2000 if short else 1000000, 3 if short else 40)),
        "busy": (crowd.measure_while_creating, (4 if short else 16, 1 if short else 20)),
        "create": (creation.measure_creation, (short,)),
        "first": (creation.measure_first, (short,)),
        "crowd": (crowd.measure_crowd, (short,)),
        "delete": (deletion.measure_delete, (short,)),
        "disk": (footprint.measure_disk, (short,)),
        "memory": (footprint.measure_memory, (50 if short else 1000,)),
        "idle": (footprint.measure_idle, (0.3 if short else 20,)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="try each row for a moment")
    parser.add_argument("--only", action="append", choices=list(parts(True)), help="only these rows")
    options = parser.parse_args()
    table.short = options.short
    print(machine())
    print(creation.versions())
    print(
        "The median and [the middle half]; a ratio is our time over that of what stands beside it, or how much faster "
        "we are.\n"
    )
    table.head()
    scratch = Path(tempfile.mkdtemp(prefix="venvd-bench."))
    failed = 0
    try:
        for name, (function, arguments) in parts(options.short).items():
            if options.only and name not in options.only:
                continue
            root = scratch / name / "root"
            root.mkdir(parents=True)
            client_environment(root)
            try:
                function(root, *arguments)
            except Failure as failure:
                print(f"bench: {name}: {failure}", file=sys.stderr)
                failed = 1
            shutil.rmtree(scratch / name, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not options.short:
        print(f"\n{table.reached} goals reached, {table.missed} not")
    return failed


sys.exit(main())
