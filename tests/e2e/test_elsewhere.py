# SPDX-License-Identifier: MIT
"""Environments elsewhere (create --path): their trash beside them, the way back, recreation, crashes, and who is
found by a path."""
import json
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from conftest import VarlinkError
from helpers import eventually, mounted, tree
from test_recreate import PYTHON, create, fails, works
import wire


def beside(path):
    return path.parent / f".{path.name}.venvd-trash"


def trees(path):
    return sorted(p.parent.name for p in beside(path).glob("*/tree"))


@pytest.fixture(params=["the same", "another"])
def path(request, tmp_path):
    """Where one is made: on the root's file system, and on another one."""
    if request.param == "the same":
        yield tmp_path / "project/.venv"
        return
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system only")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory, "project/.venv")


def test_made(start, root, tmp_path):
    path = tmp_path / "project/.venv"
    daemon = start(root)
    made = create(daemon, "project", path=str(path))
    assert made["path"] == str(path) and made["executable"] == f"{path}/bin/python" and made["state"] == "ready"
    works(path)
    assert fails(daemon, "Create", name="project", python=PYTHON).name == "AlreadyExists"
    assert create(daemon, "project", path=str(path), clear=True)["id"] == made["id"]
    daemon.stop()
    daemon = start(root)
    assert daemon.environments()["project"]["path"] == str(path)
    shutil.rmtree(path)
    daemon.stop()
    daemon = start(root)
    eventually(lambda: daemon.environments()["project"]["state"] == "missing")
    daemon.call("Delete", name="project")
    assert daemon.environments() == {}


def test_one_that_is_known_by_another_path(daemon, root, tmp_path):
    """Through a link among its parents: it would be there twice, and not protected under its second name."""
    (tmp_path / "r").symlink_to(root)
    (tmp_path / "p").mkdir()
    (tmp_path / "q").symlink_to("p")
    create(daemon, "a", withoutPip=True)
    create(daemon, "b", withoutPip=True, path=str(tmp_path / "p/.venv"))
    for name, env in (("a", root / "a"), ("b", tmp_path / "p/.venv")):
        daemon.call("Protect", name=name)
        (env / "precious").touch()
    before = daemon.environments()
    for options in ({}, {"clear": True}, {"upgrade": True}):
        error = fails(daemon, "Create", name="c", python=PYTHON, withoutPip=True, path=str(tmp_path / "r/a"), **options)
        assert error.name == "Unsupported" and "lies in the root" in error.parameters["reason"]
        error = fails(daemon, "Create", name="c", python=PYTHON, withoutPip=True, path=str(tmp_path / "q/.venv"), **options)
        assert error.name == "AlreadyExists" and error.parameters["name"] == "b"
    assert fails(daemon, "Create", name="c", python=PYTHON, path=str(tmp_path / "r/d/e")).name == "Unsupported"
    assert daemon.environments() == before and sorted(p.name for p in root.iterdir()) == [".venvd", "a"]
    assert (root / "a/precious").exists() and (tmp_path / "p/.venv/precious").exists()
    assert create(daemon, "c", withoutPip=True, path=str(tmp_path / "q/.other"))["path"] == str(tmp_path / "q/.other")


def test_deleted_by_hand_is_forgotten(daemon, tmp_path):
    create(daemon, "p", path=str(tmp_path / "p"))
    shutil.rmtree(tmp_path / "p")
    daemon.call("Delete", name="p")
    assert daemon.environments() == {} and not beside(tmp_path / "p").exists()


# --- deleted and taken back ---

def test_delete_and_restore(daemon, path):
    made = create(daemon, "p", path=str(path))
    before = tree(path, mtimes=True)
    deleted = daemon.call("Delete", name="p")["environment"]
    assert not path.exists() and tree(Path(deleted["path"]), mtimes=True) == before
    assert Path(deleted["path"]).parents[1] == beside(path)
    assert stat.S_IMODE(beside(path).stat().st_mode) == 0o700
    assert (beside(path) / ".gitignore").read_text().splitlines()[-1] == "*"
    assert json.loads((Path(deleted["path"]).parent / "record.json").read_text())["location"] == str(path)
    restored = daemon.call("Restore", name="p")["environment"]
    assert restored | {"id": made["id"]} == made
    assert tree(path, mtimes=True) == before and os.listdir(path.parent) == [path.name]
    works(path)


