# SPDX-License-Identifier: MIT
"""Every number of proto/bounds.h that a client can push, pushed: the daemon answers or closes that one
connection, and others are served meanwhile. And whatever comes, it lives."""
import contextlib
import json
import os
import random
import re
import signal
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

import wire
from conftest import BUILD, TOP, VarlinkError

set_hypothesis_home_dir(BUILD / "hypothesis")       # what it remembers of Unicode; not in the checkout

STATUS = b'{"method":"io.venvd.Status"}'
INVALID = "org.varlink.service.InvalidParameter"
LIMITS = {name: eval(value) for name, value in      # sums of integers, from our own header
          re.findall(r"^#define (LIMIT_\w+)\s+([0-9(][^/\n]*?)\s*(?:/\*.*)?$",
                     re.sub(r"(?<=\d)LL\b", "", (TOP / "proto" / "bounds.h").read_text()), re.M)}
FRAME = LIMITS["LIMIT_FRAME_BYTES"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    root = tmp_path_factory.mktemp("limits") / "envs"
    wire.fake_environment(root, "alpha")
    with wire.running(root) as daemon:
        yield daemon


@pytest.fixture
def c(shared):
    with shared.connect() as connection:
        yield connection


@pytest.fixture
def begin(root):
    """begin("-o", ...) -> a daemon of the test's own."""
    with contextlib.ExitStack() as stack:
        root.mkdir()
        yield lambda *options, **kwargs: stack.enter_context(wire.running(root, *options, **kwargs))


def error(connection, method, **parameters):
    with pytest.raises(VarlinkError) as caught:
        connection.call(method, **parameters)
    return caught.value.name, caught.value.parameters


def test_the_header_was_read():
    assert LIMITS["LIMIT_FRAME_BYTES"] == 65536 and LIMITS["LIMIT_TRASH_SECONDS"] == 7 * 24 * 3600
    assert len(LIMITS) > 30


# --- one frame ---

def padded(length):
    """A call of exactly this many bytes."""
    return STATUS + b" " * (length - len(STATUS))


def test_the_longest_frame(shared, c):
    c.send_raw(padded(FRAME) + b"\0")
    assert c.receive()["parameters"]["pid"] == shared.pid
    with contextlib.suppress(ConnectionError):      # it may hang up before it has everything
        c.send_raw(padded(FRAME + 1) + b"\0")
    wire.expect_close(c)
    wire.served(shared)


def test_frames_of_the_longest_kind_pipelined(c):
    for _ in range(5):
        c.send_raw(padded(FRAME) + b"\0" + STATUS + b"\0")
    for _ in range(10):
        c.receive()


def test_a_frame_without_an_end(shared, c):
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(1000):
            c.send_raw(b"x" * 65536)
    wire.served(shared)


def test_a_too_long_frame_at_a_half_close(shared, c):
    with contextlib.suppress(ConnectionError):
        c.send_raw(padded(FRAME + 1))
        c.half_close()
    wire.expect_close(c)
    wire.served(shared)


def nested(depth):
    """A call that is so many levels deep."""
    return b'{"method":"io.venvd.Status","parameters":{"x":' + b"[" * (depth - 2) + b"]" * (depth - 2) + b"}}\0"


def test_depth(shared, c):
    depth = LIMITS["LIMIT_JSON_DEPTH"]
    assert c.ask(nested(depth))["parameters"] == {"parameter": "x"}
    c.send_raw(nested(depth + 1))
    wire.expect_close(c)


@pytest.mark.parametrize("text", [
    nested(2000), b"[" * 65000 + b"\0", b'{"a":' * 10000 + b"\0", b"]" * 65000 + b"\0",
    b'{"method":"io.venvd.Status","parameters":' + b'{"a":' * 2000 + b"1" + b"}" * 2002 + b"\0",
], ids=["arrays", "unclosed", "objects", "closed", "parameters"])
def test_hopeless_nesting(shared, c, text):
    c.send_raw(text)
    wire.expect_close(c)
    wire.served(shared)


def test_brackets_in_strings_are_no_levels(c):
    name = "[{" * 100 + '\\"['
    assert c.ask(b'{"method":"io.venvd.Get","parameters":{"name":' + json.dumps(name).encode() + b"}}\0")[
        "parameters"]["name"] == name


def test_tokens(shared, c):
    """Values and keys: the call has seven, then its fields."""
    def call(count):
        fields = ",".join(['"id"'] * (count - 7))
        return f'{{"method":"io.venvd.List","parameters":{{"fields":[{fields}]}}}}'.encode() + b"\0"
    assert "environments" in c.ask(call(LIMITS["LIMIT_JSON_TOKENS"]))["parameters"]
    c.send_raw(call(LIMITS["LIMIT_JSON_TOKENS"] + 1))
    wire.expect_close(c)


HOSTILE = {
    "bad-utf-8": b'{"method":"io.venvd.Get","parameters":{"name":"a\xff"}}\0',
    "overlong": b'{"method":"io.venvd.Get","parameters":{"name":"\xc0\xaf"}}\0',
    "cut-utf-8": b'{"method":"io.venvd.Get","parameters":{"name":"\xe2\x82"}}\0',
    "surrogate-bytes": b'{"method":"io.venvd.Get","parameters":{"name":"\xed\xa0\x80"}}\0',
    "lone-surrogate": b'{"method":"io.venvd.Get","parameters":{"name":"\\ud800"}}\0',
    "escaped-nul": b'{"method":"io.venvd.Get","parameters":{"name":"a\\u0000b"}}\0',
    "escaped-nul-key": b'{"method":"io.venvd.Get","parameters":{"a\\u0000b":1}}\0',
    "raw-nul": b'{"method":"io.venvd.Get","parameters":{"name":"a\0b"}}\0',
    "raw-control": b'{"method":"io.venvd.Get","parameters":{"name":"a\x01b"}}\0',
    "duplicate": b'{"method":"io.venvd.Status","method":"io.venvd.Shutdown"}\0',
    "duplicate-inside": b'{"method":"io.venvd.Get","parameters":{"name":"a","name":"b"}}\0',
    "big-integer": b'{"method":"io.venvd.Get","parameters":{"name":92233720368547758080}}\0',
    "byte-order-mark": b'\xef\xbb\xbf{"method":"io.venvd.Status"}\0',
    "utf-16": '{"method":"io.venvd.Status"}'.encode("utf-16") + b"\0",
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\0",
    "nuls": b"\0" * 60000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_close(shared, c, text):
    with contextlib.suppress(ConnectionError):
        c.send_raw(text)
    wire.expect_close(c)
    wire.served(shared)


# --- time ---

def test_half_a_frame_and_silence(begin):
    daemon = begin("-o", "frame-timeout=200")
    for text in (STATUS[:10], STATUS, STATUS + b"\0" + STATUS[:10]):
        with daemon.connect() as c:
            c.send_raw(text)
            wire.served(daemon)
            if b"\0" in text:
                c.receive()
            wire.expect_close(c)


def test_a_frame_that_drips_has_one_deadline(begin):
    """Each byte begins no new one."""
    daemon = begin("-o", "frame-timeout=300")
    with daemon.connect() as c, pytest.raises(ConnectionError):
        for _ in range(1000):
            c.send_raw(b" ")
            time.sleep(0.05)
    wire.served(daemon)


def test_no_first_byte(begin):
    daemon = begin("-o", "first-byte-timeout=200")
    with daemon.connect() as c:
        began = time.monotonic()
        wire.served(daemon)
        wire.expect_close(c)
        assert 0.15 < time.monotonic() - began < 10


def test_idle(begin):
    daemon = begin("-o", "idle-timeout=300", "-o", "first-byte-timeout=60000")
    with daemon.connect() as c, daemon.connect() as young:
        c.call("Status")
        began = time.monotonic()
        wire.expect_close(c)
        assert 0.2 < time.monotonic() - began < 10
        young.call("Status")


def test_a_call_under_way_is_not_idle(begin, tmp_path):
    daemon = begin("-o", "idle-timeout=100", "-o", "frame-timeout=100", "-o", "stall-timeout=100")
    gate = wire.Gate(tmp_path / "gate")
    python = wire.fake_python(tmp_path / "python", probe=gate.hold)
    with daemon.connect() as c:
        c.send("Create", {"name": "a", "python": python, "withoutPip": True})
        gate.wait()
        time.sleep(0.4)                         # longer than every limit of the connection
        gate.go()
        assert c.receive()["parameters"]["environment"]["name"] == "a"


# --- a reader who never reads ---

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def crowd():
    # What a sanitizer keeps of freed memory would hide what is measured here.
    asan = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
    options = ["-o", "stall-timeout=2500", "-o", "connections=64"]
    with wire.crowded(3000, *options, env={"ASAN_OPTIONS": asan}) as daemon:
        yield daemon


def never_reads(daemon, call, count):
    connection = daemon.connect()
    connection.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        connection.send_raw((json.dumps(call).encode() + b"\0") * count)
    connection.socket.settimeout(60)
    return connection


@pytest.mark.parametrize(("more", "fields"), [(True, {}), (False, {"fields": ["path", "state"]})],
                         ids=["streams", "at-once"])
def test_readers_who_never_read(crowd, more, fields):
    with crowd.connect() as watcher:
        before, closed = watcher.call("Status")["memoryBytes"], crowd.log().count("does not read")
        call = {"method": "io.venvd.List", "parameters": fields, "more": more}
        sleepers = [never_reads(crowd, call, 500) for _ in range(16)]
        high = 0
        while crowd.log().count("does not read") < closed + len(sleepers):
            high = max(high, watcher.call("Status")["memoryBytes"])
        # What each may hold: the high mark, one reply beyond it, and the calls that wait.
        assert high - before < (16 * 1.6 * MIB + 8 * MIB) * (3 if wire.SANITIZED else 1)
        assert watcher.call("Status")["connections"] == 1
    for sleeper in sleepers:
        sleeper.closed()
        sleeper.close()


def test_a_slow_reader_gets_everything(crowd):
    """It reads less than the daemon could send, but it reads."""
    with crowd.connect() as c:
        c.send_raw(b'{"method":"io.venvd.List","more":true}\0' * 3)
        seen = 0
        while seen < 9000:
            data = c.socket.recv(200000)
            assert data
            seen += data.count(b"\0")
            wire.served(crowd)
        assert c.call("Status")["pid"] == crowd.pid


def test_what_is_asked_behind_a_stuck_stream_comes_later(crowd):
    with crowd.connect() as c:
        c.send("List", {}, more=True)
        c.send("Status")
        wire.served(crowd)
        rows = 1
        while c.receive().get("continues"):
            rows += 1
        assert rows == 3000
        assert c.receive()["parameters"]["pid"] == crowd.pid


def test_one_glob_cannot_stop_the_others(crowd, tmp_path):
    """The longest pattern there may be, of the kind that makes matchers go back and forth."""
    name = "a" * LIMITS["LIMIT_NAME_BYTES"]
    python = wire.fake_python(tmp_path / "python")
    globs = ["*a" * 60 + "*b", "*a" * 127, "*" * 256, "[!b]*" * 51, "?" * 256, "*[a-" * 64, "\\" * 255,
             "[[:alpha:]]*" * 21 + "b"]
    crowd.call("Create", name=name, python=python, withoutPip=True)
    for glob in globs:
        began = time.monotonic()
        crowd.call("List", glob=glob, fields=[])
        assert time.monotonic() - began < 20, glob
    crowd.call("Delete", name=name, now=True)


@pytest.mark.parametrize("parameters", [{}, {"glob": "zzz"}, {"state": "missing"}, {"fields": ["path"]}],
                         ids=["expected-more", "glob", "state", "large"])
def test_expensive_calls_in_a_row_leave_room_for_others(crowd, parameters):
    """LIMIT_TURN_US: between any two of them somebody else has a turn."""
    greedy = never_reads(crowd, {"method": "io.venvd.List", "parameters": parameters}, 1000)
    with crowd.connect() as c:
        times = []
        for _ in range(30):
            began = time.monotonic()
            c.call("Prompt", name="env00000")
            times.append(time.monotonic() - began)
    greedy.close()
    assert sorted(times)[-4] < (0.5 if wire.SANITIZED else 0.1), times      # a busy machine has its moments


# --- connections and descriptors ---

def test_connections(begin):
    daemon = begin("-o", "connections=5")
    held = [daemon.connect() for _ in range(5)]
    for c in held:
        assert c.call("Status")["connectionsMax"] == 5
    with daemon.connect() as beyond:
        wire.expect_close(beyond)
    assert held[0].call("Status")["connections"] == 5
    held.pop().close()
    wire.until(lambda: held[0].call("Status")["connections"] == 4)
    wire.served(daemon)
    for c in held:
        c.close()


def memory_kib(pid, field):
    return int(re.search(rf"^{field}:\s*(\d+) kB", open(f"/proc/{pid}/status").read(), re.M)[1])


def send_until_it_is_full(sockets, data):
    """To clients' ends that never read, until the daemon takes nothing more of any."""
    for s in sockets:
        s.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while s.send(data):
                pass


def test_unsent_in_total(begin, root):
    """Who never reads, however many, holds LIMIT_OUTPUT_TOTAL and an answer each; who reads gets all of it."""
    wire.fake_environments(root, 300)
    daemon = begin("-o", "connections=256")
    lists = b'{"method":"io.venvd.List"}\0' * 50
    with contextlib.ExitStack() as stack:
        good, streaming = stack.enter_context(daemon.connect()), stack.enter_context(daemon.connect())
        answer = len(good.ask(lists[:lists.index(0) + 1])["parameters"]["environments"])
        assert answer == 300
        before = memory_kib(daemon.pid, "VmRSS")
        stuck = [stack.enter_context(daemon.connect()).socket for _ in range(80)]
        streaming.send("List", more=True)               # read below, slowly
        send_until_it_is_full(stuck, lists)
        for _ in range(20):
            assert len(good.call("List")["environments"]) == 300
        assert sum(1 for _ in iter(lambda: streaming.receive().get("continues"), None)) == 299
        if not wire.SANITIZED:
            # 300 rows are 80 KiB; as many may wait to be read as calls.
            most = LIMITS["LIMIT_OUTPUT_TOTAL"] / 1024 + 80 * (80 + 64)
            assert memory_kib(daemon.pid, "VmHWM") - before < most


def test_out_of_descriptors(begin):
    """accept() fails and the client goes on waiting; the daemon must neither spin nor forget it."""
    daemon = begin("-o", "connections=4096", descriptors=40)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(daemon.connect())]
        assert held[0].call("Status")
        while not daemon.log_has("no descriptor"):
            held.append(stack.enter_context(daemon.connect()))
            assert len(held) < 60
            held[0].call("Status")
        spent = daemon.cpu_seconds()
        time.sleep(1)                           # silence is what is tested
        assert daemon.cpu_seconds() - spent < 0.3
        held[0].call("Status")
        waiting = held.pop()
        waiting.send("Status")
        for c in held[1:10]:
            c.close()
        assert waiting.receive()["parameters"]["pid"] == daemon.pid
        wire.served(daemon)


def test_out_of_descriptors_for_a_worker(begin, tmp_path):
    """Work that cannot be begun fails with a reason, and can be begun later."""
    daemon = begin("-o", "connections=4096", descriptors=40)
    python = wire.fake_python(tmp_path / "python")
    with contextlib.ExitStack() as stack:
        held = []
        while not daemon.log_has("no descriptor"):
            held.append(stack.enter_context(daemon.connect()))
            held[0].call("Status")
        name, parameters = error(held[0], "Create", name="a", python=python, withoutPip=True)
        assert name == "Failed" and parameters["reason"]
        for c in held[1:]:
            c.close()
        made = held[0].call("Create", name="a", python=python, withoutPip=True)
        assert made["environment"]["state"] == "ready"


# --- words in a call ---

@pytest.mark.parametrize(("method", "parameter", "limit", "parameters"), [
    ("Create", "prompt", "LIMIT_PROMPT_BYTES", {"name": "a", "python": "/none"}),
    ("Create", "python", "LIMIT_PYTHON_BYTES", {"name": "a"}),
    ("Create", "requestId", "LIMIT_REQUEST_ID_BYTES", {"name": "a", "python": "/none"}),
    ("Delete", "requestId", "LIMIT_REQUEST_ID_BYTES", {"name": "none"}),
    ("Restore", "requestId", "LIMIT_REQUEST_ID_BYTES", {"name": "none"}),
    ("List", "glob", "LIMIT_GLOB_BYTES", {}),
    ("ListTrash", "glob", "LIMIT_GLOB_BYTES", {}),
])
def test_lengths(c, method, parameter, limit, parameters):
    def answer(text):
        try:
            return c.call(method, **parameters, **{parameter: text})
        except VarlinkError as caught:
            return caught.error, caught.parameters
    refused = (INVALID, {"parameter": parameter})
    assert answer(method[0] * LIMITS[limit]) != refused
    assert answer(method[0] * (LIMITS[limit] + 1)) == refused
    assert answer("ü" * (LIMITS[limit] // 2 + 1)) == refused    # bytes, not characters


def test_length_of_names(begin, tmp_path):
    daemon, longest = begin(), LIMITS["LIMIT_NAME_BYTES"]
    python = wire.fake_python(tmp_path / "python")
    with daemon.connect() as c:
        made = c.call("Create", name="n" * longest, python=python, withoutPip=True)["environment"]
        assert made["state"] == "ready"
        assert c.call("Delete", name="n" * longest)["environment"]["state"] == "trashed"
        assert c.call("Restore", name="n" * longest)["environment"]["id"] == made["id"]
        name, parameters = error(c, "Create", name="n" * (longest + 1), python=python)
        assert name == "InvalidName" and "100" in parameters["rule"]


@pytest.mark.parametrize(("wrong", "good", "bad"), [
    ("caller.path", {"path": "/" * LIMITS["LIMIT_CALLER_PATH_BYTES"]},
     {"path": "/" * (LIMITS["LIMIT_CALLER_PATH_BYTES"] + 1)}),
    ("caller.cwd", {"cwd": "/" * LIMITS["LIMIT_PYTHON_BYTES"]}, {"cwd": "/" * (LIMITS["LIMIT_PYTHON_BYTES"] + 1)}),
    ("caller.umask", {"umask": 0o777}, {"umask": 0o1000}),
    ("caller.environment", {"environment": {f"PIP_{i}": "1" for i in range(LIMITS["LIMIT_CALLER_VARIABLES"])}},
     {"environment": {f"PIP_{i}": "1" for i in range(LIMITS["LIMIT_CALLER_VARIABLES"] + 1)}}),
], ids=["path", "cwd", "umask", "environment"])
def test_lengths_of_the_caller(c, wrong, good, bad):
    assert error(c, "Create", name="a", python="/none/python", caller=good)[0] == "NoSuchInterpreter"
    assert error(c, "Create", name="a", python="/none/python", caller=bad) == ("InvalidParameter", {"parameter": wrong})


# --- work ---

def test_jobs_running_and_queued(begin, tmp_path):
    """Who asks for the same interpreter waits for the same order, so each asks for its own."""
    daemon = begin("-o", "jobs-running=1", "-o", "jobs-queued=2")
    gate = wire.Gate(tmp_path / "gate")
    (tmp_path / "hold").touch()
    slow = wire.fake_python(tmp_path / "slow", probe=f"[ ! -e '{tmp_path}/hold' ] || {gate.hold}")
    quick = [wire.fake_python(tmp_path / f"quick{i}") for i in range(3)]
    with daemon.connect() as a, daemon.connect() as b, daemon.connect() as c, daemon.connect() as d:
        a.send("Create", {"name": "a", "python": slow, "withoutPip": True})
        gate.wait()
        b.send("Create", {"name": "b", "python": quick[0], "withoutPip": True})
        c.send("Create", {"name": "c", "python": quick[1], "withoutPip": True})
        wire.until(lambda: d.call("Status")["jobsQueued"] == 2)
        assert d.call("Status")["jobsRunning"] == 1
        name, parameters = error(d, "Create", name="d", python=quick[2], withoutPip=True, requestId="again")
        assert name == "Busy" and parameters["reason"]
        assert error(d, "ListInterpreters")[0] == "Busy"
        assert sorted(daemon.environments()) == ["a", "b", "c"]
        (tmp_path / "hold").unlink()
        gate.go()
        for one in (a, b, c):
            assert one.receive()["parameters"]["environment"]["state"] == "ready"
        made = d.call("Create", name="d", python=quick[2], withoutPip=True, requestId="again")
        assert made["environment"]["name"] == "d"


def test_jobs_run_side_by_side(begin, tmp_path):
    daemon = begin("-o", "jobs-running=3")
    gates = [wire.Gate(tmp_path / f"gate{i}") for i in range(3)]
    connections = [daemon.connect() for _ in gates]
    for i, gate in enumerate(gates):
        python = wire.fake_python(tmp_path / f"python{i}", probe=gate.hold)
        connections[i].send("Create", {"name": f"e{i}", "python": python, "withoutPip": True})
    for gate in gates:
        gate.wait()
    assert daemon.call("Status")["jobsRunning"] == 3
    for gate, c in zip(gates, connections, strict=True):
        gate.go()
        c.receive()
        c.close()


def test_short_orders(begin, root):
    """The resident worker stands still; deletes wait for it, and one more than the limit is refused."""
    limit = LIMITS["LIMIT_SHORT_ORDERS"]
    with wire.crowded(limit + 3) as daemon, daemon.connect() as c:
        c.call("Delete", name="env00000")
        worker = daemon.worker()
        os.kill(worker, signal.SIGSTOP)
        try:
            for i in range(1, limit + 1):
                c.send("Delete", {"name": f"env{i:05}", "force": True}, oneway=True)
            c.call("Status")                    # all of those are accepted; what follows comes behind them
            assert error(c, "Delete", name=f"env{limit + 1:05}", force=True)[0] == "Busy"
            # Nobody can ask what runs from it.
            assert error(c, "Delete", name=f"env{limit + 1:05}", now=True)[0] == "Busy"
            assert error(c, "Rename", name=f"env{limit + 1:05}", to="other")[0] == "Busy"
            assert daemon.call("Get", name=f"env{limit + 1:05}")["environment"]["state"] == "ready"
            assert error(c, "Delete", name="env00001")[0] == "Busy"     # it is being deleted already
        finally:
            os.kill(worker, signal.SIGCONT)
        # One of them may have found the place taken by a look of the daemon's own.
        wire.until(lambda: daemon.call("Status")["counts"]["trashed"] >= limit)
        daemon.call("Delete", name=f"env{limit + 1:05}")


def test_a_dead_worker_is_replaced(begin, root, tmp_path):
    daemon = begin()
    python = wire.fake_python(tmp_path / "python")
    with daemon.connect() as c, daemon.connect() as d:
        for name in ("a", "b", "c"):
            c.call("Create", name=name, python=python, withoutPip=True)
        c.call("Delete", name="a")
        worker = daemon.worker()
        os.kill(worker, signal.SIGSTOP)
        c.send("Delete", {"name": "b"})
        d.send("Delete", {"name": "c"})
        wire.served(daemon)
        os.kill(worker, signal.SIGKILL)
        for one in (c, d):
            assert one.receive()["parameters"]["environment"]["state"] == "trashed"
        assert daemon.worker() != worker
    assert not wire.remains(root)


def test_an_end_in_spite_of_a_stuck_worker(begin, root, tmp_path):
    """LIMIT_STOP_MS: what was asked of it is settled by the next start."""
    daemon = begin()
    python = wire.fake_python(tmp_path / "python")
    with daemon.connect() as c:
        for name in ("a", "b"):
            c.call("Create", name=name, python=python, withoutPip=True)
        c.call("Delete", name="a")
        os.kill(daemon.worker(), signal.SIGSTOP)
        c.send("Delete", {"name": "b"})
        c.send("Status")
        wire.served(daemon)
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(60) == 0
        assert LIMITS["LIMIT_STOP_MS"] / 1000 - 0.1 < time.monotonic() - began < 20
        assert c.closed() == b""                # not acknowledged, so either outcome is right
    with wire.running(root) as again:
        assert sorted([*again.environments(), *[e["name"] for e in again.trash()]]) == ["a", "b"]


@pytest.mark.slow
def test_a_worker_that_outlives_its_daemon(root, start, tmp_path):
    """LIMIT_LOCK_WAIT_MS: the next daemon waits for it, and then says who it is."""
    root.mkdir()
    python = wire.fake_python(tmp_path / "python")
    first = wire.WireDaemon(root)
    with first.connect() as c:
        c.call("Create", name="a", python=python, withoutPip=True)
        c.call("Delete", name="a")
    worker = first.worker()
    os.kill(worker, signal.SIGSTOP)
    try:
        first.kill()
        began = time.monotonic()
        refused = start(root)
        assert refused.process.wait(60) == 1
        assert time.monotonic() - began > LIMITS["LIMIT_LOCK_WAIT_MS"] / 1000 - 0.1
        assert "still held by process" in refused.log()
    finally:
        os.kill(worker, signal.SIGKILL)
    os.unlink(first.log_path)
    with wire.running(root) as daemon:
        assert [e["name"] for e in daemon.trash()] == ["a"]


def test_probe_timeout(begin, root, tmp_path):
    daemon = begin("-o", "probe-timeout=300")
    for i, text in enumerate(("exec sleep 1000", "sleep 1000 & sleep 1000", "trap '' TERM; while :; do echo; done")):
        python = wire.script(tmp_path / f"hangs{i}", text)
        began = time.monotonic()
        with daemon.connect() as c:
            name, parameters = error(c, "Create", name="a", python=python)
        assert name == "InterpreterFailed" and parameters["interpreter"] == python
        assert time.monotonic() - began < 20
    assert not wire.remains(root) and not daemon.environments()


def test_create_timeout(begin, root, tmp_path):
    daemon = begin("-o", "create-timeout=300")
    python = wire.fake_python(tmp_path / "hangs", build="mkdir -p \"$last/bin\"; sleep 1000")
    with daemon.connect() as c:
        name, parameters = error(c, "Create", name="a", python=python, withoutPip=True)
        assert (name, parameters) == ("Failed", {"reason": "it took longer than 0.3 seconds"})
        assert not daemon.environments()
    wire.until(lambda: not wire.remains(root))


@pytest.mark.parametrize("flood", ["probe", "build"])
def test_output_of_a_child_is_capped(begin, root, tmp_path, flood):
    daemon = begin()
    text = "head -c 5000000 /dev/zero | tr '\\0' x; echo; echo last words; exit 3"
    python = wire.fake_python(tmp_path / "talks", **{flood: text})
    with daemon.connect() as c:
        before = c.call("Status")["memoryBytes"]
        name, parameters = error(c, "Create", name="a", python=python, withoutPip=True)
        assert name == "InterpreterFailed"
        assert parameters["output"].rstrip().endswith("last words")
        assert len(parameters["output"].encode()) <= LIMITS["LIMIT_ERROR_OUTPUT"]
        assert c.call("Status")["memoryBytes"] - before < 4 * MIB
    wire.until(lambda: not wire.remains(root))


def test_output_that_is_no_text(begin, tmp_path):
    daemon = begin()
    python = wire.script(tmp_path / "rubbish", "printf '\\377\\376\\033[2J\\000\\302'; exit 1")
    with daemon.connect() as c:
        assert error(c, "Create", name="a", python=python)[0] == "InterpreterFailed"


def test_interpreters_are_limited(begin, tmp_path):
    """More candidates than one search looks at, in a directory of the caller's PATH."""
    crowd = tmp_path / "many"
    crowd.mkdir()
    with open(wire.PYTHON, "rb") as file:
        real = file.read(64)                    # enough to be no shim; not enough to run
    for i in range(LIMITS["LIMIT_INTERPRETERS"] + 20):
        (crowd / f"python3.{i}").write_bytes(real)
        (crowd / f"python3.{i}").chmod(0o755)
    caller = {"path": str(crowd), "environment": {"PYENV_ROOT": str(tmp_path)}}
    with begin().connect() as c:
        found = c.call("ListInterpreters", caller=caller)["interpreters"]
    assert len(found) == LIMITS["LIMIT_INTERPRETERS"]
    assert all(i["problem"] for i in found if i["path"].startswith(str(crowd)))


def test_a_large_pyvenv_cfg_is_not_read(root):
    cfg = wire.fake_environment(root, "large") / "pyvenv.cfg"
    cfg.write_text(cfg.read_text() + "#" * LIMITS["LIMIT_CFG_BYTES"])
    cfg = wire.fake_environment(root, "fits") / "pyvenv.cfg"
    cfg.write_text(cfg.read_text().ljust(LIMITS["LIMIT_CFG_BYTES"]))
    with wire.running(root) as daemon:
        found = daemon.environments()
    assert found["large"]["state"] == "broken" and str(LIMITS["LIMIT_CFG_BYTES"]) in found["large"]["problem"]
    assert found["fits"]["state"] == "ready"


# --- keeping ---

def test_trash_retention(begin, root, tmp_path):
    daemon = begin("-o", "trash-retention=0")
    python = wire.fake_python(tmp_path / "python")
    with daemon.connect() as c:
        c.call("Create", name="a", python=python, withoutPip=True)
        c.call("Delete", name="a")
        wire.until(lambda: c.call("ListTrash") == {"environments": []})
    wire.until(lambda: not list((root / ".venvd" / "trash").iterdir()))


def test_trash_is_kept_for_its_time(begin, tmp_path):
    daemon = begin()
    python = wire.fake_python(tmp_path / "python")
    with daemon.connect() as c:
        c.call("Create", name="a", python=python, withoutPip=True)
        kept = c.call("Delete", name="a")["environment"]
    assert kept["expiresAt"] - kept["deletedAt"] == LIMITS["LIMIT_TRASH_SECONDS"] * 1000000


def test_values_of_options_are_checked(root, start):
    root.mkdir()
    for value in ("connections=0", "connections=4097", "connections=", "connections=x", "connections", "conections=9",
                  "idle-timeout=9", "jobs-running=65", "jobs-queued=0", "probe-timeout=99", "trash-retention=-1",
                  "connections=99999999999999999999", "connections=5x"):
        refusing = start(root, "-o", value)
        assert refusing.process.wait(60) == 2, value
        log = refusing.log()
        assert log.startswith("error: ") and "hint:" in log, log
        os.truncate(refusing.log_path, 0)
        refusing.process.returncode = 1         # what the fixture takes for a refusal


# --- whatever comes ---

HAMMER = settings(max_examples=60, deadline=None, derandomize=True, database=None,
                  suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
METHODS = [f"{i.name}.{m}" for i in wire.INTERFACES.values() for m in i.methods
           if m not in ("Shutdown", "ListInterpreters")]
FIELDS = sorted({f for i in wire.INTERFACES.values() for m in i.methods.values() for f in m[0]} | {"bogus", ""})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2**64, 2**64) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30) | st.sampled_from(["alpha", "../x", "/", "*", "[", "ready", "name", "a" * 101]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=12)
CALLS = st.fixed_dictionaries(
    {"method": st.sampled_from(METHODS) | st.text(max_size=40)},
    optional={"parameters": st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4) | VALUES,
              "more": st.booleans() | VALUES, "oneway": st.booleans() | VALUES, "upgrade": st.booleans() | VALUES})


def harmless(call):
    """Nothing may be executed or changed for longer than the example lasts: an interpreter that is none."""
    if isinstance(call.get("parameters"), dict) and call["method"].endswith("Create"):
        call["parameters"]["python"] = "/none"
    return call


def drain(connection):
    """What it says until it hangs up, each a well-formed reply."""
    connection.half_close()
    said = connection.closed()
    assert said == b"" or said.endswith(b"\0")
    for frame in said.split(b"\0")[:-1]:
        wire.check_reply(frame, more=True)


@HAMMER
@given(data=st.lists(st.binary(max_size=300) | st.sampled_from([b"\0", STATUS, STATUS + b"\0", b"{", b'"']),
                     max_size=8))
def test_random_bytes(shared, data):
    with shared.connect() as c:
        with contextlib.suppress(ConnectionError):
            for piece in data:
                c.send_raw(piece)
        with contextlib.suppress(OSError):
            drain(c)
    assert wire.served(shared)["pid"] == shared.pid


@HAMMER
@given(calls=st.lists(CALLS.map(harmless), min_size=1, max_size=6))
def test_random_calls(shared, calls):
    with shared.connect() as c:
        with contextlib.suppress(ConnectionError):
            for call in calls:
                c.send_raw(json.dumps(call).encode() + b"\0")
        with contextlib.suppress(OSError):
            drain(c)
    assert wire.served(shared)["pid"] == shared.pid


@HAMMER
@given(call=CALLS.map(harmless), edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4))
def test_damaged_calls(shared, call, edits):
    text = bytearray(json.dumps(call).encode())
    for place, byte in edits:
        text[place % len(text)] = byte
    with shared.connect() as c:
        c.send_raw(bytes(text))
        with contextlib.suppress(OSError):
            drain(c)
    assert wire.served(shared)["pid"] == shared.pid


def test_a_crowd_of_rude_clients(begin):
    """Connections that come, say something or nothing, and go in the middle of everything."""
    daemon, dice = begin("-o", "connections=4096"), random.Random(7)
    texts = [b"", b"\0", STATUS[:7], STATUS + b"\0", (STATUS + b"\0") * 40,
             b'{"method":"io.venvd.List","more":true}\0' * 9,
             b'{"method":"io.venvd.Create","parameters":{"name":"x","python":"/none"}}\0']
    held = []
    for _ in range(400):
        c = daemon.connect()
        c.send_raw(dice.choice(texts))
        held.append(c)
        if len(held) > 20:
            held.pop(dice.randrange(len(held))).close()
    for c in held:
        c.close()
    wire.until(lambda: wire.served(daemon)["connections"] == 1)
