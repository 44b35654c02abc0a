# SPDX-License-Identifier: MIT
"""Every call that changes the file system, in daemon and workers, is made to be the last one, or to fail.

For each operation: it is done once, and its calls are counted (shim.c). Then, for each call and each way to go wrong,
the same is done again from the same state; whoever is dead is started again; and what is there is held against
what was there before, and against what should be there afterwards:

- what was acknowledged is there, whole; what was refused has changed nothing; without an answer it is one or the other
- rows and directories are the same, every tree has the bytes it must have, the trash can be restored
- nothing stays in the stage; descriptors and children are as many as before, if the daemon has lived on
- the same call again, with the same request id, succeeds and has happened once

The parts (--part):

  kills       the caller, or it and the daemon, killed before the call, and after it
  errors      the call fails, once, with each of seven errnos
  lasting     it and all that follow fail
  starts      the start after a crash, killed or refused; and killed once more in the start after that one
  end         the orderly end, killed or refused
  checkpoint  kills and errors with a log so short that each operation brings it into the file
  children    the Python children of a worker, killed or refused
  memory      each allocation of a create and a list fails in daemon, workers and venvctl, once or from there on:
              a true answer, or the program's own end (abort, with a word why); the start, too

Exit status 1 if anything is not so. Daemons with one step of the protocol swapped (variants.py) must be caught.
"""
import argparse
import collections
import errno
import multiprocessing
import os
import pathlib
import resource
import shutil
import sys
import tempfile
import time

import variants
from house import CLIENT, DAEMON, ERRNO, KILL_AFTER, KILL_BEFORE, ORDER, RESIDENT, TOP, House, Violation, build_shim
from operations import BY_HAND, ENDS, FIRST, OPERATIONS, create
from trial import EVERYTHING, Children, Client, End, EndPurged, Listing, Memory, Start, StartMemory, StartWithoutCatalog, Trial

from conftest import Closed, VarlinkError  # noqa: E402

ERRNOS = ["ENOSPC", "EIO", "EMFILE", "ENOMEM", "EDQUOT", "EINTR", "EROFS"]
LASTING = ["ENOSPC", "EROFS", "EDQUOT", "EMFILE", "EIO"]
KILLS = ((KILL_BEFORE, "killed before it"), (KILL_AFTER, "killed after it"))
WRONG = (Violation, VarlinkError, Closed, OSError, AssertionError)
NO_POINTS = ("allocations of", "states of", "starts' calls")
WITH_PIP = 90   # calls of a create with the real pip that are taken
SHOWN = 20      # violations of one operation that are told


class Caught(Exception):
    """A variant has shown what it does wrongly: one violation is enough."""


class Bench:
    """One operation's points in one house: attempts, their number, what they have shown."""

    def __init__(self, work, top):
        self.work, self.counts, self.violations, self.calls = work, collections.Counter(), [], 0
        self.house = House(top, work.binary, work.shim)
        self.house.start()
        self.begin()

    def begin(self):
        create(self.house.daemon, "first")
        self.house.idle()

    def points(self, calls, every):
        """The numbers of the calls that are taken; from one run to the next they go through all of them. A variant is to be
        caught: all of them, far ones first."""
        if self.work.until_caught:
            return [call for first in range(every) for call in range(1 + first, calls + 1, every)]
        return range(1 + self.work.seed % every, calls + 1, every)

    def some_of(self, names, call):
        """All, or of an operation that makes very many calls one for each, another one for the next."""
        return [names[call % len(names)]] if self.work.operation in (*ENDS, SMALL_PIP) else names

    def found(self, violation):
        self.violations.append(violation)
        if len(self.violations) <= (SHOWN if self.work.tells else 0):
            print(f"VIOLATION: {violation}", flush=True)

    def attempt(self, kind, what, call, how, *args, **more):
        try:
            self.counts[kind if what(call, *args, **more) else "not reached"] += 1
        except WRONG as e:
            self.counts[kind] += 1
            self.found(f"{self.work.operation}, {kind}, call {call} of {self.calls}, {how}: {e}")
            if self.work.until_caught:
                raise Caught from e
            self.house.afresh()         # from a clean slate
            self.begin()


