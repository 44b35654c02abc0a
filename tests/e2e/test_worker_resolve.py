# SPDX-License-Identifier: MIT
# ruff: noqa: F401, F811 -- fixtures come from worker.py
"""venvd-worker alone: which interpreter is meant, by -p and by .python-version; and what is remembered of each."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from helpers import rebuilt_python
from worker import PYTHON, PYTHONS, Worker, fake_env, root

# Answers with what stands in PATH.answer, and leaves a mark that it was asked.
SOURCE = r"""
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(int c, char **v) {
	char path[4096], text[65536];
	(void)c;
	snprintf(path, sizeof(path), "%s.asked", v[0]);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (write(fd, "x", 1) != 1) return 4;
	snprintf(path, sizeof(path), "%s.answer", v[0]);
	fd = open(path, O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text));
	return n <= 0 || write(1, text, n) != n ? 3 : 0;
}
"""


@pytest.fixture(scope="session")
def binary(tmp_path_factory):
    compiler = shutil.which("cc") or pytest.skip("no compiler")
    top = tmp_path_factory.mktemp("binary")
    (top / "fake.c").write_text(SOURCE)
    subprocess.run([compiler, "-o", top / "fake", top / "fake.c"], check=True)
    return top / "fake"


class Place:
    """A home of its own with interpreters that say what they are told to say."""

    def __init__(self, top, root, binary):
        self.home, self.root, self.binary = top / "home", root, binary
        self.bin, self.bin2 = self.home / "a-bin", self.home / "b-bin"
        for path in (self.home, self.bin, self.bin2):
            path.mkdir()
        self.pyenv = self.home / ".pyenv/versions"
        self.uv = self.home / ".local/share/uv/python"

    def make(self, path, version, implementation="cpython", free=False, level="final"):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.binary, path)
        facts = {"executable": str(path), "baseExecutable": None, "basePrefix": "/x", "stdlib": "/x/lib",
                 "cacheTag": "c", "scheme": None, "lib64": True, "platform": "linux", "encoding": "utf-8",
                 "wheelDir": None, "gilDisabled": free, "debug": False}
        numbers = [int(n) for n in version.split(".")]
        pathlib.Path(f"{path}.answer").write_text(json.dumps(
            [1, [*numbers, level, 1 if level != "final" else 0], implementation, str(path), True, True, facts]))
        return str(path)

    def asked(self, path):
        mark = pathlib.Path(f"{path}.asked")
        return len(mark.read_text()) if mark.exists() else 0

    def order(self, op, dirs=None, cwd=None, environment=None, **fields):
        caller = {"cwd": str(cwd or self.home), "path": dirs or f"{self.bin}:{self.bin2}", "umask": 0o022,
                  "environment": environment or {}}
        worker = Worker(self.root, env={"HOME": str(self.home), "PATH": "/usr/bin:/bin"})
        answer, frames = worker.ask(op, caller=caller, **{"probeMs": 10000, **fields})
        assert worker.close() == (0, "")
        return answer, frames

    def find(self, *specs, **fields):
        answer, _ = self.order("resolve", python=list(specs), **fields)
        return answer["parameters"] | {"error": answer["error"]} if "error" in answer else answer

    def path(self, *specs, **fields):
        found = self.find(*specs, **fields)
        return found.get("error", "unknown") if "reason" not in found or "error" in found else (
            found["interpreter"]["path"])

    def list(self, **fields):
        return {f["interpreter"]["path"]: f["interpreter"] for f in self.order("interpreters", **fields)[1]}


@pytest.fixture
def place(tmp_path, root, binary):
    return Place(tmp_path, root, binary)


NONE = "io.venvd.NoSuchInterpreter"


# --- versions ---

def test_path_is_walked_in_order(place):
    first = place.make(place.bin / "python3", "3.31.4")
    second = place.make(place.bin2 / "python3.32", "3.32.1")
    third = place.make(place.bin2 / "python3.31", "3.31.9")
    assert place.path() == first
    for spec in ("3", "3.31", "331", "python3.31", ">=3.31", "3.31.4", "~=3.31.2", "cpython@3.31", "cp331"):
        assert place.path(spec) == first, spec
    for spec in ("3.32", "python3.32", ">3.31.9", "==3.32.*", ">=3.32,<3.33"):
        assert place.path(spec) == second, spec
    assert place.path("3.31.9") == third
    assert place.path(">=3.40") == place.path("3.33") == place.path("pypy3.31") == NONE
    found = place.find("3.32")
    assert (found["reason"], found["rule"]) == ("first Python 3.32 on PATH", "PATH")
    assert place.find("3")["interpreter"]["source"] == "PATH"


def test_a_versions_own_name_comes_first(place):
    place.make(place.bin / "python3", "3.31.1")
    named = place.make(place.bin / "python3.31", "3.31.2")
    assert place.path("3.31") == named


def test_range_takes_the_newest_of_a_directory(place):
    place.make(place.bin / "python3.31", "3.31.1")
    place.make(place.bin / "python3.29", "3.29.1")
    newer = place.make(place.bin / "python3.30", "3.30.1")
    assert place.path(">=3.29,<3.31") == newer


def test_installations_newest_first(place):
    place.make(place.pyenv / "3.31.2/bin/python3.31", "3.31.2")
    ten = place.make(place.pyenv / "3.31.10/bin/python3.31", "3.31.10")
    place.make(place.uv / "cpython-3.31.9-linux-x86_64-gnu/bin/python3.31", "3.31.9")
    found = place.find("3.31")
    assert found["interpreter"]["path"] == ten and found["reason"] == "newest Python 3.31 of pyenv"
    assert found["interpreter"]["source"] == "pyenv" and found["rule"] == "version"
    # Nothing that its directory's name rules out is asked.
    assert place.asked(place.pyenv / "3.31.2/bin/python3.31") == 0


def test_exact_installation_before_path(place):
    on_path = place.make(place.bin / "python3.31", "3.31.2")
    exact = place.make(place.pyenv / "3.31.2/bin/python3.31", "3.31.2")
    assert place.path("3.31") == on_path
    found = place.find("3.31.2")
    assert (found["interpreter"]["path"], found["rule"]) == (exact, "installation")


def test_managed_first(place):
    on_path = place.make(place.bin / "python3", "3.31.2")
    place.make(place.uv / "cpython-3.30.1-linux-x86_64-gnu/bin/python3.30", "3.30.1")
    managed = place.make(place.uv / "cpython-3.31.1-linux-x86_64-gnu/bin/python3.31", "3.31.1")
    assert place.path("3.31") == place.path() == on_path
    search = {"dirs": [], "managedFirst": True}
    assert place.path("3.31", search=search) == place.path(search=search) == managed


def test_a_link_into_uvs_is_not_leaned_on(place):
    real = place.make(place.uv / "cpython-3.31.1-linux-x86_64-gnu/bin/python3.31", "3.31.1")
    (place.bin / "python3.31").symlink_to(real)
    (place.bin / "python3").symlink_to("python3.31")
    (place.bin / "python3.answer").symlink_to(f"{real}.answer")
    assert place.path("3.31") == place.path() == place.path("3") == real
    assert place.path(str(place.bin / "python3")) == str(place.bin / "python3")


def test_unusual_ones_only_when_asked_for(place):
    early = place.make(place.bin / "python3.31", "3.31.0", level="candidate")
    assert place.path("3.31") == early                    # the only one
    final = place.make(place.pyenv / "3.31.0/bin/python3.31", "3.31.0")
    assert place.path("3.31") == final
    assert place.path("3.31rc1") == place.path(">=3.31rc1") == early
    free = place.make(place.bin / "python3.32t", "3.32.1", free=True)
    (place.bin / "python3.32").symlink_to("python3.32t")
    (place.bin / "python3.32.answer").symlink_to("python3.32t.answer")
    assert place.path("3.32t") == place.path("3.32+freethreaded") == free
    assert place.path("3.32") == str(place.bin / "python3.32")
    usual = place.make(place.bin2 / "python3.32", "3.32.1")
    assert place.path("3.32") == usual and place.path("3.32+gil") == usual
    pypy = place.make(place.pyenv / "pypy3.33-7.3.99/bin/pypy3.33", "3.33.19", implementation="pypy")
    # The system may have one of its own.
    for spec in ("pypy3.33", "pp333", "pypy@3.33", "3.33", "pypy3.33-7.3.99", *([] if shutil.which("pypy3") else ["pypy"])):
        assert place.path(spec) == pypy, spec
    assert place.path("cpython@3.33") == NONE
    usual = place.make(place.bin2 / "python3.33", "3.33.1")
    assert place.path("3.33") == usual and place.path("pypy3.33") == pypy


def test_broken_ones_are_passed_over(place):
    broken = place.bin / "python3.31"
    broken.write_bytes(b"\1")
    broken.chmod(0o755)
    found = place.find("3.31")
    assert found["error"] == "io.venvd.InterpreterFailed" and found["interpreter"] == str(broken)
    good = place.make(place.bin2 / "python3.31", "3.31.1")
    assert place.path("3.31") == good
    # It may be well again by now: who may not ask does not know.
    assert place.path("3.31", probeMs=0) == "unknown"
    place.make(broken, "3.31.2")
    assert place.path("3.31") == place.path("3.31", probeMs=0) == str(broken)


def test_interpreters_of_environments_are_no_candidates(place):
    env = fake_env(place.home / "env")
    place.make(env / "bin/python3.31", "3.31.1")
    assert place.path("3.31", dirs=f"{env}/bin") == NONE
    place.make(place.pyenv / "myenv/bin/python3.31", "3.31.1")
    (place.pyenv / "myenv/pyvenv.cfg").write_text("home = /usr/bin\n")
    assert place.path("3.31") == NONE


def test_other_tools(place):
    places = {
        "asdf": place.home / ".asdf/installs/python/3.31.1", "mise": place.home / "m/installs/python/3.32.1",
        "uv": place.home / "u/cpython-3.33.1-linux-x86_64-gnu", "conda": place.home / "miniforge3/envs/e",
        "configuration": place.home / "opt",
    }
    for number, top in enumerate(places.values(), 31):
        place.make(top / "bin" / f"python3.{number}", f"3.{number}.1")
    (places["conda"] / "conda-meta").mkdir()
    (places["conda"] / "conda-meta/python-3.34.1-h1234_0_cpython.json").write_text("{}")
    listed = place.home / "elsewhere"
    place.make(listed / "bin/python", "3.36.1")
    (place.home / ".conda").mkdir()
    (place.home / ".conda/environments.txt").write_text(f"{listed}\n/nowhere\n")
    (listed / "conda-meta").mkdir()
    fields = {"environment": {"MISE_DATA_DIR": f"{place.home}/m", "UV_PYTHON_INSTALL_DIR": f"{place.home}/u"},
              "search": {"dirs": [str(places["configuration"] / "bin")], "managedFirst": False}}
    prefix = place.make(place.home / "srv/bin/python3.37", "3.37.1")
    fields["search"]["dirs"].append(f"{place.home}/srv")
    assert place.path("3.37", **fields) == prefix
    for number, tool in enumerate(places, 31):
        found = place.find(f"3.{number}", **fields)
        assert found["interpreter"]["source"] == tool, found
    assert place.find("3.36", **fields)["interpreter"]["source"] == "conda"
    sources = {i["source"] for i in place.list(**fields).values()}
    assert set(places) <= sources


# --- paths and names ---

def test_environments_mean_their_base(place, root):
    base = place.make(place.home / "base/python3", "3.31.1")
    for env in (root / "projA", place.home / ".venv"):
        fake_env(env, f"home = {place.home}/base\nversion = 3.31.1\n")
        os.unlink(env / "bin/python3")
        (env / "bin/python3").symlink_to(base)
    # One that was made from within another.
    inner = fake_env(root / "inner", f"home = {root}/projA/bin\nversion = 3.31.1\n")
    os.unlink(inner / "bin/python3")
    (inner / "bin/python3").symlink_to(root / "projA/bin/python3")
    for spec in ("projA", "inner", str(root / "projA"), "./.venv", ".venv/", str(root / "inner/")):
        found = place.find(spec)
        assert found["interpreter"]["path"] == base, (spec, found)
        assert found["rule"] == "environment" and "base interpreter of the environment" in found["reason"]
    assert place.path("nothing") == NONE
    # A version form wins over an environment of that name.
    fake_env(root / "3.31", f"home = {place.home}/base\nversion = 3.31.1\n")
    assert place.path("3.31") == NONE
    os.unlink(base)
    assert place.find("projA")["error"] == NONE


def test_installations_by_name(place):
    dev = place.make(place.pyenv / "3.32-dev/bin/python3.32", "3.32.0", level="alpha")
    conda = place.make(place.pyenv / "miniconda3-latest/bin/python3", "3.31.1")
    uv = place.make(place.uv / "cpython-3.31.3-linux-x86_64-gnu/bin/python3.31", "3.31.3")
    assert place.path("3.32-dev") == dev and place.path("miniconda3-latest") == conda
    assert place.path("cpython-3.31.3-linux-x86_64-gnu") == uv
    assert place.path(str(place.pyenv / "miniconda3-latest")) == conda
    base = place.make(place.pyenv / "3.31.9/bin/python3.31", "3.31.9")
    fake_env(place.pyenv / "3.31.9/envs/mine", f"home = {place.pyenv}/3.31.9/bin\nversion = 3.31.9\n")
    os.unlink(place.pyenv / "3.31.9/envs/mine/bin/python3")
    (place.pyenv / "3.31.9/envs/mine/bin/python3").symlink_to(base)
    (place.pyenv / "mine").symlink_to("3.31.9/envs/mine")
    assert place.path("mine") == base
    (place.pyenv / "mine").unlink()
    assert place.path("mine") == base


def test_several(place):
    have = place.make(place.bin / "python3.31", "3.31.1")
    assert place.path("3.40", "nothing", "/no/such", "3.31", "3.30") == have
    found = place.find("3.40", "nothing")
    assert found["error"] == NONE and found["interpreter"] == "3.40, nothing"
    assert "3.40" in found["reason"] and "'nothing'" in found["reason"]


def test_strange_specifications(place):
    for spec in ("", " ", ".", "..", "/etc", "/no//such/", "3.", "x" * 5000, "\u00e9", "a\nb", "-p", ">=", "3.12;rm", "~"):
        found = place.find(spec)
        assert found.get("error") in (NONE, "io.venvd.InterpreterFailed"), (spec, found)


def test_vanished(place):
    path = place.make(place.bin / "python3.31", "3.31.1")
    assert place.path(path) == place.path("3.31") == path
    os.unlink(path)
    found = place.find(path)
    assert found["error"] == NONE and "No such file" in found["reason"]
    assert place.path("3.31") == NONE


# --- .python-version ---

def pinned(place, text, where="."):
    project = place.home / "project/src"
    project.mkdir(parents=True, exist_ok=True)
    (project / where / ".python-version").write_text(text)
    return place.find(cwd=project)


def test_python_version_file(place, root):
    default = place.make(place.bin / "python3", "3.30.1")
    one = place.make(place.pyenv / "3.31.1/bin/python3.31", "3.31.1")
    two = place.make(place.pyenv / "3.32.2/bin/python3.32", "3.32.2")
    fake_env(root / "projA", f"home = {place.pyenv}/3.32.2/bin\nversion = 3.32.2\n")
    os.unlink(root / "projA/bin/python3")
    (root / "projA/bin/python3").symlink_to(two)
    for text, path in {
            "3.31.1\n": one, "3.31": one, "3.32\n3.31\n": two, "3.40:3.31\n": one, "# mine\n\n 3.31 # yes\r\n": one,
            "python-3.31.1\n": one, "cpython@3.32": two, ">=3.31,<3.32": one, "projA\n": two,
            "system\n": default, "": default, "#\n": default}.items():
        found = pinned(place, text)
        assert found["interpreter"]["path"] == path and found["warnings"] == [], (text, found)
        if text.strip("#\n"):
            assert found["rule"] == "pin" and f"{place.home}/project/src/.python-version" in found["reason"]
    # -p is stronger; the caller's own directory is nearer.
    assert place.path("3.32", cwd=place.home / "project/src") == two
    pinned(place, "3.32\n", "..")
    assert pinned(place, "3.31\n")["interpreter"]["path"] == one
    os.unlink(place.home / "project/src/.python-version")
    assert place.path(cwd=place.home / "project/src") == two


def test_python_version_file_that_nothing_matches(place):
    default = place.make(place.bin / "python3", "3.30.1")
    one = place.make(place.pyenv / "3.31.1/bin/python3.31", "3.31.1")
    file = place.home / "project/src/.python-version"
    found = pinned(place, "3.40\nfoo\n")
    assert found["interpreter"]["path"] == default and found["rule"] == "PATH"
    assert found["warnings"] == [f"'{file}' asks for '3.40' or 'foo', which is not here"]
    # What a link leads to may be anything of the user's, and what is printed may be seen by others.
    (place.home / "secret").write_text("s3cr3t\n")
    file.unlink()
    file.symlink_to(place.home / "secret")
    assert place.find(cwd=file.parent)["warnings"] == [f"'{file}' asks for a Python, which is not here"]
    file.unlink()
    pinned(place, "3.40\nfoo\n")
    pinned(place, "3.31\n", "..")
    found = place.find(cwd=place.home / "project/src")
    assert found["interpreter"]["path"] == one and len(found["warnings"]) == 1


def test_python_version_file_runs_nothing(place):
    """It may come with a repository: neither a path nor a program's name is taken from it."""
    default = place.make(place.bin / "python3", "3.30.1")
    evil = [place.make(place.home / "project/src/evil", "3.31.1"), place.make(place.bin / "evil", "3.31.1")]
    for text in ("./evil\n", f"{evil[0]}\n", "../src/evil", "evil\n", "x/envs/../../evil", "/envs/x"):
        found = pinned(place, text)
        assert found["interpreter"]["path"] == default and len(found["warnings"]) == 1, text
    assert [place.asked(path) for path in evil] == [0, 0]


