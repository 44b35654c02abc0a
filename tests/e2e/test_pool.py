# SPDX-License-Identifier: MIT
"""Creation from what is prepared: images, the pool, what a claim waits for, and what a crash leaves of one."""
import contextlib
import os
import signal
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest

from conftest import Closed, VarlinkError, interpreters
from helpers import children, eventually, rebuilt_python, wait_gone
import wire

PYTHON = "/usr/bin/python3"
KEEP = {"VENVD_POOL": ""}       # conftest.py says 0: no test needs a pool unless it says so


def pooled(start, root, *options, entries=8, initial=2, **kwargs):
    return start(root, "-o", f"pool-entries={entries}", "-o", f"pool-initial={initial}", *options, env=KEEP, **kwargs)


def create(c, name, **fields):
    return c.call("Create", **{"name": name, "python": PYTHON, "withoutPip": True} | fields)["environment"]


def stages(c, name, **fields):
    said = list(c.stream("Create", **{"name": name, "python": PYTHON, "withoutPip": True} | fields))
    assert said[-1]["environment"]["state"] == "ready"
    return [reply["stage"] for reply in said[:-1]]


def image(c):
    """The one image without pip: Status tells of it."""
    images = [i for i in c.call("Status").get("images", []) if "pip" not in i["key"].split("-")]
    return images[0] if images else {"pool": 0}


def until_pool(c, count):
    eventually(lambda: image(c)["pool"] == count and c.call("Status")["jobsRunning"] == 0)


def works(path):
    subprocess.run([path / "bin/python", "-c", "import sys; assert sys.prefix == sys.argv[1]", path], check=True)


def rows(root, sql, *values):
    with contextlib.closing(sqlite3.connect(root / ".venvd/catalog.db")) as db, db:
        return db.execute(sql, values).fetchall()


def stage_is_empty(root):
    return os.listdir(root / ".venvd/stage") == []


@pytest.fixture
def prepared(start, tmp_path):
    """A root that has an image, without pip, and nothing else: so no daemon begins another one at its start."""
    path = tmp_path / "envs"
    daemon = start(path)
    with daemon.connect() as c:
        create(c, "seed")
    daemon.call("Delete", name="seed", now=True)
    assert daemon.stop() == 0
    return path


# --- the way of a creation ---

@pytest.mark.slow
def test_first_and_later(start, root):
    """The daemon begins the default interpreter's image, with pip; this one asks for another. The first one brings what is missing, and says so; the second takes what is there, and says nothing."""
    daemon = pooled(start, root)
    with daemon.connect() as c:
        assert [s for s in stages(c, "a") if s != "interpreter"] == ["image", "fill"]   # the daemon may know it by then
        until_pool(c, 2)
        assert stages(c, "b") == []
        until_pool(c, 2)
        found = image(c)
        assert found["interpreter"] == PYTHON and found["version"].startswith("3.")
        assert c.call("Status")["linkMode"] == "auto"   # without pip there is nothing to link
        for name in "ab":
            works(root / name)
            assert daemon.environments()[name]["options"] == {"python": [PYTHON], "withoutPip": True}
    assert stage_is_empty(root)


def test_no_pool(start, root):
    """With pool-entries 0 (VENVD_POOL=0) an entry is made when one is asked for, and none is kept."""
    daemon = start(root)
    with daemon.connect() as c:
        eventually(lambda: c.call("Status")["jobsRunning"] == 0)
        assert c.call("Status")["images"] == []
        assert stages(c, "a") == ["interpreter", "image", "fill"]
        assert stages(c, "b") == ["fill"]
        assert image(c)["pool"] == 0 and c.call("Status")["jobsQueued"] == 0


def test_after_a_restart_the_pool_is_warm(start, prepared):
    daemon = pooled(start, prepared)
    with daemon.connect() as c:
        create(c, "a")
        until_pool(c, 2)
    assert daemon.stop() == 0
    daemon = pooled(start, prepared)
    with daemon.connect() as c:
        assert image(c)["pool"] == 2
        until_pool(c, 2)
        assert stages(c, "b") == []


