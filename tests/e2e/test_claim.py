# SPDX-License-Identifier: MIT
# ruff: noqa: F401, F811 -- fixtures come from worker.py
"""venvd-worker alone: images, the pool's entries, and claims, driven as the daemon would."""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import stat
import struct
import subprocess

import pytest

import compare
import worker as worker_module
from helpers import differences, eventually, mounted, needs_root, tree
from worker import CALLER, PYTHON, PYTHONS, SANITIZED, WORKER, Worker, identity, order, root, workers

PYTHON_313 = next((p for p in PYTHONS if p.endswith("python3.13")), None)
LATER = {"search": {"dirs": [], "managedFirst": False}}


def claim_order(root, name, python=PYTHON, caller=CALLER, replaces=None, **options):
    fields = {"name": name, "entry": name + "~1", "path": str(root / name),
              "caller": caller, **LATER,
              "options": {"withoutPip": True, "systemSitePackages": False, "copies": False,
                          "withoutScmIgnoreFiles": False, "prompt": None, "python": [python]} | options}
    return fields | ({"replaces": replaces} if replaces else {})


def bring(root, miss, **fields):
    """The long order that a claim asks for."""
    wanted = dict(miss["order"])
    more = {"linkMode": "auto"} | ({"count": 4} if wanted["op"] == "fill" else {})
    answer, _ = order(root, wanted.pop("op"), **wanted, **(more | fields))
    assert "error" not in answer, answer
    return answer


def reserve(root, resident, name, **fields):
    """Claims until an entry is taken: its frame."""
    for _ in range(6):
        resident.send("claim", **claim_order(root, name, **fields))
        message = resident.receive()
        if "miss" not in message:
            return message
        assert message["miss"] != "place", message
        bring(root, message)
    raise AssertionError(message)


def go(resident, reserved, yes=True):
    resident.send_raw({"id": reserved["id"], "go": yes})
    answer, frames = resident.until_done()
    assert frames == []
    return answer


def claim(root, resident, name, **fields):
    reserved = reserve(root, resident, name, **fields)
    assert reserved.get("frame") == "reserved", reserved
    answer = go(resident, reserved)
    assert "error" not in answer, answer
    return answer["environment"]


def ready(root, **fields):
    """Interpreter, image and entries are there: the bucket's fill order."""
    resident = Worker(root, "resident")
    reserved = reserve(root, resident, "ready", **fields)
    go(resident, reserved, False)
    resident.close()
    shutil.rmtree(root / ".venvd/stage/ready~1")
    return reserved["order"]


def listed(path):
    return sorted(os.listdir(path)) if path.exists() else []


def entries(root):
    return {bucket: len(os.listdir(root / ".venvd/pool" / bucket))
            for bucket in listed(root / ".venvd/pool") if bucket != "CACHEDIR.TAG"}


def by_venv(python, path, umask, *options):
    """What the interpreter's own venv makes there."""
    subprocess.run([python, "-m", "venv", *options, path], check=True, umask=umask, cwd="/",
                   stdin=subprocess.DEVNULL)


def unlike_venv(python, path, umask, aside, *options):
    """How what is at path differs from what venv makes there, but for what links bring along. path is free then."""
    path.rename(aside)
    by_venv(python, path, umask, *options)
    version = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True)
    interpreter = compare.Interpreter(python, tuple(map(int, version.stdout.split())), "cpython")
    found = compare.compare(interpreter, path, path, aside).differences
    shutil.rmtree(path)
    return found


@pytest.fixture(scope="session")
def with_pip(tmp_path_factory):
    """A root whose image has pip."""
    path = tmp_path_factory.mktemp("claims") / "root"
    for name in ("", ".venvd", ".venvd/stage", ".venvd/trash"):
        (path / name).mkdir()
    ready(path, withoutPip=False)
    return path


# --- the same result ---

CASES = [(PYTHON, 0o002, {}), (PYTHON, 0o077, {"prompt": "it's \"p\" $x", "systemSitePackages": True}),
         pytest.param(PYTHON_313, 0o077, {}, marks=pytest.mark.everywhere)]


