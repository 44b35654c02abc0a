# SPDX-License-Identifier: MIT
"""What the tests of the wire share: a reader of interface descriptions of their own, a connection that holds
every reply against it, environments and interpreters that cost nothing, and gates to hold work at.

The reader knows nothing of the daemon's: two programs that read the same text must come to one verdict.
"""
import collections
import contextlib
import json
import os
import pathlib
import re
import socket
import tempfile
import time

from conftest import DEADLINE, TOP, VENVD, Connection, Daemon

PYTHON = "/usr/bin/python3"
SANITIZED = b"__asan_init" in VENVD.read_bytes()


# --- interface descriptions ---

class Interface:
    """A parsed description: types, methods and errors by name."""

    TOKEN = re.compile(r"\s*(->|\[string\]|\[\]|[?():,]|[A-Za-z][A-Za-z0-9_.-]*)")

    def __init__(self, text):
        self.tokens = self.TOKEN.findall(re.sub(r"#[^\n]*", "", text))
        self.types, self.methods, self.errors = {}, {}, {}
        assert self.take() == "interface"
        self.name = self.take()
        while self.tokens:
            kind, name = self.take(), self.take()
            if kind == "type":
                self.types[name] = self.body()
            elif kind == "error":
                self.errors[name] = self.body()
            else:
                assert kind == "method", kind
                inputs = self.body()
                assert self.take() == "->"
                self.methods[name] = (inputs, self.body())

    def take(self):
        return self.tokens.pop(0)

    def type(self):
        for prefix in ("?", "[]", "[string]"):
            if self.tokens[0] == prefix:
                return (self.take(), self.type())
        return self.body() if self.tokens[0] == "(" else self.take()

    def body(self):
        """A struct as a dict, an enum as a list."""
        assert self.take() == "("
        fields, values = {}, []
        while self.tokens[0] != ")":
            name = self.take()
            if self.tokens[0] == ":":
                self.take()
                fields[name] = self.type()
            else:
                values.append(name)
            if self.tokens[0] == ",":
                self.take()
        self.take()
        assert not (fields and values)
        return values or fields

    def misfit(self, kind, value, where=""):
        """Where value is not of this kind; None if it is. Nulls are a misfit: what is absent is left out."""
        if isinstance(kind, tuple):
            prefix, inner = kind
            if prefix == "?":
                return self.misfit(inner, value, where)
            if prefix == "[]":
                items = enumerate(value) if isinstance(value, list) else None
            else:
                items = value.items() if isinstance(value, dict) else None
            if items is None:
                return where
            return next((bad for key, one in items if (bad := self.misfit(inner, one, f"{where}[{key}]"))), None)
        if isinstance(kind, list):
            return None if value in kind else where
        if isinstance(kind, dict):
            return self.misfit_struct(kind, value, where)
        if kind in self.types:
            return self.misfit(self.types[kind], value, where)
        wanted = {"bool": bool, "int": int, "float": float, "string": str, "object": dict}[kind]
        fits = isinstance(value, wanted) and (kind == "bool" or not isinstance(value, bool))
        return None if fits else where

    def misfit_struct(self, fields, value, where):
        if not isinstance(value, dict):
            return where or "."
        for name in value:
            if name not in fields:
                return f"{where}.{name}"
        for name, kind in fields.items():
            nullable = isinstance(kind, tuple) and kind[0] == "?"
            if name in value:
                if bad := self.misfit(kind, value[name], f"{where}.{name}"):
                    return bad
            elif not nullable:
                return f"{where}.{name}"
        return None


INTERFACES = {i.name: i for i in (Interface((TOP / "proto" / f"{name}.varlink").read_text())
                                  for name in ("io.venvd", "org.varlink.service"))}


def check_frame(frame):
    """The form of a reply, whatever it says: compact, no key but three, `continues` last. Gives the reply."""
    text = frame.decode("utf-8")
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    assert not re.search(r"\s", bare), f"not compact: {text[:200]}"
    assert "null" not in bare, f"a null: {text[:200]}"
    reply = json.loads(text)
    keys = list(reply)
    assert keys in (["parameters"], ["parameters", "continues"], ["error", "parameters"]), keys
    assert reply.get("continues", True) is True, text[:200]
    return reply


def check_reply(frame, method=None, more=False):
    """The form of a reply and, where the method is known, that its parameters fit the description."""
    reply = check_frame(frame)
    assert more or "continues" not in reply, f"an unasked 'continues' to {method}"
    if "error" in reply:
        interface, name = reply["error"].rsplit(".", 1)
        fields = INTERFACES[interface].errors[name]
    elif method:
        interface, name = method.rsplit(".", 1)
        fields = INTERFACES[interface].methods[name][1]
    else:
        return reply
    bad = INTERFACES[interface].misfit(fields, reply["parameters"])
    assert bad is None, f"{method or reply['error']}: {bad} does not fit: {frame[:300]}"
    return reply


