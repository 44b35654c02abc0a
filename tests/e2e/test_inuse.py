# SPDX-License-Identifier: MIT
"""What is in use is not deleted, and what is protected neither.

The processes are real: Pythons of environments, and shells, each of which says on a pipe that it runs.
"""
import json
import os
import shutil
import subprocess

import pytest

from conftest import VENVCTL, VarlinkError, interpreters
from helpers import needs_root

PYTHON = str(interpreters()[0])
SAYS_SO = "import sys; print('here', flush=True); sys.stdin.read()"


def create(daemon, name, **parameters):
    return daemon.call("Create", name=name, python=PYTHON, withoutPip=True, **parameters)["environment"]


def refused(daemon, method, **parameters):
    with pytest.raises(VarlinkError) as e:
        daemon.call(method, **parameters)
    return e.value


def stop(process):
    process.stdin.close()
    process.wait()
    process.stdin = open(os.devnull, "wb")


# --- what counts ---

def by_its_path(root, running, tmp_path):
    return running([root / "e/bin/python", "-c", SAYS_SO])


def by_a_relative_path(root, running, tmp_path):
    return running(["bin/python", "-c", SAYS_SO], cwd=root / "e")


def by_a_way_around(root, running, tmp_path):
    (root / "e2").mkdir()
    return running(["../e//./bin/../bin/python", "-c", SAYS_SO], cwd=root / "e2")


def by_two_slashes(root, running, tmp_path):
    return running([f"/{root}//e/bin/python", "-c", SAYS_SO])


def by_path_and_virtual_env(root, running, tmp_path):
    return running(["python", "-c", SAYS_SO], executable=root / "e/bin/python", env={"VIRTUAL_ENV": f"{root}/e/"})


def by_a_script(root, running, tmp_path):
    script = root / "e/bin/serve"
    script.write_text(f"#!{root}/e/bin/python\n{SAYS_SO}\n")
    script.chmod(0o755)
    return running([script])


def by_a_program_in_it(root, running, tmp_path):
    shutil.copy("/bin/sh", root / "e/bin/tool")
    return running(["tool", "-c", "echo here; read x"], executable=root / "e/bin/tool")


def by_another_spelling(root, running, tmp_path):
    (tmp_path / "link").symlink_to(root)
    return running(["python", "-c", SAYS_SO], executable=tmp_path / "link/e/bin/python",
                   env={"VIRTUAL_ENV": f"{root.resolve()}/e"})


@pytest.mark.parametrize("how", [by_its_path, by_a_relative_path, by_a_way_around, by_two_slashes, by_path_and_virtual_env, by_a_script,
                                 by_a_program_in_it, by_another_spelling])
def test_what_runs_keeps_it(daemon, root, running, tmp_path, how):
    made = create(daemon, "e")
    process = how(root, running, tmp_path)
    for now in (False, True):
        error = refused(daemon, "Delete", name="e", now=now)
        assert error.name == "InUse" and error.parameters["name"] == "e"
        (one,) = error.parameters["processes"]
        assert one["pid"] == process.pid and one["command"]
        assert f"process {process.pid} (" in error.parameters["reason"]
    assert daemon.environments() == {"e": made} and (root / "e/pyvenv.cfg").exists() and daemon.trash() == []
    stop(process)
    assert daemon.call("Delete", name="e")["environment"]["state"] == "trashed"


def test_what_was_started_in_it_runs_from_another(daemon, root, running):
    create(daemon, "e")
    create(daemon, "other")
    process = running(["../other/bin/python", "-c", SAYS_SO], cwd=root / "e")
    assert refused(daemon, "Delete", name="other").parameters["processes"][0]["pid"] == process.pid
    assert daemon.call("Delete", name="e")["environment"]["state"] == "trashed"


def test_copies_run_from_it_too(daemon, root, running):
    create(daemon, "e", copies=True)
    process = running(["x", "-c", SAYS_SO], executable=root / "e/bin/python")
    assert refused(daemon, "Delete", name="e").parameters["processes"][0]["pid"] == process.pid


def test_elsewhere(daemon, tmp_path, running):
    where = tmp_path / "project/.venv"
    create(daemon, "e", path=str(where))
    running([where / "bin/python", "-c", SAYS_SO])
    assert refused(daemon, "Delete", name="e").name == "InUse"
    assert daemon.call("Delete", name="e", force=True)["environment"]["state"] == "trashed"