@pytest.mark.slow
@pytest.mark.parametrize("python,umask,options", CASES)
def test_equals_venv(with_pip, tmp_path, python, umask, options):
    if python is None:
        pytest.skip("no Python 3.13")
    resident = Worker(with_pip, "resident")
    path = with_pip / "same"
    found = claim(with_pip, resident, "same", python=python, withoutPip=False,
                  caller=CALLER | {"umask": umask}, **options)
    assert resident.close() == (0, "")
    assert found["kind"] == "environment" and "problem" not in found and found["pip"] is True
    assert {k: found[k] for k in identity(path)} == identity(path)
    pip = subprocess.run([path / "bin/pip", "--version"], capture_output=True, text=True)
    assert pip.returncode == 0 and str(path) in pip.stdout
    stale = subprocess.run([path / "bin/python", "-v", "-c", "import pip._internal.cli.main"],
                           capture_output=True, text=True).stderr
    assert "bytecode is stale" not in stale and f"matches {path}" in stale
    words = ["--prompt", options["prompt"], "--system-site-packages"] if options else []
    assert unlike_venv(python, path, umask, tmp_path / "ours", *words) == []


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize("options,words", [
    ({"copies": True}, ["--copies"]), ({"withoutScmIgnoreFiles": True}, None), ({"prompt": "."}, ["--prompt", "."])])
def test_equals_venv_without_pip(root, tmp_path, workers, umask, options, words):
    python = PYTHON
    if words is None:
        python, words = PYTHON_313, ["--without-scm-ignore-files"]
        if python is None or umask != 0o022:
            pytest.skip("once, with Python 3.13")
    found = claim(root, workers("resident"), "e", python=python, caller=CALLER | {"umask": umask}, **options)
    assert found["pip"] is False and found["executable"] == "bin/python"
    assert unlike_venv(python, root / "e", umask, tmp_path / "ours", "--without-pip", *words) == []


def test_linked_and_never_linked(with_pip):
    resident = Worker(with_pip, "resident")
    claim(with_pip, resident, "links", withoutPip=False)
    resident.close()
    linked = 0
    for path in (with_pip / "links").rglob("*"):
        st = path.lstat()
        if stat.S_ISREG(st.st_mode) and st.st_nlink > 1:
            linked += 1
            assert st.st_size > 0 and path.suffix not in (".pth", ".egg-link") and path.name != "RECORD"
            assert stat.S_IMODE(st.st_mode) in (0o444, 0o555)
            assert "lib" in path.relative_to(with_pip / "links").parts[:1]
    assert linked > 500 or not linked
    shutil.rmtree(with_pip / "links")


# --- the order itself ---

def test_misses_say_what_brings_it(root, workers):
    resident = workers("resident")
    for expected, keys in (("interpreter", {"search", "python", "probeMs", "caller"}),
                           ("image", {"python", "withoutPip", "probeMs", "caller"}),
                           ("entry", {"image", "bucket", "umask", "copies", "verify"})):
        answer, frames = resident.ask("claim", **claim_order(root, "e"))
        assert (answer["miss"], frames) == (expected, []), answer
        assert set(answer["order"]) == keys | {"op"} and answer["key"]
        assert listed(root / ".venvd/stage") == []
        again, _ = resident.ask("claim", **claim_order(root, "f"))
        assert again["key"] == answer["key"]
        bring(root, answer)
    reserved = reserve(root, resident, "e")
    assert reserved["bucket"] == reserved["image"] + "~022" and reserved["left"] == 3
    assert reserved["interpreter"]["path"] == PYTHON and reserved["interpreter"]["state"] == "usable"
    assert reserved["order"] == answer["order"] and "warnings" not in reserved
    place = root / ".venvd/stage/e~1"
    assert {k: reserved[k] for k in identity(place)} == identity(place)
    assert listed(root) == [".venvd"]
    answer = go(resident, reserved)
    assert answer["environment"]["name"] == "e" and (root / "e/bin/activate").exists()
    assert listed(root / ".venvd/stage") == [] and entries(root) == {reserved["bucket"]: 3}


def test_entries_that_come_meanwhile_count(root, workers):
    resident = workers("resident")
    first = reserve(root, resident, "a")
    bring(root, first)
    second = reserve(root, resident, "b")
    assert (first["left"], second["left"]) == (3, 6)
    for reserved in (first, second):
        go(resident, reserved)


