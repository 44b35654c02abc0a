# SPDX-License-Identifier: MIT
"""Interpreters through the daemon and venvctl: found by every rule, added, listed, and taken by Create."""
import json
import os
import pathlib
import shutil
import sys

import pytest

from conftest import VarlinkError

SYSTEM = "/usr/bin/python3"
pytestmark = pytest.mark.skipif(not os.path.exists(SYSTEM), reason=f"needs {SYSTEM}")


@pytest.fixture
def one(venvctl):
    """An interpreter where none is looked for: a link, so that it works."""
    path = venvctl.home / "far" / "my-python"
    path.parent.mkdir()
    path.symlink_to(SYSTEM)
    return path


def good(done):
    assert done.returncode == 0, done
    return done


def caller(**more):
    return {"path": "/usr/bin:/bin", "cwd": "/", "umask": 0o022, "environment": {}} | more


# --- the interface ---

def test_find(daemon, tmp_path):
    minor = "%d.%d" % sys.version_info[:2]
    found = daemon.call("FindInterpreter", caller=caller())
    assert found["interpreter"]["path"] == SYSTEM and found["interpreter"]["state"] == "usable"
    assert (found["reason"], found["rule"]) == ("first python3 on PATH", "PATH") and "warnings" not in found
    assert daemon.call("FindInterpreter", python=["99", SYSTEM], caller=caller())["rule"] == "path"
    with pytest.raises(VarlinkError) as e:
        daemon.call("FindInterpreter", python=["99", "98"], caller=caller())
    assert e.value.name == "NoSuchInterpreter" and e.value.parameters["interpreter"] == "99, 98"
    (tmp_path / ".python-version").write_text("99\n")
    found = daemon.call("FindInterpreter", caller=caller(cwd=str(tmp_path)))
    assert found["rule"] == "PATH" and "'99'" in found["warnings"][0]
    (tmp_path / ".python-version").write_text(f"99\n{minor}\n")
    if daemon.call("FindInterpreter", caller=caller())["interpreter"]["version"].startswith(minor + "."):
        found = daemon.call("FindInterpreter", caller=caller(cwd=str(tmp_path)))
        assert found["rule"] == "pin" and str(tmp_path) in found["reason"] and "warnings" not in found


@pytest.mark.parametrize("python", [["3"] * 17, ["x" * 4096]])
def test_bounds_of_specifications(daemon, python):
    with pytest.raises(VarlinkError) as e:
        daemon.call("FindInterpreter", python=python)
    assert e.value.name == "InvalidParameter"
    fits = ["x" * 200] * 15 + [SYSTEM] if len(python) > 1 else ["x" * 4095, SYSTEM]
    assert daemon.call("FindInterpreter", python=fits, caller=caller())["interpreter"]["path"] == SYSTEM


def test_add_and_remove(daemon, one, root):
    added = daemon.call("AddInterpreter", path=str(one))["interpreter"]
    assert added["path"] == str(one) and added["added"] is True
    listed = {i["path"]: i for i in daemon.call("ListInterpreters", caller=caller(path="/nowhere"))["interpreters"]}
    assert all("state" in i for i in listed.values())
    assert daemon.call("RemoveInterpreter", path=str(one)) == {}
    with pytest.raises(VarlinkError) as e:
        daemon.call("RemoveInterpreter", path=str(one))
    assert e.value.name == "NoSuchInterpreter"
    for path in ("relative", "/no/such/python"):
        with pytest.raises(VarlinkError) as e:
            daemon.call("AddInterpreter", path=path)
        assert e.value.name == "NoSuchInterpreter"
    with pytest.raises(VarlinkError) as e:
        daemon.call("AddInterpreter", path="/" + "x" * 4095)
    assert e.value.name == "InvalidParameter"


# --- creating ---

def test_shim_is_run_once_for_each_creation(daemon, tmp_path):
    """What is behind it is taken by the claim that follows; it is never remembered."""
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "python3").write_text(f'#!/bin/sh\necho >> {tmp_path}/runs\nexec {SYSTEM} "$@"\n')
    (shims / "python3").chmod(0o755)
    for count, name in enumerate(("a", "b"), 1):
        made = daemon.call("Create", name=name, withoutPip=True, caller=caller(path=str(shims)))
        assert "behind the shim" in made["interpreterReason"]
        assert made["environment"]["state"] == "ready"
        assert (tmp_path / "runs").read_text() == "\n" * count


