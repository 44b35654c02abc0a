# SPDX-License-Identifier: MIT
"""One operation (operations.py) from its beginning to its end with one fault or none.

A trial knows what is there before and what is there afterwards; a fault may leave either, as the answer says, and nothing
else. Each kind of trial arms the shim at another moment: in the operation, in the start after it, in the end.
"""
import contextlib
import functools
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

from conftest import Closed, Daemon, VarlinkError
from house import CHILD, DAEMON, DEADLINE, ERRNO, KILL_BEFORE, PYTHON, House, Violation, digest, look, shape, stage_is_empty
from operations import ASIDE, BY_HAND, ENDS, FIRST, OPERATIONS, Repaired, added, create, nothing, one, one_and_trash, python_with_small_pip

# Of these the daemon ends itself, and looks at the disk when it is started again: it is never tried twice.
SYNCS = {"fsync", "fdatasync", "syncfs", "sync_file_range", "pwrite", "pwrite64", "write", "ftruncate", "ftruncate64"}


EVERYTHING = OPERATIONS | FIRST | BY_HAND | ENDS
WITHOUT_ID = ("EmptyTrash", "AddInterpreter", "RemoveInterpreter")


def bytes_apart(what):
    """What look() has found, but what is in each."""
    return {name: more[1:] for name, more in what[0].items()}, [(t[0], *t[2:]) for t in what[1]]


def name_and(n, what):
    """Of those that live, the first n things that look() has found."""
    return {name: more[:n] for name, more in what[0].items()}


