# SPDX-License-Identifier: MIT
"""Every call that changes the file system, in daemon and workers, is made to be the last one, or to fail.

For each operation: it is done once, and its calls are counted (shim.c). Then, for each call and each way to go wrong,
the same is done again from the same state; whoever is dead is started again; and what is there is held against
what was there before, and against what should be there afterwards:

- what was acknowledged is there, whole; what was refused has changed nothing; without an answer it is one or the other
- rows and directories are the same, every tree has the bytes it must have, the trash can be restored
- nothing stays in the stage; descriptors and children are as many as before, if the daemon has lived on
- the same call again, with the same request id, succeeds and has happened once

Exit status 1 if anything is not so. Daemons with one step of the protocol swapped (variants.py) must be caught.
"""
import argparse
import collections
import ctypes
import errno
import hashlib
import json
import mmap
import multiprocessing
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(TOP / "tests" / "e2e"), str(TOP / "tests" / "conformance")]

from conftest import Closed, Daemon, VarlinkError  # noqa: E402
from helpers import children, tree  # noqa: E402

import variants  # noqa: E402

PYTHON = "/usr/bin/python3"
DEADLINE = 60
ERRNOS = ["ENOSPC", "EIO", "EMFILE", "ENOMEM", "EDQUOT", "EINTR", "EROFS"]
# Of these the daemon ends itself, and looks at the disk when it is started again: it is never tried twice.
SYNCS = {"fsync", "fdatasync", "syncfs", "sync_file_range", "pwrite", "pwrite64", "write", "ftruncate", "ftruncate64"}
IN_PLACE = {"environment": {"SOURCE_DATE_EPOCH": "1700000000"}}


class Violation(Exception):
    pass


class State(ctypes.Structure):
    _fields_ = [("count", ctypes.c_uint64), ("target", ctypes.c_uint64), ("mode", ctypes.c_int32), ("error", ctypes.c_int32),
                ("daemon", ctypes.c_int32), ("fired", ctypes.c_int32), ("call", ctypes.c_char * 32)]


KILL_BEFORE, KILL_AFTER, ERRNO = 1, 2, 3


class House:
    """A root, and a daemon in it that has the shim; started again as often as it is needed."""

    def __init__(self, top, binary, shim):
        self.top, self.root, self.binary = pathlib.Path(top), pathlib.Path(top) / "envs", binary
        path = self.top / "state"
        path.write_bytes(b"\0" * mmap.PAGESIZE)
        self.file = open(path, "r+b")   # noqa: SIM115
        self.memory = mmap.mmap(self.file.fileno(), 0)
        self.state = State.from_buffer(self.memory)
        # Without a python3 on its PATH it prepares none by itself, which would take seconds each time.
        self.env = {"LD_PRELOAD": str(shim), "FAULT_STATE": str(path), "VENVD_POOL": "1", "TMPDIR": str(self.top),
                    "PATH": "/nowhere", "ASAN_OPTIONS": "detect_leaks=0"}
        self.daemon = None

    def start(self):
        self.daemon = Daemon(self.root, ("-o", "pool_initial=2"), env=self.env, binary=self.binary)
        if not self.daemon.said.startswith("ready "):
            raise Violation(f"it does not start: {self.daemon.log()[-500:]}")

    def end(self):
        self.disarm()
        if self.daemon:
            self.daemon.stop()
            os.unlink(self.daemon.log_path)
            self.daemon = None

    def dead(self, wait=0):
        if wait and self.daemon.process.poll() is None:
            fd = os.pidfd_open(self.daemon.pid)
            select.select([fd], [], [], wait)
            os.close(fd)
        return self.daemon.process.poll()

    def again(self):
        """Another daemon after one that is gone."""
        log = self.daemon.log_path
        self.disarm()
        self.start()
        os.unlink(log)

    def arm(self, target, mode=0, error=0, all_of_it=False):
        self.state.mode, self.state.error, self.state.fired = mode, error, 0
        self.state.daemon = self.daemon.pid if all_of_it else 0
        self.state.call = b""
        self.state.count = 0
        self.state.target = target

    def disarm(self):
        self.state.target = 0

    def idle(self):
        """Until no order is under way; what nobody waits for is written then, or soon."""
        end = time.monotonic() + DEADLINE
        while (status := self.daemon.call("Status"))["jobsRunning"] + status["jobsQueued"] > 0:
            if time.monotonic() > end:
                raise Violation("it is never idle")

    def resources(self):
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd")), len(children(self.daemon.pid))


