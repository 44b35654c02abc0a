# SPDX-License-Identifier: MIT
"""Recreate: the same name and id, the same options but for those given; the old tree in the trash, whatever
happens. And --clear and --upgrade, whose directories are not the daemon's to take away."""
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess

import pytest

from conftest import VarlinkError, interpreters
from helpers import eventually, tree
import wire

PYTHON = "/usr/bin/python3"
OTHER = next((str(p) for p in interpreters() if str(p) != PYTHON), None)


def create(daemon, name="a", **fields):
    return daemon.call("Create", **{"name": name, "python": PYTHON, "withoutPip": True} | fields)["environment"]


def install(root, name="a"):
    """A distribution, as pip would leave it."""
    site = next((root / name / "lib").glob("python*/site-packages"))
    info = site / "colour-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: colour\nVersion: 1.5\n")
    (info / "RECORD").write_text("")
    (info / "direct_url.json").write_text(json.dumps({"url": "file:///src/colour", "dir_info": {}}))
    return site


def change(root, sql, *values):
    with contextlib.closing(sqlite3.connect(root / ".venvd/catalog.db")) as db, db:
        return db.execute(sql, values).fetchall()


def works(path):
    subprocess.run([path / "bin/python", "-c", "import sys; assert sys.prefix == sys.argv[1]", path], check=True)


def fails(daemon, method, **fields):
    with pytest.raises(VarlinkError) as e:
        daemon.call(method, **fields)
    return e.value


# --- recreate ---

def test_same_name_and_id(daemon, root):
    first = create(daemon, prompt="p", systemSitePackages=True)
    install(root)
    before = tree(root / "a")
    said = daemon.call("Recreate", name="a")
    again, previous = said["environment"], said["previous"]
    assert again["id"] == first["id"] and again["state"] == "ready" and again["prompt"] == "p"
    assert again["options"] == first["options"] and again["createdAt"] > first["createdAt"]
    assert said["packages"] == [{"name": "colour", "version": "1.5", "directUrl": "file:///src/colour"}]
    assert not list((root / "a").glob("lib/python*/site-packages/colour*"))
    assert previous["state"] == "trashed" and previous["id"] != first["id"]
    assert [e["id"] for e in daemon.trash()] == [previous["id"]]
    record = json.loads((root / ".venvd/trash" / previous["path"].split("/")[-2] / "record.json").read_text())
    assert record["packages"][0]["name"] == "colour"
    works(root / "a")
    # The old one can be taken back, packages and all.
    daemon.call("Delete", name="a", now=True)
    assert daemon.call("Restore", name="a")["environment"]["id"] == previous["id"]
    assert tree(root / "a") == before


@pytest.mark.skipif(OTHER is None, reason="needs two interpreters")
def test_what_is_given_changes(daemon, root):
    create(daemon, prompt="p")
    again = daemon.call("Recreate", name="a", python=OTHER, prompt="")["environment"]
    assert again["options"] == {"python": [OTHER], "withoutPip": True} and "prompt" not in again
    assert again["interpreter"] == OTHER
    assert daemon.call("Recreate", name="a")["environment"]["interpreter"] == OTHER


def test_one_that_was_adopted(start, root):
    """Its options are read off its files; the interpreter it has is not recorded as asked for."""
    root.mkdir()
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", "--system-site-packages", "--prompt=x", root / "a"],
                   check=True)
    daemon = start(root)
    again = daemon.call("Recreate", name="a")["environment"]
    assert again["options"] == {"prompt": "x", "withoutPip": True, "systemSitePackages": True}
    assert again["interpreter"] == PYTHON and again["origin"] == "created"


def test_a_broken_one(start, root):
    daemon = start(root)
    made = create(daemon)
    daemon.stop()
    shutil.rmtree(root / "a/bin")
    daemon = start(root)
    eventually(lambda: daemon.environments()["a"]["state"] == "broken")
    again = daemon.call("Recreate", name="a")
    assert again["environment"]["id"] == made["id"] and again["environment"]["state"] == "ready"
    assert "problem" not in again["environment"] and again["previous"]["state"] == "trashed"


def test_a_missing_one(start, root):
    daemon = start(root)
    made = create(daemon)
    daemon.stop()
    shutil.rmtree(root / "a")
    daemon = start(root)
    again = daemon.call("Recreate", name="a")
    assert again["environment"]["id"] == made["id"] and "previous" not in again
    works(root / "a")


