# SPDX-License-Identifier: MIT
"""What is wrong is told in sentences, and what can be mended is mended in place, with everything that is installed."""
import json
import os
import pathlib
import shlex
import shutil
import subprocess

import pytest

from conftest import VarlinkError, interpreters
from helpers import eventually, mounted, rebuilt_python, tree
from test_rename import create, holding, install, refused, run, site_packages, works

PYTHONS = interpreters()
NEWEST, OLDEST = str(PYTHONS[-1]), str(PYTHONS[0])
CALLER = {"path": os.path.dirname(NEWEST)}


def diagnose(daemon, *names):
    """name -> its findings, of those that are not well."""
    found = {}
    with daemon.connect() as c:
        for name in names or [None]:
            for reply in c.stream("Diagnose", **({"name": name} if name else {})):
                if "diagnosis" in reply:
                    found[reply["diagnosis"]["name"]] = reply["diagnosis"]["findings"]
    return found


def kinds(daemon, name):
    return [f["kind"] for f in diagnose(daemon, name).get(name, [])]


def repair(daemon, name, **parameters):
    answer = daemon.call("Repair", name=name, caller=CALLER, **parameters)
    return [f["kind"] for f in answer["repaired"]], [f["kind"] for f in answer["remaining"]], answer["environment"]


def known(daemon, *names):
    eventually(lambda: all(daemon.environments().get(n, {}).get("state") in ("ready", "broken") for n in names))


# --- all is well ---

@pytest.mark.parametrize("python", [pytest.param(PYTHONS[0], id=PYTHONS[0].name, marks=pytest.mark.slow),
                                    pytest.param(PYTHONS[-1], id=PYTHONS[-1].name)])
def test_nothing_is_wrong(daemon, root, python):
    """Not with what venvd makes, nor with what others do; and looking changes nothing."""
    create(daemon, "a", python)
    if python == PYTHONS[-1]:
        create(daemon, "without", python, withoutPip=True)
        subprocess.run([python, "-m", "venv", root / "by-hand"], check=True)
        subprocess.run([shutil.which("python3"), "-m", "venv", "--copies", "--without-pip", root / "copies"], check=True)
        known(daemon, "by-hand", "copies")
        daemon.call("Rename", name="a", to="b")
        daemon.call("Clone", name="b", to="c")
    before = {name: tree(root / name, mtimes=True) for name in daemon.environments()}
    assert diagnose(daemon) == {}
    assert {name: tree(root / name, mtimes=True) for name in before} == before


def test_each_is_looked_at_once(daemon, root):
    for i in range(70):         # more than go into one order
        create(daemon, f"e{i:03}", withoutPip=True)
        if i % 10 == 0:
            (root / f"e{i:03}" / "bin" / "python").unlink()
            (root / f"e{i:03}" / "bin" / "python").symlink_to("/gone/python3")
    with daemon.connect() as c:
        replies = list(c.stream("Diagnose"))
    assert [r["diagnosis"]["name"] for r in replies if "diagnosis" in r] == [f"e{i:03}" for i in range(0, 70, 10)]
    assert [r["looked"] for r in replies if "looked" in r] == [70] and "looked" in replies[-1]


def test_calls_that_make_no_sense(daemon, root):
    assert refused(daemon, "Diagnose").name == "ExpectedMore"
    assert refused(daemon, "Diagnose", name="a").name == "NoSuchEnvironment"
    assert refused(daemon, "Repair", name="a").name == "NoSuchEnvironment"
    with daemon.connect() as c:
        assert list(c.stream("Diagnose")) == [{"looked": 0}]
    create(daemon, "a", withoutPip=True)
    shutil.rmtree(root / "a")
    eventually(lambda: daemon.environments()["a"]["state"] == "missing")
    assert kinds(daemon, "a") == ["missing"]
    assert refused(daemon, "Repair", name="a").name == "Unsupported"
    (root / "link").symlink_to("/usr")
    eventually(lambda: "link" in daemon.environments())
    assert diagnose(daemon).keys() == {"a"} and kinds(daemon, "link") == ["unreadable"]
    assert refused(daemon, "Repair", name="link").name == "Unsupported"


# --- who has files of it mapped ---

