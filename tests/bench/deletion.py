# SPDX-License-Identifier: MIT
"""Deleting a large environment, until the answer, beside `rm -rf`; and what removing it for good does to a prompt."""

import contextlib
import os
import shutil
import statistics
import subprocess
import time

import creation
from common import (
    BUILD, NO_POOL, PYTHON, REPOSITORY, Client, Daemon, Echo, Failure, call_bytes, make_environments, quantile, row,
    run_seconds, spread, timed,
)  # fmt: skip

FILES = 15000
WHEELS = REPOSITORY / "build" / "benchwheels"
PACKAGES = ("django", "sympy", "botocore", "numpy", "pandas", "scipy")
VENVCTL = str(BUILD / "venvctl")


def count_files(top):
    return sum(len(files) for _, _, files in os.walk(top))


def real_wheels():
    """Fetched once; False where there is no index to be reached."""
    stamp = WHEELS / "complete"
    if not stamp.exists():
        WHEELS.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [str(creation.PEERS / "python"), "-m", "pip", "-q", "--disable-pip-version-check", "download", "--only-binary", ":all:",
             "-d", str(WHEELS), *PACKAGES], capture_output=True, text=True, check=False)  # fmt: skip
        if done.returncode != 0:
            return False
        stamp.touch()
    return True


def make_synthetic(directory, files):
    for number in range(files):
        if number % 100 == 0:
            part = directory / "lib" / f"package{number // 100:03d}"
            part.mkdir(parents=True)
        (part / f"module{number}.py").write_bytes(b"# a line of some code\n" * (number % 400))


def make_large(root, files):
    """root/large, of at least so many files; what it is made of. As the system's own Python makes it: adopted."""
    large = root / "large"
    if files >= FILES and creation.PEERS.exists() and real_wheels():
        subprocess.run([PYTHON, "-m", "venv", str(large)], check=True)
        subprocess.run([str(large / "bin" / "python"), "-m", "pip", "-q", "--disable-pip-version-check", "install", "--no-index",
                        "--find-links", str(WHEELS), *PACKAGES], check=True)  # fmt: skip
        if count_files(large) >= files:
            return "of " + ", ".join(PACKAGES)
    else:
        subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(large)], check=True)
    make_synthetic(large, max(0, files - count_files(large)))
    return "partly synthetic" if (large / "bin" / "pip").exists() else "synthetic files"


@contextlib.contextmanager
def processes(count):
    """So many of ours that sleep."""
    pids = [os.posix_spawn("/bin/sleep", ["sleep", "3600"], os.environ) for _ in range(count)]
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, 15)
            os.waitpid(pid, 0)


def delete_and_restore(root, runs):
    """Until the answer, over the socket and as a whole process; it is taken back off the clock."""
    answers, whole = [], []
    with Daemon(root, *NO_POOL) as daemon, Client(daemon.socket) as client:
        for number in range(runs + 1):
            answer = timed(lambda: client.call("Delete", name="large"))
            client.call("Restore", name="large")
            took = run_seconds([VENVCTL, "-q", "delete", "large"])
            client.call("Restore", name="large")
            if number > 0:
                answers.append(answer)
                whole.append(took)
    return answers, whole


def purge_beside(root):
    """A prompt beside the removal for good of the large one; beside it a bare echo."""
    message = call_bytes("Prompt", name="env00000")
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon(root, *NO_POOL))
        client = stack.enter_context(Client(daemon.socket))
        echo = stack.enter_context(Echo(root.parent / "echo", len(client.round_trip(message))))
        bare = stack.enter_context(Client(echo.socket))
        deleting = stack.enter_context(Client(daemon.socket))
        deleting.socket.sendall(call_bytes("Delete", name="large", now=True))
        deleting.socket.setblocking(False)
        ours, theirs, answer = [], [], b""
        while not answer.endswith(b"\0") or len(ours) < 50:
            time.sleep(0.0005)
            ours.append(timed(client.round_trip, message))
            theirs.append(timed(bare.round_trip, message))
            with contextlib.suppress(BlockingIOError):
                answer += deleting.socket.recv(65536)
        if b'"error"' in answer:
            raise Failure(f"the large one is not deleted: {answer!r}")
    mine, other = quantile(ours, 0.99), quantile(theirs, 0.99)
    row(
        "a prompt's answer, p99, while the large one is removed",
        f"{mine * 1000:.2f} ms",
        f"a bare echo {other * 1000:.2f} ms",
        f"{mine / other:.1f}x",
        "under 1 ms",
        mine < 0.001,
    )


def measure_delete(root, short):
    make_environments(root, 10)
    of_what = make_large(root, 300 if short else FILES)
    files = count_files(root / "large")
    removed = []
    for _ in range(1 if short else 3):
        shutil.copytree(root / "large", root.parent / "copy", symlinks=True)
        removed.append(run_seconds(["/bin/rm", "-rf", str(root.parent / "copy")]))
    with processes(5 if short else 200):
        answers, whole = delete_and_restore(root, 3 if short else 40)
    beside = f"`rm -rf` {spread(removed, digits=0)} ms"
    median = statistics.median(answers)
    row(
        f"delete {files:,} files, until the answer",
        spread(answers) + " ms",
        beside,
        f"{statistics.median(removed) / median:,.0f}x faster",
        "at most 2 ms",
        median <= 0.002,
    )
    row(
        f"`venvctl delete` of them ({of_what})",
        spread(whole) + " ms",
        beside,
        f"{statistics.median(removed) / statistics.median(whole):,.0f}x faster",
    )
    purge_beside(root)
