# SPDX-License-Identifier: MIT
"""A root with a real daemon in it, and what can be seen of both: rows, directories, every byte of every tree. Its daemon,
and how that is killed, are those of tests/fault.

Knows the model (world.py) only to hold what is seen against it. What follows after an answer (purges, what the watch has
to look at) is asked for again until it is so, with a deadline; what an answer promises is looked at once.
"""
import functools
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path += [str(TOP / "tests" / name) for name in ("e2e", "conformance", "fault")]

import house  # noqa: E402
from conftest import Closed, VarlinkError  # noqa: E402
from helpers import children  # noqa: E402
from wire import fake_python  # noqa: E402

PYTHON = "/usr/bin/python3"
PATIENCE = 60       # seconds for what comes after an answer; it takes milliseconds, but not on every machine
MARK = "mine"       # the file of ours in each tree
REFERENCE = "name-of-the-reference"

Violation = house.Violation


def read_tree(top):
    """relative name -> bytes of a file, where a link leads, None for a directory; without our own file."""
    found, stack = {}, [""]
    while stack:
        below = stack.pop()
        with os.scandir(os.path.join(top, below)) as entries:
            for entry in entries:
                name = os.path.join(below, entry.name)
                if entry.is_symlink():
                    found[name] = "-> " + os.readlink(entry.path)
                elif entry.is_dir():
                    found[name] = None
                    stack.append(name)
                elif name != MARK:
                    with open(entry.path, "rb") as file:
                        found[name] = file.read()
    return found


def write_tree(top, tree):
    """As `python -m venv` would: pyvenv.cfg is not the last of it."""
    os.mkdir(top)
    for name in sorted(tree):
        path, value = os.path.join(top, name), tree[name]
        if value is None:
            os.mkdir(path)
        elif isinstance(value, str):
            os.symlink(value.removeprefix("-> "), path)
        else:
            with open(path, "wb") as file:
                file.write(value)


def read_mark(path):
    try:
        with open(os.path.join(path, MARK)) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


@functools.cache
def made_by_venv():
    """The tree that the interpreter's own venv makes, and the directory that it was made in."""
    with tempfile.TemporaryDirectory(prefix="venvd-model-") as top:
        made = os.path.join(top, REFERENCE)
        subprocess.run([PYTHON, "-m", "venv", "--without-pip", made], check=True)
        return top, read_tree(made)


class Reference:
    """The same for any name in this root."""

    def __init__(self, root):
        top, tree = made_by_venv()
        self.tree = {name: value.replace(os.fsencode(top), os.fsencode(root)) if isinstance(value, bytes) else value
                     for name, value in tree.items()}
        self.known = {}

    def of(self, name):
        if name not in self.known:
            self.known[name] = {file: value.replace(REFERENCE.encode(), name.encode()) if isinstance(value, bytes) else value
                                for file, value in self.tree.items()}
        return self.known[name]


@dataclass
class Seen:
    rows: dict          # name -> row
    trash: list
    directories: set    # names in the root