class Trial:
    """One operation, from its beginning to its end, with one fault or none."""

    def __init__(self, house, operation):
        self.house, self.operation = house, operation
        self.setup, self.method, self.parameters = EVERYTHING[operation]
        self.of = shape if "pip" in operation else digest
        self.number, self.reason, self.answered = 0, None, 0
        self.one_by_one = operation == "trash empty"    # and it promises no more
        self.purges = operation.startswith("purge")
        self.repaired = Repaired(operation) if self.method == "Repair" else None
        # The interpreter's own venv works in what is there: nothing of that is taken back, but it is looked into.
        self.rebuilt = self.parameters["name"] if {"clear", "upgrade"} & {*self.parameters} else None

    def look(self):
        live, trash = look(self.house, self.labels, self.of, bool(self.repaired or self.rebuilt))
        if self.operation.startswith("python"):
            live["known by hand"] = tuple(added(self.house))
        return live, trash

    def but_for_it(self, what):
        """What look() has found, without the one that is rebuilt; and that it is in the list if it was."""
        live = {name: more for name, more in what[0].items() if name not in (self.rebuilt, f"elsewhere/{self.rebuilt}")}
        return self.rebuilt in self.before[0] and what[0].get(self.rebuilt, (0, "gone"))[1:], live, what[1]

    def prepare(self):
        if self.operation in FIRST:
            self.house.afresh()
        else:
            self.clean()
        daemon = self.house.daemon
        self.labels = self.setup(self.house)
        self.house.idle()
        self.before, self.given_back, self.start_refused = self.look(), False, False
        if self.repaired:
            self.repaired.old = self.repaired.files(self.house)
        self.number += 1
        self.request = {**self.parameters}
        if "path" in self.request and self.method == "Create" or self.method == "Adopt":
            self.request["path"] = str(self.house.top / self.request["path"])
        if "small pip" in self.operation:
            self.request["python"] = str(python_with_small_pip(self.house))
        if self.method not in WITHOUT_ID:
            self.request["requestId"] = f"{os.getpid()}-{self.number}-{time.time_ns()}"
        assert daemon.process.poll() is None

    def resources(self):
        """What the daemon has before, and may have afterwards."""
        more = 1 if self.operation in FIRST else 0      # the resident worker comes with the first short order
        return tuple(n + more for n in self.house.resources())

    def clean(self):
        daemon = self.house.daemon
        for name in daemon.environments():
            daemon.call("Protect", name=name, protected=False)
            daemon.call("Delete", name=name, now=True)
        daemon.call("EmptyTrash")
        # The pool has what the operation takes, and nobody fills it meanwhile.
        create(daemon, "warm")
        daemon.call("Delete", name="warm", now=True)

    def do(self):
        """'done', the error's name, or None: no answer."""
        if self.operation in BY_HAND:
            return self.do_by_hand()
        self.reason = None
        connection = self.house.daemon.connect()
        connection.socket.settimeout(DEADLINE * (5 if "with pip" in self.operation else 1))
        try:
            connection.call(self.method, **self.request)
            return "done"
        except VarlinkError as e:
            self.reason = e.parameters
            return e.name
        except (Closed, OSError):
            return None
        finally:
            connection.close()

    def do_by_hand(self):
        name, end = self.method(self.house), time.monotonic() + DEADLINE
        try:
            while self.house.daemon.environments().get(name, {}).get("state") != "ready":
                if time.monotonic() > end:
                    raise Violation(f"'{name}' is never seen: {self.house.daemon.log()[-500:]}")
                time.sleep(0.001)
        except (Closed, OSError):
            return None
        return "done"

    def count(self, **how):
        self.prepare()
        self.house.arm(0, **how)
        if (answer := self.do()) != "done":
            raise Violation(f"{self.operation} does not even work: {answer}")
        self.answered = self.house.state.count
        self.house.idle()
        time.sleep(0.05)        # rows that nobody waits for are held back for 20 ms
        calls = self.house.state.count
        self.after = self.look()
        if self.repaired:
            self.repaired.new = self.repaired.files(self.house)
            self.repaired.check(self.house, True)
        stage_is_empty(self.house)
        return calls

    def look_when_purged(self, either=None):
        """What has begun to go for good goes on going after a start. None: whatever is whole."""
        end = time.monotonic() + 5
        while True:
            try:
                now = self.look()
                if either is None or now in either or time.monotonic() > end:
                    return now
            except (Violation, FileNotFoundError):
                if time.monotonic() > end:
                    raise
            self.house.idle()

    def give_back(self):
        """What Recreate could not put back it says is in the trash, and that brings it back, by another id."""
        told = self.method == "Recreate" and (self.start_refused
                                              or "the old one is in the trash" in (self.reason or {}).get("reason", ""))
        if told and self.parameters["name"] not in self.house.daemon.environments():    # or a start has put it back
            with contextlib.suppress(OSError):      # an empty directory, that could not be removed either
                (self.house.elsewhere / self.parameters["name"]).rmdir()
            self.house.daemon.call("Restore", name=self.parameters["name"])
            self.given_back, self.reason, self.start_refused = True, None, False

    def same(self, now, then):
        """Whatever its id, of one that was given back."""
        if not self.given_back:
            return now == then
        return name_and(1, now) == name_and(1, then) and [t[:2] for t in now[1]] == [t[:2] for t in then[1]]

    def check(self, answer, what):
        self.give_back()
        if self.one_by_one or (self.purges and answer == "Failed"):
            now = self.look_when_purged()
        elif self.purges:
            now = self.look_when_purged((self.before, self.after))
        else:
            now = self.look()
        # Both of a name are on their way then, and the one that could not go does so later.
        in_part = self.one_by_one or (self.purges and (answer == "Failed" or self.start_refused))
        if in_part and answer != "done" and now[0] == self.before[0] and all(t in self.before[1] for t in now[1]):
            return
        if self.repaired and bytes_apart(now) == bytes_apart(self.before):
            self.repaired.check(self.house, answer == "done")
            return
        if self.rebuilt and answer != "done" and self.but_for_it(now) == self.but_for_it(self.before):
            return
        if now == self.after and (answer in ("done", None) or self.after == self.before):
            return
        if self.same(now, self.before) and answer != "done":
            return
        raise Violation(f"{what}: answered {answer}; before {self.before}, afterwards {self.after}, but there is {now}")

    def settled(self, answer):
        """What failed on and on may have left something to the next start, and then its row says so."""
        house = self.house
        left = [row for row in house.daemon.environments().values() if "could not be taken " in row.get("problem", "")]
        stage, trash = house.root / ".venvd/stage", house.root / ".venvd/trash"
        # Or an entry of the trash that its tree has not come into.
        empty = trash.exists() and any(not (entry / "tree").exists() for entry in trash.iterdir())
        # Or one that was being removed for good.
        empty = empty or any(not os.path.exists(row["path"]) for row in house.daemon.trash())
        if (answer != "done" and left or empty or stage.exists() and any(stage.iterdir())
                or "the root could not be looked through" in house.daemon.log()):
            self.house.daemon.kill()
            self.house.again()
            self.house.idle()
        # What went for good while no row could be written is missed until the request is made again.
        if answer is None and self.parameters.get("now") and any(
                row["state"] == "missing" for row in house.daemon.environments().values()):
            self.do()
        # Beside a place elsewhere no start looks for such an entry, if it could not be unlinked either; it holds its record.
        for entry in house.elsewhere.glob(".*.venvd-trash/[!.]*"):
            if not (entry / "tree").exists():
                shutil.rmtree(entry)

    def once_more(self):
        """It has happened, and happened once."""
        again = self.do()
        self.house.idle()
        gone_by_itself = (self.purges and again == "NoSuchEnvironment"           # what failed was tried again
                          or self.method == "RemoveInterpreter" and again == "NoSuchInterpreter")
        if again != "done" and not gone_by_itself:
            raise Violation(f"the same call again is answered {again} {self.reason}, not done")
        if self.repaired and (self.house.root / "a" / ASIDE).exists():
            self.request.pop("requestId")       # the answer has told of it
            if (again := self.do()) != "done":
                raise Violation(f"another repair is answered {again} {self.reason}, not done")
            self.house.idle()
        now = self.look_when_purged((self.after,)) if self.purges or self.operation == "trash empty" else self.look()
        if not self.same(now, self.after):
            raise Violation(f"after the same call again there is {now}, not {self.after}")

    def still_there(self):
        """Nothing of what a list needs has failed."""
        if self.house.dead() is None:
            try:
                self.house.daemon.environments()
            except (Closed, OSError) as e:
                if self.house.dead(wait=1) is None:
                    raise Violation(f"it does not list while calls fail: {e}") from None

    def start_that_may_fail(self):
        """A start that calls fail for: it succeeds, or says why not."""
        log = self.house.daemon.log_path
        self.house.daemon = daemon = Daemon(self.house.root, House.options, env=self.house.env, binary=self.house.binary)
        os.unlink(log)
        if daemon.said.startswith("ready "):
            return
        status = daemon.process.wait(DEADLINE)
        if status == -signal.SIGABRT:
            self.house.died_well(status)
        elif status != 1 or not daemon.said.startswith("error: "):
            raise Violation(f"its start ends with {status}, says '{daemon.said}': {daemon.log()[-500:]}")

    def ended(self, certainly, wait):
        """Its status, if it ends: at once, or when it hears of what a worker has met; then it is not idle before."""
        house = self.house
        if not certainly and house.dead(wait) is None:
            try:
                house.idle()
                return None
            except (Closed, OSError):
                pass
        return house.dead(wait=5)

    def linger(self):
        """What nobody waits for is met, too: orders, and rows that are held back for 20 ms."""
        if not self.house.state.fired and self.ended(False, 0) is None and not self.house.state.fired:
            self.house.dead(wait=0.06)

    def run(self, call, mode, error=0, all_of_it=False, **how):
        house = self.house
        lasting = how.get("persists", False)
        self.one_by_one = self.operation == "trash empty" or lasting and self.purges
        self.prepare()
        resources = self.resources()
        house.arm(call, mode, error, all_of_it, **how)
        answer = self.do()
        if answer is not None:
            self.linger()
        fired = house.state.fired
        if fired and lasting:
            self.still_there()
            status = house.dead(wait=0.3 if answer is not None else 5)
            if status is not None:
                house.died_well(status)
            if status is not None and call % 3 == 0:
                self.start_that_may_fail()
                if house.dead() is None:
                    house.daemon.kill()
        fired = house.disarm()
        if not fired:
            return False
        name = house.state.call.decode()
        status = self.ended(answer is None or mode != ERRNO and (all_of_it or fired == house.daemon.pid),
                            0.2 if fired == house.daemon.pid and name in SYNCS else 0)
        if status is not None:
            if mode == ERRNO and not lasting:
                if name not in SYNCS:
                    raise Violation(f"{name} failed, and the daemon ended with {status}: {house.daemon.log()[-800:]}")
                house.died_well(status)
            house.again()
        house.idle()
        if lasting:
            self.settled(answer)
        self.check(answer, "then")
        stage_is_empty(house)
        if status is None and mode == ERRNO:
            house.resources_are(resources, name)
        # A start finds the same.
        if status is None and call % 4 == 0:
            house.daemon.kill()
            house.again()
            house.idle()
            self.check(answer, "after another start")
        self.once_more()
        return True


