# SPDX-License-Identifier: MIT
"""What others do in the root is in the list within a second, by one watch on the root."""
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from conftest import VarlinkError, interpreters
from helpers import children, eventually, needs_root, rebuilt_python, tree

PYTHON = str(interpreters()[0])
NEWEST = str(interpreters()[-1])
SOON = 10       # seconds: a loaded machine; it takes some milliseconds


def create(daemon, name, **parameters):
    return daemon.call("Create", name=name, python=PYTHON, withoutPip=True, **parameters)["environment"]


def soon(condition):
    eventually(condition, SOON)


def state(daemon, name):
    env = daemon.environments().get(name)
    return env and env["state"]


def by_hand(path, *options, python=PYTHON):
    subprocess.run([python, "-m", "venv", "--without-pip", *options, str(path)], check=True)


# --- made, removed, renamed ---

def test_made_by_others(daemon, root):
    by_hand(root / "a")
    soon(lambda: state(daemon, "a") == "ready")
    assert daemon.environments()["a"]["origin"] == "adopted"
    subprocess.run([sys.executable, "-m", "virtualenv", "-q", "--no-download", "--no-seed", root / "b"], check=True)
    soon(lambda: state(daemon, "b") == "ready" and daemon.environments()["b"]["creator"] == "virtualenv")
    before = tree(root / "a", mtimes=True)
    shutil.copytree(root / "a", root / "copy", symlinks=True)
    soon(lambda: state(daemon, "copy") == "ready")
    assert tree(root / "a", mtimes=True) == before
    rows = daemon.environments()
    assert len({row["id"] for row in rows.values()}) == 3
    (root / "link").symlink_to(root / "a")
    soon(lambda: state(daemon, "link") == "foreign")
    (root / "link").unlink()
    soon(lambda: state(daemon, "link") is None)
    (root / "a file").write_text("")
    (root / ".hidden").mkdir()
    by_hand(root / "last")
    soon(lambda: state(daemon, "last") == "ready")
    assert set(daemon.environments()) == {"a", "b", "copy", "last"}


def test_slowly_made(daemon, root):
    """A directory that is no environment yet is looked at again."""
    (root / "slow").mkdir()
    time.sleep(0.3)         # the first look has been, and the second: what the test is about
    assert state(daemon, "slow") is None
    by_hand(root / "slow")
    soon(lambda: state(daemon, "slow") == "ready")


def test_slowly_made_while_others_begin(daemon, root):
    """Each new directory has its own five looks, at their own times."""
    (root / "slow").mkdir()
    for i in range(10):
        (root / f"other{i}").mkdir()
        time.sleep(0.25)    # as a host does on which many make something: what the test is about
    by_hand(root / "slow")
    soon(lambda: state(daemon, "slow") == "ready")


def test_removed_and_put_back(daemon, root, tmp_path):
    made = create(daemon, "a")
    (root / "a").rename(tmp_path / "away")
    soon(lambda: state(daemon, "a") == "missing")
    (tmp_path / "away").rename(root / "a")
    soon(lambda: daemon.environments()["a"] == made)
    shutil.rmtree(root / "a")
    soon(lambda: state(daemon, "a") == "missing")
    by_hand(root / "a")
    soon(lambda: state(daemon, "a") == "ready")
    assert daemon.environments()["a"]["id"] != made["id"]


def test_removed_and_made_again_at_once(daemon, root):
    """No moment in between in which it exists already."""
    for _ in range(30):
        create(daemon, "a")
        shutil.rmtree(root / "a")
    by_hand(root / "b")
    shutil.rmtree(root / "b")
    create(daemon, "b")
    for name in ("a", "b"):
        with pytest.raises(VarlinkError) as e:
            create(daemon, name)
            create(daemon, name)
        assert e.value.name == "AlreadyExists"


