# SPDX-License-Identifier: MIT
"""What was seen of the root, and what has become of it by the time that it is told: operations come in between, and others
move directories to names that somebody is about to use."""
import contextlib
import os
import pathlib
import shutil
import signal
import time

import pytest

import wire
from conftest import VarlinkError, interpreters
from helpers import children, eventually, held, rebuilt_python
from test_faults import traced, idle    # noqa: F401
from test_watch import create, soon, state

PYTHON = str(interpreters()[0])
NEWEST = str(interpreters()[-1])


def ids(daemon):
    return {name: env["id"] for name, env in daemon.environments().items()}


def resident(pid):
    for child in children(pid):
        if b"resident" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    raise AssertionError("no resident worker")


def stop_amid_its_work(pid):
    """A worker that has an order of its own and has read some files is stopped; None if there is none any more."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in children(pid):
                io = pathlib.Path(f"/proc/{child}/io").read_text()
                order = b"order" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes()
                if order and int(io.split("syscr: ")[1].split()[0]) > 256:
                    os.kill(child, signal.SIGSTOP)
                    return child
    return None


# --- names that are taken ---

def test_renamed_to_the_name_of_one_elsewhere(start, root, tmp_path):
    """That one has lost nothing: its directory is where it was. The other's has a name that it cannot have."""
    daemon = start(root)
    elsewhere = create(daemon, "b", path=str(tmp_path / "project"))
    daemon.call("Protect", name="b")
    inside = create(daemon, "a")
    (root / "a").rename(root / "b")
    soon(lambda: state(daemon, "a") == "missing")
    for _ in range(2):
        row = daemon.environments()["b"]
        assert (row["id"], row["path"], row["protected"]) == (elsewhere["id"], str(tmp_path / "project"), True)
        daemon.stop()
        daemon = start(root)
        assert state(daemon, "a") == "missing"
    (root / "b").rename(root / "a")
    soon(lambda: state(daemon, "a") == "ready")
    assert ids(daemon) == {"a": inside["id"], "b": elsewhere["id"]}


@pytest.mark.parametrize("meanwhile", ["Clone", "Rename"])
def test_renamed_to_a_name_that_is_being_taken(start, root, tmp_path, meanwhile):
    """The look at it waits for a place; by then somebody is about to have that name."""
    gate = wire.Gate(tmp_path / "gate")
    slow = wire.fake_python(tmp_path / "slow", probe=gate.hold)
    daemon = start(root, "-o", "jobs-running=1")
    made = {name: create(daemon, name)["id"] for name in ("a", "c")}
    idle(daemon)
    with daemon.connect() as holder, daemon.connect() as c:
        holder.send("FindInterpreter", {"python": [slow]})
        gate.wait()
        (root / "a").rename(root / "b")
        eventually(lambda: daemon.call("Status")["jobsQueued"] == 1)
        c.send(meanwhile, {"name": "c", "to": "b"})
        eventually(lambda: daemon.call("Status")["jobsQueued"] == 2)
        gate.go()
        with pytest.raises(VarlinkError) as e:
            c.result(c.receive())
        assert e.value.name == "AlreadyExists"
    soon(lambda: ids(daemon) == {"b": made["a"], "c": made["c"]})
    soon(lambda: {row["state"] for row in daemon.environments().values()} == {"ready"})


@contextlib.contextmanager
def looking(daemon, tmp_path, change):
    """What has changed is yet to be looked into, for all places are taken."""
    gate = wire.Gate(tmp_path / "gate")
    with daemon.connect() as holder:
        holder.send("FindInterpreter", {"python": [wire.fake_python(tmp_path / "slow", probe=gate.hold)]})
        gate.wait()
        change()
        eventually(lambda: daemon.call("Status")["jobsQueued"] == 1)
        yield
        gate.go()
        holder.receive()


