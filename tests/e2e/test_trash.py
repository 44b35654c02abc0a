# SPDX-License-Identifier: MIT
"""The trash: what is deleted can be taken back, and what was acknowledged survives kill -9."""
import os
import pathlib
import random
import select
import shutil
import time

import pytest

from conftest import DEADLINE, VarlinkError, interpreters
from helpers import eventually, mounted, needs_root, tree, wait_gone
from wire import Gate, fake_python

PYTHON = str(interpreters()[0])


def create(daemon, name, **parameters):
    return daemon.call("Create", name=name, python=PYTHON, withoutPip=True, **parameters)["environment"]


def refused(daemon, method, **parameters):
    with pytest.raises(VarlinkError) as e:
        daemon.call(method, **parameters)
    return e.value


def trash_directory(root):
    return sorted(p.name for p in (root / ".venvd" / "trash").iterdir())


def stage_is_empty(daemon):
    """Purges end before their answer; sweeps of the stage are jobs: once there are none, all is done."""
    eventually(lambda: (status := daemon.call("Status"))["jobsRunning"] + status["jobsQueued"] == 0)
    return not any((daemon.root / ".venvd" / "stage").iterdir())


# --- there and back ----------------------------------------------------------------------------

def test_delete_and_restore(daemon, root):
    made = create(daemon, "a", prompt="it's")
    (root / "a" / "mine").write_text("precious")
    before = tree(root / "a", mtimes=True)
    deleted = daemon.call("Delete", name="a")["environment"]
    assert deleted["state"] == "trashed" and deleted["id"] == made["id"]
    assert deleted["path"].startswith(str(root / ".venvd/trash/a~")) and os.path.isdir(deleted["path"])
    assert 7 * 24 * 3600 * 10**6 == deleted["expiresAt"] - deleted["deletedAt"]
    assert not (root / "a").exists() and daemon.environments() == {}
    assert daemon.trash() == [deleted]
    assert daemon.call("Status")["counts"]["trashed"] == 1
    restored = daemon.call("Restore", name="a")["environment"]
    assert restored == made and tree(root / "a", mtimes=True) == before
    assert daemon.trash() == [] and trash_directory(root) == []
    assert daemon.environments() == {"a": made}


def test_same_name_several_times(daemon, root):
    ids = []
    for _ in range(3):
        ids.append(create(daemon, "a")["id"])
        (root / "a" / "mine").write_text(ids[-1])
        daemon.call("Delete", name="a")
    assert [t["id"] for t in daemon.trash()] == ids[::-1]       # the newest first
    assert len(trash_directory(root)) == 3
    assert daemon.call("Restore", name="a", id=ids[1])["environment"]["id"] == ids[1]
    assert (root / "a" / "mine").read_text() == ids[1]
    taken = refused(daemon, "Restore", name="a")
    assert taken.name == "AlreadyExists" and taken.parameters == {"name": "a", "state": "ready"}
    daemon.call("Delete", name="a", now=True)
    assert daemon.call("Restore", name="a")["environment"]["id"] == ids[2]
    assert [t["id"] for t in daemon.trash()] == [ids[0]]


def test_list_trash_selects(daemon):
    for name in ("a1", "a2", "b1"):
        create(daemon, name)
        daemon.call("Delete", name=name)
    with daemon.connect() as c:
        assert [r["environment"] for r in c.stream("ListTrash", glob="a*", fields=["state"])] == [
            {"name": "a1", "state": "trashed"}, {"name": "a2", "state": "trashed"}]
        assert [e["name"] for e in c.call("ListTrash", name="b1")["environments"]] == ["b1"]
        assert c.call("ListTrash", name="c")["environments"] == []
        assert list(c.stream("ListTrash", name="c")) == [{}]
        assert c.call("List")["environments"] == []


def test_what_cannot_be_restored(daemon, root):
    create(daemon, "a")
    assert refused(daemon, "Restore", name="a").name == "NotInTrash"
    assert refused(daemon, "Restore", name="nothing").name == "NotInTrash"
    daemon.call("Delete", name="a")
    assert refused(daemon, "Restore", name="a", id="0" * 16).name == "NotInTrash"
    assert refused(daemon, "Restore", name="../a").name in ("NotInTrash", "InvalidName")


def test_restore_over_a_stranger(daemon, root):
    """A directory that came behind the daemon's back is never replaced, nor merged into."""
    create(daemon, "a")
    daemon.call("Delete", name="a")
    (root / "a").mkdir()
    assert refused(daemon, "Restore", name="a").name == "AlreadyExists"
    assert list((root / "a").iterdir()) == [] and [t["name"] for t in daemon.trash()] == ["a"]
    (root / "a").rmdir()
    assert daemon.call("Restore", name="a")["environment"]["state"] == "ready"