def loads(running, library):
    """A process that is none of the environment's, and has this library of it loaded."""
    return running([shutil.which("python3", path="/usr/bin"), "-c",
                    f"import ctypes, sys; ctypes.CDLL({str(library)!r}); print('here', flush=True); sys.stdin.read()"])


def library(directory, name="module.so"):
    [found] = [line.split()[-1] for line in pathlib.Path("/proc/self/maps").read_text().splitlines()
               if line.endswith("libc.so.6") and "r-xp" in line]
    return shutil.copy(pathlib.Path(found).parent / "libm.so.6", site_packages(directory) / name)


def test_mapped(daemon, root, venvctl, running):
    """No harm, and told of the one that was asked for only; delete does not count it."""
    create(daemon, "a", withoutPip=True)
    create(daemon, "ab", withoutPip=True)
    process = loads(running, library(root / "a"))
    with daemon.connect() as c:
        [first] = list(c.stream("Diagnose", name="a"))
    assert first["looked"] == 1 and first["diagnosis"]["findings"] == []
    assert [p["pid"] for p in first["diagnosis"]["mapped"]] == [process.pid]
    assert "ctypes" in first["diagnosis"]["mapped"][0]["command"]
    assert diagnose(daemon) == {} and diagnose(daemon, "ab") == {}
    result = venvctl("doctor", "a")
    assert result.returncode == 0 and result.stdout == ""
    assert f"'a': process {process.pid} (" in result.stderr and "nothing is wrong" in result.stderr
    assert str(process.pid) not in venvctl("doctor").stderr
    daemon.call("Rename", name="a", to="z")
    assert str(process.pid) in venvctl("doctor", "z").stderr


def test_runs_what_is_not_there_any_more(daemon, root, venvctl, running):
    """As after a pip install --upgrade under a program that runs."""
    create(daemon, "a", withoutPip=True)
    paths = [library(root / "a", f"{i}.so") for i in range(2)]
    replaced, removed, other = loads(running, paths[0]), loads(running, paths[1]), loads(running, library(root / "a"))
    fresh = library(root / "a", "fresh")
    os.replace(fresh, paths[0])
    paths[1].unlink()
    found = diagnose(daemon)["a"]
    assert [(f["kind"], f["repairable"]) for f in found] == [("stale", False)] * 2
    told = {p.pid: f["text"] for p in (replaced, removed) for f in found if f"process {p.pid} " in f["text"]}
    assert all(f"'{site_packages(root / 'a').relative_to(root / 'a')}/{i}.so'" in told[p.pid]
               for i, p in enumerate((replaced, removed)))
    assert str(other.pid) not in json.dumps(found)
    result = venvctl("doctor", "a", "--fix")
    assert result.returncode == 1 and "1 of its files that was replaced or removed" in result.stdout
    for process in (replaced, removed):
        process.kill()
        process.wait()
    assert venvctl("doctor", "a").returncode == 0


def test_mapped_by_many(daemon, root, running):
    """LIMIT_IN_USE of them are named."""
    create(daemon, "a", withoutPip=True)
    path = library(root / "a")
    for _ in range(10):
        loads(running, path)
    with daemon.connect() as c:
        [reply] = list(c.stream("Diagnose", name="a"))
    assert len(reply["diagnosis"]["mapped"]) == 8


MAPS = """
import ctypes, sys
mmap = ctypes.CDLL(None).mmap       # Python's own keeps a descriptor for each
mmap.restype = ctypes.c_void_p
def executable(path, times=1):
    with open(path, "rb") as f:
        for i in range(times):      # the kernel makes one of neighbours that are alike
            assert mmap(None, ctypes.c_size_t(4096), 1 if i & 1 else 5, 2, f.fileno(), ctypes.c_long(0)) != 2**64 - 1
%s
print("here", flush=True)
sys.stdin.read()
"""


def test_more_files_than_are_kept(daemon, root, running):
    create(daemon, "a", withoutPip=True)
    site = site_packages(root / "a")
    for i in range(4100):       # LIMIT_MAPPED_FILES is 4096
        (site / f"{i}.bin").write_bytes(b"x")
    running(["/usr/bin/python3", "-c", MAPS % f"for i in range(4100): executable(f'{site}/{{i}}.bin')"])
    for i in range(4100):
        (site / f"{i}.bin").unlink()
    [finding] = diagnose(daemon, "a")["a"]
    assert finding["kind"] == "stale" and " 4096 of its files " in finding["text"]