@pytest.mark.parametrize("why", ["SOURCE_DATE_EPOCH", "PYTHONPYCACHEPREFIX", "PYTHONOPTIMIZE", "clear", "upgrade",
                                 "upgradeDeps", "setgid", "umask", "colon"])
def test_what_must_be_made_in_place(root, workers, why):
    ready(root)
    caller, name, options = dict(CALLER), "e", {}
    if why.isupper():
        caller["environment"] = {why: "1"}
    elif why == "setgid":
        root.chmod(0o2755)
    elif why == "umask":
        caller["umask"] = 0o277
    elif why != "colon":
        options = {why: True}
    wanted = claim_order(root, name, caller=caller, **options)
    if why == "colon":
        wanted["path"] = str(root / "a:b/e")
    answer, frames = workers("resident").ask("claim", **wanted)
    assert (answer["miss"], frames) == ("place", []) and answer["reason"], answer
    assert listed(root / ".venvd/stage") == []


def test_what_cannot_be_resolved_is_asked_for(root, workers):
    answer, _ = workers("resident").ask("claim", **claim_order(root, "e", python="/nonexistent/python"))
    assert answer["miss"] == "interpreter"


def test_no_go(root, workers):
    resident = workers("resident")
    answer = go(resident, reserve(root, resident, "e"), False)
    assert answer["error"] == "io.venvd.Cancelled"
    assert listed(root) == [".venvd"] and listed(root / ".venvd/stage") == ["e~1"]
    answer, _ = resident.ask("claim", **claim_order(root, "e"))
    assert answer["error"] == "io.venvd.Failed"     # stage/ENTRY is there


def test_a_message_for_nobody_is_passed_over(root, workers):
    resident = workers("resident")
    resident.send_raw({"id": 77, "go": True})
    assert claim(root, resident, "e")["kind"] == "environment"


def test_already_exists(root, workers):
    resident = workers("resident")
    reserved = reserve(root, resident, "e")
    (root / "e").mkdir()
    answer = go(resident, reserved)
    assert (answer["error"], answer["parameters"]) == ("io.venvd.AlreadyExists", {"name": "e"})
    assert listed(root / "e") == [] and listed(root / ".venvd/stage") == ["e~1"]
    wanted = claim_order(root, "e") | {"entry": "e~2"}
    answer, _ = resident.ask("claim", **wanted)
    assert answer["error"] == "io.venvd.AlreadyExists"
    assert listed(root / ".venvd/stage") == ["e~1"]


def test_others_go_on_while_one_waits(root, workers):
    resident = workers("resident")
    first = reserve(root, resident, "a")
    second = reserve(root, resident, "b")
    answer = go(resident, second)
    assert answer["id"] == second["id"] and (root / "b").exists() and not (root / "a").exists()
    answer, _ = resident.ask("discard", name="x", entry="x~1", ino=1, btime=0)
    assert "error" not in answer
    assert "error" not in go(resident, first)


def test_no_claim_survives_its_daemon(root):
    resident = Worker(root, "resident")
    reserve(root, resident, "e")
    assert resident.close() == (0, "")
    assert listed(root) == [".venvd"] and listed(root / ".venvd/stage") == ["e~1"]


# --- recreate ---

def replacing(root, name):
    return {**identity(root / name), "trash": name + "~t", "record": {"name": name, "id": "x" * 16}}


def test_replaces(root, workers):
    resident = workers("resident")
    old = claim(root, resident, "e")
    (root / "e/mine").write_text("x")
    new = claim(root, resident, "e", replaces=replacing(root, "e"))
    assert new["ino"] != old["ino"] and new["ino"] == (root / "e").stat().st_ino
    entry = root / ".venvd/trash/e~t"
    assert json.loads((entry / "record.json").read_text())["id"] == "x" * 16
    assert (entry / "tree/mine").read_text() == "x" and not (root / "e/mine").exists()