def test_one_that_went_missing(daemon, root):
    """As a deletion does, it finds out; the next call has it made."""
    made = create(daemon)
    shutil.rmtree(root / "a")
    assert fails(daemon, "Recreate", name="a").name == "NoSuchEnvironment"
    assert daemon.environments()["a"]["state"] == "missing" and daemon.trash() == []
    again = daemon.call("Recreate", name="a")["environment"]
    assert again["id"] == made["id"] and again["state"] == "ready"
    works(root / "a")


def test_refused(daemon, root):
    assert fails(daemon, "Recreate", name="none").name == "NoSuchEnvironment"
    create(daemon)
    before = tree(root / "a")
    assert fails(daemon, "Recreate", name="a", python="/none").name == "NoSuchInterpreter"
    assert daemon.environments()["a"]["state"] == "ready" and daemon.trash() == []
    assert tree(root / "a") == before
    assert fails(daemon, "Recreate", name="a", prompt="a\nb").name == "InvalidParameter"


def test_a_request_id(daemon):
    made = create(daemon)
    first = daemon.call("Recreate", name="a", requestId="r")
    again = daemon.call("Recreate", name="a", requestId="r")
    assert again["environment"] == first["environment"] and len(daemon.trash()) == 1
    assert first["environment"]["id"] == made["id"]


# --- recreate in place: an interpreter that is not predicted ---

def test_in_place(daemon, root, fake):
    made = create(daemon, python=fake[0])
    (root / "a/mine").write_text("x")
    again = daemon.call("Recreate", name="a")
    assert again["environment"]["id"] == made["id"] and not (root / "a/mine").exists()
    assert (root / ".venvd/trash" / again["previous"]["path"].split("/")[-2] / "tree/mine").read_text() == "x"


def test_in_place_of_one_that_went_missing(daemon, root, fake):
    create(daemon, python=fake[0])
    shutil.rmtree(root / "a")
    assert fails(daemon, "Recreate", name="a").name == "NoSuchEnvironment"
    assert daemon.environments()["a"]["state"] == "missing" and daemon.trash() == []


def test_in_place_that_fails(daemon, root, fake):
    made = create(daemon, python=fake[0])
    before = tree(root / "a", mtimes=True)
    (fake[2] / "no").touch()
    assert fails(daemon, "Recreate", name="a").name == "InterpreterFailed"
    assert tree(root / "a", mtimes=True) == before
    assert daemon.environments()["a"] == made and daemon.trash() == []
    eventually(lambda: wire.remains(root) == {"a"})


def test_in_place_cancelled(daemon, root, fake):
    made = create(daemon, python=fake[0])
    before = tree(root / "a", mtimes=True)
    (fake[2] / "hold").touch()
    c = daemon.connect()
    c.send("Recreate", {"name": "a"})
    fake[1].wait()
    c.close()
    eventually(lambda: daemon.environments()["a"]["state"] == "ready")
    assert tree(root / "a", mtimes=True) == before and daemon.trash() == []
    assert daemon.environments()["a"] == made


def test_in_place_and_a_crash(start, root, fake):
    daemon = start(root)
    made = create(daemon, python=fake[0])
    before = tree(root / "a", mtimes=True)
    (fake[2] / "hold").touch()
    c = daemon.connect()
    c.send("Recreate", {"name": "a", "requestId": "r"})
    fake[1].wait()
    daemon.kill()
    c.close()
    (fake[2] / "hold").unlink()
    daemon = start(root)
    assert tree(root / "a", mtimes=True) == before
    assert daemon.environments()["a"] == made and daemon.trash() == []
    assert daemon.call("Recreate", name="a", requestId="r")["previous"]["state"] == "trashed"


# --- recreate by claim, and a crash at each of its steps ---

def stopped_between(start, root, step):
    """What the disk and the catalog hold when a recreation was stopped there: made from one that went through."""
    daemon = start(root)
    made = create(daemon, prompt="old", requestId="c")
    before = tree(root / "a", mtimes=True)
    said = daemon.call("Recreate", name="a", prompt="new", requestId="r")
    daemon.stop()
    entry = root / ".venvd/trash" / said["previous"]["path"].split("/")[-2]
    change(root, "UPDATE environment SET state = 'creating', intent = 'claim', entry = ? WHERE id = ?", entry.name,
           made["id"])
    if step != "after":
        (root / "a").rename(root / ".venvd/stage/a~1~x")
    if step == "before":
        (entry / "tree").rename(root / "a")
    return made, before, said


