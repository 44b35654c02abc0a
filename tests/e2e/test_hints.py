# SPDX-License-Identifier: MIT
# ruff: noqa: F401, F811 -- fixtures come from test_client_offline.py
"""venvctl where no daemon is, or only something that answers like one: hints that can be typed, calls that are not made
twice, descriptors that are closed, and whose Python runs."""
import json
import os
import shutil
import socket
import subprocess
import threading

import pytest

from test_client_offline import IN_USE, ROWS, VENVCTL, env, environment, root, server, venvctl


def test_hints_are_for_the_daemon_that_was_asked(venvctl, server, root, tmp_path):
    """Another one may have an environment of that name."""
    (tmp_path / "the sockets").mkdir()
    server(lambda call: b'{"parameters":{"environment":{"name":"x","state":"trashed"}}}\0', tmp_path / "the sockets" / "s")
    options = ["--socket", tmp_path / "the sockets" / "s"]
    shown = f"--socket '{tmp_path}/the sockets/s'"
    assert f"undo: venvctl {shown} restore x\n" in venvctl(*options, "delete", "x").stderr
    done = venvctl("--root", root, *options, "delete", "x")
    assert f"undo: venvctl --root {root} {shown} restore x\n" in done.stderr
    assert "undo: venvctl restore x\n" in venvctl("delete", "x", more_env={"VENVD_SOCKET": str(options[1])}).stderr


def test_the_way_back_is_by_its_own_pip(venvctl, server):
    """Of an environment without pip, 'pip' is that of the system."""
    server(lambda call: b'{"parameters":{"environment":{"name":"x","pip":false},"packages":[{"name":"six","version":"1.0"}]}}\0')
    done = venvctl("recreate", "x")
    assert done.stdout == "six==1.0\n" and "to install it again: venvctl run x -- python -m pip install -r FILE\n" in done.stderr


@pytest.mark.parametrize("version, lines", [("3.11.2", ""), ("3.12.1", "setuptools==69.0\nwheel==0.42\n"), ("4.0", "setuptools==69.0\nwheel==0.42\n")])
def test_what_came_with_it_depends_on_its_python(venvctl, server, version, lines):
    """From 3.12 on ensurepip and virtualenv put in pip alone; the rest is the user's."""
    packages = [{"name": "pip", "version": "24"}, {"name": "setuptools", "version": "69.0"}, {"name": "wheel", "version": "0.42"}]
    answer = {"environment": {"name": "x", "version": "3.13.0", "pip": True}, "previous": {"name": "x", "version": version, "pip": True},
              "packages": packages}
    server(lambda call: json.dumps({"parameters": answer}).encode() + b"\0")
    assert venvctl("recreate", "x").stdout == lines


