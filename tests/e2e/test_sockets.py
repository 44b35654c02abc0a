# SPDX-License-Identifier: MIT
"""Whose daemon it is and where it listens: modes, uids, locks, stale files, long paths, and how it ends."""
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import tempfile
import time

import pytest

import wire
from conftest import BUILD, DEADLINE, VENVD, Closed, Connection, VarlinkError
from helpers import needs_root

NOBODY, STRANGER = 65534, 54321
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@pytest.fixture
def open_directory():
    """A directory that every user can come to."""
    with tempfile.TemporaryDirectory(prefix="venvd-") as path:
        os.chmod(path, 0o755)
        yield pathlib.Path(path)


@pytest.fixture
def python(tmp_path):
    return wire.fake_python(tmp_path / "python-fake")


@pytest.fixture
def gate(tmp_path):
    gate = wire.Gate(tmp_path / "gate")
    gate.python = wire.fake_python(tmp_path / "python-gate", build=gate.hold)
    yield gate
    if gate.fd >= 0:
        os.close(gate.fd)


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def ended(start, root, *options):
    """A venvd that must not have begun: its exit status and what it said."""
    daemon = start(root, *options)
    return daemon.process.wait(DEADLINE), daemon.log(), daemon.said


TALK = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(30)
s.connect(sys.argv[1])
try:
    s.sendall(b'{"method":"io.venvd.Status"}\\0')
    print(len(s.recv(4096)))
except ConnectionError:
    print(0)
