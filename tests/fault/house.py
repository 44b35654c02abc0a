# SPDX-License-Identifier: MIT
"""A root with a daemon whose calls can be made to fail (shim.c), and what is there after they have.

Owns the daemon, its log, and the memory that is shared with the shim. Every look is at the real thing: what the daemon
lists, and what lies in the root.
"""
import ctypes
import hashlib
import json
import mmap
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(TOP / "tests" / "e2e"), str(TOP / "tests" / "conformance")]

from conftest import Closed, Daemon  # noqa: E402
from helpers import children, tree  # noqa: E402

PYTHON = "/usr/bin/python3"
DEADLINE = 60
KILL_BEFORE, KILL_AFTER, ERRNO = 1, 2, 3
DAEMON, RESIDENT, ORDER, CHILD, CLIENT = 1, 2, 4, 8, 16
# What the daemon says when it ends itself because of what a call, or malloc(), has answered.
LAST_WORDS = ("a sync of the root failed", "the catalog failed in", "out of memory", "cannot start the catalog's thread")


class Violation(Exception):
    pass


class State(ctypes.Structure):
    _fields_ = [("count", ctypes.c_uint64), ("target", ctypes.c_uint64), ("mode", ctypes.c_int32), ("error", ctypes.c_int32),
                ("daemon", ctypes.c_int32), ("fired", ctypes.c_int32), ("who", ctypes.c_int32), ("persists", ctypes.c_int32),
                ("memory", ctypes.c_int32), ("call", ctypes.c_char * 32), ("clock_us", ctypes.c_int64),
                ("full", ctypes.c_int32)]


class House:
    """A root, and a daemon in it that has the shim; started again as often as it is needed."""
    options = ("-o", "pool_initial=2")

    def __init__(self, top, binary, shim):
        self.top, self.root, self.binary = pathlib.Path(top), pathlib.Path(top) / "envs", binary
        self.elsewhere = self.top / "elsewhere"
        self.shim, self.path = shim, self.top / "state"
        self.path.write_bytes(b"\0" * mmap.PAGESIZE)
        self.file = open(self.path, "r+b")   # noqa: SIM115
        self.memory = mmap.mmap(self.file.fileno(), 0)
        self.state = State.from_buffer(self.memory)
        self.state.who = DAEMON | RESIDENT | ORDER
        # Without a python3 on its PATH it prepares none by itself, which would take seconds each time.
        self.env = {"LD_PRELOAD": str(shim), "FAULT_STATE": str(self.path), "VENVD_POOL": "1", "TMPDIR": str(self.top),
                    "PATH": "/nowhere", "ASAN_OPTIONS": "detect_leaks=0"}
        self.daemon = None

    def start(self):
        self.daemon = Daemon(self.root, self.options, env=self.env, binary=self.binary)
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

    def answers(self):
        try:
            self.daemon.call("Status")
        except (Closed, OSError):
            return False
        return True

    def again(self):
        """Another daemon after one that is gone."""
        log = self.daemon.log_path
        self.disarm()
        self.start()
        os.unlink(log)

    def afresh(self):
        """A root that has never been used."""
        self.disarm()
        if self.daemon.process.poll() is None:
            self.daemon.kill()
        # Its workers end by themselves, and may still write.
        end = time.monotonic() + DEADLINE
        while self.root.exists() and time.monotonic() < end:
            shutil.rmtree(self.root, ignore_errors=True)
        self.again()

    def arm(self, target, mode=0, error=0, all_of_it=False, who=DAEMON | RESIDENT | ORDER, persists=False, memory=False):
        self.state.target = 0
        self.state.mode, self.state.error, self.state.fired = mode, error, 0
        self.state.daemon = self.daemon.pid if all_of_it else 0
        self.state.who, self.state.persists, self.state.memory = who, persists, memory
        self.state.call = b""
        self.state.count = 0
        self.state.target = target

    def disarm(self):
        """Who has met it, if anybody has: nobody does any more."""
        self.state.target = 0
        return self.state.fired

    def idle(self):
        """Until no order is under way; what nobody waits for is written then, or soon."""
        end = time.monotonic() + DEADLINE
        with self.daemon.connect() as c:
            while (status := c.call("Status"))["jobsRunning"] + status["jobsQueued"] > 0:
                if time.monotonic() > end:
                    raise Violation("it is never idle")
                time.sleep(0.001)       # the processor is for those that are not

    def resources(self):
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd")), len(children(self.daemon.pid))

    def resources_are(self, before, after_what):
        """Descriptors and children as before, or soon."""
        end = time.monotonic() + 5
        while any(now > then for now, then in zip(self.resources(), before, strict=True)):
            if time.monotonic() > end:
                raise Violation(f"descriptors, children: {before} before, {self.resources()} after {after_what}")

    def died_well(self, status, log=None):
        """The daemon's own end: abort(), with a word why; nothing else is one."""
        log = self.daemon.log() if log is None else log
        if status != -signal.SIGABRT or not any(words in log for words in LAST_WORDS):
            raise Violation(f"the daemon ended with {status}: {log[-800:]}")

    def workers_died_well(self):
        """No worker died of a signal that is not one of its own end (abort), or somebody's kill."""
        log = self.daemon.log()
        for line in log.splitlines():
            if "was killed by signal" in line and int(line.split()[-1]) not in (signal.SIGABRT, signal.SIGKILL):
                raise Violation(f"a worker has crashed: {log[-800:]}")
            if f"was killed by signal {signal.SIGABRT:d}" in line and not any(words in log for words in LAST_WORDS):
                raise Violation(f"a worker ended without a word: {log[-800:]}")

    def where(self):
        """Which allocation was refused: function and line, the innermost first."""
        places = []
        try:
            lines = pathlib.Path(f"{self.path}.trace").read_text().splitlines()
        except OSError:
            return ""
        for line in lines:
            path, _, offset = line.partition("(")
            if pathlib.Path(path).name not in ("venvd", "venvctl") and "/proc/self/fd" not in path and "worker" not in path:
                places.append(line.split("(")[-1].split("+")[0].split(")")[0])
                continue
            program = path if os.path.exists(path) and "/proc/" not in path else str(self.binary.parent / "venvd-worker")
            offset = offset.partition(")")[0]
            said = subprocess.run(["addr2line", "-fsie", program, offset], capture_output=True, text=True, check=False)
            words = said.stdout.split()
            places += [f"{words[i]}@{words[i + 1]}" for i in range(0, len(words) - 1, 2)]
        return " < ".join(place for place in places[:24] if place)