def test_replaces_another_or_nothing(root, workers):
    resident = workers("resident")
    claim(root, resident, "e")
    wanted = replacing(root, "e")
    for wrong in (wanted | {"ino": 1}, wanted | {"btime": 1}):
        answer, _ = resident.ask("claim", **claim_order(root, "e", replaces=wrong))
        assert answer["error"] == "io.venvd.NoSuchEnvironment"
    reserved = reserve(root, resident, "e", replaces=wanted)
    (root / "e").rename(root / "f")
    assert go(resident, reserved)["error"] == "io.venvd.NoSuchEnvironment"
    assert listed(root / ".venvd/trash") == [] and listed(root) == [".venvd", "f"]


def digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")


def test_an_entry_that_a_power_cut_brought_back(with_pip):
    """Its rename out of the pool is lost, but what a claim has written over its files is not."""
    resident = Worker(with_pip, "resident")
    claim(with_pip, resident, "n0000", withoutPip=False)
    script = (with_pip / "n0000/bin/pip").read_bytes()
    fill = ready(with_pip, withoutPip=False)
    bring(with_pip, {"order": fill})
    records = list((with_pip / ".venvd/pool" / fill["bucket"]).glob("*/lib/*/site-packages/pip-*/RECORD"))
    blank = records[0].read_bytes()
    at = blank.index(b"bin/pip,sha256=") + len(b"bin/pip,sha256=")
    # One whose digest begins as the blank's, but not as that of the claim before.
    name = next(n for n in (f"n{i:04}" for i in range(2, 9999))
                if digest(script.replace(b"n0000", n.encode()))[:1] == blank[at:at + 1])
    for record in records:
        record.write_bytes(blank[:at] + (b"A" if blank[at:at + 1] != b"A" else b"B") + blank[at + 1:])
    claim(with_pip, resident, name, withoutPip=False)
    assert resident.close() == (0, "")
    made = next((with_pip / name).glob("lib/*/site-packages/pip-*/RECORD")).read_bytes()
    row = b"../../../bin/pip,sha256=%s,%d" % (digest((with_pip / name / "bin/pip").read_bytes()), len(script))
    assert row in made.splitlines()


def test_an_entry_that_came_back_with_files_of_another_length(with_pip):
    """As on btrfs, where a file that was made anew, or became longer, and was synced is there without the rename."""
    resident = Worker(with_pip, "resident")
    claim(with_pip, resident, "n1", withoutPip=False)
    fill = ready(with_pip, withoutPip=False)
    bring(with_pip, {"order": fill})
    for entry in (with_pip / ".venvd/pool" / fill["bucket"]).iterdir():
        for name in ("pyvenv.cfg", "bin/activate", "bin/pip"):
            file = entry / name
            file.write_bytes(file.read_bytes() + b"what another claim had written behind it\n" * 20)
        [record] = entry.glob("lib/*/site-packages/pip-*/RECORD")
        content = record.read_bytes()
        record.write_bytes(content[:200] + b"longer" + content[200:])
    claim(with_pip, resident, "n2", withoutPip=False)
    assert resident.close() == (0, "")
    one, two = with_pip / "n1", with_pip / "n2"
    for name in ("pyvenv.cfg", "bin/activate", "bin/pip"):
        assert (two / name).read_bytes() == (one / name).read_bytes().replace(b"n1", b"n2"), name
    [first] = one.glob("lib/*/site-packages/pip-*/RECORD")
    [second] = two.glob("lib/*/site-packages/pip-*/RECORD")
    assert len(second.read_bytes()) == len(first.read_bytes())
    row = b"../../../bin/pip,sha256=%s,%d" % (digest((two / "bin/pip").read_bytes()), (two / "bin/pip").stat().st_size)
    assert row in second.read_bytes().splitlines()


@pytest.mark.parametrize("what", ["file", "fifo", "link"])
def test_what_is_no_entry_is_passed_over(root, workers, tmp_path, what):
    """It goes away, and what a link leads to is not touched."""
    bucket = root / ".venvd/pool" / ready(root)["bucket"]
    before = len(listed(bucket))
    (tmp_path / "outside").mkdir()
    for i in range(3):
        if what == "link":
            (bucket / f"z{i}").symlink_to(tmp_path / "outside")
        elif what == "fifo":
            os.mkfifo(bucket / f"z{i}")
        else:
            (bucket / f"z{i}").write_text("")
    resident = workers("resident")
    for i in range(before):
        claim(root, resident, f"e{i}")
    message = resident.ask("claim", **claim_order(root, "none"))[0]
    assert message["miss"] == "entry" and listed(bucket) == [] == listed(root / ".venvd/stage")
    assert listed(tmp_path / "outside") == []