@pytest.mark.parametrize("others", [10, 5000])
def test_more_mappings_than_are_read(daemon, root, running, tmp_path, others):
    """LIMIT_MAPS_BYTES are 4 MiB. What is mapped later comes first."""
    create(daemon, "a", withoutPip=True)
    deep = tmp_path / "/".join(["d" * 200] * 5)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")
    path = library(root / "a")
    process = running(["/usr/bin/python3", "-c", MAPS % f"executable({str(path)!r}); executable({str(deep / 'file')!r}, {others})"])
    with daemon.connect() as c:
        replies = list(c.stream("Diagnose", name="a"))
    told = [p["pid"] for p in replies[-1].get("diagnosis", {}).get("mapped", [])]
    assert told == ([process.pid] if others == 10 else [])


# --- its path ---

@pytest.mark.parametrize("how", ["moved", pytest.param("copied", marks=pytest.mark.slow)])
def test_by_hand_to_another_name(daemon, root, tmp_path, how):
    """As if it had been renamed, or cloned, by venvd."""
    create(daemon, "a")
    install(root / "a", tmp_path)
    works(root / "a", "a")
    if how == "moved":
        (root / "a").rename(root / "b")
    else:
        shutil.copytree(root / "a", root / "b", symlinks=True)
    known(daemon, "b")
    [finding] = diagnose(daemon)["b"]
    assert finding["kind"] == "path" and finding["repairable"] and f"'{root}/a'" in finding["text"]
    assert repair(daemon, "b")[:2] == (["path"], [])
    works(root / "b", "b")
    assert holding(root / "b", str(root / "a")) == [] and not (root / "b" / ".venvd-repair").exists()
    assert diagnose(daemon) == {}
    if how == "copied":
        works(root / "a", "a")
    create(daemon, "c")
    install(root / "c", tmp_path)
    daemon.call("Rename", name="c", to="d")
    # Whatever a rename changes, a repair has changed.
    ours, theirs = (holding(root / n, f"{root}/{n}") for n in ("b", "d"))
    assert sorted(ours) == sorted(theirs)


def test_what_names_another_environment_on_purpose(daemon, root):
    """A .pth or a script may."""
    create(daemon, "a", withoutPip=True)
    create(daemon, "b", withoutPip=True)
    (site_packages(root / "b") / "a.pth").write_text(f"{site_packages(root / 'a')}\n")
    script = root / "b" / "bin" / "on-a"
    script.write_text(f"#!{root}/a/bin/python\nimport sys; print(sys.prefix)\n")
    script.chmod(0o755)
    assert diagnose(daemon) == {}
    assert repair(daemon, "b")[:2] == ([], [])
    assert run(script) == f"{root}/a\n"


def test_by_another_way_to_the_same_place(daemon, root, tmp_path):
    """The root was reached through a link when it was made."""
    create(daemon, "z", withoutPip=True)
    (tmp_path / "link").symlink_to(root)
    subprocess.run([NEWEST, "-m", "venv", "--without-pip", tmp_path / "link" / "a"], check=True)
    known(daemon, "a")
    assert diagnose(daemon) == {}


def test_elsewhere(daemon, root, tmp_path):
    subprocess.run([NEWEST, "-m", "venv", tmp_path / "one"], check=True)
    (tmp_path / "one").rename(tmp_path / "two")
    install_dir = tmp_path / "two"
    daemon.call("Adopt", name="e", path=str(install_dir))
    assert kinds(daemon, "e") == ["path"]
    assert repair(daemon, "e")[:2] == (["path"], [])
    assert run(install_dir / "bin/pip", "--version").startswith("pip ")
    assert run("bash", "-euc", f". {install_dir}/bin/activate; echo $VIRTUAL_ENV") == f"{install_dir}\n"


def test_a_path_with_a_slash_behind(daemon, root):
    """As somebody wrote it by hand. Its name is not empty for that: 'deactivate () {' stays what it is."""
    create(daemon, "a", withoutPip=True)
    activate = root / "a" / "bin" / "activate"
    activate.write_text(activate.read_text().replace(f"{root}/a", "/old/place/"))
    before = activate.read_text()
    assert repair(daemon, "a")[:2] == (["path"], [])
    assert activate.read_text() == before.replace("/old/place", f"{root}/a").replace("(place) ", "(a) ")
    assert run("bash", "-euc", f". {activate}; deactivate; echo good") == "good\n"