def test_an_upgraded_base_is_still_one(daemon, root, running, tmp_path):
    """Its file was replaced while it ran, as a package manager does it."""
    base = tmp_path / "base"
    subprocess.run([PYTHON, "-m", "venv", "--copies", "--without-pip", base], check=True)
    executable = base / "bin/python3"
    create(daemon, "e")
    link = root / "e/bin/python3"
    link.unlink()
    link.symlink_to(executable)
    process = running([root / "e/bin/python3", "-c", SAYS_SO])
    shutil.copy(executable, tmp_path / "new")
    os.replace(tmp_path / "new", executable)
    assert refused(daemon, "Delete", name="e").parameters["processes"][0]["pid"] == process.pid


# --- what does not ---

def test_others_do_not_count(daemon, root, running):
    """The same base Python without the environment, another environment's, and one whose name only begins so."""
    create(daemon, "e")
    create(daemon, "e2")
    running([PYTHON, "-c", SAYS_SO])
    running([root / "e2/bin/python", "-c", SAYS_SO], env={"VIRTUAL_ENV": f"{root}/e2"})
    answer = daemon.call("Delete", name="e")
    assert answer["environment"]["state"] == "trashed" and "warnings" not in answer
    assert refused(daemon, "Delete", name="e2").name == "InUse"


def test_who_stands_in_it_is_a_warning(daemon, root, running):
    create(daemon, "e")
    standing = running(["/bin/sh", "-c", "echo here; read x"], cwd=root / "e/lib")
    active = running(["/bin/sh", "-c", "echo here; read x"], env={"VIRTUAL_ENV": f"{root}/e"})
    answer = daemon.call("Delete", name="e")
    assert answer["environment"]["state"] == "trashed"
    assert len(answer["warnings"]) == 2
    for process in (standing, active):
        assert any(f"process {process.pid} (/bin/sh" in w for w in answer["warnings"])