def test_two_of_one_path(daemon, path):
    first = create(daemon, "p", path=str(path), prompt="first")
    daemon.call("Delete", name="p")
    second = create(daemon, "p", path=str(path), prompt="second")
    daemon.call("Delete", name="p")
    assert len(trees(path)) == 2 and {e["id"] for e in daemon.trash()} == {first["id"], second["id"]}
    assert daemon.call("Restore", name="p", id=first["id"])["environment"]["prompt"] == "first"
    assert fails(daemon, "Restore", name="p").name == "AlreadyExists"
    daemon.call("Delete", name="p", now=True)
    assert not path.exists()
    assert daemon.call("Restore", name="p")["environment"]["prompt"] == "second"
    assert os.listdir(path.parent) == [path.name]


def test_restore_replaces_nothing(daemon, path):
    create(daemon, "p", path=str(path))
    daemon.call("Delete", name="p")
    path.mkdir()
    assert fails(daemon, "Restore", name="p").name == "AlreadyExists"
    path.rmdir()
    shutil.move(path.parent, path.parent.with_name("moved"))
    assert "directory that holds" in fails(daemon, "Restore", name="p").parameters["reason"]
    shutil.move(path.parent.with_name("moved"), path.parent)
    daemon.call("Restore", name="p")
    works(path)


def test_removed_for_good(start, root, path):
    daemon = start(root)
    for _ in range(2):
        create(daemon, "p", path=str(path))
        daemon.call("Delete", name="p")
    daemon.call("Delete", name="p", now=True)
    assert daemon.trash() == [] and os.listdir(path.parent) == []
    create(daemon, "p", path=str(path))
    daemon.call("Delete", name="p")
    daemon.stop()
    daemon = start(root, "-o", "trash-retention=0")
    eventually(lambda: daemon.trash() == [] and os.listdir(path.parent) == [])


def test_an_interrupted_removal(start, root, path):
    """What had lost its name when the power went is no environment any more, and goes."""
    daemon = start(root)
    create(daemon, "p", path=str(path))
    entry = Path(daemon.call("Delete", name="p")["environment"]["path"]).parent
    (entry / "tree").rename(entry / "rest")
    assert fails(daemon, "Restore", name="p").name == "NotInTrash"
    daemon.call("Delete", name="p", now=True)
    assert daemon.trash() == [] and os.listdir(path.parent) == []


@pytest.mark.parametrize("what", ["a link", "a file", "somebody could write", "ours, with other things"])
def test_what_is_there_already(daemon, tmp_path, what):
    """Nothing is put where others could have prepared a place, and nothing of theirs is taken away."""
    path = tmp_path / "p"
    made = create(daemon, "p", path=str(path))
    if what == "a link":
        (tmp_path / "x").mkdir()
        beside(path).symlink_to(tmp_path / "x")
    elif what == "a file":
        beside(path).touch()
    else:
        beside(path).mkdir()
        beside(path).chmod(0o777 if what == "somebody could write" else 0o755)
    if what == "ours, with other things":
        (beside(path) / "notes").write_text("mine")
        daemon.call("Delete", name="p")
        daemon.call("Restore", name="p")
        assert os.listdir(beside(path)) == ["notes"]
    else:
        assert "trash" in fails(daemon, "Delete", name="p").parameters["reason"]
        assert fails(daemon, "Recreate", name="p").name == "Failed"
    assert daemon.environments()["p"] | {"createdAt": 0} == made | {"createdAt": 0}
    works(path)
    assert not (tmp_path / "x").exists() or os.listdir(tmp_path / "x") == []


def test_a_parent_that_may_not_be_written(daemon, tmp_path):
    with mounted(tmp_path / "m", "-t", "tmpfs", "tmpfs"):
        path = tmp_path / "m/p"
        made = create(daemon, "p", path=str(path))
        os.system(f"mount -o remount,ro '{tmp_path}/m'")
        error = fails(daemon, "Delete", name="p")
        assert error.name == "Failed" and "Read-only" in error.parameters["reason"]
        assert fails(daemon, "Recreate", name="p").name == "Failed"
        assert daemon.environments()["p"] == made and os.listdir(tmp_path / "m") == ["p"]


