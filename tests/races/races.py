# SPDX-License-Identifier: MIT
"""An attacker who exchanges a directory and a symbolic link while a worker looks paths up.

The attacker sits in the worker itself (shim.c) and comes exactly before a call: for each order, each place and each of its
path calls once, and goes again after it, or after the next one, or stays; and in long runs of in and out that dice decide. A
second attacker is a thread that exchanges as fast as it can. The link leads to a tree outside the root that looks as
the real one does, to an empty one, or to another environment of the root. Afterwards

- nothing outside has changed: every inode, mode, size, number of links, mtime and ctime; nor has the other environment
- nothing from outside has come inside
- an order that was answered well has happened, to the directory that was meant; after one that was refused it is still there
- the worker has ended as it should

Exit status 1 if anything is not so. Workers with one check left out (variants) must be caught.
"""
import argparse
import collections
import contextlib
import ctypes
import json
import mmap
import multiprocessing
import os
import pathlib
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(TOP / "tests" / "e2e"), str(TOP / "tests" / "conformance"), str(TOP / "tests" / "fault")]

import worker as worker_module  # noqa: E402
from helpers import tree  # noqa: E402
from test_claim import bring, claim_order, ready  # noqa: E402
from wire import fake_python  # noqa: E402
from worker import CALLER, Worker, create_order, identity  # noqa: E402

import variants  # noqa: E402

OFF, EXACT, DICE, FREE = range(4)
ENTRY = "a~1"
ENTRIES = 24                    # that the pool holds
TOGETHER = 16                   # trials, after which everything outside is looked at
RECORD = {"name": "a", "id": "x" * 16}


class Violation(Exception):
    pass


class State(ctypes.Structure):
    _fields_ = [("count", ctypes.c_uint64), ("races", ctypes.c_uint64), ("target", ctypes.c_uint64), ("dice", ctypes.c_uint64),
                ("mode", ctypes.c_int32), ("back", ctypes.c_int32), ("into", ctypes.c_int32), ("call", ctypes.c_char * 28),
                ("top", ctypes.c_char * 512), ("place", ctypes.c_char * 512), ("link", ctypes.c_char * 512),
                ("at", ctypes.c_char * 1024)]


def wipe(path):
    """Whatever it is; a link is not followed."""
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
    else:
        shutil.rmtree(path)


def facts(top):
    """Everything that could be changed in a tree: relative name -> what lstat says of it."""
    found, stack = {}, [os.fspath(top)]
    while stack:
        path = stack.pop()
        st = os.lstat(path)
        found[path] = (st.st_ino, st.st_mode, st.st_nlink, st.st_size, st.st_uid, st.st_mtime_ns, st.st_ctime_ns)
        if stat.S_ISDIR(st.st_mode):
            stack += [os.path.join(path, name) for name in os.listdir(path)]
    return found