@pytest.mark.parametrize("where", ["my project", "it's mine", "a;b", "a&b$c", "(x)"])
@pytest.mark.parametrize("python", [PYTHONS[0], PYTHONS[-1]], ids=lambda p: p.name)
def test_moved_to_where_shells_need_quotes(daemon, tmp_path, where, python):
    """What stood in no quotes gets some, and a name is no part of a command."""
    if "$" in where and "quote_ps1" not in pathlib.Path(subprocess.run(
            [python, "-c", "import venv; print(venv.__file__)"], capture_output=True, text=True).stdout.strip()).read_text():
        pytest.skip("its venv writes such a path in double quotes itself")
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "before"], check=True)
    there = tmp_path / where
    (tmp_path / "before").rename(there)
    daemon.call("Adopt", name="e", path=str(there))
    assert repair(daemon, "e")[:2] == (["path"], [])
    for shell, command in (("bash", '. "$1/bin/activate"; printf "%s\\n" "$VIRTUAL_ENV"; command -v python; printf "%s" "$PS1"'),
                           ("fish", 'source $argv[1]/bin/activate.fish; echo $VIRTUAL_ENV; command -v python'),
                           ("csh", 'source "$1/bin/activate.csh"; echo "$VIRTUAL_ENV"; which python')):
        if shutil.which(shell):
            words = {"csh": [shell, "-fc", f"set prompt=x; set argv=({shlex.quote(str(there))}); {command}"],
                     "fish": [shell, "-c", command, str(there)]}.get(shell, [shell, "-euc", command, shell, str(there)])
            said = run(*words).splitlines()
            assert said[:2] == [str(there), f"{there}/bin/python"], (shell, said)


@pytest.mark.parametrize("where", ["$(touch ran)", "`touch ran`", '"; touch ran; "'])
def test_moved_to_where_a_shell_would_execute(daemon, root, tmp_path, where):
    """As a directory of a repository may be called: it is told, and nothing is written."""
    subprocess.run([NEWEST, "-m", "venv", "--without-pip", tmp_path / "before"], check=True)
    there = tmp_path / where / ".venv"
    there.parent.mkdir()
    (tmp_path / "before").rename(there)
    daemon.call("Adopt", name="e", path=str(there))
    before = tree(there)
    [finding] = diagnose(daemon, "e")["e"]
    assert finding["kind"] == "path" and not finding["repairable"] and "a shell would execute" in finding["text"]
    assert repair(daemon, "e")[:2] == ([], ["path"])
    assert tree(there) == before
    assert daemon.call("Clone", name="e", to="a")["environment"]["state"] == "ready"     # out of there


# --- its Python ---

def test_a_base_that_is_gone(daemon, root, tmp_path):
    """Another of the same minor version takes its place; what is installed stays."""
    python = rebuilt_python(NEWEST, tmp_path / "python")
    create(daemon, "a", python, withoutPip=True)
    marker = site_packages(root / "a") / "mine.py"
    marker.write_text("here = True\n")
    shutil.rmtree(tmp_path / "python")
    eventually(lambda: daemon.environments()["a"]["state"] == "broken")
    [finding] = diagnose(daemon)["a"]
    assert finding["kind"] == "interpreter" and "is gone" in finding["text"] and finding["repairable"]
    assert finding["command"] == "venvctl recreate a"
    with daemon.connect() as c:
        c.send("Watch", {}, more=True)
        while c.receive()["parameters"]["event"] != "ready":
            pass
        mended, left, env = repair(daemon, "a")
        assert (mended, left, env["state"]) == (["interpreter"], [], "ready") and "problem" not in env
        assert c.receive()["parameters"]["event"] == "repaired"
    assert run(root / "a/bin/python", "-c", "import mine, sys; print(sys.prefix)") == f"{root}/a\n"
    assert os.path.dirname(NEWEST) in (root / "a/pyvenv.cfg").read_text()
    cfg = (root / "a/pyvenv.cfg").read_text().splitlines()
    assert [line for line in cfg if str(tmp_path / "python") in line and not line.startswith("command = ")] == []
    assert diagnose(daemon) == {}
    assert daemon.environments()["a"]["interpreter"].startswith(os.path.dirname(NEWEST))


