# SPDX-License-Identifier: MIT
"""venvctl where no daemon is: the command line itself, help, exit statuses, and what must work without one.

No test here starts a daemon: VENVD_AUTOSTART=0 forbids it, and the roots are empty or hand-made.
"""
import contextlib
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

BUILD = pathlib.Path(os.environ.get("VENVD_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build"))
VENVCTL = str(BUILD.resolve() / "venvctl")
VERBS = ["create", "list", "show", "delete", "restore", "path", "activate", "run", "prompt", "python",
         "status", "call", "restart", "shutdown", "help"]


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "envs"
    path.mkdir()
    return path


@pytest.fixture
def env(root):
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS")}
    return {**kept, "HOME": str(root.parent), "VENVD_ROOT": str(root), "VENVD_AUTOSTART": "0"}


@pytest.fixture
def venvctl(env):
    def run(*args, more_env=None, **kwargs):
        return subprocess.run([VENVCTL, *map(str, args)], env={**env, **(more_env or {})},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, **kwargs)
    return run


@pytest.fixture
def environment(root):
    """An environment as far as venvctl looks: a directory with programs in its bin."""
    def make(name, **scripts):
        (root / name / "bin").mkdir(parents=True)
        (root / name / "pyvenv.cfg").touch()
        for script, text in scripts.items():
            path = root / name / "bin" / script
            path.write_text(text)
            path.chmod(0o755)
        return root / name
    return make


@pytest.fixture
def server(root):
    """server(reply): listens where the daemon of root would; reply(call bytes) -> bytes, or None for silence."""
    sockets = []

    def serve(reply, path=None):
        if path is None:
            (root / ".venvd").mkdir(mode=0o700, exist_ok=True)
            path = root / ".venvd" / "io.venvd"
        listener = socket.socket(socket.AF_UNIX)
        here = os.open(path.parent, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)
        listener.listen(8)
        sockets.append(listener)

        def connection(c):
            buffer = b""
            while data := c.recv(65536):
                buffer += data
                while b"\0" in buffer:
                    call, buffer = buffer.split(b"\0", 1)
                    answer = reply(call)
                    if answer is not None:
                        with contextlib.suppress(BrokenPipeError):
                            c.sendall(answer)

        def accept():
            while True:
                try:
                    c, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=connection, args=(c,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return path

    yield serve
    for s in sockets:
        s.shutdown(socket.SHUT_RDWR)
        s.close()


def lines(text):
    """Errors are lines that begin with error: or hint:, and nothing else."""
    for line in text.splitlines():
        assert line.startswith(("error: ", "hint: ", "  ")), text
    return text


# --- the command line ----------------------------------------------------------------------------

def test_no_command(venvctl):
    r = venvctl()
    assert (r.returncode, r.stdout) == (2, "")
    assert "hint: venvctl help" in lines(r.stderr)


@pytest.mark.parametrize("typo, meant", [("lst", "list"), ("creat", "create"), ("dlete", "delete"), ("shwo", "show")])
def test_unknown_verb(venvctl, typo, meant):
    r = venvctl(typo)
    assert (r.returncode, r.stdout) == (2, "")
    assert f"there is no command '{typo}'" in lines(r.stderr)
    assert f"hint: venvctl {meant}\n" in r.stderr


def test_unknown_verb_is_shown_harmlessly(venvctl):
    r = venvctl("\033[31mx\n")
    assert r.returncode == 2 and "\033" not in r.stderr and "\\x1b" in r.stderr


@pytest.mark.parametrize("args, says", [
    (["list", "--nope"], "unknown option '--nope'"),
    (["list", "-x"], "unknown option '-x'"),
    (["list", "--json=3"], "option '--json' takes no value"),
    (["list", "--state"], "option '--state' needs a value"),
    (["--root"], "option '--root' needs a value"),
    (["list", "--state", "redy"], "did you mean 'ready'?"),
    (["list", "--trash", "--state", "ready"], "in the trash"),
    (["list", "a", "b"], "unexpected argument 'b'"),
    (["create"], "too few arguments"),
    (["create", "a", "-p"], "option '-p' needs a value"),
    (["create", "a", "--python"], "option '--python' needs a value"),
    (["show"], "too few arguments"),
    (["delete"], "too few arguments"),
    (["restore"], "too few arguments"),
    (["restore", "--id", "1", "a", "b"], "unexpected argument 'b'"),
    (["activate", "a", "--shell", "zzsh"], "did you mean 'zsh'?"),
    (["python"], "too few arguments"),
    (["python", "lst"], "did you mean 'python list'?"),
    (["call"], "too few arguments"),
    (["call", "Get", "{"], "no JSON"),
    (["call", "Get", "[]"], "must be a JSON object"),
    (["--timeout", "0", "list"], "--timeout takes seconds"),
    (["--timeout", "soon", "list"], "--timeout takes seconds"),
    (["--timeout", "nan", "list"], "--timeout takes seconds"),
    (["list", "--color", "red"], "--color takes auto, always or never"),
    (["restart", "--no-start"], "--no-start forbids"),
    (["help", "creat"], "there is no help on 'creat'"),
])
def test_usage_errors(venvctl, args, says):
    r = venvctl(*args)
    assert (r.returncode, r.stdout) == (2, "")
    assert says in lines(r.stderr) and "\nhint: venvctl" in r.stderr


@pytest.mark.parametrize("args", [["--version"], ["list", "--version"], ["--root", "/x", "--version"]])
def test_version(venvctl, args):
    r = venvctl(*args)
    assert r.returncode == 0 and re.fullmatch(r"venvctl \S+\n", r.stdout) and r.stderr == ""


# --- help ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("args", [["help"], ["--help"], ["-h"]])
def test_help(venvctl, args):
    r = venvctl(*args)
    assert (r.returncode, r.stderr) == (0, "")
    for word in [*VERBS, "ls", "rm", "--root", "--no-start", "exit-codes"]:
        assert re.search(rf"(^|\s|')-*{re.escape(word)}\b", r.stdout), word


@pytest.mark.parametrize("verb", [*VERBS, "ls", "rm"])
def test_help_of_a_verb(venvctl, verb):
    r = venvctl("help", verb)
    assert (r.returncode, r.stderr) == (0, "")
    assert r.stdout.startswith("usage: venvctl ")
    for other in (["--help"], ["-h"]):
        assert venvctl(verb, *other).stdout == r.stdout
    assert max(map(len, r.stdout.splitlines())) <= 92


def test_help_exit_codes(venvctl):
    r = venvctl("help", "exit-codes")
    assert r.returncode == 0
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 125, 126, 127, 130):
        assert re.search(rf"\b{code}\b", r.stdout)