class World:
    """A root with all that an order can need, a tree outside that looks like it, and a place for the attacker's link."""

    def __init__(self, top, binary, shim):
        self.top, self.binary = pathlib.Path(top), binary
        self.root, self.outside, self.links = self.top / "root", self.top / "outside", self.top / "links"
        self.state_dir = self.root / ".venvd"
        worker_module.WORKER = binary
        for path in (self.links, self.root, *(self.state_dir / n for n in ("", "stage", "trash"))):
            path.mkdir()
        (self.top / "bin").mkdir()
        self.fake = fake_python(self.top / "bin/python-fake")
        self.refusing = fake_python(self.top / "bin/python-refusing", build="exit 1\n")
        state_file = self.top / "state"
        state_file.write_bytes(b"\0" * 2 * mmap.PAGESIZE)
        self.file = open(state_file, "r+b")     # noqa: SIM115
        self.memory = mmap.mmap(self.file.fileno(), 0)
        self.state = State.from_buffer(self.memory)
        self.state.top = os.fsencode(self.top)
        self.state.link = os.fsencode(self.links / "link")
        self.env = {**os.environ, "LD_PRELOAD": str(shim), "RACE_STATE": str(state_file)}
        self.look = lambda: None        # whoever has trials that have not been looked at
        self.furnish()

    def furnish(self):
        self.fill_order = ready(self.root)
        for name in ("a", "victim"):
            self.claim_calmly(name)
            # Inodes of its own: a link to what others share would change when they do.
            shutil.copytree(self.root / name, self.top / f"{name}.new", symlinks=True)
            wipe(self.root / name)
            os.rename(self.top / f"{name}.new", self.root / name)
        os.rename(self.root / "a", self.top / "template")
        (self.top / "template/lib/secret").write_text("of a\n")
        self.refill()
        shutil.copytree(self.root, self.outside, symlinks=True)
        for name in ("a", "b", "elsewhere/parent/env", "elsewhere/one/two/env", f".venvd/stage/{ENTRY}", f".venvd/trash/{ENTRY}/tree"):
            shutil.copytree(self.root / "victim", self.outside / name, symlinks=True)
        for path in (self.outside / ".venvd/images").glob("*/used"):
            path.unlink()
        (self.outside / f".venvd/trash/{ENTRY}/record.json").write_text(json.dumps(RECORD))
        (self.outside / "elsewhere/parent/.env.venvd-trash").mkdir(mode=0o700)
        (self.outside / "empty").mkdir()
        for path, _, _ in os.walk(self.outside):
            if not path.endswith("-trash"):
                pathlib.Path(path, "canary").write_text("from outside\n")
        self.mirror()

    def claim_calmly(self, name):
        resident = Worker(self.root, "resident")
        for _ in range(6):
            resident.send("claim", **claim_order(self.root, name))
            message = resident.receive()
            if "miss" not in message:
                break
            bring(self.root, message, **({"count": ENTRIES} if message["miss"] == "entry" else {}))
        resident.send_raw({"id": message["id"], "go": True})
        answer, _ = resident.until_done()
        resident.close()
        assert "error" not in answer, answer

    def refill(self):
        bring(self.root, {"order": self.fill_order}, count=ENTRIES)

    def mirror(self):
        """Outside there are entries of the same names: who went through the link would find them."""
        bucket = self.fill_order["bucket"]
        for name in os.listdir(self.state_dir / "pool" / bucket):
            (self.outside / ".venvd/pool" / bucket / name).mkdir(parents=True, exist_ok=True)
        self.before = {path: facts(path) for path in (self.outside, self.root / "victim")}

    # --- from one trial to the next ---

    def give_back(self):
        """The attacker goes. False: what he has taken away has lost its place meanwhile."""
        self.state.mode = OFF
        link, at = self.links / "link", os.fsdecode(self.state.at)
        parked, there = link.is_dir() and not link.is_symlink(), os.path.islink(at)
        whole = not parked or (os.path.isdir(os.path.dirname(at)) and (there or not os.path.lexists(at)))
        if there:
            wipe(at)
        if parked:
            os.rename(link, at if whole else self.top / "lost")
        elif os.path.lexists(link):
            link.unlink()
        self.state.into = 0
        self.state.at = b""
        return whole

    def clear(self):
        assert not any(p.is_symlink() for p in (self.root, self.state_dir, self.state_dir / "stage", self.state_dir / "trash"))
        for directory in (self.root, self.state_dir / "stage", self.state_dir / "trash", self.top / "elsewhere"):
            for name in os.listdir(directory) if directory.exists() else []:
                if directory != self.root or name not in (".venvd", "victim"):
                    wipe(directory / name)
        if (self.top / "lost").exists():
            wipe(self.top / "lost")

    def entries(self):
        return len(os.listdir(self.state_dir / "pool" / self.fill_order["bucket"]))

    def prepare(self, order):
        for path in (self.state_dir, self.state_dir / "stage", self.state_dir / "trash", self.top / "elsewhere"):
            path.mkdir(exist_ok=True)
        bucket = self.state_dir / "pool" / self.fill_order["bucket"]
        image = self.state_dir / "images" / self.fill_order["image"]
        if order.pool and (not image.is_dir() or not bucket.is_dir() or len(os.listdir(bucket)) < 2):
            if not (image / "model.json").exists():
                self.fill_order = ready(self.root)
                shutil.rmtree(self.state_dir / "stage")
                (self.state_dir / "stage").mkdir()
            else:
                self.refill()
            self.look()         # while it is known how everything was
            self.mirror()
        if order.setup:
            order.setup(self)

    def a(self, where="a"):
        """The environment that the order is about."""
        path = self.root / where
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.top / "template", path, symlinks=True)
        self.me = identity(path)
        self.bytes = tree(path)

    def find_me(self):
        """Where its directory is, by inode: paths."""
        ino = self.me["ino"]
        places = [self.root, self.state_dir / "stage", self.state_dir / "trash", self.links, self.top / "elsewhere",
                  self.top / "elsewhere/parent", *(self.state_dir / "trash").glob("*"),
                  *self.top.glob("elsewhere/parent/.*-trash/*"), *self.top.glob("lost/*")]
        return [str(p.relative_to(self.top)) for d in places if d.is_dir() and not d.is_symlink()
                for p in d.iterdir() if p.lstat().st_ino == ino]

    # --- looking ---

    def check(self):
        """After each trial: what is where orders work. The rest is looked at by check_all()."""
        self._no_canary(skip=("pool", "images"))

    def _no_canary(self, skip=()):
        for directory in (self.root, self.links):
            for path, names, files in os.walk(directory):
                if path == str(self.state_dir):
                    names[:] = [n for n in names if n not in skip]
                if "canary" in files:
                    raise Violation(f"'{os.path.relpath(path, self.top)}' has what is from outside")

    def check_all(self):
        """Nothing that was done since the last time has changed anything outside."""
        for path, before in self.before.items():
            now = facts(path)
            if now != before:
                changed = [f"{p[len(str(self.top)) + 1:]}: {before.get(p)} -> {now.get(p)}"
                           for p in sorted({*before, *now}) if before.get(p) != now.get(p)]
                self.before[path] = now
                raise Violation(f"changed: {changed[:4]}")
        self._no_canary()


