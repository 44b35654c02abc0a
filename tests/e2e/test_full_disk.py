# SPDX-License-Identifier: MIT
"""A file system that is really full: a small one of its own (ext4, xfs) on a loop device, without a byte or without an
inode that is free.

What needs no room, and what gives room back, works as ever: list, get, prompt, delete, restore, protect. What needs room is
refused with NoSpace and has changed nothing. Both without a restart, after one, and after a crash; and once there is room
everything works again, in the same daemon.
"""
import contextlib
import errno
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from conftest import VarlinkError
from helpers import eventually, mounted, needs_root, tree
from wire import IN_PLACE

pytestmark = needs_root
PYTHON = "/usr/bin/python3"
# The smallest that each still makes; -m 0: nothing is set aside for root, as whom we fill it.
MAKE = {"ext4": (40, ["mkfs.ext4", "-q", "-m", "0", "-J", "size=4", "-N", "6000"]), "xfs": (300, ["mkfs.xfs", "-q"])}


@contextlib.contextmanager
def small(tmp_path, kind):
    """A file system of this kind, empty."""
    size, make = MAKE[kind]
    if not shutil.which(make[0]):
        pytest.skip(f"no {make[0]} here")
    image = tmp_path / "image"
    with open(image, "wb") as f:
        f.truncate(size << 20)
    subprocess.run([*make, str(image)], check=True)
    where = tmp_path / "small"
    where.mkdir()
    with mounted(where, "-o", "loop", str(image)):
        yield where


def take_bytes(where):
    """Every block that is left; the file system gives them away without writing them."""
    filler = where / "filler"
    filler.mkdir(exist_ok=True)
    with open(filler / "blocks", "ab") as f:
        at, size = os.fstat(f.fileno()).st_size, 1 << 28
        while size >= 4096:
            try:
                os.posix_fallocate(f.fileno(), at, size)
                at += size
            except OSError as e:
                assert e.errno == errno.ENOSPC
                size //= 2
    os.sync()


def take_inodes(where):
    filler = where / "filler"
    filler.mkdir(exist_ok=True)
    try:
        while True:
            one = pathlib.Path(tempfile.mkdtemp(dir=filler))
            for number in range(1000):
                os.close(os.open(one / str(number), os.O_CREAT | os.O_WRONLY | os.O_EXCL))
    except OSError as e:
        assert e.errno == errno.ENOSPC
    os.sync()


TAKE = {"bytes": take_bytes, "inodes": take_inodes}


def is_full(where):
    """Not one more file of a block can be made. (xfs keeps some that it counts as free.)"""
    try:
        (where / "one more").write_bytes(bytes(4096))
    except OSError as e:
        return e.errno == errno.ENOSPC
    finally:
        (where / "one more").unlink(missing_ok=True)
    return False


def make_room(where):
    shutil.rmtree(where / "filler")
    os.sync()


def create(daemon, name, **parameters):
    return daemon.call("Create", name=name, python=PYTHON, withoutPip=True, **parameters)["environment"]


def trees(root, names):
    return {name: tree(root / name, mtimes=True) for name in names}


def refuses(daemon, root, method, **parameters):
    """With one sentence that says why, and nothing is changed by it."""
    names = [n for n in os.listdir(root) if n != ".venvd"]
    before = daemon.environments(), daemon.trash(), trees(root, names)
    with pytest.raises(VarlinkError) as e:
        daemon.call(method, **parameters)
    assert e.value.name == "NoSpace", (method, e.value)
    reason = e.value.parameters["reason"]
    assert "\n" not in reason and ("No space left on device" in reason or "full" in reason), reason
    eventually(lambda: os.listdir(root / ".venvd/stage") == [])
    assert (daemon.environments(), daemon.trash(), trees(root, [n for n in os.listdir(root) if n != ".venvd"])) == before


def works(daemon, root, name):
    """What must work at nothing free."""
    rows, whole = daemon.environments(), tree(root / name, mtimes=True)
    assert daemon.call("Get", name=name)["environment"] == rows[name]
    assert daemon.call("Prompt", name=name)
    assert daemon.call("Protect", name=name)["environment"]["protected"]
    assert not daemon.call("Protect", name=name, protected=False)["environment"].get("protected")
    for number in range(3):
        more = {"requestId": f"{name}-{number}-{daemon.pid}"} if number else {}
        assert daemon.call("Delete", name=name, **more)["environment"]["state"] == "trashed"
        assert name not in daemon.environments()
        more = {"requestId": f"{name}-{number}-{daemon.pid}-back"} if number else {}
        assert daemon.call("Restore", name=name, **more)["environment"]["state"] == "ready"
        assert tree(root / name, mtimes=True) == whole and daemon.environments() == rows