class Children(Trial):
    """The Python children of a worker: killed, or refused something. The daemon hears of it through the worker."""

    def __init__(self, house, operation):
        super().__init__(house, operation)
        self.of = functools.partial(self.of, links=False)

    def count(self, **how):
        return super().count(who=CHILD, **how)

    def run(self, call, mode, error=0, all_of_it=False, **how):
        house = self.house
        self.prepare()
        resources = self.resources()
        house.arm(call, mode, error, all_of_it, who=CHILD, **how)
        answer = self.do()
        fired = house.disarm()
        if not fired:
            return False
        name = f"{house.state.call.decode()} of a child"
        status = house.dead(wait=5 if answer is None or all_of_it else 0)
        if status is not None:
            if not all_of_it:
                raise Violation(f"{name} failed, and the daemon ended with {status}: {house.daemon.log()[-800:]}")
            house.again()
        house.idle()
        self.check(answer, "then")
        stage_is_empty(house)
        if status is None:
            house.resources_are(resources, name)
        # That an interpreter has failed is an answer too, and is kept under its id.
        if answer not in ("done", None):
            self.request["requestId"] += " again"
        self.once_more()
        return True


def what_is_left(house):
    """What a crash leaves, as far as a start goes by it: rows, trees, and which names lie in our own directories, but times
    and ids. How much there is of what the stage holds makes no difference: it is swept."""
    state, nameless = house.root / ".venvd", functools.partial(re.sub, r"\d*~[0-9a-f~]+", "~")
    with tempfile.TemporaryDirectory(dir=house.top) as copy:
        for path in state.glob("catalog.db*"):
            shutil.copy2(path, copy)
        with contextlib.closing(sqlite3.connect(f"{copy}/catalog.db")) as catalog:
            try:
                rows = catalog.execute("SELECT name, state, intent, new_name, ino <> 0, protected, location, problem IS NULL "
                                       "FROM environment ORDER BY 1, 2, 3, ino").fetchall()
                rows += catalog.execute("SELECT method, error FROM request ORDER BY at_us").fetchall()[-1:]
            except sqlite3.Error as e:
                rows = [str(e)]
    ours = [state, state / "stage", state / "trash", *state.glob("stage/rename~*"), *state.glob("trash/*"),
            *house.elsewhere.glob(".*.venvd-trash"), *house.elsewhere.glob(".*.venvd-trash/*")]
    names = sorted(nameless(str(path)) for top in ours if top.is_dir() for path in top.iterdir() if not path.is_socket())
    trees = [(path.name, digest(path)) for top in (house.root, house.elsewhere) for path in sorted(top.glob("[!.]*"))]
    return repr((rows, names, trees))