def test_every_verb_is_in_the_manual():
    page = (pathlib.Path(__file__).resolve().parents[2] / "client" / "venvctl.1").read_text()
    for verb in VERBS:
        assert re.search(rf"^\.It Cm {verb}\b", page, re.M), verb


# --- no daemon -----------------------------------------------------------------------------------

@pytest.mark.parametrize("args", [["list"], ["show", "a"], ["create", "a"], ["delete", "a"], ["restore", "a"],
                                  ["activate", "a"], ["python", "list"], ["status"], ["call", "List"],
                                  ["call", "Shutdown"], ["delete", "-y", "a*"]])
@pytest.mark.parametrize("how", ["option", "variable"])
def test_no_start(venvctl, root, args, how):
    if how == "option":
        r = venvctl("--no-start", *args, more_env={"VENVD_AUTOSTART": "1"})
    else:
        r = venvctl(*args)
    assert (r.returncode, r.stdout) == (6, "")
    assert r.stderr == f"error: no venvd is running for '{root}'\nhint: venvd --root {root}\n"
    assert list(root.iterdir()) == []


def test_hint_is_quoted_for_the_shell(venvctl, tmp_path):
    r = venvctl("--root", tmp_path / "it's here", "list")
    assert f"hint: venvd --root '{tmp_path}/it'\\''s here'" in r.stderr


def test_what_is_pasted_meets_the_same_root(venvctl, server, root):
    server(lambda call: b'{"parameters":{}}\0' if b"Delete" in call else
           b'{"error":"io.venvd.AlreadyExists","parameters":{"name":"x"}}\0')
    elsewhere = {"VENVD_ROOT": "/nonexistent"}
    assert f"hint: venvctl --root {root} show x\n" in venvctl("--root", root, "create", "x", more_env=elsewhere).stderr
    assert f"undo: venvctl --root {root} restore x\n" in venvctl("rm", "x", "--root", root, more_env=elsewhere).stderr
    assert "hint: venvctl show x\n" in venvctl("create", "x").stderr
    assert f"hint: venvctl --root {root} help list\n" in venvctl("list", "a", "b", "--root", root).stderr


def test_shutdown_without_a_daemon(venvctl, root):
    for args in (["shutdown"], ["shutdown", "--purge"]):
        r = venvctl(*args, more_env={"VENVD_AUTOSTART": "1"})
        assert (r.returncode, r.stdout, r.stderr) == (0, "", f"no venvd is running for '{root}'\n")
    assert list(root.iterdir()) == []