# --- recreate ---

def test_recreate(daemon, path):
    made = create(daemon, "p", path=str(path), prompt="old")
    (path / "mine").write_text("x")
    said = daemon.call("Recreate", name="p", prompt="new")
    again, previous = said["environment"], said["previous"]
    assert again["id"] == made["id"] and again["path"] == str(path) and again["prompt"] == "new"
    assert said["packages"] == [] and not (path / "mine").exists()
    works(path)
    assert (Path(previous["path"]) / "mine").read_text() == "x" and Path(previous["path"]).parents[1] == beside(path)
    daemon.call("Delete", name="p", now=True)
    assert daemon.call("Restore", name="p", id=previous["id"])["environment"]["prompt"] == "old"
    assert (path / "mine").exists() and os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("method", ["Delete", "Recreate"])
def test_a_project_that_is_an_environment_itself(daemon, path, method):
    """As 'python -m venv .' makes one: nothing takes it away together with the environment, unless told to."""
    (path / ".git").mkdir(parents=True)
    (path / "main.py").write_text("precious\n")
    (path / "\x1b[31m").mkdir()
    made = create(daemon, "p", path=str(path))
    for parameters in ({}, {"now": True}) if method == "Delete" else ({},):
        error = fails(daemon, method, name="p", **parameters)
        assert error.name == "InUse" and "processes" not in error.parameters
        assert error.parameters["reason"] == r"its directory also holds '\x1b[31m', '.git' and 1 more, which would go with it"
    assert daemon.environments() == {"p": made} and daemon.trash() == [] and (path / "main.py").exists()
    assert daemon.call("Rename", name="p", to="q")["environment"]["path"] == str(path)
    daemon.call(method, name="q", force=True)
    assert not (path / "main.py").exists() and [t["name"] for t in daemon.trash()] == ["q"]


def test_what_tools_put_there_is_no_project(daemon, path):
    made = create(daemon, "p", path=str(path))
    for name in ("share", "etc", "man", "var"):
        (path / name).mkdir()
    for name in (".lock", "CACHEDIR.TAG", ".gitignore", "pip-selfcheck.json", "stray"):
        (path / name).touch()
    assert daemon.call("Delete", name="p")["environment"]["id"] == made["id"]


def test_recreate_one_that_is_gone(daemon, path):
    made = create(daemon, "p", path=str(path))
    shutil.rmtree(path)
    assert fails(daemon, "Recreate", name="p").name == "NoSuchEnvironment"
    assert daemon.environments()["p"]["state"] == "missing" and not beside(path).exists()
    assert daemon.call("Recreate", name="p")["environment"]["id"] == made["id"]
    works(path)


def test_recreate_that_fails(daemon, path, fake):
    made = create(daemon, "p", path=str(path), python=fake[0])
    before = tree(path, mtimes=True)
    (fake[2] / "no").touch()
    assert fails(daemon, "Recreate", name="p").name == "InterpreterFailed"
    assert tree(path, mtimes=True) == before and os.listdir(path.parent) == [path.name]
    assert daemon.environments()["p"] == made and daemon.trash() == []


def test_recreate_and_a_crash(start, root, path, fake):
    daemon = start(root)
    made = create(daemon, "p", path=str(path), python=fake[0])
    before = tree(path, mtimes=True)
    (fake[2] / "hold").touch()
    c = daemon.connect()
    c.send("Recreate", {"name": "p", "requestId": "r"})
    fake[1].wait()
    daemon.kill()
    c.close()
    (fake[2] / "hold").unlink()
    daemon = start(root)
    assert tree(path, mtimes=True) == before and os.listdir(path.parent) == [path.name]
    assert daemon.environments()["p"] == made and daemon.trash() == []
    assert daemon.call("Recreate", name="p", requestId="r")["previous"]["state"] == "trashed"


# --- crashes ---

