# SPDX-License-Identifier: MIT
# ruff: noqa: F401, F811 -- fixtures come from worker.py
"""venvd-worker by itself: interpreters, the builds they make, and its end in the middle of one."""

import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

from helpers import wait_gone
from worker import (
    CALLER,
    PYTHON,
    PYTHONS,
    Worker,
    create,
    create_order,
    identity,
    order,
    refused,
    root,
)

# --- creating ---

def test_create(root):
    answer, frames = create(root)
    assert [f.get("stage", f["frame"]) for f in frames] == [
        "interpreter", "reserve", "reserved", "build", "sync"]
    reserved = frames[2]
    assert reserved["interpreter"]["path"] == PYTHON
    assert reserved["reason"] == "named by its path"
    env = answer["environment"]
    assert (env["ino"], env["btime"]) == (reserved["ino"], reserved["btime"])
    assert identity(root / "e") == {"ino": env["ino"], "btime": env["btime"]}
    assert env["kind"] == "environment" and env["creator"] == "venv" and env["interpreter"] == PYTHON
    subprocess.run([root / "e/bin/python", "-c", "import sys; assert sys.prefix != sys.base_prefix"],
                   check=True)
    assert os.listdir(root / ".venvd/stage") == []


def test_create_waits_for_go(root):
    worker = Worker(root)
    worker.send("create", **create_order(root))
    while worker.receive()["frame"] != "reserved":
        pass
    assert not (root / "e").exists() and os.listdir(root / ".venvd/stage") == ["e~1"]
    assert worker.close() == (0, "")
    assert not (root / "e").exists() and os.listdir(root / ".venvd/stage") == []


def test_create_over_something(root):
    (root / "e").mkdir()
    answer, frames = create(root)
    assert answer["error"] == "io.venvd.AlreadyExists" and answer["parameters"] == {"name": "e"}
    (root / "e").rmdir()
    worker = Worker(root)
    worker.send("create", **create_order(root))
    while worker.receive()["frame"] != "reserved":
        pass
    (root / "e").mkdir()
    worker.send_raw({"id": 1, "go": True})
    answer, _ = worker.until_done()
    worker.close()
    assert answer["error"] == "io.venvd.AlreadyExists"
    assert os.listdir(root / "e") == []


def _tree(path):
    """Everything but times: names, kinds, modes, link targets, bytes; a .pyc's times are left out."""
    found = {}
    for directory, folders, files in os.walk(path):
        for name in folders + files:
            full = os.path.join(directory, name)
            st = os.lstat(full)
            key, mode = os.path.relpath(full, path), oct(st.st_mode)
            if stat.S_ISLNK(st.st_mode):
                found[key] = (mode, os.readlink(full))
            elif stat.S_ISREG(st.st_mode):
                data = pathlib.Path(full).read_bytes()
                found[key] = (mode, data[:4] if name.endswith(".pyc") else data)
            else:
                found[key] = (mode, None)
    found["."] = oct(os.lstat(path).st_mode)
    return found


