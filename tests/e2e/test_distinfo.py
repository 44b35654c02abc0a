# SPDX-License-Identifier: MIT
# ruff: noqa: F401, F811 -- fixtures come from worker.py
"""What is installed, read by the worker without running Python: what pip writes, and what it never would."""

import json
import os
import shutil
import subprocess

import pytest

import worker as worker_module
from helpers import mounted, needs_root
from worker import PYTHON, SANITIZED, WORKER, fake_env, order, root


def packages(root, **where):
    answer, _ = order(root, "packages", **(where or {"name": "e"}))
    assert "error" not in answer, answer
    return answer["packages"]


@pytest.fixture
def site(root):
    path = fake_env(root / "e") / "lib/python3.12/site-packages"
    path.mkdir(parents=True)
    return path


def dist(site, name, version="1.0", url=None, kind="dist-info", file="METADATA", head=None):
    path = site / f"{name}-{version}.{kind}"
    path.mkdir()
    (path / file).write_text(head or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: no\n")
    if url:
        (path / "direct_url.json").write_text(url if isinstance(url, str) else json.dumps(url))
    return path


def test_every_form(root, site):
    dist(site, "Zope.Interface", "5.0+local.1")
    dist(site, "requests", "2.31.0")
    dist(site, "old", "0.1", kind="egg-info", file="PKG-INFO")
    dist(site, "egg", "3.0-py2.7", kind="egg", file="x", head="x")
    (site / "egg-3.0-py2.7.egg/EGG-INFO").mkdir()
    (site / "egg-3.0-py2.7.egg/EGG-INFO/PKG-INFO").write_text("Name: egg\nVersion: 3.0\n")
    (site / "distutils-2.0.egg-info").write_text("Metadata-Version: 1.0\r\nname: distutils\r\nVersion:  2.0 \r\n")
    (site / "editable.egg-link").write_text("/home/me/my project\n.")
    (site / "requests").mkdir()
    (site / "_virtualenv.py").write_text("")
    assert packages(root) == [
        {"name": "distutils", "version": "2.0"},
        {"name": "editable", "directUrl": "file:///home/me/my%20project", "editable": True},
        {"name": "egg", "version": "3.0"},
        {"name": "old", "version": "0.1"},
        {"name": "requests", "version": "2.31.0"},
        {"name": "Zope.Interface", "version": "5.0+local.1"},
    ]


@pytest.mark.parametrize("record, url", [
    ({"url": "file:///src/p", "dir_info": {"editable": True}}, "file:///src/p"),
    ({"url": "file:///src/p", "dir_info": {}}, "file:///src/p"),
    ({"url": "https://h/p.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}, "subdirectory": "s"},
     "git+https://h/p.git@abc#subdirectory=s"),
    ({"url": "https://h/p.whl", "archive_info": {"hash": "sha256=00"}}, "https://h/p.whl#sha256=00"),
    ({"url": "https://me:secret@h/p.whl"}, "https://h/p.whl"),
    ({"url": "https://token@h/p@1.whl"}, "https://h/p@1.whl"),
    ({"url": "https://a@b:c@h/p"}, "https://h/p"),
    ({"url": "ssh://git@h/p.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}, "git+ssh://git@h/p.git@abc"),
    ({"url": "ssh://git:secret@h/p.git"}, "ssh://h/p.git"),
    ({"url": "https://h/?a=x@y"}, "https://h/?a=x@y"),
    ({"url": "https://h/p\n--index-url http://evil"}, None),
    ({"url": "https://h", "vcs_info": {"vcs": "git", "commit_id": "me:pw@evil/p"}}, None),
    ({"url": "https://h/p", "vcs_info": {"vcs": "https://evil/", "commit_id": "abc"}}, None),
    ({"url": "https://h/a b"}, None), ({"url": "https://h/a\\"}, None), ({"url": "https://h/${HOME}"}, None),
    ({"url": "https://${USER}:${PASSWORD}@h/p"}, "https://h/p"),
    ({"url": "https://h/" + "x" * 4000}, None),
    ({"url": 7}, None), ({"url": ""}, None), ([], None), ("{", None), ("[" * 100000, None),
])
def test_direct_urls(root, site, record, url):
    dist(site, "p", url=record)
    wanted = {"name": "p", "version": "1.0"} | ({"directUrl": url} if url else {})
    if url and "editable" in str(record):
        wanted["editable"] = True
    assert packages(root) == [wanted]


@pytest.mark.parametrize("name", ["-r /etc/passwd", "a b", "a;b", "\x1b[1m", "\u00e4", "a/b", "x" * 300, "-e", "a\x00b"])
def test_names_that_are_none(root, site, name):
    dist(site, "p", head=f"Name: {name}\nVersion: 1.0\n")
    found = packages(root)
    assert found in ([], [{"name": "p", "version": "1.0"}])     # what the directory is called, if anything


def test_versions_that_are_none(root, site):
    for i, version in enumerate(["1.0 ; rm", "", "1.0\x1b[1m", "x" * 300]):
        dist(site, f"p{i}", head=f"Name: p{i}\nVersion: {version}\n")
    assert all(set(p) <= {"name", "version"} and p.get("version", "1.0") in ("1.0", "") for p in packages(root))


def test_one_of_each_name(root, site):
    """An upgrade that was interrupted leaves two; pip's own leftover begins with '~'."""
    dist(site, "Foo_Bar", "1.0")
    dist(site, "foo-bar", "1.0", kind="egg-info", file="PKG-INFO")
    dist(site, "~oo_Bar", "0.9")
    other = root / "e/lib/python3.13/site-packages"
    other.mkdir(parents=True)
    dist(other, "foo.bar", "1.0", url={"url": "file:///x"})
    dist(other, "second", "2.0")
    assert [(p["name"], p.get("directUrl")) for p in packages(root)] == [("foo.bar", "file:///x"), ("second", None)]


def test_hostile_files(root, site, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "METADATA").write_text("Name: secret\nVersion: 1\n")
    for i, make in enumerate([
            lambda p: os.mkfifo(p), lambda p: p.symlink_to(secret / "METADATA"), lambda p: p.mkdir(),
            lambda p: p.symlink_to("/dev/zero"), lambda p: p.write_bytes(b"\0" * 100000),
            lambda p: p.write_bytes(b"Name" * 30000), lambda p: p.write_bytes(b"\xff\xfe\nName\xff: x\n"),
            lambda p: p.touch()]):
        path = site / f"p{i}-1.0.dist-info"
        path.mkdir()
        make(path / "METADATA")
        os.mkfifo(path / "direct_url.json")
    (site / "linked-1.0.dist-info").symlink_to(secret)
    os.mkfifo(site / "fifo-1.0.egg-info")
    os.mkfifo(site / "fifo.egg-link")
    (site / "dev.egg-link").symlink_to("/dev/zero")
    (root / "e/lib/python3.10").symlink_to(secret)
    (root / "e/lib/python3.9/").mkdir()
    (root / "e/lib/python3.9/site-packages").symlink_to(site)
    found = packages(root)
    assert {p["name"] for p in found} == {f"p{i}" for i in range(8)}
    assert all(p == {"name": p["name"], "version": "1.0"} for p in found)


def test_long_metadata_is_read_to_its_head(root, site):
    dist(site, "p", head="Name: p\nVersion: 2.5\n\n" + "x" * 5_000_000)
    assert packages(root) == [{"name": "p", "version": "2.5"}]


@pytest.mark.slow
def test_more_than_the_bound(root, site):
    for i in range(4200):
        (site / f"p{i}-1.0.dist-info").mkdir()
    assert len(packages(root)) == 4096


def test_of_the_trash_and_of_a_path(root, site, tmp_path):
    dist(site, "p")
    assert packages(root, path=str(root / "e")) == packages(root)
    (root / ".venvd/trash/e~1").mkdir()
    (root / "e").rename(root / ".venvd/trash/e~1/tree")
    assert packages(root, trash="e~1") == [{"name": "p", "version": "1.0"}]
    for where in ({"name": "e"}, {"trash": "no"}, {"name": "../x"}, {"path": str(tmp_path / "no")}):
        answer, _ = order(root, "packages", **where)
        assert answer["error"] == "io.venvd.Failed"


@pytest.mark.slow
def test_as_pip_lists_it(root, tmp_path):
    """A real environment, with what pip put in."""
    env = root / "e"
    done = subprocess.run([PYTHON, "-m", "venv", env], capture_output=True)
    if done.returncode:
        pytest.skip("no ensurepip here")
    project = tmp_path / "proj"
    project.mkdir()
    (project / "setup.py").write_text("from setuptools import setup\nsetup(name='proj', version='1.2')\n")
    subprocess.run([env / "bin/python", "-m", "pip", "-q", "install", "--no-index", "--no-build-isolation",
                    "--no-deps", "-e", project], capture_output=True)
    listed = subprocess.run([env / "bin/python", "-m", "pip", "list", "--format=json", "--no-index",
                             "--disable-pip-version-check"], capture_output=True, text=True, check=True)
    theirs = {p["name"]: p["version"] for p in json.loads(listed.stdout)}
    ours = {p["name"]: p for p in packages(root)}
    assert set(ours) == set(theirs)
    assert all(p.get("version", theirs[n]) == theirs[n] for n, p in ours.items())
    if "proj" in ours:
        assert ours["proj"]["editable"] is True and ours["proj"]["directUrl"] == f"file://{project}"


def test_what_cannot_be_read_is_no_shorter_list(root, site, tmp_path, monkeypatch):
    """At whichever directory it is."""
    if not shutil.which("strace") or SANITIZED:
        pytest.skip("needs strace")
    dist(site, "p")
    script, log = tmp_path / "traced", tmp_path / "log"
    monkeypatch.setattr(worker_module, "WORKER", script)

    def read(words):
        script.write_text(f"#!/bin/sh\nexec strace -qq -o {log} -e {words} {WORKER} \"$@\"\n")
        script.chmod(0o755)
        return order(root, "packages", name="e")[0]

    assert [p["name"] for p in read("trace=getdents64")["packages"]] == ["p"]
    calls = len(log.read_text().splitlines())
    assert calls >= 4
    for number in range(1, calls + 1):
        assert "Input/output error" in read(f"inject=getdents64:error=EIO:when={number}")["parameters"]["reason"]


@needs_root
def test_a_recreation_says_what_it_could_not_read(start, tmp_path):
    """What it is about is none the less made anew, and the old one is in the trash."""
    daemon = start(tmp_path / "envs")
    daemon.call("Create", name="a", python=PYTHON, withoutPip=True)
    [site] = (tmp_path / "envs/a/lib").glob("python*/site-packages")
    dist(site, "p")
    with mounted(site, "-t", "tmpfs", "none"):
        said = daemon.call("Recreate", name="a")
        assert "packages" not in said and "what is installed in 'a' could not be read: " in said["warnings"][0]
        assert said["previous"]["id"] and (tmp_path / "envs/a/bin/python").exists()
