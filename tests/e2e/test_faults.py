# SPDX-License-Identifier: MIT
"""What goes wrong below the daemon: trash that somebody has touched, disks that refuse, workers that die."""
import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

import wire
from conftest import DEADLINE, Closed, Daemon, VarlinkError, interpreters
from helpers import children, differences, eventually, held, mounted, needs_root, rebuilt_python, tree

PYTHON = str(interpreters()[0])


class Traced(Daemon):
    """Under strace with these injections, of calls for `path` alone if that is given. It keeps the pipe open: what
    the daemon says ends with its line."""

    def __init__(self, root, *inject, path=None):
        self.options = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={inject[0].split(':')[0]}",
                        *(["-P", str(path)] if path else []),
                        *[word for one in inject for word in ("-e", f"inject={one}")]]
        super().__init__(root, wrapper=self.options, env={"ASAN_OPTIONS": "detect_leaks=0"})

    @staticmethod
    def _read_line(fd):
        text = b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([fd], [], [], DEADLINE)
            assert ready, "the daemon did not say that it is ready"
            text += os.read(fd, 4096)
        return text.decode()


@pytest.fixture
def traced(root):
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    daemons = []

    def starter(*inject, **kwargs):
        daemons.append(Traced(root, *inject, **kwargs))
        return daemons[-1]

    yield starter
    for daemon in daemons:
        if daemon.process.poll() is None:
            daemon.call("Shutdown")     # a signal would be strace's
            daemon.process.wait(DEADLINE)
        os.unlink(daemon.log_path)


def create(daemon, name, **parameters):
    return daemon.call("Create", name=name, python=PYTHON, withoutPip=True, **parameters)["environment"]


def fake(root, name):
    path = root / name
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").symlink_to(PYTHON)
    (path / "pyvenv.cfg").write_text(f"home = {os.path.dirname(PYTHON)}\nversion = 3.11.2\n")
    return path


def idle(daemon):
    eventually(lambda: (status := daemon.call("Status"))["jobsRunning"] + status["jobsQueued"] == 0)


def trash(root):
    path = root / ".venvd" / "trash"
    path.mkdir(parents=True, exist_ok=True)
    (root / ".venvd").chmod(0o700)
    return path


# --- trash that somebody has touched -----------------------------------------------------------

def test_trash_entry_without_a_name(start, root):
    """Its row could not be written: the daemon would abort at every start."""
    (trash(root) / "~" / "tree").mkdir(parents=True)
    daemon = start(root)
    create(daemon, "a")         # its row comes after whatever the start has written
    assert daemon.trash() == [] and (trash(root) / "~" / "tree").is_dir()


@pytest.mark.parametrize("entry", ["a~old", "a~0~0", "a~9223372036854775807~0"])
def test_trash_of_an_unknown_time_is_kept(start, root, entry):
    (trash(root) / entry / "tree").mkdir(parents=True)
    before = time.time_ns() // 1000
    daemon = start(root)
    idle(daemon)
    kept, = daemon.trash()
    assert before <= kept["deletedAt"] <= time.time_ns() // 1000 < kept["expiresAt"]
    assert (trash(root) / entry / "tree").is_dir()


def test_trash_copied_and_brought_back(start, root):
    """The same tree on other inodes, as a backup brings it, and an entry copied beside itself."""
    daemon = start(root)
    made = create(daemon, "a")
    entry = pathlib.Path(daemon.call("Delete", name="a")["environment"]["path"]).parent
    daemon.stop()
    shutil.copytree(entry, trash(root) / "copy", symlinks=True)
    shutil.rmtree(entry)
    shutil.copytree(trash(root) / "copy", entry, symlinks=True)
    daemon = start(root)
    one, other = (row["id"] for row in daemon.trash())
    assert made["id"] in (one, other) and one != other
    assert daemon.call("Restore", name="a", id=made["id"])["environment"]["state"] == "ready"
    assert daemon.call("Delete", name="a", now=True) == {}
    daemon.call("Restore", name="a")


# --- retention -----------------------------------------------------------------------------------

@needs_root
def test_what_cannot_be_purged_holds_up_nothing(start, root):
    daemon = start(root, "-o", "trash-retention=1")
    create(daemon, "a")
    create(daemon, "b")
    entry = pathlib.Path(daemon.call("Delete", name="a")["environment"]["path"]).parent
    with mounted(entry, "--bind", str(entry)):
        daemon.call("Delete", name="b")
        eventually(lambda: [row["name"] for row in daemon.trash()] == ["a"], deadline=10)