def test_python_version_file_that_is_none(place):
    default = place.make(place.bin / "python3", "3.30.1")
    place.make(place.pyenv / "3.31.1/bin/python3.31", "3.31.1")
    file = place.home / "project/src/.python-version"
    assert pinned(place, "3.31\n" + "#" * 4096)["interpreter"]["path"] == default     # larger than is read
    assert pinned(place, "3.31\n" + "#" * 4091)["interpreter"]["version"] == "3.31.1"
    for make in (os.mkdir, os.mkfifo, lambda p: os.symlink("/dev/zero", p), lambda p: os.symlink(p, p)):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
        make(file)
        assert place.path(cwd=file.parent) == default
    file.unlink()
    deep = place.home / "/".join("d" * 66)
    deep.mkdir(parents=True)
    (place.home / ".python-version").write_text("3.31\n")
    assert place.path(cwd=deep) == default and place.find(cwd=deep.parents[10])["interpreter"]["version"] == "3.31.1"


# --- what is remembered ---

def test_a_warm_listing_asks_nobody(place):
    paths = [place.make(place.bin / "python3", "3.31.1"), place.make(place.pyenv / "3.32.1/bin/python3.32", "3.32.1")]
    bad = place.bin / "python3.33"
    shutil.copy(place.binary, bad)                          # has no answer
    first = place.list()
    assert set(paths) <= set(first) and first[str(bad)]["state"] == "unusable"
    assert [place.asked(p) for p in (*paths, bad)] == [1, 1, 1]
    assert place.list() == first
    assert [place.asked(p) for p in (*paths, bad)] == [1, 1, 1]
    # A file that changed, or was replaced by one of the same size and time, is asked anew; it alone.
    place.make(place.bin / "python3", "3.31.2")
    st = os.stat(paths[1])
    place.make(pathlib.Path(paths[1] + "-new"), "3.32.9")
    os.utime(paths[1] + "-new", ns=(st.st_atime_ns, st.st_mtime_ns))
    os.rename(paths[1] + "-new", paths[1])
    os.rename(paths[1] + "-new.answer", paths[1] + ".answer")
    again = place.list()
    assert (again[paths[0]]["version"], again[paths[1]]["version"]) == ("3.31.2", "3.32.9")
    assert [place.asked(p) for p in (*paths, bad)] == [2, 2, 1]
    # One that failed is asked by whoever means it.
    assert place.find(str(bad))["error"] == "io.venvd.InterpreterFailed" and place.asked(bad) == 2