# --- the orders: what is there before, what is asked, what must be so afterwards ---

class Order:
    """One order of proto/orders.h, from beginning to end."""

    def __init__(self, op, mode="order", fields=None, setup=None, well=None, kept=True, pool=False, places=(), changes=False):
        self.op, self.mode, self.fields, self.setup, self.well = op, mode, fields, setup, well
        self.kept, self.pool, self.places, self.changes = kept, pool, places, changes

    def run(self, world):
        """Its answer, or None if the worker only misses something."""
        answer = self.ask(world, self.op, **(self.fields(world) if self.fields else {}))
        if self.op == "rename" and "error" in answer:
            self.ask(world, "settle", entry="b~2")
        return answer

    def ask(self, world, op, **fields):
        worker = Worker(world.root, self.mode, env=world.env)
        number = worker.send(op, **fields)
        message = worker.receive()
        while message and not message.get("done"):
            if message.get("frame") == "reserved":
                worker.send_raw({"id": number, "go": True})
            message = worker.receive()
        status, errors = worker.close()
        if message is None or status != 0:
            raise Violation(f"the worker ended with {status}, having answered {message}: {errors[-600:]}")
        return message


def trashed(world):
    world.a(f".venvd/trash/{ENTRY}/tree")
    (world.state_dir / "trash" / ENTRY / "record.json").write_text(json.dumps(RECORD))


def staged(world):
    world.a(f".venvd/stage/{ENTRY}")


def elsewhere(world):
    (world.top / "elsewhere/parent").mkdir()
    world.a("../elsewhere/parent/env")


def no_a(world):
    world.me = None


def named(world):
    return {"name": "a", "entry": ENTRY, **world.me}


def at(world, path):
    try:
        return os.lstat(path).st_ino == world.me["ino"]
    except FileNotFoundError:
        return False


def away_elsewhere(world):
    return None if not at(world, world.top / "elsewhere/parent/env") else "it is still there"


def trashed_elsewhere(world):
    world.a(f"../elsewhere/parent/.env.venvd-trash/{ENTRY}/tree")
    (world.top / "elsewhere/parent/.env.venvd-trash").chmod(0o700)


def away(world):
    return None if not at(world, world.root / "a") else "it is still there"


def back(world):
    return None if not at(world, world.state_dir / "trash" / ENTRY / "tree") else "it is still in the trash"


def as_b(world):
    return None if (world.root / "b").is_dir() and not (world.root / "b").is_symlink() else "there is no 'b'"


def source(world, **where):
    return {"name": "b", "entry": "b~2", "path": str(world.root / "b"),
            "source": {"name": "a", **world.me, "paths": [str(world.root / "a")], **where}}


def repairing(world):
    """As if it had been made at another path: everything that names it is to be rewritten."""
    return {"path": str(world.root / "renamed"), "source": {"name": "a", **world.me, "paths": [str(world.root / "a")]},
            "search": {"dirs": [], "managedFirst": False}, "probeMs": 10000, "caller": CALLER}