def test_the_caller_and_those_above_it_do_not_count(daemon, root, running, tmp_path):
    """A script of the environment that deletes it, through a shell."""
    create(daemon, "e")
    create(daemon, "other")
    code = ("import subprocess, sys; sys.exit(subprocess.call(['/bin/sh', '-c', '\"$0\" \"$@\"; exit $?', "
            f"{str(VENVCTL)!r}, 'delete', sys.argv[1]]))")
    running([root / "other/bin/python", "-c", SAYS_SO])
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "VENVD_ROOT": str(root)}
    done = subprocess.run([root / "e/bin/python", "-c", code, "e"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (root / "e").exists()
    done = subprocess.run([root / "other/bin/python", "-c", code, "other"], env=environment, capture_output=True, text=True)
    assert done.returncode == 5 and (root / "other").exists(), done.stderr


@needs_root
def test_other_users_do_not_count(daemon, root, running):
    create(daemon, "e")
    for directory in [root / "e/bin", root / "e", root, *root.parents]:
        if directory.stat().st_uid == 0 and directory.stat().st_mode & 0o011 != 0o011:
            directory.chmod(directory.stat().st_mode | 0o011)
    running([root / "e/bin/python", "-c", SAYS_SO], user=65534)
    assert daemon.call("Delete", name="e")["environment"]["state"] == "trashed"


# --- force, recreate, many ---

def test_force(daemon, root, running):
    create(daemon, "e")
    running([root / "e/bin/python", "-c", SAYS_SO])
    assert daemon.call("Delete", name="e", force=True)["environment"]["state"] == "trashed"
    assert daemon.call("Restore", name="e")["environment"]["state"] == "ready"
    assert daemon.call("Delete", name="e", now=True, force=True) == {}


def test_recreate_is_refused(daemon, root, running):
    made = create(daemon, "e")
    process = running([root / "e/bin/python", "-c", SAYS_SO])
    error = refused(daemon, "Recreate", name="e")
    assert error.name == "InUse" and error.parameters["processes"][0]["pid"] == process.pid
    assert daemon.environments() == {"e": made} and daemon.trash() == []
    inode = (root / "e").stat().st_ino
    again = daemon.call("Recreate", name="e", force=True)
    assert again["environment"]["id"] == made["id"] and (root / "e").stat().st_ino != inode
    running(["/bin/sh", "-c", "echo here; read x"], cwd=root / "e")
    stop(process)
    (warning,) = daemon.call("Recreate", name="e")["warnings"]
    assert "stands in it" in warning


def test_many_are_counted(daemon, root, running):
    create(daemon, "e")
    for _ in range(10):
        running([root / "e/bin/python", "-c", SAYS_SO, "x" * 1000])
    error = refused(daemon, "Delete", name="e")
    assert len(error.parameters["processes"]) == 8          # LIMIT_IN_USE
    assert error.parameters["reason"].endswith(" and 9 more run from it")
    assert all(len(p["command"]) <= 256 for p in error.parameters["processes"])     # LIMIT_COMMAND_BYTES


def test_one_look_for_all_who_ask(daemon, root, running):
    names = [f"e{i}" for i in range(16)]
    for name in names:
        create(daemon, name)
    running([root / "e3/bin/python", "-c", SAYS_SO])
    connections = [daemon.connect() for _ in names]
    for name, connection in zip(names, connections, strict=True):
        connection.send("Delete", {"name": name})
    errors = [name for name, connection in zip(names, connections, strict=True) if "error" in connection.receive()]
    for connection in connections:
        connection.close()
    assert errors == ["e3"] and set(daemon.environments()) == {"e3"}


def test_a_retry_looks_again(daemon, root, running):
    create(daemon, "e")
    process = running([root / "e/bin/python", "-c", SAYS_SO])
    assert refused(daemon, "Delete", name="e", requestId="r").name == "InUse"
    stop(process)
    assert daemon.call("Delete", name="e", requestId="r")["environment"]["state"] == "trashed"


def test_hostile_words_are_made_safe(daemon, root, running, venvctl):
    create(daemon, "e")
    running(["\x1b[31mred\n\xff", "-c", SAYS_SO], executable=root / "e/bin/python", env={"VIRTUAL_ENV": f"{root}/e"})
    done = venvctl("delete", "e")
    assert done.returncode == 5
    assert "\x1b" not in done.stderr and "red" in done.stderr
    assert "hint: venvctl " in done.stderr and "delete --force e" in done.stderr


# --- protected ---

def test_protect(start, root):
    daemon = start(root)
    made = create(daemon, "e")
    assert "protected" not in made
    assert daemon.call("Protect", name="e")["environment"] == {**made, "protected": True}
    for method, more in (("Delete", {}), ("Delete", {"now": True}), ("Delete", {"force": True}),
                         ("Recreate", {"force": True}), ("Create", {"clear": True})):
        error = refused(daemon, method, name="e", **more)
        assert (error.name, error.parameters) == ("Protected", {"name": "e"})
    assert daemon.kill() != 0
    daemon = start(root)
    assert daemon.environments() == {"e": {**made, "protected": True}}
    assert refused(daemon, "Delete", name="e").name == "Protected"
    assert daemon.call("Create", name="e", python=PYTHON, withoutPip=True, upgrade=True)["environment"]["protected"]
    assert daemon.call("Protect", name="e", protected=False)["environment"].get("protected") is None
    assert daemon.call("Delete", name="e")["environment"]["state"] == "trashed"
    assert daemon.call("Restore", name="e")["environment"]["state"] == "ready"
    assert refused(daemon, "Protect", name="nobody").name == "NoSuchEnvironment"
    daemon.stop()


def test_protect_from_the_command_line(daemon, root, venvctl):
    for name in ("a", "b"):
        create(daemon, name)
    done = venvctl("protect", "a", "nobody")
    assert done.returncode == 9 and "'a' is protected" in done.stderr and "no environment 'nobody'" in done.stderr
    assert [line.split("\t")[6] for line in venvctl("list").stdout.splitlines()] == ["protected", ""]
    assert json.loads(venvctl("show", "a", "--json").stdout)["protected"] is True
    assert "protected" in venvctl("show", "a").stdout
    done = venvctl("delete", "a")
    assert done.returncode == 5 and "'a' is protected" in done.stderr and "unprotect a" in done.stderr
    done = venvctl("delete", "a", "--dry-run")
    assert done.returncode == 5 and done.stdout == ""
    done = venvctl("delete", "-y", "*")
    assert done.returncode == 0 and "'a' is protected, leaving it alone" in done.stderr
    assert set(daemon.environments()) == {"a"}
    assert venvctl("unprotect", "a").returncode == 0
    assert venvctl("delete", "a").returncode == 0
