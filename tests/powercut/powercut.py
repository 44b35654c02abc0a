# SPDX-License-Identifier: MIT
"""'make powercut': the power is cut while clients create, delete, restore, rename, clone, recreate.

After each cut the file system is mounted again, its log replayed, the daemon started, and what is there is held against
what had been acknowledged (audit.py): nothing acknowledged is lost, no file is short, what was left open has wholly
happened or not at all, and happens once when it is asked for again.

Cuts come in chains: a daemon that was cut goes on working, and is cut again. A violation ends its chain, is printed with
its seed, and leaves the image as the cut left it. Exit status 1 if there was one, or if a daemon with a step left out
(weakened.py) was not caught.
"""
import argparse
import collections
import contextlib
import ctypes
import dataclasses
import glob
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(TOP / "tests" / "e2e"), str(TOP / "tests" / "conformance"), str(TOP / "tests" / "fault")]

from conftest import Daemon  # noqa: E402

import disk  # noqa: E402
import weakened  # noqa: E402
from audit import MARK, Audit, References, Violation, idle  # noqa: E402
from load import Client, Load  # noqa: E402

DEADLINE = 60
CLIENTS = 5
CHAIN = 10                      # cuts of one daemon in a row
# What is cut, by which means, and how files of an image get into environments there.
SERIES = {
    "ext4": [("ext4", "shutdown", "hardlink"), ("ext4-strict", "shutdown", "hardlink")],
    "xfs": [("xfs", "shutdown", "reflink"), ("xfs", "shutdown", "hardlink")],
    "btrfs": [("btrfs", "snapshot", "reflink"), ("btrfs", "snapshot", "hardlink")],
}
FAILURES_KEPT = 5
PR_SET_CHILD_SUBREAPER = 36


def children():
    found = []
    for file in glob.glob("/proc/self/task/*/children"):
        with contextlib.suppress(OSError):      # a thread that has just ended
            found += map(int, pathlib.Path(file).read_text().split())
    return found


class Interrupted(Exception):
    """We are to end: what has been seen is told, and it was not all."""


asked_to_end = threading.Event()


def go_on():
    """Between two cuts, where nothing is half done."""
    if asked_to_end.is_set():
        raise Interrupted


def bury():
    """Ends whatever the daemon has left: its workers and their children come to us when it is gone."""
    while pids := children():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


class House:
    """A root on a disk of its own, and its daemon."""

    def __init__(self, top, where, kind, mode, binary):
        self.top, self.binary, self.mode = pathlib.Path(top), binary, mode
        self.disk = disk.Disk(kind, top, pathlib.Path(where) / "work.img")
        self.root = self.disk.mount_point / "envs"
        self.daemon, self.said = None, collections.Counter()

    def start(self):
        # Without a python3 on its PATH it prepares none by itself. In a session of its own, so that who interrupts us does
        # not reach it.
        env = {"VENVD_POOL": "1", "PATH": "/nowhere", "TMPDIR": str(self.top)}
        self.daemon = Daemon(self.root, ("-o", "pool_initial=6", "-o", f"link_mode={self.mode}"), env=env, binary=self.binary,
                             wrapper=("/usr/bin/setsid",))
        if not self.daemon.said.startswith("ready "):
            raise Violation("lost", f"it does not start: {self.daemon.log()[-800:]}")

    def kill(self):
        if self.daemon:
            self.daemon.kill()
            bury()
            self.log = self.daemon.log()
            os.unlink(self.daemon.log_path)
            self.daemon = None

    def mount_and_start(self):
        self.disk.mount()
        self.start()

    def end(self):
        self.kill()
        self.disk.unmount()