def test_an_interrupted_purge_is_finished_first(start, root):
    daemon = start(root)
    for name in ("a", "b"):
        create(daemon, name)
        daemon.call("Delete", name=name)
    daemon.stop()
    with sqlite3.connect(root / ".venvd" / "catalog.db") as db:
        db.execute("UPDATE environment SET intent = 'purge' WHERE name = 'b'")
    db.close()
    daemon = start(root)
    eventually(lambda: [row["name"] for row in daemon.trash()] == ["a"], deadline=10)


# --- the start is not bound by the clients' limits --------------------------------------------------

def test_many_empty_trash_entries(start, root):
    for i in range(300):
        (trash(root) / f"a~{i}~x").mkdir()
    fake(root, "mine")
    daemon = start(root)
    assert list(daemon.environments()) == ["mine"]
    idle(daemon)
    assert not any(trash(root).iterdir())


def test_adoption_with_a_short_queue(start, root):
    for i in range(300):
        fake(root, f"e{i}")
    daemon = start(root, "-o", "jobs-queued=1", "-o", "jobs-running=4")
    assert len(daemon.environments()) == 300


def test_a_short_queue_holds_up_nothing_of_our_own(start, root):
    """What a start looks into afterwards, and what is swept, is never refused: nobody else would do it."""
    daemon = start(root)
    fake(root, "a")
    eventually(lambda: set(daemon.environments()) == {"a"})
    daemon.stop()
    (root / ".venvd/stage/left").mkdir()
    (root / ".venvd/trash/left").mkdir()
    (root / "a/pyvenv.cfg").unlink()
    daemon = start(root, "-o", "jobs-queued=1", "-o", "jobs-running=1")
    eventually(lambda: daemon.environments()["a"]["state"] == "broken", 5)
    idle(daemon)
    assert not any((root / ".venvd/stage").iterdir()) and not any((root / ".venvd/trash").iterdir())
    for name in ("b", "c"):
        fake(root, name)
    eventually(lambda: {"b", "c"} <= set(daemon.environments()))
    idle(daemon)
    with daemon.connect() as one, daemon.connect() as other:
        def workers():
            return [pid for pid in children(daemon.pid) if b"\0order" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
        one.send("Rename", {"name": "b", "to": "x", "force": True})
        eventually(workers)
        worker, = workers()
        os.kill(worker, signal.SIGSTOP)
        other.send("Rename", {"name": "c", "to": "y", "force": True})
        eventually(lambda: daemon.call("Status")["jobsQueued"] == 1)
        os.kill(worker, signal.SIGCONT)
        assert one.result(one.receive()) and other.result(other.receive())
    idle(daemon)
    assert not any((root / ".venvd/stage").iterdir())


# --- disks that refuse, workers that die ------------------------------------------------------------

def test_a_failed_sync_ends_the_daemon_though_nobody_waits(traced):
    daemon = traced("syncfs:error=EIO:delay_enter=300000")
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": PYTHON, "withoutPip": True, "caller": wire.IN_PLACE}, more=True)
        while c.receive()["parameters"].get("stage") != "sync":
            pass
    daemon.process.wait(DEADLINE)
    assert "a sync of the root failed" in daemon.log()


def test_a_failed_sync_of_a_claim_ends_the_daemon(traced, start, root):
    """It has no answer, and the next start looks at what is there."""
    root.mkdir()
    daemon = traced("fsync:error=EIO", path=root)
    with pytest.raises(Closed):
        create(daemon, "a")
    daemon.process.wait(DEADLINE)
    assert "a sync of the root failed" in daemon.log()
    again = start(root)
    assert again.environments()["a"]["state"] == "ready"
    assert create(again, "b")["state"] == "ready"


@needs_root
def test_half_made_and_not_removable_is_never_adopted(start, root, tmp_path):
    python = rebuilt_python(PYTHON, tmp_path / "python", ensurepip=(
        "import subprocess, sys\nsubprocess.run(['chattr', '+i', sys.prefix], check=True)\nsys.exit(3)\n"))
    daemon = start(root)
    try:
        with pytest.raises(VarlinkError):
            daemon.call("Create", name="a", python=str(python), caller=wire.IN_PLACE)
        if "could not be taken away" not in daemon.log():
            pytest.skip("chattr +i does not work here")
        assert daemon.environments()["a"]["state"] == "broken"
        daemon.stop()
        daemon = start(root)
        assert daemon.environments()["a"]["state"] == "broken"
        daemon.stop()
    finally:
        subprocess.run(["chattr", "-Rf", "-i", str(root)], check=False)
    daemon = start(root)
    assert daemon.environments() == {} and not (root / "a").exists()


def test_half_recreated_and_not_removable(start, root, tmp_path):
    """The old one cannot be put back, for its name is taken: it is in the trash, and so the trash says."""
    python = rebuilt_python(PYTHON, tmp_path / "python", ensurepip=(
        "import subprocess, sys\nsubprocess.run(['chattr', '+i', sys.prefix], check=True)\nsys.exit(3)\n"))
    daemon = start(root)
    try:
        (fake(root, "a") / "bin/pip").write_text("")
        (root / "a/mine").write_text("x")
        eventually(lambda: "a" in daemon.environments())
        with pytest.raises(VarlinkError) as e:
            daemon.call("Recreate", name="a", python=str(python), caller=wire.IN_PLACE)
        if "could not be taken away" not in daemon.log():
            pytest.skip("chattr +i does not work here")
        assert e.value.parameters["reason"].endswith("; the old one is in the trash")
        assert [row["name"] for row in daemon.trash()] == ["a"]
        daemon.call("Restore", name="a", **{"as": "b"})
        assert (root / "b/mine").read_text() == "x"
        daemon.stop()
    finally:
        subprocess.run(["chattr", "-Rf", "-i", str(root)], check=False)
    daemon = start(root)
    assert set(daemon.environments()) == {"b"} and not (root / "a").exists() and daemon.trash() == []


def test_the_way_back_is_not_refused(start, root, tmp_path):
    """As many short orders wait as the daemon takes, and a creation fails: what it made goes all the same."""
    os.mkfifo(tmp_path / "gate")
    python = rebuilt_python(PYTHON, tmp_path / "python", ensurepip=f"import sys\nopen({str(tmp_path / 'gate')!r}).read()\nsys.exit(3)\n")
    daemon = start(root)
    for i in range(1100):       # LIMIT_SHORT_ORDERS
        fake(root, f"e{i}")
    eventually(lambda: len(daemon.environments()) == 1100)
    idle(daemon)
    with daemon.connect() as c, daemon.connect() as many:
        c.send("Create", {"name": "a", "python": str(python), "caller": wire.IN_PLACE})
        with open(tmp_path / "gate", "w"):      # it is being made
            resident, = [pid for pid in children(daemon.pid) if b"\0resident" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
            os.kill(resident, signal.SIGSTOP)
            for i in range(1100):
                many.send("Delete", {"name": f"e{i}"}, oneway=True)
            many.call("Status")
        eventually(lambda: daemon.call("Status")["jobsRunning"] == 0)
        os.kill(resident, signal.SIGCONT)
        with pytest.raises(VarlinkError):
            c.result(c.receive())
    assert "a" not in daemon.environments() and not (root / "a").exists()


# --- what a client can ask for -----------------------------------------------------------------------

def test_socket_option_names_the_usual_one(start, root):
    daemon = start(root, "--socket", root / ".venvd" / "io.venvd")
    assert daemon.said.startswith("ready "), daemon.said
    assert daemon.call("Status")["root"] == str(root)


def test_oneway_repeats_are_not_kept(start, root, tmp_path):
    python = rebuilt_python(PYTHON, tmp_path / "python", ensurepip="import signal\nsignal.pause()\n")
    call = {"name": "a", "python": str(python), "requestId": "x", "caller": {"path": "x" * 20000}}
    daemon = start(root, env={"ASAN_OPTIONS": "quarantine_size_mb=1"})
    with daemon.connect() as c:
        c.send("Create", call, oneway=True)
        before = c.call("Status")["memoryBytes"]
        for _ in range(2000):
            c.send("Create", call, oneway=True)
        assert c.call("Status")["memoryBytes"] - before < 32 << 20


def test_a_look_does_not_undo_what_clients_did_meanwhile(start, traced, root):
    """The look at the start is told of in batches: what it saw of a name may be over by then."""
    names = [f"e{i:02}" for i in range(30)]
    for name in names:
        fake(root, name)
    start(root).stop()
    daemon = traced("readlinkat:delay_enter=100000")    # a second for ten that are there, none for those that are not
    begin = time.monotonic()
    with daemon.connect() as c:
        for name in names[10:20]:
            c.call("Delete", name=name, force=True)     # else it would look at each process of the machine, a tenth of a second each
        while time.monotonic() < begin + 1.5 and c.call("Status")["jobsRunning"]:
            pass
        for name in names[10:20]:
            c.call("Restore", name=name)
    idle(daemon)
    assert {row["state"] for row in daemon.environments().values()} == {"ready"}


def test_a_root_that_is_not_utf8(start, tmp_path):
    """Nothing can be made there: an environment's path stands in texts. The rest works."""
    path = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    path.mkdir()
    fake(path, "a")
    daemon = start(path)
    for call in (lambda: create(daemon, "b"), lambda: daemon.call("Recreate", name="a")):
        with pytest.raises(VarlinkError) as e:
            call()
        assert e.value.name == "Unsupported" and "not UTF-8" in e.value.parameters["reason"]
    assert "caf" in daemon.call("Status")["root"]
    assert daemon.call("Delete", name="a")["environment"]["state"] == "trashed"
    assert daemon.environments() == {}
    create(daemon, "elsewhere", path=str(tmp_path / "elsewhere"))


def test_worker_dies_half_way_through_a_removal(traced, root):
    fake(root, "a")
    daemon = traced("fsync:signal=KILL")        # between the move to the stage and the removal
    assert daemon.call("Delete", name="a", now=True) == {}
    assert daemon.environments() == {} and not (root / "a").exists()
    assert not any((root / ".venvd" / "stage").iterdir())


def test_worker_dies_half_way_through_a_list_of_interpreters(traced):
    daemon = traced("fsync:signal=KILL:when=2")     # the list has its name, and is not on the disk
    assert daemon.call("AddInterpreter", path=PYTHON)["interpreter"]["added"] is True
    assert daemon.call("RemoveInterpreter", path=PYTHON) == {}


def test_a_list_of_interpreters_that_is_refused_the_disk(traced, root):
    daemon = traced("fsync:error=EIO:when=2")
    with pytest.raises(VarlinkError) as e:
        daemon.call("AddInterpreter", path=PYTHON)
    assert e.value.name == "Failed" and json.loads((root / ".venvd/interpreters/added.json").read_text()) == []


@pytest.mark.parametrize(("inject", "goes"), [("fsync:error=EIO:when=1", False), *((f"unlinkat:error=EBUSY:when={n}", True)
                                                                                   for n in (2, 3))])
def test_a_purge_elsewhere_that_is_refused_something(traced, start, root, tmp_path, inject, goes):
    """Once: what is in the trash is whole, or has gone."""
    daemon = start(root)
    create(daemon, "e", path=str(tmp_path / "e"))
    daemon.call("Delete", name="e")
    assert daemon.stop() == 0
    if goes:                                    # its record, the empty tree, the entry
        [tree] = tmp_path.glob(".e.venvd-trash/*/tree")
        shutil.rmtree(tree)
        tree.mkdir()
    daemon = traced(inject)
    if goes:
        assert daemon.call("Delete", name="e", now=True) == {} and daemon.trash() == [] and not list(tmp_path.glob(".e*"))
        return
    with pytest.raises(VarlinkError) as e:
        daemon.call("Delete", name="e", now=True)
    assert e.value.name == "Failed" and (pathlib.Path(daemon.trash()[0]["path"]) / "pyvenv.cfg").exists()


def test_killed_before_what_is_left_of_an_entry_elsewhere_has_gone(traced, start, root, tmp_path):
    """No start looks for it but for its row's sake: that is the last to be written."""
    daemon = start(root)
    create(daemon, "a")
    create(daemon, "e", path=str(tmp_path / "e"))
    daemon.call("Delete", name="e")
    daemon.kill()
    [tree] = tmp_path.glob(".e.venvd-trash/*/tree")
    tree.rename(tmp_path / "e")
    daemon = traced("unlinkat:delay_enter=5000000", path=tree.parent)
    daemon.call("Protect", name="a")            # all rows that there are by now are on the disk with this one
    pid = daemon.call("Status")["pid"]
    for one in (pid, *children(pid)):
        os.kill(one, signal.SIGKILL)
    daemon.process.wait(DEADLINE)
    daemon = start(root)
    assert daemon.environments()["e"]["state"] == "ready"
    eventually(lambda: not list(tmp_path.glob(".e*")))


@pytest.mark.slow
def test_sigterm_ends_a_purge_in_time(start, root):
    daemon = start(root)
    tree = trash(root) / "a~5~x" / "tree"
    for i in range(100):
        (tree / str(i)).mkdir(parents=True)
        for j in range(1000):
            os.symlink("x", tree / str(i) / str(j))
    with daemon.connect() as c:
        c.call("Shutdown", purge=True)
    before = time.monotonic()
    assert daemon.stop() == 0 and time.monotonic() - before < 2


def test_an_end_while_the_trash_is_emptied(start, root):
    """Nothing has failed: whoever asks the next daemon gets the rest of it done."""
    now = time.time_ns() // 1000
    for i in range(3):
        for j in range(20):
            (path := trash(root) / f"a{i}~{now}~x/tree/{j}").mkdir(parents=True)
            for k in range(1000):
                os.symlink("x", path / str(k))
    daemon = start(root)
    assert len(daemon.trash()) == 3
    idle(daemon)
    with daemon.connect() as c:
        c.send("EmptyTrash")
        eventually(lambda: any(b"\0order" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(daemon.pid)))
        daemon.process.send_signal(signal.SIGTERM)
        with pytest.raises(VarlinkError) as e:
            c.result(c.receive())
        assert e.value.name == "ShuttingDown"
    daemon.process.wait(DEADLINE)


def test_who_asks_the_next_daemon_hears_that_it_is_gone(start, root):
    """Ended in the middle of a removal for good: the next start goes on with it, and the same request has the answer."""
    daemon = start(root)
    tree = fake(root, "a") / "tree"
    for i in range(40):
        (tree / str(i)).mkdir(parents=True)
        for j in range(1000):
            os.symlink("x", tree / str(i) / str(j))
    eventually(lambda: "a" in daemon.environments())
    with daemon.connect() as c:
        c.send("Delete", {"name": "a", "now": True, "requestId": "1"})
        eventually(lambda: not (root / "a").exists())
        daemon.process.send_signal(signal.SIGTERM)
        with pytest.raises(VarlinkError) as e:
            c.result(c.receive())
        assert e.value.name == "ShuttingDown"
    daemon.process.wait(DEADLINE)
    daemon = start(root)
    assert daemon.call("Delete", name="a", now=True, requestId="1") == {}
    with pytest.raises(VarlinkError) as e:
        daemon.call("Delete", name="a", now=True, requestId="2")
    assert e.value.name == "NoSuchEnvironment"


def test_a_request_id_is_remembered_when_it_is_answered(start, root):
    for i in range(8):
        call = {"name": f"a{i}", "python": PYTHON, "withoutPip": True, "requestId": f"r{i}"}
        daemon = start(root)
        with daemon.connect() as c:
            made = c.call("Create", **call)["environment"]["id"]
        daemon.kill()
        daemon = start(root)
        assert daemon.call("Create", **call)["environment"]["id"] == made
        assert daemon.stop() == 0


def test_who_asks_again_for_the_end_does_not_spoil_it(start, root):
    daemon = start(root)
    daemon.call("Shutdown")
    assert daemon.stop() == 0       # by a signal, while it puts its things away


@pytest.mark.parametrize("call", ["inotify_init1:error=EMFILE", "inotify_add_watch:error=ENOSPC"])
def test_without_a_watch(traced, call):
    """So many are there for each user. What others do is seen by the next start, and the log says why."""
    daemon = traced(call)
    assert "the root is not watched" in daemon.log()
    create(daemon, "a")
    daemon.call("Delete", name="a")


def test_what_is_being_removed_for_good_is_said_so(traced, root):
    """It is in no list any more, and neither restored nor removed once more."""
    root.mkdir()
    fake(root, "a")
    daemon = traced("unlinkat:delay_enter=1000000:when=1")
    daemon.call("Delete", name="a")
    with daemon.connect() as c:
        c.send("EmptyTrash", {})
        eventually(lambda: any(held(child) for child in children(daemon.call("Status")["pid"])))
        for method, more in (("Delete", {"now": True}), ("Restore", {})):
            with pytest.raises(VarlinkError) as e:
                daemon.call(method, name="a", **more)
            assert e.value.name == "Busy" and e.value.parameters["reason"] == "it is being removed for good"
        assert c.result(c.receive()) == {"removed": 1}


def test_a_look_for_lost_events_whose_worker_dies(traced, root):
    """Nobody else tells what has happened meanwhile: the root is looked through once more."""
    root.mkdir()
    daemon = traced("getdents64:delay_enter=1000000:when=1", path=root)
    pid = daemon.call("Status")["pid"]
    os.kill(pid, signal.SIGSTOP)
    for i in range(4200):           # LIMIT_WATCHED_NAMES
        (root / f"d{i}").mkdir()
    fake(root, "a")
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: any(held(child) for child in children(pid)))
    for child in children(pid):
        if held(child):
            os.kill(child, signal.SIGKILL)
    eventually(lambda: set(daemon.environments()) == {"a"}, 15)


def workers_in(root):
    """Of a daemon that is not ready yet."""
    for fd in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(fd) == str(root) and b"venvd-worker" in (fd.parents[1] / "cmdline").read_bytes():
                yield int(fd.parents[1].name)


def test_another_one_has_its_name_before_the_start_has_looked(traced, start, root, tmp_path):
    """What was seen there is a stranger, and what is looked into is a known one: neither is the one of that name, made anew."""
    daemon = start(root)
    made = {name: create(daemon, name)["id"] for name in ("a", "b")}
    daemon.stop()
    (root / "a").rename(tmp_path / "away")
    fake(tmp_path, "stranger").rename(root / "a")

    def change():
        eventually(lambda: any(held(worker) for worker in workers_in(root)))
        (root / "a").rename(tmp_path / "stranger")
        (root / "b").rename(root / "a")

    changing = threading.Thread(target=change)
    changing.start()
    daemon = traced("openat:delay_enter=2000000:when=1", path="a")
    changing.join()
    eventually(lambda: {name: row["id"] for name, row in daemon.environments().items()} == {"a": made["b"]}, 15)
    (tmp_path / "away").rename(root / "c")
    eventually(lambda: {name: row["id"] for name, row in daemon.environments().items()} == {"a": made["b"], "c": made["a"]}, 15)


class Contained(Daemon):
    """The first process of a namespace of its own; unshare keeps the pipe open."""
    _read_line = staticmethod(Traced._read_line)

    def __init__(self, root):
        super().__init__(root, wrapper=["unshare", "-p", "-f", "--mount-proc", "--kill-child"])


@needs_root
def test_the_first_process_of_a_container(root):
    """Whoever has lost his parent there comes to us: that is no leftover of a worker."""
    daemon = Contained(root)
    if not daemon.said.startswith("ready 1\n"):
        pytest.skip("no namespace of processes here")
    first, = children(daemon.pid)
    inside = ["nsenter", "-t", str(first), "-p", "-m", "sh", "-c"]

    def orphans():
        return [pid for pid in children(first) if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\0001000\0"]
    try:
        subprocess.run([*inside, "sleep 1000 & exit"], check=True, stdin=subprocess.DEVNULL, close_fds=True)
        eventually(orphans)
        orphan, = orphans()
        fake(root, "a")
        eventually(lambda: "a" in daemon.environments())
        for pid in set(children(first)) - {orphan}:
            os.kill(pid, signal.SIGKILL)    # a worker
        subprocess.run([*inside, "sleep 0 & exit"], check=True, stdin=subprocess.DEVNULL)
        eventually(lambda: "was killed by signal 9" in daemon.log())
        daemon.call("Delete", name="a")
        assert orphan in children(first)
        daemon.call("Shutdown")
        assert daemon.process.wait(DEADLINE) == 0
    finally:
        daemon.process.kill()
        os.unlink(daemon.log_path)


# --- request ids -------------------------------------------------------------------------------

def test_the_newest_is_remembered_whatever_the_clock_says(start, root):
    """It was wrong by a month, and many ids are from then: those of now are newer for all that."""
    start(root).stop()
    with sqlite3.connect(root / ".venvd/catalog.db") as db:
        db.execute("""WITH RECURSIVE t(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM t WHERE i < 65535)
            INSERT INTO request SELECT 'r' || i, 'io.venvd.Delete', '0123456789abcdef', '', NULL, NULL, ? + i FROM t""",
                   (time.time_ns() // 1000 + 30 * 24 * 3600 * 10**6,))
    db.close()
    daemon = start(root)
    made = create(daemon, "a", requestId="1")
    for i in range(3):
        daemon.call("Protect", name="a", protected=i % 2 == 0, requestId=f"p{i}")
    daemon.call("Protect", name="a", protected=False)
    daemon.stop()
    daemon = start(root)
    assert create(daemon, "a", requestId="1") == made


def test_an_interrupted_rename_forgets_no_earlier_one(start, traced, root):
    """It had no id: the one before it, which had, is answered as before."""
    daemon = start(root)
    made = create(daemon, "a")
    daemon.call("Rename", name="a", to="b", requestId="1")
    daemon.stop()
    daemon = traced("renameat2:delay_enter=3000000")
    pid = daemon.call("Status")["pid"]
    with daemon.connect() as c:
        c.send("Rename", {"name": "b", "to": "c"})
        eventually(lambda: any(held(child) for child in children(pid)))     # the row has the new name
        os.kill(pid, signal.SIGSTOP)
        for child in children(pid):
            os.kill(child, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
    daemon.process.wait(DEADLINE)
    daemon = start(root)
    assert "an interrupted rename of 'b' to 'c' was taken back" in daemon.log()
    row = daemon.environments()["b"]
    assert row["id"] == made["id"]
    assert daemon.call("Rename", name="a", to="b", requestId="1")["environment"] == row


def test_half_a_look_takes_no_interrupted_rename_away(start, traced, root):
    """What it has kept in the stage is what takes it back, at the next start that sees everything."""
    daemon = start(root)
    create(daemon, "a")
    before = tree(root / "a")
    daemon.stop()
    daemon = traced("renameat2:delay_enter=3000000:when=3")
    pid = daemon.call("Status")["pid"]
    with daemon.connect() as c:
        c.send("Rename", {"name": "a", "to": "b"})
        eventually(lambda: any(held(child) for child in children(pid)))     # some files have changed places
        os.kill(pid, signal.SIGSTOP)
        for child in children(pid):
            os.kill(child, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
    daemon.process.wait(DEADLINE)
    assert tree(root / "a") != before
    daemon = traced("getdents64:error=EIO:when=2+", path=root / ".venvd/stage")
    assert "the root could not be looked through" in daemon.log()
    idle(daemon)
    daemon.call("Shutdown")
    daemon.process.wait(DEADLINE)
    daemon = start(root)
    assert "an interrupted rename of 'a' to 'b' was taken back" in daemon.log()
    assert not differences(tree(root / "a"), before)


# --- the end -----------------------------------------------------------------------------------

def test_who_waits_for_a_look_begins_nothing_at_the_end(start, root):
    """It is told that the daemon ends, and nothing holds up the end."""
    daemon = start(root)
    create(daemon, "a")
    idle(daemon)
    resident, = children(daemon.pid)
    os.kill(resident, signal.SIGSTOP)
    with daemon.connect() as c:
        shutil.rmtree(root / "a")
        c.send("Create", {"name": "a", "python": PYTHON, "caller": wire.IN_PLACE})
        daemon.call("Status")
        daemon.process.send_signal(signal.SIGTERM)
        eventually(lambda: not os.path.exists(daemon.socket_path))
        os.kill(resident, signal.SIGCONT)
        with pytest.raises(VarlinkError) as e:
            c.result(c.receive())
        assert e.value.name == "ShuttingDown"
    assert daemon.process.wait(DEADLINE) == 0
    assert "work under way" not in daemon.log() and not (root / "a").exists()


def test_ended_while_a_commit_hangs(start, traced, root):
    """The disk takes longer than the end waits: what the commit was for is answered all the same, and nothing is touched
    that is gone by then."""
    daemon = start(root)
    create(daemon, "a")
    daemon.stop()
    daemon = traced("fdatasync:delay_enter=2000000", path=root / ".venvd/catalog.db-wal")
    with daemon.connect() as c, daemon.connect() as other:
        pid = other.call("Status")["pid"]
        c.send("Protect", {"name": "a"})
        other.call("Status")
        os.kill(pid, 15)
        assert c.result(c.receive())["environment"]["protected"] is True
    assert daemon.process.wait(DEADLINE) == 0
    assert "ending with work under way" in daemon.log() and "Sanitizer" not in daemon.log(), daemon.log()