def test_the_way_back_is_told_on_a_full_disk_too(env, server):
    answer = {"environment": {"name": "x"}, "previous": {"id": "0123"}, "packages": [{"name": "six", "version": "1.0"}]}
    server(lambda call: json.dumps({"parameters": answer}).encode() + b"\0")
    with open("/dev/full", "wb") as full:
        r = subprocess.run([VENVCTL, "recreate", "x"], env=env, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert r.returncode == 1 and "cannot write to standard output" in r.stderr
    assert "to take it back: venvctl delete x && venvctl restore --id 0123 x\n" in r.stderr


def test_what_could_not_be_read_is_not_nothing(venvctl, server):
    server(lambda call: b'{"parameters":{"environment":{"name":"x"},"previous":{"id":"0123"},"warnings":["why"]}}\0')
    done = venvctl("recreate", "x")
    assert (done.returncode, done.stdout) == (0, "") and "warning: why\n" in done.stderr
    assert "what had been installed in the old one could not be read\n" in done.stderr


def test_no_hint_where_no_command_helps(venvctl, server):
    why = b'{"error":"io.venvd.NoEnsurepip","parameters":{"interpreter":"/p","version":"3.11.2"}}'
    server(lambda call: (why if b"Recreate" in call else IN_USE) + b"\0")
    assert venvctl("create", "x", "--clear").stderr == "error: 'x' is in use: why\n"
    assert venvctl("recreate", "x").stderr == "error: '/p' has no ensurepip, version 3.11.2\n"


def test_what_must_be_confirmed_is_typed_so(venvctl):
    done = venvctl("delete", "x", "--", "-*", "y")
    assert done.returncode == 2 and "hint: venvctl delete -y -- x '-*' y\n" in done.stderr
    assert "hint: venvctl --root /r trash empty -y --older-than 3d\n" in venvctl("--root", "/r", "trash", "empty", "--older-than", "3d").stderr
    for option, word in ((["--older-than", "3d"], "--older-than"), (["--dry-run"], "--dry-run")):
        assert venvctl("trash", "list", *option).stderr.startswith(f"error: 'trash list' takes no {word}\n")


@pytest.mark.parametrize("method, times", [("Recreate", 1), ("EmptyTrash", 1), ("FromTheFuture", 1), ("Get", 2)])
def test_call_repeats_only_what_reads(env, root, method, times):
    """The daemon goes away before it answers, having done it perhaps."""
    (root / ".venvd").mkdir(mode=0o700)
    calls = []
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(root / ".venvd", os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/io.venvd")
        os.close(here)
        listener.listen(8)

        def serve():
            while True:
                try:
                    with listener.accept()[0] as c:
                        calls.append(c.recv(65536))
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        r = subprocess.run([VENVCTL, "call", method, '{"name":"x"}'], env=env, capture_output=True, timeout=60)
        listener.shutdown(socket.SHUT_RDWR)
    assert r.returncode == 6 and len(calls) == times, (r, calls)


@pytest.mark.parametrize("args", [["create", b"\xff"], ["move", "/x", b"\xff"], ["adopt", "/x", b"\xff"]])
def test_names_that_are_not_utf8(env, args):
    r = subprocess.run([VENVCTL, *args], env=env, capture_output=True, timeout=60)
    assert r.returncode in (1, 2) and rb"error: '\xff' cannot be the name of an environment: " in r.stderr, r


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&-", ">&- 2>/dev/null <&-"])
def test_closed_output(env, server, closed):
    """The socket does not take its place: that what was asked for could not be written is told."""
    server(lambda call: ROWS)
    assert subprocess.run(["/bin/sh", "-c", f'"$0" list {closed}', VENVCTL], env=env, timeout=60).returncode == 1


def test_run_closes_what_was_closed(env, environment):
    environment("projA", look="#!/bin/sh\n[ ! -e /proc/$$/fd/0 ] && echo closed\n")
    r = subprocess.run(["/bin/sh", "-c", '"$0" run projA look <&-', VENVCTL], env=env, capture_output=True, timeout=60)
    assert r.stdout == b"closed\n"


def test_run_never_takes_another_python_behind_what_is_closed(env, environment, tmp_path):
    """The link leads through a file, or, for a user, into somebody else's home."""
    made = environment("projA")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copy("/bin/true", closed / "python")
    (made / "bin" / "file").symlink_to("/bin/true/python")
    (made / "bin" / "home").symlink_to(closed / "python")
    (made / "bin" / "plain").write_text("#!/bin/sh\necho ours\n")        # as all of them on a file system mounted noexec
    for name in ("file", "home", "plain"):
        (tmp_path / name).write_text("#!/bin/sh\necho other\n")
        (tmp_path / name).chmod(0o755)
    who = {}
    if os.geteuid() == 0:
        for part in [tmp_path, *tmp_path.parents][:-2]:
            part.chmod(part.stat().st_mode | 0o055)
        who = {"user": 65534, "group": 65534, "extra_groups": []}
    else:
        closed.chmod(0)
    for name, words in (("file", "interpreter does not exist"), ("home", "Permission denied"), ("plain", "Permission denied")):
        r = subprocess.run([VENVCTL, "run", "projA", name], env={**env, "PATH": str(tmp_path)}, capture_output=True,
                           text=True, timeout=60, **who)
        assert (r.returncode, r.stdout) == (126, "") and words in r.stderr, r
    closed.chmod(0o700)


def test_run_in_a_path_that_path_cannot_hold(venvctl, tmp_path, environment):
    environment("projA", python="#!/bin/sh\necho ours\n")
    other = tmp_path / "a:b"
    (tmp_path / "envs").rename(other)
    r = venvctl("run", "projA", "python", more_env={"VENVD_ROOT": str(other)})
    assert (r.returncode, r.stdout) == (125, "") and "':'" in r.stderr