def test_what_cannot_be_deleted(daemon, start, root):
    error = refused(daemon, "Delete", name="nothing")
    assert error.name == "NoSuchEnvironment" and error.parameters == {"name": "nothing"}
    assert refused(daemon, "Delete", name="nothing", now=True).name == "NoSuchEnvironment"
    assert refused(daemon, "Delete", name=".venvd").name in ("NoSuchEnvironment", "InvalidName")
    daemon.stop()
    target = root / ".." / "elsewhere"
    target.mkdir()
    (root / "link").symlink_to(target)
    (root / "conda" / "conda-meta").mkdir(parents=True)
    again = start(root)
    for name in ("link", "conda"):
        for now in (False, True):
            error = refused(again, "Delete", name=name, now=now)
            assert error.name == "Unsupported" and error.parameters["name"] == name
    assert (root / "link").is_symlink() and (root / "conda" / "conda-meta").is_dir() and target.is_dir()


def test_deleting_what_has_gone(daemon, root):
    """The directory was removed or replaced behind the daemon's back: it is not touched."""
    create(daemon, "gone")
    create(daemon, "other")
    shutil.rmtree(root / "gone")
    (root / "other").rename(root / ".other")
    (root / "other").mkdir()
    for name in ("gone", "other"):
        if daemon.environments()[name]["state"] == "ready":     # else the watch was first
            try:
                assert daemon.call("Delete", name=name)["environment"]["state"] == "missing"
                continue
            except VarlinkError as e:
                assert e.name == "NoSuchEnvironment"
        assert daemon.environments()[name]["state"] == "missing"
        assert daemon.call("Delete", name=name)["environment"]["state"] == "missing"
    assert daemon.environments() == {} and (root / "other").is_dir() and trash_directory(root) == []
    assert create(daemon, "gone")["state"] == "ready"


# --- for good ----------------------------------------------------------------------------------

def test_now_live(daemon, root):
    create(daemon, "a")
    create(daemon, "b")
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    (root / "a" / "link").symlink_to(outside)
    (root / "a" / "locked").mkdir()
    (root / "a" / "locked" / "file").write_text("x")
    (root / "a" / "locked").chmod(0)
    assert daemon.call("Delete", name="a", now=True) == {}
    assert set(daemon.environments()) == {"b"} and daemon.trash() == []
    assert not (root / "a").exists() and stage_is_empty(daemon)
    assert (outside / "file").read_text() == "precious"


def test_now_in_the_trash_and_nothing_else(daemon, root):
    for name in ("a", "b", "a"):
        create(daemon, name)
        daemon.call("Delete", name=name)
    create(daemon, "a")
    assert daemon.call("Delete", name="a", now=True) == {}      # the live one
    assert [t["name"] for t in daemon.trash()] == ["a", "a", "b"]
    assert daemon.call("Delete", name="a", now=True) == {}      # what the trash holds under that name
    assert [t["name"] for t in daemon.trash()] == ["b"]
    assert len(trash_directory(root)) == 1 and stage_is_empty(daemon)
    assert refused(daemon, "Delete", name="a", now=True).name == "NoSuchEnvironment"


def test_now_spares_what_comes_into_the_trash_meanwhile(start, root, tmp_path):
    daemon = start(root, "-o", "jobs-running=1")
    create(daemon, "a")
    create(daemon, "c", path=str(tmp_path / "c"))
    daemon.call("Delete", name="a")
    gate = Gate(tmp_path / "gate")
    with daemon.connect() as building, daemon.connect() as emptying:
        building.send("Create", {"name": "b", "python": fake_python(tmp_path / "python", probe=gate.hold), "withoutPip": True})
        gate.wait()
        emptying.send("Delete", {"name": "a", "now": True})
        daemon.call("Rename", name="c", to="a")     # neither this nor a delete needs the place that the creation has
        later = daemon.call("Delete", name="a")["environment"]
        gate.go()
        assert "error" not in emptying.receive()
        assert [t["id"] for t in daemon.trash()] == [later["id"]]
        assert daemon.call("Restore", name="a")["environment"]["id"] == later["id"]
        building.receive()


