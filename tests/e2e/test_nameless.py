# SPDX-License-Identifier: MIT
"""Whose directory is out of sight, and whose name is somebody else's by then, is what it was when its directory comes back."""
import contextlib
import shutil
import sqlite3
import time

import pytest

from conftest import VarlinkError, interpreters
from helpers import eventually
from test_limits import LIMITS
from wire import fake_environment, fake_environments

PYTHON = str(interpreters()[0])
WEEK = 7 * 24 * 3600 * 10**6


def create(daemon, name):
    return daemon.call("Create", name=name, python=PYTHON, withoutPip=True)["environment"]


def state(daemon, name):
    env = daemon.environments().get(name)
    return env and env["state"]


def soon(condition):
    eventually(condition, 10)


def taken_by_a_known_one(daemon, root):
    create(daemon, "other")
    (root / "other").rename(root / "mine")


def taken_by_a_stranger(daemon, root):
    fake_environment(root.parent, "mine").rename(root / "mine")


def taken_by_a_link(daemon, root):
    (root / "mine").symlink_to(root.parent)


def taken_by_create(daemon, root):
    create(daemon, "mine")


def taken_by_rename(daemon, root):
    create(daemon, "other")
    daemon.call("Rename", name="other", to="mine")


def taken_by_clone(daemon, root):
    create(daemon, "other")
    daemon.call("Clone", name="other", to="mine")


def taken_by_restore(daemon, root):
    create(daemon, "other")
    daemon.call("Delete", name="other")
    daemon.call("Restore", name="other", **{"as": "mine"})


def taken_by_adopt(daemon, root):
    daemon.call("Adopt", name="mine", path=str(fake_environment(root.parent, "elsewhere")))


TAKEN = [taken_by_a_known_one, taken_by_a_stranger, taken_by_a_link, taken_by_create, taken_by_rename, taken_by_clone,
         taken_by_restore, taken_by_adopt]


def gives_way(daemon, root, take=taken_by_create):
    """What 'mine' was, carried out of the root; the name is another one's now."""
    create(daemon, "mine")
    daemon.call("Protect", name="mine", protected=True)
    before = daemon.environments()["mine"]
    (root / "mine").rename(root.parent / "away")
    soon(lambda: state(daemon, "mine") == "missing")
    take(daemon, root)
    soon(lambda: state(daemon, "mine") in ("ready", "foreign") and daemon.environments()["mine"]["id"] != before["id"])
    assert set(daemon.environments()) <= {"mine", "other"}
    return before


def is_back(daemon, root, before, name="back"):
    soon(lambda: state(daemon, name) == "ready")
    moved = {"name": name, "path": str(root / name), "executable": str(root / name / "bin" / "python")}
    assert daemon.environments()[name] == before | moved


def rows(root):
    with contextlib.closing(sqlite3.connect(root / ".venvd" / "catalog.db")) as db:
        return {name for name, in db.execute("SELECT name FROM environment WHERE state <> 'trashed'")}


@pytest.mark.parametrize("take", TAKEN)
def test_it_comes_back(daemon, root, take):
    before = gives_way(daemon, root, take)
    other = daemon.environments()["mine"]
    (root.parent / "away").rename(root / "back")
    is_back(daemon, root, before)
    assert daemon.environments()["mine"] == other


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("back", ["while no daemon runs", "while the next one does"])
def test_over_a_restart(daemon, start, root, end, back):
    before = gives_way(daemon, root)
    create(daemon, "behind")        # what was put into the catalog before that is on the disk with it
    getattr(daemon, end)()
    if back == "while no daemon runs":
        (root.parent / "away").rename(root / "back")
        is_back(start(root), root, before)
        return
    again = start(root)
    assert set(again.environments()) == {"mine", "behind"}
    (root.parent / "away").rename(root / "back")
    is_back(again, root, before)
    again.stop()
    assert rows(root) == {"mine", "behind", "back"}


@pytest.mark.parametrize("method, more", [
    ("Create", {"name": "mine", "python": "3.99", "withoutPip": True}), ("Adopt", {"name": "mine", "path": "nothing"}),
    ("Create", {"name": "mine", "python": PYTHON, "withoutPip": True}), ("Rename", {"name": "other", "to": "mine"}),
    ("Clone", {"name": "other", "to": "mine"}), ("Restore", {"name": "deleted", "as": "mine"})])
