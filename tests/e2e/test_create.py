# SPDX-License-Identifier: MIT
"""Create: the interpreter's own `python -m venv`, byte for byte; and whatever goes wrong leaves nothing."""
import errno
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import threading

import pytest

import compare
from conftest import Closed, VarlinkError, interpreters
from helpers import (
    Signpost,
    children,
    differences,
    eventually,
    mounted,
    needs_root,
    processes_with,
    rebuilt_python,
    tree,
    wait_gone,
    without_venv_package,
)
from wire import IN_PLACE

INTERPRETERS = interpreters()
SYSTEM = INTERPRETERS[0]
PYENV = INTERPRETERS[1:]
NEWEST = INTERPRETERS[-1]

# An ensurepip that says where it is and stays there until it is killed.
WAITING = "import os, signal\nopen({post!r}, 'w').write('%d\\n' % os.getpid())\nsignal.pause()\n"

needs_pyenv = pytest.mark.skipif(not PYENV, reason="no Python of pyenv here")



def minor(python):
    out = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True)
    return tuple(int(n) for n in out.stdout.split())


def caller(umask=0o022, **more):
    return {"cwd": "/", "path": "/usr/local/bin:/usr/bin:/bin", "umask": umask, "environment": {}, **more}


def make_by_venv(python, path, *options, umask=0o022, cwd="/"):
    path.parent.mkdir(exist_ok=True)
    clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": os.environ["HOME"], "LANG": "C.UTF-8"}
    subprocess.run([python, "-m", "venv", *options, str(path)], check=True, env=clean, umask=umask, cwd=cwd,
                   capture_output=True)


def reference(python, path, *options, **how):
    """What `python -m venv` makes at this path; the path is free again afterwards."""
    make_by_venv(python, path, *options, **how)
    found = tree(path)
    shutil.rmtree(path)
    return found


def nothing_remains(daemon, name, trash=0):
    """Neither a row nor a directory nor a process; the stage is swept behind the answer."""
    with daemon.connect() as c:
        with pytest.raises(VarlinkError) as e:
            c.call("Get", name=name)
        assert e.value.name == "NoSuchEnvironment"
        assert c.call("Status")["counts"]["trashed"] == trash
    assert not os.path.lexists(daemon.root / name)
    assert not [line for line in processes_with(f"{daemon.root}/{name}").values() if "venvd" not in line]


# --- the same as python -m venv ----------------------------------------------------------------