def test_another_one_has_its_name_by_then(start, root, tmp_path):
    """A stranger was seen there, and one that is known is there: that is not the first one, made anew."""
    daemon = start(root, "-o", "jobs-running=1")
    made = {name: create(daemon, name)["id"] for name in ("a", "b")}
    wire.fake_environment(tmp_path, "stranger")
    idle(daemon)

    def change():
        (root / "a").rename(tmp_path / "away")
        (tmp_path / "stranger").rename(root / "a")

    with looking(daemon, tmp_path, change):
        (root / "a").rename(tmp_path / "stranger")
        (root / "b").rename(root / "a")
    soon(lambda: ids(daemon) == {"a": made["b"]})
    (tmp_path / "away").rename(root / "c")
    soon(lambda: ids(daemon) == {"a": made["b"], "c": made["a"]})
    assert "anew" not in daemon.log()


def test_swapped_before_a_look_that_is_not_for_that(start, root, tmp_path):
    """All environments of a Python are looked into."""
    python = rebuilt_python(NEWEST, tmp_path / "python")
    daemon = start(root, "-o", "jobs-running=1")
    made = {name: daemon.call("Create", name=name, python=str(python), withoutPip=True)["environment"]["id"] for name in "ab"}
    idle(daemon)
    with looking(daemon, tmp_path, lambda: python.rename(tmp_path / "away")):
        (root / "a").rename(root / "x")
        (root / "b").rename(root / "a")
        (root / "x").rename(root / "b")
    soon(lambda: ids(daemon) == {"a": made["b"], "b": made["a"]})
    soon(lambda: [state(daemon, name) for name in "ab"] == ["broken", "broken"])
    assert "anew" not in daemon.log()


# --- operations that come in between ---

def test_removed_while_an_operation_that_sees_nothing_of_it(daemon, root):
    """Who only marks it does not know that its directory has gone: it is looked at once more."""
    create(daemon, "a")
    wire.fake_environment(root, "x")
    soon(lambda: state(daemon, "x") == "ready")     # and nothing is to be looked at any more
    worker = resident(daemon.pid)
    os.kill(worker, signal.SIGSTOP)
    try:
        shutil.rmtree(root / "a")
        with daemon.connect() as c, daemon.connect() as other:
            c.send("Create", {"name": "a", "python": PYTHON, "withoutPip": True})     # waits for the look
            for _ in range(3):
                other.call("Status")
            other.call("Protect", name="a")
            os.kill(worker, signal.SIGCONT)
            made = c.result(c.receive())["environment"]
    finally:
        os.kill(worker, signal.SIGCONT)
    assert (root / "a/pyvenv.cfg").exists() and made["state"] == "ready"


def test_a_base_is_removed_while_one_is_busy(start, root, tmp_path):
    """The first of a copy is looked at when that has come to its end."""
    python = rebuilt_python(NEWEST, tmp_path / "python")
    daemon = start(root, "-o", "jobs-running=4")
    for name in ("a", "b"):
        daemon.call("Create", name=name, python=str(python), withoutPip=True)
    idle(daemon)
    with daemon.connect() as c:
        c.send("Clone", {"name": "a", "to": "c"}, more=True)
        assert c.receive()["parameters"]["stage"] == "copy"
        worker, = [pid for pid in children(daemon.pid) if pid != resident(daemon.pid)]
        os.kill(worker, signal.SIGSTOP)
        try:
            python.rename(tmp_path / "away")
            soon(lambda: state(daemon, "b") == "broken")
        finally:
            os.kill(worker, signal.SIGCONT)
        while c.receive().get("continues"):
            pass
    soon(lambda: [state(daemon, name) for name in ("a", "b")] == ["broken", "broken"])