class Start(Trial):
    """The start after a crash in the middle of the operation is itself the operation, and so is the one after that."""

    def crash(self, call):
        """The daemon is gone, killed with who made this call; the operation's answer."""
        self.house.arm(call, KILL_BEFORE, 0, True)
        answer = self.do()
        self.house.dead(wait=5)
        return answer

    def count_start(self, call):
        self.prepare()
        self.crash(call)
        if self.house.dead() is None:
            self.house.disarm()
            return 0
        self.left = what_is_left(self.house)
        self.house.arm(0)
        log = self.house.daemon.log_path
        self.house.start()
        os.unlink(log)
        self.house.idle()
        time.sleep(0.05)
        return self.house.state.count

    def start_killed(self, at, mode):
        """Whether a call with that number was made; the daemon may have lived on, if it was a worker's."""
        house, log = self.house, self.house.daemon.log_path
        house.arm(at, mode)
        house.state.daemon = 0
        try:
            house.start()
            self.linger()
        except Violation as e:
            if not house.state.fired:
                raise Violation(f"a start in which nothing has failed: {e}") from None
        os.unlink(log)
        fired = house.disarm()
        self.by = "daemon" if fired == house.daemon.pid else "a worker"
        ready = house.daemon.said.startswith("ready ")
        house.dead(wait=0 if ready and fired != house.daemon.pid else 3)
        return bool(fired)

    def done_at_last(self):
        if (answer := self.do()) != "done":
            raise Violation(f"the same call again is answered {answer} {self.reason}: {self.house.daemon.log()[-500:]}")

    def run_refused(self, call, at, error):
        """A call of the start fails."""
        house = self.house
        self.prepare()
        answer = self.crash(call)
        if house.dead() is None:
            house.disarm()
            return False
        house.arm(at, ERRNO, error)
        house.state.daemon = 0
        self.start_refused = True       # and its log has the word
        self.start_that_may_fail()
        self.linger()
        status = self.ended(False, 0)
        fired = house.disarm()
        if status is not None:
            if house.daemon.said.startswith("ready "):
                house.died_well(status)
            house.again()
        house.idle()
        self.settled(answer)
        self.check(answer, f"start refused call {at}")
        stage_is_empty(house)
        self.done_at_last()
        return bool(fired)

    def run_start(self, call, at, mode, then=0):
        """`then`: where the start after that one is killed, too."""
        house = self.house
        self.prepare()
        answer = self.crash(call)
        if house.dead() is None:        # it made fewer calls than when they were counted
            house.disarm()
            return False
        fired = self.start_killed(at, mode)
        if then:
            if house.dead() is None:
                house.daemon.kill()
            fired = self.start_killed(then, mode) and fired
        if house.dead() is not None:
            house.again()
        house.idle()
        self.check(answer, f"start killed at {at}" + (f", the next at {then}" if then else ""))
        stage_is_empty(house)
        self.done_at_last()
        return fired


