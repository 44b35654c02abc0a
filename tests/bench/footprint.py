# SPDX-License-Identifier: MIT
"""What venvd takes when nobody asks for anything: disk for one more environment, memory, wake-ups."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

import creation
from common import (
    BUILD, NO_POOL, PYTHON, Client, Daemon, Failure, client_environment, descendants, make_environments, memory_kib, row,
)  # fmt: skip


def bytes_on_disk(top):
    """Blocks, each inode once."""
    seen, total, stack = set(), 0, [top]
    while stack:
        directory = stack.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                st = entry.stat(follow_symlinks=False)
                if st.st_ino not in seen:
                    seen.add(st.st_ino)
                    total += st.st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
    return total


def measure_disk(root, short):
    python = PYTHON if short else next(iter(creation.pythons().values()))[0]
    flags = ["--without-pip"] if short else []
    count = 2 if short else 10
    venv = root.parent / "venv"
    subprocess.run([python, "-m", "venv", *flags, str(venv)], check=True)
    # No pool: what it holds in store is not the price of one more.
    with Daemon(root, *NO_POOL):

        def create(number):
            subprocess.run(
                [str(BUILD / "venvctl"), "-q", "create", f"e{number}", "-p", python, *flags],
                check=True,
                stdout=subprocess.DEVNULL,
            )

        create(0)
        before = bytes_on_disk(root)
        for number in range(count):
            create(number + 1)
        each = (bytes_on_disk(root) - before) / count
    theirs = bytes_on_disk(venv)
    row(
        f"disk for one more{'' if short else ' with pip'}",
        f"{each / 1e6:.2f} MB",
        f"`python -m venv` {theirs / 1e6:.2f} MB",
        f"{each / theirs:.2f}x",
        "at most 1 MB",
        each <= 1e6,
    )


def measure_memory(root, count):
    make_environments(root, count)
    client_environment(root)
    with Daemon(root, *NO_POOL) as daemon:
        with Client(daemon.socket) as client:
            if sum(client.call("Status")["counts"].values()) != count:
                raise Failure("not all environments are known")
            for number in range(count):
                client.call("Prompt", name=f"env{number:05d}")
        creation.settle(daemon)
        memory = memory_kib(daemon.pid) / 1024
        workers = sum(memory_kib(pid) for pid in descendants(daemon.pid)[1:]) / 1024
    row(
        f"memory with {count:,} environments",
        f"{memory:.1f} MiB",
        f"its resident worker {workers:.1f} MiB",
        "",
        "at most 8 MiB",
        memory <= 8,
    )


def switches(pid):
    """How often a process and its children have been given a processor, in all their threads."""
    total = 0
    for one in descendants(pid):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                for line in (task / "status").read_text().splitlines():
                    if "ctxt_switches" in line:
                        total += int(line.split()[1])
    return total


def measure_idle(root, seconds):
    make_environments(root, 40)
    with Daemon(root) as daemon:
        with Client(daemon.socket) as client:
            client.call("Prompt", name="env00007")
        creation.settle(daemon)
        # The last of what a connection's end brings.
        time.sleep(min(1, seconds))
        before = switches(daemon.pid)
        time.sleep(seconds)
        woken = switches(daemon.pid) - before
    row(
        "wake-ups a minute when idle",
        f"{woken * 60 / seconds:.0f}",
        f"context switches in {seconds:g} s",
        "",
        "0",
        woken == 0,
    )