def test_seen_before_it_was_deleted_or_marked(traced, root, tmp_path):      # noqa: F811
    """A worker tells two seconds late what it has seen of the environments of a Python that is gone. Who was deleted meanwhile
    is no stranger, and who was only marked is looked into again."""
    python = rebuilt_python(NEWEST, tmp_path / "python")
    daemon = traced("sendto:delay_enter=2000000:when=1")
    for name in ("a", "b", "c"):
        daemon.call("Create", name=name, python=str(python), withoutPip=True)
    idle(daemon)
    pid = daemon.call("Status")["pid"]
    python.rename(tmp_path / "away")
    eventually(lambda: any(held(child) for child in children(pid)))
    daemon.call("Delete", name="a")
    daemon.call("Protect", name="b")
    assert state(daemon, "c") == "ready"                # nothing of it has been told
    soon(lambda: state(daemon, "c") == "broken")
    soon(lambda: state(daemon, "b") == "broken")
    idle(daemon)
    assert set(ids(daemon)) == {"b", "c"} and [e["name"] for e in daemon.trash()] == ["a"]


# --- looks that somebody waits for, or nobody gets ---

@pytest.fixture
def settled(daemon, root):
    """A daemon with 'a' and 'x', in whose root nothing is to be looked at any more."""
    create(daemon, "a")
    wire.fake_environment(root, "x")
    soon(lambda: state(daemon, "x") == "ready")
    return daemon


def test_who_leaves_a_call_with_an_id_behind(settled, root):
    """While it waits for a look, too, it is done."""
    worker = resident(settled.pid)
    os.kill(worker, signal.SIGSTOP)
    try:
        shutil.rmtree(root / "a")
        with settled.connect() as c, settled.connect() as other:
            c.send("Create", {"name": "a", "python": PYTHON, "withoutPip": True, "requestId": "1"})
            other.call("Status")
            c.close()
            assert settled.call("Status")["connections"] == 2
    finally:
        os.kill(worker, signal.SIGCONT)
    soon(lambda: state(settled, "a") == "ready" and (root / "a/pyvenv.cfg").exists())
    made = settled.environments()["a"]
    assert settled.call("Create", name="a", python=PYTHON, withoutPip=True, requestId="1")["environment"] == made


def test_removed_behind_many_others(settled, root):
    """The kernel has more to tell than is read at a time."""
    with settled.connect() as c:
        c.call("Status")
        os.kill(settled.pid, signal.SIGSTOP)
        try:
            for _ in range(2000):
                (root / "d").mkdir()
                (root / "d").rmdir()
            shutil.rmtree(root / "a")
            c.send("Create", {"name": "a", "python": PYTHON, "withoutPip": True})
        finally:
            os.kill(settled.pid, signal.SIGCONT)
        assert c.result(c.receive())["environment"]["state"] == "ready"


def test_many_wait_for_one_look(settled, root):
    """Calls that want no answer, too, are counted: LIMIT_SHORT_ORDERS is 1024."""
    worker = resident(settled.pid)
    os.kill(worker, signal.SIGSTOP)
    call = {"name": "a", "python": PYTHON, "withoutPip": True}
    try:
        shutil.rmtree(root / "a")
        with settled.connect() as c:
            for _ in range(1024):
                c.send("Create", call, oneway=True)
            with pytest.raises(VarlinkError) as e:
                c.call("Create", **call)
            assert e.value.name == "Busy"
    finally:
        os.kill(worker, signal.SIGCONT)
    soon(lambda: state(settled, "a") == "ready" and (root / "a/pyvenv.cfg").exists())


def test_made_while_much_is_waiting(start, root, tmp_path):
    """As much work in the background as may wait there: one look more is not refused."""
    daemon = start(root, "-o", "jobs-running=1", "-o", "jobs-queued=1", "-o", "trash-retention=1")
    create(daemon, "a")
    wire.fake_environment(tmp_path, "b")
    idle(daemon)
    gate = wire.Gate(tmp_path / "gate")
    with daemon.connect() as c:
        c.send("FindInterpreter", {"python": [wire.fake_python(tmp_path / "slow", probe=gate.hold)]})
        gate.wait()
        daemon.call("Delete", name="a")         # it is due in a second
        eventually(lambda: daemon.call("Status")["jobsQueued"] == 1)
        (tmp_path / "b").rename(root / "b")
        time.sleep(0.3)                         # the look has been, and what it found is to be looked into
        gate.go()
        c.receive()
    soon(lambda: state(daemon, "b") == "ready")


