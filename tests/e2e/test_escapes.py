# SPDX-License-Identifier: MIT
"""Nothing raw reaches a terminal: no control but the ends of lines and tabs that are meant, nothing that reorders text.

A server that is not ours puts hostile text into every string of every reply and error that the interface describes, read
from the description itself; every command of venvctl asks it, on a terminal and through a pipe. Then the real daemon, with
hostile directories, interpreters, configurations and processes.
"""
import contextlib
import itertools
import json
import os
import pathlib
import re
import socket
import subprocess
import threading

import pytest

import wire
from conftest import DEADLINE, VENVCTL, VENVD, VarlinkError
from helpers import Terminal

HOSTILE = "h\x1b]0;t\x07\x1b[31m\rCR\x00\x01\x08\x7f\u009b31m\u0085\u202e\u2066\u061c\u200f\ttab\nnewline".replace("\x00", "")
# What acts on a terminal, as bytes of UTF-8; C1 as bytes of its own is bad UTF-8 and must not be there either.
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
INTERFACE = wire.INTERFACES["io.venvd"]
SERVICE = wire.INTERFACES["org.varlink.service"]


def assert_safe(output, where, progress=False):
    text = output.decode("utf-8")           # strictly
    text = text.replace("\r\n", "\n")       # the terminal's own
    if progress:
        assert "\rCR" not in text, where
        text = text.replace("\r", "")
    found = ACTS.search(text)
    assert not found, f"{where}: {text[max(0, found.start() - 60):found.end() + 20]!r}"


# --- replies that nobody should send ---

def fill(kind, where, honest):
    """A value of this kind, hostile wherever it is a text. honest: enumerations have a value that they may have."""
    if isinstance(kind, tuple):
        prefix, inner = kind
        if prefix == "?":
            return fill(inner, where, honest)
        if prefix == "[]":
            return [fill(inner, where, honest)] * 2
        return {HOSTILE: fill(inner, where, honest)}
    if isinstance(kind, list):
        return kind[honest % len(kind)] if honest else HOSTILE
    if isinstance(kind, dict):
        return {name: fill(inner, f"{where}.{name}", honest) for name, inner in kind.items()}
    if kind in INTERFACE.types:
        return fill(INTERFACE.types[kind], where, honest)
    return {"bool": True, "int": 1_700_000_000_000_000, "float": 1.0, "string": HOSTILE + where, "object": {}}[kind]


def escaped(value):
    return json.dumps(value, separators=(",", ":")).encode()


def as_utf8(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def raw(value):
    """No JSON any more: the bytes themselves stand in the texts."""
    text = as_utf8(value)
    for escape, byte in ((rb"\u001b", b"\x1b"), (rb"\u0007", b"\x07"), (rb"\r", b"\r"), (rb"\u0001", b"\x01")):
        text = text.replace(escape, byte)
    return text.replace("\u0085".encode(), b"\x85")


class Foreign:
    """Listens where a root's daemon would, and answers with what it was told."""

    def __init__(self, root):
        (root / ".venvd").mkdir(parents=True, mode=0o700)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(root / ".venvd" / "io.venvd"))
        self.listener.listen(64)
        self.error, self.honest, self.encode, self.asked = None, 2, escaped, set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.talk, args=(self.listener.accept()[0],), daemon=True).start()

    def talk(self, c):
        buffer = b""
        with contextlib.suppress(OSError), c:
            while data := c.recv(65536):
                buffer += data
                while b"\0" in buffer:
                    call, buffer = buffer.split(b"\0", 1)
                    if not self.answer(c, json.loads(call)):
                        return

    def answer(self, c, call):
        interface, _, method = call["method"].rpartition(".")
        self.asked.add(method)
        described = wire.INTERFACES[interface].methods.get(method) if interface in wire.INTERFACES else None
        if self.error or not described:
            c.sendall(self.encode(self.error or {"error": SERVICE.name + ".MethodNotFound", "parameters": {}}) + b"\0")
            return True
        reply = {"parameters": fill(described[1], f"{method}", self.honest)}
        more = call.get("more", False)
        if method == "Watch":               # what has happened, then Overflow: it asks again, and that is the end
            for event in INTERFACE.types["Event"]:
                reply["parameters"]["event"] = event if self.honest else HOSTILE
                c.sendall(self.encode({**reply, "continues": True}) + b"\0")
            return False
        for i in range(3 if more else 1):
            # Streams of rows come one a reply; what is whole comes as an array where nobody asked for more.
            one = {k: v for k, v in reply["parameters"].items() if more is False or not k.endswith(("ments", "preters"))}
            c.sendall(self.encode({"parameters": one, **({"continues": True} if more and i < 2 else {})}) + b"\0")
        return True

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def foreign(tmp_path):
    server = Foreign(tmp_path / "envs")
    yield server
    server.close()