def in_place(world, **fields):
    return create_order(world.root, "b", **{"python": world.fake, **fields})


NAMED = ("a", "a/bin", "a/lib")
STATE = ("", ".venvd", ".venvd/stage", ".venvd/trash")
STAGED = (".venvd/stage/*", ".venvd/stage/*/bin", ".venvd/stage/*/lib")
TRASHED = (".venvd/trash/*", ".venvd/trash/*/tree", ".venvd/trash/*/tree/bin")
POOL = (".venvd/pool", ".venvd/pool/*", ".venvd/pool/*/*", ".venvd/images", ".venvd/images/*", ".venvd/images/*/tree")
BESIDE = ("../elsewhere/parent", "../elsewhere/parent/env", "../elsewhere/parent/env/bin", "../elsewhere/parent/.env.venvd-trash")

ORDERS = {
    "trash": Order("trash", "resident", lambda w: {**named(w), "record": RECORD}, lambda w: w.a(), away,
                   places=(*STATE, *NAMED, ".venvd/trash/*")),
    "restore": Order("restore", "resident", named, trashed, back, places=(*STATE, *TRASHED, "a")),
    "discard": Order("discard", "resident", named, lambda w: w.a(), None, places=(*STATE, *NAMED, *STAGED)),
    "claim": Order("claim", "resident", lambda w: claim_order(w.root, "b"), no_a, as_b, pool=True,
                   places=(*STATE, *STAGED, *POOL, "b")),
    "recreate": Order("claim", "resident",
                      lambda w: claim_order(w.root, "a", replaces={**w.me, "trash": ENTRY, "record": RECORD}), lambda w: w.a(),
                      away, pool=True, places=(*STATE, *NAMED, *STAGED, *TRASHED, *POOL)),
    "fill": Order("fill", "order", lambda w: {k: v for k, v in w.fill_order.items() if k != "op"} | {"linkMode": "auto", "count": 2},
                  no_a, None, pool=True, places=(*STATE, *STAGED, *POOL)),
    "evict": Order("evict", "order", lambda w: {"buckets": [{"bucket": w.fill_order["bucket"], "keep": w.entries() - 2}], "images": []},
                   no_a, None, pool=True, places=(*STATE, *STAGED, *POOL)),
    "clone": Order("clone", "order", source, lambda w: w.a(), as_b, places=(*STATE, *NAMED, *STAGED, "b")),
    "rename": Order("rename", "order", source, lambda w: w.a(), away, places=(*STATE, *NAMED, ".venvd/stage/*", "b")),
    "clone elsewhere": Order("clone", "order", lambda w: source(w, location=f"{w.top}/elsewhere/parent/env"), elsewhere, as_b,
                             places=(*STATE, *BESIDE, *STAGED, "b")),
    "doctor": Order("diagnose", "order", lambda w: {"environments": [{k: v for k, v in source(w).items() if k in ("path", "source")}]},
                    lambda w: w.a(), None, places=("", *NAMED, "a/lib/*")),
    "doctor --fix": Order("repair", "order", repairing, lambda w: w.a(), None, places=(*STATE, *NAMED, "a/.venvd-repair"), changes=True),
    "restore --as": Order("rename", "order", lambda w: source(w, trash=ENTRY), trashed, back,
                          places=(*STATE, *TRASHED, ".venvd/stage/*", "b")),
    "purge": Order("purge", "order", lambda w: {"where": "trash", "entries": [ENTRY]}, trashed, back, kept=False,
                   places=(*STATE, *TRASHED, *STAGED, ".venvd/stage/*/tree", ".venvd/stage/*/tree/lib")),
    "purge the stage": Order("purge", "order", lambda w: {"where": "stage", "entries": [ENTRY]}, staged, None, kept=False,
                             places=(*STATE, *STAGED)),
    "delete --now": Order("purge-name", "order", named, lambda w: w.a(), away, kept=False, places=(*STATE, *NAMED, *STAGED)),
    "create in place": Order("create", "order", in_place, no_a, as_b, places=("", ".venvd", ".venvd/stage", ".venvd/stage/*", "b")),
    "create --path": Order("create", "order",
                           lambda w: in_place(w, elsewhere=True, path=f"{w.top}/elsewhere/one/two/env", python=w.refusing), no_a,
                           None, places=("../elsewhere/one", "../elsewhere/one/two", "../elsewhere/one/two/env")),
    "adopt": Order("inspect", "order", lambda w: {"names": ["a"], "paths": [f"{w.top}/elsewhere/parent/env"]}, elsewhere, None,
                   places=("", "a", *BESIDE)),
    "packages": Order("packages", "order", lambda w: {"name": "a"}, lambda w: w.a(), None, places=("", *NAMED, "a/lib/*")),
    "scan": Order("scan", "order", None, trashed, None, pool=True, places=(*STATE, *TRASHED, *POOL)),
    "delete elsewhere": Order("trash", "resident",
                              lambda w: {**named(w), "record": RECORD, "path": f"{w.top}/elsewhere/parent/env"}, elsewhere, away_elsewhere,
                              places=("", ".venvd", *BESIDE, "../elsewhere/parent/.env.venvd-trash/*")),
    "restore elsewhere": Order("restore", "resident", lambda w: {**named(w), "path": f"{w.top}/elsewhere/parent/env"},
                               trashed_elsewhere, None, places=("", ".venvd", *BESIDE, "../elsewhere/parent/.env.venvd-trash/*",
                                                                "../elsewhere/parent/.env.venvd-trash/*/tree")),
    "purge the state": Order("purge-state", "order", None, trashed, None, kept=False, places=("", ".venvd/trash", *TRASHED)),
}