def test_removed_while_the_worker_has_as_much_as_it_takes(settled, root):
    """LIMIT_SHORT_ORDERS is 1024; for the daemon's own looks there is room."""
    for i in range(1100):
        wire.fake_environment(root, f"e{i}")
    soon(lambda: settled.call("Status")["counts"]["ready"] == 1102)
    idle(settled)
    worker = resident(settled.pid)
    os.kill(worker, signal.SIGSTOP)
    try:
        with settled.connect() as c:
            for i in range(1100):
                c.send("Delete", {"name": f"e{i}"}, oneway=True)
            c.call("Status")
            shutil.rmtree(root / "a")
            time.sleep(0.3)                     # the look is ordered by then: it waits behind all of those
    finally:
        os.kill(worker, signal.SIGCONT)
    soon(lambda: state(settled, "a") == "missing")


def test_marked_by_the_first_call(start, root, tmp_path):
    """The call that has started the daemon is done before the start has looked into anything."""
    python = rebuilt_python(NEWEST, tmp_path / "python")
    daemon = start(root)
    for name in ("a", "b"):
        daemon.call("Create", name=name, python=str(python), withoutPip=True)
    daemon.call("Create", name="c", python=str(python), withoutPip=True, path=str(tmp_path / "c"))
    daemon.stop()
    python.unlink()
    daemon = start(root)
    with daemon.connect() as c:
        c.call("Protect", name="a")
        c.call("Protect", name="c")
    soon(lambda: [state(daemon, name) for name in ("a", "b", "c")] == ["broken"] * 3)


def test_swapped_while_the_start_is_told_of_them(start, root):
    """A worker has looked at some of them, and tells it when they have each other's names."""
    wire.fake_environments(root, 2048)
    start(root).stop()
    daemon = start(root)
    worker = stop_amid_its_work(daemon.pid)
    if worker is None:
        pytest.skip("it has told it all")
    try:
        before = {(root / name).stat().st_ino: one for name, one in ids(daemon).items()}
        names = sorted(ids(daemon))[:1024]
        for one, other in zip(names[::2], names[1::2], strict=True):
            (root / one).rename(root / "x")
            (root / other).rename(root / one)
            (root / "x").rename(root / other)
        after = {name: before[(root / name).stat().st_ino] for name in ids(daemon)}
        eventually(lambda: ids(daemon) == after)
    finally:
        os.kill(worker, signal.SIGCONT)
    idle(daemon)
    assert ids(daemon) == after
    assert "anew" not in daemon.log()       # as what another one is


# --- a name that one elsewhere has ---

@pytest.mark.parametrize("how", ["delete", "purge", "rename"])
def test_what_has_its_name_in_the_root(daemon, root, tmp_path, how):
    """It is nobody's as long as there is one elsewhere of that name, and adopted when there is none any more."""
    daemon.call("Create", name="x", python=PYTHON, withoutPip=True, path=str(tmp_path / "out"))
    wire.fake_environment(root, "x")
    wire.fake_environment(root, "y")
    soon(lambda: state(daemon, "y") == "ready")
    assert daemon.environments()["x"]["path"] == str(tmp_path / "out")
    if how == "rename":
        daemon.call("Rename", name="x", to="z")
    else:
        daemon.call("Delete", name="x", now=how == "purge")
    soon(lambda: daemon.environments().get("x", {}).get("path") == f"{root}/x")
    assert set(daemon.environments()) == {"x", "y", *(["z"] if how == "rename" else [])}
