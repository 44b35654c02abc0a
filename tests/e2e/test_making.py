# SPDX-License-Identifier: MIT
"""venvctl create with every option and anywhere, and recreate: names that are found, what is refused, what
--exist-ok compares, what is printed."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

from conftest import interpreters
from helpers import Signpost, children, eventually, rebuilt_python, wait_gone

SYSTEM = str(interpreters()[0])
OTHERS = interpreters()[1:]


@pytest.fixture
def cli(venvctl, tmp_path):
    def good(*args, **kwargs):
        done = venvctl(*args, **kwargs)
        assert done.returncode == 0, (args, done)
        return done

    def create(*args, **kwargs):
        return good("create", "-p", SYSTEM, "--without-pip", *args, **kwargs)

    venvctl.good, venvctl.create = good, create
    venvctl.show = lambda name: json.loads(good("show", "--json", name).stdout)
    yield venvctl
    venvctl("shutdown")


# --- elsewhere ---

@pytest.mark.parametrize("path, name", [
    ("proj/.venv", "proj"), ("proj/venv", "proj"), ("proj/env", "proj"), ("proj/.x/.venv", "x"),
    ("other", "other"), ("my project (1)/.venv", "my-project-1"), ("p\u00e9/.venv", "p"), (".hidden/venv", "hidden"),
    ("a..b--/.venv", "a..b"), ("x" * 150 + "/.venv", "x" * 100),
])
def test_the_name_is_the_projects(cli, tmp_path, path, name):
    made = cli.create("--path", path, cwd=tmp_path)
    assert made.stdout == f"{tmp_path}/{path}\n" and f"created '{name}' in {tmp_path}" in made.stderr
    shown = cli.show(name)
    assert (shown["path"], shown["state"]) == (f"{tmp_path}/{path}", "ready")
    assert cli.good("path", name).stdout == f"{tmp_path}/{path}\n"
    assert cli.good("run", name, "python", "-c", "import sys; print(sys.prefix)").stdout == f"{tmp_path}/{path}\n"


def test_names_that_cannot_be_found(cli, tmp_path):
    (tmp_path / "\u00e9").mkdir()
    done = cli("create", "--path", ".venv", cwd=tmp_path / "\u00e9")
    assert done.returncode == 2 and "venvctl create NAME --path DIR" in done.stderr
    cli.create("named", "--path", ".venv", cwd=tmp_path / "\u00e9")
    for name in ("one/proj", "two/proj"):
        (tmp_path / name).mkdir(parents=True)
    cli.create("--path", "one/proj/.venv", cwd=tmp_path)
    done = cli("create", "--path", "two/proj/.venv", cwd=tmp_path)
    assert done.returncode == 4 and f"hint: venvctl create ANOTHER-NAME --path {tmp_path}/two/proj/.venv" in done.stderr
    assert not (tmp_path / "two/proj/.venv").exists()
    assert cli("create", "--path", "", cwd=tmp_path).returncode == 2


def test_a_directory_has_one_name(cli, tmp_path):
    cli.create("--path", "proj/.venv", cwd=tmp_path)
    (tmp_path / "proj/.venv/mine").write_text("x")
    for arguments in (("--path", "proj/.venv"), ("other", "--path", "proj/.venv"),
                      ("other", "--clear", "--path", "proj/.venv", "--exist-ok")):
        done = cli("create", "-p", SYSTEM, "--without-pip", *arguments, cwd=tmp_path)
        assert done.returncode == 4 and "'proj' exists already" in done.stderr, done
        assert done.stderr.splitlines()[-1] == "hint: venvctl show proj"
    assert (tmp_path / "proj/.venv/mine").exists() and cli.good("list", "-q").stdout == "proj\n"
    cli.create("--path", "proj/.venv", "--exist-ok", cwd=tmp_path)
    cli.create("--path", "proj/.venv", "--clear", cwd=tmp_path)
    assert not (tmp_path / "proj/.venv/mine").exists()


def test_in_the_root_after_all(cli, root, tmp_path):
    made = cli.create("--path", f"{root}/inside/")
    assert made.stdout == f"{root}/inside\n" and cli.show("inside")["path"] == f"{root}/inside"
    done = cli("create", "x", "--path", f"{root}/y")
    assert done.returncode == 2 and "its name is 'y'" in done.stderr
    for path in (f"{root}/deeper/down", str(root), str(root.parent)):
        done = cli("create", "x", "--path", path)
        assert done.returncode == 1 and not (root / "deeper").exists(), done


def test_refusals_are_venvs_own(cli, tmp_path):
    (tmp_path / "file").write_text("x")
    done = cli("create", "x", "--path", "file", cwd=tmp_path)
    said = subprocess.run([SYSTEM, "-m", "venv", tmp_path / "file"], capture_output=True, text=True).stderr
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == said.strip().replace("Error:", "error:")
    done = cli("create", "x", "--clear", "--upgrade")
    assert "you cannot supply --upgrade and --clear together." in done.stderr
    assert cli("show", "x").returncode == 3


def test_deleted_and_restored_elsewhere(cli, root, tmp_path):
    cli.create("--path", "proj/.venv", cwd=tmp_path)
    path = tmp_path / "proj/.venv"
    inode = path.stat().st_ino
    cli.good("delete", "proj")
    assert not path.exists() and cli.good("list", "-q").stdout == ""
    cli.good("restart")
    cli.good("restore", "proj")
    assert path.stat().st_ino == inode and cli.show("proj")["state"] == "ready"
    cli.good("delete", "proj")
    cli.good("restart")
    cli.good("delete", "-y", "--now", "proj")
    assert os.listdir(path.parent) == [] and cli("show", "proj").returncode == 3


@pytest.mark.parametrize("how", ["close", "kill the worker", "kill the daemon"])
def test_interrupted_elsewhere(start, root, tmp_path, how):
    """In the middle of ensurepip: nothing that was made stays, and nothing that was there goes."""
    post = Signpost(str(tmp_path / "post"))
    python = rebuilt_python(interpreters()[-1], tmp_path / "python",
                            f"import os, signal\nopen({post.path!r}, 'w').write('%d\\n' % os.getpid())\nsignal.pause()\n")
    daemon = start(root)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/mine").write_text("x")
    path = tmp_path / "there/p/q/env"
    connection = daemon.connect()
    connection.send("Create", {"name": "e", "python": str(python), "path": str(path)})
    pid = int(post.line())
    post.close()
    assert (path / "pyvenv.cfg").exists()
    if how == "close":
        connection.close()
    elif how == "kill the worker":
        worker = [p for p in children(daemon.pid) if b"order" in pathlib.Path(f"/proc/{p}/cmdline").read_bytes()]
        os.kill(worker[0], signal.SIGKILL)
        assert "error" in connection.receive()
    else:
        daemon.kill()
    wait_gone(pid)
    if how == "kill the daemon":
        daemon = start(root)
    eventually(lambda: "e" not in daemon.environments())
    eventually(lambda: not path.exists())
    assert (tmp_path / "there/mine").read_text() == "x"
    if how != "kill the worker":        # who was killed cannot say which parents were its own
        eventually(lambda: os.listdir(tmp_path / "there") == ["mine"])


def test_removed_by_hand_elsewhere(cli, tmp_path):
    cli.create("--path", "proj/.venv", cwd=tmp_path)
    shutil.rmtree(tmp_path / "proj")
    cli.good("delete", "proj")
    assert cli("show", "proj").returncode == 3 and cli.good("list", "--trash", "-q").stdout == ""


def test_deleted_on_another_file_system(cli, tmp_path):
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system only")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        cli.create("far", "--path", f"{directory}/env")
        cli.good("delete", "far")
        cli.good("restore", "far")
        assert cli.show("far")["state"] == "ready"
        cli.good("delete", "-y", "--now", "far")
        assert os.listdir(directory) == []


# --- options ---

def test_options_are_recorded(cli, root):
    cli.create("a", "--copies", "--system-site-packages", "--prompt", "it's")
    options = cli.show("a")["options"]
    assert options == {"python": [SYSTEM], "prompt": "it's", "withoutPip": True, "systemSitePackages": True,
                       "copies": True}
    assert not (root / "a/bin/python").is_symlink()
    line = next(line for line in cli.good("show", "a").stdout.splitlines() if line.startswith("options"))
    assert all(word in line for word in (f"-p {SYSTEM}", "--copies", "--system-site-packages", "--without-pip"))
    cli.create("b", "--copies", "--symlinks")
    assert (root / "b/bin/python").is_symlink() and "copies" not in cli.show("b")["options"]


def test_clear_and_upgrade(cli, root):
    cli.create("a")
    before = cli.show("a")
    (root / "a/junk").write_text("x")
    cli.create("a", "--clear")
    assert not (root / "a/junk").exists() and cli.show("a")["id"] == before["id"]
    if OTHERS:
        cli.good("create", "a", "--upgrade", "--without-pip", "-p", str(OTHERS[-1]))
        assert cli.show("a")["version"].startswith(OTHERS[-1].name.removeprefix("python"))


def test_the_first_that_exists(cli):
    made = cli.good("create", "a", "--without-pip", "-p", "3.99", "-p", "/no/where", "-p", SYSTEM)
    assert f"({SYSTEM}" in made.stderr
    assert cli.show("a")["options"]["python"] == ["3.99", "/no/where", SYSTEM]
    done = cli("create", "b", *["-p", "3"] * 17)
    assert done.returncode == 2 and "at most 16" in done.stderr


def test_unknown_to_this_python(cli, root):
    for python in interpreters():
        if "--without-scm-ignore-files" not in subprocess.run([python, "-m", "venv", "-h"], capture_output=True,
                                                              text=True).stdout:
            done = cli("create", "a", "-p", str(python), "--without-scm-ignore-files", "--path", root.parent / "a")
            assert done.returncode == 1 and "does not know --without-scm-ignore-files" in done.stderr
            assert not (root.parent / "a").exists() and cli("show", "a").returncode == 3
            return
    pytest.skip("all know it")


@pytest.mark.parametrize("arguments, word", [
    (("--copies",), "links to the interpreter"), (("--prompt", "x"), "the prompt"),
    (("--system-site-packages",), "system-site-packages"), (("--path", "/somewhere/else"), "the path"),
    (("--without-scm-ignore-files",), "scm-ignore-files"),
])
def test_exist_ok_compares(cli, root, tmp_path, arguments, word):
    cli.create("a")
    again = cli.good("create", "a", "-p", SYSTEM, "--without-pip", "--exist-ok")
    assert again.stdout == f"{root}/a\n"
    done = cli("create", "a", "-p", SYSTEM, "--without-pip", "--exist-ok", *arguments)
    assert done.returncode == 4 and word in done.stderr, done


def test_exist_ok_and_interpreters(cli, root, tmp_path):
    version = subprocess.run([SYSTEM, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                             capture_output=True, text=True).stdout.strip()
    cli.create("a")
    link = tmp_path / "mypython"
    link.symlink_to(SYSTEM)
    same = [["-p", SYSTEM], ["-p", version], ["-p", f"=={version}.*"], ["-p", "3.99", "-p", SYSTEM], ["-p", "a"],
            ["-p", str(link)], []]
    for python in same:
        done = cli("create", "a", "--without-pip", "--exist-ok", *python, env={"PATH": "/usr/bin:/bin"})
        assert done.returncode == 0, (python, done)
    for python in (["-p", "3.99"], ["-p", "pypy"], ["-p", "no-such"]) + ((["-p", str(OTHERS[-1])],) if OTHERS else ()):
        done = cli("create", "a", "--without-pip", "--exist-ok", *python)
        assert done.returncode == 4 and "the interpreter" in done.stderr, (python, done)


def test_status_tells_what_is_prepared(cli):
    cli.create("a")
    lines = cli.good("status").stdout.splitlines()
    assert any(line.startswith("image\tPython ") and f"without pip ({SYSTEM}): " in line for line in lines), lines
    assert any(line.startswith("link mode\t") for line in lines)


# --- recreate ---

def put(env, name, version="1.0", url=None):
    site = next(env.glob("lib/python*/site-packages")) / f"{name}-{version}.dist-info"
    site.mkdir()
    (site / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    if url:
        (site / "direct_url.json").write_text(json.dumps(url))


def test_recreate(cli, root):
    cli.create("a", "--prompt", "P")
    before = cli.show("a")
    put(root / "a", "requests", "2.31.0")
    put(root / "a", "mine", url={"url": "file:///src/mine", "dir_info": {"editable": True}})
    put(root / "a", "their", url={"url": "https://me:secret@h/t.whl"})
    done = cli.good("recreate", "a")
    assert done.stdout == "-e file:///src/mine\nrequests==2.31.0\ntheir @ https://h/t.whl\n"
    after = cli.show("a")
    assert (after["id"], after["options"], after["prompt"]) == (before["id"], before["options"], "P")
    assert not list(root.glob("a/lib/*/site-packages/requests*"))
    undo = done.stderr.split("to take it back: ")[1].strip()
    for command in undo.split(" && "):
        cli.good(*command.split()[1:])
    assert list(root.glob("a/lib/*/site-packages/requests*"))
    quiet = cli.good("-q", "recreate", "a", "--prompt", "")
    assert quiet.stderr == "" and "requests==2.31.0" in quiet.stdout
    assert "prompt" not in cli.show("a").get("options", {})


def test_recreate_with_another_python(cli, root):
    if not OTHERS:
        pytest.skip("needs two interpreters")
    cli.create("a")
    done = cli.good("recreate", "a", "-p", "3.99", "-p", str(OTHERS[-1]))
    assert done.stdout == "" and "nothing had been installed" in done.stderr
    assert cli.show("a")["options"]["python"] == ["3.99", str(OTHERS[-1])]


@pytest.mark.slow
def test_recreate_leaves_out_what_came_with_it(cli, root):
    if cli("create", "a", "-p", SYSTEM).returncode:
        pytest.skip("no ensurepip here")
    every = cli.good("recreate", "a", "--all").stdout.splitlines()
    assert any(line.startswith("pip==") for line in every)
    assert cli.good("recreate", "a").stdout == ""


def test_recreate_refusals(cli, root, tmp_path):
    cli.create("a")
    (root / "foreign").symlink_to(tmp_path)
    before = os.stat(root / "a").st_ino
    for arguments, status in ((["none"], 3), ([], 2), (["a", "-p", "3.99"], 1), (["a", "b"], 2)):
        assert cli("recreate", *arguments).returncode == status, arguments
    assert os.stat(root / "a").st_ino == before and cli.show("a")["state"] == "ready"
    assert cli.good("list", "--trash", "-q").stdout == ""


# --- Python 2 ---

def test_python2_needs_virtualenv(cli, root):
    old = sorted((pathlib.Path.home() / ".pyenv/versions").glob("2.7*/bin/python2.7"))
    if not old:
        pytest.skip("no Python 2.7 here")
    done = cli("create", "a", "-p", str(old[0]), env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 1 and not (root / "a").exists()
    assert done.stderr.splitlines()[-1].endswith("'virtualenv<20.22'")