def digest(path):
    return hashlib.sha256(json.dumps(tree(path), sort_keys=True).encode()).hexdigest()[:12]


def look(house, labels):
    """What is there: name -> (bytes, which one it is, where it came from, protected), and the trash alike."""
    daemon, root = house.daemon, house.root
    rows, trash = daemon.environments(), daemon.trash()
    directories = {p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")}
    if set(rows) != directories:
        raise Violation(f"rows {sorted(rows)}, directories {sorted(directories)}")
    for name, row in rows.items():
        if row["state"] != "ready" or row.get("problem"):
            raise Violation(f"'{name}' is {row['state']}: {row.get('problem')}")
    entries = {p.name for p in (root / ".venvd/trash").iterdir()} if (root / ".venvd/trash").exists() else set()
    if entries != {pathlib.Path(t["path"]).parent.name for t in trash}:
        raise Violation(f"the trash has {sorted(entries)}, its rows {[t['path'] for t in trash]}")
    for entry in entries:
        if not (root / ".venvd/trash" / entry / "record.json").exists():
            raise Violation(f"'{entry}' has no record")
    live = {name: (digest(root / name), labels.get(row["id"], "new"), row["origin"], row.get("protected", False))
            for name, row in rows.items()}
    return live, sorted((t["name"], digest(t["path"]), labels.get(t["id"], "new"), t["origin"]) for t in trash)


def stage_is_empty(house):
    stage = house.root / ".venvd/stage"
    end = time.monotonic() + 5
    while stage.exists() and any(stage.iterdir()):
        house.idle()
        if time.monotonic() > end:
            raise Violation(f"the stage has {sorted(p.name for p in stage.iterdir())}")


def create(daemon, name, **parameters):
    return daemon.call("Create", name=name, python=PYTHON, withoutPip=True, **parameters)["environment"]["id"]


# --- the operations: what there is before, and the call ---

def nothing(_house):
    return {}


def one(house):
    labels = {create(house.daemon, "a"): "a"}
    (house.root / "a/mine").write_text("precious\n")
    return labels


def one_and_trash(house):
    """One that is there, and two of the same name in the trash."""
    labels = {}
    for label in ("first", "second"):
        labels[create(house.daemon, "b")] = label
        (house.root / "b/mine").write_text(label)
        house.daemon.call("Delete", name="b")
    return labels | one(house)


OPERATIONS = {
    "create": (nothing, "Create", {"name": "x", "python": PYTHON, "withoutPip": True}),
    "create in place": (nothing, "Create", {"name": "x", "python": PYTHON, "withoutPip": True, "caller": IN_PLACE}),
    "recreate": (one, "Recreate", {"name": "a"}),
    "delete": (one, "Delete", {"name": "a"}),
    "delete --now": (one, "Delete", {"name": "a", "now": True}),
    "restore": (one_and_trash, "Restore", {"name": "b"}),
    "restore --as": (one_and_trash, "Restore", {"name": "b", "as": "c"}),
    "rename": (one, "Rename", {"name": "a", "to": "c"}),
    "clone": (one, "Clone", {"name": "a", "to": "c"}),
    "purge": (one_and_trash, "Delete", {"name": "b", "now": True}),
    "trash empty": (one_and_trash, "EmptyTrash", {}),
    "protect": (one, "Protect", {"name": "a"}),
}


class Trial:
    """One operation, from its beginning to its end, with one fault or none."""

    def __init__(self, house, operation):
        self.house, self.operation = house, operation
        self.setup, self.method, self.parameters = OPERATIONS[operation]
        self.number = 0

    def prepare(self):
        daemon = self.house.daemon
        for name in daemon.environments():
            daemon.call("Protect", name=name, protected=False)
            daemon.call("Delete", name=name, now=True)
        daemon.call("EmptyTrash")
        # The pool has what the operation takes, and nobody fills it meanwhile.
        create(daemon, "warm")
        daemon.call("Delete", name="warm", now=True)
        self.labels = self.setup(self.house)
        self.house.idle()
        self.before = look(self.house, self.labels)
        self.number += 1
        self.request = {**self.parameters}
        if self.method != "EmptyTrash":
            self.request["requestId"] = f"{self.operation}-{os.getpid()}-{self.number}-{time.time_ns()}"

    def do(self):
        """'done', the error's name, or None: no answer."""
        connection = self.house.daemon.connect()
        connection.socket.settimeout(DEADLINE)
        try:
            connection.call(self.method, **self.request)
            return "done"
        except VarlinkError as e:
            return e.name
        except (Closed, OSError):
            return None
        finally:
            connection.close()

    def count(self):
        self.prepare()
        self.house.arm(0)
        if self.do() != "done":
            raise Violation(f"{self.operation} does not even work")
        self.house.idle()
        time.sleep(0.05)        # rows that nobody waits for are held back for 20 ms
        calls = self.house.state.count
        self.after = look(self.house, self.labels)
        stage_is_empty(self.house)
        return calls

    def look_when_purged(self):
        """What has begun to go for good goes on going after a start."""
        end = time.monotonic() + 5
        while True:
            try:
                now = look(self.house, self.labels)
                if self.operation == "trash empty" or now in (self.before, self.after) or time.monotonic() > end:
                    return now
            except (Violation, FileNotFoundError):
                if time.monotonic() > end:
                    raise
            self.house.idle()

    def check(self, answer, what):
        now = self.look_when_purged() if self.operation in ("purge", "trash empty") else look(self.house, self.labels)
        # It goes one by one, and promises no more.
        if (self.operation == "trash empty" and answer != "done" and now[0] == self.before[0]
                and all(t in self.before[1] for t in now[1])):
            return
        if now == self.after and (answer in ("done", None) or self.after == self.before):
            return
        if now == self.before and answer != "done":
            return
        raise Violation(f"{what}: answered {answer}; before {self.before}, afterwards {self.after}, but there is {now}")

    def run(self, call, mode, error=0, all_of_it=False):
        house = self.house
        self.prepare()
        resources = house.resources()
        house.arm(call, mode, error, all_of_it)
        answer = self.do()
        if answer is not None and not house.state.fired:
            house.dead(wait=0.06)       # what nobody waits for
        fired = house.state.fired
        house.disarm()
        if not fired:
            return False
        name = house.state.call.decode()
        status = house.dead(wait=5 if answer is None or (all_of_it and mode != ERRNO) else 0.2 if name in SYNCS else 0)
        if status is not None:
            if mode == ERRNO and not (status == -signal.SIGABRT and name in SYNCS):
                raise Violation(f"{name} failed, and the daemon ended with {status}: {house.daemon.log()[-800:]}")
            house.again()
        house.idle()
        self.check(answer, "then")
        stage_is_empty(house)
        if status is None and mode == ERRNO:
            end = time.monotonic() + 5
            while any(now > then for now, then in zip(house.resources(), resources, strict=True)):
                if time.monotonic() > end:
                    raise Violation(f"descriptors, children: {resources} before, {house.resources()} after {name}")
        # A start finds the same.
        if status is None and call % 4 == 0:
            house.daemon.kill()
            house.again()
            house.idle()
            self.check(answer, "after another start")
        # Once more: it has happened, and happened once.
        again = self.do()
        house.idle()
        if again != "done":
            raise Violation(f"the same call again is answered {again}")
        if look(house, self.labels) != self.after:
            raise Violation(f"after the same call again there is {look(house, self.labels)}, not {self.after}")
        return True


class Start(Trial):
    """The start after a crash in the middle of the operation is itself the operation."""

    def count_start(self, call):
        self.prepare()
        self.house.arm(call, KILL_BEFORE, 0, True)
        self.do()
        self.house.dead(wait=5)
        if self.house.dead() is None:
            return 0
        self.house.arm(0)
        self.house.again()
        self.house.idle()
        time.sleep(0.05)
        return self.house.state.count

    def run_start(self, call, at, mode):
        house = self.house
        self.prepare()
        house.arm(call, KILL_BEFORE, 0, True)
        answer = self.do()
        house.dead(wait=5)
        log = house.daemon.log_path
        house.arm(at, mode)
        house.state.daemon = 0
        try:
            house.start()
            house.dead(wait=0.06)
        except Violation:
            pass
        os.unlink(log)
        fired = house.state.fired
        house.disarm()
        if house.dead(wait=0 if house.daemon.said.startswith("ready ") and fired != house.daemon.pid else 3) is not None:
            house.again()
        house.idle()
        self.check(answer, f"start killed at {at}")
        stage_is_empty(house)
        if self.do() != "done":
            raise Violation("the same call again fails")
        return bool(fired)


def show(operation, call, calls, how, violation):
    return f"{operation}, call {call} of {calls}, {how}: {violation}"


def points(calls, every, first=1):
    return range(first, calls + 1, every)


def run_operation(arguments):
    operation, every, errnos_every, starts_every, binary, shim, seed = arguments
    counts, violations = collections.Counter(), []
    top = tempfile.mkdtemp(prefix="venvd-fault-", dir=os.environ.get("TMPDIR"))
    house = House(top, binary, shim)
    try:
        house.start()
        trial = Trial(house, operation)
        create(house.daemon, "first")
        house.idle()
        calls = trial.count()

        def attempt(what, call, how, *args, kind="kills"):
            try:
                counts[kind if what(call, *args) else "not reached"] += 1
            except (Violation, VarlinkError, Closed, OSError, AssertionError) as e:
                counts[kind] += 1
                violations.append(show(operation, call, calls, how, e))
                house.disarm()
                if house.daemon and house.daemon.process.poll() is None:
                    house.daemon.kill()
                shutil.rmtree(house.root)       # from a clean slate
                house.again()
                create(house.daemon, "first")
                house.idle()

        for call in points(calls, every, 1 + seed % every):
            for mode, word in ((KILL_BEFORE, "killed before it"), (KILL_AFTER, "killed after it")):
                attempt(trial.run, call, word, mode)
                attempt(trial.run, call, f"{word}, and the daemon", mode, 0, True)
        for call in points(calls, errnos_every, 1 + seed % errnos_every):
            for name in ERRNOS:
                attempt(trial.run, call, name, ERRNO, getattr(errno, name), kind="errors")
        start = Start(house, operation)
        start.before, start.after = trial.before, trial.after
        for call in points(calls, starts_every, 1 + seed % starts_every):
            try:
                at_most = start.count_start(call)
            except (Violation, VarlinkError, Closed, OSError, AssertionError) as e:
                violations.append(show(operation, call, calls, "start", e))
                break
            for at in points(at_most, max(1, every), 1 + seed % every):
                for mode in (KILL_BEFORE, KILL_AFTER):
                    attempt(start.run_start, call, f"and its start, killed at call {at}", at, mode, kind="starts")
        house.end()
    finally:
        if house.daemon and house.daemon.process.poll() is None:
            house.daemon.kill()
        shutil.rmtree(top, ignore_errors=True)
    return operation, calls, dict(counts), violations


def build_shim(directory):
    shim = pathlib.Path(directory) / "fault-shim.so"
    subprocess.run(["cc", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", "-o", shim,
                    HERE / "shim.c", "-ldl"], check=True)
    return shim.resolve()


def bites(name, build, shim, every):
    """Whether a daemon that does it wrongly is caught."""
    operation = variants.VARIANTS[name][0]
    with tempfile.TemporaryDirectory(prefix="venvd-variant-") as where:
        binary = variants.build(name, build, where)
        _, calls, counts, violations = run_operation((operation, every, 10**6, 10**6, binary, shim, 0))
    print(f"variant, {name}: {len(violations)} of {counts.get('kills', 0)} kills show it", flush=True)
    return bool(violations)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="some points of each operation")
    parser.add_argument("--only", action="append", metavar="OPERATION", choices=OPERATIONS)
    parser.add_argument("--seed", type=int, default=None, help="which of the points --short takes")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    build = pathlib.Path(os.environ.get("VENVD_BUILD", TOP / "build")).resolve()
    shim = build_shim(build)
    seed = options.seed if options.seed is not None else (time.time_ns() // 1000 % 1000 if options.short else 0)
    every, errnos_every, starts_every = (23, 61, 37) if options.short else (1, 1, 5)
    began = time.monotonic()
    names = options.only or list(OPERATIONS)
    work = [(name, every, errnos_every, starts_every, build / "venvd", shim, seed) for name in names]
    total, bad = collections.Counter(), 0
    with multiprocessing.Pool(options.jobs) as pool:
        for operation, calls, counts, violations in pool.imap_unordered(run_operation, work):
            print(f"{operation:16} {calls:4} calls:", ", ".join(f"{v} {k}" for k, v in sorted(counts.items())),
                  f"{len(violations)} violations", flush=True)
            for violation in violations[:20]:
                print(f"    {violation}", flush=True)
            total.update(counts)
            bad += len(violations)
    chosen = [n for n in variants.VARIANTS if not options.only or variants.VARIANTS[n][0] in options.only]
    if options.short:
        chosen = [chosen[seed % len(chosen)]] if chosen else []
    missed = [name for name in chosen if not bites(name, build, shim, 5 if options.short else 1)]
    for name in missed:
        print(f"NOT CAUGHT: {name}", flush=True)
    done = sum(total[k] for k in ("kills", "errors", "starts"))
    print(f"fault: {done} points ({', '.join(f'{v} {k}' for k, v in sorted(total.items()))}), {bad} violations, "
          f"seed {seed}, {time.monotonic() - began:.0f} s")
    return 1 if bad or missed or done == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