class Series:
    """Chains on one kind of disk, from one prepared image."""

    def __init__(self, stack, top, kind, means, mode, binary, seed, is_variant):
        self.top, self.kind, self.means, self.mode, self.seed = pathlib.Path(top), kind, means, mode, seed
        self.counts, self.violations, self.is_variant = collections.Counter(), [], is_variant
        self.where = stack.enter_context(disk.reflinked(top)) if means == "snapshot" else self.top
        self.house = House(top, self.where, kind, mode, binary)
        self.evidence = self.where / "cut.img"
        stack.callback(self.house.end)

    def make(self):
        """What every chain begins from."""
        house = self.house
        house.disk.make()
        house.mount_and_start()
        self.references = References(house.daemon)
        idle(house.daemon)
        if house.daemon.stop() != 0:
            raise Violation("broken", house.daemon.log())
        house.end()
        house.disk.copy(self.where / "base.img")

    # --- one chain ---

    def begin_chain(self):
        base = disk.Disk(self.kind, self.top, self.where / "base.img")
        base.copy(self.house.disk.image)
        self.house.mount_and_start()

    def prepare(self, clients):
        """What is there before the load: everybody's files on the disk, the pool warm."""
        for client in clients:
            state = client.states[-1]
            live = {}
            for name, env in state.live.items():
                if env.mark is None:
                    env = dataclasses.replace(env, mark=client.random.randbytes(client.random.randrange(1, 9000)))
                    (self.house.root / name / MARK).write_bytes(env.mark)
                live[name] = env
            client.begin(dataclasses.replace(state, live=live))
        os.sync()
        status = idle(self.house.daemon)
        self.counts["loads"] += 1
        self.counts["warm"] += sum(i["pool"] for i in status["images"])

    def load(self, clients, chance, plan, cut):
        active = chance.sample(clients, chance.choice((1, 1, 2, 3, 5)))
        load = Load(self.house.daemon, active, cut, plan)
        came = load.wait(DEADLINE * len(plan))
        self.house.kill()
        load.join()
        refused = [r for c in clients for r in c.refused]
        if not came or refused:
            raise Violation("broken", f"refused {refused}" if refused else "the load stands still")

    def count(self, clients):
        self.counts["acknowledged"] += sum(c.acknowledged for c in clients)
        for client in clients:
            for request in client.requests[:client.acknowledged]:
                self.counts[f"of {request.method}"] += 1

    def look(self, clients, windows):
        """Mounted and started again; the states that the clients have."""
        self.windows = windows
        self.house.mount_and_start()
        self.counts["cuts"] += 1
        self.counts["open"] += sum(w[1] > w[0] for w in windows)
        return Audit(self.house.daemon, self.references, clients, windows, self.counts, self.seen).run()

    def shut_down(self, chance, clients, cuts):
        """The daemon goes on after each cut."""
        for _ in range(cuts):
            go_on()
            self.prepare(clients)
            self.load(clients, chance, [moment(chance)], self.house.disk.cut)
            self.count(clients)
            self.house.disk.unmount()
            self.house.disk.copy(self.evidence)
            states = self.look(clients, [(c.acknowledged, len(c.requests)) for c in clients])
            for client, state in zip(clients, states, strict=True):
                client.begin(state)

    def snapshot(self, chance, clients, cuts):
        """Many moments of one run."""
        taken = []

        def cut():
            image = self.where / f"cut{len(taken)}.img"
            least = [c.acknowledged for c in clients]
            self.house.disk.copy(image)
            taken.append((image, [(a, len(c.requests)) for a, c in zip(least, clients, strict=True)]))

        self.prepare(clients)
        self.load(clients, chance, [moment(chance) for _ in range(cuts)], cut)
        self.count(clients)
        self.house.disk.unmount()
        work = self.house.disk.image
        try:
            for image, windows in taken:
                go_on()
                self.house.disk.image = image
                self.house.disk.copy(self.evidence)     # as it was, before it is mounted
                self.look(clients, windows)
                self.house.end()
                os.unlink(image)
        finally:
            self.house.disk.image = work

    def chain(self, number, cuts):
        seed, self.seen = f"{self.seed}:{self.kind}:{self.mode}:{number}", collections.Counter()
        chance, before, self.windows = random.Random(seed), self.counts["cuts"], [(0, 0)] * CLIENTS
        clients = [Client(n, seed) for n in range(CLIENTS)]
        try:
            self.begin_chain()
            (self.snapshot if self.means == "snapshot" else self.shut_down)(chance, clients, cuts)
        except Violation as e:
            self.counts[e.kind] += 1
            at = self.counts["cuts"] - before
            e.args = (f"{e}; {self.open_then(clients)}",)
            self.house.kill()
            self.violations.append(f"{e.kind}, seed {seed}, cut {at}: {e}")
            self.keep(f"{seed}:{at}".replace(":", "-"), e)
        finally:
            self.house.end()

    def open_then(self, clients):
        """What each client had asked for last, and how much of it was acknowledged."""
        return "; ".join(f"client {c.number}: {w[0]} of {w[1]} acknowledged, the last "
                         f"{[(r.method, r.parameters.get('name')) for r in c.requests[max(0, w[0] - 2):w[1]]]}"
                         for c, w in zip(clients, self.windows, strict=True))

    def keep(self, name, violation):
        """What the cut had left, for whoever looks into it."""
        if self.is_variant:
            return
        print(f"    {self.violations[-1]}", flush=True)
        kept = TOP / "build" / "powercut"
        if self.counts["kept"] >= FAILURES_KEPT or not self.evidence.exists():
            return
        self.counts["kept"] += 1
        (kept / name).mkdir(parents=True, exist_ok=True)
        with open(self.evidence, "rb") as source, open(kept / name / "cut.img", "wb") as target:
            disk.copy_data(source.fileno(), target.fileno())
        (kept / name / "why.txt").write_text(f"{violation}\n\n{self.house.log}\n")
        print(f"    kept in {kept / name}", flush=True)

    def run(self, cuts):
        number = 0
        while self.counts["cuts"] < cuts and not (self.violations and self.is_variant):
            if self.counts["cuts"] + len(self.violations) >= 2 * cuts:
                break                   # it fails before each cut
            go_on()
            self.chain(number, min(CHAIN, cuts - self.counts["cuts"]))
            number += 1


def moment(chance):
    """After so many answers, so many seconds later. Where there are many, the pool has been filled again meanwhile."""
    return chance.randint(*chance.choice(((2, 40), (2, 40), (60, 140)))), chance.choice((0, 0, chance.uniform(0, 0.006)))