NEEDS_ROOM = [
    ("Create", {"name": "x", "python": PYTHON, "withoutPip": True}),
    ("Create", {"name": "x", "python": PYTHON}),
    ("Create", {"name": "x", "python": PYTHON, "withoutPip": True, "caller": IN_PLACE}),
    ("Clone", {"name": "a", "to": "x"}),
    ("Rename", {"name": "a", "to": "x"}),
    ("Recreate", {"name": "a"}),
]


@pytest.mark.parametrize("kind,what", [("ext4", "bytes"), ("ext4", "inodes"), ("xfs", "bytes")])
def test_at_nothing_free(start, tmp_path, kind, what):
    with small(tmp_path, kind) as where:
        root = where / "envs"

        def run():
            daemon = start(root, "-o", "pool_entries=0")
            assert daemon.said.startswith("ready "), daemon.log()
            return daemon

        def fill():
            TAKE[what](where)
            assert is_full(where)

        daemon = run()
        for name in "abcd":
            create(daemon, name)
        fill()
        works(daemon, root, "a")
        fill()          # what a delete was given and the restore gave back
        for method, parameters in NEEDS_ROOM:
            refuses(daemon, root, method, **parameters)
        fill()
        daemon.kill()
        daemon = run()
        works(daemon, root, "b")
        fill()
        assert daemon.stop() == 0
        fill()          # the socket's inode
        daemon = run()
        works(daemon, root, "c")
        assert daemon.call("Delete", name="d")["environment"]["state"] == "trashed"
        fill()
        refuses(daemon, root, "Create", name="x", python=PYTHON, withoutPip=True)
        make_room(where)
        assert create(daemon, "x")["state"] == "ready"
        for method in ("Clone", "Rename"):
            assert daemon.call(method, name="x", to=f"{method}d")["environment"]["state"] == "ready"
        assert daemon.call("Recreate", name="a")["environment"]["state"] == "ready"
        assert set(daemon.environments()) == {"a", "b", "c", "Cloned", "Renamed"}
        assert daemon.stop() == 0


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_many_deletes_and_the_way_out(start, tmp_path, what):
    """The reserve is enough for a whole batch; what gives room back works, and then the reserve is made whole again."""
    with small(tmp_path, "ext4") as where:
        root = where / "envs"
        daemon = start(root, "-o", "pool_entries=0")
        names = [f"e{number:02}" for number in range(40)]
        for name in names:
            create(daemon, name)
        reserve = root / ".venvd/reserve"
        eventually(lambda: len(os.listdir(reserve)) == 128)
        TAKE[what](where)
        assert is_full(where)
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(daemon.connect()) for _ in names]
            for connection, name in zip(connections, names, strict=True):
                connection.send("Delete", {"name": name, "force": True})
            for connection in connections:
                assert connection.result(connection.receive())["environment"]["state"] == "trashed"
        assert len(os.listdir(reserve)) < 128
        assert not daemon.environments() and {t["name"] for t in daemon.trash()} == set(names)
        for name in names[:20]:
            assert daemon.call("Restore", name=name)["environment"]["state"] == "ready"
        TAKE[what](where)
        daemon.call("Delete", name=names[0], now=True)
        daemon.call("Delete", name=names[39], now=True)
        assert daemon.call("EmptyTrash")["removed"] == 19
        assert set(daemon.environments()) == set(names[1:20]) and not daemon.trash()
        make_room(where)
        create(daemon, "x")
        eventually(lambda: len(os.listdir(reserve)) == 128)
        assert daemon.stop() == 0


@pytest.mark.slow
def test_a_pool_that_finds_no_room(start, tmp_path):
    """It takes nothing of the reserve; what was ready is given out, and there is one answer when there is no more."""
    with small(tmp_path, "ext4") as where:
        root = where / "envs"
        daemon = start(root, env={"VENVD_POOL": "1"})
        create(daemon, "a")
        reserve = root / ".venvd/reserve"
        eventually(lambda: len(os.listdir(reserve)) == 128 and daemon.call("Status")["jobsRunning"] == 0)
        take_bytes(where)
        ready = 0
        with pytest.raises(VarlinkError) as e:      # what was prepared has its room; then there is no more
            while ready < 100:
                ready += create(daemon, f"b{ready}")["state"] == "ready"
        assert e.value.name == "NoSpace", e.value
        assert len(os.listdir(reserve)) == 128
        names = {"a", *(f"b{number}" for number in range(ready))}
        assert set(daemon.environments()) == names and {n for n in os.listdir(root) if n != ".venvd"} == names
        assert daemon.call("Delete", name="a")["environment"]["state"] == "trashed"
        make_room(where)
        assert create(daemon, "c")["state"] == "ready"
        assert daemon.stop() == 0