def its_own(path, links, **which):
    """links: or else a Python that could not make one has copied itself, and that is as good."""
    found = tree(path, **which)
    return {name: ("program", 0, "") if name.startswith("bin/python") and not links else what for name, what in found.items()}


def digest(path, links=True):
    return hashlib.sha256(json.dumps(its_own(path, links), sort_keys=True).encode()).hexdigest()[:12]


def shape(path, links=True):
    """Names and kinds, without bytecode: that of pip holds the time at which it was made, and Python does without what
    it could not write."""
    found = sorted((name, kind) for name, (kind, _, _) in its_own(path, links, without=("__pycache__",)).items())
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:12]


def look(house, labels, of=digest, broken=False):
    """What is there: name -> (bytes, which one it is, where it came from, protected), and the trash alike. What lies
    elsewhere and is in no list has no more than its bytes. `broken`: they may be."""
    daemon, root = house.daemon, house.root
    rows, trash = daemon.environments(), daemon.trash()
    directories = {str(p) for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")}
    if {row["path"] for row in rows.values() if pathlib.Path(row["path"]).parent == root} != directories:
        raise Violation(f"rows {sorted(rows)}, directories {sorted(directories)}")
    for name, row in rows.items():
        if (row["state"] != "ready" or row.get("problem")) and not (broken and row["state"] == "broken"):
            raise Violation(f"'{name}' is {row['state']}: {row.get('problem')}")
    entries = {*(root / ".venvd/trash").glob("*"), *house.elsewhere.glob(".*.venvd-trash/[!.]*")}
    if entries != {pathlib.Path(t["path"]).parent for t in trash}:
        raise Violation(f"the trash has {sorted(map(str, entries))}, its rows {[t['path'] for t in trash]}")
    for entry in entries:
        if not (entry / "record.json").exists():
            raise Violation(f"'{entry}' has no record")
    live = {name: (of(row["path"]), labels.get(row["id"], "new"), row["origin"], row.get("protected", False))
            for name, row in rows.items()}
    listed = {row["path"] for row in rows.values()}
    # A directory that was made a moment before its maker was killed, and nobody heard of it, holds nothing.
    live |= {f"elsewhere/{p.name}": (of(p),) for p in house.elsewhere.glob("[!.]*") if str(p) not in listed and any(p.iterdir())}
    return live, sorted((t["name"], of(t["path"]), labels.get(t["id"], "new"), t["origin"]) for t in trash)


def stage_is_empty(house):
    stage = house.root / ".venvd/stage"
    end = time.monotonic() + 5
    while stage.exists() and any(stage.iterdir()):
        house.idle()
        if time.monotonic() > end:
            raise Violation(f"the stage has {sorted(p.name for p in stage.iterdir())}")


def build_shim(directory):
    """The shim; it refuses memory only where no sanitizer has a malloc() of its own."""
    shim = pathlib.Path(directory) / "fault-shim.so"
    memory = [] if "fsanitize" in (pathlib.Path(directory) / "flags").read_text() else ["-DFAULT_MEMORY"]
    new = shim.with_name(f"fault-shim-{os.getpid()}.so")    # somebody else may have it loaded just now
    subprocess.run(["cc", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", *memory, "-o",
                    new, HERE / "shim.c", "-ldl"], check=True)
    new.replace(shim)
    return shim.resolve()