class Checked(Connection):
    """A connection that trusts nothing: every reply to what was sent with send() is held against the description."""

    def __init__(self, path):
        super().__init__(path)
        self.expected = collections.deque()

    def send(self, method, parameters=None, **flags):
        method = method if "." in method else "io.venvd." + method
        super().send(method, parameters, **flags)
        if not flags.get("oneway"):
            self.expected.append((method, flags.get("more", False)))

    def receive(self):
        frame = self.receive_raw()
        method, more = self.expected[0] if self.expected else (None, True)
        reply = check_reply(frame, method, more)
        if self.expected and "continues" not in reply:
            self.expected.popleft()
        return reply

    def ask(self, data):
        """Raw bytes out, one reply in, whole."""
        self.send_raw(data)
        return self.receive()

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)


def expect_close(connection):
    """The connection ends without another byte."""
    assert connection.closed() == b""


# --- daemons ---

class WireDaemon(Daemon):
    def connect(self):
        return Checked(self.socket_path)

    def log_has(self, words):
        return words in self.log()

    def worker(self):
        """The resident worker's pid: the one child, when nothing else is under way."""
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for pid in map(int, children):
            if b"resident" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise AssertionError("no resident worker")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(root, *options, descriptors=None, **kwargs):
    """A daemon for as long as it is wanted; it must not have complained at its end. `descriptors`: all it may have."""
    if descriptors:
        kwargs["wrapper"] = ["/bin/sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh"]
    daemon = WireDaemon(root, options, **kwargs)
    try:
        assert daemon.said.startswith("ready "), daemon.log()
        yield daemon
    finally:
        status = daemon.stop()
        log = daemon.log()
        os.unlink(daemon.log_path)
    assert status == 0, log
    for word in ("Sanitizer", "runtime error", "Assertion", "built wrong"):
        assert word not in log, log


def until(happened):
    """Until happened() gives something true: for what the daemon does after its answer and tells nobody."""
    end = time.monotonic() + DEADLINE
    while not (value := happened()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
    return value


def served(daemon):
    """Somebody else is served, now."""
    with daemon.connect() as c:
        return c.call("Status")


# --- environments and interpreters ---

def fake_environment(root, name, prompt=None, version="3.11.2"):
    """What a scan takes for an environment, for four system calls."""
    path = pathlib.Path(root) / name
    os.makedirs(path / "bin")
    os.symlink(PYTHON, path / "bin" / "python")
    cfg = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {version}\n"
    (path / "pyvenv.cfg").write_text(cfg + (f"prompt = '{prompt}'\n" if prompt else ""))
    return path


def fake_environments(root, count, pattern="env{:05}"):
    """Many of them, as cheap as they get: what is in them is linked."""
    first = fake_environment(root, pattern.format(0))
    for i in range(1, count):
        path = f"{root}/{pattern.format(i)}"
        os.makedirs(path + "/bin")
        os.link(first / "pyvenv.cfg", path + "/pyvenv.cfg")
        os.link(first / "bin/python", path + "/bin/python", follow_symlinks=False)


@contextlib.contextmanager
def crowded(count, *options, **kwargs):
    """A daemon with many environments, in memory where the machine has such a place."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(dir=place, prefix="venvd-") as directory:
        root = pathlib.Path(directory) / "envs"
        fake_environments(root, count)
        with running(root, *options, **kwargs) as daemon:
            yield daemon


BUILD_FAKE = r"""for last; do :; done
mkdir -p "$last/bin" && ln -s /usr/bin/python3 "$last/bin/python" &&
printf 'home = /usr/bin\nversion = 3.11.2\n' >"$last/pyvenv.cfg"
"""


def script(path, text):
    path = pathlib.Path(path)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def fake_python(path, probe="", build=""):
    """An interpreter in shell: answers the probe with its own path and 'makes' an environment in no time.
    `probe` and `build` are commands that it runs first."""
    answer = json.dumps([1, [3, 11, 2, "final", 0], "cpython", str(path), True, True])
    return script(path, f"case \"$*\" in\n*'-m venv'*)\n{build}\n{BUILD_FAKE};;\n*)\n{probe}\n"
                        f"printf '%s\\n' '{answer}';;\nesac\n")


# A caller for whom nothing prepared can be taken: the interpreter's own venv runs at the environment's place.
IN_PLACE = {"environment": {"SOURCE_DATE_EPOCH": "1"}}


class Gate:
    """A place where a script waits: put `hold` into it. wait() returns when it is there, go() lets it pass."""

    def __init__(self, path):
        self.path = str(path)
        os.mkfifo(self.path)
        self.hold = f"read -r x <'{self.path}'"
        self.fd = -1

    def wait(self):
        self.fd = os.open(self.path, os.O_WRONLY)

    def go(self):
        os.write(self.fd, b"\n")
        os.close(self.fd)
        self.fd = -1


def remains(root):
    """Everything below the root that is no environment and not the daemon's own book-keeping."""
    root = pathlib.Path(root)
    there = {str(p.relative_to(root)) for p in root.iterdir() if p.name != ".venvd"}
    return there | {f"stage/{p.name}" for p in (root / ".venvd" / "stage").iterdir()}