def kills(bench, every, small=False):
    trial = Trial(bench.house, bench.work.operation)
    bench.calls = calls = trial.count()
    for call in bench.points(calls, every):
        for mode, word in KILLS:
            bench.attempt("checkpoint" if small else "kills", trial.run, call, word, mode)
            bench.attempt("checkpoint" if small else "kills", trial.run, call, f"{word}, and the daemon", mode, 0, True)


def errors(bench, every, small=False):
    trial = Trial(bench.house, bench.work.operation)
    bench.calls = calls = trial.count()
    for call in bench.points(calls, every):
        for name in bench.some_of(ERRNOS, call):
            bench.attempt("checkpoint" if small else "errors", trial.run, call, name, ERRNO, getattr(errno, name))


def lasting(bench, every):
    trial = Trial(bench.house, bench.work.operation)
    bench.calls = calls = trial.count()
    for call in bench.points(calls, every):
        for name in LASTING:
            bench.attempt("lasting", trial.run, call, f"{name} from there on", ERRNO, getattr(errno, name), persists=True)


def starts(bench, every):
    """Many calls that a kill comes before leave the same to the start (what_is_left): of those the one is taken whose start has
    most to do."""
    anew = bench.work.operation == WITHOUT
    trial = StartWithoutCatalog(bench.house) if anew else Start(bench.house, bench.work.operation)
    bench.calls = calls = trial.count()
    left = {}           # what is left -> (calls of the start, where it was killed)
    few = every > 20
    for call in bench.points(calls, every if few else 1):
        try:
            at_most = trial.count_start(call)
        except WRONG as e:
            bench.found(f"{bench.work.operation}, call {call} of {calls}, its start: {e}")
            return
        if at_most:
            left[trial.left] = max((at_most, call), left.get(trial.left, (0, 0)))
    points = [(call, at, at_most) for at_most, call in left.values() for at in range(1, at_most + 1)]
    bench.counts["states of"], bench.counts["starts' calls"] = len(left), len(points)
    by = None
    for i in bench.points(len(points), every // 5 if few else every):
        call, at, at_most = points[i - 1]
        bench.attempt("starts", trial.run_start, call, f"its start killed before {at}", at, KILL_BEFORE)
        # Killed after a call is killed before the next one, if that is made by the same process.
        if at > 1 and (every > 1 or trial.by != by):
            bench.attempt("starts", trial.run_start, call, f"its start killed after {at - 1}", at - 1, KILL_AFTER)
        by = trial.by
        then = 1 + (at * 7 + call) % at_most
        bench.attempt("starts twice", trial.run_start, call, f"its start killed at {at}, the next at {then}", at,
                      KILL_BEFORE + (at & 1), then)
        name = ERRNOS[(at + call) % len(ERRNOS)]
        bench.attempt("starts refused", trial.run_refused, call, f"{name} for {at} of its start", at, getattr(errno, name))


def end(bench, every):
    trial = (EndPurged if bench.work.operation in ENDS else End)(bench.house, bench.work.operation)
    bench.calls = calls = trial.count()
    for call in bench.points(calls, every):
        for mode, word in KILLS:
            bench.attempt("end", trial.run, call, word, mode)
        for name in bench.some_of(ERRNOS, call):
            bench.attempt("end", trial.run, call, name, ERRNO, getattr(errno, name))
        for name in bench.some_of(LASTING, call):
            bench.attempt("end", trial.run, call, f"{name} from there on", ERRNO, getattr(errno, name), persists=True)


def checkpoint(bench, every):
    kills(bench, every, True)
    errors(bench, every, True)


def children(bench, every):
    """Thousands of calls, and seconds each, where a real pip is installed: of those some, and of each only one way to go wrong,
    another one for the next."""
    trial = Children(bench.house, bench.work.operation)
    bench.calls = calls = trial.count()
    real = "with pip" in bench.work.operation
    for i, call in enumerate(bench.points(calls, max(every, calls // WITH_PIP) if real else every)):
        ways = [(word, mode, 0, {}) for mode, word in KILLS] + [("killed after it, and the daemon", KILL_AFTER, 0, {"all_of_it": True})]
        for name in LASTING[:1] + LASTING[-1:]:
            ways += [(name, ERRNO, getattr(errno, name), {}), (f"{name} from there on", ERRNO, getattr(errno, name), {"persists": True})]
        for word, mode, error, how in [ways[i % len(ways)]] if real else ways:
            bench.attempt("children", trial.run, call, word, mode, error, **how)


CREATES = ["create", "create in place"]
SMALL_PIP = "first create, with a small pip"
WITHOUT = "start without a catalog"
OTHERS = ["list", "start", "venvctl create", "venvctl list"]    # that only memory is refused to
WHO = {"daemon": DAEMON, "resident worker": RESIDENT, "worker of an order": ORDER}


def memory(bench, every):
    """Of each program that has a part in it."""
    what = bench.work.operation
    if what.startswith("venvctl"):
        trial, programs = Client(bench.house, what.split()[1]), {"venvctl": CLIENT}
    else:
        trial = Listing(bench.house) if what == "list" else StartMemory(bench.house) if what == "start" else Memory(bench.house, what)
        programs = WHO
    everything = 0
    for name, who in programs.items():
        bench.calls = calls = trial.count(who)
        everything += calls
        bench.counts[f"allocations of {name}"] = calls
        for call in bench.points(calls, every):
            for persists in (False, True):
                bench.attempt("memory", trial.run, call, f"{name}, {'from there on' if persists else 'once'}", who, persists)
    bench.calls = everything


# part -> (what, of which operations, every so manieth call in full, and in the short form)
PARTS = {
    "kills": (kills, [*OPERATIONS, *BY_HAND, "first create", SMALL_PIP], 1, 41),
    "errors": (errors, [*OPERATIONS, *BY_HAND, "first create", SMALL_PIP], 1, 61),
    "lasting": (lasting, list(OPERATIONS), 1, 83),
    "starts": (starts, [*OPERATIONS, *BY_HAND, WITHOUT], 1, 67),
    "end": (end, ["create", "delete", *ENDS], 1, 29),
    "checkpoint": (checkpoint, ["create", "delete", "protect"], 1, 97),
    "children": (children, ["create in place", "create --path", "create --clear", "create --upgrade", "recreate in place",
                            *FIRST], 1, 997),
    "memory": (memory, [*CREATES, *OTHERS], 1, 997),
}


class Work:
    """What one process of the pool does: a part, of one operation."""

    def __init__(self, part, operation, every, binary, shim, seed, tells=True, until_caught=False):
        self.tells, self.until_caught = tells, until_caught     # of a variant, violations are what is wanted
        self.part, self.operation, self.every = part, operation, every
        self.binary, self.shim, self.seed = binary, shim, seed


def run_work(work):
    # In memory: a kill leaves the same there, and nobody waits for a disk, which is half of the time.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    top = tempfile.mkdtemp(prefix="venvd-fault-", dir=os.environ.get("TMPDIR", memory))
    bench, began = None, time.monotonic()
    try:
        bench = Bench(work, top)
        try:
            PARTS[work.part][0](bench, work.every)
            bench.house.end()
        except Caught:
            pass
        except WRONG as e:      # one that no fault has had a part in
            bench.found(f"{work.operation}, {work.part}: {e}")
    finally:
        if bench and bench.house.daemon and bench.house.daemon.process.poll() is None:
            bench.house.daemon.kill()
        shutil.rmtree(top, ignore_errors=True)
    return work, bench.calls, dict(bench.counts), bench.violations, time.monotonic() - began


def bites(name, build, shim, short):
    """Whether a daemon that does it wrongly is caught; in the short form until it is."""
    with tempfile.TemporaryDirectory(prefix="venvd-variant-") as where:
        binary = variants.build(name, build, where)
        part = variants.PART.get(name, "kills")
        _, _, counts, violations, _ = run_work(
            Work(part, variants.VARIANTS[name][0], 5 if short else 1, binary, shim, 0, False, until_caught=short))
    points = sum(v for k, v in counts.items() if k.startswith(part) and k not in NO_POINTS)
    print(f"variant, {name}: {len(violations)} of {points} {part} show it", flush=True)
    return bool(violations)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="some points of each operation")
    parser.add_argument("--only", action="append", metavar="OPERATION", choices=[*EVERYTHING, *OTHERS, WITHOUT])
    parser.add_argument("--part", action="append", choices=[*PARTS, "variants"])
    parser.add_argument("--every", type=int, help="only every so manieth call of each part")
    parser.add_argument("--seed", type=int, default=None, help="which of the points are taken where not all are")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    return parser.parse_args()


def plan(options, binary, shim, seed):
    """The short form takes kills of every second operation, and of all else a fourth, others each time."""
    work = []
    for part, (_, operations, every, short) in PARTS.items():
        if options.part and part not in options.part:
            continue
        for operation in operations:
            long = "with pip" in operation or operation in FIRST and part in ("kills", "errors")
            if options.only and operation not in options.only or options.short and long:
                continue
            every_now = options.every or (short if options.short else every)
            slices = 4 if part == "memory" and operation in (*CREATES, "start") else 1      # whoever is idle takes some
            work += [Work(part, operation, every_now * slices, binary, shim, seed + i * every_now) for i in range(slices)]
    if options.short and not options.part:
        rest = [w for w in work if w.part != "kills"]
        work = [w for w in work if w.part == "kills"][seed % 2::2] + rest[seed // 2 % 4::4]
    return work


def report(work, calls, counts, violations, seconds):
    print(f"{work.operation:22} {work.part:10} {calls:5} calls:", ", ".join(f"{v} {k}" for k, v in counts.items()) + ",",
          f"{len(violations)} violations, {seconds:.0f} s", flush=True)


def main():
    options = arguments()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))    # many are going to abort()
    build = pathlib.Path(os.environ.get("VENVD_BUILD", TOP / "build")).resolve()
    shim = build_shim(build)
    seed = options.seed if options.seed is not None else (time.time_ns() // 1000 % 1000 if options.short else 0)
    began = time.monotonic()
    total, bad = collections.Counter(), 0
    work = plan(options, build / "venvd", shim, seed)
    with tempfile.TemporaryDirectory(prefix="venvd-variant-") as where, multiprocessing.Pool(options.jobs) as pool:
        of_checkpoint = [w for w in work if w.part == "checkpoint"]
        if of_checkpoint:
            short_log = variants.build("a short log", build, where, variants.SHORT_LOG)
            for one in of_checkpoint:
                one.binary = short_log
        for which, calls, counts, violations, seconds in pool.imap_unordered(run_work, work):
            report(which, calls, counts, violations, seconds)
            total.update({k: v for k, v in counts.items() if not k.startswith(NO_POINTS)})
            bad += len(violations)
    chosen = [n for n in variants.VARIANTS if not options.only or variants.VARIANTS[n][0] in options.only]
    if options.part and "variants" not in options.part:
        chosen = []
    if options.short:
        chosen = [chosen[seed % len(chosen)]] if chosen else []
    missed = [name for name in chosen if not bites(name, build, shim, options.short)]
    for name in missed:
        print(f"NOT CAUGHT: {name}", flush=True)
    done = sum(v for k, v in total.items() if k != "not reached")
    print(f"fault: {done} points ({', '.join(f'{v} {k}' for k, v in sorted(total.items()))}), {bad} violations, "
          f"seed {seed}, {time.monotonic() - began:.0f} s")
    return 1 if bad or missed or done == 0 and not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