def test_a_name_that_is_free_since_a_moment(daemon, root, tmp_path):
    """Whoever asks for one waits until it has been looked at, not Create alone."""
    create(daemon, "a")
    create(daemon, "trashed")
    daemon.call("Delete", name="trashed")
    for method, parameters in (("Clone", {"name": "a", "to": "x"}), ("Rename", {"name": "a", "to": "x"}),
                               ("Restore", {"name": "trashed", "as": "x"}), ("Restore", {"name": "trashed"}),
                               ("Adopt", {"name": "x", "path": str(tmp_path / "there")})):
        name = parameters["name"] if method == "Restore" and len(parameters) == 1 else "x"
        if method == "Adopt":
            by_hand(tmp_path / "there")
        create(daemon, name)
        shutil.rmtree(root / name)
        with daemon.connect() as c:
            assert c.call(method, **parameters)["environment"]["name"] == name
        daemon.call("Delete", name=name)
        if method == "Rename":
            create(daemon, "a")
        if method == "Restore":
            daemon.call("Restore", name=name, **({"as": "trashed"} if name == "x" else {}))
            daemon.call("Delete", name="trashed")


def test_one_that_is_back_since_a_moment(daemon, root, tmp_path):
    """Who deletes it does not only forget that it was missing."""
    create(daemon, "a")
    for _ in range(5):
        (root / "a").rename(tmp_path / "away")
        soon(lambda: state(daemon, "a") == "missing")
        with daemon.connect() as c:
            (tmp_path / "away").rename(root / "a")
            assert c.call("Delete", name="a")["environment"]["state"] == "trashed"
        assert not (root / "a").exists()
        daemon.call("Restore", name="a")


def test_renamed(daemon, root):
    made = {name: create(daemon, name) for name in ("a", "b", "c")}
    daemon.call("Protect", name="a")
    by_hand(root / "c", "--upgrade")
    (root / "a").rename(root / "x")
    soon(lambda: daemon.environments().get("x", {}).get("id") == made["a"]["id"])
    assert daemon.environments()["x"]["protected"] is True and state(daemon, "a") is None
    (root / "b").rename(root / "tmp")
    (root / "c").rename(root / "b")
    (root / "tmp").rename(root / "c")
    soon(lambda: {n: e["id"] for n, e in daemon.environments().items()} == {
        "x": made["a"]["id"], "b": made["c"]["id"], "c": made["b"]["id"]})
    assert daemon.call("Delete", name="b")["environment"]["id"] == made["c"]["id"]


def test_made_anew_by_others(daemon, root, tmp_path):
    """uv venv --clear makes another directory, virtualenv and venv work in the one that is there: the same environment."""
    uv = pathlib.Path(sys.executable).parent / "uv"
    made = create(daemon, "a", prompt="x")
    daemon.call("Protect", name="a")
    by_hand(root / "a")
    subprocess.run([sys.executable, "-m", "virtualenv", "-q", "--no-download", "--no-seed", root / "a"], check=True)
    time.sleep(0.1)         # nothing is seen of it: the root has not changed
    assert daemon.environments()["a"]["id"] == made["id"]
    if not uv.exists():
        pytest.skip("no uv in the test environment")
    (root / "a/of-the-old-one").write_text("")
    subprocess.run([uv, "venv", "-q", "--clear", "-p", NEWEST, root / "a"], check=True,
                   env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "cache")})
    soon(lambda: daemon.environments()["a"]["creator"] == "uv")
    row = daemon.environments()["a"]
    assert (row["id"], row["protected"], row["origin"], row["state"]) == (made["id"], True, "adopted", "ready")
    assert "options" not in row and row.get("prompt") != "x"
    assert not (root / "a/of-the-old-one").exists()
    with pytest.raises(VarlinkError) as e:
        daemon.call("Delete", name="a")
    assert e.value.name == "Protected"
    daemon.call("Protect", name="a", protected=False)
    assert daemon.call("Delete", name="a")["environment"]["id"] == made["id"]
    assert daemon.call("Restore", name="a")["environment"]["state"] == "ready"


def test_what_we_do_ourselves_is_nothing_new(daemon, root):
    """Nothing is adopted or missing because of it, however much of it there is."""
    for i in range(30):
        create(daemon, f"e{i}")
        if i % 3 == 0:
            daemon.call("Delete", name=f"e{i}")
        if i % 3 == 1:
            daemon.call("Rename", name=f"e{i}", to=f"f{i}")
    by_hand(root / "last")
    soon(lambda: state(daemon, "last") == "ready")
    rows = daemon.environments()
    assert len(rows) == 21 and {r["state"] for r in rows.values()} == {"ready"}
    assert {r["origin"] for n, r in rows.items() if n != "last"} == {"created"}
    log = daemon.log()
    assert log.count("adopted") == 1 and "missing" not in log and "another directory" not in log