def test_a_link_and_its_pyvenv_cfg_are_watched(place):
    one, two = place.make(place.home / "x/one", "3.31.1"), place.make(place.home / "x/two", "3.32.1")
    link = place.bin / "python3"
    link.symlink_to(one)
    pathlib.Path(f"{link}.answer").symlink_to(f"{one}.answer")
    assert place.find(str(link))["interpreter"]["version"] == "3.31.1"
    link.unlink()
    link.symlink_to(two)
    assert place.path(str(link), probeMs=0) == "unknown"
    assert place.find(str(link))["interpreter"]["path"] == str(link) and place.asked(link) == 2
    assert place.path(str(link), probeMs=0) == str(link)
    (place.bin.parent / "pyvenv.cfg").write_text("home = /x\n")
    assert place.path(str(link), probeMs=0) == "unknown"


def test_who_must_not_ask_does_not(place, root):
    path = place.make(place.bin / "python3", "3.31.1")
    for spec in ([], ["3"], [path], ["python3"]):
        assert place.path(*spec, probeMs=0) == "unknown"
    assert place.asked(path) == 0
    place.find()
    for spec in ([], ["3"], [path], ["python3"]):
        assert place.path(*spec, probeMs=0) == path
    assert place.asked(path) == 1
    # What is not safe any more is not taken from memory.
    place.bin.chmod(0o777)
    assert place.find(probeMs=0)["error"] == "io.venvd.UnsafeInterpreter"
    # Shims are not remembered.
    shim = place.home / "shim"
    shim.write_text(f"#!/bin/sh\nexec {path} \"$@\"\n")
    shim.chmod(0o755)
    place.bin.chmod(0o755)
    assert place.path(str(shim)) == path
    assert place.path(str(shim), probeMs=0) == "unknown"