CASES = [
    {"withoutPip": True}, {"withoutPip": True, "prompt": "it's $V \u00e9"},
    {"withoutPip": True, "prompt": "-x"}, {"withoutPip": True, "prompt": "."},
    {"withoutPip": True, "systemSitePackages": True}, {"withoutPip": True, "prompt": ""},
]


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS, ids=lambda p: "-".join(pathlib.Path(p).parts[-3::2]))
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_create_is_what_venv_makes(root, tmp_path, python, mask):
    """Byte for byte and mode for mode, at the same path."""
    cwd = tmp_path / "some where"
    cwd.mkdir()
    for options in CASES if mask == 0o022 else CASES[:1]:
        caller = {"cwd": str(cwd), "path": "/usr/bin:/bin", "umask": mask, "environment": {}}
        answer, _ = create(root, python=python, caller=caller, **options)
        assert "error" not in answer, answer
        ours = _tree(root / "e")
        shutil.rmtree(root / "e")
        arguments = ["--system-site-packages"] * options.get("systemSitePackages", False)
        arguments += ["--without-pip"]
        arguments += [f"--prompt={options['prompt']}"] if "prompt" in options else []
        subprocess.run([python, "-m", "venv", *arguments, root / "e"], check=True, umask=mask, cwd=cwd,
                       env={"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], "LC_ALL": "C.UTF-8"})
        assert ours == _tree(root / "e"), options
        shutil.rmtree(root / "e")


@pytest.mark.everywhere
@pytest.mark.slow
def test_create_with_pip_is_what_venv_makes(root):
    answer, _ = create(root, withoutPip=False)
    if answer.get("error") == "io.venvd.NoEnsurepip":
        pytest.skip("no ensurepip here")
    assert answer["environment"]["pip"] is True
    ours = _tree(root / "e")
    shutil.rmtree(root / "e")
    subprocess.run([PYTHON, "-m", "venv", root / "e"], check=True, umask=0o022)
    assert ours == _tree(root / "e")


def test_create_passes_listed_variables_only(root, tmp_path):
    fake = script(tmp_path, "env > {0}/env; umask >> {0}/env; pwd >> {0}/env; exit 3")
    caller = {"cwd": str(tmp_path), "path": "/x:/usr/bin:/bin", "umask": 0o027,
              "environment": {"PIP_INDEX_URL": "u", "http_proxy": "p", "EVIL": "x", "LD_PRELOAD": "y",
                              "PYTHONOPTIMIZE": "1"}}
    create(root, python=str(fake), caller=caller)
    text = (tmp_path / "env").read_text().splitlines()
    variables = {line.split("=")[0] for line in text if "=" in line} - {"PWD", "SHLVL", "_", "OLDPWD"}
    assert variables == {"PATH", "HOME", "LC_ALL", "PIP_INDEX_URL", "http_proxy", "PYTHONOPTIMIZE"}
    assert "PATH=/x:/usr/bin:/bin" in text and "0027" in text and str(tmp_path) in text


# --- interpreters that are none ---

def script(directory, body, name="fake-python"):
    path = directory / name
    path.write_text("#!/bin/sh\n" + body.format(directory) + "\n")
    path.chmod(0o755)
    return path


def test_interpreter_is_a_directory(root, tmp_path):
    why = refused(root, "InterpreterFailed", python=str(tmp_path))
    assert why == {"interpreter": str(tmp_path), "reason": "is a directory"}


def test_interpreter_is_not_executable(root, tmp_path):
    path = script(tmp_path, "")
    path.chmod(0o644)
    assert refused(root, "InterpreterFailed", python=str(path))["reason"] == "is not executable"


def test_interpreter_is_no_program(root, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\x01\x02")
    path.chmod(0o755)
    reason = refused(root, "InterpreterFailed", python=str(path))["reason"]
    assert reason == "cannot be executed: Exec format error"


def test_interpreter_exits_3(root, tmp_path):
    why = refused(root, "InterpreterFailed", python=str(script(tmp_path, "echo oh dear >&2; exit 3")))
    assert why["reason"] == "exited with status 3" and why["output"] == "oh dear\n"


def test_interpreter_is_killed(root, tmp_path):
    why = refused(root, "InterpreterFailed", python=str(script(tmp_path, "kill -SEGV $$")))
    assert why["reason"].startswith("was killed by signal 11")


def test_interpreter_prints_rubbish(root, tmp_path):
    path = script(tmp_path, r"head -c 300000 /dev/zero | tr '\0' 'x'; printf '\n\377\033[1mend\n[1,2]\n'")
    why = refused(root, "InterpreterFailed", python=str(path))
    assert why["reason"] == "is no Python: its answer makes no sense"
    assert len(why["output"]) <= 8 * 1024 + 20 and why["output"].endswith("\\xff\\x1b[1mend\n[1,2]\n")


def test_interpreter_hangs(root, tmp_path):
    path = script(tmp_path, "setsid sleep 1234.5 & sleep 1234.5")
    began = time.monotonic()
    why = refused(root, "InterpreterFailed", python=str(path), probeMs=300)
    assert why["reason"] == "gave no answer within 0.3 seconds"
    assert time.monotonic() - began < 10
    assert not running("1234.5")


def test_interpreter_never_stops_writing(root, tmp_path):
    path = script(tmp_path, "exec yes")
    why = refused(root, "InterpreterFailed", python=str(path), probeMs=300)
    assert "no answer" in why["reason"] and len(why["output"]) <= 8 * 1024


def running(word):
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if word in (entry / "cmdline").read_bytes().decode(errors="replace").split("\0"):
                    return True
            except OSError:
                continue
    return False


def test_interpreter_does_not_exist(root):
    for spec in ("/nowhere/python", "no-such-python", "4.7", "3.4.99", "", ".", "./python"):
        why = refused(root, "NoSuchInterpreter", python=spec)
        assert why["interpreter"] == spec and why["reason"]


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_interpreter_that_everybody_could_change(root, tmp_path, mode):
    inner = tmp_path / "open/inner"
    inner.mkdir(parents=True)
    (inner / "python").symlink_to(PYTHON)
    (tmp_path / "open").chmod(mode)
    (tmp_path / "way").symlink_to("open/inner/python")
    for path in (inner / "python", tmp_path / "way"):
        answer, _ = create(root, python=str(path), go=True)
        if mode == 0o777:
            assert answer["error"] == "io.venvd.UnsafeInterpreter", answer
            assert "written by everybody" in answer["parameters"]["reason"]
            assert answer["parameters"]["interpreter"] == str(path)
        else:
            assert "error" not in answer
            shutil.rmtree(root / "e")


def test_python2_is_known(root):
    real = sorted((pathlib.Path.home() / ".pyenv/versions").glob("2.7*/bin/python2.7"))
    if not real:
        pytest.skip("no Python 2 here")
    found, _ = order(root, "resolve", python=[str(real[0])], caller=CALLER, probeMs=10000)
    assert found["interpreter"]["version"].startswith("2.7.") and found["interpreter"]["state"] == "delegate"


def test_no_ensurepip(root, tmp_path):
    """An interpreter that has no ensurepip, and one that finds out late, as Debian's does."""
    fake = fake_interpreter(tmp_path, PYTHON)
    why = refused(root, "NoEnsurepip", python=str(fake), withoutPip=False)
    assert why["interpreter"] == str(fake) and why["version"].startswith("3.") and "package" not in why


def fake_interpreter(directory, real):
    """Not a script, or it would be taken for a shim: a copy of /bin/sh cannot be one either, so a small
    program is compiled."""
    compiler = shutil.which("cc") or pytest.skip("no compiler")
    source, path = directory / "fake.c", directory / "fake-python"
    source.write_text(
        '#include <stdio.h>\n#include <string.h>\n#include <unistd.h>\n'
        'int main(int c, char **v) {\n'
        ' if (c > 3 && !strcmp(v[2], "-S")) puts("noise\\n[1,[3,11,2,\\"final\\",0],\\"cpython\\",\\"\\",'
        'true,false]\\nmore");\n'
        f' else execv("{real}", v);\n return 0; }}\n')
    subprocess.run([compiler, "-o", path, source], check=True)
    return path


def test_nothing_made(root, tmp_path):
    """venv says that all is well and has made nothing."""
    fake = fake_interpreter(tmp_path, "/bin/true")
    answer, _ = create(root, python=str(fake))
    assert answer["error"] == "io.venvd.InterpreterFailed"
    assert answer["parameters"]["reason"] == "its venv module made no environment"


def test_build_fails(root, tmp_path):
    fake = fake_interpreter(tmp_path, "/bin/false")
    answer, _ = create(root, python=str(fake))
    assert answer["error"] == "io.venvd.InterpreterFailed"
    assert answer["parameters"]["reason"] == "its venv module exited with status 1"
    late = tmp_path / "late"
    late.mkdir()
    debian = script(late, "echo 'The virtual environment was not created successfully because ensurepip is "
                          "not available.  On Debian/Ubuntu systems: apt install python3.11-venv'; exit 1",
                    "debian")
    answer, _ = create(root, name="f", python=str(fake_interpreter(late, debian)))
    assert answer["error"] == "io.venvd.NoEnsurepip"
    full = script(late, "echo 'OSError: [Errno 28] No space left on device'; exit 1", "full")
    answer, _ = create(root, name="g", python=str(fake_interpreter(late, full)))
    assert answer["error"] == "io.venvd.NoSpace"


# --- which interpreter ---

def chosen(root, python, **caller):
    worker = Worker(root)
    worker.send("create", **create_order(root, python=python, caller=CALLER | caller))
    while True:
        message = worker.receive()
        if message.get("done"):
            break
        if message.get("frame") == "reserved":
            message = message["interpreter"] | {"reason": message["reason"]}
            break
    assert worker.close() == (0, "")
    return message


def test_default_passes_over_shims_and_environments(root, tmp_path):
    env, shims, real = tmp_path / "env", tmp_path / "shims", tmp_path / "real"
    for path in (shims, real):
        path.mkdir()
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", env], check=True)
    script(shims, f'exec {PYTHON} "$@"', "python3")
    (real / "python3").symlink_to(PYTHON)
    path = f".::{shims}:{env}/bin:{real}:/usr/bin"
    found = chosen(root, None, path=path)
    assert found["path"] == f"{real}/python3" and found["reason"] == "first python3 on PATH"
    found = chosen(root, None, path=f"{env}/bin:{shims}")
    assert found["path"] == os.path.realpath(PYTHON) or found["path"] == PYTHON
    assert found["reason"] == f"only python3 on PATH, behind the shim '{shims}/python3'"
    assert chosen(root, None, path=f"{env}/bin")["error"] == "io.venvd.NoSuchInterpreter"


def test_names_and_relative_paths(root, tmp_path):
    (tmp_path / "my-python").symlink_to(PYTHON)
    found = chosen(root, "my-python", path=f"/nowhere:{tmp_path}")
    assert found["path"] == f"{tmp_path}/my-python" and found["source"] == "PATH"
    found = chosen(root, "./my-python", cwd=str(tmp_path))
    assert found["path"] == f"{tmp_path}/my-python"
    found = chosen(root, f"{tmp_path.name}/my-python", cwd=str(tmp_path.parent))
    assert found["path"] == f"{tmp_path}/my-python"


def test_interpreter_of_an_environment_is_taken_when_named(root, tmp_path):
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    found = chosen(root, f"{tmp_path}/env/bin/python")
    assert found["path"] == f"{tmp_path}/env/bin/python"


def test_versions(root, tmp_path):
    version = subprocess.run([PYTHON, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"],
                             check=True, capture_output=True, text=True).stdout.strip()
    minor = version.rsplit(".", 1)[0]
    empty = {"environment": {"PYENV_ROOT": str(tmp_path)}}
    for spec in ("3", minor, version):
        found = chosen(root, spec, path="/usr/bin", **empty)
        assert found["version"] == version, spec
    assert chosen(root, minor + ".99", path="/usr/bin", **empty)["error"] == "io.venvd.NoSuchInterpreter"
    # pyenv's, the newest first
    for name in ("3.9.9", "3.10.1"):
        (tmp_path / f"versions/{name}/bin").mkdir(parents=True)
        fake_interpreter(tmp_path / f"versions/{name}/bin", PYTHON).rename(
            tmp_path / f"versions/{name}/bin/python3.11")
    if minor != "3.11":
        assert chosen(root, "3.11.2", path="/nowhere", **empty)["path"] == (
            f"{tmp_path}/versions/3.10.1/bin/python3.11")


def test_broken_candidates_of_a_version(root, tmp_path):
    """They are passed over, but told if nothing else is found."""
    script(tmp_path, "echo broken; exit 3", "python3.77")
    answer = chosen(root, "3.77", path=str(tmp_path))
    assert answer["error"] == "io.venvd.InterpreterFailed"
    assert answer["parameters"]["output"] == "broken\n"


def test_pyenv_shim(root, tmp_path):
    pyenv = pathlib.Path.home() / ".pyenv"
    versions = sorted(p.name for p in (pyenv / "versions").glob("3.*")) if pyenv.exists() else []
    if not versions or not (pyenv / "shims/python3").exists():
        pytest.skip("no pyenv here")
    (tmp_path / ".python-version").write_text(versions[0] + "\n")
    found = chosen(root, str(pyenv / "shims/python3"), cwd=str(tmp_path),
                   path=f"{pyenv}/shims:{pyenv}/bin:/usr/bin:/bin", environment={"PYENV_ROOT": str(pyenv)})
    assert found["path"].startswith(f"{pyenv}/versions/{versions[0]}/bin/python"), found
    assert found["version"] == versions[0]


def test_list_of_interpreters(root, tmp_path):
    (tmp_path / "python3").symlink_to(PYTHON)
    script(tmp_path, "", "python3.5")
    (tmp_path / "python3.6").write_bytes(b"\1")
    (tmp_path / "python3.6").chmod(0o755)
    _, frames = order(root, "interpreters", caller=CALLER | {"path": str(tmp_path)}, probeMs=10000)
    found = [f["interpreter"] for f in frames]
    paths = [i["path"] for i in found]
    assert paths[0] == f"{tmp_path}/python3" and "problem" not in found[0]
    assert f"{tmp_path}/python3.5" not in paths
    bad = found[paths.index(f"{tmp_path}/python3.6")]
    assert "Exec format" in bad["problem"]
    assert len({os.path.realpath(p) for p in paths}) == len(paths)
    assert (bad["state"], found[0]["state"]) == ("unusable", "usable")
    assert all(i["state"] == "delegate" and "problem" not in i for i in found
               if i.get("version", "").startswith("2."))


# --- the end of the daemon ---

def alive(pid_file):
    """Whether the sleep that wrote its id there still runs; ids are used again, so its words count too."""
    try:
        words = pathlib.Path(f"/proc/{int(pid_file.read_text())}/cmdline").read_bytes()
    except OSError:
        return False
    return words == b"sleep\0" + b"4321.5\0"


def in_the_middle(root, tmp_path, hang):
    """A worker whose interpreter's venv module has come to where it touches `here`."""
    worker = Worker(root)
    worker.send("create", **create_order(root, python=str(fake_interpreter(tmp_path, hang))))
    while worker.receive()["frame"] != "reserved":
        pass
    worker.send_raw({"id": 1, "go": True})
    deadline = time.monotonic() + 20
    while not (tmp_path / "here").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return worker


@pytest.mark.parametrize("how", ["close", "half-close", "SIGTERM"])
def test_end_in_the_middle_of_a_build(root, tmp_path, how):
    """The child, its children and one that made a session of its own are gone when the worker is."""
    # Each process writes down its own id: what outlives the worker is ended by that id and no other.
    hang = script(tmp_path, "setsid sh -c 'echo $$ > {0}/session; exec sleep 4321.5' & "
                            "sleep 4321.5 & echo $! > {0}/group\n"
                            "while [ ! -s {0}/session ]; do sleep 0.01; done; touch {0}/here; "
                            "exec sleep 4321.5", "hang")
    worker = in_the_middle(root, tmp_path, hang)
    if how == "half-close":
        worker.ours.shutdown(socket.SHUT_WR)
        assert worker.process.wait(10) == 0
    elif how == "SIGTERM":
        worker.process.send_signal(signal.SIGTERM)
        worker.process.wait(10)
    status, _ = worker.close()
    assert status == (-signal.SIGTERM if how == "SIGTERM" else 0)
    if how == "SIGTERM":    # it is gone at once; its guard does the rest
        for name in ("group", "session"):
            wait_gone(int((tmp_path / name).read_text()))
    assert not alive(tmp_path / "group") and not alive(tmp_path / "session")
    assert (root / "e").is_dir()


def test_child_and_its_children_die_with_their_worker(root, tmp_path):
    """Killed without a chance to do anything, and with nobody above it: its guard ends them all."""
    hang = script(tmp_path, "sleep 2345.5 & setsid sleep 2345.5 & touch {0}/here; wait", "hang")
    worker = in_the_middle(root, tmp_path, hang)
    worker.process.kill()
    worker.process.wait(10)
    worker.close()
    deadline = time.monotonic() + 20
    while running("2345.5"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_child_gets_nothing_of_ours(root, tmp_path):
    hang = script(tmp_path, "ls -l /proc/self/fd > {0}/fds; cat /proc/self/status > {0}/status; exit 3", "h")
    create(root, python=str(hang))
    fds = [line.split()[-3:] for line in (tmp_path / "fds").read_text().splitlines() if "->" in line]
    numbers = {fd[0]: fd[2] for fd in fds}
    assert numbers["0"] == "/dev/null" and numbers["2"].startswith("pipe:")
    assert set(numbers) <= {"0", "1", "2", "3"} and numbers.get("3", "/proc").startswith("/proc")
    status = dict(line.split(":\t", 1) for line in (tmp_path / "status").read_text().splitlines()
                  if ":\t" in line)
    # 32 and 33 are the C library's own; a make around us leaves them ignored.
    assert int(status["SigIgn"], 16) & ~0x180000000 == 0 and int(status["SigBlk"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_order_is_nice(root, tmp_path):
    path = script(tmp_path, "nice > {0}/nice; exit 3")
    create(root, python=str(path))
    assert int((tmp_path / "nice").read_text()) >= 10
