# SPDX-License-Identifier: MIT
# ruff: noqa: F401, F811 -- fixtures come from worker.py
"""Creation in place: every option of `python -m venv`, any directory, and Pythons that need virtualenv.
The worker by itself; test_cli.py has the command line."""

import json
import os
import pathlib
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile

import pytest

from helpers import differences, rebuilt_python, tree
from worker import CALLER, PYTHON, PYTHONS, Worker, create, create_order, fake_env, identity, order, root, workers

PYENV = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv")) / "versions"
PYTHON2 = sorted(PYENV.glob("2.7*/bin/python2.7"))


def named(root, path, **fields):
    """The order for a directory that is used as it is."""
    return create(root, path=str(path), elsewhere=not str(path).startswith(f"{root}/"), **fields)


def failed(answer, error="Failed"):
    assert answer.get("error") == "io.venvd." + error, answer
    return answer["parameters"].get("reason")


def venv(python, *arguments, **kwargs):
    env = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], "LC_ALL": "C.UTF-8"}
    return subprocess.run([python, "-m", "venv", *map(str, arguments)], env=env, capture_output=True, text=True,
                          **{"umask": 0o022, "cwd": "/"} | kwargs)


# --- options ---

def newest(word):
    """An interpreter whose venv module knows this option."""
    for python in reversed(PYTHONS):
        if word in venv(python, "--help").stdout:
            return python
    pytest.skip(f"no interpreter here knows {word}")


def oldest(word):
    for python in PYTHONS:
        if word not in venv(python, "--help").stdout:
            return python
    pytest.skip(f"every interpreter here knows {word}")


@pytest.mark.parametrize("options, arguments", [
    ({"copies": True}, ["--copies"]),
    ({"copies": True, "systemSitePackages": True, "prompt": "."}, ["--copies", "--system-site-packages", "--prompt=."]),
    ({"withoutScmIgnoreFiles": True}, ["--without-scm-ignore-files"]),
    ({"clear": True}, ["--clear"]),
    ({"upgrade": True}, ["--upgrade"]),
])
def test_options_reach_venv(root, options, arguments):
    python = newest(arguments[0])
    answer, _ = create(root, python=python, **options)
    assert "error" not in answer and answer["creator"] == "venv", answer
    ours = tree(root / "e")
    shutil.rmtree(root / "e")
    assert venv(python, *arguments, "--without-pip", root / "e").returncode == 0
    assert differences(ours, tree(root / "e")) == []


@pytest.mark.parametrize("option, word", [("withoutScmIgnoreFiles", "--without-scm-ignore-files"),
                                          ("upgradeDeps", "--upgrade-deps")])
def test_options_that_this_python_does_not_know(root, option, word):
    python = oldest(word)
    answer, _ = create(root, python=python, **{option: True})
    assert word in failed(answer, "Unsupported") and python in answer["parameters"]["reason"]


def test_what_venv_refuses_is_told_in_its_words(root):
    said = venv(PYTHON, "--upgrade", "--clear", root / "e")
    answer, _ = create(root, upgrade=True, clear=True)
    assert f"Error: {failed(answer)}\n" == said.stderr
    assert not (root / "e").exists()


def test_clear_and_upgrade_use_what_is_there(root):
    (root / "e/lib/junk").mkdir(parents=True)
    me = identity(root / "e")
    answer, frames = create(root, upgrade=True)
    reserved = next(f for f in frames if f["frame"] == "reserved")
    assert "error" not in answer and reserved["made"] is False and (root / "e/lib/junk").exists()
    assert (reserved["ino"], reserved["btime"]) == (me["ino"], me["btime"])
    assert not (root / "e/bin/activate").exists()       # --upgrade writes none
    answer, _ = create(root, clear=True)
    assert "error" not in answer and not (root / "e/lib/junk").exists()
    assert identity(root / "e") == me and (root / "e/bin/activate").exists()
    assert os.listdir(root / ".venvd/stage") == []


