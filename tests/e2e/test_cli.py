# SPDX-License-Identifier: MIT
"""venvctl as its users meet it: every verb, its exit status, what it writes where, how it starts a daemon."""
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import stat
import subprocess
import time

import pytest

from conftest import BUILD, DEADLINE, VENVCTL, interpreters
from helpers import (
    Signpost,
    Terminal,
    eventually,
    mounted,
    needs_root,
    processes_with,
    rebuilt_python,
    tree,
    wait_gone,
    without_venv_package,
)

INTERPRETERS = interpreters()
SYSTEM = str(INTERPRETERS[0])
NEWEST = INTERPRETERS[-1]
VERSION = subprocess.run([SYSTEM, "-c", "import platform; print(platform.python_version())"],
                         capture_output=True, text=True).stdout.strip()


@pytest.fixture
def cli(venvctl):
    """venvctl with words for what tests do all the time."""

    def good(*args, **kwargs):
        done = venvctl(*args, **kwargs)
        assert done.returncode == 0, (args, done)
        return done

    def create(name, *args, **kwargs):
        return good("create", name, "-p", SYSTEM, "--without-pip", *args, **kwargs)

    venvctl.good, venvctl.create = good, create
    venvctl.status = lambda **kwargs: json.loads(good("status", "--json", **kwargs).stdout)
    venvctl.names = lambda *args: good("list", "-q", *args).stdout.split()
    yield venvctl
    venvctl("shutdown")
    eventually(lambda: daemons(venvctl.root) == {})
    for log in (venvctl.home / ".local" / "state" / "venvd").glob("*.log"):
        text = log.read_text(errors="replace")
        for word in ("Sanitizer", "runtime error", "Assertion", "built wrong"):
            assert word not in text, text


def environment(cli, **more):
    """For what runs venvctl other than through the fixture."""
    base = {k: v for k, v in os.environ.items() if not k.startswith(("VENVD_", "VIRTUAL_ENV", "XDG_"))}
    return {**base, "HOME": str(cli.home), "VENVD_ROOT": str(cli.root), "TERM": "xterm",
            "PATH": f"{BUILD}:{os.environ['PATH']}", **more}


def terminal(cli, *args, env=None, **kwargs):
    return Terminal([str(VENVCTL), *map(str, args)], environment(cli, **(env or {})), **kwargs)


def one_error(done, word, status=1):
    """Exactly one error, on stderr alone, with this word in it."""
    assert done.returncode == status, done
    assert done.stdout == "", done
    lines = done.stderr.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1, done.stderr
    assert word in done.stderr, done.stderr
    assert lines[0].startswith("error: ") and not lines[0].endswith("."), done.stderr


def daemons(root):
    return {pid: line for pid, line in processes_with(f"--root {root} ").items() if "venvd" in line.split()[0]}


# --- every verb --------------------------------------------------------------------------------

def test_a_day(cli, root):
    made = cli.create("projA", "--prompt", "it's A", "--system-site-packages")
    assert made.stdout == f"{root}/projA\n" and "created 'projA'" in made.stderr and VERSION in made.stderr
    assert cli.good("path", "projA").stdout == f"{root}/projA\n"
    row = cli.good("list").stdout.rstrip("\n").split("\t")
    assert row[:4] == ["projA", "ready", VERSION, f"{root}/projA"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row[4])
    shown = dict(line.split("\t") for line in cli.good("show", "projA").stdout.splitlines())
    assert shown["prompt"] == "it's A" and shown["systemSitePackages"] == "yes" and shown["interpreter"] == SYSTEM
    assert json.loads(cli.good("show", "projA", "--json").stdout)["creator"] == "venv"
    assert cli.good("activate", "projA").stdout == f". '{root}/projA/bin/activate'\n"
    assert cli.good("run", "projA", "--", "python", "-c", "import sys; print(sys.prefix)").stdout == f"{root}/projA\n"
    eventually(lambda: cli.good("prompt", "projA").stdout == f"it's A {VERSION}\n")     # late: the name alone
    assert any(line.split("\t")[2] == SYSTEM for line in cli.good("python", "list").stdout.splitlines())
    assert dict(line.split("\t") for line in cli.good("status").stdout.splitlines())["root"] == str(root)
    assert json.loads(cli.good("call", "Get", '{"name":"projA"}').stdout)["environment"]["name"] == "projA"
    deleted = cli.good("delete", "projA")
    assert deleted.stdout == "" and "undo: venvctl restore projA" in deleted.stderr
    assert cli.good("list").stdout == ""
    assert cli.good("list", "--trash").stdout.split("\t")[0] == "projA"
    assert cli.good("restore", "projA").stdout == f"{root}/projA\n"
    assert cli.names() == ["projA"]
    assert "restarted" in cli.good("restart").stderr
    assert cli.names() == ["projA"]
    cli.good("shutdown")
    eventually(lambda: daemons(root) == {})