def test_stale_socket(venvctl, root):
    (root / ".venvd").mkdir()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(root / ".venvd" / "io.venvd"))
    assert venvctl("list").returncode == 6


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "-a", "a b", "ä", "a\nb", "x" * 101, "a\udcff"])
def test_create_refuses_a_name_before_anything_happens(venvctl, root, name):
    r = venvctl("create", "--", name, more_env={"VENVD_AUTOSTART": "1"})
    assert r.returncode == 1 and r.stdout == ""
    assert "cannot be the name of an environment: " in lines(r.stderr)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("args, hint", [
    (["a", "b"], "venvctl delete -y a b"), (["x*"], "venvctl delete -y 'x*'"),
    (["--now", "a"], "venvctl delete -y --now a"), (["--missing-ok", "a", "it's"], None),
])
@pytest.mark.parametrize("no_input", [[], ["--no-input"]])
def test_delete_asks_first_and_nobody_is_there(venvctl, args, hint, no_input):
    r = venvctl("delete", *args, *no_input, more_env={"VENVD_AUTOSTART": "1"})
    assert (r.returncode, r.stdout) == (2, "")
    assert "must be confirmed" in r.stderr
    hint = hint or "venvctl delete -y --missing-ok a 'it'\\''s'"
    assert r.stderr.endswith(f"hint: {hint}\n")


def test_no_home(venvctl):
    r = venvctl("list", more_env={"VENVD_ROOT": "relative"}, cwd="/")
    assert r.returncode == 6 and "'/relative'" in r.stderr


# --- prompt --------------------------------------------------------------------------------------

@pytest.mark.parametrize("variables, shown", [
    ({}, ""),
    ({"VIRTUAL_ENV": ""}, ""),
    ({"VIRTUAL_ENV_PROMPT": "x"}, ""),
    ({"VIRTUAL_ENV": "/a/projA"}, "projA\n"),
    ({"VIRTUAL_ENV": "/a/projA/"}, "projA\n"),
    ({"VIRTUAL_ENV": "/a/projA", "VIRTUAL_ENV_PROMPT": "shown"}, "shown\n"),
    ({"VIRTUAL_ENV": "/a/projA", "VIRTUAL_ENV_PROMPT": "(shown) "}, "shown\n"),
    ({"VIRTUAL_ENV": "/a/projA", "VIRTUAL_ENV_PROMPT": ""}, "projA\n"),
    ({"VIRTUAL_ENV": "/a/\033[2Jx"}, "\\x1b[2Jx\n"),
])
def test_prompt_without_a_daemon(venvctl, variables, shown):
    r = venvctl("prompt", more_env={**variables, "VENVD_AUTOSTART": "1"})
    assert (r.returncode, r.stdout, r.stderr) == (0, shown, "")


def test_prompt_name_without_a_daemon(venvctl, root):
    r = venvctl("prompt", "projB", more_env={"VIRTUAL_ENV": "/a/projA", "VENVD_AUTOSTART": "1"})
    assert (r.returncode, r.stdout) == (0, "projB\n")
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("reply, shown", [
    (b'{"parameters":{"name":"projA","version":"3.12.1","state":"ready"}}', "projA 3.12.1\n"),
    (b'{"parameters":{"name":"projA","prompt":"p","version":"3.12.1","state":"broken"}}', "p 3.12.1 !\n"),
    (b'{"parameters":{"name":"projA","state":"missing"}}', "projA ?\n"),
    (b'{"parameters":{"name":"projA","state":"creating"}}', "projA +\n"),
    (b'{ "parameters" : {"name":"a\\u00e4\\"b", "version":null} }', 'aä"b\n'),
    (b'{"error":"io.venvd.NoSuchEnvironment","parameters":{}}', "kept\n"),
    (b"[]", "kept\n"),
    (b"rubbish", "kept\n"),
])
def test_prompt_reply(venvctl, server, reply, shown):
    server(lambda call: reply + b"\0")
    r = venvctl("prompt", more_env={"VIRTUAL_ENV": "/a/projA", "VIRTUAL_ENV_PROMPT": "kept"})
    # A daemon may be late on a busy machine: then the name alone is right, too.
    assert r.returncode == 0 and r.stdout in (shown, "kept\n") and r.stderr == ""


def test_prompt_does_not_wait_for_a_silent_daemon(venvctl, server):
    server(lambda call: None)
    best = 9e9
    for _ in range(20):
        begin = time.monotonic()
        r = venvctl("prompt", more_env={"VIRTUAL_ENV": "/a/projA"})
        best = min(best, time.monotonic() - begin)
        assert (r.returncode, r.stdout) == (0, "projA\n")
    assert best < 0.25  # the process itself, under a sanitizer; the wait is 5 ms of it


# --- path and run --------------------------------------------------------------------------------

def test_path(venvctl, environment):
    made = environment("projA")
    r = venvctl("path", "projA")
    assert (r.returncode, r.stdout, r.stderr) == (0, f"{made}\n", "")


def test_path_of_nothing(venvctl, root):
    (root / "file").write_text("")
    for name in ("nothing", "file"):
        r = venvctl("path", name)
        assert (r.returncode, r.stdout) == (3, "")
        assert f"error: no environment '{name}' in '{root}'" in lines(r.stderr)
    assert venvctl("path", "../envs").returncode == 1
    assert venvctl("path", "projA", "--root", "/nonexistent").returncode == 3