def test_upgrade_moves_to_another_python(root):
    if len(PYTHONS) < 2:
        pytest.skip("needs two interpreters")
    old, new = PYTHONS[-2:]
    create(root, python=old)
    shutil.copytree(root / "e", root / "copy", symlinks=True)
    assert venv(new, "--upgrade", "--without-pip", root / "e").returncode == 0
    theirs = tree(root / "e")
    shutil.rmtree(root / "e")
    (root / "copy").rename(root / "e")
    answer, _ = create(root, python=new, upgrade=True)
    assert "error" not in answer, answer
    assert differences(tree(root / "e"), theirs) == []


# --- elsewhere ---

@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_missing_parents_are_made(root, tmp_path, mask):
    path = tmp_path / "a b/c/.venv"
    answer, frames = named(root, path, caller=CALLER | {"umask": mask})
    reserved = next(f for f in frames if f["frame"] == "reserved")
    assert reserved["made"] is True and answer["environment"]["ino"] == path.stat().st_ino == reserved["ino"]
    assert answer["environment"]["name"] == "e" and answer["environment"]["kind"] == "environment"
    ours = tree(tmp_path / "a b")
    shutil.rmtree(tmp_path / "a b")
    assert venv(PYTHON, "--without-pip", path, umask=mask).returncode == 0
    assert differences(ours, tree(tmp_path / "a b")) == []
    assert os.listdir(root) == [".venvd"] and os.listdir(root / ".venvd/stage") == []


def test_an_existing_directory_is_kept(root, tmp_path):
    path = tmp_path / "project"
    path.mkdir(mode=0o750)
    (path / "mine").write_text("x")
    answer, frames = named(root, path)
    assert "error" not in answer and (path / "mine").read_text() == "x" and (path / "bin/python").exists()
    assert next(f for f in frames if f["frame"] == "reserved")["made"] is False
    assert path.stat().st_mode & 0o777 == 0o750