def test_help_needs_no_daemon(cli, root):
    listed = cli.good("help").stdout
    verbs = ["create", "recreate", "list", "show", "delete", "restore", "path", "activate", "run", "prompt", "python", "status",
             "call", "restart", "shutdown", "help"]
    for verb in verbs:
        assert re.search(rf"\b{verb}\b", listed), verb
        about = cli.good("help", verb)
        assert verb in about.stdout and about.stderr == ""
        assert cli.good(verb, "--help").stdout == about.stdout
    assert cli.good("--version").stdout.startswith("venvctl ")
    assert "130" in cli.good("help", "exit-codes").stdout
    assert not root.exists() and daemons(root) == {}


def test_json(cli):
    for name in ("b", "a"):
        cli.create(name)
    cli.good("delete", "b")
    listed = cli.good("list", "--json").stdout
    assert [e["name"] for e in json.loads(listed)] == ["a"]
    assert [e["state"] for e in json.loads(cli.good("list", "--json", "--trash").stdout)] == ["trashed"]
    assert json.loads(cli.good("list", "--json", "no*").stdout) == []
    assert cli.status()["counts"]["ready"] == 1
    assert any(i["path"] == SYSTEM for i in json.loads(cli.good("python", "list", "--json").stdout))
    lines = cli.good("call", "--more", "List").stdout.splitlines()
    assert [json.loads(line)["environment"]["name"] for line in lines] == ["a"]
    failed = cli("call", "Get", '{"name":"none"}')
    assert failed.returncode == 3 and json.loads(failed.stdout) == {"name": "none"}


WRONG = [       # arguments, exit status, a word of stderr
    ([], 2, "hint: venvctl help"),
    (["creat", "x"], 2, "hint: venvctl create"),
    (["frobnicate"], 2, "hint: venvctl help"),
    (["create"], 2, "too few"),
    (["create", "a", "b"], 2, "unexpected argument 'b'"),
    (["list", "--frob"], 2, "--frob"),
    (["list", "--state", "redy"], 2, "ready"),
    (["list", "--timeout", "x"], 2, "--timeout"),
    (["create", "no/name"], 1, "cannot be the name"),
    (["create", "-p", "3.99", "x"], 1, "3.99"),
    (["create", "-p", "/nowhere/python", "x"], 1, "/nowhere/python"),
    (["create", "-p", "/bin/true", "x"], 1, "no Python"),
    (["create", "-p", SYSTEM, "projA"], 4, "exists already"),
    (["show", "projB"], 3, "did you mean 'projA'"),
    (["path", "projB"], 3, "projB"),
    (["activate", "projB"], 3, "projA"),
    (["activate", "projA", "--shell", "bsh"], 2, "did you mean"),
    (["delete", "projB"], 3, "projA"),
    (["delete", "no*"], 2, "hint: venvctl delete -y 'no*'"),
    (["delete", "-y", "no*"], 3, "no environment matches"),
    (["delete", "projA", "projB"], 2, "hint: venvctl delete -y projA projB"),
    (["delete", "--now", "projA"], 2, "hint: venvctl delete -y --now projA"),
    (["restore", "projA"], 3, "trash"),
    (["run", "projB", "true"], 125, "projB"),
    (["run", "projA"], 125, "command"),
    (["call", "Frob"], 1, "MethodNotFound"),
    (["call", "Get", "{"], 2, "JSON"),
    (["call", "Get", '{"name":1}'], 1, "InvalidParameter"),
    (["--root", "", "list"], 1, "empty"),
]


def test_what_is_wrong_is_said_once(cli):
    cli.create("projA")
    for args, status, word in WRONG:
        done = cli(*args)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert (args, done.returncode, len(errors)) == (args, status, 1), done
        assert word in done.stderr and (done.stdout == "" or args[0] == "call"), (args, done)
    assert cli.names() == ["projA"]


def test_partly_done(cli):
    cli.create("a")
    done = cli("delete", "-y", "a", "none")
    assert done.returncode == 9 and "'none'" in done.stderr and "moved 'a'" in done.stderr
    assert cli("restore", "a", "none").returncode == 9
    assert cli.names() == ["a"]
    deleted = cli("show", "none")
    assert deleted.returncode == 3
    cli.good("delete", "a")
    assert "'a' is in the trash: venvctl restore a" in cli("show", "a").stderr