# Every command; `help` says which there are, and none may be left out.
COMMANDS = [
    ["create", "a", "-p", "3"], ["create", "a", "--exist-ok"], ["create", "--path", "x/a"], ["adopt", "x", "a"], ["recreate", "a"],
    ["list"], ["list", "--json"], ["list", "--trash"], ["list", "-q"], ["list", "--trash", "--json"], ["show", "a"],
    ["show", "a", "--json"], ["delete", "a"], ["delete", "a", "b", "-y"], ["delete", "a*", "--dry-run"], ["delete", "--now", "-y", "a"],
    ["restore", "a"], ["restore", "a", "--as", "b"], ["trash", "list"], ["trash", "empty", "--dry-run"], ["trash", "empty", "-y"],
    ["rename", "a", "b"], ["clone", "a", "b"], ["protect", "a"], ["unprotect", "a"], ["path", "a"], ["activate", "a"],
    ["activate", "a", "--shell", "fish"], ["run", "a", "--", "true"], ["run", "a", "nothing-of-this-name"], ["prompt"], ["prompt", "a"],
    ["python", "list"], ["python", "list", "--json"], ["python", "find", "3"], ["python", "find", "3", "--json"],
    ["python", "add", "/x"], ["python", "remove", "/x"], ["doctor"], ["doctor", "--json"], ["doctor", "a", "--fix"], ["move", "x", "a"], ["events"], ["events", "--json"], ["status"], ["status", "--json"],
    ["call", "List"], ["call", "List", "--more"], ["call", "Get", '{"name":"a"}'], ["restart"], ["shutdown"], ["help"],
    *(["help", verb] for verb in ("list", "exit-codes")),
]
# A path for a program is that path, whatever it is called: on a terminal alone it is made safe.
PATHS = {"path", "activate", "create", "restore", "rename", "clone", "recreate", "python"}


def environment(tmp_path, **more):
    return {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "VENVD_ROOT": str(tmp_path / "envs"), "VENVD_AUTOSTART": "0",
            "VIRTUAL_ENV": str(tmp_path / "envs/a"), "TERM": "xterm", "NO_COLOR": "1",
            **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}, **more}


def ask(words, env, cwd, terminal):
    """What a command says: (stdout, stderr); on a terminal both are one."""
    words = [str(VENVCTL), "--timeout", "2", "--no-input", *words]
    if terminal:
        shown = Terminal(words, env, cwd=cwd)
        shown.end()
        return shown.shown, b""
    done = subprocess.run(words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE)
    return done.stdout, done.stderr


def all_say_nothing_raw(tmp_path, terminal, commands=COMMANDS, waiting=True):
    for words in commands:
        if words[0] in ("restart", "shutdown") and not waiting:        # for an end that does not come
            continue
        out, err = ask(words, environment(tmp_path), tmp_path, terminal)
        if terminal or words[0] not in PATHS or "--json" in words:
            assert_safe(out, words, progress=terminal)
        assert_safe(err, words)