def test_less_is_kept_than_before(start, prepared):
    daemon = pooled(start, prepared, initial=4)
    with daemon.connect() as c:
        create(c, "a")
        until_pool(c, 4)
    assert daemon.stop() == 0
    daemon = start(prepared)
    with daemon.connect() as c:
        until_pool(c, 0)
        eventually(lambda: not any(p.is_dir() and list(p.iterdir()) for p in (prepared / ".venvd/pool").iterdir()))


def together(daemon, count, name="e"):
    """So many clients at once; nothing fails."""
    failures = []

    def one(i):
        try:
            with daemon.connect() as c:
                create(c, f"{name}{i}")
        except (VarlinkError, AssertionError, OSError) as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_target_follows_the_demand(start, prepared):
    """Whenever a claim finds nothing, twice as many are kept; never more than pool-entries."""
    daemon = pooled(start, prepared, entries=5, initial=1)
    kept = []
    with daemon.connect() as c:
        create(c, "a")
        until_pool(c, 1)
        for turn in range(20):
            together(daemon, 12, f"t{turn}-")
            eventually(lambda: c.call("Status")["jobsRunning"] + c.call("Status")["jobsQueued"] == 0)
            kept.append(image(c)["pool"])
            if kept[-1] == 5:
                break
        assert kept[-1] == 5 == max(kept)


@pytest.mark.parametrize("count", [1, 24])
def test_many_at_once(start, prepared, count):
    """One order for each thing that is missing, however many wait for it."""
    daemon = pooled(start, prepared)
    together(daemon, count)
    assert {e["state"] for e in daemon.environments().values()} == {"ready"}
    assert len([p for p in (prepared / ".venvd/images").iterdir() if p.is_dir()]) == 1
    works(prepared / f"e{count - 1}")


def test_the_default_interpreter_is_prepared_at_the_start(start, root):
    daemon = pooled(start, root)
    with daemon.connect() as c:
        eventually(lambda: len(c.call("Status")["images"]) == 1 and c.call("Status")["jobsRunning"] == 0)
        assert c.call("Status")["images"][0]["pool"] == 0


@pytest.mark.slow
def test_another_spelling_of_what_is_being_prepared(start, root):
    """The default interpreter's image is begun at the start; who asks for it under another name waits for it."""
    other = os.path.realpath(PYTHON)
    daemon = start(root, env=KEEP | {"PATH": "/usr/bin:/bin"})
    with daemon.connect() as c:
        eventually(lambda: len(list((root / ".venvd/stage").glob("*.lock"))) == 1)
        assert create(c, "a", python=other, withoutPip=False)["state"] == "ready"
        eventually(lambda: c.call("Status")["jobsRunning"] == 0)
        assert len(c.call("Status")["images"]) == 1
    works(root / "a")


# --- what goes wrong ---

def test_a_damaged_image_is_made_anew(start, prepared):
    daemon = pooled(start, prepared)
    with daemon.connect() as c:
        create(c, "a")
        until_pool(c, 2)
        assert daemon.stop() == 0
    victim = next(p for p in (prepared / ".venvd/images").glob("*/tree/bin/*") if p.is_file())
    content = victim.read_bytes()
    victim.unlink()
    daemon = pooled(start, prepared)
    with daemon.connect() as c:
        for i in range(3):
            create(c, f"b{i}")
            works(prepared / f"b{i}")
        eventually(lambda: "damaged" in daemon.log())
        eventually(lambda: image(c)["pool"] >= 2)
        create(c, "c")
        assert (prepared / "c/bin" / victim.name).read_bytes() == content


def test_cancelled_while_the_image_is_made(start, root, tmp_path):
    """Who alone waits for it takes it along; the name is free at once."""
    gate = wire.Gate(tmp_path / "gate")
    python = wire.fake_python(tmp_path / "python", probe=gate.hold)
    daemon = start(root)
    c = daemon.connect()
    c.send("Create", {"name": "a", "python": str(python), "withoutPip": True})
    gate.wait()
    assert daemon.environments()["a"]["state"] == "creating"
    c.close()
    eventually(lambda: daemon.environments() == {})
    eventually(lambda: daemon.call("Status")["jobsRunning"] == 0)
    assert stage_is_empty(root)