def test_for_scripts(cli, root):
    cli.create("a")
    again = cli.good("create", "a", "-p", SYSTEM, "--without-pip", "--exist-ok")
    assert again.stdout == f"{root}/a\n"
    other = cli("create", "a", "-p", SYSTEM, "--exist-ok", "--system-site-packages", "--prompt", "x")
    assert other.returncode == 4
    for word in ("no pip", "system-site-packages", "prompt"):
        assert word in other.stderr
    assert cli.good("delete", "none", "--missing-ok").stdout == ""
    assert cli("delete", "--dry-run", "a").stdout == "a\n" and cli.names() == ["a"]
    for name in ("t1", "t2"):
        cli.create(name)
    assert cli.good("delete", "-y", "t*").stdout == "" and cli.names() == ["a"]
    quiet = cli.good("-q", "delete", "a")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    cli.good("delete", "-y", "--now", "a")
    assert cli.names("--trash") == ["t1", "t2"]


def test_values_that_could_break_a_line(cli, root):
    cli.create("a")
    (root / "tab").mkdir()
    (root / "tab" / "pyvenv.cfg").write_text("home = /no\x1b[31m\twhere\n")
    (root / "new\nline").mkdir()
    (root / "new\nline" / "pyvenv.cfg").write_text("")
    cli.good("restart")
    done = cli.good("list")
    assert len(done.stdout.splitlines()) == 3 and "\x1b" not in done.stdout
    assert {len(line.split("\t")) for line in done.stdout.splitlines()} == {7}
    assert len(json.loads(cli.good("list", "--json").stdout)) == 3


# --- terminals ---------------------------------------------------------------------------------

def test_table_on_a_terminal(cli):
    for name in ("a", "much-longer"):
        cli.create(name)
    shown = terminal(cli, "list")
    assert shown.end() == 0
    assert "NAME" in shown.text and "\t" not in shown.text and "\x1b[" in shown.text
    plain = terminal(cli, "list", env={"NO_COLOR": "1"})
    assert plain.end() == 0 and "\x1b" not in plain.text
    header, *rows = plain.text.splitlines()
    at = header.index("STATE")
    assert [row[at:at + 5] for row in rows] == ["ready", "ready"]
    assert terminal(cli, "list", env={"TERM": "dumb"}).end() == 0
    assert "\x1b" not in cli.good("list").stdout
    assert "\x1b" not in cli.good("show", "a").stdout


def test_empty_on_a_terminal_says_what_to_do(cli, root):
    shown = terminal(cli, "list")
    assert shown.end() == 0 and "hint: venvctl create NAME" in shown.text.replace("\x1b[1;32m", "").replace("\x1b[0m", "")
    assert not root.exists()


def test_progress_on_a_terminal(cli, root):
    shown = terminal(cli, "create", "a", "-p", SYSTEM, "--without-pip")
    assert shown.end() == 0
    assert "preparing this Python" in shown.text and "\r" in shown.text
    assert "created 'a'" in shown.text.split("\r")[-1]
    assert "started venvd" in shown.text        # on a terminal it says so, once
    silent = cli.create("b")
    assert "\r" not in silent.stderr and "running" not in silent.stderr


def test_confirmation(cli):
    for name in ("a", "b"):
        cli.create(name)
    asked = terminal(cli, "delete", "a", "b")
    asked.until("[y/N]")
    asked.type("\n")
    assert asked.end() == 1 and cli.names() == ["a", "b"]
    asked = terminal(cli, "delete", "a", "--now")
    asked.until("for good")
    asked.type("n\n")
    assert asked.end() == 1 and cli.names() == ["a", "b"]
    light = terminal(cli, "delete", "a")
    assert light.end() == 0 and "[y/N]" not in light.text and "venvctl restore a" in light.text
    asked = terminal(cli, "delete", "*")
    asked.until("[y/N]")
    asked.type("y\n")
    assert asked.end() == 0 and cli.names() == []
    mute = terminal(cli, "delete", "--no-input", "--now", "a")
    assert mute.end() == 2 and "venvctl delete -y --now a" in mute.text


def waiting_python(tmp_path):
    post = Signpost(str(tmp_path / "post"))
    text = f"import os, signal\nopen({post.path!r}, 'w').write('%d\\n' % os.getpid())\nsignal.pause()\n"
    return post, rebuilt_python(NEWEST, tmp_path / "python", text)


@pytest.mark.slow
def test_interrupt(cli, root, tmp_path):
    post, python = waiting_python(tmp_path)
    shown = terminal(cli, "create", "a", "-p", python)
    pid = int(post.line())
    post.close()
    shown.type("\x03")
    assert shown.end() == 130, shown.text
    assert "cancelled 'a'" in shown.text
    wait_gone(pid)
    eventually(lambda: cli.names() == [])
    assert not (root / "a").exists()
    eventually(lambda: not list((root / ".venvd" / "stage").iterdir()))
    cli.create("a")


