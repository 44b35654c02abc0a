# SPDX-License-Identifier: MIT
"""Watch: the state first, then everything that happens, in order, to whoever listens."""
import json
import os
import shutil
import signal
import subprocess

import pytest

from conftest import VENVCTL, VarlinkError, interpreters
from helpers import eventually, rebuilt_python

PYTHON = str(interpreters()[0])
NEWEST = str(interpreters()[-1])


def create(daemon, name, **parameters):
    return daemon.call("Create", name=name, python=PYTHON, withoutPip=True, **parameters)["environment"]


class Watching:
    """A connection that watches; next() is the next event."""

    def __init__(self, daemon, **parameters):
        self.connection = daemon.connect()
        self.connection.send("Watch", parameters, more=True)
        self.first = {}
        self.sequence = 0
        while (event := self.next())["event"] != "ready":
            assert event["event"] == "state"
            self.first[event["environment"]["name"]] = event["environment"]

    def next(self):
        reply = self.connection.receive()
        assert reply.get("continues") is True or "error" in reply
        event = self.connection.result(reply)
        assert event["sequence"] == self.sequence
        self.sequence += 1
        return event

    def expect(self, *events):
        for kind, name in events:
            event = self.next()
            assert (event["event"], event["environment"]["name"]) == (kind, name), event
        return event

    def close(self):
        self.connection.close()


@pytest.fixture
def watching(daemon):
    opened = []

    def watch(**parameters):
        opened.append(Watching(daemon, **parameters))
        return opened[-1]

    yield watch
    for one in opened:
        one.close()


def test_everything_in_order(daemon, root, watching):
    made = create(daemon, "a")
    w = watching()
    assert w.first == {"a": made} == daemon.environments()
    b = create(daemon, "b")
    assert w.expect(("created", "b"))["environment"] == b
    daemon.call("Delete", name="b")
    w.expect(("deleted", "b"))
    daemon.call("Restore", name="b")
    w.expect(("created", "b"))
    daemon.call("Rename", name="b", to="c")
    event = w.expect(("renamed", "c"))
    assert event["oldName"] == "b" and event["environment"]["id"] == b["id"]
    daemon.call("Clone", name="c", to="d")
    w.expect(("created", "d"))
    daemon.call("Protect", name="c")
    assert w.expect(("changed", "c"))["environment"]["protected"] is True
    daemon.call("Recreate", name="a")
    assert w.expect(("changed", "a"))["environment"]["id"] == made["id"]
    daemon.call("Delete", name="d", now=True)
    w.expect(("deleted", "d"))
    # By hand.
    (root / "a").rename(root / "x")
    assert w.expect(("renamed", "x"))["oldName"] == "a"
    shutil.rmtree(root / "x")
    assert w.expect(("changed", "x"))["environment"]["state"] == "missing"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", root / "y"], check=True)
    assert w.expect(("created", "y"))["environment"]["origin"] == "adopted"


def test_broken_and_repaired(daemon, tmp_path, watching):
    python = rebuilt_python(NEWEST, tmp_path / "python")
    daemon.call("Create", name="a", python=str(python), withoutPip=True)
    w = watching()
    python.rename(tmp_path / "away")
    assert w.expect(("broken", "a"))["environment"]["problem"]
    (tmp_path / "away").rename(python)
    w.expect(("repaired", "a"))


def test_some_names(daemon, watching):
    create(daemon, "a")
    create(daemon, "b")
    w = watching(names=["a", "later"])
    assert set(w.first) == {"a"}
    daemon.call("Delete", name="b")
    create(daemon, "later")
    w.expect(("created", "later"))
    daemon.call("Rename", name="a", to="z")     # it had one of the names
    assert w.expect(("renamed", "z"))["oldName"] == "a"


def test_who_fails_to_make_one_is_not_told_of(daemon, watching):
    w = watching()
    with pytest.raises(VarlinkError):
        daemon.call("Create", name="a", python="/nowhere/python")
    create(daemon, "b")
    w.expect(("created", "b"))


def test_many_watchers_and_an_end(start, root):
    daemon = start(root)
    watchers = [Watching(daemon) for _ in range(20)]
    create(daemon, "a")
    for w in watchers:
        w.expect(("created", "a"))
    for w in watchers[::2]:
        w.close()
    create(daemon, "b")
    for w in watchers[1::2]:
        w.expect(("created", "b"))
    assert daemon.stop() == 0
    for w in watchers[1::2]:
        assert w.connection.closed() == b""
        w.close()


def test_it_has_no_limit_of_time(start, root):
    daemon = start(root, "-o", "idle_timeout=1000", "-o", "stall_timeout=1000")
    w = Watching(daemon)
    other = daemon.connect()
    other.call("Status")
    assert other.closed() == b""        # a second later
    create(daemon, "a")
    w.expect(("created", "a"))
    w.close()
    daemon.stop()


def test_who_does_not_read(daemon, watching):
    """LIMIT_EVENTS_QUEUED, after what the sockets take: Overflow, and then from the beginning."""
    create(daemon, "a")
    w = watching()
    flag = True
    with daemon.connect() as c:
        for _ in range(8000):
            c.call("Protect", name="a", protected=flag)
            flag = not flag
    with pytest.raises(VarlinkError) as e:
        while True:
            w.next()
    assert e.value.name == "Overflow"
    assert 0 < w.sequence < 8000
    with daemon.connect() as c:
        assert c.call("Status")["connections"] >= 1


def test_it_needs_more(daemon):
    with pytest.raises(VarlinkError) as e:
        daemon.call("Watch")
    assert e.value.name == "ExpectedMore"


def test_from_the_command_line(daemon, root, venvctl):
    create(daemon, "a")
    environment = {"PATH": os.environ["PATH"], "HOME": str(root), "VENVD_ROOT": str(root)}
    lines = subprocess.Popen([VENVCTL, "events"], env=environment, stdout=subprocess.PIPE, text=True)
    objects = subprocess.Popen([VENVCTL, "events", "--json"], env=environment, stdout=subprocess.PIPE, text=True)
    assert json.loads(objects.stdout.readline())["event"] == "state"
    assert json.loads(objects.stdout.readline())["event"] == "ready"
    eventually(lambda: daemon.call("Status")["connections"] == 3)
    with daemon.connect() as c:         # its turn comes behind theirs
        c.call("Rename", name="a", to="b")
    assert json.loads(objects.stdout.readline())["oldName"] == "a"
    assert lines.stdout.readline().rstrip("\n").split("\t")[1:] == ["renamed", "b", "ready", "a"]
    for process in (lines, objects):
        process.send_signal(signal.SIGINT)
        process.wait()
        process.stdout.close()
