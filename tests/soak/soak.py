# SPDX-License-Identifier: MIT
"""A daemon that runs for months, in minutes: what it holds after very many calls, and how it fares in a crowd.

- requests  calls that change nothing: memory, descriptors and children are as before
- creations the same after creations and deletions
- few       so few descriptors that most of a crowd must wait: no spinning, who is connected is served, and the end is quick
- hostile   clients that never read, that send a byte a second, that send nothing but brackets: memory and the others' answers
- restarts  killed and ended under load: with one retry each, every request is done, and done once
- bites     daemons with a defect, made for this alone (defects.py): each must be caught

Exit status 1 if a bound is missed. --short is for 'make check': the same in seconds, with times only told, not judged, for
other work runs beside it; each row says how busy the machine was before.
"""
import argparse
import contextlib
import multiprocessing
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time

import load
from load import PYTHON, TOP, Missed, Pipe, Table, machine_busy, memory_kib, quantile, running, settled, wait_until

from conftest import Closed, Connection, Daemon, VarlinkError
from wire import fake_environments

sys.path.insert(0, str(TOP / "tests" / "fault"))
import defects  # noqa: E402

MIB = 1024      # of KiB


def call(method, parameters="{}"):
    return b'{"method":"%s","parameters":%s}\0' % (method.encode(), parameters.encode())


# What prompts, editors and the confused ask; 32 is what the daemon answers in one turn.
BATCH = (call("io.venvd.Prompt", '{"name":"env00003"}') * 20 + call("io.venvd.Get", '{"name":"env00005"}') * 6
         + call("io.venvd.Get", '{"name":"nobody"}') + call("io.venvd.Status") + call("io.venvd.List")
         + call("io.venvd.NoSuchMethod") + call("io.venvd.Get", '{"nome":"x"}') + call("org.varlink.service.GetInfo"))
assert BATCH.count(b"\0") == 32


# --- requests ---