def test_now_tries_each(start, root, tmp_path):
    """One that could not go keeps no other one in a trash from which nobody can take it back."""
    daemon = start(root, "-o", "jobs-running=1", "-o", "jobs-queued=1")
    for _ in range(3):
        create(daemon, "a")
        daemon.call("Delete", name="a")
    gate = Gate(tmp_path / "gate")
    slow = fake_python(tmp_path / "python", probe=gate.hold)
    with daemon.connect() as running, daemon.connect() as queued:
        running.send("FindInterpreter", {"python": [slow]})
        gate.wait()
        queued.send("FindInterpreter", {"python": [PYTHON]})
        eventually(lambda: daemon.call("Status")["jobsQueued"] == 1)
        assert refused(daemon, "Delete", name="a", now=True).name == "Failed"
        again = [t["expiresAt"] - time.time_ns() // 1000 for t in daemon.trash()]
        assert len(again) == 3 and max(again) <= 3600 * 10**6
        gate.go()
        queued.receive()
    assert daemon.call("Delete", name="a", now=True) == {}
    assert daemon.trash() == [] and trash_directory(root) == []


def test_a_deep_tree_goes_away(daemon, root):
    """Deeper than a stack or a table of descriptors could follow, and than any path could name."""
    create(daemon, "deep")
    fd = os.open(root / "deep", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("directory", dir_fd=fd)
        inner = os.open("directory", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    daemon.call("Delete", name="deep", now=True)
    assert not (root / "deep").exists() and stage_is_empty(daemon)


@needs_root
def test_a_mount_inside_is_not_crossed(daemon, root, tmp_path):
    create(daemon, "a")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("precious")
    (root / "a" / "mnt").mkdir()
    with mounted(root / "a" / "mnt", "--bind", str(tmp_path / "data")):
        try:
            daemon.call("Delete", name="a", now=True)
        except VarlinkError as e:
            assert e.name == "Failed" and "mount" in e.parameters["reason"]
        assert (tmp_path / "data" / "file").read_text() == "precious"


@needs_root
@pytest.mark.parametrize("how", ["now", "now, from the trash", "empty"])
def test_what_refuses_to_go_is_told(daemon, root, venvctl, how):
    """Something mounted, or of another owner, stays in the stage: that is no removal without a remark."""
    create(daemon, "a")
    (root / "a" / "mnt").mkdir()
    with mounted(root / "a" / "mnt", "-t", "tmpfs", "none"):
        if how != "now":
            daemon.call("Delete", name="a")
        done = venvctl(*(["trash", "empty", "-y"] if how == "empty" else ["delete", "-y", "--now", "a"]))
        assert done.returncode == 0 and "removed " in done.stderr
        assert "warning: a part of 'a' refuses to be removed, and is left in '.venvd/stage': 'mnt': is a mount point\n" in done.stderr
        assert daemon.environments() == {} and daemon.trash() == []
        assert [path.name for path in (root / ".venvd/stage").glob("a~*/tree/*")] + [
            path.name for path in (root / ".venvd/stage").glob("a~*/*") if path.name == "mnt"] != []


@pytest.mark.parametrize("seconds", [0, 1])
def test_retention(start, root, seconds):
    daemon = start(root, "-o", f"trash-retention={seconds}")
    create(daemon, "a")
    watch = Watch(root / ".venvd" / "trash")
    deleted = daemon.call("Delete", name="a")["environment"]
    assert deleted["expiresAt"] == deleted["deletedAt"] + seconds * 10**6
    watch.until(lambda: not trash_directory(root))
    assert time.time() * 10**6 >= deleted["expiresAt"]
    assert stage_is_empty(daemon)
    assert daemon.trash() == [] and refused(daemon, "Restore", name="a").name == "NotInTrash"


def test_retention_over_a_restart(start, root):
    """What was to be kept for a week is, by the next daemon's rule, long due."""
    daemon = start(root)
    create(daemon, "a")
    create(daemon, "b")
    daemon.call("Delete", name="a")
    daemon.stop()
    watch = Watch(root / ".venvd" / "trash")
    again = start(root, "-o", "trash-retention=0")
    watch.until(lambda: not trash_directory(root))
    assert stage_is_empty(again) and again.trash() == [] and set(again.environments()) == {"b"}


class Watch:
    """Tells of changes in a directory, by the kernel's own notification."""

    def __init__(self, path):
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert libc.inotify_add_watch(self.fd, os.fsencode(path), 0x3c6) >= 0      # create, delete, move, write

    def until(self, condition):
        end = time.monotonic() + DEADLINE
        while not condition():
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            assert ready, "nothing has changed"
            os.read(self.fd, 65536)
        os.close(self.fd)


# --- without the catalog, and after kill -9 ----------------------------------------------------

def remove_catalog(root):
    for path in (root / ".venvd").glob("catalog.db*"):
        path.unlink()


def test_restorable_without_the_catalog(daemon, start, root):
    made = create(daemon, "a", prompt="p")
    create(daemon, "a2")
    first = daemon.call("Delete", name="a")["environment"]
    create(daemon, "a")
    second = daemon.call("Delete", name="a")["environment"]
    daemon.stop()
    remove_catalog(root)
    again = start(root)
    assert again.trash() == [second, first]
    assert again.call("Restore", name="a", id=first["id"])["environment"] == made
    assert set(again.environments()) == {"a", "a2"}


def test_restorable_without_catalog_and_record(daemon, start, root):
    """Even then the directory's name says enough."""
    create(daemon, "a")
    deleted = daemon.call("Delete", name="a")["environment"]
    daemon.stop()
    remove_catalog(root)
    record = pathlib.Path(deleted["path"]).parent / "record.json"
    record.write_text("{ broken")
    again = start(root)
    trashed = again.trash()
    assert [(t["name"], t["deletedAt"]) for t in trashed] == [("a", deleted["deletedAt"])]
    assert again.call("Restore", name="a")["environment"]["state"] == "ready"
    again.stop()
    third = start(root)
    eventually(lambda: third.environments()["a"].get("version"))    # it is looked into after the start
    assert third.environments()["a"]["state"] == "ready"


@pytest.mark.parametrize("levels", [20, 2046])
def test_a_record_that_is_nested_deeper_than_any(daemon, start, root, levels):
    """It is none of ours, and keeps nobody from reading the others."""
    for name in "ab":
        create(daemon, name)
    a, b = (daemon.call("Delete", name=name)["environment"] for name in "ab")
    daemon.stop()
    (pathlib.Path(b["path"]).parent / "record.json").write_text('{"a":' * levels + "1" + "}" * levels)
    again = start(root)
    assert {t["id"] for t in again.trash()} == {a["id"], b["id"]}
    again.stop()
    remove_catalog(root)
    third = start(root)
    assert [t["id"] for t in third.trash() if t["name"] == "a"] == [a["id"]]
    assert third.call("Restore", name="b")["environment"]["state"] == "ready"


def test_a_trash_entry_that_is_not_ours_stays(daemon, start, root):
    daemon.stop()
    strange = root / ".venvd" / "trash" / "something" / "tree"
    strange.mkdir(parents=True)
    (strange / "file").write_text("precious")
    again = start(root)
    assert again.trash() == [] and (strange / "file").exists()


def model_step(rng, daemon, live, trashed):
    """One random operation; the model follows what was acknowledged."""
    choices = ["create"] if len(live) < 4 else []
    choices += ["delete", "delete-now"] if live else []
    restorable = [t for t in trashed if t[0] not in live]
    choices += ["restore"] if restorable else []
    what = rng.choice(choices)
    if what == "create":
        name = rng.choice([n for n in ("a", "b", "c", "d", "e") if n not in live])
        live[name] = create(daemon, name)["id"]
    elif what == "delete":
        name = rng.choice(sorted(live))
        daemon.call("Delete", name=name)
        trashed.append((name, live.pop(name)))
    elif what == "delete-now":
        name = rng.choice(sorted(live))
        daemon.call("Delete", name=name, now=True)
        live.pop(name)
    else:
        name, identity = rng.choice(restorable)
        daemon.call("Restore", name=name, id=identity)
        trashed.remove((name, identity))
        live[name] = identity
    return f"{what} {name}"


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_after_every_acknowledgement(start, root, seed):
    rng = random.Random(seed)
    live, trashed, told = {}, [], []
    daemon = start(root)
    for _ in range(10):
        told.append(model_step(rng, daemon, live, trashed))
        workers = [int(p) for p in
                   pathlib.Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()]
        daemon.kill()
        for pid in workers:
            wait_gone(pid)
        if rng.random() < 0.2:
            remove_catalog(root)
            told.append("no catalog")
        daemon = start(root)
        found = daemon.environments()
        assert set(found) == set(live), told
        assert {e["state"] for e in found.values()} <= {"ready"}, (told, found)
        if "no catalog" not in told:
            assert {n: e["id"] for n, e in found.items()} == live, told
        live = {n: e["id"] for n, e in found.items()}
        in_trash = [(t["name"], t["id"]) for t in daemon.trash()]
        assert sorted(n for n, _ in in_trash) == sorted(n for n, _ in trashed), told
        trashed = in_trash
        for name in live:
            assert (root / name / "bin" / "python").exists()
        assert {p.name for p in root.iterdir()} == {".venvd", *live}, told
    assert stage_is_empty(daemon)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_deleted_restored_and_killed_at_once(daemon, start, root, tmp_path, elsewhere):
    """A row that nobody waits for may not be on the disk by then; that it was deleted, under this id, still is known."""
    made = create(daemon, "a", path=str(tmp_path / "a") if elsewhere else None)
    with daemon.connect() as connection:
        connection.send("Delete", {"name": "a", "requestId": "first"})
        connection.send("Restore", {"name": "a"})
        assert not any("error" in connection.receive() for _ in range(2))
    daemon.kill()
    again = start(root)
    again.call("Delete", name="a", requestId="first")
    assert again.environments()["a"]["id"] == made["id"] and again.trash() == []