class House(house.House):
    # Its clock is set, that of the file system is not: by their files' times images would be unused for years.
    options = ("-o", "pool_initial=2", "-o", f"image_retention={3650 * 24 * 3600}")
    patience = PATIENCE

    def __init__(self, top, binary, shim):
        super().__init__(top, binary, shim)
        self.out, self.away = self.top / "out", self.top / "away"
        self.out.mkdir()
        self.away.mkdir()
        self.reference = Reference(self.root)
        self.python = fake_python(self.top / "python")
        self.connection = None
        self.base = None        # descriptors and children of an idle daemon that has its resident worker

    # --- its life ---

    def holders(self):
        """Who has the lock open: command lines by process."""
        found = {}
        for fd in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
            try:
                if os.readlink(fd) == str(self.root / ".venvd/lock"):
                    process = fd.parents[1]
                    found[process.name] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:     # it has just ended
                pass
        return found

    def start(self):
        try:
            super().start()
        except Violation as e:
            raise Violation(f"{e}; the lock is open in {self.holders()}") from e
        self.connection = self.daemon.connect()

    def hang_up(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def again(self):
        self.hang_up()
        super().again()

    def end(self):
        self.hang_up()
        super().end()

    def kill(self, workers=False):
        """SIGKILL for the daemon; for its workers at the same time, or they see that it is gone."""
        pids = [self.daemon.pid, *(children(self.daemon.pid) if workers else [])]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:      # a worker whose order has just ended
                pass
        self.dead(wait=self.patience)

    def terminate(self):
        if self.daemon.process.poll() is None:
            self.daemon.process.send_signal(signal.SIGTERM)
        status = self.dead(wait=self.patience)
        if status != 0:
            raise Violation(f"SIGTERM ends it with {status}: {self.daemon.log()[-800:]}")

    def destroy(self):
        """Whatever has happened: nobody stays, nor anything on the disk."""
        self.hang_up()
        if self.daemon and self.daemon.process.poll() is None:
            self.daemon.kill()
        if self.daemon:
            os.unlink(self.daemon.log_path)
        self.memory = None
        self.file.close()
        shutil.rmtree(self.top, ignore_errors=True)

    def now(self):
        return time.time_ns() // 1000 + self.state.clock_us

    def idle(self):
        """Until no order is under way. Its processor is needed for what is waited for."""
        end = time.monotonic() + self.patience
        while (status := self.connection.call("Status"))["jobsRunning"] + status["jobsQueued"] > 0:
            if time.monotonic() > end:
                raise Violation("it is never idle")
            time.sleep(0.001)

    # --- calls ---

    def ask(self, op, connection=None):
        """'done' or the error's name, and the reply; None, None: no answer."""
        connection = connection or self.connection
        try:
            return "done", connection.call(op.method, **op.wire())
        except VarlinkError as e:
            return e.name, e.parameters
        except (Closed, OSError) as e:
            if isinstance(e, TimeoutError):
                raise Violation(f"{op.method} {op.wire()} is not answered") from e
            return None, None

    def rows(self, method):
        return [r["environment"] for r in self.connection.stream(method) if r]

    def see(self):
        rows = {r["name"]: r for r in self.rows("List")}
        with os.scandir(self.root) as entries:
            directories = {e.name for e in entries if e.name != ".venvd"}
        return Seen(rows, self.rows("ListTrash"), directories)

    def quiet(self):
        """Until nothing is under way, and the trash has let go of what it is to let go of."""
        end = time.monotonic() + self.patience
        while True:
            self.idle()
            waiting = [t["name"] for t in self.rows("ListTrash") if t["expiresAt"] <= self.now()]
            if not waiting:
                self.idle()
                return
            if time.monotonic() > end:
                raise Violation(f"the trash does not let go of {waiting}")
            time.sleep(0.002)

    def barrier(self):
        """Until what was sent on other connections is over: nothing is being made, nobody is busy."""
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            rows = self.rows("List")
            if not any(r["state"] == "creating" for r in rows) and not any(self._busy(r) for r in rows):
                return
            time.sleep(0.002)
        raise Violation("an operation does not end")

    def _busy(self, row):
        if row["state"] == "foreign":
            return False
        try:
            self.connection.call("Protect", name=row["name"], protected=row.get("protected", False))
        except VarlinkError as e:
            if e.name not in ("Busy", "NoSpace", "NoSuchEnvironment"):
                raise
            return e.name != "NoSpace"
        return False

    # --- what is there, against a world ---

    def tree(self, env):
        return str(self.out / env.place) if env.place else str(self.root / env.name)

    def fits(self, world, seen, used=()):
        """The world with what is seen of it (ids, times); or None and why it is not so. `used`: pairs of what is new and an
        id that it does not have."""
        if set(seen.rows) != set(world.live):
            return None, f"rows {sorted(seen.rows)}, should be {sorted(world.live)}"
        there = world.litter | {n for n, e in world.live.items() if e.state != "missing" and e.place is None}
        if seen.directories != there:
            return None, f"directories {sorted(seen.directories)}, should be {sorted(there)}"
        live = {}
        for name, env in world.live.items():
            live[name], why = self._fits_row(env, seen.rows[name])
            if env.id is None and (env.label, live[name].id) in used:
                why = f"is still the one with the id {live[name].id}"
            if why:
                return None, f"'{name}' {why}"
        trash, why = self._fits_trash(world.trash, seen.trash)
        return (None, why) if why else (world.but(live=live, trash=trash), None)

    def _fits_row(self, env, row):
        states = {env.state, "broken"} if env.broken and env.state == "ready" else {env.state}
        wrong = [f"{key} is {have}, should be {want}" for key, have, want in (
            ("origin", row["origin"], env.origin), ("protected", row.get("protected", False), env.protected),
            ("path", row["path"], self.tree(env))) if have != want]
        if row["state"] not in states:
            wrong.insert(0, f"is {row['state']} ({row.get('problem')}), should be {env.state}")
        if env.id not in (None, row["id"]) and env.state != "foreign":
            wrong.append(f"has the id {row['id']}, had {env.id}")
        if env.state == "ready" and read_mark(self.tree(env)) != env.mark:
            wrong.append(f"has the tree of {read_mark(self.tree(env))}, should have that of {env.mark}")
        return env.but(id=row["id"]), "; ".join(wrong)

    def _fits_trash(self, wanted, rows):
        """By id; of those whose id nobody has told, by what is in them."""
        if len(wanted) != len(rows):
            return None, f"the trash has {[r['name'] for r in rows]}, should have {[t.name for t in wanted]}"
        left, bound = list(rows), []
        for env in sorted(wanted, key=lambda t: t.id is None):
            row = next((r for r in left if r["name"] == env.name and env.id in (None, r["id"]) and
                        read_mark(r["path"]) == env.mark), None)
            if row is None:
                seen = [(r["name"], r["id"], read_mark(r["path"])) for r in left]
                return None, f"the trash has no {(env.name, env.id, env.mark)}, but {seen}"
            left.remove(row)
            bound.append(env.but(id=row["id"], deleted_at=row["deletedAt"]))
        return tuple(bound), None

    def settle(self, worlds, patient=False, used=()):
        """The one of these worlds that is there; one that was expected rather comes first."""
        end = time.monotonic() + (self.patience if patient else 0)
        while True:
            seen = self.see()
            whys = []
            for world in worlds:
                found, why = self.fits(world, seen, used)
                if found is not None:
                    return found, world
                whys.append(why)
            if time.monotonic() >= end:
                raise Violation(" / or: ".join(dict.fromkeys(whys)))
            time.sleep(0.001)

    # --- every byte ---

    def whole(self, world):
        """Every tree has every file; nothing half lies in stage, pool or trash."""
        for env in world.live.values():
            if env.state == "ready":
                self._whole_tree(env, self.tree(env))
        trash = {t["id"]: t["path"] for t in self.rows("ListTrash")}
        for env in world.trash:
            self._whole_tree(env, trash[env.id])
        # What names the environment's path, and the links to its interpreter, come with the claim.
        want = {n: v for n, v in self.reference.tree.items() if not n.startswith("bin/python")}
        named = {n for n, v in want.items() if isinstance(v, bytes) and REFERENCE.encode() in v}
        for directory in sorted((self.root / ".venvd/pool").glob("*/*")):
            tree = read_tree(directory)
            if set(tree) != set(want) or any(tree[n] != want[n] for n in set(want) - named):
                raise Violation(f"the pool's {directory.name} is not whole")
        self._nothing_left("stage", set())
        self._nothing_left("trash", {pathlib.Path(p).parent.name for p in trash.values() if str(self.root) in p})

    def _whole_tree(self, env, path):
        tree = read_tree(path)
        if env.inner is None:
            if not {"pyvenv.cfg", "bin"} <= set(tree) or not tree["pyvenv.cfg"]:
                raise Violation(f"'{env.name}' at {path} has {sorted(tree)}")
            return
        want = dict(self.reference.of(env.inner))
        if env.broken:
            want.pop("bin/python")
            tree.pop("bin/python", None)
        wrong = [name for name in sorted({*want, *tree}) if want.get(name, b"-") != tree.get(name, b"-")]
        if wrong:
            raise Violation(f"'{env.name}' at {path}, made for '{env.inner}': {wrong[:5]}; "
                            f"{tree.get(wrong[0], 'absent')!r:.300} should be {want.get(wrong[0], 'absent')!r:.300}")

    def _nothing_left(self, place, wanted):
        end = time.monotonic() + self.patience
        directory = self.root / ".venvd" / place
        while (left := set(os.listdir(directory))) != wanted:
            if time.monotonic() > end:
                raise Violation(f"the {place} has {sorted(left)}, should have {sorted(wanted)}")
            self.idle()
            time.sleep(0.002)

    def leaks(self):
        """Descriptors and children of an idle daemon, against those that it had at first."""
        if self.base is None:
            self.base = self.resources() if self.worker() else None
            return
        end = time.monotonic() + self.patience
        while any(have > had for have, had in zip(self.resources(), self.base, strict=True)):
            if time.monotonic() > end:
                raise Violation(f"descriptors, children: {self.base} before, {self.resources()} now")
            self.idle()
            time.sleep(0.002)

    def worker(self):
        """The resident worker's pid, or None."""
        for pid in children(self.daemon.pid):
            try:
                if b"resident" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
            except OSError:     # it has just ended
                pass
        return None

    def kill_worker(self):
        pid = self.worker()
        if not pid:
            return
        try:
            fd = os.pidfd_open(pid)
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        select.select([fd], [], [], PATIENCE)
        os.close(fd)
        for _ in range(2):      # turns of the loop: the daemon has seen it by then, and sends nobody to the dead one
            self.rows("List")