# Here a Python makes an environment at a path. What becomes of that path while it works is not in our hands.
BY_PATH = {"create in place", "create --path"}


# --- trials ---

class Trial:
    def __init__(self, world, name):
        self.world, self.name, self.order = world, name, ORDERS[name]

    def begin(self, place="", link="", **state):
        world = self.world
        world.give_back()
        world.clear()
        world.prepare(self.order)
        if link:
            os.symlink(link, world.links / "link")
        world.state.place = os.fsencode(os.path.normpath(f"{world.root}/{place}"))
        world.state.count = world.state.races = 0
        for key in ("target", "dice", "back", "mode"):
            setattr(world.state, key, state.get(key, 0))

    def calls(self):
        self.begin(mode=EXACT)
        answer = self.order.run(self.world)
        refused = "error" in answer
        if refused != (self.name == "create --path") or "miss" in answer or (self.order.well and self.order.well(self.world)):
            raise SystemExit(f"{self.name} does not even work: {answer}")
        return self.world.state.count

    def race(self, place, link, **state):
        """How many races there were; Violation."""
        world, order = self.world, self.order
        self.begin(place, link, **state)
        answer = order.run(world)
        races, free = world.state.races, world.state.mode == FREE
        whole = world.give_back()
        world.check()
        if not races or free or state.get("back") != 1:
            return races
        well = "error" not in answer and "miss" not in answer
        if well and order.well and (why := order.well(world)):
            raise Violation(f"answered well, but {why}")
        if world.me and order.kept:
            found = world.find_me()
            if not found:
                raise Violation(f"it is gone: {answer}")
            if whole and not well and not order.changes and (now := tree(world.top / found[0])) != world.bytes:
                raise Violation(f"refused, but changed: {[k for k in {*now, *world.bytes} if now.get(k) != world.bytes.get(k)]}")
        return races


def targets(world, place):
    """Where the link leads to: what looks the same outside, and another environment."""
    outside = world.outside / place.replace("../", "")
    if ".venvd/stage/*" in place or ".venvd/trash/*" in place:
        outside = world.outside / place.replace("*", ENTRY, 1)
    found = [outside if outside.exists() else world.outside / "a"]
    for star in ("pool/*/*", "pool/*", "images/*"):
        if star in place:
            at = world.state_dir / star.partition("/")[0] / world.fill_order["bucket" if "pool" in star else "image"]
            base = world.outside / at.relative_to(world.root)
            rest = place.partition(star)[2]
            found = [next(p for p in base.iterdir() if p.is_dir()) if star.count("*") == 2 else pathlib.Path(f"{base}{rest}")]
            break
    if place.endswith(("a", "b", "/*", "/tree", "env")):
        found.append(world.root / "victim")
    if place.endswith("/parent"):
        found.append(world.outside / "elsewhere")
    if place.startswith(".venvd/stage/*/"):         # an entry of the pool, whose files are blanks to be written over
        entries = (world.outside / ".venvd/pool" / world.fill_order["bucket"]).iterdir()
        found += [p for e in entries if (p := e / place.removeprefix(".venvd/stage/*/")).is_dir()][:1]
    if place in ("b", ".venvd/stage/*"):
        found.append(world.outside / "empty")       # in which an interpreter would make one
    if place.endswith(("/bin", "/lib")):
        found.append(world.root / "victim" / place[-3:])
    return found


