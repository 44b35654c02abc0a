# SPDX-License-Identifier: MIT
"""What every end-to-end test stands on: the real binaries, a root of its own, a small Varlink client.

Nothing is mocked and nothing sleeps: a daemon says that it is ready on a pipe, and whoever waits for
something waits on a descriptor with a deadline.
"""
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("VENVD_BUILD", TOP / "build")).resolve()
sys.path.append(str(TOP / "tests" / "conformance"))       # compare.py
VENVD = BUILD / "venvd"
VENVCTL = BUILD / "venvctl"
DEADLINE = 60  # seconds; generous: machines are slow and noisy, and a sanitizer slower still


def interpreters():
    """Every real CPython 3 on this machine: the system's and pyenv's."""
    root = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    pyenv = [p for p in root.glob("versions/3.*/bin/python3.*") if p.name[len("python3."):].isdigit()]
    found = [pathlib.Path("/usr/bin/python3"), *sorted(pyenv, key=lambda p: int(p.name[len("python3."):]))]
    return [p for p in found if p.exists()]


def pytest_configure(config):
    config.addinivalue_line("markers", "everywhere: takes long, as the same with pip for each interpreter does; 'make e2e' alone runs it")
    config.addinivalue_line("markers", "slow: left out where time is short, as under the sanitizers")


class VarlinkError(Exception):
    def __init__(self, error, parameters):
        super().__init__(f"{error} {parameters}")
        self.error = error
        self.name = error.rsplit(".", 1)[1]
        self.parameters = parameters


class Closed(Exception):
    """The daemon closed the connection."""


class Connection:
    """One connection, blocking, with a deadline for every read."""

    def __init__(self, path):
        directory = os.open(os.path.dirname(path), os.O_PATH)
        try:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(DEADLINE)
            self.socket.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        finally:
            os.close(directory)
        self.buffer = b""

    def send_raw(self, data):
        self.socket.sendall(data)

    def send(self, method, parameters=None, **flags):
        if "." not in method:
            method = "io.venvd." + method
        call = {"method": method, **flags}
        if parameters is not None:
            call["parameters"] = parameters
        self.send_raw(json.dumps(call).encode() + b"\0")

    def receive_raw(self):
        while b"\0" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                raise Closed(self.buffer)
            self.buffer += data
        frame, self.buffer = self.buffer.split(b"\0", 1)
        return frame

    def receive(self):
        return json.loads(self.receive_raw())

    def call(self, method, **parameters):
        """One call, one answer: its parameters, or VarlinkError."""
        self.send(method, parameters)
        return self.result(self.receive())

    def stream(self, method, **parameters):
        """All replies of a call with `more`."""
        self.send(method, parameters, more=True)
        while True:
            reply = self.receive()
            yield self.result(reply)
            if not reply.get("continues"):
                return

    @staticmethod
    def result(reply):
        if "error" in reply:
            raise VarlinkError(reply["error"], reply.get("parameters", {}))
        return reply.get("parameters", {})

    def closed(self):
        """Waits until the daemon closes the connection; what came before it."""
        while True:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return self.buffer
            if not data:
                return self.buffer
            self.buffer += data

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Daemon:
    """A venvd in the foreground, with its log in a file."""

    def __init__(self, root, options=(), env=None, wrapper=(), binary=VENVD):
        self.root = pathlib.Path(root)
        self.socket_path = str(self.root / ".venvd" / "io.venvd")
        self.log_path = tempfile.NamedTemporaryFile(prefix="venvd-log-", delete=False).name
        read, write = os.pipe()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*wrapper, str(binary), "--root", str(root), "--ready-fd", str(write), *map(str, options)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[write],
                # No configuration, and no image that no test has asked for: one takes seconds.
                env={"VENVD_POOL": "0", **os.environ, "VENVD_CONFIG": "/dev/null", **(env or {})})
        os.close(write)
        self.said = self._read_line(read)
        os.close(read)

    @staticmethod
    def _read_line(fd):
        text = b""
        end = time.monotonic() + DEADLINE
        while True:
            ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
            assert ready, "the daemon did not say that it is ready"
            data = os.read(fd, 4096)
            if not data:
                return text.decode()
            text += data

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return pathlib.Path(self.log_path).read_text(errors="replace")

    def connect(self):
        return Connection(self.socket_path)

    def call(self, method, **parameters):
        with self.connect() as c:
            return c.call(method, **parameters)

    def environments(self, **parameters):
        """name -> Environment, of everything that List gives."""
        with self.connect() as c:
            rows = [r["environment"] for r in c.stream("List", **parameters) if r]
        return {r["name"]: r for r in rows}

    def trash(self):
        with self.connect() as c:
            return [r["environment"] for r in c.stream("ListTrash") if r]

    def kill(self):
        """As a power cut would: no time for anything. Its workers end by themselves."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE)

    def stop(self):
        """The orderly end; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "envs"