def test_timeout(cli, tmp_path):
    post, python = waiting_python(tmp_path)
    cli.create("first")
    done = cli("--timeout", "2", "create", "a", "-p", str(python))
    one_error(done, "in time", 8)
    post.close()
    eventually(lambda: cli.names() == ["first"])


# --- starting ----------------------------------------------------------------------------------

@pytest.fixture
def stopped(cli):
    """A root that has been used, and whose daemon has ended."""
    cli.create("a")
    cli.good("shutdown")
    eventually(lambda: daemons(cli.root) == {})
    return cli


def test_substitution_returns_at_once(stopped, root):
    """The daemon that is started must not keep the pipe open."""
    began = time.monotonic()
    done = subprocess.run(["sh", "-c", 'x=$(venvctl list -q 2>&1); echo "<$x>"'], env=environment(stopped),
                          capture_output=True, text=True, timeout=DEADLINE)
    assert "a>" in done.stdout, done
    assert time.monotonic() - began < 20 and len(daemons(root)) == 1


def test_two_at_once_start_one(stopped, root):
    several = [subprocess.Popen([VENVCTL, "status", "--json"], env=environment(stopped), stdout=subprocess.PIPE)
               for _ in range(4)]
    answers = [json.loads(p.communicate(timeout=DEADLINE)[0]) for p in several]
    assert len({a["pid"] for a in answers}) == 1 and [p.returncode for p in several] == [0] * 4
    eventually(lambda: len(daemons(root)) == 1)     # who came second is still ending


def test_started_daemon_keeps_nothing_of_its_caller(stopped, root, tmp_path):
    (tmp_path / "cwd").mkdir()
    leak = os.open(tmp_path / "leak", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(leak, True)

    def strange():
        os.umask(0o027)
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2])

    shown = subprocess.run([VENVCTL, "status", "--json"], cwd=tmp_path / "cwd", close_fds=False, preexec_fn=strange,
                           env=environment(stopped, SECRET="x", PYTHONHOME="/x", LD_LIBRARY_PATH="/tmp"),
                           stdin=subprocess.PIPE, capture_output=True, text=True, timeout=DEADLINE)
    os.close(leak)
    proc = pathlib.Path(f"/proc/{json.loads(shown.stdout)['pid']}")
    assert os.readlink(proc / "cwd") == "/"
    links = []
    for descriptor in (proc / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):    # it closes some, too
            links.append(os.readlink(descriptor))
    kinds = ("/dev/null", f"{root}", "socket:", "anon_inode:", "pipe:", str(stopped.home), str(BUILD))
    assert [link for link in links if not link.startswith(kinds)] == []
    assert str(tmp_path / "leak") not in links and not any(link.startswith("/dev/pts") for link in links)
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    assert fields[4] == "0"                                             # no terminal
    assert fields[3] == proc.name                                       # a session of its own
    variables = {v.split("=")[0] for v in (proc / "environ").read_text().split("\0") if v}
    assert variables <= {"HOME", "PATH", "LANG", "USER", "LOGNAME", "PYENV_ROOT", "ASAN_OPTIONS", "UBSAN_OPTIONS",
                         "LSAN_OPTIONS"}, variables
    limits = dict(re.findall(r"^Max (.+?) {2,}(\S+ +\S+)", (proc / "limits").read_text(), re.M))
    for name in ("open files", "core file size"):
        assert len(set(limits[name].split())) == 1, limits
    status = dict(re.findall(r"^(\w+):\s*(.*)$", (proc / "status").read_text(), re.M))
    assert status["Umask"] == "0077" and int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) & 0x7fffffff == 1 << (signal.SIGPIPE - 1)  # above: the C library's own


def test_from_a_terminal_that_goes_away(stopped, root):
    shown = terminal(stopped, "list", "-q")
    assert shown.end() == 0
    pid = stopped.status()["pid"]
    assert len(daemons(root)) == 1 and pathlib.Path(f"/proc/{pid}").exists()


def test_autostart_forbidden(stopped, root):
    for args, env in ((["list"], {"VENVD_AUTOSTART": "0"}), (["--no-start", "list"], {}),
                      (["--no-start", "create", "b"], {})):
        one_error(stopped(*args, env=env), "no venvd is running", 6)
    assert daemons(root) == {}
    assert stopped.good("--no-start", "path", "a").stdout == f"{root}/a\n"
    assert stopped.good("--no-start", "run", "a", "true").stdout == ""
    assert stopped("--no-start", "path", "b").returncode == 3