@contextlib.contextmanager
def a_world(binary, shim):
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="races-venvd-", dir=place) as top:
        world = World(os.path.realpath(top), binary, shim)
        try:
            yield world
        finally:
            world.give_back()


class Run:
    """Trials of one order: how many, and what was wrong."""

    def __init__(self, world, name):
        self.name, self.trial, self.top = name, Trial(world, name), world.top
        self.counts, self.violations = collections.Counter(), []
        self.together = []      # trials since everything outside was looked at
        world.look = self.look

    def attempt(self, kind, place, link, how, **state):
        races = self._attempt(place, link, how, state)
        self.counts[kind] += races
        self.counts["trials"] += 1
        self.together.append((place, link, how, state))
        if len(self.together) >= TOGETHER:
            self.look()
        return races

    def _attempt(self, place, link, how, state, look=False):
        world = self.trial.world
        try:
            races = self.trial.race(place, link, **state)
            if look:
                world.check_all()
        except Violation as e:
            races = world.state.races
            self.violations.append(f"{self.name}, '{place}' a link to '{os.path.relpath(link, self.top)}', {how} "
                                   f"({world.state.call.decode()}): {e}")
        return races

    def look(self):
        """Everything outside; if it is not as it was, each of those trials is done once more, and looked at alone."""
        together, self.together = self.together, []
        try:
            self.trial.world.check_all()
        except Violation as e:
            known = len(self.violations)
            for one in together:
                self._attempt(*one, look=True)
            if len(self.violations) == known:
                self.violations.append(f"{self.name}, one of {[(place, how) for place, _, how, _ in together]}: {e}")

    def exact(self, every, first=0, places=None):
        order, number = ORDERS[self.name], 0
        calls = self.trial.calls()
        for place in places or order.places:
            for target in targets(self.trial.world, place):
                for call in range(1, calls + 1):
                    for back, how in ((1, "and back"), (0, "it stays"), (2, "and back after the next one")):
                        number += 1
                        if (number + first) % every == 0:
                            self.attempt("exact", place, target, f"call {call} of {calls}, {how}", mode=EXACT, target=call,
                                         back=back)
        self.look()
        return calls

    def dice(self, seed, until, kind="dice", mode=DICE):
        """Until there were so many races."""
        chance = random.Random(seed)
        # A thread comes while a Python works by path, too; and as long as the root is another, the victim is.
        places = [p for p in ORDERS[self.name].places if mode == DICE or p not in ("", ".venvd")]
        for _ in range(until if places else 0):
            if self.counts[kind] >= until:
                break
            place = chance.choice(places)
            number = chance.getrandbits(62) | 1
            self.attempt(kind, place, chance.choice(targets(self.trial.world, place)), f"{kind} {number}", mode=mode, dice=number)
        self.look()


# --- all of it ---