def test_path_never_starts_a_daemon(venvctl, environment, root):
    environment("projA")
    assert venvctl("path", "projA", more_env={"VENVD_AUTOSTART": "1"}).returncode == 0
    assert venvctl("run", "projA", "true", more_env={"VENVD_AUTOSTART": "1"}).returncode == 0
    assert [p.name for p in root.iterdir()] == ["projA"]


def test_path_with_a_hung_daemon(venvctl, server, environment):
    made = environment("projA")
    server(lambda call: None)
    assert venvctl("path", "projA").stdout == f"{made}\n"


def test_path_of_a_long_root(venvctl, tmp_path, server):
    """Longer than a socket's address may be."""
    long = tmp_path / ("d" * 120) / ("e" * 120)
    (long / ".venvd").mkdir(parents=True)
    server(lambda call: b'{"parameters":{"environment":{"name":"x","path":"/from/the/daemon"}}}\0',
           long / ".venvd" / "io.venvd")
    assert venvctl("--root", long, "path", "x").stdout == "/from/the/daemon\n"


@pytest.mark.parametrize("status", [0, 1, 2, 42, 125, 126, 127, 130, 255])
def test_run_gives_the_status(venvctl, environment, status):
    environment("projA", leave='#!/bin/sh\nexit "$1"\n')
    assert venvctl("run", "projA", "leave", status).returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGPIPE])
def test_run_gives_the_signal(venvctl, environment, env, number):
    environment("projA", die='#!/bin/sh\nkill -"$1" $$\n')
    assert venvctl("run", "projA", "die", int(number)).returncode == -number
    r = subprocess.run(["/bin/sh", "-c", f'"$0" run projA die {int(number)}; exit $?', VENVCTL], env=env,
                       capture_output=True, timeout=60)
    assert r.returncode == 128 + number


def test_run_is_the_same_process(env, environment):
    environment("projA", me='#!/bin/sh\necho $$\n')
    p = subprocess.Popen([VENVCTL, "run", "projA", "me"], env=env, stdout=subprocess.PIPE, text=True)
    assert int(p.communicate(timeout=60)[0]) == p.pid


def test_run_sets_the_environment(venvctl, environment):
    made = environment("projA", show="#!/bin/sh\nenv\npwd\n")
    r = venvctl("run", "projA", "show", cwd="/", more_env={
        "PATH": "/usr/bin:/bin", "PYTHONHOME": "/x", "PYTHONPATH": "/kept", "LD_PRELOAD": ""})
    got = dict(line.split("=", 1) for line in r.stdout.splitlines() if "=" in line)
    assert got["PATH"] == f"{made}/bin:/usr/bin:/bin"
    assert got["VIRTUAL_ENV"] == str(made) and got["VIRTUAL_ENV_PROMPT"] == "projA"
    assert "PYTHONHOME" not in got and got["PYTHONPATH"] == "/kept"
    assert r.stdout.splitlines()[-1] == "/"


def test_run_prefers_the_environment(venvctl, environment):
    environment("projA", ls="#!/bin/sh\necho ours\n")
    assert venvctl("run", "projA", "ls").stdout == "ours\n"


@pytest.mark.parametrize("args, output", [
    (["projA", "say", "--", "a b", "-q", "--root"], ["--", "a b", "-q", "--root"]),
    (["projA", "--", "say", "--help"], ["--help"]),
    (["projA", "say", "$HOME;*"], ["$HOME;*"]),
    (["projA", "say", ""], [""]),
])
def test_run_passes_arguments_untouched(venvctl, environment, args, output):
    environment("projA", say='#!/bin/sh\nfor a; do printf "%s\\n" "$a"; done\n')
    r = venvctl("run", *args)
    assert r.stdout.split("\n")[:-1] == output and r.returncode == 0


def test_run_failures(venvctl, environment, root):
    made = environment("projA", noexec="#!/bin/sh\n", nointerp="#!/nonexistent/sh\n", nohead="echo shell\n")
    (made / "bin" / "noexec").chmod(0o644)
    (made / "bin" / "directory").mkdir()
    for command, status, says in [
        ("nowhere-at-all", 127, "was not found"), ("/nonexistent", 127, "No such file"),
        ("nointerp", 126, "interpreter does not exist"), ("nohead", 126, "no '#!' line"),
        (str(made / "bin" / "noexec"), 126, "Permission denied"), ("directory", 127, "was not found"),
        (str(made), 126, "directory"),
    ]:
        r = venvctl("run", "projA", command)
        assert r.returncode == status, (command, r)
        assert says in lines(r.stderr) and r.stdout == ""
    r = venvctl("run", "projA", "noexec", more_env={"PATH": "/nonexistent"})
    assert r.returncode == 126
    for args in (["nothing", "true"], ["../envs/projA", "true"], ["projA"], ["projA", "--"], [], ["--nope", "a", "b"]):
        r = venvctl("run", *args)
        assert (r.returncode, r.stdout) == (125, ""), args
        lines(r.stderr)


