# SPDX-License-Identifier: MIT
"""A daemon that has the shim (shim.c), in a root of its own: started, killed at a call to the kernel, started again."""
import ctypes
import mmap
import os
import pathlib
import select
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent / name) for name in ("e2e", "conformance", "fault")]

from conftest import Daemon  # noqa: E402
from helpers import children  # noqa: E402

DEADLINE = 60


class Violation(Exception):
    pass


class State(ctypes.Structure):
    _fields_ = [("count", ctypes.c_uint64), ("target", ctypes.c_uint64), ("mode", ctypes.c_int32), ("error", ctypes.c_int32),
                ("daemon", ctypes.c_int32), ("fired", ctypes.c_int32), ("call", ctypes.c_char * 32),
                ("clock_us", ctypes.c_int64), ("full", ctypes.c_int32)]


KILL_BEFORE, KILL_AFTER, ERRNO = 1, 2, 3


class House:
    """A root, and a daemon in it that has the shim; started again as often as it is needed."""
    options = ("-o", "pool_initial=2")

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


def build_shim(directory):
    shim = pathlib.Path(directory) / "model-shim.so"
    subprocess.run(["cc", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", "-o", shim,
                    HERE / "shim.c", "-ldl"], check=True)
    return shim.resolve()