# name -> (the order that shows it, the places, file, what stands there, what stands there instead)
VARIANTS = {
    "links are followed": (
        "delete --now", (".venvd/stage/*", ".venvd/stage/*/lib"), "daemon/worker/place.c",
        ".flags = flags | O_NOFOLLOW | O_CLOEXEC, .mode = mode,\n"
        "\t\t.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,",
        ".flags = flags | O_CLOEXEC, .mode = mode, .resolve = 0,"),
    "who was moved is not looked at": (
        "trash", ("a",), "daemon/worker/place.c", "\tif (place_is(to_fd, to, want))\n\t\treturn 0;", "\tif (want.ino)\n\t\treturn 0;"),
    "a claim's files by path": (
        "claim", (".venvd/stage/*/bin",), "daemon/worker/clone.c", "place_open(dir_fd, file->path, O_WRONLY)",
        "openat(dir_fd, file->path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC)"),
    "an image's mark by path": (
        "claim", (".venvd/images/*",), "daemon/worker/image.c", "place_make(WORKER_FD_STATE, path, O_WRONLY | O_CREAT, 0600)",
        "openat(WORKER_FD_STATE, path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600)"),
    "an image is forgotten while it is used": (
        "claim", (".venvd/images/*",), "daemon/worker/image.c", "\tif (!k || strcmp(k->image.key, key) != 0)\n\t\tk = get(key);",
        "\tk = get(key);"),
    "a restore is not looked at": (
        "restore", (".venvd/trash/*/tree",), "daemon/worker/short.c",
        "place_move_known(fd, PATH_TREE, to, name, s->what.want, PATH_REST)", "place_move(fd, PATH_TREE, to, name)"),
    "a made directory is opened by its path": (
        "create --path", ("../elsewhere/one",), "daemon/worker/target.c", "\tif (!t->made)\n", "\tif (t->path)\n"),
    "the tool is started without a look": (
        "create in place", (".venvd/stage/*",), "daemon/worker/create.c",
        "publish_reservation(c, f) < 0 || check_place(c, f) < 0",
        "publish_reservation(c, f) < 0"),
    "a trash is made beside another": (
        "delete elsewhere", ("../elsewhere/parent",), "daemon/worker/short.c", "trash && here)", "trash)"),
}


def bites(name, build, shim):
    """Whether a worker that leaves out one check is caught."""
    order, places, *change = VARIANTS[name]
    with tempfile.TemporaryDirectory(prefix="venvd-variant-") as where:
        binary = variants.build(name, build, where, {name: (order, *change)}).with_name("venvd-worker")
        with a_world(binary, shim) as world:
            run = Run(world, name=order)
            run.exact(1, places=places)
    print(f"variant, {name}: {len(run.violations)} of {run.counts['exact']} races show it", flush=True)
    return bool(run.violations)


def run_share(arguments):
    """The orders of one process, in one world."""
    names, binary, shim, every, dice, free, seed = arguments
    found = []
    with a_world(binary, shim) as world:
        for name in names:
            began, run = time.monotonic(), Run(world, name)
            calls = run.exact(every, seed)
            run.dice(f"{name} {seed}", dice)
            if name not in BY_PATH:
                run.dice(f"{name} {seed} free", free, "free", FREE)
            kinds = ", ".join(f"{run.counts[k]} {k}" for k in ("exact", "dice", "free", "trials"))
            print(f"{name:18} {calls:4} calls: {kinds}, {len(run.violations)} violations, {time.monotonic() - began:.0f} s",
                  flush=True)
            for violation in run.violations[:10]:
                print(f"    {violation[:1000]}", flush=True)
            found.append((run.counts, len(run.violations)))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="some races of each order")
    parser.add_argument("--only", action="append", metavar="ORDER", choices=ORDERS)
    parser.add_argument("--races", type=int, default=100_000, help="at least so many, those of a thread not counted")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    build = pathlib.Path(os.environ.get("VENVD_BUILD", TOP / "build")).resolve()
    shim = (build / "race-shim.so").resolve()
    subprocess.run(["cc", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", "-o", shim,
                    HERE / "shim.c", "-ldl"], check=True)
    seed = options.seed if options.seed is not None else (time.time_ns() // 1000 % 1000 if options.short else 0)
    names, began = options.only or list(ORDERS), time.monotonic()
    every, dice, free = (97, 25, 25) if options.short else (1, options.races // len(names), 20_000)
    shares = [s for i in range(options.jobs) if (s := names[i::options.jobs])]
    counts, bad = collections.Counter(), 0
    with multiprocessing.Pool(len(shares)) as pool:
        for share in pool.imap_unordered(run_share, [(s, build / "venvd-worker", shim, every, dice, free, seed) for s in shares]):
            for one, violations in share:
                counts.update(one)
                bad += violations
    chosen = [n for n in VARIANTS if not options.only or VARIANTS[n][0] in options.only]
    if options.short:
        chosen = [chosen[seed % len(chosen)]] if chosen else []
    missed = [name for name in chosen if not bites(name, build, shim)]
    for name in missed:
        print(f"NOT CAUGHT: {name}", flush=True)
    races = counts["exact"] + counts["dice"]
    print(f"races: {races} at a call ({counts['exact']} each once, {counts['dice']} by dice), {counts['free']} exchanges by a "
          f"thread, {counts['trials']} orders, {bad} violations, seed {seed}, {time.monotonic() - began:.0f} s")
    return 1 if bad or missed or races == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
