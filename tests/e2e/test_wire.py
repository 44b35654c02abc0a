# SPDX-License-Identifier: MIT
"""The wire: framing, the header's freedoms, order, `more`, `oneway`, half-close, cancelling, request ids,
introspection, and what the reading methods answer. Every reply is held against the description (wire.Checked)."""
import fnmatch
import json
import os
import select
import socket
import time

import pytest

import wire
from conftest import TOP, VarlinkError

STATUS = b'{"method":"io.venvd.Status"}'
SERVICE = "org.varlink.service."


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A daemon whose environments nobody changes: `alpha`, `beta`, a broken and a foreign one."""
    root = tmp_path_factory.mktemp("wire") / "envs"
    root.mkdir()
    wire.fake_environment(root, "alpha", prompt="Alpha ü")
    wire.fake_environment(root, "beta", version="3.12.1")
    (wire.fake_environment(root, "broken") / "bin" / "python").unlink()
    (root / "linked").symlink_to(root / "alpha")
    with wire.running(root, "-o", "connections=4096") as daemon:
        yield daemon


@pytest.fixture
def c(shared):
    with shared.connect() as connection:
        yield connection


@pytest.fixture
def daemon(root):
    root.mkdir()
    with wire.running(root, "-o", "jobs-running=4") as started:
        yield started


@pytest.fixture
def python(tmp_path):
    return wire.fake_python(tmp_path / "python-fake")


@pytest.fixture
def slow(tmp_path):
    """An interpreter that waits at a gate while it is asked what it is."""
    gate = wire.Gate(tmp_path / "gate")
    gate.python = wire.fake_python(tmp_path / "python-slow", probe=gate.hold)
    yield gate
    if gate.fd >= 0:
        os.close(gate.fd)


@pytest.fixture
def building(tmp_path):
    """An interpreter that waits at a gate while it makes the environment."""
    gate = wire.Gate(tmp_path / "gate-build")
    gate.python = wire.fake_python(tmp_path / "python-building", build=gate.hold)
    yield gate
    if gate.fd >= 0:
        os.close(gate.fd)


def killed(gate):
    """Waits until the script at the gate is gone."""
    poll = select.poll()
    poll.register(gate.fd, 0)
    assert poll.poll(60000)


def error(connection, method, **parameters):
    with pytest.raises(VarlinkError) as caught:
        connection.call(method, **parameters)
    return caught.value.error, caught.value.parameters


def names_of(rows):
    return [row["environment"]["name"] for row in rows if row]


# --- framing and the header ---

@pytest.mark.parametrize("tail", ["", ',"parameters":null', ',"parameters":{}'], ids=["absent", "null", "empty"])
def test_parameters_may_be_left_out(c, tail):
    reply = c.ask(b'{"method":"io.venvd.Status"' + tail.encode() + b"}\0")
    assert reply["parameters"]["pid"] > 0


@pytest.mark.parametrize("text", [
    b'\n\t {"method":"io.venvd.Status"}\r\n \0',
    b'{ "method" : "io.venvd.Status" ,\n "more" : false , "parameters" : { } }\0',
    b'{"method":"io.venvd.Status","more":false,"oneway":false,"upgrade":false}\0',
    b'{"parameters":{},"method":"io.venvd.Status"}\0',
    b'{"method":"io.venvd.Sta\\u0074us"}\0',
    b'{"method":"io.venvd.Status","com.example.trace":{"id":7}}\0',
], ids=["around", "inside", "explicit-false", "order", "escapes", "vendor-key"])
def test_liberal_in(c, text):
    assert c.ask(text)["parameters"]["pid"] > 0


def test_one_byte_at_a_time(c):
    for byte in STATUS + b"\0":
        c.send_raw(bytes([byte]))
    assert c.receive()["parameters"]["pid"] > 0


def test_several_frames_in_one_write_and_a_split_one(c):
    c.send_raw(STATUS + b"\0" + STATUS + b"\0" + STATUS[:9])
    for _ in range(2):
        c.receive()
    c.send_raw(STATUS[9:] + b"\0")
    assert c.receive()["parameters"]["pid"] > 0


@pytest.mark.parametrize("text", [
    b"", b"{", b"}", b"[]", b"17", b"null", b'"io.venvd.Status"', b"{}", b'{"parameters":{}}', b'{"method":7}',
    b'{"method":"io.venvd.Status","more":1}', b'{"method":"io.venvd.Status","oneway":"true"}',
    b'{"method":"io.venvd.Status","parameters":[]}', b'{"method":"io.venvd.Status","bogus":1}',
    b'{"method":"io.venvd.Status","more":true,"oneway":true}',
    b'{"method":"io.venvd.Status"}{"method":"io.venvd.Status"}', b'{"method":"io.venvd.Status"} x',
    b'{"method":"io.venvd.Status","parameters":{"a":1e999}}', b"{'method':'io.venvd.Status'}",
])
def test_what_is_no_call_closes_without_a_word(shared, c, text):
    c.send_raw(text + b"\0" + STATUS + b"\0")
    wire.expect_close(c)
    wire.served(shared)


def test_replies_before_a_bad_frame_still_come(c):
    c.send_raw(STATUS + b"\0" + b"nonsense\0")
    c.receive()
    wire.expect_close(c)


# --- order ---

def test_pipelining_keeps_the_order(c):
    for i in range(100):
        if i % 3 == 0:
            c.send("Get", {"name": "alpha"})
        elif i % 3 == 1:
            c.send("Get", {"name": f"none{i}"})
        else:
            c.send("List", {"fields": []}, more=True)
    for i in range(100):
        if i % 3 == 0:
            assert c.receive()["parameters"]["environment"]["name"] == "alpha"
        elif i % 3 == 1:
            assert c.receive()["parameters"]["name"] == f"none{i}"
        else:
            rows = [c.receive() for _ in range(4)]
            assert [r.get("continues") for r in rows] == [True, True, True, None]


def test_a_call_behind_a_slow_one_waits_and_others_do_not(daemon, slow):
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": slow.python, "caller": wire.IN_PLACE, "withoutPip": True})
        c.send("Status")
        slow.wait()
        assert wire.served(daemon)["counts"]["creating"] == 1
        slow.go()
        assert c.receive()["parameters"]["environment"]["state"] == "ready"
        assert c.receive()["parameters"]["counts"]["ready"] == 1


# --- more and oneway ---

def test_more_tells_the_stages(daemon, python):
    with daemon.connect() as c:
        replies = list(c.stream("Create", name="a", python=python, withoutPip=True))
    assert [r.get("stage") for r in replies[:-1]] == ["interpreter", "reserve", "build", "sync"]
    assert replies[-1]["environment"]["name"] == "a"
    assert "path" in replies[-1]["interpreterReason"]


def test_without_more_there_is_one_reply(daemon, python):
    with daemon.connect() as c:
        assert c.call("Create", name="a", python=python, withoutPip=True)["environment"]["state"] == "ready"


def test_more_for_a_method_that_answers_once(c):
    assert list(c.stream("Get", name="alpha"))[0]["environment"]["name"] == "alpha"


def test_an_error_ends_a_stream(daemon, tmp_path):
    python = wire.script(tmp_path / "three", "exit 3")
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": python}, more=True)
        assert c.receive() == {"parameters": {"stage": "interpreter"}, "continues": True}
        assert c.receive()["error"] == "io.venvd.InterpreterFailed"
        assert c.call("Status")["counts"]["creating"] == 0


def test_oneway_acts_and_says_nothing(daemon, python):
    with daemon.connect() as c:
        call = {"name": "a", "python": python, "withoutPip": True, "requestId": "one"}
        c.send("Create", call, oneway=True)
        c.send("Bogus", {}, oneway=True)
        c.send("Get", {"bogus": 1}, oneway=True)
        c.send("List", {}, oneway=True)
        made = c.call("Create", **call)         # the first reply on this connection
        assert made["environment"]["state"] == "ready"
        c.send("Delete", {"name": "a"}, oneway=True)
        c.send("Create", {"name": "b", "python": python, "withoutPip": True}, oneway=True)
    wire.until(lambda: daemon.call("Status")["counts"]["trashed"] == 1)
    wire.until(lambda: daemon.environments().get("b", {}).get("state") == "ready")


def test_oneway_outlives_its_connection(daemon, slow):
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": slow.python, "caller": wire.IN_PLACE, "withoutPip": True}, oneway=True)
    slow.wait()
    slow.go()
    wire.until(lambda: daemon.environments().get("a", {}).get("state") == "ready")


# --- half-close ---

@pytest.mark.parametrize("end", [b"\0", b"", b"\n", b"\0\n", b"\0 \r\n"], ids=repr)
def test_half_close(c, end):
    c.send_raw(STATUS + end)
    c.half_close()
    assert c.receive()["parameters"]["pid"] > 0
    wire.expect_close(c)


def test_half_close_answers_everything(c):
    c.send_raw((STATUS + b"\0") * 100 + STATUS)
    c.half_close()
    for _ in range(101):
        c.receive()
    wire.expect_close(c)


@pytest.mark.parametrize("rest", [b"", b"\n", b"{", b'{"method":'], ids=repr)
def test_half_close_with_nothing_whole(shared, c, rest):
    c.send_raw(rest)
    c.half_close()
    wire.expect_close(c)


def test_half_close_with_a_stream(shared, c):
    c.send_raw(b'{"method":"io.venvd.List","more":true}')
    c.half_close()
    rows = []
    while not rows or rows[-1].get("continues"):
        rows.append(c.receive())
    assert len(rows) == 4
    wire.expect_close(c)


def test_half_closed_watcher_that_leaves(daemon):
    """Nothing happens of which it could be told; its connection does not wait for that."""
    watchers = [daemon.connect() for _ in range(3)]
    for w in watchers:
        w.send("Watch", more=True)
        w.half_close()
        assert w.receive()["parameters"]["event"] == "ready"
    spent = daemon.cpu_seconds()
    time.sleep(0.3)                             # silence is what is tested: it must not spin
    assert daemon.cpu_seconds() - spent < 0.15
    watchers.pop().close()
    wire.until(lambda: daemon.call("Status")["connections"] == 3)
    daemon.call("Create", name="a", python=wire.PYTHON, withoutPip=True)
    for w in watchers:
        assert w.receive()["parameters"]["event"] == "created"
        w.close()
    wire.until(lambda: daemon.call("Status")["connections"] == 1)


def test_half_closed_client_that_leaves_cancels_nothing(daemon, slow):
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": slow.python, "caller": wire.IN_PLACE, "withoutPip": True})
        c.half_close()
        slow.wait()
    slow.go()
    wire.until(lambda: daemon.environments().get("a", {}).get("state") == "ready")


def test_half_close_waits_for_a_slow_answer(daemon, slow):
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": slow.python, "caller": wire.IN_PLACE, "withoutPip": True})
        c.half_close()
        slow.wait()
        spent = daemon.cpu_seconds()
        time.sleep(0.3)                         # silence is what is tested: it must not spin
        assert daemon.cpu_seconds() - spent < 0.15
        slow.go()
        assert c.receive()["parameters"]["environment"]["name"] == "a"
        wire.expect_close(c)


# --- cancelling ---

@pytest.mark.parametrize("stage", ["slow", "building"])
def test_closing_cancels_and_nothing_remains(daemon, root, stage, request):
    gate = request.getfixturevalue(stage)
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": gate.python, "withoutPip": True})
        gate.wait()
    killed(gate)
    wire.until(lambda: "a" not in daemon.environments() and not wire.remains(root))
    assert daemon.call("Status")["counts"]["creating"] == 0


@pytest.mark.parametrize("behind", [b"", STATUS + b"\0", STATUS[:9], (STATUS + b"\0") * 1000, (STATUS + b"\0") * 3000],
                         ids=["nothing", "a-call", "half-a-call", "many-calls", "more-than-is-taken"])
def test_closing_cancels_whatever_is_behind(start, root, slow, behind):
    daemon = start(root, "-o", "probe-timeout=600000")  # nothing but the cancelling ends the interpreter
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": slow.python, "caller": wire.IN_PLACE, "withoutPip": True})
        slow.wait()
        c.send_raw(behind)
        wire.served(daemon)
    killed(slow)
    wire.until(lambda: "a" not in daemon.environments())


def test_closing_cancels_what_waits_in_the_queue(root, slow, start):
    root.mkdir()
    with wire.running(root, "-o", "jobs-running=1") as daemon, daemon.connect() as first:
        first.send("Create", {"name": "a", "python": slow.python, "caller": wire.IN_PLACE, "withoutPip": True})
        slow.wait()
        with daemon.connect() as second:
            second.send("Create", {"name": "b", "python": slow.python, "caller": wire.IN_PLACE})
            wire.until(lambda: daemon.call("Status")["jobsQueued"] == 1)
        wire.until(lambda: "b" not in daemon.environments())
        assert daemon.call("Status")["jobsQueued"] == 0
        slow.go()
        assert first.receive()["parameters"]["environment"]["name"] == "a"


def test_closing_behind_a_stream_does_no_harm(shared):
    for _ in range(20):
        with shared.connect() as c:
            c.send_raw(b'{"method":"io.venvd.List","more":true}\0' * 50)
    wire.served(shared)


# --- request ids ---

def test_request_id_gives_the_same_result_again(daemon, python):
    call = {"name": "a", "python": python, "withoutPip": True, "requestId": "R1"}
    with daemon.connect() as c:
        first = c.call("Create", **call)["environment"]
        assert c.call("Create", **call)["environment"] == first
        last = list(c.stream("Create", **call))[-1]["environment"]
        assert last == first
        gone = c.call("Delete", name="a", requestId="R2")["environment"]
        assert gone["state"] == "trashed"
        assert c.call("Delete", name="a", requestId="R2")["environment"] == gone
        assert c.call("Restore", name="a", requestId="R3")["environment"]["state"] == "ready"
        assert c.call("Restore", name="a", requestId="R3")["environment"]["id"] == first["id"]
        c.call("Delete", name="a", now=True, requestId="R4")
        c.call("Delete", name="a", now=True, requestId="R4")


def test_request_id_of_a_delete_of_what_is_missing(daemon, root, python):
    with daemon.connect() as c:
        c.call("Create", name="a", python=python, withoutPip=True)
    (root / "a").rename(root.parent / "elsewhere")
    with daemon.connect() as c:
        assert error(c, "Delete", name="a")[0] == "io.venvd.NoSuchEnvironment"
        assert c.call("Get", name="a")["environment"]["state"] == "missing"
        c.call("Delete", name="a", requestId="R")
        c.call("Delete", name="a", requestId="R")
        assert error(c, "Get", name="a")[0] == "io.venvd.NoSuchEnvironment"


def test_request_id_with_other_parameters(daemon, python):
    call = {"name": "a", "python": python, "withoutPip": True, "requestId": "R1"}
    wrong = (SERVICE + "InvalidParameter", {"parameter": "requestId"})
    with daemon.connect() as c:
        c.call("Create", **call)
        assert error(c, "Create", **{**call, "name": "b"}) == wrong
        assert error(c, "Create", **{**call, "withoutPip": False}) == wrong
        assert error(c, "Delete", name="a", requestId="R1") == wrong
        assert list(daemon.environments()) == ["a"]


def test_request_id_attaches_while_running(daemon, slow):
    call = {"name": "a", "python": slow.python, "caller": wire.IN_PLACE, "withoutPip": True, "requestId": "R1"}
    with daemon.connect() as first, daemon.connect() as second:
        first.send("Create", call)
        slow.wait()
        second.send("Create", call, more=True)
        assert error(daemon.connect(), "Create", **{**call, "prompt": "x"})[1] == {"parameter": "requestId"}
        assert error(daemon.connect(), "Create", name="a")[0] == "io.venvd.AlreadyExists"
        slow.go()
        made = first.receive()["parameters"]["environment"]
        stages = []
        while (reply := second.receive()).get("continues"):
            stages.append(reply["parameters"]["stage"])
        assert stages == ["reserve", "build", "sync"]
        assert reply["parameters"]["environment"] == made


def test_request_id_outlives_the_first_client(daemon, slow):
    call = {"name": "a", "python": slow.python, "caller": wire.IN_PLACE, "withoutPip": True, "requestId": "R1"}
    with daemon.connect() as c:
        c.send("Create", call)
        slow.wait()
    with daemon.connect() as c:
        c.send("Create", call)
        assert wire.served(daemon)["counts"]["creating"] == 1
        slow.go()
        assert c.receive()["parameters"]["environment"]["state"] == "ready"


def test_request_id_keeps_errors_that_last_and_forgets_the_others(daemon, tmp_path, python):
    with daemon.connect() as c:
        call = {"name": "a", "python": str(tmp_path / "later"), "withoutPip": True, "requestId": "R1"}
        first = error(c, "Create", **call)
        assert first[0] == "io.venvd.NoSuchInterpreter"
        os.symlink(python, tmp_path / "later")
        assert error(c, "Create", **call) == first
        c.call("Create", **{**call, "requestId": "R2"})


def test_request_id_survives_a_restart(root, tmp_path, python):
    root.mkdir()
    call = {"name": "a", "python": python, "withoutPip": True, "requestId": "R1"}
    failing = {"name": "b", "python": str(tmp_path / "none"), "requestId": "R2"}
    with wire.running(root) as daemon, daemon.connect() as c:
        made = c.call("Create", **call)["environment"]
        failed = error(c, "Create", **failing)
        c.call("Delete", name="a", requestId="R3")
    with wire.running(root) as daemon, daemon.connect() as c:
        assert c.call("Create", **call)["environment"]["id"] == made["id"]
        assert error(c, "Create", **failing) == failed
        assert error(c, "Create", **{**call, "name": "c"})[1] == {"parameter": "requestId"}
        assert c.call("Delete", name="a", requestId="R3")["environment"]["state"] == "trashed"


# --- introspection and errors by name ---

def test_get_info(c):
    info = c.call(SERVICE + "GetInfo")
    assert sorted(info) == ["interfaces", "product", "url", "vendor", "version"]
    assert info["interfaces"] == ["io.venvd", "org.varlink.service"]
    assert info["version"] == c.call("Status")["version"]


@pytest.mark.parametrize("interface", ["io.venvd", "org.varlink.service"])
def test_descriptions_are_the_files(c, interface):
    text = c.call(SERVICE + "GetInterfaceDescription", interface=interface)["description"]
    assert text == (TOP / "proto" / f"{interface}.varlink").read_text()


@pytest.mark.parametrize(("method", "name", "parameters"), [
    ("io.venvd.Bogus", "MethodNotFound", {"method": "io.venvd.Bogus"}),
    ("io.venvd.", "MethodNotFound", {"method": "io.venvd."}),
    ("io.venvd.list", "MethodNotFound", {"method": "io.venvd.list"}),
    ("io.venvd2.List", "InterfaceNotFound", {"interface": "io.venvd2"}),
    ("io.venv.List", "InterfaceNotFound", {"interface": "io.venv"}),
    ("io.venvd.List.More", "InterfaceNotFound", {"interface": "io.venvd.List"}),
    ("org.varlink.service.Bogus", "MethodNotFound", {"method": "org.varlink.service.Bogus"}),
    (".", "InterfaceNotFound", {"interface": ""}),
])
def test_unknown_methods(c, method, name, parameters):
    c.send_raw(json.dumps({"method": method}).encode() + b"\0")
    assert c.receive() == {"error": SERVICE + name, "parameters": parameters}


@pytest.mark.parametrize(("method", "interface"), [("List", "List"), ("", "")])
def test_methods_without_an_interface(c, method, interface):
    c.send_raw(json.dumps({"method": method}).encode() + b"\0")
    assert c.receive() == {"error": SERVICE + "InterfaceNotFound", "parameters": {"interface": interface}}


def test_unknown_interface_description(c):
    found = error(c, SERVICE + "GetInterfaceDescription", interface="io.example")
    assert found == (SERVICE + "InterfaceNotFound", {"interface": "io.example"})


def test_upgrade_is_refused_and_stays_varlink(c):
    c.send("Status", upgrade=True)
    assert c.receive()["error"] == SERVICE + "MethodNotImplemented"
    assert c.call("Status")["pid"] > 0


@pytest.mark.parametrize(("method", "parameters", "wrong"), [
    ("List", {"bogus": 1}, "bogus"),
    ("List", {"name": 1}, "name"),
    ("List", {"state": "nope"}, "state"),
    ("List", {"fields": "name"}, "fields"),
    ("List", {"fields": ["bogus"]}, "fields"),
    ("List", {"fields": [None]}, "fields"),
    ("List", {"fields": [["name"]]}, "fields"),
    ("ListTrash", {"state": "trashed"}, "state"),
    ("Get", {}, "name"),
    ("Get", {"name": None}, "name"),
    ("Create", {"python": "3"}, "name"),
    ("Create", {"name": "a", "withoutPip": "yes"}, "withoutPip"),
    ("Create", {"name": "a", "withoutPip": 1}, "withoutPip"),
    ("Create", {"name": "a", "caller": []}, "caller"),
    ("Create", {"name": "a", "caller": {"umask": "022"}}, "caller.umask"),
    ("Create", {"name": "a", "caller": {"umask": 1.5}}, "caller.umask"),
    ("Create", {"name": "a", "caller": {"umask": -1}}, "caller.umask"),
    ("Create", {"name": "a", "caller": {"bogus": 1}}, "caller.bogus"),
    ("Create", {"name": "a", "caller": {"cwd": "relative"}}, "caller.cwd"),
    ("Create", {"name": "a", "caller": {"environment": {"A": 1}}}, "caller.environment"),
    ("Create", {"name": "a", "prompt": "two\nlines"}, "prompt"),
    ("Create", {"name": "a", "requestId": ""}, "requestId"),
    ("Delete", {"name": "a", "now": 0}, "now"),
    ("Restore", {"name": "a", "id": 7}, "id"),
    ("Prompt", {}, "name"),
    ("Prompt", {"name": "a", "path": "/a"}, "path"),
    ("ListInterpreters", {"caller": {"umask": []}}, "caller.umask"),
    ("Status", {"x": None}, "x"),
    ("Shutdown", {"purge": "no"}, "purge"),
    (SERVICE + "GetInfo", {"x": 1}, "x"),
    (SERVICE + "GetInterfaceDescription", {}, "interface"),
])
def test_invalid_parameters_by_name(c, method, parameters, wrong):
    assert error(c, method, **parameters) == (SERVICE + "InvalidParameter", {"parameter": wrong})


def test_null_stands_for_absent_where_it_may(c):
    rows = c.call("List", name=None, glob=None, state=None, fields=None)["environments"]
    assert len(rows) == 4


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-dash", "a/b", "a b", "ü", "a\n", "a" * 101])
def test_names_that_break_a_rule(c, name):
    code, parameters = error(c, "Create", name=name)
    assert code == "io.venvd.InvalidName"
    assert parameters["name"] == name and parameters["rule"]


def test_errors_of_the_methods(daemon, root, python):
    with daemon.connect() as c:
        made = c.call("Create", name="a", python=python, withoutPip=True)["environment"]
        assert error(c, "Create", name="a") == ("io.venvd.AlreadyExists", {"name": "a", "state": "ready"})
        assert error(c, "Get", name="b") == ("io.venvd.NoSuchEnvironment", {"name": "b"})
        assert error(c, "Delete", name="b") == ("io.venvd.NoSuchEnvironment", {"name": "b"})
        assert error(c, "Restore", name="a") == ("io.venvd.NotInTrash", {"name": "a"})
        c.call("Delete", name="a")
        assert error(c, "Restore", name="a", id="0" * 16) == ("io.venvd.NotInTrash", {"name": "a"})
        c.call("Create", name="a", python=python, withoutPip=True)
        taken = ("io.venvd.AlreadyExists", {"name": "a", "state": "ready"})
        assert error(c, "Restore", name="a", id=made["id"]) == taken
        assert c.call("Delete", name="a", now=True) == {}
        assert c.call("Restore", name="a", id=made["id"])["environment"]["id"] == made["id"]


def test_foreign_is_listed_and_never_deleted(daemon, root):
    (root / "linked").symlink_to("/usr")
    daemon.stop()
    with wire.running(root) as again, again.connect() as c:
        assert c.call("Get", name="linked")["environment"]["state"] == "foreign"
        assert error(c, "Delete", name="linked")[0] == "io.venvd.Unsupported"
        assert error(c, "Delete", name="linked", now=True)[0] == "io.venvd.Unsupported"
    assert (root / "linked").is_symlink()


def test_ill_formed_names_are_no_environments(c):
    for method in ("Get", "Delete"):
        assert error(c, method, name="../alpha")[0] == "io.venvd.NoSuchEnvironment"
    assert error(c, "Restore", name="../alpha")[0] == "io.venvd.NotInTrash"


# --- reading ---

def test_list_by_everything(shared, c):
    def listed(**parameters):
        once = [row["name"] for row in c.call("List", **parameters)["environments"]]
        assert names_of(c.stream("List", **parameters)) == once
        return once
    assert listed() == ["alpha", "beta", "broken", "linked"]
    assert listed(name="beta") == ["beta"]
    assert listed(name="none") == []
    assert listed(glob="b*") == ["beta", "broken"]
    assert listed(glob="[!a-k]*") == ["linked"]
    assert listed(glob="?eta") == ["beta"]
    assert listed(glob="") == []
    assert listed(state="ready") == ["alpha", "beta"]
    assert listed(state="broken") == ["broken"]
    assert listed(state="foreign") == ["linked"]
    assert listed(state="trashed") == listed(state="creating") == listed(state="missing") == []
    assert listed(name="beta", glob="a*") == []
    assert listed(glob="b*", state="broken") == ["broken"]


def test_fields_select(c):
    rows = c.call("List", fields=["version", "state"])["environments"]
    assert rows[1] == {"name": "beta", "state": "ready", "version": "3.12.1"}
    assert c.call("List", fields=[])["environments"][0] == {"name": "alpha"}
    assert c.call("List", fields=["name", "name"])["environments"][0] == {"name": "alpha"}
    known = wire.INTERFACES["io.venvd"].types["Environment"]
    assert c.call("List", fields=list(known))["environments"] == c.call("List")["environments"]
    for field in known:
        for row in c.stream("List", fields=[field]):
            assert set(row["environment"]) <= {"name", field}


def test_one_environment(shared, c):
    alpha = c.call("Get", name="alpha")["environment"]
    assert alpha["path"] == str(shared.root / "alpha")
    assert alpha["executable"] == str(shared.root / "alpha/bin/python")
    assert alpha["interpreter"] == wire.PYTHON
    assert (alpha["prompt"], alpha["version"], alpha["origin"]) == ("Alpha ü", "3.11.2", "adopted")
    assert alpha["implementation"] == "cpython" and alpha["systemSitePackages"] is False
    assert 1.6e15 < alpha["createdAt"] < 4e15
    assert c.call("Get", name="broken")["environment"]["problem"]
    assert c.call("Get", name="linked")["environment"]["problem"]


def test_an_empty_list_ends_with_an_empty_reply(daemon):
    with daemon.connect() as c:
        assert c.call("List") == {"environments": []}
        assert c.call("ListTrash") == {"environments": []}
        assert list(c.stream("List")) == [{}]
        assert list(c.stream("ListTrash", glob="*")) == [{}]


def test_trash_is_listed_newest_first_in_one_name(daemon, python):
    with daemon.connect() as c:
        for name in ("b", "a", "a"):
            c.call("Create", name=name, python=python, withoutPip=True)
            c.call("Delete", name=name)
        rows = c.call("ListTrash")["environments"]
        assert [r["name"] for r in rows] == ["a", "a", "b"]
        assert rows[0]["deletedAt"] > rows[1]["deletedAt"]
        assert all(r["state"] == "trashed" and r["expiresAt"] > r["deletedAt"] for r in rows)
        assert names_of(c.stream("ListTrash", glob="a")) == ["a", "a"]
        assert names_of(c.stream("ListTrash", name="b")) == ["b"]
        assert c.call("ListTrash", fields=["id"])["environments"][0].keys() == {"name", "id"}
        assert c.call("Restore", name="a")["environment"]["id"] == rows[0]["id"]


def test_prompt(shared, c):
    wanted = {"name": "alpha", "prompt": "Alpha ü", "version": "3.11.2", "state": "ready"}
    assert c.call("Prompt", name="alpha") == wanted
    for path in ("alpha", "alpha/", "alpha/bin/python", "alpha/a/b/c/d", "/alpha//bin"):
        assert c.call("Prompt", path=f"{shared.root}/{path}") == wanted
    for path in (str(shared.root), f"{shared.root}/", f"{shared.root}x/alpha", "/", "", "alpha",
                 f"{shared.root}/none/bin", f"{shared.root}/.venvd/trash"):
        assert error(c, "Prompt", path=path) == ("io.venvd.NoSuchEnvironment", {"path": path})
    assert error(c, "Prompt", name="none") == ("io.venvd.NoSuchEnvironment", {"name": "none"})
    assert "prompt" not in c.call("Prompt", name="beta")


def test_prompt_by_both_spellings_of_a_root(tmp_path):
    real = tmp_path / "real"
    wire.fake_environment(real / "envs", "a")
    (tmp_path / "link").symlink_to(real)
    with wire.running(tmp_path / "link" / "envs") as daemon, daemon.connect() as c:
        for spelling in ("link", "real"):
            assert c.call("Prompt", path=f"{tmp_path}/{spelling}/envs/a/bin")["name"] == "a"
        assert c.call("Status")["root"] == f"{tmp_path}/link/envs"


def test_status(shared):
    with shared.connect() as c, shared.connect() as other:
        other.call("Status")
        first, second = c.call("Status"), c.call("Status")
    assert first["pid"] == shared.pid and first["root"] == str(shared.root)
    assert first["connections"] >= 2 and first["connectionsMax"] == 4096
    assert first["counts"] == {"creating": 0, "ready": 2, "broken": 1, "missing": 0, "trashed": 0, "foreign": 1}
    assert 0 < first["uptime"] <= second["uptime"] < 3600e6
    assert abs(first["startedAt"] + first["uptime"] - time.time() * 1e6) < 60e6
    assert 1e6 < first["memoryBytes"] < 1e9
    assert first["jobsRunning"] == first["jobsQueued"] == 0


def test_interpreters_once_and_streamed(c, tmp_path):
    caller = {"path": str(tmp_path), "environment": {"PYENV_ROOT": str(tmp_path)}}
    once = c.call("ListInterpreters", caller=caller)["interpreters"]
    streamed = [r["interpreter"] for r in c.stream("ListInterpreters", caller=caller)]
    assert streamed == once
    assert wire.PYTHON in [i["path"] for i in once]


# --- many rows ---

ROWS = 5000


@pytest.fixture(scope="module")
def crowd():
    with wire.crowded(ROWS) as daemon:
        yield daemon


def test_what_does_not_fit_a_reply_must_be_streamed(crowd):
    with crowd.connect() as c:
        assert error(c, "List") == (SERVICE + "ExpectedMore", {})
        assert len(c.call("List", fields=["state"])["environments"]) == ROWS
        c.send("List", {"glob": "env0[01]*"})
        frame = c.receive_raw()
        assert 500 * 1024 < len(frame) <= 1024 * 1024
        assert len(wire.check_reply(frame, "io.venvd.List")["parameters"]["environments"]) == 2000


@pytest.mark.parametrize("pattern", ["*99", "*[13]999", "zzz*", "*0"])
def test_a_filter_that_passes_over_more_rows_than_a_turn_takes(crowd, pattern):
    with crowd.connect() as c:
        every = [r["environment"]["name"] for r in c.stream("List", fields=[])]
        wanted = fnmatch.filter(every, pattern)
        streamed = [r["environment"]["name"] for r in c.stream("List", glob=pattern, fields=[]) if r]
        assert streamed == wanted
        assert [e["name"] for e in c.call("List", glob=pattern, fields=[])["environments"]] == wanted


def test_streaming_while_rows_come_and_go(crowd, tmp_path):
    python = wire.fake_python(tmp_path / "python-fake")
    fate = [f"env{i:05}" for i in range(0, ROWS, 250)]
    fresh = [f"env{i:05}x" for i in range(100, ROWS, 500)]
    with crowd.connect() as reader, crowd.connect() as writer:
        reader.send("List", {}, more=True)
        seen = [reader.receive()["parameters"]["environment"]["name"] for _ in range(100)]
        for name in fate:
            writer.call("Delete", name=name)
        for name in fresh:
            writer.call("Create", name=name, python=python, withoutPip=True)
        for name in fate[::2]:
            writer.call("Restore", name=name)
        while (reply := reader.receive()).get("continues"):
            seen.append(reply["parameters"]["environment"]["name"])
        seen.append(reply["parameters"]["environment"]["name"])
        assert seen == sorted(set(seen))
        assert {f"env{i:05}" for i in range(ROWS)} - set(fate) <= set(seen)
        assert fate[-1] not in seen and fresh[-1] in seen       # so it was held back, and has looked again
        for name in fate[1::2]:
            writer.call("Restore", name=name)
        for name in fresh:
            writer.call("Delete", name=name, now=True)
        assert wire.served(crowd)["counts"]["ready"] == ROWS


def test_streaming_on_many_connections(crowd):
    connections = [crowd.connect() for _ in range(8)]
    for c in connections:
        c.send_raw(b'{"method":"io.venvd.List","parameters":{"fields":["state"]},"more":true}\0')
        c.socket.shutdown(socket.SHUT_WR)
    wire.served(crowd)
    for c in connections:
        assert c.closed().count(b"\0") == ROWS
        c.close()