def test_run_never_takes_another_python(venvctl, environment, tmp_path):
    """The one of a broken environment is a link that leads nowhere; PATH may well hold another."""
    made = environment("projA")
    (made / "bin" / "python").symlink_to("/nonexistent/python3.9")
    (tmp_path / "python").write_text("#!/bin/sh\necho other\n")
    (tmp_path / "python").chmod(0o755)
    r = venvctl("run", "projA", "python", more_env={"PATH": str(tmp_path)})
    assert (r.returncode, r.stdout) == (126, "") and "interpreter does not exist" in lines(r.stderr)


def test_a_directory_is_no_environment(venvctl, root):
    (root / "src").mkdir()
    r = venvctl("run", "src", "true")
    assert (r.returncode, r.stderr) == (125, f"error: no environment 'src' in '{root}'\nhint: venvctl list\n")
    assert venvctl("path", "src").returncode == 3


def test_run_keeps_stdin_and_descriptors(env, environment, tmp_path):
    environment("projA", copy="#!/bin/sh\ncat\necho >&7\n")
    r = subprocess.run(["/bin/sh", "-c", '"$0" run projA copy 7>"$1"', VENVCTL, tmp_path / "seven"], env=env,
                       input=b"data", capture_output=True, timeout=60)
    assert r.stdout == b"data" and (tmp_path / "seven").read_bytes() == b"\n"