def test_one_leaves_and_the_other_gets_it(start, root, tmp_path):
    gate = wire.Gate(tmp_path / "gate")
    (tmp_path / "hold").touch()
    python = wire.fake_python(tmp_path / "python", probe=f"[ ! -e '{tmp_path}/hold' ] || {gate.hold}")
    daemon = start(root)
    first, second = daemon.connect(), daemon.connect()
    first.send("Create", {"name": "a", "python": str(python), "withoutPip": True})
    gate.wait()
    second.send("Create", {"name": "b", "python": str(python), "withoutPip": True}, more=True)
    assert second.receive()["parameters"]["stage"] == "interpreter"     # now it waits, too
    first.close()
    eventually(lambda: set(daemon.environments()) == {"b"})
    (tmp_path / "hold").unlink()
    gate.go()
    reply = second.receive()
    while reply.get("continues"):
        reply = second.receive()
    assert reply["parameters"]["environment"]["state"] == "ready"
    second.close()


def long_worker(daemon):
    [pid] = [pid for pid in children(daemon.pid) if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"order\0")]
    return pid


def worker_above(daemon, pid):
    """There may be others, which sweep."""
    while (above := int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])) != daemon.pid:
        pid = above
    return pid


def test_a_long_worker_is_killed(start, root, tmp_path):
    """Its order is another one's, and what it had in the stage goes, without a new start of the daemon."""
    gate, hold = wire.Gate(tmp_path / "gate"), tmp_path / "hold"
    hold.touch()
    python = rebuilt_python(interpreters()[-1], tmp_path / "python",
                            f"import os\nif os.path.exists({str(hold)!r}):\n    open({gate.path!r}).readline()\n")
    daemon = start(root)
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": str(python)})
        gate.wait()
        worker = long_worker(daemon)
        assert any(name.startswith(f"w{worker}~") for name in os.listdir(root / ".venvd/stage"))
        hold.unlink()
        os.kill(worker, signal.SIGKILL)
        assert c.result(c.receive())["environment"]["state"] == "ready"
    eventually(lambda: stage_is_empty(root))


def test_an_order_that_kills_its_workers(start, root, tmp_path):
    """It is not given to workers without end."""
    gate, pid = wire.Gate(tmp_path / "gate"), tmp_path / "pid"
    python = wire.fake_python(tmp_path / "python", probe=f"echo $$ >'{pid}'; {gate.hold}")
    daemon = start(root)
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": str(python), "withoutPip": True})
        for _ in range(3):
            gate.wait()
            os.kill(worker_above(daemon, int(pid.read_text())), signal.SIGKILL)
            wait_gone(int(pid.read_text()))     # with this one at the gate, the next wait() would be over at once
            os.close(gate.fd)
        with pytest.raises(VarlinkError) as e:
            c.result(c.receive())
        assert e.value.name == "Failed" and "unexpectedly" in e.value.parameters["reason"]
    assert daemon.environments() == {}
    eventually(lambda: stage_is_empty(root))


def test_the_resident_worker_dies(start, prepared):
    """A claim is never given to a second one; the next claim is."""
    daemon = pooled(start, prepared, initial=4)
    with daemon.connect() as c:
        create(c, "a")
        until_pool(c, 4)
        resident = [pid for pid in children(daemon.pid)]
        assert len(resident) == 1
        os.kill(resident[0], signal.SIGSTOP)
        c.send("Create", {"name": "b", "python": PYTHON, "withoutPip": True})
        with daemon.connect() as other:
            eventually(lambda: "b" in daemon.environments())
            os.kill(resident[0], signal.SIGKILL)
            answer = c.receive()
            assert answer["error"] == "io.venvd.Failed"
            assert create(other, "b")["state"] == "ready"
    eventually(lambda: stage_is_empty(prepared))