def test_while_it_is_busy(daemon, root, tmp_path):
    """A directory put at a name that is being deleted waits for the end of that."""
    for _ in range(20):
        create(daemon, "a")
        with daemon.connect() as c:
            c.send("Delete", {"name": "a"})
            try:
                (root / "a").rename(tmp_path / "away")
            except FileNotFoundError:
                pass
            c.receive()
        soon(lambda: state(daemon, "a") in (None, "missing"))
        shutil.rmtree(tmp_path / "away", ignore_errors=True)


def test_many_at_once(daemon, root):
    """More than the kernel's queue holds: then the whole root is looked through."""
    limit = int(pathlib.Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    made = create(daemon, "a")
    os.kill(daemon.pid, 19)         # SIGSTOP: nobody reads the queue
    try:
        for _ in range(limit // 2 + 100):
            (root / "d").mkdir()
            (root / "d").rmdir()
        (root / "a").rename(root / "b")
        by_hand(root / "c")
    finally:
        os.kill(daemon.pid, 18)
    soon(lambda: set(daemon.environments()) == {"b", "c"})
    assert daemon.environments()["b"]["id"] == made["id"]
    assert "events were lost" in daemon.log()


def test_back_while_events_are_lost(daemon, root, tmp_path):
    made = create(daemon, "a")
    (root / "a").rename(tmp_path / "away")
    soon(lambda: state(daemon, "a") == "missing")
    os.kill(daemon.pid, 19)
    try:
        (tmp_path / "away").rename(root / "a")
        for i in range(4200):       # LIMIT_WATCHED_NAMES
            (root / f"d{i}").mkdir()
    finally:
        os.kill(daemon.pid, 18)
    soon(lambda: daemon.environments() == {"a": made})
    assert "events were lost" in daemon.log()


def test_more_names_than_are_kept(daemon, root):
    os.kill(daemon.pid, 19)
    try:
        for i in range(4200):       # LIMIT_WATCHED_NAMES
            (root / f"d{i}").mkdir()
        by_hand(root / "c")
    finally:
        os.kill(daemon.pid, 18)
    soon(lambda: set(daemon.environments()) == {"c"})


def watches(daemon):
    count = 0
    for fd in pathlib.Path(f"/proc/{daemon.pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):    # it is closed by now
            count += fd.read_text().count("inotify wd:")
    return count


def test_one_watch(daemon, root):
    """Not one for each environment; one for each directory of base interpreters, and those above."""
    create(daemon, "e0")
    before = watches(daemon)
    assert 2 <= before < 2 + len(pathlib.Path(PYTHON).resolve().parents)
    for i in range(1, 10):
        create(daemon, f"e{i}")
    assert watches(daemon) == before
    eventually(lambda: len(children(daemon.pid)) <= 1)


@pytest.mark.parametrize("name", ["a", "b"])
def test_taken_out_of_the_trash_by_hand(daemon, root, name):
    """As a restore does it, under whatever name."""
    made = create(daemon, "a")
    daemon.call("Delete", name="a")
    entry, = (root / ".venvd" / "trash").iterdir()
    (entry / "tree").rename(root / name)
    soon(lambda: state(daemon, name) == "ready")
    assert daemon.environments() == {name: made | {key: made[key].replace(f"{root}/a", f"{root}/{name}") for key in ("path", "executable")}
                                     | {"name": name}}
    assert daemon.trash() == []
    daemon.call("Delete", name=name)
    assert daemon.call("Restore", name=name)["environment"]["id"] == made["id"]


# --- base interpreters ---

def test_a_base_is_removed(daemon, root, tmp_path):
    python = rebuilt_python(NEWEST, tmp_path / "python")
    create_with = {"python": str(python), "withoutPip": True}
    for name in ("a", "b"):
        daemon.call("Create", name=name, **create_with)
    daemon.call("Create", name="e", path=str(tmp_path / "elsewhere"), **create_with)
    create(daemon, "other")
    python.rename(tmp_path / "away")
    soon(lambda: [state(daemon, n) for n in ("a", "b", "e", "other")] == ["broken", "broken", "broken", "ready"])
    assert "problem" in daemon.environments()["a"]
    (tmp_path / "away").rename(python)
    soon(lambda: [state(daemon, n) for n in ("a", "b", "e", "other")] == ["ready"] * 4)
    shutil.rmtree(tmp_path / "python")
    soon(lambda: [state(daemon, n) for n in ("a", "b", "e", "other")] == ["broken", "broken", "broken", "ready"])


def test_a_base_that_comes_back(start, root, tmp_path):
    """Its directory was removed, one above it renamed, and both made again: known to the daemon, and to the next one."""
    top = tmp_path / "versions"
    python = rebuilt_python(NEWEST, top / "3")
    daemon = start(root)
    daemon.call("Create", name="a", python=str(python), withoutPip=True)
    create(daemon, "other")

    def both(wanted):
        soon(lambda: [state(daemon, n) for n in ("a", "other")] == [wanted, "ready"])
    for _ in range(2):
        (top / "3").rename(top / "away")
        both("broken")
        (top / "away").rename(top / "3")
        both("ready")
        top.rename(tmp_path / "away")
        both("broken")
        (tmp_path / "away").rename(top)
        both("ready")
    shutil.copytree(top / "3", tmp_path / "copy", symlinks=True)
    shutil.rmtree(top)
    both("broken")
    before = watches(daemon)
    for i in range(3):                  # the nearest above it sees others come and go
        (tmp_path / f"x{i}").mkdir()
    top.mkdir()
    shutil.copytree(tmp_path / "copy", top / "3", symlinks=True)
    both("ready")
    shutil.rmtree(top)
    both("broken")
    assert watches(daemon) == before
    daemon.stop()
    daemon = start(root)
    both("broken")
    top.mkdir()
    (tmp_path / "copy").rename(top / "3")
    both("ready")


def test_more_bases_than_are_watched(daemon, root, tmp_path):
    """LIMIT_WATCHED_BASES is 64: the others are looked at when they are asked for, and nothing breaks."""
    for i in range(70):
        (tmp_path / f"b{i}").mkdir()
        (tmp_path / f"b{i}" / pathlib.Path(NEWEST).name).symlink_to(NEWEST)
        (root / "new").mkdir()
        (root / "new/bin").mkdir()
        (root / "new/bin/python").symlink_to(tmp_path / f"b{i}" / pathlib.Path(NEWEST).name)
        (root / "new/pyvenv.cfg").write_text(f"home = {tmp_path}/b{i}\n")
        (root / "new").rename(root / f"e{i}")
    soon(lambda: [e["state"] for e in daemon.environments().values()] == ["ready"] * 70)
    for i in range(70):
        shutil.rmtree(tmp_path / f"b{i}")
    soon(lambda: sum(e["state"] == "broken" for e in daemon.environments().values()) >= 64)
    assert sum(e["state"] == "broken" for e in daemon.environments().values()) == 64


def test_bases_that_nobody_uses_any_more(daemon, root, tmp_path):
    """They make room: who makes an interpreter for each job has soon had more than are watched."""
    def adopted(name):
        (tmp_path / name).mkdir()
        python = tmp_path / name / pathlib.Path(NEWEST).name
        python.symlink_to(NEWEST)
        (root / "new/bin").mkdir(parents=True)
        (root / "new/bin/python").symlink_to(python)
        (root / "new/pyvenv.cfg").write_text(f"home = {tmp_path}/{name}\n")
        (root / "new").rename(root / name)
    for i in range(64):         # LIMIT_WATCHED_BASES
        adopted(f"e{i}")
    soon(lambda: [e["state"] for e in daemon.environments().values()] == ["ready"] * 64)
    for i in range(1, 64):
        shutil.rmtree(root / f"e{i}")
    soon(lambda: sum(e["state"] == "missing" for e in daemon.environments().values()) == 63)
    adopted("last")
    soon(lambda: state(daemon, "last") == "ready")
    for name in ("e0", "last"):
        shutil.rmtree(tmp_path / name)
        soon(lambda name=name: state(daemon, name) == "broken")


# --- the root ---

def test_the_root_is_moved(daemon, root):
    """Nothing is changed in what is not at its path, nothing is lost, and when it is back all goes on."""
    made = create(daemon, "a")
    away = root.parent / "away"
    root.rename(away)
    for method, parameters in (("Create", {"name": "b"}), ("Delete", {"name": "a"})):
        with pytest.raises(VarlinkError) as e:
            with connect(away) as c:
                c.call(method, **parameters)
        assert e.value.name == "RootUnavailable"
    away.rename(root)
    assert daemon.environments() == {"a": made}
    by_hand(root / "b")
    soon(lambda: state(daemon, "b") == "ready")
    assert daemon.call("Delete", name="a")["environment"]["state"] == "trashed"


@pytest.mark.parametrize("how", ["all of it", "our own", "our own, moved"])
def test_the_root_is_removed(start, root, how):
    """Nobody reaches a daemon whose socket is gone, and nothing that it says is kept: it does not stay for ever."""
    daemon = start(root)
    create(daemon, "a")
    if how == "our own, moved":
        (root / ".venvd").rename(root / "aside")
    else:
        path = root if how == "all of it" else root / ".venvd"
        eventually(lambda: shutil.rmtree(path, ignore_errors=True) or not path.exists())    # something may be made in it yet
    assert daemon.process.wait(SOON) == 0
    assert "was taken away" in daemon.log()
    second = start(root)
    assert set(second.environments()) == (set() if how == "all of it" else {"a"})
    second.stop()


def connect(root):
    from conftest import Connection
    return Connection(str(root / ".venvd" / "io.venvd"))


@needs_root
def test_the_root_is_unmounted_and_mounted_again(start, tmp_path):
    """As of a disk that was pulled out: nothing is deleted, nothing is changed elsewhere, and with the disk all goes on."""
    if not shutil.which("mkfs.ext4"):
        pytest.skip("no mkfs.ext4")
    disk, root = tmp_path / "disk", tmp_path / "envs"
    root.mkdir()
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    done = subprocess.run(["losetup", "--show", "-f", disk], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    device = done.stdout.strip()
    try:
        subprocess.run(["mount", device, root], check=True)
        root.chmod(0o700)
        daemon = start(root)
        made = create(daemon, "a")
        with daemon.connect() as c:
            # What still uses the disk keeps it from being unmounted for good; who insists gets it away.
            subprocess.run(["umount", "-l", root], check=True)
            for method, parameters in (("Create", {"name": "b"}), ("Delete", {"name": "a"}), ("Rename", {"name": "a", "to": "b"})):
                with pytest.raises(VarlinkError) as e:
                    c.call(method, **parameters)
                assert e.value.name == "RootUnavailable", e.value
            by_hand(root / "beside")        # in what lies under the mount
            subprocess.run(["mount", "-t", "tmpfs", "none", root], check=True)
            with pytest.raises(VarlinkError) as e:
                c.call("Create", name="b")
            assert e.value.name == "RootUnavailable"
            subprocess.run(["umount", root], check=True)
            subprocess.run(["mount", device, root], check=True)
        assert daemon.environments() == {"a": made}
        by_hand(root / "c")
        soon(lambda: state(daemon, "c") == "ready")
        assert daemon.call("Delete", name="a")["environment"]["state"] == "trashed"
        assert [e["name"] for e in daemon.trash()] == ["a"]
        daemon.stop()
        subprocess.run(["umount", root], check=True)
        subprocess.run(["mount", device, root], check=True)
        daemon = start(root)
        assert [e["name"] for e in daemon.trash()] == ["a"] and set(daemon.environments()) == {"c"}
        daemon.stop()
    finally:
        subprocess.run(["umount", "-l", root], capture_output=True)
        subprocess.run(["losetup", "-d", device], capture_output=True)
    assert sorted(p.name for p in root.iterdir()) == ["beside"]


def test_swapped_by_way_of_somewhere_else(daemon, root):
    """In three steps, of which the daemon sees each; both are what they were."""
    create(daemon, "c")
    create(daemon, "d")
    before = {name: row["id"] for name, row in daemon.environments().items()}
    (root / "c").rename(root / ".c")
    soon(lambda: state(daemon, "c") == "missing")
    (root / "d").rename(root / "c")
    soon(lambda: daemon.environments()["c"]["id"] == before["d"])
    (root / ".c").rename(root / "d")
    soon(lambda: state(daemon, "d") == "ready")
    assert {name: row["id"] for name, row in daemon.environments().items()} == {"c": before["d"], "d": before["c"]}