HEADS = ["cuts", "acknowledged", "checks", "open", "done", "undone", "again", "restored", "trees", "files", "entries", "lost", "short",
         "broken", "trace"]


def table(rows):
    print(f"{'':22}", *(f"{h:>12}" for h in HEADS))
    for name, counts in rows:
        print(f"{name:22}", *(f"{counts[h]:12}" for h in HEADS))


def series(arguments, binary, seed, cuts, is_variant=False):
    """Its counts and violations; also of one that is interrupted."""
    kind, means, mode = arguments
    counts, violations = collections.Counter(), []
    with tempfile.TemporaryDirectory(prefix="cut-", dir=disk.place()) as top:
        os.environ["TMPDIR"] = tempfile.tempdir = top
        try:
            with contextlib.ExitStack() as stack:
                one = Series(stack, top, kind, means, mode, binary, seed, is_variant)
                counts, violations = one.counts, one.violations
                one.make()
                one.run(cuts)
        except Interrupted:
            counts["interrupted"] = 1
        finally:
            tempfile.tempdir = None
            os.environ.pop("TMPDIR")
    return counts, violations


def measure(options, build):
    """Every file system that was asked for; the rows of the table."""
    rows = []
    for name in options.only or (["ext4"] if options.short else list(SERIES)):
        parts = SERIES[name][:1] if options.short else SERIES[name]
        for arguments in parts:
            began = time.monotonic()
            counts, violations = series(arguments, build / "venvd", options.seed, -(-options.cuts // len(parts)))
            rows.append((f"{arguments[0]}, {arguments[2]}", counts))
            methods = ", ".join(f"{v} {k[3:]}" for k, v in sorted(counts.items()) if k.startswith("of "))
            print(f"{rows[-1][0]}: {counts['cuts']} cuts by {arguments[1]}, {len(violations)} violations, "
                  f"{time.monotonic() - began:.0f} s; acknowledged: {methods}; "
                  f"{counts['warm'] / max(1, counts['loads']):.0f} entries in the pool before a load", flush=True)
            if counts["interrupted"]:
                return rows
    return rows


def bite(options, build):
    """Whether each daemon with a step left out is caught."""
    missed = []
    for name in options.variant or (weakened.ALWAYS if not options.bite else list(weakened.VARIANTS)):
        for arguments in weakened.where(name, options.only):
            with tempfile.TemporaryDirectory(prefix="venvd-weakened-") as where:
                binary = weakened.build(name, build, where)
                counts, violations = series(arguments, binary, options.seed, options.patience, is_variant=True)
            print(f"variant, {name}, {arguments[0]}: "
                  + (f"caught at cut {counts['cuts']} ({violations[0][:160]})" if violations
                     else f"NOT CAUGHT in {counts['cuts']} cuts"), flush=True)
            missed += [] if violations else [name]
            if counts["interrupted"]:
                return missed
    return missed


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="a few cuts on ext4")
    parser.add_argument("--only", action="append", choices=SERIES)
    parser.add_argument("--cuts", type=int, help="of each file system (200)")
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1000 % 1000000)
    parser.add_argument("--bite", action="store_true", help="daemons with a step left out, and nothing else")
    parser.add_argument("--no-bite", action="store_true", help="none of them")
    parser.add_argument("--variant", action="append", choices=weakened.VARIANTS, help="with --bite: this one")
    parser.add_argument("--patience", type=int, default=40, help="cuts in which one must be caught")
    options = parser.parse_args()
    options.cuts = options.cuts or (5 if options.short else 200)
    return options


def main():
    options = arguments()
    build = pathlib.Path(os.environ.get("VENVD_BUILD", TOP / "build")).resolve()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_end.set())
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    try:
        # Images are made by way of a directory in /tmp that all daemons of a user share, even one whose clock is wrong. Here
        # mounts are ours alone.
        if not build.is_relative_to("/tmp"):
            disk.run("mount", "-t", "tmpfs", "-o", "mode=1777", "powercut", "/tmp")
        rows = [] if options.bite else measure(options, build)
        stopped = any(c["interrupted"] for _, c in rows)
        missed = [] if options.short or options.no_bite or stopped else bite(options, build)
    except disk.Unavailable as e:
        print(f"power cuts are not tested here: {e}")
        if options.short:
            print("1 skipped in 0s")        # in the words that 'make check' counts
        return 0 if options.short else 1
    if rows:
        table(rows)
    bad = sum(c[k] for _, c in rows for k in ("lost", "short", "broken", "trace"))
    cuts = sum(c["cuts"] for _, c in rows)
    print(f"powercut: {cuts} cuts, {sum(c['acknowledged'] for _, c in rows)} operations acknowledged, {bad} violations, "
          f"{len(missed)} variants not caught, seed {options.seed}, {time.monotonic() - began:.0f} s")
    return 1 if bad or missed or stopped or (cuts == 0 and not options.bite) else 0


if __name__ == "__main__":
    sys.exit(main())