def test_a_call_that_fails_takes_no_name(daemon, root, method, more):
    for name in ("mine", "other", "deleted"):
        create(daemon, name)
    daemon.call("Delete", name="deleted")
    before = daemon.environments()["mine"]
    (root / "mine").rename(root.parent / "away")
    soon(lambda: state(daemon, "mine") == "missing")
    if "3.99" not in more.values():
        (root / "mine").mkdir()     # it is no environment, and not in the way of one that has its row
        (root / "mine" / "file").touch()
    if "path" in more:
        more = more | {"path": str(root.parent / more["path"])}
    with pytest.raises(VarlinkError):
        daemon.call(method, **more)
    row = daemon.environments()["mine"]
    assert (row["id"], row["state"]) == (before["id"], "missing") and set(daemon.environments()) == {"mine", "other"}
    shutil.rmtree(root / "mine", ignore_errors=True)
    (root.parent / "away").rename(root / "mine")
    is_back(daemon, root, before, "mine")
    daemon.stop()
    assert rows(root) == {"mine", "other"}


def test_back_under_its_own_name(daemon, root):
    before = gives_way(daemon, root)
    daemon.call("Rename", name="mine", to="other")
    (root.parent / "away").rename(root / "mine")
    is_back(daemon, root, before, "mine")


def test_three_in_a_circle(daemon, start, root):
    """Each takes the name of the next, while nobody looks; the rows follow in one go."""
    ids = {name: create(daemon, name)["id"] for name in "abc"}
    daemon.stop()
    (root / "a").rename(root / "x")
    for old, new in (("c", "a"), ("b", "c"), ("x", "b")):
        (root / old).rename(root / new)
    again = start(root)
    assert {name: row["id"] for name, row in again.environments().items()} == {"a": ids["c"], "c": ids["b"], "b": ids["a"]}
    again.stop()
    assert rows(root) == {"a", "b", "c"}


def test_what_was_removed_gives_no_id_to_another(daemon, root):
    """Its inode number is soon that of the next directory, often of the very next one."""
    before = gives_way(daemon, root)
    shutil.rmtree(root.parent / "away")
    ids = {}
    for i in range(8):
        ids[f"n{i}"] = create(daemon, f"n{i}")["id"]
        (root / f"n{i}").rename(root / f"moved{i}")
        soon(lambda i=i: state(daemon, f"moved{i}") == "ready")
    found = daemon.environments()
    assert {name: found[f"moved{name[1:]}"]["id"] for name in ids} == ids
    assert before["id"] not in [row["id"] for row in found.values()]