class StartWithoutCatalog(Start):
    """It makes the catalog again: the environments are adopted, and the trash has its records."""

    def __init__(self, house):
        super().__init__(house, "protect")
        self.setup = one_and_trash

    def crash(self, call):
        self.house.daemon.kill()
        for path in (self.house.root / ".venvd").glob("catalog.db*"):
            path.unlink()

    def count(self):
        self.prepare()
        self.crash(1)
        self.house.again()
        self.house.idle()
        self.after = self.look()
        if [name_and(1, self.after), self.after[1]] != [name_and(1, self.before), self.before[1]]:
            raise Violation(f"without a catalog there is {self.after}, with it {self.before}")
        return 1


class End(Trial):
    """The orderly end after the operation: what the log of the catalog holds goes into its file."""

    def terminate(self):
        self.house.daemon.process.send_signal(signal.SIGTERM)
        return self.house.daemon.process.wait(DEADLINE)

    def count(self):
        super().count()
        self.prepare()
        if self.do() != "done":
            raise Violation(f"{self.operation} does not even work")
        self.house.arm(0)
        if (status := self.terminate()) != 0:
            raise Violation(f"it ends with {status}")
        calls = self.house.state.count
        self.house.again()
        return calls

    def end(self, call, mode, error, persists):
        """With the fault, and begun again; whether it has come."""
        house = self.house
        house.arm(call, mode, error, persists=persists)
        status = self.terminate()
        fired = house.disarm()
        if mode == ERRNO and status != 0:
            house.died_well(status)
        house.again()
        house.idle()
        return fired

    def run(self, call, mode, error=0, persists=False):
        house = self.house
        self.prepare()
        if self.do() != "done":
            raise Violation(f"{self.operation} does not even work")
        fired = self.end(call, mode, error, persists)
        self.check("done", "after its end")
        stage_is_empty(house)
        self.once_more()
        return bool(fired)


