# SPDX-License-Identifier: MIT
"""Another name, or a copy: afterwards everything in it works, and nothing in it names the old path.

What is installed is real: wheels made here, installed by the environment's own pip.
"""
import base64
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import zipfile

import pytest

from conftest import VarlinkError, interpreters
from helpers import differences, eventually, mounted, needs_root, tree

PYTHONS = interpreters()
NEWEST = str(PYTHONS[-1])
WHO = "import sys, hello; print(sys.prefix, hello.__file__)"


def refused(daemon, method, **parameters):
    with pytest.raises(VarlinkError) as e:
        daemon.call(method, **parameters)
    return e.value


def create(daemon, name, python=NEWEST, **parameters):
    return daemon.call("Create", name=name, python=str(python), **parameters)["environment"]


def moved(daemon, how, name, to):
    return daemon.call(how, name=name, to=to)["environment"]


def run(*command, **kwargs):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "PIP_NO_INPUT": "1",
                               "PIP_DISABLE_PIP_VERSION_CHECK": "1"}, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wheel(directory, name="hello", requires=()):
    """A wheel with a module, a console script, a script with a shebang, and a data file."""
    info, data = f"{name}-1.0.dist-info", f"{name}-1.0.data"
    files = {
        f"{name}.py": "import sys\ndef main():\n    print('hello from', sys.prefix)\n",
        f"{data}/scripts/{name}-script": "#!python\nimport sys\nprint('script of', sys.prefix)\n",
        f"{data}/data/share/{name}/data.txt": "data\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
                            + "".join(f"Requires-Dist: {r}\n" for r in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}")
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    path = pathlib.Path(directory) / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in files.items():
            entry = zipfile.ZipInfo(member)
            entry.external_attr = (0o100755 if "/scripts/" in member else 0o100644) << 16
            archive.writestr(entry, text)
    return path


def install(env, directory):
    run(env / "bin/python", "-m", "pip", "install", "--no-index", "--no-deps", wheel(directory))


def site_packages(env):
    [site] = env.glob("lib/python*/site-packages")
    return site


def holding(env, text):
    """What in it holds the text, but for compiled modules, in which it is harmless (facts: co_filename)."""
    found = []
    for path in env.rglob("*"):
        if path.is_symlink():
            if text in os.readlink(path):
                found.append(path)
        elif path.is_file() and path.suffix != ".pyc" and text.encode() in path.read_bytes():
            found.append(path)
    return [str(path.relative_to(env)) for path in found]


def records_hold(env):
    """Every RECORD says of every file what it is."""
    site = site_packages(env)
    for record in site.glob("*.dist-info/RECORD"):
        for line in record.read_text().splitlines():
            path, digest, size = line.rsplit(",", 2)
            if not digest:
                continue
            content = (site / path.strip('"')).read_bytes()
            assert digest == "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode(), line
            assert int(size) == len(content), line


def works(env, name):
    assert run(env / "bin/hello") == f"hello from {env}\n"
    assert run(env / "bin/hello-script") == f"script of {env}\n"
    assert run(env / "bin/python", "-c", WHO).startswith(f"{env} {env}/lib/python")
    assert run(env / "bin/pip", "check") == "No broken requirements found.\n"
    assert run("bash", "-euc", f". {env}/bin/activate; echo $VIRTUAL_ENV; command -v hello; echo \"$PS1\"") == \
        f"{env}\n{env}/bin/hello\n({name}) \n"
    records_hold(env)


def test_a_sparse_file_stays_one(daemon, root):
    """It may be longer than the disk, and a clone takes no more room than the environment."""
    create(daemon, "a", withoutPip=True)
    parts = {0: b"begin", 40 << 20: b"middle", (64 << 20) - 4096: b"end"}
    with open(root / "a" / "sparse", "wb") as file:
        for at, data in parts.items():
            file.seek(at)
            file.write(data)
        file.truncate(64 << 20)
    (root / "a" / "hole").touch()
    os.truncate(root / "a" / "hole", 64 << 20)
    if (root / "a" / "sparse").stat().st_blocks > 2048:
        pytest.skip("no holes here")
    moved(daemon, "Clone", "a", "b")
    for name in ("sparse", "hole"):
        copy = root / "b" / name
        assert copy.stat().st_blocks <= (root / "a" / name).stat().st_blocks + 64
        assert subprocess.run(["cmp", root / "a" / name, copy]).returncode == 0


# --- what it is like afterwards ---

@pytest.mark.slow
@pytest.mark.parametrize("python", [pytest.param(p, id=p.name, marks=[] if p in (PYTHONS[0], PYTHONS[1], PYTHONS[-1]) else
                                                 pytest.mark.everywhere) for p in PYTHONS])
@pytest.mark.parametrize("how", ["Rename", "Clone"])
def test_as_if_it_had_been_made_there(daemon, root, python, how):
    """Byte for byte, but for times, links and compiled modules' paths."""
    create(daemon, "new-name", python)
    fresh = tree(root / "new-name")
    daemon.call("Delete", name="new-name", now=True)
    made = create(daemon, "old", python)
    answer = moved(daemon, how, "old", "new-name")
    assert differences(fresh, tree(root / "new-name")) == []
    assert answer["name"] == "new-name" and answer["path"] == f"{root}/new-name" and answer["state"] == "ready"
    assert answer["version"] == made["version"] and answer["pip"] is True
    if how == "Rename":
        assert answer["id"] == made["id"] and answer["createdAt"] == made["createdAt"]
        assert set(daemon.environments()) == {"new-name"} and not (root / "old").exists()
    else:
        assert answer["id"] != made["id"] and set(daemon.environments()) == {"new-name", "old"}
        old = tree(root / "old")
        daemon.call("Delete", name="old", now=True)
        create(daemon, "old", python)
        assert differences(old, tree(root / "old")) == []
    run(root / "new-name/bin/pip", "--version")


@pytest.mark.parametrize("how", ["Rename", "Clone"])
def test_what_is_installed_works(daemon, root, tmp_path, how):
    create(daemon, "one")
    blank = tree(root / "one")
    install(root / "one", tmp_path)
    works(root / "one", "one")
    moved(daemon, how, "one", "another-one")
    works(root / "another-one", "another-one")
    assert holding(root / "another-one", f"{root}/one") == []
    if how == "Clone":
        works(root / "one", "one")
    # And nothing stays behind when it is uninstalled: as it was before, under the new name.
    run(root / "another-one/bin/pip", "uninstall", "-y", "hello")
    moved(daemon, "Rename", "another-one", "uno")
    if how == "Clone":
        daemon.call("Delete", name="one", now=True)
    moved(daemon, "Rename", "uno", "one")
    after = tree(root / "one")
    for found in (blank, after):        # pip has compiled modules of itself, and leaves an empty directory
        for path in [p for p in found if "__pycache__" in p or p == "share"]:
            del found[path]
    assert differences(blank, after) == []


@pytest.mark.parametrize("how", ["Rename", "Clone"])
def test_what_others_have_written(daemon, root, tmp_path, how):
    """Editable installs, a .pth, a kernel, pkg-config, links, shell scripts; and what only looks like it stays."""
    create(daemon, "a", withoutPip=True)
    env, other = root / "a", root / "ab"
    site = site_packages(env)
    info = site / "proj-1.dist-info"
    info.mkdir()
    project = tmp_path / "it's a project"
    files = {
        env / "bin/tool": f"#!{env}/bin/python\nprint('{env}/share')\n",
        env / "bin/shell": f"#!/bin/sh\nexec {env}/bin/python \"$@\"\n",
        env / "bin/long": f"#!/bin/sh\n'''exec' \"{env}/bin/python\" \"$0\" \"$@\"\n' '''\nprint('long')\n",
        site / "paths.pth": f"{env}/src\n{other}/src\nimport os; x = '{env}/y'\n",
        site / "old.egg-link": f"{env}/src/old\n.\n",
        site / "__editable___proj_finder.py": f"MAPPING = {{'proj': '{env}/src/proj'}}\n",
        info / "direct_url.json": json.dumps({"url": f"file://{env}/src/proj", "dir_info": {"editable": True}}),
        info / "METADATA": "Metadata-Version: 2.1\nName: proj\nVersion: 1\n",
        env / "share/jupyter/kernels/k/kernel.json": json.dumps({"argv": [f"{env}/bin/python", "-m", "k"]}),
        env / "share/pkgconfig/x.pc": f"prefix={env}\n",
        env / "etc/other": f"{other}/bin {env}.d {env}-x x{env} file://{env} {project}\n",
        env / "bin/binary": f"\0{env}\0",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (env / "bin/tool").chmod(0o750)
    (env / "bin/link").symlink_to(env / "bin/tool")
    (env / "bin/elsewhere").symlink_to(other / "bin/tool")
    rows = []
    for path in (site / "paths.pth", site / "__editable___proj_finder.py", info / "direct_url.json", env / "bin/tool"):
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
        rows.append(f"{os.path.relpath(path, site)},sha256={digest},{path.stat().st_size}\n")
    (info / "RECORD").write_text("".join(rows) + "proj-1.dist-info/RECORD,,\n")

    moved(daemon, how, "a", "ab")
    env = root / "ab"
    site = site_packages(env)
    old = f"{root}/a"
    for path, text in files.items():
        new = env / path.relative_to(old)
        if path.name == "long":         # as pip would have written it
            assert new.read_text() == f"#!{env}/bin/python\nprint('long')\n"
        elif path.name == "binary":
            assert new.read_text() == text
        elif path.name in ("other", "paths.pth"):
            kept = [w for w in text.split() if w.startswith((f"{root}/ab", f"{old}.d", f"{old}-x", "x"))]
            assert all(w in new.read_text() for w in kept)
            assert f"file://{env}" in new.read_text() or path.name == "paths.pth"
            assert f" {old} " not in new.read_text() and f"{old}/" not in new.read_text()
        else:
            assert new.read_text() == text.replace(old, str(env)), path
    assert (env / "bin/tool").stat().st_mode & 0o777 == 0o750
    assert os.readlink(env / "bin/link") == f"{env}/bin/tool"
    assert os.readlink(env / "bin/elsewhere") == f"{root}/ab/bin/tool"
    records_hold(env)
    # There and back it is what it was.
    if how == "Rename":
        moved(daemon, "Rename", "ab", "a")
        for path, text in files.items():
            if path.name not in ("long", "other", "paths.pth"):
                assert path.read_text() == text


@pytest.mark.parametrize("creator", ["venv", "virtualenv"])
@pytest.mark.parametrize("how", ["Rename", "Clone"])
def test_what_other_tools_have_made(start, root, tmp_path, creator, how):
    root.mkdir()
    command = [NEWEST, "-m", "venv"]
    if creator == "virtualenv":         # without seeds, whose own requirements it does not bring
        command = [sys.executable, "-m", "virtualenv", "-q", "--no-download", "--no-setuptools", "--no-wheel"]
    subprocess.run([*command, root / "one"], check=True)
    daemon = start(root)
    assert daemon.environments()["one"]["origin"] == "adopted"
    install(root / "one", tmp_path)
    moved(daemon, how, "one", "two")
    works(root / "two", "two")
    assert holding(root / "two", f"{root}/one") == []


@pytest.mark.parametrize("how", ["Rename", "Clone"])
def test_what_uv_has_made(start, root, tmp_path, how):
    """It links what it installs from its cache, and writes its own form of a long first line."""
    uv = pathlib.Path(sys.executable).parent / "uv"
    if not uv.exists():
        pytest.skip("no uv in the test environment")
    root.mkdir()
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_OFFLINE": "1"}
    subprocess.run([uv, "venv", "-q", "-p", NEWEST, root / "one"], check=True, env=env)
    subprocess.run([uv, "pip", "install", "-q", "-p", root / "one/bin/python", "--no-deps", wheel(tmp_path)], check=True,
                   env=env)
    daemon = start(root)
    assert daemon.environments()["one"]["creator"] == "uv"
    moved(daemon, how, "one", "two")
    two = root / "two"
    assert run(two / "bin/hello") == f"hello from {two}\n" and run(two / "bin/hello-script") == f"script of {two}\n"
    assert run("bash", "-euc", f". {two}/bin/activate; echo $VIRTUAL_ENV; echo \"$PS1\"") == f"{two}\n(two) \n"
    assert holding(two, f"{root}/one") == []
    records_hold(two)
    subprocess.run([uv, "pip", "uninstall", "-q", "-p", two / "bin/python", "hello"], check=True, env=env)
    # uv leaves directories, and what Python has compiled.
    assert [p for p in two.rglob("*hello*") if p.is_file() and p.suffix != ".pyc"] == []
    # What lies in uv's cache is not touched.
    assert [p for p in holding(tmp_path / "cache", str(two)) if not p.startswith("interpreter")] == []


def test_a_prompt_that_was_asked_for_stays(daemon, root):
    create(daemon, "one", withoutPip=True, prompt="one")
    create(daemon, "other", withoutPip=True, prompt="mine")
    for name in ("one", "other"):
        prompt = moved(daemon, "Clone", name, f"{name}-2")["prompt"]
        assert prompt == ("one" if name == "one" else "mine")
        said = run("bash", "-euc", f". {root}/{name}-2/bin/activate; echo \"$PS1\"")
        assert said == f"({prompt}) \n"


@pytest.mark.slow
def test_shebangs_that_become_too_long(daemon, root, tmp_path):
    create(daemon, "a")
    install(root / "a", tmp_path)
    long = "n" * 100
    moved(daemon, "Rename", "a", long)
    assert (root / long / "bin/hello").read_text().startswith("#!/bin/sh\n'''exec' ")
    works(root / long, long)
    moved(daemon, "Rename", long, "a")
    assert (root / "a/bin/hello").read_text().startswith(f"#!{root}/a/bin/python")
    works(root / "a", "a")


def test_a_root_with_odd_characters(start, tmp_path):
    root = tmp_path / "it's a root ü"
    daemon = start(root)
    create(daemon, "one")
    install(root / "one", tmp_path)
    moved(daemon, "Rename", "one", "two")
    moved(daemon, "Clone", "two", "three")
    for name in ("two", "three"):
        env = root / name
        assert run(env / "bin/hello") == f"hello from {env}\n"
        script = tmp_path / "activate.sh"
        script.write_text(". \"$1/bin/activate\"; echo \"$VIRTUAL_ENV\"\n")
        assert run("bash", "-eu", script, env) == f"{env}\n"
        assert holding(env, "/one") == []
        records_hold(env)


@pytest.mark.slow
def test_times_and_links_are_kept(daemon, root):
    """A compiled module is right only beside a source of its time; pip's files stay shared."""
    create(daemon, "one")
    moved(daemon, "Clone", "one", "two")
    for path in site_packages(root / "one").rglob("*.py"):
        other = root / "two" / path.relative_to(root / "one")
        assert other.stat().st_mtime_ns == path.stat().st_mtime_ns
        assert (other.stat().st_nlink > 1) == (path.stat().st_nlink > 1)
    site = site_packages(root / "two")
    record = next(site.glob("pip-*.dist-info/RECORD"))
    assert record.stat().st_nlink == 1


def test_who_wants_nothing_shared_gets_copies(start, root):
    """Also of one that was made when files were."""
    daemon = start(root, "-o", "link-mode=hardlink")
    create(daemon, "one")
    shared = [path.relative_to(root / "one") for path in site_packages(root / "one").rglob("*.py") if path.stat().st_nlink > 1]
    daemon.stop()
    if not shared:
        pytest.skip("no hard links here")
    daemon = start(root, "-o", "link-mode=copy")
    moved(daemon, "Clone", "one", "two")
    assert {(root / "two" / path).stat().st_nlink for path in shared} == {1}
    assert differences(tree(site_packages(root / "one"), without=("__pycache__",)),
                       tree(site_packages(root / "two"), without=("__pycache__",)))[1:] == []


# --- refusals ---

def test_refusals(daemon, root):
    create(daemon, "a", withoutPip=True)
    create(daemon, "b", withoutPip=True)
    (root / "foreign").mkdir()
    before = daemon.environments()
    for how in ("Rename", "Clone"):
        assert refused(daemon, how, name="nobody", to="c").name == "NoSuchEnvironment"
        assert refused(daemon, how, name="a", to="b").name == "AlreadyExists"
        assert refused(daemon, how, name="a", to="a").name == "AlreadyExists"
        assert refused(daemon, how, name="a", to="../c").name == "InvalidName"
        (root / "there").mkdir()
        assert refused(daemon, how, name="a", to="there").name == "AlreadyExists"
        (root / "there").rmdir()
    assert daemon.environments() == before
    eventually(lambda: os.listdir(root / ".venvd/stage") == [])


def test_more_than_is_moved(daemon, root):
    """LIMIT_MOVED_FILES files that hold the path: one clear error. A text above LIMIT_MOVED_TEXT is left as it is."""
    create(daemon, "a", withoutPip=True)
    (root / "a/etc").mkdir()
    large = f"{root}/a\n" + "x" * (1 << 20)
    (root / "a/etc/large").write_text(large)
    moved(daemon, "Rename", "a", "b")
    assert (root / "b/etc/large").read_text() == large
    for i in range(20001):
        (root / f"b/etc/{i}").write_text(f"{root}/b\n")
    error = refused(daemon, "Rename", name="b", to="c")
    assert error.name == "Unsupported" and "too many files hold its path" in error.parameters["reason"]
    assert daemon.environments()["b"]["state"] == "ready" and not (root / "c").exists()


def test_more_bytes_than_are_moved(daemon, root):
    """LIMIT_MOVED_BYTES in files that hold the path; LIMIT_MOVED_RECORD of one RECORD: one clear error each."""
    create(daemon, "a", withoutPip=True)
    (root / "a/etc").mkdir()
    text = f"{root}/a\n" + "x" * ((1 << 20) - 1000)
    for i in range(66):
        (root / f"a/etc/{i}").write_text(text)
    error = refused(daemon, "Rename", name="a", to="b")
    assert error.name == "Unsupported" and "too many files hold its path" in error.parameters["reason"]
    (root / "a/etc/65").unlink()
    (root / "a/etc/64").unlink()
    (root / "a/etc/63").unlink()
    assert moved(daemon, "Rename", "a", "b")["state"] == "ready"
    info = site_packages(root / "b") / "x-1.dist-info"
    info.mkdir()
    with open(info / "RECORD", "w") as record:
        record.truncate((16 << 20) + 1)
    for how in ("Rename", "Clone"):
        error = refused(daemon, how, name="b", to="c")
        assert error.name == "Unsupported" and "a RECORD of it lists too much" in error.parameters["reason"]
    with open(info / "RECORD", "w") as record:
        record.truncate(16 << 20)
    assert moved(daemon, "Rename", "b", "c")["state"] == "ready"


@pytest.mark.everywhere
def test_more_entries_than_are_looked_at(daemon, root):
    """LIMIT_MOVED_ENTRIES outside of packages."""
    create(daemon, "a", withoutPip=True)
    site = site_packages(root / "a")
    for directory, names in ((site / "large", 1000), (root / "a/share", 400)):      # in packages they count for nothing
        for i in range(names):
            (directory / f"d{i}").mkdir(parents=True)
    for i in range(400):
        for k in range(1000):
            os.symlink("x", root / f"a/share/d{i}/{k}")
    error = refused(daemon, "Rename", name="a", to="b")
    assert error.name == "Unsupported" and "too many files outside of packages" in error.parameters["reason"]
    for i in range(10):
        shutil.rmtree(root / f"a/share/d{i}")
    assert moved(daemon, "Rename", "a", "b")["state"] == "ready"


def test_in_use(daemon, root):
    create(daemon, "a", withoutPip=True)
    process = subprocess.Popen([root / "a/bin/python", "-c", "import sys; print('here', flush=True); sys.stdin.read()"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"here\n"
    error = refused(daemon, "Rename", name="a", to="b")
    assert error.name == "InUse" and error.parameters["processes"][0]["pid"] == process.pid
    assert moved(daemon, "Clone", "a", "c")["state"] == "ready"         # is only read
    assert daemon.call("Rename", name="a", to="b", force=True)["environment"]["name"] == "b"
    process.communicate()
    assert set(daemon.environments()) == {"b", "c"}


def test_one_elsewhere(daemon, root, tmp_path):
    """It is called something else, and stays where it is; a copy comes into the root."""
    where = tmp_path / "project/.venv"
    create(daemon, "e", path=str(where))
    install(where, tmp_path)
    before = tree(where, mtimes=True)
    renamed = moved(daemon, "Rename", "e", "f")
    assert (renamed["name"], renamed["path"]) == ("f", str(where)) and tree(where, mtimes=True) == before
    assert moved(daemon, "Clone", "f", "g")["path"] == f"{root}/g"
    works(root / "g", "g")
    daemon.call("Delete", name="f")
    assert refused(daemon, "Restore", name="f", **{"as": "h"}).name == "Unsupported"
    assert daemon.call("Restore", name="f")["environment"]["path"] == str(where)


def test_request_ids(start, root):
    daemon = start(root)
    create(daemon, "a", withoutPip=True)
    renamed = daemon.call("Rename", name="a", to="b", requestId="r")["environment"]
    cloned = daemon.call("Clone", name="b", to="c", requestId="c")["environment"]
    daemon.kill()
    daemon = start(root)
    assert daemon.call("Rename", name="a", to="b", requestId="r")["environment"] == renamed
    assert daemon.call("Clone", name="b", to="c", requestId="c")["environment"] == cloned
    assert refused(daemon, "Rename", name="a", to="c", requestId="r").name.endswith("InvalidParameter")


def test_a_full_disk(start, tmp_path):
    where = tmp_path / "small"
    where.mkdir()
    with mounted(where, "-t", "tmpfs", "-o", "size=24m,mode=0755", "none"):
        daemon = start(where / "envs")
        create(daemon, "a", withoutPip=True)
        create(daemon, "b", withoutPip=True)
        (where / "envs/a/big").write_bytes(b"x" * (12 << 20))
        before = tree(where / "envs/a", mtimes=True)
        assert refused(daemon, "Clone", name="a", to="c").name == "NoSpace"
        eventually(lambda: os.listdir(where / "envs/.venvd/stage") == [])
        assert tree(where / "envs/a", mtimes=True) == before and set(daemon.environments()) == {"a", "b"}
        (where / "envs/a/big").unlink()
        assert moved(daemon, "Clone", "a", "c")["state"] == "ready"
        daemon.stop()


@needs_root
def test_something_is_mounted_in_it(daemon, root):
    create(daemon, "a", withoutPip=True)
    (root / "a/share").mkdir()
    with mounted(root / "a/share", "-t", "tmpfs", "none"):
        for how in ("Rename", "Clone"):
            assert refused(daemon, how, name="a", to="b").name in ("Unsupported", "Failed")
    assert daemon.environments()["a"]["state"] == "ready" and not (root / "b").exists()


# --- the trash ---

def test_restore_as(daemon, root, tmp_path):
    create(daemon, "a")
    install(root / "a", tmp_path)
    first = daemon.call("Delete", name="a")["environment"]
    create(daemon, "a", withoutPip=True)
    assert refused(daemon, "Restore", name="a").name == "AlreadyExists"
    back = daemon.call("Restore", name="a", **{"as": "b"})["environment"]
    assert (back["name"], back["id"], back["state"]) == ("b", first["id"], "ready")
    assert "deletedAt" not in back and daemon.trash() == []
    works(root / "b", "b")
    assert os.listdir(root / ".venvd/trash") == [] and set(daemon.environments()) == {"a", "b"}
    # Two of one name, each under its own.
    ids = []
    for name in ("c", "c"):
        ids.append(create(daemon, name, withoutPip=True)["id"])
        daemon.call("Delete", name=name)
    for one, to in zip(ids, ("c1", "c2"), strict=True):
        assert daemon.call("Restore", name="c", id=one, **{"as": to})["environment"]["id"] == one
    assert daemon.trash() == []


def test_trash_empty(daemon, root, venvctl):
    for name in ("a", "b", "c"):
        create(daemon, name, withoutPip=True)
        daemon.call("Delete", name=name)
    middle = daemon.trash()[1]["deletedAt"]
    assert daemon.call("EmptyTrash", deletedBefore=middle) == {"removed": 1}
    assert [t["name"] for t in daemon.trash()] == ["b", "c"]
    assert venvctl("trash", "empty").returncode == 2
    assert venvctl("trash", "empty", "--dry-run").stdout == "b\nc\n"
    assert venvctl("trash", "empty", "-y", "--older-than", "1d").returncode == 0
    assert [line.split("\t")[0] for line in venvctl("trash", "list").stdout.splitlines()] == ["b", "c"]
    done = venvctl("trash", "empty", "-y", "--older-than", "0s")
    assert "removed 2 environments for good" in done.stderr
    assert daemon.trash() == [] and os.listdir(root / ".venvd/trash") == []
    assert "nothing to remove" in venvctl("trash", "empty", "-y").stderr
    for wrong in ("3", "x", "d", "3y", "-1d", "9999999d"):
        assert venvctl("trash", "empty", "-y", f"--older-than={wrong}").returncode == 2


# --- by hand ---

def test_renamed_by_hand(start, root):
    """The row follows its directory, by inode and birth time, whatever has its old name by now."""
    daemon = start(root)
    made = {name: create(daemon, name, withoutPip=True) for name in ("a", "b", "c", "d", "e")}
    daemon.call("Protect", name="e")
    daemon.stop()
    (root / "a").rename(root / "x")             # away
    (root / "b").rename(root / "tmp")           # b and c change their names
    (root / "c").rename(root / "b")
    (root / "tmp").rename(root / "c")
    shutil.rmtree(root / "d")
    (root / "e").rename(root / "d")             # over one that is gone
    shutil.copytree(root / "x", root / "copy", symlinks=True)
    daemon = start(root)
    now = daemon.environments()
    assert {name: env["id"] for name, env in now.items() if name != "copy"} == {
        "x": made["a"]["id"], "b": made["c"]["id"], "c": made["b"]["id"], "d": made["e"]["id"]}
    assert now["d"]["protected"] is True
    assert now["copy"]["origin"] == "adopted" and now["copy"]["id"] not in [m["id"] for m in made.values()]
    daemon.stop()
    assert start(root).environments() == now


def test_an_inode_that_is_used_again(start, root):
    """Not every directory of the old one's number is the old one."""
    daemon = start(root)
    made = create(daemon, "a", withoutPip=True)
    daemon.stop()
    inode = (root / "a").stat().st_ino
    shutil.rmtree(root / "a")
    end = time.monotonic() + 20
    for i in range(10000):
        (root / f"n{i}").mkdir()
        if (root / f"n{i}").stat().st_ino == inode:
            break
        if time.monotonic() > end:
            pytest.skip("the file system does not use the number again")
    else:
        pytest.skip("the file system does not use the number again")
    (root / f"n{i}" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    now = start(root).environments()
    assert now["a"]["state"] == "missing" and now["a"]["id"] == made["id"]
    assert now[f"n{i}"]["origin"] == "adopted"


# --- the command line ---

def test_from_the_command_line(venvctl, root):
    assert venvctl("create", "a", "--without-pip", "-p", NEWEST).returncode == 0
    done = venvctl("clone", "a", "b")
    assert done.returncode == 0 and done.stdout == f"{root}/b\n" and "copied 'a' to 'b'" in done.stderr
    done = venvctl("rename", "b", "c")
    assert done.returncode == 0 and done.stdout == f"{root}/c\n" and "'b' is called 'c' now" in done.stderr
    assert venvctl("rename", "c", "a").returncode == 4
    assert venvctl("clone", "nobody", "x").returncode == 3
    assert venvctl("rename", "a").returncode == 2
    venvctl("delete", "c")
    done = venvctl("restore", "c", "--as", "d")
    assert done.returncode == 0 and "restored 'c' as 'd'" in done.stderr and done.stdout == f"{root}/d\n"
    assert venvctl("list", "-q").stdout == "a\nd\n"
