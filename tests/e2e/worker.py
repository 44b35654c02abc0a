# SPDX-License-Identifier: MIT
"""venvd-worker alone: every order of proto/orders.h over a socketpair, its errors, its repetition after
a crash, and the promises about trees, mounts, children and descriptors."""

import ctypes
import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]
WORKER = pathlib.Path(os.environ.get("VENVD_BUILD", REPO / "build")) / "venvd-worker"
SANITIZED = b"__asan_init" in WORKER.read_bytes() if WORKER.exists() else False


def _pythons():
    """One real interpreter for each version that this machine has, python 3 only."""
    found = {}
    versions = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv")) / "versions"
    candidates = [pathlib.Path("/usr/bin/python3"), *sorted(versions.glob("3.*/bin/python3.[0-9]*"))]
    for path in candidates:
        if path.name.endswith("-config") or path.name.count(".") > 1 or not os.access(path, os.X_OK):
            continue
        if path.suffix.endswith(("m", "config", "gdb.py")) or not path.name[-1].isdigit():
            continue
        found.setdefault(path.resolve(), path)
    return [str(path) for path in found.values()]


PYTHONS = _pythons()
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else (PYTHONS or [sys.executable])[0]
CALLER = {"cwd": "/", "path": "/usr/bin:/bin", "umask": 0o022, "environment": {}}


class Worker:
    def __init__(self, root, mode="order", env=None):
        self.ours, theirs = socket.socketpair()
        root_fd = os.open(root, os.O_RDONLY)
        state_fd = os.open(root / ".venvd", os.O_RDONLY)
        lock_fd = os.open(root / ".venvd" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        # Above the targets, so that no dup2 overwrites a source.
        sources = [os.dup(fd) for fd in (theirs.fileno(), root_fd, state_fd, lock_fd)]
        sources = [_above(fd, 20) for fd in sources]

        def place():
            for target, source in enumerate(sources, 3):
                os.dup2(source, target, inheritable=True)

        self.process = subprocess.Popen(
            [WORKER, mode], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, preexec_fn=place, pass_fds=(3, 4, 5, 6, *sources), env=env)
        for fd in (root_fd, state_fd, lock_fd, *sources):
            os.close(fd)
        theirs.close()
        self.ours.settimeout(120)
        self.buffer = b""
        self.next_id = 0

    def send(self, op, **fields):
        self.next_id += 1
        self.send_raw({"id": self.next_id, "op": op, **fields})
        return self.next_id

    def send_raw(self, message):
        self.ours.sendall(json.dumps(message).encode() + b"\0")

    def receive(self):
        while b"\0" not in self.buffer:
            data = self.ours.recv(1 << 16)
            if not data:
                return None
            self.buffer += data
        frame, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(frame)

    def until_done(self):
        frames = []
        while True:
            message = self.receive()
            assert message is not None, self.process.stderr.read()
            if message.get("done"):
                return message, frames
            frames.append(message)

    def ask(self, op, **fields):
        self.send(op, **fields)
        return self.until_done()

    def close(self):
        self.ours.close()
        status = self.process.wait(30)
        errors = self.process.stderr.read().decode()
        self.process.stderr.close()
        return status, errors


def _above(fd, least):
    import fcntl
    new = fcntl.fcntl(fd, fcntl.F_DUPFD, least)
    os.close(fd)
    return new


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "root"
    for name in ("", ".venvd", ".venvd/stage", ".venvd/trash"):
        (path / name).mkdir()
    yield path
    subprocess.run(["chmod", "-R", "u+rwX", path], check=False)


@pytest.fixture
def workers(root):
    started = []

    def start(mode="order", **kwargs):
        started.append(Worker(root, mode, **kwargs))
        return started[-1]

    yield start
    for worker in started:
        status, errors = worker.close()
        assert status == 0 and errors == ""


def order(root, op, **fields):
    """One order in a worker of its own: answer and frames."""
    worker = Worker(root)
    answer, frames = worker.ask(op, **fields)
    assert worker.close() == (0, "")
    return answer, frames


_libc = ctypes.CDLL(None, use_errno=True)


class _Statx(ctypes.Structure):
    _fields_ = [("head", ctypes.c_ubyte * 80), ("sec", ctypes.c_int64), ("nsec", ctypes.c_uint32),
                ("rest", ctypes.c_ubyte * 164)]


def identity(path):
    """As the worker tells it: inode and birth time in ns."""
    buffer = _Statx()
    assert _libc.statx(-100, os.fsencode(path), 0x100, 0xfff, ctypes.byref(buffer)) == 0
    return {"ino": os.lstat(path).st_ino, "btime": buffer.sec * 10**9 + buffer.nsec}


def fake_env(path, cfg="home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n"):
    (path / "bin").mkdir(parents=True)
    (path / "pyvenv.cfg").write_text(cfg)
    (path / "bin/python").symlink_to("python3")
    (path / "bin/python3").symlink_to("/usr/bin/python3")
    return path


OPTIONS = ("withoutPip", "systemSitePackages", "copies", "withoutScmIgnoreFiles", "clear", "upgrade",
           "upgradeDeps", "prompt")


def create_order(root, name="e", python=PYTHON, **fields):
    """Options may be given beside the order's own fields; python is one specification, or a list."""
    specs = python if isinstance(python, list) else [python] if python is not None else []
    options = {"withoutPip": True, "python": specs}
    options |= {key: fields.pop(key) for key in OPTIONS if key in fields}
    return {"name": name, "entry": name + "~1", "root": str(root), "path": f"{root}/{name}",
            "elsewhere": False, "options": options, "search": {"dirs": [], "managedFirst": False},
            "probeMs": 10000, "caller": CALLER} | fields


def create(root, go=True, **fields):
    worker = Worker(root)
    worker.send("create", **create_order(root, **fields))
    frames = []
    while True:
        message = worker.receive()
        frames.append(message)
        if message is None or message.get("done"):
            break
        if message.get("frame") == "reserved" and go:
            worker.send_raw({"id": 1, "go": True})
    assert worker.close() == (0, "")
    return frames[-1], frames[:-1]


def refused(root, error, **fields):
    answer, _ = create(root, **fields)
    assert answer.get("error") == "io.venvd." + error, answer
    assert sorted(os.listdir(root)) == [".venvd"]
    assert os.listdir(root / ".venvd/stage") == []
    return answer["parameters"]