def test_links_that_are_no_python(daemon, root, tmp_path):
    """What only begins like it, and a Python that somebody else's version is, are not led elsewhere."""
    python = rebuilt_python(NEWEST, tmp_path / "python")
    create(daemon, "a", python, withoutPip=True)
    others = {"python3-config": "/usr/bin/python3-config", "python-build": "/gone/python-build", "pypy-helper": "/gone/helper",
              "python2": "/usr/bin/python2", "python3.1": "/usr/bin/python3.1"}
    for name, target in others.items():
        (root / "a/bin" / name).symlink_to(target)
    shutil.rmtree(tmp_path / "python")
    assert repair(daemon, "a")[:2] == (["interpreter"], [])
    assert {name: os.readlink(root / "a/bin" / name) for name in others} == others
    assert run(root / "a/bin/python", "-c", "import sys; print(sys.prefix)") == f"{root}/a\n"


def test_no_other_python_fits(daemon, root, tmp_path):
    create(daemon, "a", withoutPip=True)
    env = root / "a"
    link = next(p for p in (env / "bin").iterdir() if p.is_symlink() and os.readlink(p).startswith("/"))
    link.unlink()
    link.symlink_to("/gone/python3.99")
    [lib] = (env / "lib").iterdir()
    lib.rename(lib.with_name("python3.99"))
    before = tree(env, mtimes=True)
    mended, left, answer = repair(daemon, "a")
    assert (mended, left, answer["state"]) == ([], ["interpreter"], "broken")
    assert tree(env, mtimes=True) == before


def test_another_version_by_now(daemon, root, tmp_path):
    """As after an upgrade of the system: python3 is another one."""
    link = tmp_path / "bin" / "python3"
    link.parent.mkdir()
    link.symlink_to(NEWEST)
    subprocess.run([link, "-m", "venv", "--without-pip", root / "a"], check=True)
    known(daemon, "a")
    first = (root / "a/bin/python3").resolve()
    old = next(p for p in (root / "a/bin").iterdir() if p.is_symlink() and os.readlink(p).startswith("/"))
    old.unlink()
    old.symlink_to(link)        # some versions of venv resolve it themselves
    assert diagnose(daemon) == {}
    link.unlink()
    link.symlink_to(OLDEST)
    [finding] = diagnose(daemon)["a"]
    assert finding["kind"] == "version", finding
    assert repair(daemon, "a")[:2] == (["version"], [])
    assert (root / "a/bin/python3").resolve() == first
    assert diagnose(daemon) == {}


# --- what is installed ---

def test_files_of_packages(daemon, root, tmp_path):
    create(daemon, "a")
    install(root / "a", tmp_path)
    site = site_packages(root / "a")
    (site / "hello.py").unlink()
    with open(root / "a/bin/hello-script", "a") as script:
        script.write("# longer\n")
    (site / "~ello").mkdir()
    (site / "pip" / "__main__.py").unlink()
    found = {f["text"]: f for f in diagnose(daemon, "a")["a"]}
    assert len(found) == 3
    hello = next(t for t in found if "'hello'" in t)
    assert hello.startswith("1 of the ") and "is missing, and 1 changed" in hello
    assert found[hello]["command"] == "venvctl run a -- python -m pip install --force-reinstall --no-deps hello==1.0"
    pip = next(t for t in found if "'pip'" in t)
    assert found[pip]["command"] == "venvctl recreate a"
    assert any("left over from an interrupted pip" in t and "/~ello'" in t for t in found)
    assert repair(daemon, "a")[0] == [] and len(diagnose(daemon, "a")["a"]) == 3


@pytest.mark.parametrize("info, command", [
    ("epoch-1!2.0", "'epoch==1!2.0'"), ("plus-1.0+local.1", "plus==1.0+local.1"), ("-1.0", None), ("empty-", None),
])
def test_hints_that_can_be_typed(daemon, root, info, command):
    create(daemon, "a", withoutPip=True)
    there = site_packages(root / "a") / f"{info}.dist-info"
    there.mkdir()
    (there / "RECORD").write_text("gone.py,sha256=x,1\n")
    [finding] = diagnose(daemon, "a")["a"]
    assert "command" not in finding         # there is no pip that it could run
    (there.parent / "pip").mkdir()
    [finding] = diagnose(daemon, "a")["a"]
    before = "venvctl run a -- python -m pip install --force-reinstall --no-deps "
    assert finding["kind"] == "files" and finding.get("command") == (command and before + command)