# --- activate ------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", ["/plain/projA", "/with blank/it's", "/do$lar`id`\"x\\y", "/bang!x", "/new\nline", "/two  blanks"])
@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "dash", "fish", "csh", "tcsh"])
def test_activate_is_quoted(venvctl, server, tmp_path, path, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    where = pathlib.Path(str(tmp_path / "p") + path)
    (where / "bin").mkdir(parents=True)
    for suffix in ("", ".fish", ".csh"):
        (where / "bin" / f"activate{suffix}").write_text("echo activated\n")
    reply = {"parameters": {"environment": {"name": "projA", "state": "ready", "path": str(where)}}}
    server(lambda call: json.dumps(reply, separators=(",", ":")).encode() + b"\0")
    r = venvctl("activate", "projA", "--shell", shell)
    assert r.returncode == 0 and r.stderr == ""
    out = subprocess.run([shell, "-c", r.stdout], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (out.stdout, out.returncode) == ("activated\n", 0), (r.stdout, out.stderr)
    if "csh" in shell and "\n" not in path:         # as the manual has it: csh makes words of what it puts in
        (tmp_path / "line").write_text(r.stdout)
        out = subprocess.run([shell, "-fc", "eval `cat line`"], capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert (out.stdout, out.returncode) == ("activated\n", 0), (r.stdout, out.stderr)


@pytest.mark.parametrize("shell, line", [
    ("/usr/bin/fish", "source '/x/bin/activate.fish'\n"), ("/bin/tcsh", "source '/x/bin/activate.csh'\n"),
    ("/bin/zsh", ". '/x/bin/activate'\n"), ("/opt/strange", ". '/x/bin/activate'\n"),
])
def test_activate_guesses_from_shell(venvctl, server, shell, line):
    """The parent here is python, which is no shell."""
    server(lambda call: b'{"parameters":{"environment":{"name":"x","state":"ready","path":"/x"}}}\0')
    assert venvctl("activate", "x", more_env={"SHELL": shell}).stdout == line


def test_activate_trusts_the_parent_more(env, server):
    server(lambda call: b'{"parameters":{"environment":{"name":"x","state":"ready","path":"/x"}}}\0')
    r = subprocess.run(["bash", "-c", 'eval "echo $("$0" activate x)"', VENVCTL], env={**env, "SHELL": "/usr/bin/fish"},
                       capture_output=True, text=True, timeout=60)
    assert r.stdout == ". /x/bin/activate\n"


# --- output --------------------------------------------------------------------------------------

ROWS = (b'{"parameters":{"environment":{"name":"a","state":"ready","version":"3.11.2","path":"/r/a",'
        b'"createdAt":1700000000000000}},"continues":true}\0'
        b'{"parameters":{"environment":{"name":"b","state":"broken","path":"/r/b\\t\\\\x",'
        b'"problem":"gone\\n\\u001b[31m"}}}\0')


def test_list_piped(venvctl, server):
    calls = []
    server(lambda call: calls.append(call) or ROWS)
    r = venvctl("list")
    assert r.stdout == ("a\tready\t3.11.2\t/r/a\t2023-11-14T22:13:20Z\t\t\n"
                        "b\tbroken\t\t/r/b\\t\\\\x\t\tgone\\n\\x1b[31m\t\n")
    assert b'"more":true' in calls[0] and b'"fields":["name","state","version","path","createdAt","problem","protected"]' in calls[0]
    assert venvctl("list", "-q").stdout == "a\nb\n"


def test_list_json(venvctl, server):
    server(lambda call: ROWS)
    r = venvctl("ls", "--json")
    assert [e["name"] for e in json.loads(r.stdout)] == ["a", "b"]
    assert len(r.stdout.splitlines()) == 4


def test_list_of_nothing(venvctl, server):
    server(lambda call: b'{"parameters":{}}\0')
    r = venvctl("list")
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")
    assert venvctl("list", "--json").stdout == "[]\n"


def on_terminal(args, env):
    parent, child = pty.openpty()
    p = subprocess.Popen(args, env=env, stdin=child, stdout=child, stderr=child)
    os.close(child)
    out = b""
    while select.select([parent], [], [], 60)[0]:
        try:
            data = os.read(parent, 65536)
        except OSError:
            break
        if not data:
            break
        out += data
    os.close(parent)
    return p.wait(60), out.decode().replace("\r\n", "\n")


def test_list_on_a_terminal(env, server):
    server(lambda call: ROWS)
    status, out = on_terminal([VENVCTL, "list"], {**env, "TERM": "dumb", "VIRTUAL_ENV": env["VENVD_ROOT"] + "/a"})
    first, a, b = out.splitlines()
    assert status == 0 and first.split() == ["NAME", "STATE", "PYTHON", "CREATED", "PROBLEM"]
    assert a.startswith("a *") and "years ago" in a and a.endswith("-")
    assert b.endswith("gone\\x0a\\x1b[31m") and first.index("PROBLEM") == b.index("gone")
    colored = on_terminal([VENVCTL, "list"], {**env, "TERM": "xterm"})[1]
    assert "\033[31mbroken\033[0m" in colored
    for plain in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\033" not in on_terminal([VENVCTL, "list"], {**env, "TERM": "xterm", **plain})[1]
    assert "\033" in on_terminal([VENVCTL, "list", "--color=always"], {**env, "TERM": "xterm", "NO_COLOR": "1"})[1]


def test_reader_that_goes_away(env, server):
    server(lambda call: ROWS[:ROWS.index(b"\0") + 1] * 5000 + ROWS[ROWS.index(b"\0") + 1:])
    p = subprocess.Popen([VENVCTL, "list"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.close()
    assert p.stderr.read() == b""
    assert p.wait(60) in (-signal.SIGPIPE, 128 + signal.SIGPIPE)


def test_full_disk(env, server):
    server(lambda call: ROWS)
    with open("/dev/full", "wb") as full:
        r = subprocess.run([VENVCTL, "list"], env=env, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert r.returncode == 1 and b"error: cannot write to standard output" in r.stderr


# --- answers -------------------------------------------------------------------------------------

IN_USE = b'{"error":"io.venvd.InUse","parameters":{"name":"x","reason":"why"}}'


@pytest.mark.parametrize("args, error, status, says", [
    (["show", "x"], b'{"error":"io.venvd.NoSuchEnvironment","parameters":{"name":"x"}}', 3, "error: no environment 'x'\n"),
    (["create", "x"], b'{"error":"io.venvd.AlreadyExists","parameters":{"name":"x","state":"ready"}}', 4, "exists already"),
    (["delete", "x"], b'{"error":"io.venvd.Busy","parameters":{"name":"x","reason":"why"}}', 5, "'x' is busy: why"),
    (["create", "x"], b'{"error":"org.varlink.service.PermissionDenied"}', 7, "permission denied"),
    (["rename", "x", "y"], IN_USE, 5, "hint: venvctl rename --force x y\n"),
    (["delete", "x"], IN_USE, 5, "hint: venvctl delete --force x\n"),
    (["delete", "-y", "--now", "x"], IN_USE, 5, "hint: venvctl delete --force --now x\n"),
    (["recreate", "x", "-p", ">=3.9", "--all", "-p", "3.8", "--prompt", ""], IN_USE, 5,
     "hint: venvctl recreate --force --all -p '>=3.9' -p 3.8 --prompt '' x\n"),
    (["restore", "x"], b'{"error":"io.venvd.NotInTrash","parameters":{"name":"x"}}', 3, "hint: venvctl list --trash"),
    (["create", "x"], b'{"error":"io.venvd.NoEnsurepip","parameters":{"interpreter":"/p","version":"3.11.2",'
     b'"package":"python3.11-venv"}}', 1, "hint: sudo apt-get install python3.11-venv\n"),
    (["create", "x"], b'{"error":"io.venvd.NoEnsurepip","parameters":{"interpreter":"/p","version":"3.11.2"}}', 1,
     "hint: venvctl create --without-pip x\n"),
    (["create", "x", "--path", "/a b", "-p", ">=3.9"], b'{"error":"io.venvd.NoEnsurepip","parameters":{"interpreter":"/p",'
     b'"version":"3.11.2"}}', 1, "hint: venvctl create --without-pip x --path '/a b' -p '>=3.9'\n"),
    (["create", "x"], b'{"error":"io.venvd.InterpreterFailed","parameters":{"interpreter":"/p","reason":"status 3",'
     b'"output":"one\\ntwo\\n"}}', 1, "failed: status 3\n  one\n  two\n"),
    (["create", "x"], b'{"error":"io.venvd.RootUnavailable","parameters":{"root":"/r","reason":"why"}}', 1,
     "root '/r' cannot be used: why\nhint: export VENVD_ROOT="),
    (["status"], b'{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"io.venvd.Status"}}', 1,
     "hint: venvctl restart\n"),
    (["list"], b'{"error":"io.venvd.FromTheFuture","parameters":{}}', 1, "io.venvd.FromTheFuture"),
    (["list"], b"[1]", 6, "makes no sense"),
])
def test_errors(venvctl, server, args, error, status, says):
    server(lambda call: error + b"\0")
    r = venvctl(*args)
    assert (r.returncode, r.stdout) == (status, "")
    assert says in lines(r.stderr)


def test_did_you_mean(venvctl, server):
    def reply(call):
        if b"io.venvd.ListTrash" in call:
            return b'{"parameters":{}}\0'
        if b"io.venvd.List" in call:
            return b'{"parameters":{"environment":{"name":"projA"}}}\0'
        name = json.loads(call)["parameters"]["name"].encode()
        return b'{"error":"io.venvd.NoSuchEnvironment","parameters":{"name":"%s"}}\0' % name
    server(reply)
    r = venvctl("show", "porjA")
    assert r.returncode == 3 and r.stderr.endswith("hint: did you mean 'projA'?\n")
    assert venvctl("delete", "projA").stderr.endswith("hint: venvctl show projA\n")


def test_timeout(venvctl, server):
    server(lambda call: None)
    r = venvctl("--timeout", "0.1", "list")
    assert r.returncode == 8 and "did not answer in time" in lines(r.stderr)


@pytest.mark.slow
def test_stuck_daemon_is_not_waited_for_as_long_as_a_creation(env, server, tmp_path):
    """A daemon that works says at once how far it is; one that says nothing for 30 s is stuck. The seconds do not
    pass where strace ends the wait; what it shows is how long that would have been."""
    server(lambda call: None)
    log = tmp_path / "log"
    strace = ["strace", "-qq", "-o", log, "-e", "trace=ppoll", "-e", "inject=ppoll:retval=0"]
    wrapper = strace if shutil.which("strace") else []
    r = subprocess.run([*wrapper, VENVCTL, "create", "x"], env=env, capture_output=True, text=True, timeout=60)
    assert r.returncode == 8
    assert r.stderr == f"error: venvd did not answer in time\nhint: kill -KILL {os.getpid()}\n"
    if wrapper:
        waited, = re.findall(r"{tv_sec=(\d+), ", log.read_text())
        assert waited == "29"       # and 999,9.. ms


def test_timeout_holds_while_a_daemon_starts(env, root, tmp_path):
    """The venvd beside venvctl is the one that is started."""
    programs = tmp_path / "programs"
    programs.mkdir()
    shutil.copy(VENVCTL, programs)
    post = tmp_path / "post"
    os.mkfifo(post)
    (programs / "venvd").write_text(f"#!/bin/sh\nread line < {post}\n")
    (programs / "venvd").chmod(0o755)
    r = subprocess.run([programs / "venvctl", "--timeout", "0.2", "create", "x"],
                       env={**env, "VENVD_AUTOSTART": "1"}, capture_output=True, text=True, timeout=20)
    post.write_text("")             # which lets it end
    assert r.returncode == 8 and "is not ready after 0.2 s" in lines(r.stderr)


def test_a_socket_that_cannot_be_used_is_named(venvctl, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    r = venvctl("--socket", tmp_path / "loop", "list")
    assert (r.returncode, r.stdout) == (6, "") and f"'{tmp_path}/loop'" in lines(r.stderr)


def test_call(venvctl, server):
    calls = []
    server(lambda call: calls.append(call) or b'{"parameters":{"a":1,"b":[true]}}\0')
    r = venvctl("call", "Get", '{"name": "x"}')
    assert (r.returncode, r.stdout, r.stderr) == (0, '{"a":1,"b":[true]}\n', "")
    assert calls == [b'{"method":"io.venvd.Get","parameters":{"name":"x"}}']
    venvctl("call", "org.varlink.service.GetInfo")
    assert calls[1] == b'{"method":"org.varlink.service.GetInfo"}'


def test_call_error(venvctl, server):
    server(lambda call: b'{"error":"io.venvd.NoSuchEnvironment","parameters":{"name":"x"}}\0')
    r = venvctl("call", "Get", '{"name":"x"}')
    assert (r.returncode, r.stdout, r.stderr) == (3, '{"name":"x"}\n', "error: io.venvd.NoSuchEnvironment\n")


def created(name, **fields):
    e = {"name": name, "state": "ready", "version": "3.11.2", "path": f"/r/{name}", "interpreter": "/bin/sh",
         "pip": True, "systemSitePackages": False, **fields}
    return json.dumps({"parameters": {"environment": e}}, separators=(",", ":")).encode() + b"\0"


@pytest.mark.parametrize("args, fields, status, differs", [
    ([], {}, 0, None), (["-p", "3"], {}, 0, None), (["-p", "3.11"], {}, 0, None), (["-p", "3.11.2"], {}, 0, None),
    (["-p", "3.1"], {}, 4, "the interpreter"), (["-p", "/bin/sh"], {}, 0, None), (["-p", "sh"], {}, 0, None),
    (["-p", "env"], {}, 4, "the interpreter"), (["--without-pip"], {}, 4, "it has pip"),
    ([], {"pip": False}, 4, "it has no pip"), (["--system-site-packages"], {}, 4, "system-site-packages"),
    (["--prompt", "p"], {"prompt": "p"}, 0, None), (["--prompt", "p"], {}, 4, "the prompt"),
    (["--prompt", ""], {"options": {"prompt": ""}}, 0, None), ([], {"options": {"prompt": ""}}, 4, "the prompt"),
    (["--prompt", "."], {"prompt": "HERE", "options": {"prompt": "."}}, 0, None), (["--prompt", "."], {}, 4, "the prompt"),
    (["--prompt", "."], {"prompt": "p", "options": {"prompt": "."}}, 4, "the prompt"),
    (["--prompt", "."], {"options": {"prompt": "."}}, 0, None), ([], {"prompt": "x"}, 0, None), ([], {"prompt": "p"}, 4, "the prompt"), ([], {"state": "broken"}, 4, "it is broken"),
])
def test_exist_ok(venvctl, server, args, fields, status, differs):
    if fields.get("prompt") == "HERE":
        fields = fields | {"prompt": os.path.basename(os.getcwd())}
    server(lambda call: created("x", **fields) if b"io.venvd.Get" in call else
           b'{"error":"io.venvd.AlreadyExists","parameters":{"name":"x"}}\0')
    r = venvctl("create", "x", "--exist-ok", *args)
    assert r.returncode == status, r
    assert r.stdout == ("/r/x\n" if status == 0 else "")
    assert differs is None or f"exists and differs: {differs}\n" in r.stderr


def test_partly_done(venvctl, server):
    server(lambda call: b'{"parameters":{}}\0' if b'"name":"a"' in call else
           b'{"error":"io.venvd.Busy","parameters":{"name":"b","reason":"why"}}\0')
    r = venvctl("delete", "-y", "a", "b")
    assert r.returncode == 9 and "undo: venvctl restore a\n" in r.stderr


def test_lost_daemon_is_asked_again_with_the_same_id(venvctl, root, env):
    """A deletion is sent a second time, as the same request; a creation is not sent again."""
    (root / ".venvd").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / ".venvd" / "io.venvd"))
    listener.listen(4)
    listener.settimeout(60)
    calls = []

    def serve(replies):
        for reply in replies:
            c, _ = listener.accept()
            calls.append(c.recv(65536))
            if reply:
                c.sendall(reply)
            c.close()

    for args, replies, status in ((["delete", "a"], [None, b'{"parameters":{}}\0'], 0), (["create", "a"], [None], 6)):
        thread = threading.Thread(target=serve, args=(replies,))
        thread.start()
        r = venvctl(*args)
        thread.join(60)
        assert r.returncode == status, r
    listener.close()
    assert calls[0] == calls[1] and b'"requestId":"' in calls[0]
    assert b"requestId" not in calls[2] and b'"umask":' in calls[2]


def test_interrupted_creation(env, server):
    """^C closes the connection; a second one is asked what came of it."""
    asked = threading.Event()

    def reply(call):
        if b"io.venvd.Create" in call:
            asked.set()
            return b'{"parameters":{"stage":"build"},"continues":true}\0'
        return b'{"error":"io.venvd.NoSuchEnvironment","parameters":{"name":"x"}}\0'
    server(reply)
    p = subprocess.Popen([VENVCTL, "create", "x"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert asked.wait(60)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert (p.returncode, out, err) == (130, "", "cancelled 'x'; nothing remains\n")


@pytest.fixture
def strangers_place():
    """A directory where another user may make a socket; tmp_path lies where nobody else may look."""
    with tempfile.TemporaryDirectory(prefix="venvd-stranger-") as place:
        os.chmod(place, 0o777)
        yield pathlib.Path(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_strange_server_is_not_trusted(venvctl, strangers_place):
    """Before a byte is sent."""
    place = strangers_place
    listener = socket.socket(socket.AF_UNIX)
    os.seteuid(65534)
    try:
        listener.bind(str(place / "s"))
        listener.listen(1)
    finally:
        os.seteuid(0)
    (place / "s").chmod(0o777)
    r = venvctl("--socket", place / "s", "list")
    listener.close()
    assert r.returncode == 7 and "is served by user 65534" in lines(r.stderr)