def test_links_and_files_are_refused(root, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/mine").write_text("x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").write_text("x")
    for name in ("link", "file", "dangling"):
        for clear in (False, True):
            answer, frames = named(root, tmp_path / name, clear=clear)
            assert failed(answer) == f"Unable to create directory '{tmp_path}/{name}'"
            assert [f["frame"] for f in frames if f["frame"] == "reserved"] == []
    said = venv(PYTHON, tmp_path / "link").stderr
    assert said == f"Error: Unable to create directory '{tmp_path}/link'\n"
    assert sorted(os.listdir(tmp_path)) == ["dangling", "file", "link", "real", "root"]
    assert os.listdir(tmp_path / "real") == ["mine"]


def test_a_parent_may_be_a_link(root, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    answer, _ = named(root, tmp_path / "link/env")
    assert "error" not in answer
    assert f"VIRTUAL_ENV={tmp_path}/link/env" in (tmp_path / "real/env/bin/activate").read_text().replace('"', "")


def test_a_colon_is_the_tools_business(root, tmp_path):
    for python in (PYTHONS[0], PYTHONS[-1]):
        path = tmp_path / "x/a:b"
        said = venv(python, "--without-pip", path)
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        answer, _ = named(root, path, python=python)
        if said.returncode == 0:
            assert "error" not in answer
            shutil.rmtree(tmp_path / "x")
        else:
            assert f"Error: {failed(answer)}\n" == said.stderr
            assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("path, why", [
    ("..", "holds the root"), (".", "holds the root"), (".venvd/stage/x", "daemon's own directory"),
    (".venvd", "daemon's own directory")])
def test_the_root_is_out_of_reach(root, path, why):
    (root / "precious").mkdir()
    without = ("lock", "interpreters")
    before = tree(root, without=without)
    answer, _ = create(root, path=os.path.normpath(root / path), elsewhere=True, clear=True)
    assert why in failed(answer) and tree(root, without=without) == before


def test_what_comes_to_nothing_is_taken_away(root, tmp_path):
    python = rebuilt_python(PYTHON, tmp_path / "base", "import os, sys\nprint('oh dear')\nsys.exit(3)\n")
    (tmp_path / "there").mkdir()
    (tmp_path / "there/mine").write_text("x")
    for path in (tmp_path / "p/q/env", tmp_path / "there/env"):
        answer, _ = named(root, path, python=str(python), withoutPip=False)
        failed(answer, "InterpreterFailed")
        assert not path.exists()
    assert not (tmp_path / "p").exists() and os.listdir(tmp_path / "there") == ["mine"]
    answer, _ = named(root, tmp_path / "there", python=str(python), withoutPip=False)
    failed(answer, "InterpreterFailed")
    assert (tmp_path / "there/mine").read_text() == "x"


def test_without_go_nothing_remains(root, tmp_path):
    (tmp_path / "there").mkdir()
    for path, left in ((tmp_path / "p/q/env", False), (tmp_path / "there", True)):
        worker = Worker(root)
        worker.send("create", **create_order(root, path=str(path), elsewhere=True))
        while worker.receive()["frame"] != "reserved":
            pass
        assert path.is_dir()
        assert worker.close() == (0, "")
        assert path.exists() == left
    assert not (tmp_path / "p").exists()


# --- virtualenv ---

@pytest.fixture(scope="session")
def virtualenv20():
    """The directory of a virtualenv below 20.22, as tests/requirements.txt has it."""
    here = pathlib.Path(sys.executable).parent
    version = subprocess.run([sys.executable, "-m", "virtualenv", "--version"], capture_output=True, text=True).stdout
    if not version.startswith("virtualenv 20.21"):
        pytest.skip("no virtualenv 20.21 in the test environment")
    return here


def program(directory, body):
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "virtualenv"
    path.write_text(body)
    path.chmod(0o755)
    return path


def python2():
    if not PYTHON2:
        pytest.skip("no Python 2.7 here")
    return str(PYTHON2[0])


def old_python(directory, version, venv=False):
    """What says that it is this old."""
    path = directory / "oldpython"
    info = json.dumps([1, [*version, "final", 0], None, str(path), venv, venv])
    path.write_text(f"#!/bin/sh\ncase \"$*\" in\n*sys.version_info*) echo '{info}';;\n*) echo no >&2; exit 1;;\nesac\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("options", [
    {}, {"withoutPip": False, "systemSitePackages": True, "prompt": "it's A"}, {"copies": True}, {"clear": True}])
def test_python2(root, tmp_path, virtualenv20, options):
    bin_dir = tmp_path / "with space"
    program(bin_dir, f"#!/bin/sh\nexec {sys.executable} -m virtualenv \"$@\"\n")
    caller = CALLER | {"path": f"{bin_dir}:/usr/bin:/bin"}
    answer, _ = create(root, python=python2(), caller=caller, **options)
    assert "error" not in answer and answer["creator"] == "virtualenv", answer
    env = answer["environment"]
    assert env["creator"] == "virtualenv" and env["version"].startswith("2.7")
    assert env["pip"] is not options.get("withoutPip", True)
    assert env["systemSitePackages"] is options.get("systemSitePackages", False)
    assert env.get("prompt") == options.get("prompt")
    assert os.path.islink(root / "e/bin/python2.7") is not options.get("copies", False)
    said = subprocess.run([root / "e/bin/python", "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
    assert said.stdout == f"{root}/e\n"


def test_python2_without_virtualenv(root, tmp_path):
    """Too new ones are passed over; the hint is a command."""
    program(tmp_path / "new", "#!/bin/sh\necho virtualenv 20.25.0 from /somewhere\n")
    for path, word in (("/usr/bin:/bin", "none is installed"), (f"{tmp_path}/new:/usr/bin:/bin", "only a newer one")):
        answer, _ = create(root, python=python2(), caller=CALLER | {"path": path})
        assert word in failed(answer, "Unsupported")
        assert answer["parameters"]["command"].endswith("'virtualenv<20.22'")
    assert os.listdir(root) == [".venvd"]


@pytest.mark.parametrize("version, limit", [((2, 6, 9), "16"), ((3, 3, 7), "16"), ((3, 4, 10), "20.5"),
                                            ((3, 5, 10), "20.22")])
def test_which_virtualenv_each_needs(root, tmp_path, version, limit):
    python = old_python(tmp_path, version, venv=version[0] == 3)
    answer, _ = create(root, python=python)
    assert f"below version {limit}," in failed(answer, "Unsupported")
    assert answer["parameters"]["command"].endswith(f"'virtualenv<{limit}'")


def test_the_command_for_one_in_an_awkward_place(root, tmp_path):
    """It is one for a shell."""
    place = tmp_path / "a $(touch ran) place"
    place.mkdir()
    python = old_python(place, (3, 3, 7), venv=True)
    answer, _ = create(root, python=python)
    words = shlex.split(answer["parameters"]["command"])
    assert words == [str(python), "-m", "pip", "install", "--user", "virtualenv<16"]
    echoed = subprocess.run(["sh", "-c", f"echo {answer['parameters']['command']}"], cwd=tmp_path, capture_output=True, text=True)
    assert echoed.stdout.startswith(str(python)) and not (tmp_path / "ran").exists()


def test_options_that_virtualenv_does_not_know(root, tmp_path, virtualenv20):
    program(tmp_path / "bin", f"#!/bin/sh\nexec {sys.executable} -m virtualenv \"$@\"\n")
    for option, word in (("upgrade", "--upgrade"), ("upgradeDeps", "--upgrade-deps")):
        answer, _ = create(root, python=python2(), caller=CALLER | {"path": f"{tmp_path}/bin:/usr/bin"}, **{option: True})
        assert failed(answer, "Unsupported").endswith(f"does not know {word}")


def test_a_module_beside_the_caller_is_not_run(root, tmp_path):
    """`python2 -m virtualenv` would take it from the caller's directory."""
    (tmp_path / "virtualenv.py").write_text("print('virtualenv 20.0.0 from evil')\nopen('ran', 'w')\n")
    answer, _ = create(root, python=python2(), caller=CALLER | {"cwd": str(tmp_path)})
    failed(answer, "Unsupported")
    assert not (tmp_path / "ran").exists()


def test_a_virtualenv_whose_pip_does_not_run(root, tmp_path):
    """A distribution's, without the wheels for this Python."""
    program(tmp_path / "bin", "#!/bin/sh\nfor d; do :; done\ncase $1 in --version) echo virtualenv 20.17.1;; *)\n"
            "mkdir -p \"$d/bin\"; printf '#!/bin/sh\\necho SyntaxError\\nexit 1\\n' >\"$d/bin/pip\"; chmod +x \"$d/bin/pip\";;\n"
            "esac\n")
    answer, _ = create(root, python=old_python(tmp_path, (2, 7, 18)), withoutPip=False,
                       caller=CALLER | {"path": f"{tmp_path}/bin:/usr/bin:/bin"})
    assert "virtualenv" in failed(answer, "InterpreterFailed") and "SyntaxError" in answer["parameters"]["output"]


# --- what is elsewhere, deleted and taken back ---

def elsewhere(directory):
    path = fake_env(directory / "p" / ".venv")
    return path, {"name": "e", "entry": "e~1", "path": str(path), **identity(path)}


def test_trash_and_restore_elsewhere(root, tmp_path, workers):
    path, what = elsewhere(tmp_path)
    resident = workers("resident")
    for op, there in (("trash", False), ("trash", False), ("restore", True), ("restore", True), ("trash", False)):
        answer, _ = resident.ask(op, record={"name": "e"}, **what)
        assert "error" not in answer, (op, answer)
        assert path.exists() == there and (tmp_path / "p/..venv.venvd-trash/e~1/tree").exists() == (not there)
    path.mkdir()
    answer, _ = resident.ask("restore", **what)
    assert answer["error"] == "io.venvd.AlreadyExists"
    path.rmdir()
    path.parent.rename(tmp_path / "away")
    answer, _ = resident.ask("restore", **what)
    assert failed(answer) and (tmp_path / "away/..venv.venvd-trash/e~1/tree/pyvenv.cfg").exists()
    answer, _ = resident.ask("trash", record={}, **what | {"entry": "e~2"})
    failed(answer, "NoSuchEnvironment")
    assert os.listdir(root / ".venvd/trash") == []


def test_discard_and_purge_elsewhere(root, tmp_path, workers):
    resident = workers("resident")
    path, what = elsewhere(tmp_path)
    for _ in range(2):
        answer, _ = resident.ask("discard", **what)
        assert "error" not in answer and not path.exists() and os.listdir(root / ".venvd/stage") == ["e~1"]
    path, what = elsewhere(tmp_path / "again")
    for wrong in (what | {"ino": 1}, what | {"path": str(tmp_path / "no/where")}):
        answer, _ = order(root, "purge-name", **wrong)
        failed(answer, "NoSuchEnvironment")
    answer, _ = order(root, "purge-name", **what)
    assert "error" not in answer and not path.exists() and path.parent.exists()
    assert os.listdir(root / ".venvd/stage") == []


def test_elsewhere_on_another_file_system(root, workers):
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == root.stat().st_dev:
        pytest.skip("one file system only")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path, what = elsewhere(pathlib.Path(directory))
        resident = workers("resident")
        for op, there in (("trash", False), ("restore", True)):
            answer, _ = resident.ask(op, record={}, **what)
            assert "error" not in answer and path.exists() == there
        assert os.listdir(root / ".venvd/trash") == []
        answer, _ = resident.ask("discard", **what)
        assert "error" not in answer and not path.exists()
        path, what = elsewhere(pathlib.Path(directory) / "again")
        answer, _ = order(root, "purge-name", **what)
        assert "error" not in answer and not path.exists()
        answer, _ = named(root, pathlib.Path(directory) / "new")
        assert "error" not in answer, answer


def test_inspect_elsewhere(root, tmp_path):
    path, _ = elsewhere(tmp_path)
    fake_env(root / "a")
    _, frames = order(root, "inspect", names=["a"], paths=[str(path), str(tmp_path / "no/x"), "/"])
    found = {e["name"]: e for f in frames for e in f["environments"]}
    assert {n: e["kind"] for n, e in found.items()} == {
        "a": "environment", str(path): "environment", str(tmp_path / "no/x"): "absent", "/": "other"}
    assert found[str(path)]["ino"] == path.stat().st_ino


# --- a root with an access list for what is made in it ------------------------------------------------

def access_lists(top):
    return {name: {key: os.getxattr(top / name, key) for key in os.listxattr(top / name) if "posix_acl" in key}
            for name in (".", "bin", "pyvenv.cfg")}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_access_lists_are_the_roots(root, umask):
    """Given to it by somebody when the stage was there already: those that 'python -m venv' would have come to."""
    everybody = 0xffffffff
    entries = [(1, 7, everybody), (2, 5, 65534), (4, 5, everybody), (16, 7, everybody), (32, 0, everybody)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(root, "system.posix_acl_default", value)
    except OSError as e:
        pytest.skip(f"no access lists here: {e}")
    answer, _ = create(root, caller=CALLER | {"umask": umask})
    assert "environment" in answer, answer
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", root / "other"], check=True, umask=umask)
    assert access_lists(root / "e") == access_lists(root / "other") != {name: {} for name in (".", "bin", "pyvenv.cfg")}
    for name in (".", "bin", "pyvenv.cfg"):
        assert (root / "e" / name).stat().st_mode == (root / "other" / name).stat().st_mode