def test_scripts(place):
    """One that says it is the interpreter itself is remembered; one that leads to another script is not."""
    made = place.make(place.home / "made", "3.31.1")
    wrapper = place.home / "wrapper"
    wrapper.write_text(f"#!/bin/sh\necho >> {place.home}/runs\n/bin/sed s,{made},{wrapper},g {made}.answer\n")
    wrapper.chmod(0o755)
    assert place.path(str(wrapper)) == place.path(str(wrapper), probeMs=0) == str(wrapper)
    outer, inner = place.home / "outer", place.home / "inner"
    inner.write_text(f"#!/bin/sh\nexec {made} \"$@\"\n")
    outer.write_text(f"#!/bin/sh\n/bin/sed s,{made},{inner},g {made}.answer\n")
    for path in (outer, inner):
        path.chmod(0o755)
    assert place.path(str(outer)) == str(inner)
    assert place.path(str(inner), probeMs=0) == "unknown"


def test_a_resident_sees_what_another_worker_learned(place, root):
    """By the file alone: each order here is a process of its own."""
    path = place.make(place.bin / "python3", "3.31.1")
    place.find()
    files = list((root / ".venvd/interpreters").iterdir())
    assert len(files) == 1 and os.stat(files[0]).st_mode & 0o777 == 0o600
    known = json.loads(files[0].read_text())
    assert known["path"] == path and known["answer"]["version"] == "3.31.1"