def test_an_interpreter_that_was_away_for_a_moment(root, workers, tmp_path):
    """An upgrade, say: what was so for one claim is not for the next."""
    python = tmp_path / "there/bin/python3"
    python.parent.mkdir(parents=True)
    python.symlink_to(os.path.realpath(PYTHON))
    resident = workers("resident")
    reserved = reserve(root, resident, "a", python=str(python), copies=True)
    python.parent.rename(tmp_path / "away")
    answer = go(resident, reserved)
    assert answer["error"] == "io.venvd.InterpreterFailed" and "is gone" in answer["parameters"]["reason"]
    shutil.rmtree(root / ".venvd/stage/a~1")
    (tmp_path / "away").rename(python.parent)
    claim(root, resident, "a", python=str(python), copies=True)


# --- an image that is not what it was ---

@pytest.mark.parametrize("how", ["content", "times", "gone", "manifest"])
def test_damaged_image(with_pip, tmp_path, how):
    """On a copy: a root of its own with an image of its own."""
    root = tmp_path / "root"
    for name in ("", ".venvd", ".venvd/stage", ".venvd/trash"):
        (root / name).mkdir()
    fill = ready(root)
    fill.pop("op")
    image = root / ".venvd/images" / fill["image"]
    victim = next(p for p in sorted((image / "tree").rglob("*")) if p.is_file())
    verify = False
    if how == "content":
        st = victim.stat()
        victim.chmod(0o600)
        victim.write_bytes(b"#" * st.st_size)
        os.utime(victim, ns=(st.st_atime_ns, st.st_mtime_ns))
        victim.chmod(stat.S_IMODE(st.st_mode))
        verify = True
    elif how == "times":
        os.utime(victim)
    elif how == "gone":
        victim.unlink()
    else:
        (image / "manifest.json").write_text("{")
    worker = Worker(root)
    answer, _ = worker.ask("fill", **fill | {"verify": verify, "linkMode": "auto", "count": 1})
    status, words = worker.close()
    assert answer["damaged"] and status == 0
    assert not image.exists()
    # Whether or not the daemon lives to have them removed: the next image of this key must not find them.
    assert entries(root) == {} and listed(root / ".venvd/stage") == []
    resident = Worker(root, "resident")
    answer, _ = resident.ask("claim", **claim_order(root, "e"))
    assert answer["miss"] == "image"
    bring(root, answer)
    answer, _ = resident.ask("claim", **claim_order(root, "e"))
    assert answer["miss"] == "entry"
    resident.close()


# --- file systems ---

def test_copies_where_links_cannot_be(with_pip, tmp_path):
    fill = ready(with_pip, withoutPip=False)
    fill.pop("op")
    golden = with_pip / ".venvd/images" / fill["image"] / "tree"
    before = entries(with_pip)[fill["bucket"]]
    with mounted(golden / "lib", "--bind", str(golden / "lib")):
        worker = Worker(with_pip)
        answer, _ = worker.ask("fill", **fill | {"linkMode": "auto", "count": 1})
        worker.close()
    if answer.get("how") == "reflink":
        pytest.skip("reflinks cross mounts")
    assert answer["how"] == "copy" and answer["bytes"] > 5_000_000
    bucket = with_pip / ".venvd/pool" / fill["bucket"]
    assert len(os.listdir(bucket)) == before + 1
    new = max(bucket.iterdir(), key=lambda p: p.stat().st_ctime_ns)
    for path in new.rglob("*.py"):
        assert path.stat().st_mtime_ns == (golden / path.relative_to(new)).stat().st_mtime_ns
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.slow
def test_a_file_with_as_many_links_as_can_be(with_pip, tmp_path):
    fill = ready(with_pip, withoutPip=False)
    fill.pop("op")
    victim = next((with_pip / ".venvd/images" / fill["image"] / "tree").rglob("pip/__init__.py"))
    links = with_pip / "links"
    links.mkdir()
    try:
        for i in range(65000):
            os.link(victim, links / str(i))
        pytest.skip("this file system has no such limit")
    except OSError:
        pass
    try:
        answer, _ = order(with_pip, "fill", **fill | {"linkMode": "hardlink", "count": 1})
        assert answer["how"] == "hardlink", answer
    finally:
        shutil.rmtree(links)
    bucket = with_pip / ".venvd/pool" / fill["bucket"]
    new = max(bucket.iterdir(), key=lambda p: p.stat().st_ctime_ns)
    copy = next(new.rglob("pip/__init__.py"))
    assert copy.stat().st_nlink == 1 and copy.read_bytes() == victim.read_bytes()
    assert copy.stat().st_mtime_ns == victim.stat().st_mtime_ns