class EndPurged(End):
    """What is ours goes, the trash too, and every environment stays. After a crash in the middle of it no tree of the trash is
    there in part."""

    def terminate(self):
        try:
            self.house.daemon.call(self.method, **self.parameters)
        except (Closed, OSError):
            pass
        return self.house.daemon.process.wait(DEADLINE)

    def count(self):
        self.prepare()
        self.house.arm(0)
        if (status := self.terminate()) != 0:
            raise Violation(f"it ends with {status}")
        calls = self.house.state.count
        if {path.name for path in self.house.root.iterdir()} != {*self.before[0]}:
            raise Violation(f"it has left {sorted(path.name for path in self.house.root.iterdir())}")
        self.house.again()
        self.after = self.look()
        return calls

    def run(self, call, mode, error=0, persists=False):
        house = self.house
        self.prepare()
        fired = self.end(call, mode, error, persists)
        live, trash = self.look()
        if name_and(1, (live, trash)) != name_and(1, self.before):
            raise Violation(f"there was {self.before[0]}, and is {live}")
        if not {t[:2] for t in trash} <= {t[:2] for t in self.before[1]}:
            raise Violation(f"the trash had {self.before[1]}, and has {trash}")
        stage_is_empty(house)
        if self.terminate() != 0 or {path.name for path in house.root.iterdir()} != {*self.before[0]}:
            raise Violation(f"another one leaves {sorted(path.name for path in house.root.iterdir())}: {house.daemon.log()[-500:]}")
        house.again()
        return bool(fired)


class Memory(Trial):
    """No memory for one of the allocations of one process, or from one on."""

    def count(self, who):
        everything = super().count(who=who, memory=True)
        # Of the daemon's only those until the answer: to ask whether it is idle takes some, too.
        return self.answered if who == DAEMON else everything

    def run(self, call, who, persists):
        house = self.house
        self.prepare()
        resources = house.resources()
        house.arm(call, ERRNO, 0, who=who, persists=persists, memory=True)
        answer = self.do()
        if answer is not None:
            self.linger()
        fired = house.disarm()
        if not fired:
            return False
        try:
            self.judge(answer, resources, persists)
        except (Violation, VarlinkError, Closed, OSError) as e:
            raise Violation(f"{e}\n      at {house.where()}") from None
        return True

    def judge(self, answer, resources, persists):
        house = self.house
        # Whoever has met it may be a moment away from its end; who answers is not.
        status = house.dead(wait=5 if answer is None or not house.answers() else 0)
        house.workers_died_well()
        if status is not None:
            house.died_well(status)
            house.again()
        elif answer is None:
            raise Violation("no answer, and the daemon lives")
        house.idle()
        if persists:
            self.settled(answer)
        self.check(answer, "then")
        stage_is_empty(house)
        if status is None:
            house.resources_are(resources, "it")
            house.workers_died_well()
        self.once_more()


class Listing(Memory):
    """A list is right, or there is none."""

    def __init__(self, house):
        super().__init__(house, "protect")

    def do(self):
        connection = self.house.daemon.connect()
        try:
            found = [r["environment"] for r in connection.stream("List") if r]
        except VarlinkError as e:
            return e.name
        except (Closed, OSError):
            return None
        finally:
            connection.close()
        if not hasattr(self, "found"):
            self.found = [{k: v for k, v in r.items() if k not in ("id", "createdAt")} for r in found]
        if [{k: v for k, v in r.items() if k not in ("id", "createdAt")} for r in found] != self.found:
            raise Violation(f"it lists {found}")
        return "done"