def corruptions(good, other):
    known = json.loads(good)
    yield b""
    yield good[:50]
    yield b"\xff" * 100
    yield b"[" * 100000
    yield b"[]"
    for change in ({"form": 2}, {"path": other}, {"link": [1, 2]}, {"file": None}, {"answer": None},
                   {"answer": {**known["answer"], "version": 3}}, {"answer": {**known["answer"], "numbers": []}},
                   {"answer": {**known["answer"], "facts": {"executable": 1}}}, {"failure": []},
                   {"answer": {**known["answer"], "facts": []}}):
        yield json.dumps(known | change).encode()
    yield good + b" " * (256 * 1024)


def test_damaged_files_are_as_good_as_none(place, root):
    path = place.make(place.bin / "python3", "3.31.1")
    place.find()
    file = next((root / ".venvd/interpreters").iterdir())
    good = file.read_bytes()
    for text in corruptions(good, "/usr/bin/python3"):
        file.write_bytes(text)
        assert place.path(probeMs=0) in ("unknown", path), text[:200]
        file.write_bytes(text)
        assert place.find()["interpreter"]["version"] == "3.31.1"
    for make in (os.mkfifo, lambda p: os.symlink("/dev/zero", p)):
        file.unlink()
        make(file)
        assert place.find()["interpreter"]["path"] == path
        assert file.is_file() and not file.is_symlink()
    shutil.rmtree(root / ".venvd/interpreters")
    (root / ".venvd/interpreters").symlink_to(place.home)
    assert place.path() == path
    assert not list(place.home.glob("*.json"))