def test_a_week_later_it_is_another_one(daemon, start, root):
    """At a start, and while the daemon runs; also when another one is missing since this start."""
    before = gives_way(daemon, root)
    create(daemon, "gone")
    daemon.stop()
    shutil.rmtree(root / "gone")
    row = f".{before['id']}"
    assert rows(root) == {"mine", "gone", row}
    with contextlib.closing(sqlite3.connect(root / ".venvd" / "catalog.db")) as db, db:
        db.execute("UPDATE environment SET missing_since = ? WHERE name = ?", (time.time_ns() // 1000 - WEEK + 2 * 10**6, row))
    again = start(root)
    soon(lambda: row not in rows_of(again, root))
    (root.parent / "away").rename(root / "back")
    soon(lambda: state(again, "back") == "ready")
    assert again.environments()["back"]["id"] != before["id"]


def rows_of(daemon, root):
    """While the daemon has the catalog: it lets nobody else read it, so a copy."""
    copy = root.parent / "copy"
    copy.mkdir(exist_ok=True)
    for name in ("catalog.db", "catalog.db-wal"):
        shutil.copy(root / ".venvd" / name, copy / name)
    with contextlib.closing(sqlite3.connect(copy / "catalog.db")) as db:
        return {name for name, in db.execute("SELECT name FROM environment")}


@pytest.mark.parametrize("start_between", [False, True])
def test_many_and_one_more(daemon, start, root, start_between):
    """The one that has waited longest is let go of."""
    bound = LIMITS["LIMIT_NAMELESS"]
    away = root.parent / "away"
    away.mkdir()
    names = ["n%04d" % i for i in range(bound + 1)]
    for name in names:
        fake_environment(root, name)
    soon(lambda: len(daemon.environments()) == bound + 1)
    before = {name: row["id"] for name, row in daemon.environments().items()}
    for name in names:
        (root / name).rename(away / name)
        if name == names[0]:
            soon(lambda: state(daemon, names[0]) == "missing")
    soon(lambda: {row["state"] for row in daemon.environments().values()} == {"missing"})
    for name in names:
        fake_environment(root.parent / "new", name).rename(root / name)
    soon(lambda: {row["state"] for row in daemon.environments().values()} == {"ready"})
    if start_between:
        daemon.stop()
        daemon = start(root)
    for name in names:
        (away / name).rename(root / f"back-{name}")
    soon(lambda: [row["state"] for row in daemon.environments().values()] == 2 * (bound + 1) * ["ready"])
    found = daemon.environments()
    assert [name for name in names if found[f"back-{name}"]["id"] != before[name]] == names[:1]


@contextlib.contextmanager
def catalog(root):
    """Of a daemon that has ended."""
    with contextlib.closing(sqlite3.connect(root / ".venvd" / "catalog.db")) as db, db:
        db.row_factory = sqlite3.Row
        yield db


def others_without_a_name(root, like, count):
    """Rows of directories that never come back, put into the catalog."""
    with catalog(root) as db:
        row = dict(db.execute("SELECT * FROM environment WHERE id = ?", (like,)).fetchone())
        for i in range(count):
            new = row | {"id": "%016x" % i, "name": ".%016x" % i, "ino": 2**40 + i, "missing_since": time.time_ns() // 1000}
            db.execute(f"INSERT INTO environment ({', '.join(new)}) VALUES ({', '.join('?' * len(new))})", list(new.values()))


def test_the_oldest_takes_a_name_from_the_last(daemon, start, root):
    """The one whose name it takes is one too many: somebody is let go of, but not whoever has just come back."""
    before = gives_way(daemon, root)
    daemon.stop()
    others_without_a_name(root, before["id"], LIMITS["LIMIT_NAMELESS"] - 1)
    with catalog(root) as db:
        db.execute("UPDATE environment SET missing_since = missing_since - 60000000 WHERE id = ?", (before["id"],))
    again = start(root)
    last = create(again, "last")
    (root / "last").rename(root.parent / "last")
    soon(lambda: state(again, "last") == "missing")
    (root.parent / "away").rename(root / "last")
    soon(lambda: state(again, "last") == "ready")
    is_back(again, root, before, "last")
    (root.parent / "last").rename(root / "back")
    is_back(again, root, last, "back")


def test_many_were_between_two_names(start, root):
    """All of them change names in one go, and whoever does it is killed between two commits: then each row is called by
    its id, however many there are."""
    bound = LIMITS["LIMIT_NAMELESS"]
    fake_environments(root, bound + 100)
    daemon = start(root)
    before = {name: row["id"] for name, row in daemon.environments().items()}
    assert len(before) == bound + 100
    daemon.stop()
    with catalog(root) as db:
        db.execute("UPDATE environment SET name = '.' || id, state = 'missing', missing_since = ?", (time.time_ns() // 1000,))
    again = start(root)
    assert {name: row["id"] for name, row in again.environments().items()} == before
    soon(lambda: {row["state"] for row in again.environments().values()} == {"ready"})


def test_its_entry_was_put_into_the_trash_again(daemon, start, root):
    """Somebody has copied it there before it was restored: an id is one environment's."""
    create(daemon, "mine")
    daemon.call("Delete", name="mine")
    entry, = (root / ".venvd" / "trash").iterdir()
    shutil.copytree(entry, root.parent / "copy", symlinks=True)
    daemon.call("Restore", name="mine")
    before = daemon.environments()["mine"]
    (root / "mine").rename(root.parent / "away")
    soon(lambda: state(daemon, "mine") == "missing")
    taken_by_create(daemon, root)
    daemon.stop()
    (root.parent / "copy").rename(entry)
    again = start(root)
    trashed, = again.trash()
    assert trashed["id"] != before["id"]
    (root.parent / "away").rename(root / "back")
    is_back(again, root, before)


@pytest.mark.parametrize("when", [2**63 - 1, -2**63])
def test_times_that_no_clock_has_said(daemon, start, root, when):
    """Whoever waits does so from now on."""
    before = gives_way(daemon, root)
    create(daemon, "missing")
    (root / "missing").rename(root.parent / "missing")
    create(daemon, "trashed")
    daemon.call("Delete", name="trashed")
    daemon.stop()
    with catalog(root) as db:
        db.execute("UPDATE environment SET missing_since = ?, deleted_at = ?, expires_at = ?", (when,) * 3)
    again = start(root)
    create(again, "behind")         # what is due goes before that
    assert set(again.environments()) == {"mine", "missing", "behind"}
    assert [row["name"] for row in again.trash()] == ["trashed"]
    (root.parent / "away").rename(root / "back")
    is_back(again, root, before)