def test_a_crash_after_each_answer(start, root, path):
    daemon = start(root)
    made = create(daemon, "p", path=str(path))
    daemon.call("Delete", name="p", requestId="d")
    daemon.kill()
    daemon = start(root)
    eventually(lambda: daemon.call("Status")["jobsRunning"] == 0)
    assert [e["id"] for e in daemon.trash()] == [made["id"]] and daemon.environments() == {}
    assert daemon.call("Delete", name="p", requestId="d")["environment"]["state"] == "trashed"
    daemon.call("Restore", name="p")
    daemon.kill()
    daemon = start(root)
    eventually(lambda: daemon.environments().get("p", {}).get("state") == "ready")
    assert daemon.trash() == []
    works(path)
    daemon.call("Delete", name="p")
    daemon.call("Restore", name="p")
    previous = daemon.call("Recreate", name="p")["previous"]
    daemon.kill()
    daemon = start(root)
    eventually(lambda: daemon.call("Status")["jobsRunning"] == 0)
    assert daemon.environments()["p"]["id"] == made["id"] and [e["id"] for e in daemon.trash()] == [previous["id"]]


def test_a_delete_that_never_came_to_its_rename(start, root, path):
    """Its row says that it was under way: the directory is where it was, and stays listed."""
    daemon = start(root)
    made = create(daemon, "p", path=str(path))
    daemon.stop()
    from test_recreate import change
    change(root, "UPDATE environment SET intent = 'delete', deleted_at = 7, entry = 'p~7~x'")
    daemon = start(root)
    eventually(lambda: daemon.environments().get("p") == made)
    assert daemon.trash() == []


def test_a_creation_that_fails(daemon, tmp_path, fake):
    (fake[2] / "no").touch()
    error = fails(daemon, "Create", name="p", python=fake[0], path=str(tmp_path / "new/p"), withoutPip=True)
    assert error.name == "InterpreterFailed"
    assert daemon.environments() == {} and not (tmp_path / "new").exists()


def test_a_creation_and_a_crash(start, root, tmp_path, fake):
    """What was made there, and only that, is taken away."""
    daemon = start(root)
    (fake[2] / "hold").touch()
    c = daemon.connect()
    c.send("Create", {"name": "p", "python": fake[0], "withoutPip": True, "path": str(tmp_path / "p")})
    fake[1].wait()
    daemon.kill()
    c.close()
    (fake[2] / "hold").unlink()
    daemon = start(root)
    assert daemon.environments() == {} and not (tmp_path / "p").exists()
    eventually(lambda: wire.remains(root) == set())


# --- paths ---

@pytest.mark.parametrize("path", ["relative", "", "x" * 5000])
def test_unfit_paths(daemon, path):
    assert fails(daemon, "Create", name="p", python=PYTHON, path=path).name == "InvalidParameter"


def test_a_path_in_the_root(daemon, root):
    for path in (root, root / "b", root / ".venvd/x"):
        assert fails(daemon, "Create", name="b", python=PYTHON, path=str(path)).name == "Unsupported"
    assert daemon.environments() == {}


def test_found_by_path(start, root, tmp_path):
    daemon = start(root)
    for name in ("a", "a-b", "c"):
        create(daemon, name, path=str(tmp_path / f"p/{name}"))
    create(daemon, "inner", path=str(tmp_path / "p/a/inner"))

    def found(path):
        return daemon.call("Prompt", path=str(path))["name"]

    assert found(tmp_path / "p/a") == found(tmp_path / "p/a/bin/python") == found(f"{tmp_path}/p/a/") == "a"
    assert found(tmp_path / "p/a-b/lib") == "a-b" and found(tmp_path / "p/a/inner/x") == "inner"
    for nothing in (tmp_path / "p", tmp_path / "p/a-", tmp_path / "p/b", "/", "/" * 60000, "relative/p/a", ""):
        assert fails(daemon, "Prompt", path=str(nothing)).name == "NoSuchEnvironment"
    daemon.call("Delete", name="inner")
    assert found(tmp_path / "p/a/inner/x") == "a"
    daemon.stop()
    daemon = start(root)
    assert found(tmp_path / "p/c/bin") == "c"
    daemon.call("Delete", name="c")
    assert fails(daemon, "Prompt", path=str(tmp_path / "p/c")).name == "NoSuchEnvironment"


# --- adopted ---