def test_hostile_contents(daemon, root, tmp_path):
    """Nothing of it is followed, run, waited for, or printed raw."""
    create(daemon, "a", withoutPip=True)
    env, site = root / "a", site_packages(root / "a")
    canary = tmp_path / "canary"
    (env / "bin/activate").unlink()
    os.mkfifo(env / "bin/activate")
    os.mkfifo(env / "bin/pipe")
    (env / "bin/evil").write_text(f"#!/gone/$(touch {canary})/bin/python\x1b[31m\n")
    (env / "bin/huge").write_bytes(b"#!/" + b"x" * 100_000)
    (env / "bin/self").symlink_to("self")
    for name, record in {
        "x-1.dist-info": "/etc/passwd,sha256=x,1\n../../../../../../etc/passwd,sha256=x,1\nx\x1b[31m.py,sha256=x,1\n"
                         "a/b/../../../..,sha256=x,1\n\"quoted\"\"name\",sha256=x,5\n,,\n,\n\"\n",
        "y`touch canary`-1.dist-info": "gone,sha256=x,1\n",
        "nodash.dist-info": "gone,sha256=x,99999999999999999999999\n",
    }.items():
        (site / name).mkdir()
        (site / name / "RECORD").write_text(record)
    (site / "z-1.dist-info").mkdir()
    (site / "z-1.dist-info" / "RECORD").symlink_to("/etc/passwd")
    (site / "out").symlink_to("/etc")
    (site / "w-1.dist-info").mkdir()
    (site / "w-1.dist-info" / "RECORD").write_text("out/passwd,sha256=x,1\n")
    findings = diagnose(daemon, "a")["a"]
    text = json.dumps(findings)
    assert "\\u001b" not in text and "\\\\x1b[31m" in text
    assert "passwd" not in text.replace("out/passwd", "")
    assert all("`" not in f.get("command", "") for f in findings)
    repair(daemon, "a")
    assert not canary.exists()


def test_more_findings_than_are_told(daemon, root):
    create(daemon, "a", withoutPip=True)
    for i in range(210):        # LIMIT_FINDINGS is 200
        info = site_packages(root / "a") / f"p{i}-1.dist-info"
        info.mkdir()
        (info / "RECORD").write_text("gone.py,sha256=x,1\n")
    assert len(diagnose(daemon, "a")["a"]) == 200


# --- repairs that do not go through ---

def test_a_repair_on_a_full_disk(start, root, tmp_path):
    """Nothing is changed, and with room it works."""
    root.mkdir()
    with mounted(root, "-t", "tmpfs", "-o", "size=64m,mode=700", "none"):
        daemon = start(root)
        create(daemon, "a")
        (root / "a").rename(root / "b")
        known(daemon, "b")
        before = tree(root / "b", mtimes=True)
        with open(root / "filler", "wb") as filler:
            try:
                while True:
                    filler.write(b"x" * 65536)
            except OSError:
                pass
        answer = refused(daemon, "Repair", name="b", caller=CALLER)
        assert answer.name == "NoSpace", answer
        after = tree(root / "b", mtimes=True)
        assert {k: v for k, v in after.items() if k != "."} == {k: v for k, v in before.items() if k != "."}
        (root / "filler").unlink()
        assert repair(daemon, "b")[:2] == (["path"], [])
        daemon.stop()


def test_an_interrupted_repair_is_finished_by_the_next(start, root):
    """Killed with some files new and some old, and with its directory in the tree."""
    daemon = start(root)
    create(daemon, "a")
    (root / "a").rename(root / "b")
    known(daemon, "b")
    (root / "b/.venvd-repair").mkdir()
    (root / "b/.venvd-repair/0").write_text("half")
    text = (root / "b/bin/activate").read_text()
    (root / "b/bin/activate").write_text(text.replace(f"{root}/a", f"{root}/b"))
    daemon.kill()
    daemon = start(root)
    assert kinds(daemon, "b") == ["path", "remains"]
    assert repair(daemon, "b")[:2] == (["path", "remains"], [])
    assert holding(root / "b", f"{root}/a") == [] and not (root / "b/.venvd-repair").exists()