def test_every_command_is_here():
    shown = subprocess.run([VENVCTL, "help"], capture_output=True, text=True).stdout
    verbs = re.findall(r"^  ([a-z]+)", shown.partition("Commands:")[2].partition("\n\n")[0], re.M)
    assert len(verbs) > 20 and set(verbs) == {words[0] for words in COMMANDS}


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("encode", [escaped, as_utf8, raw])
@pytest.mark.parametrize("honest", [0, 1, 2])
def test_hostile_replies(foreign, tmp_path, terminal, encode, honest):
    foreign.encode, foreign.honest = encode, honest
    all_say_nothing_raw(tmp_path, terminal, waiting=terminal and encode is as_utf8 and honest == 1 or (encode, honest) == (escaped, 2))
    if (encode, honest) == (escaped, 2):
        asked = {m for m in INTERFACE.methods if m in foreign.asked}
        assert asked == set(INTERFACE.methods), "methods that no command has asked"


@pytest.mark.parametrize("terminal", [pytest.param(False, marks=pytest.mark.slow), True])
def test_hostile_errors(foreign, tmp_path, terminal):
    """Each error of both interfaces, and names of errors that nobody knows."""
    errors = [({"error": f"{i.name}.{name}", "parameters": fill(fields, name, 1)})
              for i in (INTERFACE, SERVICE) for name, fields in i.errors.items()]
    errors += [{"error": HOSTILE, "parameters": {HOSTILE: HOSTILE}}, {"error": "io.venvd." + HOSTILE, "parameters": {}}]
    verbs = [next(w for w in COMMANDS if w[0] == verb and len(w) < 5) for verb in dict.fromkeys(w[0] for w in COMMANDS)]
    for error, encode in itertools.product(errors, [escaped, as_utf8]):
        foreign.error, foreign.encode = error, encode
        chosen = verbs if encode is as_utf8 and not terminal else [["list"], ["create", "a"], ["delete", "a"], ["call", "Get"]]
        left_out = {"help", "restart", "shutdown", *(["events"] if "Overflow" in error["error"] else [])}     # it asks again
        all_say_nothing_raw(tmp_path, terminal, [w for w in chosen if w[0] not in left_out])


# --- what is echoed ---

@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("bad", [HOSTILE, "b\udc9b\udcff"])
def test_hostile_arguments_and_variables(tmp_path, terminal, bad):
    (tmp_path / "envs").mkdir()
    asks = [[bad], ["--root", bad, "list"], ["--socket", bad, "list"], ["--color", bad, "list"], ["--timeout", bad, "list"],
            ["list", bad], ["list", "--state", bad], ["list", "--" + bad], ["help", bad], ["show", bad], ["create", bad],
            ["create", "a", "--prompt", bad], ["create", "a", "-p", bad], ["create", "--path", bad], ["adopt", bad],
            ["delete", bad], ["restore", bad, "--as", bad], ["rename", bad, bad], ["clone", "a", bad], ["path", bad],
            ["activate", "a", "--shell", bad], ["run", bad, "true"], ["run", "a", bad], ["prompt", bad], ["python", bad],
            ["python", "find", bad], ["python", "add", bad], ["events", bad], ["call", bad], ["call", "Get", bad],
            ["trash", bad], ["trash", "empty", "--older-than", bad]]
    for words in asks:
        out, err = ask(words, environment(tmp_path), tmp_path, terminal)
        assert_safe(out, words, progress=terminal)
        assert_safe(err, words)
    for name in ("VENVD_ROOT", "WORKON_HOME", "VENVD_SOCKET", "VENVD_CONFIG", "VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT", "HOME", "PATH"):
        env = environment(tmp_path, **{name: bad})
        if name == "WORKON_HOME":
            del env["VENVD_ROOT"]
        for words in (["list"], ["status"], ["prompt"], ["create", "a"], ["path", "a"], ["run", "a", "x"]):
            out, err = ask(words, env, tmp_path, terminal)
            if terminal or words[0] != "path":
                assert_safe(out, (name, words), progress=terminal)
            assert_safe(err, (name, words))


# --- the daemon's own words ---