@pytest.mark.parametrize("step", ["before", "between"])
def test_a_crash_before_it_was_whole(start, root, step):
    """The old one is back under its name with its id; the request is forgotten, that of its creation is not."""
    made, before, _ = stopped_between(start, root, step)
    daemon = start(root)
    assert daemon.environments()["a"] | {"id": ""} == made | {"id": ""}
    assert daemon.environments()["a"]["id"] == made["id"] and daemon.trash() == []
    assert tree(root / "a", mtimes=True) == before
    assert create(daemon, prompt="old", requestId="c")["id"] == made["id"]
    eventually(lambda: os.listdir(root / ".venvd/stage") == [] == os.listdir(root / ".venvd/trash"))
    assert daemon.call("Recreate", name="a", prompt="new", requestId="r")["environment"]["prompt"] == "new"


def test_a_crash_when_it_was_whole(start, root):
    made, _, said = stopped_between(start, root, "after")
    daemon = start(root)
    assert daemon.environments()["a"]["prompt"] == "new" and daemon.environments()["a"]["id"] == made["id"]
    assert [e["id"] for e in daemon.trash()] == [said["previous"]["id"]]
    assert daemon.call("Recreate", name="a", prompt="new", requestId="r")["environment"]["id"] == made["id"]
    assert len(daemon.trash()) == 1


# --- clear, upgrade ---

def test_clear_and_upgrade(daemon, root):
    made = create(daemon)
    (root / "a/mine").write_text("x")
    upgraded = create(daemon, upgrade=True)
    assert upgraded["id"] == made["id"] and upgraded["options"] == made["options"] and (root / "a/mine").exists()
    cleared = create(daemon, clear=True, prompt="q")
    assert cleared["id"] == made["id"] and cleared["prompt"] == "q" and not (root / "a/mine").exists()
    assert cleared["options"]["prompt"] == "q" and cleared["createdAt"] == made["createdAt"]
    assert daemon.trash() == []
    refused = fails(daemon, "Create", name="a", python=PYTHON, clear=True, upgrade=True)
    assert refused.parameters["reason"] == "you cannot supply --upgrade and --clear together."
    works(root / "a")


def test_clear_makes_what_is_not_there(daemon, root):
    assert create(daemon, clear=True)["state"] == "ready"
    works(root / "a")


def test_clear_that_fails_leaves_what_there_is(daemon, root, fake):
    made = create(daemon)
    (fake[2] / "no").touch()
    error = fails(daemon, "Create", name="a", python=fake[0], clear=True)
    assert error.name == "InterpreterFailed"
    assert daemon.environments()["a"] == made
    works(root / "a")


@pytest.mark.slow
def test_what_is_left_is_looked_at_though_much_work_waits(start, root, fake):
    daemon = start(root, "-o", "jobs-running=1", "-o", "jobs-queued=1")
    made = create(daemon)
    for name in ("hold", "no"):
        (fake[2] / name).touch()
    first, second = daemon.connect(), daemon.connect()
    again = {"python": fake[0], "withoutPip": True, "upgrade": True}
    first.send("Create", {"name": "a"} | again)
    fake[1].wait()
    second.send("Create", {"name": "b", "upgradeDeps": True, "python": PYTHON}, more=True)
    assert second.receive()["parameters"]["stage"] == "queued"
    fake[1].go()
    assert first.receive()["error"] == "io.venvd.InterpreterFailed"
    assert daemon.environments()["a"] == made
    second.close()
    first.close()


def test_a_crash_while_it_is_cleared(start, root, fake):
    daemon = start(root)
    made = create(daemon)
    (fake[2] / "hold").touch()
    c = daemon.connect()
    c.send("Create", {"name": "a", "python": fake[0], "withoutPip": True, "clear": True})
    fake[1].wait()
    assert daemon.environments()["a"]["state"] == "creating"
    daemon.kill()
    c.close()
    daemon = start(root)
    assert daemon.environments()["a"]["id"] == made["id"]
    eventually(lambda: daemon.environments()["a"]["state"] in ("ready", "broken"))
    assert (root / "a").is_dir() and daemon.trash() == []


# --- what is asked for ---

def test_alternatives(daemon):
    made = create(daemon, python="/none/python9", pythonAlternatives=["9.99", PYTHON])
    assert made["interpreter"] == PYTHON
    assert made["options"]["python"] == ["/none/python9", "9.99", PYTHON]
    assert fails(daemon, "Create", name="b", pythonAlternatives=["3"] * 17).parameters == {
        "parameter": "pythonAlternatives"}
    assert fails(daemon, "Create", name="b", pythonAlternatives=["3" * 4096]).name == "InvalidParameter"