def test_the_resident_worker_hangs(start, prepared):
    """A claim looks at paths of its caller, and one of those may lie on a mount that does not answer."""
    daemon = pooled(start, prepared, "-o", "create-timeout=1500", initial=4)
    with daemon.connect() as c, daemon.connect() as other:
        create(c, "a")
        until_pool(c, 4)
        [resident] = children(daemon.pid)
        os.kill(resident, signal.SIGSTOP)
        other.send("Delete", {"name": "a"})
        c.send("Create", {"name": "b", "python": PYTHON, "withoutPip": True})
        answer = c.receive()
        assert answer["error"] == "io.venvd.Failed" and "1.5 seconds" in answer["parameters"]["reason"]
        assert other.result(other.receive())["environment"]["state"] == "trashed"
        assert create(c, "b")["state"] == "ready"
    eventually(lambda: stage_is_empty(prepared))


def test_the_name_is_taken_on_the_disk(start, prepared):
    daemon = pooled(start, prepared)
    with daemon.connect() as c:
        create(c, "a")
        (prepared / "b").mkdir()
        with pytest.raises(VarlinkError) as e:
            create(c, "b")
        assert e.value.name == "AlreadyExists" and set(daemon.environments()) == {"a"}
        assert list((prepared / "b").iterdir()) == []


# --- request ids ---

def test_a_request_is_remembered_with_the_environment(start, prepared):
    daemon = pooled(start, prepared)
    with daemon.connect() as c:
        first = create(c, "a", requestId="r1")
        daemon.kill()
    daemon = pooled(start, prepared)
    with daemon.connect() as c:
        assert create(c, "a", requestId="r1")["id"] == first["id"]
        with pytest.raises(VarlinkError):
            create(c, "a", requestId="r2")


# --- what a crash leaves ---

def test_a_claim_that_had_its_name_stays(start, prepared):
    """The row still says 'claim': the tree is whole, for it has its name."""
    daemon = pooled(start, prepared)
    with daemon.connect() as c:
        made = create(c, "a", requestId="r")
    assert daemon.stop() == 0
    rows(prepared, "UPDATE environment SET state = 'creating', intent = 'claim' WHERE name = 'a'")
    daemon = pooled(start, prepared)
    assert daemon.environments()["a"]["state"] == "ready"
    with daemon.connect() as c:
        assert create(c, "a", requestId="r")["id"] == made["id"]
    works(prepared / "a")


def test_a_claim_without_its_name_never_was(start, prepared):
    """Nor was the request: a retry with its id is a first try."""
    daemon = pooled(start, prepared)
    with daemon.connect() as c:
        made = create(c, "a", requestId="r")
    assert daemon.stop() == 0
    rows(prepared, "UPDATE environment SET state = 'creating', intent = 'claim' WHERE name = 'a'")
    (prepared / "a").rename(prepared / ".venvd/stage/a~1~x")
    daemon = pooled(start, prepared)
    assert daemon.environments() == {}
    with daemon.connect() as c:
        again = create(c, "a", requestId="r")
        assert again["id"] != made["id"]
    eventually(lambda: stage_is_empty(prepared))
    works(prepared / "a")


@pytest.mark.slow
def test_killed_again_and_again(start, prepared):
    """Whatever was answered is there; whatever is there works; nothing is half."""
    daemon = pooled(start, prepared, entries=32, initial=16)
    with daemon.connect() as c:
        create(c, "first")
        until_pool(c, 16)
    answered = {"first"}
    for turn in range(6):
        lock = threading.Lock()

        def client(k, turn=turn, daemon=daemon, lock=lock):
            try:
                with daemon.connect() as c:
                    for i in range(100):
                        create(c, f"t{turn}-{k}-{i}")
                        with lock:
                            answered.add(f"t{turn}-{k}-{i}")
            except (VarlinkError, OSError, Closed):
                pass

        threads = [threading.Thread(target=client, args=(k,)) for k in range(8)]
        before = len(answered)
        for thread in threads:
            thread.start()
        eventually(lambda before=before, turn=turn: len(answered) > before + 7 * turn)
        daemon.kill()
        for thread in threads:
            thread.join()
        daemon = pooled(start, prepared, entries=32, initial=16)
        there = daemon.environments()
        assert {e["state"] for e in there.values()} == {"ready"}
        assert answered <= set(there)
        assert set(there) == {p.name for p in prepared.iterdir() if p.name != ".venvd"}
    for name in sorted(there)[::7]:
        works(prepared / name)
    eventually(lambda: stage_is_empty(prepared))