def test_memory_is_bounded(place, root):
    """More interpreters than are remembered: the oldest go."""
    directory = root / ".venvd/interpreters"
    directory.mkdir()
    for i in range(300):
        (directory / f"{i:016x}.json").write_text("{}")
        os.utime(directory / f"{i:016x}.json", (i, i))
    (directory / "added.json").write_text("[]")
    os.utime(directory / "added.json", (0, 0))
    place.make(place.bin / "python3", "3.31.1")
    place.find()
    names = sorted(os.listdir(directory))
    assert f"{0:016x}.json" not in names and f"{299:016x}.json" in names and "added.json" in names


# --- added by hand ---

def change(place, verb, path):
    return place.order("python", verb=verb, path=str(path))[0]


def test_add_and_remove(place, root):
    path = place.make(place.home / "far/away/my-python", "3.31.1")
    assert place.path("3.31") == NONE and path not in place.list()
    added = change(place, "add", path)["interpreter"]
    assert (added["path"], added["version"], added["source"], added["added"]) == (path, "3.31.1", "added", True)
    assert "error" not in change(place, "add", f"{place.home}/far/../far/away//my-python")
    found = place.find("3.31")
    assert found["interpreter"]["path"] == path and found["reason"] == "Python 3.31 that was added"
    assert place.list()[path]["source"] == "added" and place.list()[path]["added"] is True
    assert place.asked(path) == 1
    assert json.loads((root / ".venvd/interpreters/added.json").read_text()) == [path]
    assert "error" not in change(place, "remove", path)
    assert place.path("3.31") == NONE and path not in place.list()
    assert change(place, "remove", path)["error"] == NONE