@pytest.fixture
def start():
    """start(root, *options, env=...) -> Daemon; all are stopped at the end, and must not have complained."""
    daemons = []

    def starter(root, *options, **kwargs):
        daemon = Daemon(root, options, **kwargs)
        daemons.append(daemon)
        return daemon

    yield starter
    for daemon in daemons:
        status = daemon.stop()
        log = daemon.log()
        os.unlink(daemon.log_path)
        assert status in (0, 1, -signal.SIGKILL), log
        for word in ("Sanitizer", "runtime error", "Assertion", "built wrong"):
            assert word not in log, log


@pytest.fixture
def daemon(start, root):
    started = start(root)
    assert started.said.startswith("ready "), started.log()
    return started


@pytest.fixture
def connection(daemon):
    with daemon.connect() as c:
        yield c


@pytest.fixture
def running():
    """running(argv, ...): starts it, and returns when it has said something."""
    started = []

    def start(argv, **kwargs):
        environment = {"PATH": "/usr/bin:/bin", **kwargs.pop("env", {})}
        process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env=environment, **kwargs)
        started.append(process)
        assert process.stdout.readline() == b"here\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.fixture
def venvctl(root, tmp_path):
    """venvctl(*args, ...) -> CompletedProcess with text; its root and home are the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    used = {str(root)}

    def run(*args, env=None, unset=(), timeout=DEADLINE * 3, **kwargs):
        environment = {k: v for k, v in os.environ.items()
                       if not k.startswith(("VENVD_", "VIRTUAL_ENV", "XDG_")) and k not in ("WORKON_HOME", *unset)}
        environment.update({"HOME": str(home), "VENVD_ROOT": str(root), "VENVD_CONFIG": "/dev/null",
                            "VENVD_POOL": "0", **(env or {})})
        used.add(environment.get("VENVD_ROOT", str(root)))
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("stdout", subprocess.PIPE)
        kwargs.setdefault("stderr", subprocess.PIPE)
        return subprocess.run([str(VENVCTL), *map(str, args)], env=environment, text=True,
                              timeout=timeout, **kwargs)

    run.home = home
    run.root = root
    yield run
    for one in used:        # daemons that commands have started
        subprocess.run([str(VENVCTL), "--root", one, "shutdown"], timeout=DEADLINE,
                       env={**os.environ, "HOME": str(home)}, capture_output=True)


@pytest.fixture
def fake(tmp_path):
    """An interpreter whose venv says no when it is told to, and can be held: its path, the gate, where `no` and
    `hold` are put."""
    import wire
    gate = wire.Gate(tmp_path / "gate")
    python = wire.fake_python(tmp_path / "python", build=f"[ ! -e '{tmp_path}/hold' ] || {gate.hold}\n"
                              f"[ ! -e '{tmp_path}/no' ] || exit 1\n")
    return str(python), gate, tmp_path


@pytest.fixture
def short_root():
    """A root with a short path, for tests that need socket paths of a usual length."""
    path = tempfile.mkdtemp(prefix="vd-")
    yield pathlib.Path(path) / "r"
    shutil.rmtree(path, ignore_errors=True)
