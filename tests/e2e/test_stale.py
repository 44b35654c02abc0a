# SPDX-License-Identifier: MIT
"""What was seen of the root, and what has become of it by the time that it is told: operations come in between, and others
move directories to names that somebody is about to use."""
import select

import pytest

import wire
from conftest import VarlinkError
from helpers import eventually
from test_faults import idle
from test_watch import create, soon, state


def ids(daemon):
    return {name: env["id"] for name, env in daemon.environments().items()}


# --- names that are taken ---

def test_renamed_to_the_name_of_one_elsewhere(start, root, tmp_path):
    """That one has lost nothing: its directory is where it was. The other's has a name that it cannot have."""
    daemon = start(root)
    elsewhere = create(daemon, "b", path=str(tmp_path / "project"))
    daemon.call("Protect", name="b")
    inside = create(daemon, "a")
    (root / "a").rename(root / "b")
    soon(lambda: state(daemon, "a") == "missing")
    for _ in range(2):
        row = daemon.environments()["b"]
        assert (row["id"], row["path"], row["protected"]) == (elsewhere["id"], str(tmp_path / "project"), True)
        daemon.stop()
        daemon = start(root)
        assert state(daemon, "a") == "missing"
    (root / "b").rename(root / "a")
    soon(lambda: state(daemon, "a") == "ready")
    assert ids(daemon) == {"a": inside["id"], "b": elsewhere["id"]}


@pytest.mark.parametrize("meanwhile", ["Clone", "Rename"])
def test_renamed_to_a_name_that_is_being_taken(start, root, tmp_path, meanwhile):
    """The look at it waits for a place; by then somebody is about to have that name."""
    gate = wire.Gate(tmp_path / "gate")
    slow = wire.fake_python(tmp_path / "slow", probe=gate.hold)
    daemon = start(root, "-o", "jobs-running=1")
    made = {name: create(daemon, name)["id"] for name in ("a", "c")}
    idle(daemon)
    with daemon.connect() as holder, daemon.connect() as c:
        holder.send("FindInterpreter", {"python": [slow]})
        gate.wait()
        (root / "a").rename(root / "b")
        eventually(lambda: daemon.call("Status")["jobsQueued"] == 1)
        c.send(meanwhile, {"name": "c", "to": "b"})
        eventually(lambda: daemon.call("Status")["jobsQueued"] == 2)
        gate.go()
        with pytest.raises(VarlinkError) as e:
            c.result(c.receive())
        assert e.value.name == "AlreadyExists"
    soon(lambda: ids(daemon) == {"b": made["a"], "c": made["c"]})
    soon(lambda: {row["state"] for row in daemon.environments().values()} == {"ready"})