def ask(daemon, requests, connections=8):
    """So many calls, in batches, on connections of which every tenth batch opens a new one."""
    pipes = [Pipe(daemon.socket_path) for _ in range(connections)]
    for number in range(requests // 32 + 1):
        at = number % connections
        if number % 10 == 9:
            pipes[at].close()
            pipes[at] = Pipe(daemon.socket_path)
        pipes[at].batch(BATCH)
    for pipe in pipes:
        pipe.close()


def pair(connection, name, number, short):
    """One creation and its end. Most are without pip and go at once; some have it, some go by the trash, some come back.
    In the long form each call has a request id, as those of venvctl have."""
    def change(method, **parameters):
        more = {} if short else {"requestId": f"{name}-{number}-{len(done)}-{time.time_ns()}"}
        done.append(connection.call(method, name=name, **parameters, **more))
    done = []
    change("Create", python=PYTHON, withoutPip=short or number % 16 != 0)
    if number % 4 == 0:
        change("Delete")
        if number % 8 == 0:
            change("Restore")
            change("Delete")
    change("Delete", now=True)


def pairs(daemon, count, short, clients=8):
    """So many of them, by as many clients."""
    failures = []

    def work(client):
        try:
            with daemon.connect() as connection:
                for number in range(client, count, clients):
                    pair(connection, f"pair{client}", number, short)
        except Exception as e:      # told below
            failures.append(f"client {client}: {type(e).__name__}: {e}")
    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise Missed(failures[0])


def fill_memory_of_requests(daemon, count=65600, clients=20):
    """What is remembered of request ids is bounded: up to there first. To mark and unmark is cheap; each client has
    one of its own, for what is busy is refused, and that is not remembered."""
    with contextlib.ExitStack() as stack:
        names = [f"env{number:05}" for number in range(clients)]
        pipes = [stack.enter_context(contextlib.closing(Pipe(daemon.socket_path))) for _ in range(clients)]
        for number in range(0, count, clients):
            for at, pipe in enumerate(pipes):
                pipe.socket.sendall(call("io.venvd.Protect", '{"name":"%s","protected":%s,"requestId":"fill-%d"}' % (
                    names[at], "true" if number // clients % 2 else "false", number + at)))
            for pipe in pipes:
                pipe.batch(call("io.venvd.Prompt", '{"name":"env00003"}'))


CREATIONS = {True: 40, False: 10_000}


def measure_work(table, daemon, what, count, work):
    """What it has after the work beside what it had before."""
    before = settled(daemon)
    began = time.monotonic()
    work(count)
    seconds = time.monotonic() - began
    now = settled(daemon, before)
    for who, old, new in zip(("the daemon", "the resident worker"), before.memory, now.memory, strict=True):
        table.row(f"{count:,} {what}: memory of {who}", f"{old} -> {new} KiB", "less than 1 MiB more", new - old < MIB)
    table.row(f"{count:,} {what}: descriptors, children of both", f"{now.descriptors} {now.children}",
              f"{before.descriptors} {before.children}", now.same_but_memory(before))
    table.row(f"{count:,} {what}: a second", f"{count / seconds:,.0f}", "", None)


def measure_requests(table, top, short, binary=None):
    requests = 30_000 if short else 1_000_000
    fake_environments(top / "envs", 20)
    with running(top / "envs", binary=binary) as daemon:
        for method in ("Delete", "Restore"):        # the resident worker starts when it is needed
            daemon.call(method, name="env00000")
        ask(daemon, requests // 5)
        measure_work(table, daemon, "requests", requests, lambda count: ask(daemon, count))


def measure_creations(table, top, short, binary=None):
    creations = CREATIONS[short]
    root = top / "envs"
    fake_environments(root, 20)
    with running(root, "-o", "pool_entries=16", binary=binary) as daemon:
        for name in ["first"] if short else ["first", "second"]:        # the images, without pip and with it
            daemon.call("Create", name=name, python=PYTHON, withoutPip=name == "first")
        pairs(daemon, max(creations // 20, 16), short)
        if not short:
            fill_memory_of_requests(daemon)
        measure_work(table, daemon, "created and deleted", creations, lambda count: pairs(daemon, count, short))
        wait_until(lambda: not any(any((root / ".venvd" / d).iterdir()) for d in ("stage", "trash")), 10)
        left = [p.name for d in ("stage", "trash") for p in (root / ".venvd" / d).iterdir()]
        table.row(f"{creations:,} created and deleted: left in stage and trash", str(left[:3]), "[]", left == [])


# --- few descriptors ---

def measure_few(table, top, short, binary=None):
    seconds, clients, good = (3, 200, 10) if short else (60, 200, 10)
    root = top / "envs"
    fake_environments(root, 20)
    with running(root, "-o", "connections=4096", descriptors=64, binary=binary) as daemon, contextlib.ExitStack() as stack:
        served = [stack.enter_context(daemon.connect()) for _ in range(good)]
        for c in served:
            c.call("Status")
        crowd = [load.connect_without_waiting(daemon.socket_path) for _ in range(clients)]
        for s in crowd:
            s.send(call("io.venvd.Status"))
        if not wait_until(lambda: daemon.log_has("no descriptor")):
            raise Missed("the crowd was too small")
        spent, began, took = daemon.cpu_seconds(), time.monotonic(), []
        while time.monotonic() - began < seconds:
            for c in served:
                asked = time.monotonic()
                c.call("Prompt", name="env00003")
                took.append(time.monotonic() - asked)
            time.sleep(0.5)
        share = (daemon.cpu_seconds() - spent) / (time.monotonic() - began)
        for s in crowd:
            s.close()
        left = time.monotonic()
        with daemon.connect() as c:
            c.call("Status")
        recovery = time.monotonic() - left
    what = f"64 descriptors, {clients} clients, {seconds} s"
    table.row(f"{what}: processor time", f"{100 * share:.2f} %", "less than 2 %" if not short else "less than 4 %",
              share < (0.04 if short else 0.02))
    table.row(f"{what}: those connected", f"{len(took)} answers, the slowest {1000 * max(took):.1f} ms", "served", bool(took))
    table.row(f"{what}: a new one is served after the crowd", f"{1000 * recovery:.0f} ms",
              "less than 1 s", recovery < (10 if short else 1))


# --- hostile clients ---

class Hostile:
    """A process with clients of all three kinds, until it is told to end."""

    def __init__(self, path, each):
        self.end = multiprocessing.Event()
        self.told = multiprocessing.Queue()
        self.process = multiprocessing.Process(target=self.work, args=(path, each), daemon=True)
        self.process.start()

    def work(self, path, each):
        calls = call("io.venvd.List") * 50
        never = [load.connect_without_waiting(path) for _ in range(each)]
        slow = [(load.connect_without_waiting(path), bytearray(call("io.venvd.Status"))) for _ in range(each)]
        sent = brackets = 0
        next_byte = time.monotonic()
        while not self.end.is_set():
            for number, s in enumerate(never):
                try:
                    sent += s.send(calls)
                except BlockingIOError:
                    pass
                except ConnectionError:         # it had enough of this one
                    s.close()
                    never[number] = load.connect_without_waiting(path)
            if time.monotonic() >= next_byte:
                next_byte += 1
                for number, (s, rest) in enumerate(slow):
                    try:
                        s.send(bytes(rest[:1]))
                        del rest[:1]
                    except ConnectionError:
                        s.close()
                        slow[number] = load.connect_without_waiting(path), bytearray(call("io.venvd.Status"))
                load.drain([s for s, _ in slow])
            brackets += self.brackets(path)
            self.end.wait(0.05)
        self.told.put((sent, brackets))

    @staticmethod
    def brackets(path):
        """A MiB of them, or as many as it takes."""
        with contextlib.closing(Pipe(path)) as pipe, contextlib.suppress(OSError):
            pipe.socket.sendall(b"[" * (1 << 20))
            pipe.socket.recv(1)
        return 1

    def stop(self):
        self.end.set()
        told = self.told.get(timeout=60)
        self.process.join(60)
        return told


def measure_hostile(table, top, short, binary=None):
    seconds, each = (3, 100) if short else (45, 100)
    root = top / "envs"
    fake_environments(root, 300)
    with running(root, "-o", "connections=1024", binary=binary) as daemon, contextlib.ExitStack() as stack:
        good = [stack.enter_context(daemon.connect()) for _ in range(8)]
        ask(daemon, 3200)
        before = memory_kib(daemon.pid)
        hostile = Hostile(daemon.socket_path, each)
        took, began = [], time.monotonic()
        while time.monotonic() - began < seconds:
            for c in good:
                asked = time.monotonic()
                c.call("Prompt", name="env00003")
                took.append(time.monotonic() - asked)
            time.sleep(0.01)
        sent, brackets = hostile.stop()
        most = memory_kib(daemon.pid, "VmHWM")
    what = f"{each} that never read, {each} of a byte a second, {seconds} s"
    table.row(f"{what}: memory at its most", f"{before} -> {most} KiB", "at most 16 MiB more", most - before <= 16 * MIB)
    p99 = 1000 * quantile(took, 0.99)
    table.row(f"{what}: a good one's answer, p99 of {len(took)}", f"{p99:.2f} ms", "" if short else "less than 10 ms",
              None if short else p99 < 10)
    table.row(f"{what}: taken in from them", f"{sent >> 10} KiB of calls, {brackets} x 1 MiB of [", "some", sent > 0 < brackets)


# --- restarts ---

class House:
    """A root whose daemon is ended and started again; clients wait for the next one."""

    def __init__(self, root, binary):
        self.root, self.binary = root, binary
        self.changed = threading.Condition()
        self.generation, self.done, self.retries = 0, 0, []
        self.daemon = None

    def start(self):
        kwargs = {"binary": self.binary} if self.binary else {}
        self.daemon = Daemon(self.root, ("-o", "pool_initial=8"), env=load.ENVIRONMENT, **kwargs)
        if not self.daemon.said.startswith("ready "):
            raise Missed(f"it does not start: {self.daemon.log()[-500:]}")
        with self.changed:
            self.generation += 1
            self.changed.notify_all()

    def end(self, hard):
        if hard:
            self.daemon.kill()
        elif self.daemon.stop() != 0:
            raise Missed(f"it did not end well: {self.daemon.log()[-800:]}")
        os.unlink(self.daemon.log_path)

    def wait_for_another(self, generation):
        with self.changed:
            if not self.changed.wait_for(lambda: self.generation > generation, 60):
                raise Missed("no daemon came back")

    def wait_for(self, count):
        with self.changed:
            if not self.changed.wait_for(lambda: self.done >= count, 300):
                raise Missed(f"after {self.done} requests nothing goes on")

    def finished(self, retries):
        with self.changed:
            self.done += 1
            self.retries.append(retries)
            self.changed.notify_all()


class Client:
    """A connection that does as venvctl does: after a broken one, the same request once more, with its id."""

    def __init__(self, house):
        self.house, self.connection, self.generation = house, None, 0

    def change(self, request_id, method, **parameters):
        for retries in range(6):        # more than one is told, and missed; but the work must go on to be held against the disk
            with self.house.changed:
                self.generation = self.house.generation
            try:
                if self.connection is None:
                    self.connection = Connection(self.house.daemon.socket_path)
                self.connection.call(method, requestId=request_id, **parameters)
                self.house.finished(retries)
                return
            except VarlinkError as e:
                if e.name != "ShuttingDown":
                    raise
            except (Closed, OSError):
                pass
            if self.connection:
                self.connection.close()
            self.connection = None
            self.house.wait_for_another(self.generation)
        raise Missed(f"{request_id} is never answered")


def change_much(house, client, rounds, failures):
    """Four requests a round, of which the third succeeds only if the second has happened, and happened once."""
    one = Client(house)
    try:
        for number in range(rounds):
            name, other = f"a{client}-{number}", f"b{client}-{number}"
            one.change(f"{name}-1", "Create", name=name, python=PYTHON, withoutPip=True)
            one.change(f"{name}-2", "Delete", name=name)
            one.change(f"{name}-3", "Create", name=name, python=PYTHON, withoutPip=True)
            one.change(f"{name}-4", "Rename", name=name, to=other)
    except Exception as e:      # told by who waits for all
        failures.append(f"client {client}: {type(e).__name__}: {e}")
        with house.changed:
            house.done += 10**6
            house.changed.notify_all()


def measure_restarts(table, top, short, binary=None):
    threads, rounds, restarts = (10, 2, 2) if short else (50, 10, 5)
    total = threads * rounds * 4
    root = top / "envs"
    house = House(root, binary)
    house.start()
    house.daemon.call("Create", name="first", python=PYTHON, withoutPip=True)
    failures = []
    workers = [threading.Thread(target=change_much, args=(house, client, rounds, failures)) for client in range(threads)]
    began = time.monotonic()
    try:
        for worker in workers:
            worker.start()
        for number in range(restarts):
            house.wait_for(total * (number + 1) // (restarts + 1))
            house.end(hard=number % 2 == 0)
            house.start()
        for worker in workers:
            worker.join()
        seconds = time.monotonic() - began
        house.end(hard=True)                    # what was acknowledged is there, whoever asks
        house.start()
        rows, trash = house.daemon.environments(), sorted(t["name"] for t in house.daemon.trash())
    finally:
        if house.daemon.process.poll() is None:
            house.end(hard=True)
    live = {"first", *(f"b{client}-{number}" for client in range(threads) for number in range(rounds))}
    gone = sorted(f"a{client}-{number}" for client in range(threads) for number in range(rounds))
    there = {p.name for p in root.iterdir() if p.name != ".venvd"}
    ready = all(row["state"] == "ready" for row in rows.values())
    what = f"{restarts} restarts, {threads} clients, {total} requests"
    table.row(f"{what}: answered{': ' + failures[0] if failures else ''}", f"{len(house.retries)} in {seconds:.1f} s",
              f"{total}", len(house.retries) == total and not failures)
    table.row(f"{what}: environments", f"{len(rows)} rows, {len(there)} directories, {'all' if ready else 'not all'} ready",
              f"{len(live)}, just these", set(rows) == there == live and ready)
    table.row(f"{what}: in the trash", f"{len(trash)}", f"{len(gone)}, just these", trash == gone)
    table.row(f"{what}: asked again", f"{sum(map(bool, house.retries))} requests, at most {max(house.retries, default=0)} x",
              "once each", max(house.retries, default=0) <= 1)


# --- do they bite? ---

PARTS = {"requests": measure_requests, "creations": measure_creations, "few": measure_few, "hostile": measure_hostile,
         "restarts": measure_restarts}


def measure(part, table, short, binary=None):
    """In a directory of its own; a part that cannot be brought to its end is one that missed."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="venvd-soak-", dir=os.environ.get("TMPDIR")))
    try:
        PARTS[part](table, top, short, binary)
    except (Missed, VarlinkError, Closed, OSError, AssertionError) as e:
        table.row(f"{part}: it went wrong", f"{type(e).__name__}: {e}", "", False)
    finally:
        shutil.rmtree(top, ignore_errors=True)


class Silent(Table):
    """Of a variant: it says only what it has missed."""

    def row(self, what, seen, bound, kept):
        if kept is False:
            self.missed += 1
            print(f"    {what}: {seen}, not {bound}", flush=True)


def bites(table, name, build):
    part = defects.DEFECTS[name][0]
    with tempfile.TemporaryDirectory(prefix="venvd-defect-") as where:
        binary = defects.build(name, build, where)
        silent = Silent()
        measure(part, silent, True, binary)
    table.row(f"a daemon with a defect, {name}", "caught" if silent.missed else "NOT CAUGHT", f"caught by {part}",
              silent.missed > 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="all of it in seconds, with one defect")
    parser.add_argument("--only", action="append", choices=[*PARTS, "bites"])
    parser.add_argument("--seed", type=int, default=None, help="which defect --short takes")
    parser.add_argument("--creations", type=int, metavar="COUNT", help="other than 10,000, for a machine that is busy")
    options = parser.parse_args()
    if options.creations:
        CREATIONS[False] = options.creations
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # nothing of it stays behind
    build = pathlib.Path(os.environ.get("VENVD_BUILD", TOP / "build")).resolve()
    began, table = time.monotonic(), Table()
    table.head()
    for part in options.only or [*PARTS, "bites"]:
        if part == "bites":
            names = list(defects.DEFECTS)
            seed = options.seed if options.seed is not None else time.time_ns() // 1000 % 1000
            for name in [names[seed % len(names)]] if options.short else names:
                bites(table, name, build)
        else:
            print(f"{part}: the machine is {100 * machine_busy(0.2 if options.short else 2):.0f} % busy without us", flush=True)
            measure(part, table, options.short)
    print(f"soak: {table.rows} figures, {table.missed} missed, {time.monotonic() - began:.0f} s")
    return 1 if table.missed or table.rows == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