"""


def talk_as(uid, path):
    """How many bytes a client of this uid gets."""
    result = subprocess.run([wire.PYTHON, "-I", "-c", TALK, str(path)], user=uid, group=uid, extra_groups=[], cwd="/",
                            capture_output=True, text=True, timeout=DEADLINE)
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


# --- modes and uids ---

def test_modes(root):
    with wire.running(root, wrapper=["/bin/sh", "-c", 'umask 0; exec "$@"', "sh"]) as daemon:
        assert mode(root / ".venvd") == 0o700
        assert mode(daemon.socket_path) == 0o600
        for path in (root / ".venvd").iterdir():
            assert mode(path) & 0o077 == 0, path


def test_closed_standard_descriptors(start, root):
    """Nothing of the daemon's own gets their numbers, and with them its log."""
    daemon = start(root, wrapper=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    assert daemon.said.startswith("ready ")
    assert [os.readlink(f"/proc/{daemon.pid}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null"] * 3
    assert daemon.call("Status")["pid"] == daemon.pid


def test_a_state_directory_that_is_too_open_is_closed(root):
    (root / ".venvd").mkdir(parents=True)
    (root / ".venvd").chmod(0o777)
    with wire.running(root):
        assert mode(root / ".venvd") == 0o700


@needs_root
def test_a_stranger_is_refused_without_a_byte(open_directory):
    root = open_directory / "envs"
    with wire.running(root) as daemon:
        os.chmod(root / ".venvd", 0o755)
        os.chmod(daemon.socket_path, 0o666)
        assert talk_as(NOBODY, daemon.socket_path) == 0
        assert f"refused a connection of uid {NOBODY}" in daemon.log()
        assert talk_as(0, daemon.socket_path) > 0
        assert wire.served(daemon)["connections"] == 1


@needs_root
def test_a_users_daemon_serves_its_user_and_root(open_directory):
    root = open_directory / "envs"
    root.mkdir()
    os.chown(root, NOBODY, NOBODY)
    for name in ("venvd", "venvd-worker"):
        shutil.copy(BUILD / name, open_directory)
    with wire.running(root, wrapper=AS_NOBODY, binary=open_directory / "venvd", env={"HOME": "/nonexistent"}) as daemon:
        assert os.lstat(daemon.socket_path).st_uid == NOBODY
        assert wire.served(daemon)["pid"] == daemon.pid         # root
        assert talk_as(NOBODY, daemon.socket_path) > 0
        os.chmod(root / ".venvd", 0o755)
        os.chmod(daemon.socket_path, 0o666)
        assert talk_as(STRANGER, daemon.socket_path) == 0


SERVE = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
s.listen()
print('ready', flush=True)
c = s.accept()[0]
c.settimeout(30)
data = c.recv(4096)
if data and sys.argv[2:]:
    c.sendall(sys.argv[2].encode() + b'\\0')
print(len(data), flush=True)
"""


@contextlib.contextmanager
def fake_server(uid, path, *answer):
    server = subprocess.Popen([wire.PYTHON, "-I", "-c", SERVE, str(path), *answer], cwd="/", text=True,
                              user=uid, group=uid, extra_groups=[], stdout=subprocess.PIPE)
    try:
        assert server.stdout.readline() == "ready\n"
        yield server
    finally:
        server.kill()
        server.communicate()


REACH = """
import os, socket, sys
def tried(what, *arguments):
    try:
        what(*arguments)
        return 1
    except OSError:
        return 0
def said(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(path)
        s.sendall(b'{"method":"io.venvd.Status"}\\0')
        if not s.recv(4096):
            raise OSError("nothing was said")
state = sys.argv[1]
names = ["lock", "catalog.db", "catalog.db-wal", "io.venvd", "stage", "trash", "pool", "images", "trash/" + sys.argv[2]]
done = {"list": tried(os.listdir, state), "connect": tried(said, state + "/io.venvd")}
for name in names:
    done["stat " + name] = tried(os.stat, f"{state}/{name}")
    done["read " + name] = tried(os.listdir if os.path.isdir(f"{state}/{name}") else open, f"{state}/{name}")
done["make"] = tried(os.mkdir, state + "/mine")
print([what for what, well in done.items() if well])
"""


@needs_root
@pytest.mark.parametrize("uid", [1, STRANGER, NOBODY])
def test_another_uid_reaches_nothing(open_directory, uid):
    """Uids and modes: nothing is connected to, listed, read or even seen; where somebody has opened the directory, nothing
    in it can be read, and the next start closes it again."""
    root = open_directory / "envs"
    with wire.running(root) as daemon:
        wire.fake_environment(root, "a")
        wire.until(lambda: "a" in daemon.environments())
        daemon.call("Delete", name="a")
        entry = next((root / ".venvd/trash").iterdir()).name
        state = root / ".venvd"

        def reached():
            done = subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", wire.PYTHON, "-I", "-c", REACH,
                                   str(state), entry], capture_output=True, text=True, cwd="/", timeout=DEADLINE)
            assert done.returncode == 0, done.stderr
            return eval(done.stdout)

        for root_mode in (0o700, 0o711, 0o755):
            for socket_mode in (0o600, 0o666):
                os.chmod(root, root_mode)
                os.chmod(daemon.socket_path, socket_mode)
                assert reached() == [], (oct(root_mode), oct(socket_mode))
        os.chmod(state, 0o755)
        assert [what for what in reached() if not what.startswith("stat ") and what != "list"] == []
    with wire.running(root):
        assert mode(state) == 0o700 and reached() == []


@needs_root
def test_the_client_refuses_a_strangers_server(open_directory, venvctl):
    theirs = open_directory / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    for words in (["list"], ["create", "a", "-p", "/none"], ["prompt"]):
        with fake_server(NOBODY, theirs / "io.venvd", '{"parameters":{"environments":[]}}') as server:
            done = venvctl("--socket", theirs / "io.venvd", "--no-start", *words, env={"VIRTUAL_ENV": "/none/a"})
            if words != ["prompt"]:                 # that one is silent, and never fails
                assert done.returncode == 7, done
                assert str(NOBODY) in done.stderr
            assert server.stdout.readline() == "0\n"        # not a byte of ours
        (theirs / "io.venvd").unlink()


@needs_root
def test_a_users_client_takes_roots_server(open_directory):
    shutil.copy(BUILD / "venvctl", open_directory)
    with fake_server(0, open_directory / "io.venvd", '{"parameters":{"environments":[]}}') as server:
        words = ["--root", "/none", "--socket", open_directory / "io.venvd", "list"]
        done = subprocess.run([open_directory / "venvctl", *words],
                              user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, cwd="/",
                              env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"}, timeout=DEADLINE)
        assert done.returncode == 0, done
        assert int(server.stdout.readline()) > 0


# --- one daemon a root ---

def test_a_second_venvd_names_the_first(root, start):
    with wire.running(root) as daemon:
        status, log, said = ended(start, root)
        assert status == 1
        assert f"held by venvd, process {daemon.pid}" in log and "hint: " in log
        assert said.startswith("error: ") and str(daemon.pid) in said
        assert wire.served(daemon)["pid"] == daemon.pid
        status, log, said = ended(start, root, "--detached")
        assert (status, said) == (0, f"already {daemon.pid}\n")


def test_two_roots_at_once(tmp_path, python):
    with wire.running(tmp_path / "one") as one, wire.running(tmp_path / "two") as two:
        one.call("Create", name="a", python=python, withoutPip=True)
        two.call("Create", name="b", python=python, withoutPip=True)
        assert list(one.environments()) == ["a"] and list(two.environments()) == ["b"]
        assert one.call("Status")["root"] == str(tmp_path / "one")


def test_a_stale_socket_is_replaced(root, start):
    first = start(root)
    first.kill()
    assert stat.S_ISSOCK(os.lstat(first.socket_path).st_mode)
    with wire.running(root) as daemon:
        assert wire.served(daemon)["pid"] == daemon.pid != first.pid
    assert not os.path.lexists(daemon.socket_path)


KILLED_AT_A_BAD_MOMENT = """
import fcntl, os, socket, sys
lock = os.open("lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
listening = socket.socket(socket.AF_UNIX)
listening.bind("io.venvd")
listening.listen()
if os.fork() == 0:
    sys.stdin.read()
"""


def test_a_socket_that_outlives_its_daemon(root):
    """One that was killed while it started a worker: that has all of its descriptors until it runs its own program."""
    state = root / ".venvd"
    state.mkdir(parents=True, mode=0o700)
    dead = subprocess.Popen([sys.executable, "-c", KILLED_AT_A_BAD_MOMENT], cwd=state, stdin=subprocess.PIPE)
    assert dead.wait(DEADLINE) == 0
    waits = f":{os.stat(state / 'lock').st_ino} "

    def go_on():
        wire.until(lambda: any("->" in line and waits in line for line in open("/proc/locks")))
        dead.stdin.close()
    waiter = threading.Thread(target=go_on)
    waiter.start()
    with wire.running(root) as daemon:
        assert wire.served(daemon)["pid"] == daemon.pid
    waiter.join()


def test_the_end_leaves_another_ones_socket_alone(root):
    with wire.running(root) as daemon:
        os.unlink(daemon.socket_path)
        pathlib.Path(daemon.socket_path).write_text("somebody else's")
    assert pathlib.Path(daemon.socket_path).read_text() == "somebody else's"


# --- a socket elsewhere ---

def test_a_second_socket(root, tmp_path, start):
    also = tmp_path / "run" / "io.venvd"
    with wire.running(root, "--socket", also) as daemon:
        assert mode(also) == 0o600 and mode(also.parent) == 0o700
        with Connection(str(also)) as c, daemon.connect() as d:
            assert c.call("Status")["pid"] == d.call("Status")["pid"] == daemon.pid
            assert d.call("Status")["connections"] == 2
    assert not also.exists() and not os.path.exists(daemon.socket_path)


def test_a_second_socket_that_is_stale(root, tmp_path, start):
    also = tmp_path / "also"
    first = start(root, "--socket", also)
    first.kill()
    assert also.is_socket()
    with wire.running(root, "--socket", also) as daemon, Connection(str(also)) as c:
        assert c.call("Status")["pid"] == daemon.pid


def test_a_relative_second_socket(root, tmp_path):
    there = ["/bin/sh", "-c", f'cd "{tmp_path}" && exec "$@"', "sh"]
    with wire.running(root, "--socket", "here", wrapper=there) as daemon:
        with Connection(str(tmp_path / "here")) as c:
            assert c.call("Status")["pid"] == daemon.pid


@pytest.mark.parametrize("what", ["file", "directory", "link", "dangling", "served"])
def test_something_else_where_the_second_socket_should_be(root, tmp_path, start, what):
    also, target = tmp_path / "also", tmp_path / "target"
    target.write_text("precious")
    server = socket.socket(socket.AF_UNIX)
    {"file": lambda: also.write_text("precious"), "directory": also.mkdir, "link": lambda: also.symlink_to(target),
     "dangling": lambda: also.symlink_to(tmp_path / "nothing"), "served": lambda: server.bind(str(also))}[what]()
    if what == "served":
        server.listen()
    before = os.lstat(also)
    status, log, said = ended(start, root, "--socket", also)
    assert status == 1 and f"socket '{also}'" in log and said.startswith("error: "), log
    assert os.lstat(also).st_ino == before.st_ino and target.read_text() == "precious"
    assert not (root / ".venvd" / "io.venvd").exists()
    server.close()


def test_a_second_socket_in_a_directory_that_cannot_be(root, tmp_path, start):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "socket", tmp_path / "none" / "none" / "socket"):
        status, log, _ = ended(start, root, "--socket", path)
        assert status == 1 and f"socket directory '{path.parent}'" in log, log


def test_the_runtime_directory_is_removed(root, tmp_path, venvctl):
    also = tmp_path / "run" / "io.venvd"
    with wire.running(root, "--socket", also) as daemon:
        shutil.rmtree(also.parent)
        assert wire.served(daemon)["pid"] == daemon.pid
        done = venvctl("--socket", also, "--no-start", "status")
        assert done.returncode == 0 and str(daemon.pid) in done.stdout, done


# --- long paths ---

@pytest.mark.parametrize("length", [200, 350])
def test_a_long_root(tmp_path, venvctl, length, python):
    root = tmp_path
    while len(str(root)) < length - 101:
        root = root / ("d" * 100)
        root.mkdir()
    root = root / ("r" * max(1, length - 1 - len(str(root))))
    also = root.parent / "also"
    assert len(str(root)) >= length
    with wire.running(root, "--socket", also) as daemon:
        made = daemon.call("Create", name="a", python=python, withoutPip=True)["environment"]
        assert made["path"] == str(root / "a") and (root / "a" / "pyvenv.cfg").exists()
        assert daemon.call("Prompt", path=str(root / "a" / "bin"))["name"] == "a"
        with Connection(str(also)) as c:
            assert c.call("Status")["root"] == str(root)
        for socket_options in ([], ["--socket", also]):
            done = venvctl("--root", root, *socket_options, "--no-start", "list")
            assert done.returncode == 0 and done.stdout.startswith("a\t"), done


@pytest.mark.parametrize("last", ["#", "\t#"])
def test_a_root_with_a_hard_name(tmp_path, python, last):
    """A tab is what no script can have in its first line, so nothing is made there."""
    root = tmp_path / ("a 'b' \\x ü %s {}" + last)
    with wire.running(root) as daemon:
        assert daemon.call("Status")["root"] == str(root)
        if "\t" in last:
            with pytest.raises(VarlinkError) as e:
                daemon.call("Create", name="a", python=python, withoutPip=True)
            assert e.value.name == "Unsupported" and "starts a script" in e.value.parameters["reason"]
            return
        made = daemon.call("Create", name="a", python=python, withoutPip=True)["environment"]
        assert made["path"] == str(root / "a")


# --- the log ---

def test_hangup_reopens_the_log(root, tmp_path, start, python):
    daemon = start(root, "--detached", env={"XDG_STATE_HOME": str(tmp_path / "state")})
    assert daemon.said == f"ready {daemon.pid}\n"
    log, = (tmp_path / "state" / "venvd").iterdir()
    assert mode(log) == 0o600 and mode(log.parent) == 0o700
    assert "serves" in log.read_text()
    daemon.call("Create", name="first", python=python, withoutPip=True)
    log.rename(tmp_path / "old.log")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.call("Create", name="second", python=python, withoutPip=True)
    assert "'first'" in (tmp_path / "old.log").read_text() and "'second'" not in (tmp_path / "old.log").read_text()
    assert "'second'" in log.read_text()
    assert daemon.log() == ""
    assert daemon.stop() == 0
    assert log.read_text().rstrip().endswith("venvd has ended")


def test_a_full_log_makes_way(root, tmp_path, start):
    """Two files of at most LIMIT_LOG_BYTES, a MiB: what is full becomes NAME.1, and what that was is gone."""
    options = {"env": {"XDG_STATE_HOME": str(tmp_path / "state")}}
    first = start(root, "--detached", **options)
    first.stop()
    log, = (tmp_path / "state" / "venvd").iterdir()
    older = log.with_name(log.name + ".1")
    older.write_text("from before\n")
    with open(log, "a") as f:
        f.write("x" * (1024 * 1024 - log.stat().st_size - 10) + "\n")
    second = start(root, "--detached", **options)
    assert "serves" in older.read_text()[-200:] and "from before" not in older.read_text()
    assert second.stop() == 0
    assert log.stat().st_size < 1000 and "has ended" in log.read_text()


def test_hangup_in_the_foreground_changes_nothing(root):
    with wire.running(root) as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        assert wire.served(daemon)["pid"] == daemon.pid


# --- the end ---

def gone(gate):
    """The script at the gate was killed: nobody reads there any more."""
    with pytest.raises(BrokenPipeError):
        os.write(gate.fd, b"\n")


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "Shutdown"])
def test_an_end_while_something_is_created(root, gate, how):
    root.mkdir()
    wire.fake_environment(root, "bystander")        # adopted by now: nobody else wants a worker
    with wire.running(root) as daemon, daemon.connect() as c, daemon.connect() as other:
        c.send("Create", {"name": "a", "python": gate.python, "withoutPip": True}, more=True)
        stages = [c.receive()["parameters"]["stage"]]
        while stages[-1] != "build":
            stages.append(c.receive()["parameters"]["stage"])
        assert [s for s in stages if s != "queued"] == ["interpreter", "reserve", "build"]     # who looked at "bystander" may go on
        gate.wait()
        began = time.monotonic()
        if how == "Shutdown":
            assert other.call("Shutdown") == {}
        else:
            daemon.process.send_signal(getattr(signal, how))
        assert daemon.process.wait(DEADLINE) == 0
        assert time.monotonic() - began < 20
        assert c.receive() == {"error": "io.venvd.ShuttingDown", "parameters": {}}
        assert c.closed() == other.closed() == b""
        gone(gate)
        assert [p.name for p in root.iterdir() if p.name != ".venvd"] == ["bystander"]
        assert not os.path.lexists(daemon.socket_path)
    with wire.running(root) as daemon:
        assert list(daemon.environments()) == ["bystander"]
        wire.until(lambda: wire.remains(root) == {"bystander"})


def test_an_end_while_much_waits(root, tmp_path, gate):
    """Creations that run, that wait for a worker, deletes without an answer, a reader who does not read."""
    wire.fake_environments(root, 200)
    with wire.running(root, "-o", "jobs-running=1") as daemon, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(daemon.connect()) for _ in range(6)]
        clients[0].send("Create", {"name": "a", "python": gate.python, "withoutPip": True})
        gate.wait()
        for i, c in enumerate(clients[1:4]):
            c.send("Create", {"name": f"b{i}", "python": gate.python, "requestId": f"r{i}"})
        wire.until(lambda: wire.served(daemon)["jobsQueued"] == 3)
        clients[4].send_raw(b'{"method":"io.venvd.List","more":true}\0' * 200)
        for i in range(100):
            clients[5].send("Delete", {"name": f"env{i:05}"}, oneway=True)
        clients[5].call("Status")               # they are accepted
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(DEADLINE) == 0
        assert time.monotonic() - began < 20
        for c in clients[:4]:
            assert c.receive()["error"] == "io.venvd.ShuttingDown"
    with wire.running(root) as daemon:
        counts = wire.served(daemon)["counts"]
        assert counts["ready"] == 100 and counts["trashed"] == 100 and counts["creating"] == 0


def test_nothing_changes_while_it_ends(root, gate):
    with wire.running(root) as daemon, daemon.connect() as c, daemon.connect() as d:
        c.send("Create", {"name": "a", "python": gate.python, "withoutPip": True})
        gate.wait()
        d.send("Shutdown")
        d.send("Create", {"name": "b", "python": gate.python})
        d.send("List")
        assert d.receive() == {"parameters": {}}
        with contextlib.suppress(Closed):       # it may have ended meanwhile
            assert d.receive()["error"] == "io.venvd.ShuttingDown"
        assert daemon.process.wait(DEADLINE) == 0
    assert [p.name for p in root.iterdir()] == [".venvd"]


def test_shutdown_with_purge(root, python):
    with wire.running(root) as daemon:
        for name in ("kept", "trashed"):
            daemon.call("Create", name=name, python=python, withoutPip=True)
        daemon.call("Delete", name="trashed")
        assert daemon.call("Shutdown", purge=True) == {}
        assert daemon.process.wait(DEADLINE) == 0
        assert [p.name for p in root.iterdir()] == ["kept"]
    with wire.running(root) as daemon:
        assert list(daemon.environments()) == ["kept"] and daemon.trash() == []


def test_workers_go_with_a_daemon_that_was_killed(root, gate, start):
    """Nobody goes on writing under the root; the next daemon starts when the last of them is gone."""
    daemon = start(root)
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": gate.python, "withoutPip": True})
        gate.wait()
        daemon.kill()
        with pytest.raises((Closed, ConnectionResetError)):
            c.receive()
    with wire.running(root) as again:
        gone(gate)
        assert again.environments() == {}
        wire.until(lambda: not wire.remains(root))


def test_the_root_is_replaced(root, tmp_path, python):
    with wire.running(root) as daemon, daemon.connect() as c:
        root.rename(tmp_path / "moved")
        for name in ("gone", "another"):
            with pytest.raises(VarlinkError) as caught:
                c.call("Create", name=name, python=python, withoutPip=True)
            assert caught.value.name == "RootUnavailable" and caught.value.parameters["root"] == str(root)
            if name == "gone":
                root.mkdir()
        assert c.call("List") == {"environments": []}
    assert list(root.iterdir()) == []


def test_the_version_and_the_usage():
    for option, words in (("--version", "venvd "), ("--help", "usage: venvd ")):
        done = subprocess.run([VENVD, option], capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 0 and done.stdout.startswith(words)
    for wrong in (["extra"], ["--bogus"], ["-o"], ["--ready-fd", "x"]):
        done = subprocess.run([VENVD, *wrong], capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 2 and "hint: venvd --help" in done.stderr and done.stdout == ""