def test_what_the_daemon_says_when_it_cannot_start(tmp_path):
    config = tmp_path / "venvd.conf"
    root = tmp_path / "r"
    link = tmp_path / HOSTILE
    link.symlink_to(tmp_path / ("to" + HOSTILE.replace("/", "")))
    tries = [(["--root", str(root), "-o", f"{HOSTILE}=1"], ""), (["--root", str(root), "-o", f"pool-mib={HOSTILE}"], ""),
             (["--root", str(root), "--" + HOSTILE], ""), (["--root", str(link)], ""),
             (["--root", str(tmp_path / HOSTILE / HOSTILE / "x")], ""), (["--root", str(root), "--socket", str(tmp_path / HOSTILE / "s")], "")]
    for text in (f"{HOSTILE} = 1\n", f"pool_mib = {HOSTILE}\n", f"[{HOSTILE}]\nx=1\n", f"link_mode = x{HOSTILE}\n"):
        tries.append((["--root", str(root)], text))
    for words, text in tries:
        config.write_text(text)
        read, write = os.pipe()
        done = subprocess.run([VENVD, *words, "--ready-fd", str(write)], capture_output=True, pass_fds=[write], timeout=DEADLINE,
                              env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "VENVD_CONFIG": str(config)})
        os.close(write)
        said = os.read(read, 65536)
        os.close(read)
        assert done.returncode in (1, 2), (words, text, done)
        assert_safe(done.stderr + done.stdout + said, (words, text))


def test_a_hostile_root(tmp_path):
    """Directories, configurations and records that somebody dropped there, interpreters and processes with such names."""
    root = tmp_path / "envs"
    bad = HOSTILE.replace("/", "")
    for name in ("fine", bad, os.fsdecode(b"latin\xe9\x9b1")):
        wire.fake_environment(root, name)
    (root / "foreign").symlink_to(bad)
    for i, line in enumerate(("prompt = '{}'", "home = {}", "version = {}", "implementation = {}", "uv = {}")):
        env = wire.fake_environment(root, f"cfg{i}")
        (env / "pyvenv.cfg").write_bytes(f"home = /usr/bin\nversion = 3.11.2\n{line.format(bad)}\n".encode())
        (env / ".project").write_text(bad)
    (root / "gone").mkdir()
    (root / "gone/pyvenv.cfg").write_text(f"home = /none/{bad}\nversion = 3.11\n")
    python = wire.fake_python(tmp_path / "python-says", build=f"printf '%s' '{bad}' >&2; exit 3\n")
    answer = json.dumps([1, [3, 11, 2, bad, 0], bad, bad, True, True])
    liar = wire.script(tmp_path / "python-lies", f"printf '%s\\n' '{answer}'\n")
    env = environment(tmp_path)
    with wire.running(root) as daemon:
        entry = root / ".venvd/trash" / ("x" + bad)
        entry.mkdir(parents=True)
        (entry / "record.json").write_text(json.dumps({"name": bad, "id": bad}))
        daemon.call("Create", name="used", python=wire.PYTHON, withoutPip=True)
        with pytest.raises(VarlinkError):
            daemon.call("Create", name="b", python=python, withoutPip=True)
        sleeper = subprocess.Popen([root / "used/bin/python", "-c", "import sys; print(1, flush=True); sys.stdin.read()", bad],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        sleeper.stdout.readline()
        try:
            for words in ([*(["show", n] for n in ("fine", "gone", "cfg0", "cfg1", "cfg2", "cfg3", "cfg4", "foreign", bad))] +
                          [["show", "cfg0", "--json"], ["list"], ["list", "--json"], ["delete", "used"], ["create", "c", "-p", python],
                           ["create", "d", "-p", liar], ["create", "e", "-p", bad], ["python", "list"], ["python", "add", liar],
                           ["prompt", "cfg0"], ["status"], ["create", "f", "--prompt", bad], ["call", "List"]]):
                for terminal in (False, True):
                    out, err = ask(words, env, tmp_path, terminal)
                    assert_safe(out, words, progress=terminal)
                    assert_safe(err, words)
        finally:
            sleeper.stdin.close()
            sleeper.wait(DEADLINE)
        daemon.kill()
        assert_safe(pathlib.Path(daemon.log_path).read_bytes(), "the log")
        daemon.__init__(root)
        assert daemon.said.startswith("ready ")
        assert daemon.environments()["fine"]["state"] == "ready"
        assert_safe(pathlib.Path(daemon.log_path).read_bytes(), "the log of another start")