def test_create_reads_python_version(daemon, tmp_path, root):
    daemon.call("Create", name="base", withoutPip=True, python=SYSTEM)
    (tmp_path / ".python-version").write_text("base\n")
    (tmp_path / "sub").mkdir()
    made = daemon.call("Create", name="a", withoutPip=True, caller=caller(path="/nowhere", cwd=f"{tmp_path}/sub"))
    assert made["environment"]["interpreter"] == SYSTEM and ".python-version" in made["interpreterReason"]
    (tmp_path / ".python-version").write_text("nothing-of-this-name\n")
    made = daemon.call("Create", name="b", withoutPip=True, caller=caller(cwd=str(tmp_path)))
    assert "nothing-of-this-name" in made["warnings"][0]


def test_interpreter_that_vanished(daemon, tmp_path):
    python = tmp_path / "python3"
    python.symlink_to(SYSTEM)
    daemon.call("Create", name="a", withoutPip=True, python=str(python))
    python.unlink()
    with pytest.raises(VarlinkError) as e:
        daemon.call("Create", name="b", withoutPip=True, python=str(python))
    assert e.value.name == "NoSuchInterpreter" and list(daemon.environments()) == ["a"]


# --- venvctl ---

def test_venvctl(venvctl, one):
    env = {"PATH": "/usr/bin:/bin"}
    done = good(venvctl("python", "find", env=env, cwd="/"))
    version = done.stderr.split(",")[0].removeprefix("Python ")
    assert done.stdout == SYSTEM + "\n" and "first python3 on PATH" in done.stderr
    assert not venvctl.root.exists()                        # only looking
    done = good(venvctl("python", "find", "99", "3", "--json", env=env))
    told = json.loads(done.stdout)
    assert told["interpreter"]["version"] == version and told["rule"] == "PATH" and done.stderr == ""
    done = venvctl("python", "find", "99", env=env)
    assert done.returncode == 1 and done.stdout == "" and "no interpreter '99'" in done.stderr
    venvctl.root.mkdir()
    done = good(venvctl("python", "add", one.name, env=env, cwd=one.parent))
    assert done.stderr.splitlines()[-1] == f"added Python {version} ({one})"
    rows = [line.split("\t") for line in good(venvctl("python", "list", env=env)).stdout.splitlines()]
    assert [version, "cpython", SYSTEM, "PATH", "usable", ""] in rows
    assert good(venvctl("python", "find", "my-python", env={"PATH": str(one.parent)})).stdout == f"{one}\n"
    good(venvctl("python", "remove", one, env=env))
    done = venvctl("python", "remove", one, env=env)
    assert done.returncode == 1 and "was not added" in done.stderr
    assert good(venvctl("-q", "python", "find", SYSTEM, env=env)).stderr == ""


@pytest.mark.parametrize("words", [["find", "--no"], ["add"], ["add", "a", "b"], ["remove"], ["add", "x", "--json"],
                                   ["list", "x"], ["fnd"]])
def test_wrong_words(venvctl, words):
    assert venvctl("python", *words).returncode == 2


def test_warning_of_python_version(venvctl, tmp_path):
    (tmp_path / ".python-version").write_text("99\n")
    done = good(venvctl("python", "find", env={"PATH": "/usr/bin"}, cwd=tmp_path))
    assert done.stdout == SYSTEM + "\n"
    assert f"warning: '{tmp_path}/.python-version' asks for '99', which is not here" in done.stderr


def test_interpreter_that_everybody_could_change(venvctl, tmp_path):
    directory = tmp_path / "open"
    directory.mkdir()
    shutil.copy(SYSTEM, directory / "python3")
    directory.chmod(0o777)
    done = venvctl("python", "add", directory / "python3")
    assert done.returncode == 1 and "not safe to run" in done.stderr
    assert not (pathlib.Path(venvctl.root) / ".venvd/interpreters/added.json").exists()