@pytest.mark.parametrize("python", INTERPRETERS, ids=str)
def test_without_pip_equals_venv(daemon, root, python):
    expected = reference(python, root / "same", "--without-pip")
    made = daemon.call("Create", name="same", python=str(python), withoutPip=True, caller=caller())["environment"]
    assert differences(expected, tree(root / "same")) == []
    version = ".".join(map(str, minor(python)))
    assert made["state"] == "ready" and made["version"].startswith(version + "."), made
    assert made["creator"] == "venv" and made["origin"] == "created" and made["implementation"] == "cpython"
    assert made["interpreter"] == str(python) and made["path"] == str(root / "same")
    assert made["executable"] == str(root / "same/bin/python")
    assert made["pip"] is False and made["systemSitePackages"] is False and "prompt" not in made
    answer = subprocess.run([made["executable"], "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
    assert answer.stdout.strip() == str(root / "same")


@pytest.mark.slow
@pytest.mark.parametrize("python", [SYSTEM], ids=str)
def test_with_pip_equals_venv(daemon, root, tmp_path, python):
    """Its payload may be linked, and compiled elsewhere; compare.py knows exactly how far."""
    make_by_venv(python, root / "full")
    (root / "full").rename(tmp_path / "by venv")
    made = daemon.call("Create", name="full", python=str(python), caller=caller())["environment"]
    interpreter = compare.Interpreter(python, minor(python), "cpython")
    assert compare.compare(interpreter, root / "full", tmp_path / "by venv", root / "full").differences == []
    assert made["pip"] is True
    version = subprocess.run([root / "full/bin/pip", "--version"], capture_output=True, text=True)
    assert version.returncode == 0 and str(root / "full") in version.stdout


@pytest.mark.everywhere
@pytest.mark.slow
@pytest.mark.parametrize("python", PYENV, ids=str)
def test_with_pip_equals_venv_everywhere(daemon, root, tmp_path, python):
    test_with_pip_equals_venv(daemon, root, tmp_path, python)


# Those of which a shell would execute a part are refused: test_hostile.py.
PROMPTS = ["plain", "it's", "ünïcödé 𝜋 日本", "$HOME; 100% <of> it & more", "-leading", "a b"]


@pytest.mark.parametrize("python", sorted({SYSTEM, NEWEST}), ids=str)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompt_equals_venv(daemon, root, python, prompt):
    expected = reference(python, root / "p", "--without-pip", f"--prompt={prompt}")
    made = daemon.call("Create", name="p", python=str(python), withoutPip=True, prompt=prompt, caller=caller())
    assert differences(expected, tree(root / "p")) == []
    assert made["environment"]["prompt"] == prompt
    assert daemon.call("Prompt", name="p")["prompt"] == prompt


@pytest.mark.parametrize("python", sorted({SYSTEM, NEWEST}), ids=str)
def test_prompt_with_quotes(daemon, root, python):
    """A venv that puts prompts between quotes as they are would have the shell run what stands behind one."""
    prompt = 'both "kinds" of \'quotes\''
    script = subprocess.run([python, "-c", "import venv; print(venv.__path__[0] + '/scripts/common/activate')"],
                            capture_output=True, text=True, check=True).stdout.strip()
    if '"__VENV_DIR__"' not in pathlib.Path(script).read_text():
        test_prompt_equals_venv(daemon, root, python, prompt)
        return
    with pytest.raises(VarlinkError) as e:
        daemon.call("Create", name="p", python=str(python), withoutPip=True, prompt=prompt)
    assert e.value.name == "Unsupported" and "a shell would execute" in e.value.parameters["reason"]


def test_prompt_dot_is_the_callers_directory(daemon, root, tmp_path):
    project = tmp_path / "my project"
    project.mkdir()
    expected = reference(SYSTEM, root / "p", "--without-pip", "--prompt=.", cwd=project)
    made = daemon.call("Create", name="p", python=str(SYSTEM), withoutPip=True, prompt=".",
                       caller=caller(cwd=str(project)))
    assert differences(expected, tree(root / "p")) == []
    assert made["environment"]["prompt"] == "my project"


@pytest.mark.parametrize("prompt", ["two\nlines", "bell\a", "x" * 257])
def test_prompt_that_is_refused(daemon, prompt):
    with pytest.raises(VarlinkError) as e:
        daemon.call("Create", name="p", withoutPip=True, prompt=prompt)
    assert e.value.name == "InvalidParameter" and e.value.parameters == {"parameter": "prompt"}
    nothing_remains(daemon, "p")


@pytest.mark.parametrize("python", sorted({SYSTEM, NEWEST}), ids=str)
def test_system_site_packages_and_umask(daemon, root, python):
    expected = reference(python, root / "s", "--without-pip", "--system-site-packages", umask=0o077)
    made = daemon.call("Create", name="s", python=str(python), withoutPip=True, systemSitePackages=True,
                       caller=caller(umask=0o077))["environment"]
    assert differences(expected, tree(root / "s")) == []
    assert made["systemSitePackages"] is True
    assert stat.S_IMODE((root / "s").stat().st_mode) == 0o700


@pytest.mark.parametrize("directory", ["with space", "it's $HOME; so", "ünï 日本", "p" * 180])
def test_awkward_roots(start, tmp_path, directory):
    root = tmp_path / directory
    expected = reference(SYSTEM, root / "e", "--without-pip")
    daemon = start(root)
    daemon.call("Create", name="e", python=str(SYSTEM), withoutPip=True, caller=caller())
    assert differences(expected, tree(root / "e")) == []
    assert daemon.environments()["e"]["state"] == "ready"
    assert daemon.call("Prompt", path=str(root / "e/lib"))["name"] == "e"


def test_a_colon_in_the_root_is_what_venv_says(start, tmp_path):
    daemon = start(tmp_path / "a:b")
    with pytest.raises(VarlinkError) as e:
        daemon.call("Create", name="e", python=str(SYSTEM), withoutPip=True)
    assert e.value.name == "Failed" and "PATH separator" in e.value.parameters["reason"]
    nothing_remains(daemon, "e")


# --- how it goes -------------------------------------------------------------------------------

def test_progress_comes_in_order(connection):
    replies = list(connection.stream("Create", name="a", python=str(SYSTEM), withoutPip=True, caller=IN_PLACE))
    assert [r.get("stage") for r in replies] == ["interpreter", "reserve", "build", "sync", None]
    assert replies[-1]["environment"]["state"] == "ready"
    assert replies[-1]["interpreterReason"] == "named by its path"


def test_waiting_for_its_turn_is_told(start, root, tmp_path):
    daemon = start(root, "-o", "jobs-running=1")
    building = Building(daemon, tmp_path)
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": str(SYSTEM), "withoutPip": True, "caller": IN_PLACE}, more=True)
        assert c.receive() == {"parameters": {"stage": "queued"}, "continues": True}
        building.connection.close()
        assert [c.receive()["parameters"]["stage"] for _ in range(4)] == ["interpreter", "reserve", "build", "sync"]


def test_interpreter_is_found_and_the_reason_told(daemon, tmp_path):
    shimmed, bare = tmp_path / "shims", tmp_path / "bin"
    for directory in (shimmed, bare):
        directory.mkdir()
    (shimmed / "python3").write_text("#!/bin/sh\nexit 7\n")
    (shimmed / "python3").chmod(0o755)
    (bare / "python3").symlink_to(SYSTEM)
    (bare / "my-python").symlink_to(SYSTEM)
    path = f"relative:{shimmed}:{bare}:/usr/bin"
    made = daemon.call("Create", name="default", withoutPip=True, caller=caller(path=path))
    assert made["environment"]["interpreter"] == str(bare / "python3")
    assert made["interpreterReason"] == "first python3 on PATH"
    made = daemon.call("Create", name="named", withoutPip=True, python="my-python", caller=caller(path=path))
    assert made["environment"]["interpreter"] == str(bare / "my-python")
    assert "my-python" in made["interpreterReason"]
    made = daemon.call("Create", name="version", withoutPip=True, python="%d.%d" % minor(SYSTEM),
                       caller=caller(path=path))
    assert made["environment"]["interpreter"].startswith(("/usr/bin/", "/usr/local/bin/", str(bare)))
    made = daemon.call("Create", name="relative", withoutPip=True, python="./my-python",
                       caller=caller(path=path, cwd=str(bare)))
    assert made["environment"]["interpreter"] == str(bare / "my-python")


def test_default_is_never_inside_an_environment(daemon, root):
    daemon.call("Create", name="first", python=str(SYSTEM), withoutPip=True)
    made = daemon.call("Create", name="second", withoutPip=True, caller=caller(path=f"{root}/first/bin:/usr/bin"))
    assert made["environment"]["interpreter"] == "/usr/bin/python3"


@needs_pyenv
def test_a_version_finds_pyenvs(daemon):
    python = PYENV[0]
    made = daemon.call("Create", name="v", withoutPip=True, python="%d.%d" % minor(python))
    assert made["environment"]["version"].startswith("%d.%d." % minor(python))
    assert made["environment"]["interpreter"] == str(python) and "pyenv" in made["interpreterReason"]


def test_a_shim_is_run_where_the_caller_stands(daemon, tmp_path):
    """As pyenv's: a script that goes by the working directory."""
    shim = tmp_path / "python3"
    shim.write_text(f'#!/bin/sh\n[ "$PWD" = "{tmp_path}" ] && exec {SYSTEM} "$@"\nexit 9\n')
    shim.chmod(0o755)
    made = daemon.call("Create", name="s", withoutPip=True, python=str(shim), caller=caller(cwd=str(tmp_path)))
    assert made["environment"]["interpreter"].startswith("/usr/bin/python3")
    with pytest.raises(VarlinkError) as e:
        daemon.call("Create", name="t", withoutPip=True, python=str(shim), caller=caller())
    assert e.value.name == "InterpreterFailed" and "status 9" in e.value.parameters["reason"]


@pytest.mark.parametrize("variable, seen", [("PIP_INDEX_URL", True), ("https_proxy", True), ("PYTHONSTARTUP", False),
                                            ("PYTHONPATH", False), ("LD_PRELOAD", False), ("SECRET", False)])
def test_what_a_child_gets(daemon, tmp_path, variable, seen):
    post = Signpost(str(tmp_path / "post"))
    text = f"import os\nopen({post.path!r}, 'w').write('%s %s\\n' % (os.environ.get({variable!r}), os.nice(0)))\n"
    python = rebuilt_python(NEWEST, tmp_path / "python", text)
    daemon.call("Create", name="e", python=str(python), caller=caller(environment=IN_PLACE["environment"] | {variable: "/x"}))
    value, nice = post.line().split()
    post.close()
    assert value == ("/x" if seen else "None") and nice == "10"


def test_request_id_gives_the_first_result_again(connection):
    one = connection.call("Create", name="a", python=str(SYSTEM), withoutPip=True, requestId="r1")
    again = connection.call("Create", name="a", python=str(SYSTEM), withoutPip=True, requestId="r1")
    assert again["environment"]["id"] == one["environment"]["id"]
    with pytest.raises(VarlinkError) as e:
        connection.call("Create", name="a", python=str(SYSTEM), withoutPip=True)
    assert e.value.name == "AlreadyExists" and e.value.parameters == {"name": "a", "state": "ready"}


# --- several at once ---------------------------------------------------------------------------

def in_threads(count, work):
    results = [None] * count

    def run(i):
        try:
            results[i] = work(i)
        except VarlinkError as e:
            results[i] = e

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def test_one_name_is_made_once(daemon, root):
    results = in_threads(8, lambda i: daemon.call("Create", name="one", python=str(SYSTEM), withoutPip=True))
    errors = [r for r in results if isinstance(r, VarlinkError)]
    assert len(errors) == 7 and {e.name for e in errors} == {"AlreadyExists"}
    assert {e.parameters["state"] for e in errors} <= {"creating", "ready"}
    assert daemon.environments()["one"]["state"] == "ready"


def test_different_names_are_made_at_once(daemon, root):
    results = in_threads(6, lambda i: daemon.call("Create", name=f"n{i}", python=str(SYSTEM), withoutPip=True))
    assert [r["environment"]["name"] for r in results] == [f"n{i}" for i in range(6)]
    assert {e["state"] for e in daemon.environments().values()} == {"ready"}


def test_a_directory_that_came_meanwhile_is_not_touched(daemon, root):
    (root / "mine").mkdir()
    (root / "mine" / "file").write_text("precious")
    with pytest.raises(VarlinkError) as e:
        daemon.call("Create", name="mine", python=str(SYSTEM), withoutPip=True)
    assert e.value.name == "AlreadyExists"
    assert (root / "mine" / "file").read_text() == "precious"
    assert list((root / ".venvd" / "stage").iterdir()) == []


# --- what goes wrong: one typed error, and nothing remains -------------------------------------

def make_script(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


def fill(path):
    """Takes what is left of a file system."""
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(bytes(65536))
        except OSError as e:
            assert e.errno == errno.ENOSPC


def broken_interpreters(tmp):
    """kind -> (specification, error, a word of its reason)"""
    world = tmp / "world"
    world.mkdir()
    (world / "python3").symlink_to(SYSTEM)
    world.chmod(0o777)
    (tmp / "directory").mkdir()
    (tmp / "text").write_text("no program")
    make_script(tmp / "hangs", "#!/bin/sh\nexec sleep 1000\n")
    make_script(tmp / "rubbish", "#!/bin/sh\nhead -c 300000 /dev/urandom\necho '[1,2'\n")
    make_script(tmp / "exits3", "#!/bin/sh\necho oh dear >&2\nexit 3\n")
    make_script(tmp / "signal", "#!/bin/sh\nkill -SEGV $$\n")
    make_script(tmp / "elf", "\x7fELF no program at all")
    (tmp / "loop").symlink_to("loop")
    return {
        "directory": (tmp / "directory", "InterpreterFailed", "directory"),
        "not executable": (tmp / "text", "InterpreterFailed", "executable"),
        "no Python": ("/bin/true", "InterpreterFailed", "no Python"),
        "no program": (tmp / "elf", "InterpreterFailed", ""),
        "hangs": (tmp / "hangs", "InterpreterFailed", "0.5 seconds"),
        "prints rubbish": (tmp / "rubbish", "InterpreterFailed", "no Python"),
        "exits 3": (tmp / "exits3", "InterpreterFailed", "status 3"),
        "is killed": (tmp / "signal", "InterpreterFailed", "signal 11"),
        "missing": (tmp / "missing", "NoSuchInterpreter", "No such file"),
        "loop": (tmp / "loop", "NoSuchInterpreter", "symbolic links"),
        "name": ("no-such-python", "NoSuchInterpreter", "PATH"),
        "version": ("3.99", "NoSuchInterpreter", "3.99"),
        "empty": ("", "NoSuchInterpreter", ""),
        "world-writable": (world / "python3", "UnsafeInterpreter", "written by everybody"),
        "device": ("/dev/null", "UnsafeInterpreter", "everybody"),
    }


def test_interpreters_that_cannot_be_used(start, root, tmp_path):
    daemon = start(root, "-o", "probe-timeout=500")
    for kind, (python, error, word) in broken_interpreters(tmp_path).items():
        with pytest.raises(VarlinkError) as e:
            daemon.call("Create", name="e", python=str(python), caller=caller())
        assert (kind, e.value.name) == (kind, error), e.value
        assert word in e.value.parameters["reason"], (kind, e.value)
        if kind == "exits 3":
            assert "oh dear" in e.value.parameters["output"]
        nothing_remains(daemon, "e")
    assert not processes_with("sleep 1000")
    assert [p.name for p in root.iterdir()] == [".venvd"]


def test_python_2_is_named(daemon):
    python = next(iter(sorted((pathlib.Path.home() / ".pyenv/versions").glob("2.7*/bin/python2.7"))), None)
    if python is None:
        pytest.skip("no Python 2.7 here")
    with pytest.raises(VarlinkError) as e:
        daemon.call("Create", name="old", python=str(python))
    assert e.value.name == "Unsupported" and "Python 2.7" in e.value.parameters["reason"]
    nothing_remains(daemon, "old")


def test_without_ensurepip(daemon, root, tmp_path):
    python = rebuilt_python(NEWEST, tmp_path / "python")
    with pytest.raises(VarlinkError) as e:
        daemon.call("Create", name="e", python=str(python))
    assert e.value.name == "NoEnsurepip" and e.value.parameters["interpreter"] == str(python)
    assert e.value.parameters["version"].startswith("%d.%d." % minor(NEWEST)), e.value
    assert "package" not in e.value.parameters      # no package of Debian's would bring it
    nothing_remains(daemon, "e")
    assert daemon.call("Create", name="e", python=str(python), withoutPip=True)["environment"]["state"] == "ready"


@needs_root
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_debian_without_its_venv_package(start, root, tmp_path, how):
    wrapper = without_venv_package(SYSTEM, tmp_path, how)
    daemon = start(root, wrapper=wrapper)
    with pytest.raises(VarlinkError) as e:
        daemon.call("Create", name="e", python=str(SYSTEM), caller=caller())
    assert e.value.name == "NoEnsurepip", e.value
    assert e.value.parameters["package"] == "python%d.%d-venv" % minor(SYSTEM)
    assert re.fullmatch(r"3\.\d+\.\d+", e.value.parameters["version"])
    nothing_remains(daemon, "e")


@needs_root
def test_full_disk(start, tmp_path):
    """A root with room for the catalog, but not for pip."""
    where = tmp_path / "small"
    where.mkdir()
    with mounted(where, "-t", "tmpfs", "-o", "size=6m,mode=0755", "none"):
        daemon = start(where / "envs")
        before = daemon.call("Create", name="before", python=str(SYSTEM), withoutPip=True)["environment"]
        with pytest.raises(VarlinkError) as e:
            daemon.call("Create", name="big", python=str(SYSTEM))
        assert e.value.name == "NoSpace", e.value
        nothing_remains(daemon, "big")
        assert daemon.call("Get", name="before")["environment"] == before
        daemon.call("Create", name="after", python=str(SYSTEM), withoutPip=True)
        assert daemon.stop() == 0


@needs_root
def test_not_even_room_for_the_catalog(start, tmp_path):
    where = tmp_path / "small"
    where.mkdir()
    with mounted(where, "-t", "tmpfs", "-o", "size=6m,mode=0755", "none"):
        root = where / "envs"
        daemon = start(root)
        # The log takes its length with a commit that nobody waits for: after the second create it has it.
        for name in ("earlier", "before"):
            daemon.call("Create", name=name, python=str(SYSTEM), withoutPip=True)
        fill(where / "filler")
        with pytest.raises(VarlinkError) as e:
            daemon.call("Create", name="e", python=str(SYSTEM), withoutPip=True)
        assert e.value.name == "NoSpace", e.value
        assert daemon.environments()["before"]["state"] == "ready"
        nothing_remains(daemon, "e")
        (where / "filler").unlink()
        assert daemon.call("Create", name="e", python=str(SYSTEM), withoutPip=True)["environment"]["state"] == "ready"
        assert daemon.call("Delete", name="before")["environment"]["state"] == "trashed"
        assert daemon.stop() == 0
        again = start(root)
        assert set(again.environments()) == {"e", "earlier"} and [t["name"] for t in again.trash()] == ["before"]
        again.stop()


# --- interrupted -------------------------------------------------------------------------------

class Building:
    """A creation that has come as far as ensurepip, and waits there."""

    def __init__(self, daemon, tmp_path, name="e", **parameters):
        post = Signpost(str(tmp_path / "post"))
        python = rebuilt_python(NEWEST, tmp_path / "python", WAITING.format(post=post.path))
        self.daemon, self.name = daemon, name
        self.connection = daemon.connect()
        self.connection.send("Create", {"name": name, "python": str(python), "caller": IN_PLACE, **parameters})
        self.pid = int(post.line())
        post.close()
        assert (daemon.root / name / "pyvenv.cfg").exists()
        assert daemon.call("Get", name=name)["environment"]["state"] == "creating"

    def workers(self):
        return [p for p in children(self.daemon.pid)]


def test_closing_cancels(daemon, tmp_path):
    building = Building(daemon, tmp_path)
    building.connection.close()
    wait_gone(building.pid)
    eventually(lambda: "e" not in daemon.environments())
    nothing_remains(daemon, "e")
    assert daemon.call("Create", name="e", python=str(SYSTEM), withoutPip=True)["environment"]["state"] == "ready"


@pytest.mark.parametrize("flags", [{"oneway": True}, {"requestId": "keep"}])
def test_closing_does_not_cancel(daemon, root, flags):
    parameters = {"name": "e", "python": str(SYSTEM), "withoutPip": True}
    parameters.update({"requestId": flags["requestId"]} if "requestId" in flags else {})
    with daemon.connect() as c:
        c.send("Create", parameters, **({"oneway": True} if "oneway" in flags else {}))
    if "requestId" in flags:        # a second call attaches, or hears the result
        assert daemon.call("Create", **parameters)["environment"]["state"] == "ready"
    eventually(lambda: daemon.environments().get("e", {}).get("state") == "ready")


def test_busy_while_it_is_created(daemon, tmp_path):
    building = Building(daemon, tmp_path)
    with daemon.connect() as c:
        for method, error in (("Delete", "Busy"), ("Create", "AlreadyExists"), ("Restore", "NotInTrash")):
            with pytest.raises(VarlinkError) as e:
                c.call(method, name="e")
            assert e.value.name == error
        assert c.call("Prompt", name="e")["state"] == "creating"
        assert c.call("Status")["jobsRunning"] == 1
    os.kill(building.pid, signal.SIGKILL)
    building.connection.receive()


def test_interpreter_dies_in_the_middle(daemon, tmp_path):
    building = Building(daemon, tmp_path)
    os.kill(building.pid, signal.SIGKILL)
    with pytest.raises(VarlinkError) as e:
        building.connection.result(building.connection.receive())
    assert e.value.name == "InterpreterFailed" and e.value.parameters["output"], e.value
    nothing_remains(daemon, "e")


def test_worker_is_killed(daemon, tmp_path):
    building = Building(daemon, tmp_path)
    workers = [p for p in building.workers() if building.pid in descendants(p)]
    assert len(workers) == 1
    os.kill(workers[0], signal.SIGKILL)
    with pytest.raises(VarlinkError) as e:
        building.connection.result(building.connection.receive())
    assert e.value.name == "Failed" and "worker" in e.value.parameters["reason"]
    wait_gone(building.pid)
    nothing_remains(daemon, "e")
    assert daemon.call("Create", name="e", python=str(SYSTEM), withoutPip=True)["environment"]["state"] == "ready"


def descendants(pid):
    found, stack = set(), [pid]
    while stack:
        for child in children(stack.pop()):
            found.add(child)
            stack.append(child)
    return found


def test_creation_takes_too_long(start, root, tmp_path):
    daemon = start(root, "-o", "create-timeout=3000")
    building = Building(daemon, tmp_path)
    with pytest.raises(VarlinkError) as e:
        building.connection.result(building.connection.receive())
    assert e.value.name == "Failed" and "3 seconds" in e.value.parameters["reason"]
    wait_gone(building.pid)
    nothing_remains(daemon, "e")


def test_daemon_is_killed(daemon, start, root, tmp_path):
    building = Building(daemon, tmp_path)
    everyone = descendants(daemon.pid)
    assert building.pid in everyone
    daemon.kill()
    for pid in everyone:
        wait_gone(pid)
    assert (root / "e").exists()    # as a power cut leaves it
    (root / "bystander").mkdir()
    again = start(root)
    nothing_remains(again, "e")
    assert (root / "bystander").exists()
    assert again.call("Create", name="e", python=str(SYSTEM), withoutPip=True)["environment"]["state"] == "ready"


def test_daemon_is_killed_and_somebody_takes_the_name(daemon, start, root, tmp_path):
    """The sweep goes by the inode: another directory of that name is not its prey."""
    building = Building(daemon, tmp_path)
    daemon.kill()
    wait_gone(building.pid)
    (root / "e").rename(root / "moved")
    subprocess.run([SYSTEM, "-m", "venv", "--without-pip", root / "e"], check=True)
    before = tree(root / "e", mtimes=True)
    again = start(root)
    found = again.environments()
    assert found["e"]["origin"] == "adopted" and found["e"]["state"] == "ready"
    assert tree(root / "e", mtimes=True) == before


def test_stopping_rolls_back_in_time(daemon, root, tmp_path):
    building = Building(daemon, tmp_path)
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(2) == 0
    wait_gone(building.pid)
    assert not (root / "e").exists()
    try:
        with pytest.raises(VarlinkError) as e:
            building.connection.result(building.connection.receive())
        assert e.value.name == "ShuttingDown"
    except Closed:
        pytest.fail("the client was told nothing")
