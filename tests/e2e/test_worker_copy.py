# SPDX-License-Identifier: MIT
# ruff: noqa: F401, F811 -- fixtures come from worker.py
"""venvd-worker by itself: an environment once more, under another name or path, and what goes wrong on the way."""

import os
import shutil
import stat

import pytest

import worker as worker_module
from helpers import differences, needs_root, tree
from worker import SANITIZED, WORKER, Worker, fake_env, identity, root


def environment(root):
    """Some directories deep, and with its path in a few files."""
    env = fake_env(root / "a")
    site = env / "lib/python3.11/site-packages"
    for name in ("bin", "share/man", "lib/python3.11/site-packages/hello", "lib/python3.11/site-packages/hello-1.0.dist-info"):
        (env / name).mkdir(parents=True, exist_ok=True)
        (env / name / "file").write_text(f"{env}/bin/python\n")
    (site / "hello-1.0.dist-info/RECORD").write_text("hello/file,sha256=x,1\n")
    return env


def until_go(root, op, source="a"):
    """The answer to an order that says "reserved" in between."""
    worker = Worker(root)
    number = worker.send(op, name="b", entry="b~1", path=str(root / "b"),
                         source={"name": source, "paths": [str(root / source)], **identity(root / source)})
    while True:
        message = worker.receive()
        assert message is not None, worker.process.stderr.read()
        if message.get("done"):
            assert worker.close()[0] == 0
            return message
        if message.get("frame") == "reserved":
            worker.send_raw({"id": number, "go": True})


@pytest.mark.parametrize("op", ["clone", "rename"])
def test_a_directory_that_cannot_be_read_to_its_end(root, tmp_path, monkeypatch, op):
    """Whichever it is: nothing of the environment is left out without a word."""
    if not shutil.which("strace") or SANITIZED:
        pytest.skip("needs strace")
    environment(root)
    before = tree(root / "a")
    script, log = tmp_path / "traced", tmp_path / "log"
    monkeypatch.setattr(worker_module, "WORKER", script)

    def run_with(words):
        script.write_text(f"#!/bin/sh\nexec strace -qq -s 4096 -o {log} -e {words} {WORKER} \"$@\"\n")
        script.chmod(0o755)
        return until_go(root, op)

    # Those before "reserved": the later ones are of looks that nothing hangs on.
    assert "environment" in run_with("trace=getdents64,sendto,sendmsg")
    lines = log.read_text().splitlines()
    reserved = next(n for n, line in enumerate(lines) if "reserved" in line)
    calls = sum(line.startswith("getdents64") for line in lines[:reserved])
    assert calls > 8
    for number in range(1, calls + 1):
        if (root / "b").exists() and op == "rename":
            shutil.rmtree(root / "b")
        for path in (root / "a", root / "b", root / ".venvd/stage/b~1"):
            shutil.rmtree(path, ignore_errors=True)
        environment(root)
        answer = run_with(f"inject=getdents64:error=EIO:when={number}")
        assert "Input/output error" in answer.get("parameters", {}).get("reason", ""), (number, answer)
        assert not (root / "b").exists() and differences(tree(root / "a"), before) == []


@needs_root
def test_what_runs_as_another_does_not_run_as_us(root):
    """The copy of a file that is somebody else's is ours."""
    env = environment(root)
    owners = {"ours": (os.geteuid(), os.getegid()), "theirs": (65534, os.getegid()), "group": (os.geteuid(), 65534)}
    for name, (user, group) in owners.items():
        (env / "bin" / name).write_bytes(b"\x7fELF\0")
        os.chown(env / "bin" / name, user, group)
        (env / "bin" / name).chmod(0o6755)
    assert "environment" in until_go(root, "clone")
    modes = {name: stat.S_IMODE((root / "b/bin" / name).stat().st_mode) for name in owners}
    assert modes == {"ours": 0o6755, "theirs": 0o2755, "group": 0o4755}


def test_what_is_no_prompt_stays(root):
    """'base' and 'msg' are words of that script, too."""
    env = environment(root)
    env.rename(root / "base")
    lines = 'x = "" or os.path.basename(base)  # noqa: SIM222\n' + f"y = '{root}/base/bin'\n"
    (root / "base/bin/activate_this.py").write_text(lines)
    (root / "base/bin/activate").write_text('PS1="(base) ${PS1:-}"\n')
    assert "environment" in until_go(root, "rename", source="base")
    assert (root / "b/bin/activate_this.py").read_text() == lines.replace("/base/", "/b/")
    assert (root / "b/bin/activate").read_text() == 'PS1="(b) ${PS1:-}"\n'


def test_a_journal_that_could_not_be_read_is_not_written(root):
    """As many files as may be moved, with paths as long as can be."""
    env = environment(root)
    deep = "share/" + "/".join(["d" * 250] * 3)
    os.makedirs(env / deep)
    for number in range(19000):
        os.symlink(env, env / deep / f"{number:0250}")
    answer = until_go(root, "rename")
    assert answer["error"] == "io.venvd.Unsupported" and "too long" in answer["parameters"]["reason"], answer
    assert os.readlink(env / deep / f"{0:0250}") == str(env)