@pytest.mark.slow
def test_the_same_request_twice(start, root):
    daemon = start(root)
    create(daemon, "a")
    (root / "a").rename(root / "b")
    known(daemon, "b")
    first = daemon.call("Repair", name="b", caller=CALLER, requestId="r1")
    again = daemon.call("Repair", name="b", caller=CALLER, requestId="r1")
    assert again["environment"] == first["environment"]
    daemon.kill()
    daemon = start(root)
    assert daemon.call("Repair", name="b", caller=CALLER, requestId="r1")["environment"] == first["environment"]
    with pytest.raises(VarlinkError) as e:
        daemon.call("Repair", name="a", caller=CALLER, requestId="r1")
    assert e.value.name == "InvalidParameter"


# --- the command ---

def test_venvctl_doctor(venvctl, root):
    assert venvctl("create", "a").returncode == 0
    done = venvctl("doctor")
    assert (done.returncode, done.stdout) == (0, "") and "1 environment: nothing is wrong" in done.stderr
    shutil.copytree(root / "a", root / "b", symlinks=True)
    eventually(lambda: "b\t" in venvctl("list").stdout)
    (site_packages(root / "b") / "pip/__main__.py").unlink()
    done = venvctl("doctor")
    assert done.returncode == 1 and "1 of 2 environments: something is wrong" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("b: ") and "of which it is a copy" in lines[0]
    assert lines[1] == f"  hint: venvctl --root {root} doctor b --fix" or lines[1] == "  hint: venvctl doctor b --fix"
    assert lines[3].endswith("recreate b")
    rows = json.loads(venvctl("doctor", "b", "--json").stdout)
    assert [r["name"] for r in rows] == ["b"] and len(rows[0]["findings"]) == 2
    done = venvctl("doctor", "--fix")
    assert done.returncode == 9 and done.stdout.startswith("b: mended: ")
    assert holding(root / "b", str(root / "a")) == []
    done = venvctl("doctor", "nope")
    assert done.returncode == 3 and "'nope'" in done.stderr


def test_venvctl_move(venvctl, root, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    subprocess.run([NEWEST, "-m", "venv", project / ".venv"], check=True)
    install(project / ".venv", tmp_path)
    done = venvctl("move", project / ".venv", "p")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{root}/p\n" and not (project / ".venv").exists()
    works(root / "p", "p")
    assert venvctl("restore", "p-old").returncode == 0
    works(project / ".venv", ".venv")
    # It has a name by now; and the one that it is to have is its own.
    assert venvctl("rename", "p-old", "q").returncode == 0
    assert venvctl("move", project / ".venv", "q").returncode == 0
    works(root / "q", "q")
    assert "q-old" in venvctl("list", "--trash").stdout


def test_venvctl_move_refused(venvctl, root, tmp_path):
    subprocess.run([NEWEST, "-m", "venv", "--without-pip", tmp_path / "e"], check=True)
    assert venvctl("create", "a", "--without-pip").returncode == 0
    for arguments, status, words in (
            ((tmp_path / "e", "a"), 4, "'a'"), ((tmp_path, "b"), 1, "is no environment"), ((tmp_path / "e", "-b"), 2, ""),
            ((tmp_path / "e", "b/c"), 1, "'b/c'"), (("", "b"), 2, "a directory"), ((tmp_path / "e",), 2, "")):
        done = venvctl("move", *arguments)
        assert done.returncode == status and words in done.stderr, done
    assert (tmp_path / "e/bin/python").exists()
    assert venvctl("list", "-q").stdout == "a\n"


def test_venvctl_move_while_it_runs(venvctl, root, tmp_path):
    """The copy is made, and the old one stays where it is: said so."""
    subprocess.run([NEWEST, "-m", "venv", "--without-pip", tmp_path / "e"], check=True)
    with subprocess.Popen([tmp_path / "e/bin/python", "-c", "input()"], stdin=subprocess.PIPE) as process:
        done = venvctl("move", tmp_path / "e", "a")
        assert done.returncode == 9 and "'a-old'" in done.stderr and str(process.pid) in done.stderr
        process.communicate(b"\n")
    assert pathlib.Path(tmp_path / "e").exists()
    assert run(root / "a/bin/python", "-c", "import sys; print(sys.prefix)") == f"{root}/a\n"
    assert venvctl("list", "-q").stdout == "a\na-old\n"