def test_without_home_or_runtime_directory(stopped, root, tmp_path):
    """HOME is in the password database as well; all that is needed lies below the root."""
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    env = {k: v for k, v in environment(stopped, **state).items() if k != "HOME"}
    done = subprocess.run([VENVCTL, "list", "-q"], env=env, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0 and done.stdout == "a\n", done
    assert list((tmp_path / "state" / "venvd").glob("venvd*.log"))
    bare = subprocess.run([VENVCTL, "--root", str(root), "list", "-q"], env={}, capture_output=True, text=True,
                          timeout=DEADLINE)
    assert bare.stdout == "a\n"


def test_runtime_directory_is_removed(cli, tmp_path):
    runtime = tmp_path / "runtime"
    runtime.mkdir(0o700)
    env = {"XDG_RUNTIME_DIR": str(runtime)}
    cli.create("a", env=env)
    shutil.rmtree(runtime)
    assert cli.good("list", "-q", env=env).stdout == "a\n"


def test_two_roots_never_meet(cli, tmp_path):
    other = tmp_path / "other"
    cli.create("a")
    cli.create("b", env={"VENVD_ROOT": str(other)})
    assert cli.names() == ["a"]
    assert cli.good("--root", str(other), "list", "-q").stdout == "b\n"
    assert cli.status()["pid"] != cli.status(env={"VENVD_ROOT": str(other)})["pid"]
    cli.good("--root", str(other), "shutdown")
    assert cli.names() == ["a"]


def test_root_comes_from_where_it_should(cli, root, tmp_path):
    workon = tmp_path / "workon"
    cli.create("w", env={"VENVD_ROOT": "", "WORKON_HOME": str(workon)})
    assert (workon / "w").is_dir()
    cli.create("h", env={"VENVD_ROOT": ""}, unset=("WORKON_HOME",))
    assert (cli.home / ".virtualenvs" / "h").is_dir()
    relative = cli.good("--root", "../workon", "list", "-q", cwd=cli.home)
    assert relative.stdout == "w\n"
    for one in (workon, cli.home / ".virtualenvs"):
        cli.good("--root", str(one), "shutdown")


def test_a_long_root(cli, tmp_path):
    long = tmp_path / ("l" * 100) / ("m" * 100)
    long.parent.mkdir()
    cli.create("a", env={"VENVD_ROOT": str(long)})
    assert cli.good("--root", str(long), "list", "-q").stdout == "a\n"


def test_socket_option(cli, tmp_path):
    path = tmp_path / "s" / "socket"
    path.parent.mkdir(0o700)
    cli.create("a", env={"VENVD_SOCKET": str(path)})
    assert stat.S_ISSOCK(path.stat().st_mode) and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert cli.good("--socket", str(path), "list", "-q").stdout == "a\n"
    assert cli.names() == ["a"]


# --- roots -------------------------------------------------------------------------------------

def test_looking_makes_nothing(cli, root, tmp_path):
    before = tree(tmp_path, mtimes=True)
    assert cli.good("list").stdout == "" and cli.good("list", "--trash").stdout == ""
    assert cli.good("prompt").stdout == "" and cli("show", "x").returncode == 3
    assert cli.good("python", "list").stdout != ""
    assert "not running" in cli.good("status").stdout
    assert tree(tmp_path, mtimes=True) == before
    root.mkdir()
    subprocess.run([SYSTEM, "-m", "venv", "--without-pip", root / "old"], check=True)
    before = tree(tmp_path, mtimes=True)
    assert cli.names() == ["old"] and cli.good("path", "old").stdout == f"{root}/old\n"
    assert cli.good("run", "old", "true").stdout == ""
    assert tree(tmp_path, mtimes=True) == before and daemons(root) == {}


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_first_create_makes_the_root(cli, root, umask):
    cli.create("a", umask=umask)
    assert stat.S_IMODE(root.stat().st_mode) == 0o755 & ~umask
    assert stat.S_IMODE((root / ".venvd").stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o777 & ~umask
    cli.create("b", umask=0o027)        # each caller's own, not the first one's
    assert stat.S_IMODE((root / "b").stat().st_mode) == 0o750


def refused(cli, where, root, word, *more):
    """create says why not, once, and changes nothing; nobody is left running."""
    before = tree(where, mtimes=True)
    done = cli("create", "a", "-p", SYSTEM, "--without-pip", env={"VENVD_ROOT": str(root)})
    one_error(done, word)
    assert str(root) in done.stderr
    for text in more:
        assert text in done.stderr, done.stderr
    assert tree(where, mtimes=True) == before
    eventually(lambda: daemons(root) == {})


def test_roots_that_cannot_be(cli, tmp_path):
    where = tmp_path / "where"
    where.mkdir()
    (where / "file").write_text("")
    (where / "real").mkdir()
    (where / "link").symlink_to(where / "real")
    (where / "dangling").symlink_to("nowhere")
    (where / "world").mkdir()
    (where / "world").chmod(0o777)
    refused(cli, where, where / "no" / "root", "is missing", f"hint: mkdir -p '{where}/no'")
    refused(cli, where, where / "file", "not a directory")
    refused(cli, where, where / "file" / "below", "")
    refused(cli, where, where / "link", "symbolic link", "hint: ")
    refused(cli, where, where / "dangling", "symbolic link")
    refused(cli, where, where / "world", "everybody", "hint: chmod o-w")
    if os.geteuid() != 0:
        (where / "locked").mkdir(0o500)
        refused(cli, where, where / "locked", "Permission denied")


@needs_root
def test_root_of_another_owner(cli, tmp_path):
    where = tmp_path / "where"
    (where / "root").mkdir(parents=True)
    os.chown(where / "root", 12345, 12345)
    refused(cli, where, where / "root", "uid 12345", "hint: ")


@needs_root
def test_root_that_is_read_only(cli, tmp_path):
    where = tmp_path / "where"
    (where / "root").mkdir(parents=True)
    (where / "source").mkdir()
    with mounted(where / "root", "-o", "bind,ro", str(where / "source")) as root:
        refused(cli, where, root, "read-only")
        refused(cli, where, root / "below", "ead-only")


@needs_root
def test_root_on_fuse(cli, tmp_path):
    if not os.path.exists("/dev/fuse") or not shutil.which("bindfs"):
        pytest.skip("no FUSE here")
    where, source = tmp_path / "where", tmp_path / "source"
    (where / "root").mkdir(parents=True)
    source.mkdir()
    if subprocess.run(["bindfs", source, where / "root"], capture_output=True).returncode != 0:
        pytest.skip("cannot mount FUSE here")
    try:
        refused(cli, where, where / "root", "FUSE", "hint: export VENVD_ROOT=")
    finally:
        subprocess.run(["umount", "-l", where / "root"], check=True)


def test_root_goes_away_under_a_running_daemon(cli, root):
    cli.create("a")
    pid = cli.status()["pid"]
    root.rename(root.parent / "moved")
    assert cli("--no-start", "list").returncode == 6
    root.mkdir()
    assert cli.create("b").returncode == 0      # another root, another daemon
    assert cli.names() == ["b"]
    os.kill(pid, signal.SIGTERM)
    wait_gone(pid)
    assert (root.parent / "moved" / "a").is_dir()


# --- upgrades ----------------------------------------------------------------------------------

@pytest.fixture
def installed(cli, tmp_path):
    """A copy of the three programs, to be replaced under a running daemon."""
    place = tmp_path / "installed"
    place.mkdir()
    for name in ("venvd", "venvctl", "venvd-worker"):
        shutil.copy2(BUILD / name, place / name)

    def run(*args):
        return subprocess.run([place / "venvctl", *args], env=environment(cli, PATH="/usr/bin:/bin"),
                              capture_output=True, text=True, timeout=DEADLINE * 3)

    run.place = place
    yield run
    subprocess.run([VENVCTL, "shutdown"], env=environment(cli), timeout=DEADLINE)


def test_programs_are_replaced_under_a_running_daemon(installed, root):
    create = ("create", "-p", SYSTEM, "--without-pip")
    assert installed(*create, "a").returncode == 0
    for name in ("venvd", "venvd-worker"):
        (installed.place / name).unlink()
        (installed.place / name).write_text("#!/bin/sh\nexit 99\n")
        (installed.place / name).chmod(0o755)
    assert installed(*create, "b").returncode == 0
    assert installed("delete", "a").returncode == 0
    pid = json.loads(installed("status", "--json").stdout)["pid"]
    workers = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for worker in workers:
        os.kill(int(worker), signal.SIGKILL)            # the next one is of the same build
    assert installed("restore", "a").returncode == 0
    for name in ("venvd", "venvd-worker"):
        (installed.place / name).unlink()
        shutil.copy2(BUILD / name, installed.place / name)
    assert installed("restart").returncode == 0
    assert installed("list", "-q").stdout == "a\nb\n"
    assert json.loads(installed("status", "--json").stdout)["pid"] != pid


def test_worker_is_missing(installed, root):
    (installed.place / "venvd-worker").unlink()
    one_error(installed("create", "a"), "venvd-worker", 6)
    (installed.place / "venvd").unlink()
    one_error(installed("create", "a"), "venvd", 6)


def test_restart_starts_one(stopped, root):
    done = stopped.good("restart")
    assert "started venvd" in done.stderr and len(daemons(root)) == 1
    assert stopped("--no-start", "restart").returncode == 2


def test_shutdown_purge(cli, root):
    for name in ("a", "b"):
        cli.create(name)
    cli.good("delete", "b")
    assert cli("shutdown", "--purge").returncode == 2 and cli.names("--trash") == ["b"]
    before = tree(root / "a", mtimes=True)
    cli.good("shutdown", "--purge", "-y")
    assert [p.name for p in root.iterdir()] == ["a"] and tree(root / "a", mtimes=True) == before
    assert subprocess.run([root / "a/bin/python", "-c", ""]).returncode == 0
    eventually(lambda: daemons(root) == {})     # it has answered; a sanitizer looks for leaks at its end
    assert cli.names() == ["a"]
    assert [p.name for p in root.iterdir()] == ["a"]
    cli.good("shutdown")                        # nobody is there: harmless


# --- run and activate --------------------------------------------------------------------------

def test_run(cli, root):
    cli.create("e", "--prompt", "P")
    run = lambda *args, **kwargs: cli("run", "e", *args, **kwargs)      # noqa: E731
    assert run("--", "python", "-c", "import sys; sys.exit(7)").returncode == 7
    assert run("sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    assert run("no-such-command").returncode == 127
    assert run("/no/such/command").returncode == 127
    assert run("/etc/passwd").returncode == 126
    assert run("/").returncode == 126
    words = ["a b", "$(id)", "`id`", "*", "", "'\"", "--json", "-q"]
    out = run("--", "python", "-c", "import sys; print(sys.argv[1:])", *words).stdout
    assert out == f"{words}\n"
    (root / "e" / "bin" / "no-shebang").write_text("exit 3\n")
    (root / "e" / "bin" / "no-shebang").chmod(0o755)
    assert run("no-shebang").returncode == 126          # no shell in between
    script = "import os; print(os.environ['VIRTUAL_ENV'], os.environ['VIRTUAL_ENV_PROMPT'], 'PYTHONHOME' in " \
             "os.environ, os.environ['PATH'].split(':')[0], os.environ['MINE'], os.getpid())"
    process = subprocess.Popen([VENVCTL, "run", "e", "python", "-c", script], stdout=subprocess.PIPE, text=True,
                               env=environment(cli, PYTHONHOME="/x", MINE="1"))
    out = process.communicate(timeout=DEADLINE)[0]
    assert out == f"{root}/e P False {root}/e/bin 1 {process.pid}\n"


def test_run_passes_signals_on(cli):
    cli.create("e")
    script = "import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(42)); print('here', flush=True); " \
             "signal.pause()"
    process = subprocess.Popen([VENVCTL, "run", "e", "python", "-c", script], stdout=subprocess.PIPE,
                               env=environment(cli))
    assert process.stdout.readline() == b"here\n"
    process.send_signal(signal.SIGUSR1)
    assert process.wait(DEADLINE) == 42
    process.stdout.close()


@pytest.mark.parametrize("shell, line, show", [
    ("bash", 'eval "$(venvctl activate e)"', 'echo "$VIRTUAL_ENV"; command -v python'),
    ("dash", 'eval "$(venvctl activate e)"', 'echo "$VIRTUAL_ENV"; command -v python'),
    ("zsh", 'eval "$(venvctl activate e)"', 'echo "$VIRTUAL_ENV"; command -v python'),
    ("sh", 'eval "$(venvctl activate e --shell sh)"', 'echo "$VIRTUAL_ENV"; command -v python'),
    ("fish", "eval (venvctl activate e)", "echo $VIRTUAL_ENV; command -s python"),
    ("fish", "venvctl activate e | source", "echo $VIRTUAL_ENV; command -s python"),
    ("tcsh", "eval `venvctl activate e`", "echo \"$VIRTUAL_ENV\"; which python"),
], ids=lambda value: value.split()[0].replace("(", ""))
@pytest.mark.parametrize("awkward", [False, True], ids=["plain", "awkward"])
def test_activate_really_does(cli, tmp_path, shell, line, show, awkward):
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    python = SYSTEM if awkward else str(NEWEST)
    if awkward and shell == "tcsh":
        pytest.skip("venv's own activate.csh is not made for such a path")
    root = tmp_path / ("it's a \\ $root" if awkward else "root")
    cli.good("create", "e", "-p", python, "--without-pip", env={"VENVD_ROOT": str(root)})
    done = subprocess.run([shell, "-c", f"{line}\n{show}"], capture_output=True, text=True, timeout=DEADLINE,
                          env=environment(cli, VENVD_ROOT=str(root), SHELL="/bin/false"), cwd="/")
    assert done.stdout.splitlines() == [f"{root}/e", f"{root}/e/bin/python"], done


def test_activate_on_a_terminal_says_how(cli):
    cli.create("e")
    shown = terminal(cli, "activate", "e")
    assert shown.end() == 0 and 'eval "$(venvctl activate e)"' in shown.text


# --- prompt ------------------------------------------------------------------------------------

def test_prompt_with_a_daemon(cli, root):
    cli.create("e")
    cli.create("p", "--prompt", "shown")
    active = {"VIRTUAL_ENV": str(root / "e")}
    # Within 5 ms on a machine that does other things, too: sooner or later.
    eventually(lambda: cli.good("prompt", env=active).stdout == f"e {VERSION}\n")
    eventually(lambda: cli.good("prompt", "e").stdout == f"e {VERSION}\n")
    eventually(lambda: cli.good("prompt", env={"VIRTUAL_ENV": str(root / "p" / "bin")}).stdout == f"shown {VERSION}\n")
    assert cli.good("prompt").stdout == ""
    shutil.rmtree(root / "p")
    shutil.rmtree(root / "e" / "bin")
    cli.good("restart")
    eventually(lambda: "!" in cli.good("prompt", env=active).stdout)
    eventually(lambda: "?" in cli.good("prompt", "p").stdout)


def test_prompt_never_starts_and_falls_back(stopped, root):
    for env, shown in (({"VIRTUAL_ENV": str(root / "a")}, "a"), ({"VIRTUAL_ENV": "/else/where/b"}, "b"),
                       ({"VIRTUAL_ENV": str(root / "a"), "VIRTUAL_ENV_PROMPT": "(shown) "}, "shown"), ({}, "")):
        done = stopped.good("prompt", env=env)
        assert done.stdout.strip("() \n") == shown and done.stderr == "", (env, done)
    assert daemons(root) == {}


def fastest(argv, env, times=15):
    best = DEADLINE
    for _ in range(times):
        began = time.monotonic()
        subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, check=True)
        best = min(best, time.monotonic() - began)
    return best


def test_prompt_does_not_wait(cli, root):
    """Not for a daemon that is stopped, nor for one that is not there."""
    cli.create("e")
    env = environment(cli, VIRTUAL_ENV=str(root / "e"))
    allowed = 0.05 + 4 * fastest(["/bin/true"], env)
    if BUILD.name == "build-san":
        allowed += 1
    assert fastest([VENVCTL, "prompt"], env) < allowed
    pid = cli.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert fastest([VENVCTL, "prompt"], env) < allowed
        assert cli.good("prompt", env={"VIRTUAL_ENV": str(root / "e")}).stdout.strip() == "e"
    finally:
        os.kill(pid, signal.SIGCONT)
    cli.good("shutdown")
    assert fastest([VENVCTL, "prompt"], env) < allowed


# --- interpreters ------------------------------------------------------------------------------

def test_without_ensurepip(cli, tmp_path):
    python = rebuilt_python(NEWEST, tmp_path / "python")
    done = cli("create", "a", "-p", str(python))
    one_error(done, "ensurepip")
    hint = f"venvctl create --without-pip a -p {python}"
    assert f"hint: {hint}\n" in done.stderr
    assert cli.names() == []
    assert cli(*hint.split()[1:]).returncode == 0 and cli.names() == ["a"]


@needs_root
def test_without_debians_package(cli, start, root, tmp_path):
    start(root, wrapper=without_venv_package(SYSTEM, tmp_path))
    done = cli("create", "a", "-p", SYSTEM)
    one_error(done, f"version {VERSION}")
    assert f"hint: sudo apt-get install python{VERSION.rpartition('.')[0]}-venv\n" in done.stderr


def test_output_of_a_failing_interpreter_is_shown(cli, tmp_path):
    script = tmp_path / "python3"
    script.write_text("#!/bin/sh\necho 'libpython3.so: cannot open'\nexit 127\n")
    script.chmod(0o755)
    done = cli("create", "a", "-p", str(script))
    one_error(done, "status 127")
    assert "\n  libpython3.so: cannot open" in done.stderr


def test_python_of_the_callers_path(cli, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "my-python").symlink_to(SYSTEM)
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    done = cli.good("create", "a", "-p", "my-python", "--without-pip", env=env)
    assert f"{tmp_path}/bin/my-python" in done.stderr
    done = cli.good("create", "b", "-p", "bin/my-python", "--without-pip", env=env, cwd=tmp_path)
    assert f"{tmp_path}/bin/my-python" in done.stderr
    default = cli.good("create", "c", "--without-pip", env=env)
    assert "/usr/bin/python3" in default.stderr and "first python3 on PATH" in default.stderr