@pytest.mark.slow
def test_reflinks(tmp_path):
    if not shutil.which("mkfs.xfs"):
        pytest.skip("no mkfs.xfs")
    disk, root = tmp_path / "disk", tmp_path / "root"
    root.mkdir()
    with open(disk, "wb") as file:
        file.truncate(400 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", disk], check=True)
    with mounted(root, "-o", "loop", str(disk)):
        for name in (".venvd", ".venvd/stage", ".venvd/trash"):
            (root / name).mkdir()
        fill = ready(root, withoutPip=False)
        fill.pop("op")
        answer, _ = order(root, "fill", **fill | {"linkMode": "auto", "count": 1})
        assert answer["how"] == "reflink" and answer["bytes"] < 1_000_000
        resident = Worker(root, "resident")
        claim(root, resident, "e", withoutPip=False)
        resident.close()
        golden = root / ".venvd/images" / fill["image"] / "tree"
        for path in (root / "e/lib").rglob("*.py"):
            st, of = path.stat(), (golden / path.relative_to(root / "e")).stat()
            assert (st.st_mtime_ns, st.st_nlink, stat.S_IMODE(st.st_mode)) == (of.st_mtime_ns, 1, 0o644)
        assert subprocess.run([root / "e/bin/pip", "--version"], capture_output=True).returncode == 0


def test_full_disk(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    with mounted(root, "-t", "tmpfs", "-o", "size=24m", "none"):
        for name in (".venvd", ".venvd/stage", ".venvd/trash"):
            (root / name).mkdir()
        fill = ready(root)
        fill.pop("op")
        before = entries(root)
        big = root / "big"
        fd = os.open(big, os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError):
            while os.write(fd, b"x" * 4096):
                pass
        os.close(fd)
        resident = Worker(root, "resident")
        # What is in the pool has its place on the disk.
        claim(root, resident, "e")
        resident.close()
        assert (root / "e/bin/activate").stat().st_size > 0
        answer, _ = order(root, "fill", **fill | {"linkMode": "copy", "count": 32})
        assert answer["error"] == "io.venvd.NoSpace"
        before[fill["bucket"]] -= 1
        assert entries(root) == before and listed(root / ".venvd/stage") == []
        big.unlink()
        answer, _ = order(root, "fill", **fill | {"linkMode": "copy", "count": 2})
        assert answer["made"] == 2


# --- the pool's care ---

def test_evict_and_scan(root):
    fill = ready(root)
    fill.pop("op")
    bucket, image = fill["bucket"], fill["image"]
    (root / ".venvd/images/half").mkdir()
    answer, frames = order(root, "scan")
    assert "error" not in answer
    pool = [f for f in frames if f["frame"] == "pool"]
    assert [p["buckets"] for p in pool] == [[{"bucket": bucket, "image": image, "entries": 3}]]
    (known,) = pool[0]["images"]
    assert known["image"] == image and known["python"] == PYTHON and known["bytes"] > 0 and known["usedAt"] > 0
    assert known["version"].startswith("3.") and "delegate" not in known
    (stage,) = [f["entries"] for f in frames if f["frame"] == "stage"]
    assert len(stage) == 1 and not (root / ".venvd/images/half").exists()
    assert (root / ".venvd/pool/CACHEDIR.TAG").exists()
    answer, _ = order(root, "evict", buckets=[{"bucket": bucket, "keep": 1}], images=[])
    assert entries(root) == {bucket: 1} and answer["removed"] > 0
    answer, _ = order(root, "evict", buckets=[{"bucket": bucket, "keep": 0}], images=[image])
    assert entries(root) == {} and listed(root / ".venvd/images") == ["CACHEDIR.TAG"]
    answer, _ = order(root, "evict", buckets=[{"bucket": bucket, "keep": 0}], images=[image])
    assert answer["removed"] == 0 and listed(root / ".venvd/stage") == stage


def test_fill_stops_with_its_daemon(with_pip):
    fill = ready(with_pip, withoutPip=False)
    fill.pop("op")
    before = entries(with_pip)
    worker = Worker(with_pip)
    worker.send("fill", **fill | {"linkMode": "copy", "count": 32})
    assert worker.close() == (0, "")
    after = entries(with_pip)
    assert after == before
    for entry in listed(with_pip / ".venvd/stage"):
        shutil.rmtree(with_pip / ".venvd/stage" / entry)


# --- crashes, and what a batch costs ---

def traced(monkeypatch, tmp_path, *words):
    """Workers run under strace with these words; its log."""
    if not shutil.which("strace") or SANITIZED:
        pytest.skip("needs strace")
    script, log = tmp_path / "traced", tmp_path / "log"
    script.write_text(f"#!/bin/sh\nexec strace -qq -o {log} {' '.join(words)} {WORKER} \"$@\"\n")
    script.chmod(0o755)
    monkeypatch.setattr(worker_module, "WORKER", script)
    return log


CHANGES = ("renameat2", "openat", "write", "sync_file_range", "fsync", "symlinkat", "sendto", "sendmsg", "unlinkat")


def one_claim(root, name):
    """Whether it was answered."""
    resident = Worker(root, "resident")
    try:
        resident.send("claim", **claim_order(root, name))
        reserved = resident.receive()
        if reserved is None or reserved.get("frame") != "reserved":
            return False
        resident.send_raw({"id": reserved["id"], "go": True})
        answer = resident.receive()
        return answer is not None and "environment" in answer
    except OSError:
        return False
    finally:
        resident.ours.close()
        resident.process.wait(30)
        resident.process.stderr.close()


def test_killed_at_any_call(root, tmp_path, monkeypatch):
    fill = ready(root)
    fill.pop("op")
    order(root, "fill", **fill | {"linkMode": "auto", "count": 32})
    log = traced(monkeypatch, tmp_path, "-e", "trace=" + ",".join(CHANGES))
    assert one_claim(root, "e")
    complete = tree(root / "e")
    shutil.rmtree(root / "e")
    calls = [line.split("(")[0] for line in log.read_text().splitlines()]
    points = [(call, n) for call in CHANGES for n in range(1, calls.count(call) + 1)]
    assert len(points) > 20
    for call, n in points:
        monkeypatch.undo()
        if sum(entries(root).values()) < 2:
            order(root, "fill", **fill | {"linkMode": "auto", "count": 32})
        traced(monkeypatch, tmp_path, "-e", f"inject={call}:signal=KILL:when={n}")
        answered = one_claim(root, "e")
        assert not answered or (root / "e").exists()
        if (root / "e").exists():
            assert differences(tree(root / "e"), complete) == [], (call, n)
            shutil.rmtree(root / "e")
        assert set(listed(root)) <= {".venvd"} and set(listed(root / ".venvd/stage")) <= {"e~1"}
        shutil.rmtree(root / ".venvd/stage/e~1", ignore_errors=True)


def test_fill_killed_at_any_call(root, tmp_path, monkeypatch):
    fill = ready(root)
    fill.pop("op")
    bucket = root / ".venvd/pool" / fill["bucket"]
    complete = tree(next(bucket.iterdir()))
    log = traced(monkeypatch, tmp_path, "-e", "trace=" + ",".join((*CHANGES, "mkdirat", "syncfs")))
    order(root, "fill", **fill | {"linkMode": "copy", "count": 2})
    calls = [line.split("(")[0] for line in log.read_text().splitlines()]
    for call in ("renameat2", "mkdirat", "openat", "symlinkat", "syncfs", "fsync"):
        for n in range(1, calls.count(call) + 1):
            monkeypatch.undo()
            traced(monkeypatch, tmp_path, "-e", f"inject={call}:signal=KILL:when={n}")
            worker = Worker(root)
            with contextlib.suppress(BrokenPipeError):      # it may be dead before it could read
                worker.send("fill", **fill | {"linkMode": "copy", "count": 2})
            worker.process.wait(30)
            worker.close()
            for entry in bucket.iterdir():
                assert differences(tree(entry), complete) == [], (call, n)
            for left in (*bucket.iterdir(), *(root / ".venvd/stage").iterdir()):
                shutil.rmtree(left)


def test_old_one_is_put_back(root, tmp_path, monkeypatch):
    ready(root)
    resident = Worker(root, "resident")
    claim(root, resident, "e")
    resident.close()
    old = identity(root / "e")
    traced(monkeypatch, tmp_path, "-e", "inject=renameat2:error=EIO:when=3")
    resident = Worker(root, "resident")
    answer = go(resident, reserve(root, resident, "e", replaces=replacing(root, "e")))
    resident.close()
    assert answer["error"] == "io.venvd.Failed"
    assert identity(root / "e") == old and listed(root / ".venvd/trash") == []
    assert listed(root / ".venvd/stage") == ["e~1"]


@pytest.mark.parametrize("call", ["fsync", "sync_file_range"])
def test_lost_pages_are_told(root, tmp_path, monkeypatch, call):
    ready(root)
    log = traced(monkeypatch, tmp_path, "-e", f"trace={call}")
    assert one_claim(root, "e")
    count = log.read_text().count(call + "(")
    shutil.rmtree(root / "e")
    monkeypatch.undo()
    traced(monkeypatch, tmp_path, "-e", f"inject={call}:error=EIO:when={count}")
    resident = Worker(root, "resident")
    answer = go(resident, reserve(root, resident, "e"))
    resident.close()
    assert answer.get("syncFailed") is True or (call == "sync_file_range" and "fsync" in log.read_text())


@needs_root
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_file_system_that_goes_before_the_sync(tmp_path, monkeypatch, kind):
    """An xfs that was shut down says of a directory that it is synced."""
    if not shutil.which("mkfs." + kind):
        pytest.skip(f"no mkfs.{kind}")
    disk, root = tmp_path / "disk", tmp_path / "root"
    root.mkdir()
    with open(disk, "wb") as file:
        file.truncate(400 << 20)
    subprocess.run(["mkfs." + kind, "-q", disk], check=True)
    with mounted(root, "-o", "loop", str(disk)):
        for name in (".venvd", ".venvd/stage", ".venvd/trash"):
            (root / name).mkdir()
        ready(root)
        traced(monkeypatch, tmp_path, "-e", "inject=fsync:delay_enter=3000000")
        resident = Worker(root, "resident")
        reserved = reserve(root, resident, "e")
        resident.send_raw({"id": reserved["id"], "go": True})
        eventually((root / "e").exists)
        fd = os.open(root, os.O_RDONLY)
        fcntl.ioctl(fd, 0x8004587D, struct.pack("I", 2))        # _IOR('X', 125, u32): shut down, the log as it is
        os.close(fd)
        answer, _ = resident.until_done()
        resident.close()
    assert answer.get("syncFailed") is True, answer


def test_a_batch_shares_its_sync(root, tmp_path, monkeypatch):
    fill = ready(root)
    fill.pop("op")
    for _ in range(2):
        order(root, "fill", **fill | {"linkMode": "auto", "count": 32})
    log = traced(monkeypatch, tmp_path, "-e", "trace=fsync,recvfrom")
    resident = Worker(root, "resident")
    resident.ours.sendall(b"".join(
        json.dumps({"id": i, "op": "claim", **claim_order(root, f"e{i}")}).encode() + b"\0" for i in range(64)))
    assert sorted(resident.receive()["id"] for _ in range(64)) == list(range(64))
    resident.ours.sendall(b"".join(json.dumps({"id": i, "go": True}).encode() + b"\0" for i in range(64)))
    answers = [resident.receive() for _ in range(64)]
    assert resident.close()[0] == 0
    assert all(a["environment"]["kind"] == "environment" for a in answers)
    assert log.read_text().count("fsync(4)") <= 3