def test_adopt(daemon, root, tmp_path, venvctl):
    """One that another tool has made somewhere: listed, and not a byte or time of it changed."""
    where = tmp_path / "project/.venv"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", where], check=True)
    before = tree(where, mtimes=True)
    done = venvctl("adopt", where)
    assert done.returncode == 0 and "as 'project'" in done.stderr, done.stderr
    row = daemon.environments()["project"]
    assert (row["path"], row["state"], row["origin"]) == (str(where), "ready", "adopted")
    assert tree(where, mtimes=True) == before
    assert venvctl("import", where, "other").returncode == 4        # it has a name
    assert daemon.call("Prompt", path=f"{where}/bin")["name"] == "project"
    assert daemon.call("Clone", name="project", to="copy")["environment"]["path"] == f"{root}/copy"
    assert daemon.call("Delete", name="project")["environment"]["state"] == "trashed"
    assert daemon.call("Restore", name="project")["environment"]["path"] == str(where)
    assert tree(where, mtimes=True) == before


def test_what_cannot_be_adopted(daemon, root, tmp_path, venvctl):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(root)
    daemon.call("Create", name="a", python=PYTHON, withoutPip=True)
    before = daemon.environments()
    for path, error in ((tmp_path / "empty", "Unsupported"), (tmp_path / "nowhere", "Unsupported"),
                        (root / "a", "Unsupported"), ("relative", "InvalidParameter"), ("/", "Unsupported")):
        with pytest.raises(VarlinkError) as e:
            daemon.call("Adopt", name="b", path=str(path))
        assert e.value.name == error, path
    with pytest.raises(VarlinkError) as e:
        daemon.call("Adopt", name="a", path=str(tmp_path / "empty"))
    assert e.value.name == "AlreadyExists"
    assert daemon.environments() == before
    assert venvctl("adopt", "").returncode == 2
    assert venvctl("adopt", tmp_path / "empty", "no/name").returncode == 1


def test_a_directory_has_one_name(daemon, root, tmp_path):
    """However its path is spelled, and wherever links lead: who has another name for it could delete what is protected."""
    create(daemon, "a")
    daemon.call("Protect", name="a")
    create(daemon, "p", path=f"{tmp_path}//x/../project/")
    assert daemon.environments()["p"]["path"] == f"{tmp_path}/project"
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (f"{tmp_path}//envs/a", f"{tmp_path}/./envs/a", f"{tmp_path}/project/../envs/a/"):
        assert fails(daemon, "Adopt", name="n", path=path).name == "Unsupported"
        assert fails(daemon, "Create", name="n", path=path).name == "Unsupported"
    for path, name in ((f"{tmp_path}/link/envs/a", "a"), (f"{tmp_path}/link/project", "p"), (f"{tmp_path}/project/", "p")):
        error = fails(daemon, "Adopt", name="n", path=path)
        assert (error.name, error.parameters["name"]) == ("AlreadyExists", name)
    assert {name: row["state"] for name, row in daemon.environments().items()} == {"a": "ready", "p": "ready"}
    made = daemon.call("Create", name="q", path=f"{tmp_path}/q/", withoutPip=True, requestId="1")
    assert daemon.call("Create", name="q", path=f"{tmp_path}/q/", withoutPip=True, requestId="1")["environment"] == made["environment"]
    trashed = daemon.call("Delete", name="q")["environment"]["path"]
    assert os.path.isdir(trashed)


def test_a_path_in_the_root_is_not_in_one_elsewhere(daemon, root, tmp_path):
    create(daemon, "b", path=str(tmp_path / "project"))
    wire.fake_environment(root, "b", prompt="another")
    assert daemon.call("Prompt", path=f"{tmp_path}/project/bin")["name"] == "b"
    assert fails(daemon, "Prompt", path=f"{root}/b/bin").name == "NoSuchEnvironment"


def test_what_is_in_the_trash_is_not_adopted(daemon, root, tmp_path):
    """It would go with its entry, however well it is used by then: it is restored instead."""
    daemon.call("Create", name="a", python=PYTHON, withoutPip=True, path=str(tmp_path / "there"))
    path = daemon.call("Delete", name="a")["environment"]["path"]
    (tmp_path / "link").symlink_to(os.path.dirname(path))
    for spelling in (path, str(tmp_path / "link" / "tree")):
        with pytest.raises(VarlinkError) as e:
            daemon.call("Adopt", name="b", path=spelling)
        assert e.value.name == "Unsupported" and "in the trash" in e.value.parameters["reason"]
    assert daemon.environments() == {} and daemon.call("Restore", name="a")["environment"]["state"] == "ready"