def test_what_cannot_be_added(place, root):
    directory = place.home / "open"
    unsafe = place.make(directory / "python3", "3.31.1")
    directory.chmod(0o777)
    data = place.home / "data"
    data.write_text("x")
    for path, error in {"relative/python3": NONE, "/no/such": NONE, unsafe: "io.venvd.UnsafeInterpreter",
                        place.home: "io.venvd.InterpreterFailed", data: "io.venvd.InterpreterFailed",
                        "/bin/true": "io.venvd.InterpreterFailed"}.items():
        assert change(place, "add", path)["error"] == error, path
    assert not (root / ".venvd/interpreters/added.json").exists()
    directory = root / ".venvd/interpreters"
    directory.mkdir(exist_ok=True)
    (directory / "added.json").write_text(json.dumps([f"/x/{i}" for i in range(256)]))
    path = place.make(place.home / "my-python", "3.31.1")
    assert "all that can be" in change(place, "add", path)["parameters"]["reason"]
    for text in ("{}", "[1,null,{}]", "x", '["relative"]'):
        (directory / "added.json").write_text(text)
        assert place.path("3.31") == NONE
        assert "error" not in change(place, "add", path)
        assert place.path("3.31") == path


@pytest.mark.parametrize("text, found", [("glob.glob('/usr/share/python-wheels/pip-*.whl')", "/usr/share/python-wheels"),
                                         ("'/usr/share/pip'", None)])
def test_wheels_that_ensurepip_alone_knows_of(place, root, tmp_path, text, found):
    """Debian's PyPy: an upgrade of pip there must be seen."""
    python = rebuilt_python(PYTHONS[-1], tmp_path / "python", "")
    next(python.parents[1].glob("lib/python3*/ensurepip/__init__.py")).write_text(text)
    place.find(str(python))
    [facts] = [answer["facts"] for p in (root / ".venvd/interpreters").glob("*.json")
               if (answer := json.loads(p.read_text())["answer"])["facts"]["executable"] == str(python)]
    assert facts["wheelDir"] == found


def test_real_ones_tell_what_images_need(place, root):
    found = place.find(PYTHON)
    assert found["interpreter"]["state"] == "usable"
    facts = json.loads(next((root / ".venvd/interpreters").glob("*.json")).read_text())["answer"]["facts"]
    asked = subprocess.run([PYTHON, "-c", "import os, sys, json; print(json.dumps([sys._base_executable, "
                            "sys.base_prefix, os.path.dirname(os.__file__), sys.implementation.cache_tag]))"],
                           capture_output=True, text=True, check=True).stdout
    assert [facts[k] for k in ("baseExecutable", "basePrefix", "stdlib", "cacheTag")] == json.loads(asked)
    assert set(facts) == {"executable", "baseExecutable", "basePrefix", "stdlib", "cacheTag", "scheme", "lib64",
                          "platform", "encoding", "wheelDir", "gilDisabled", "debug"}
    if facts["scheme"]:
        assert facts["scheme"]["scripts"] == "@/bin" and facts["scheme"]["purelib"].startswith("@/lib/")