class StartMemory(Memory):
    """A start without memory: it succeeds, or says so."""

    def __init__(self, house):
        super().__init__(house, "restore")

    def count(self, who):
        self.prepare()
        self.after = self.before
        self.house.daemon.kill()
        self.house.arm(0, who=who, memory=True)
        log = self.house.daemon.log_path
        self.house.start()
        os.unlink(log)
        self.answered = self.house.state.count
        self.house.idle()
        return self.answered if who == DAEMON else self.house.state.count

    def run(self, call, who, persists):
        house = self.house
        self.prepare()
        house.daemon.kill()
        house.arm(call, ERRNO, 0, who=who, persists=persists, memory=True)
        house.state.daemon = 0
        log = house.daemon.log_path
        house.daemon = Daemon(house.root, House.options, env=house.env, binary=house.binary)
        os.unlink(log)
        said = house.daemon.said
        if said.startswith("ready "):
            self.linger()
            self.ended(False, 0)        # whoever has met it may be a moment away from its end
        else:
            house.dead(wait=5)
        fired = house.disarm()
        if not fired:
            return False
        try:
            self.judge_start(said, persists)
        except (Violation, VarlinkError, Closed, OSError) as e:
            raise Violation(f"{e}\n      at {house.where()}") from None
        return True

    def judge_start(self, said, persists):
        house = self.house
        status = house.dead()
        house.workers_died_well()
        if status is not None and not (status == 1 and (said.startswith("error: ") or "error: " in house.daemon.log())):
            house.died_well(status)
        if status is None and not said.startswith("ready "):
            raise Violation(f"it says '{said}', and lives: {house.daemon.log()[-500:]}")
        if status is not None:
            house.again()
        house.idle()
        if persists:
            self.settled(None)
        self.check(None, "then")
        stage_is_empty(house)


def timeless(listed):
    return re.sub(r"\d+-\d+-\d+T[0-9:]+Z", "TIME", listed)


class Client(Trial):
    """venvctl without memory: what it says is so, or it ends saying that there is none."""

    WORDS = {"create": ("create", "x", "-p", PYTHON, "--without-pip"), "list": ("list",)}

    def __init__(self, house, verb):
        super().__init__(house, "create")
        self.words = self.WORDS[verb]
        self.venvctl = house.binary.parent / "venvctl"
        self.setup = nothing if verb == "create" else one
        self.status, self.said = 0, None

    def do(self):
        env = {"VENVD_ROOT": str(self.house.root), "VENVD_CONFIG": "/dev/null", "PATH": "/usr/bin:/bin",
               "HOME": str(self.house.top), **{k: self.house.env[k] for k in ("LD_PRELOAD", "FAULT_STATE", "ASAN_OPTIONS")}}
        done = subprocess.run([self.venvctl, *self.words], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=DEADLINE, check=False)
        self.done = done
        return "done" if done.returncode == 0 else None

    def count(self, who):
        calls = super().count(who=who, memory=True)
        self.said = self.done.stdout
        return calls

    def run(self, call, who, persists):
        house = self.house
        self.prepare()
        resources = house.resources()
        house.arm(call, ERRNO, 0, who=who, persists=persists, memory=True)
        answer = self.do()
        fired = house.disarm()
        if not fired:
            return False
        try:
            status, done = self.done.returncode, self.done
            if answer == "done" and timeless(done.stdout) != timeless(self.said):
                raise Violation(f"it says '{done.stdout}', not '{self.said}'")
            if status == -signal.SIGABRT and "out of memory" not in done.stderr:
                raise Violation(f"it ends without a word: '{done.stderr}'")
            if status < 0 and status != -signal.SIGABRT or status > 0 and "error: " not in done.stderr:
                raise Violation(f"it ends with {status}: '{done.stderr}'")
            if house.dead() is not None:
                raise Violation(f"the daemon ended with {house.dead()}: {house.daemon.log()[-800:]}")
            house.idle()
            self.check(answer, f"venvctl ended with {status}, '{done.stderr}'")
            stage_is_empty(house)
            house.resources_are(resources, "it")
        except (Violation, VarlinkError, Closed, OSError) as e:
            raise Violation(f"{e}\n      at {house.where()}") from None
        return True

