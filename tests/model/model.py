# SPDX-License-Identifier: MIT
"""Random steps on a real daemon and on a model of it, which must agree (tools/model.sh).

Hypothesis draws the steps (calls, restarts, kills, what is done by hand in the root, a full disk, the clock); session.py
does them; real.py looks. A run of steps that fails is made as short as it gets, printed, and kept as a file, with the
command that does it again. The files in found/ are such: they are done first, and must pass.

Daemons with a defect (DEFECTS) must be found within so many steps.
"""
import argparse
import collections
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
import traceback

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from hands import KINDS as HANDS
from real import PATIENCE, TOP, House, house
from session import DELTAS, KINDS, REQUESTS, Session
from world import NAMES

import variants  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
LENGTH = 120            # steps of one run, in a root of its own
SHRINK = 45             # seconds for making a failure shorter, and the patience of it
SHRINK_PATIENCE = 2
PARTS = 21              # runs of one seed; the first of them is the simplest that there is
ROUNDS = 8              # until there were so many steps as wanted

AGAIN = 3               # tries of a failure in the short form, which counts it if it can be repeated

LIMIT = 10000           # steps in which a daemon with a defect must be found

# Daemons with a defect, beside two of the fault tests: name -> (file, what stands there, what stands there instead)
DEFECTS = {
    "a request id that is not remembered over a restart": (
        "daemon/replay.c", "\tif (replay_find(replay, row->id) != NULL) {\n", "\tif (row->id != NULL) {\n"),
    "a row that does not follow a rename by hand": (
        "daemon/follow.c", "\tif (code != ERROR_NONE)\n\t\tlog_warning(\"directories with other",
        "\tif (true)\n\t\tlog_warning(\"directories with other"),
    "a row that stays when its directory has gone while nobody looked": (
        "daemon/reconcile.c", "\t\tenv->intent = INTENT_NONE;\n\t\tseen_missing(v, env);\n",
        "\t\tenv->intent = INTENT_NONE;\n"),
    "a removal for good before its row": (
        "daemon/retention.c", "\tstore_put(r->venvd->store, env, purge_intent_on_disk, p);\n",
        "\tpurge_intent_on_disk(true, p);\n"),
    "a trash that lets go after three weeks": (
        "daemon/retention.c", "\tenv->expires_at = env->deleted_at + ", "\tenv->expires_at = env->deleted_at + 3 * "),
    **{name: variants.VARIANTS[name][1:] for name in ("a claim before its row", "a delete without its row")},
}

names = st.sampled_from(NAMES)
apt = st.sampled_from((True, True, False))
operations = st.tuples(st.sampled_from(KINDS), names, names, st.booleans(), apt)
by_hand = st.tuples(st.sampled_from(HANDS), names, names, apt)
CALL = {"kind": st.sampled_from(KINDS), "name": names, "to": names, "id": st.booleans(), "apt": apt}
HAND = {"kind": st.sampled_from(HANDS), "name": names, "to": names, "apt": apt}
# A step, how often it is taken, and what it is given.
STEPS = (
    ("call", 14, CALL),
    ("repeat", 3, {"which": st.integers(0, REQUESTS - 1), "other": st.booleans()}),
    ("ask", 1, {"name": names}),
    ("pair", 4, {"one": operations, "other": operations}),
    ("same", 1, {n: s for n, s in CALL.items() if n != "id"}),
    ("drop", 2, CALL),
    ("hand", 3, HAND),
    ("hand_and_call", 2, {"hand": st.tuples(st.sampled_from(HANDS), names, names), "op": operations}),
    ("remove_and_create", 1, {"name": names}),
    ("restart", 3, {"how": st.sampled_from(("term", "kill", "all")), "hands": st.lists(by_hand, max_size=3)}),
    ("crash", 5, {"op": operations, "at": st.integers(1, 60), "after": st.booleans(), "both": st.booleans()}),
    ("term", 1, {"op": operations}),
    ("worker", 1, {}),
    ("full", 2, {"on": st.booleans()}),
    ("clock", 1, {"by": st.sampled_from(DELTAS), "restart": st.booleans()}),
)
RULES = tuple(name for name, _, _ in STEPS)
# One strategy: hypothesis' own choice among rules leaves most of them out of a run.
steps = st.sampled_from([step for step in STEPS for _ in range(step[1])]).flatmap(
    lambda step: st.tuples(st.just(step[0]), st.fixed_dictionaries(step[2])))


class Failed(Exception):
    """A run whose steps are known."""


class Machine(RuleBasedStateMachine):
    """Hypothesis' side of a session. The class itself carries what its runs share."""
    binary = shim = where = None
    counts = collections.Counter()
    failure = None      # the first: (steps, text)

    def __init__(self):
        super().__init__()
        self.steps = []
        self.top = tempfile.mkdtemp(prefix="venvd-model-", dir=self.where)
        self.session = None
        self._guard(self._start)

    def _start(self):
        house = House(self.top, self.binary, self.shim)
        house.start()
        self.session = Session(house)

    def _guard(self, do, *arguments):
        try:
            do(*arguments)
        except Exception as e:
            if Machine.failure is None:
                Machine.failure = (list(self.steps), f"{type(e).__name__}: {e}", self._around(e))
            raise Failed(str(e)) from e

    def _around(self, error):
        """What a person wants to know of it."""
        text = "".join(traceback.format_exception(error)[-4:])
        if not self.session:
            return text
        house = self.session.house
        return (f"{text}before it: {self.session.world.short()}\nthe last steps: {self.steps[-3:]}\n"
                f"its log: {house.daemon.log()[-1500:] if house.daemon else ''}")

    def teardown(self):
        try:
            if self.session and Machine.failure is None:
                self._guard(self.session.finish)
        finally:
            if self.session:
                Machine.counts.update(self.session.counts)
                self.session.house.destroy()
            shutil.rmtree(self.top, ignore_errors=True)

    @rule(step=steps)
    def step(self, step):
        self.steps.append(step)
        self._guard(self.session.run, *step)


def replay(steps, binary, shim, where, counts=None, say=None, patience=PATIENCE):
    """Does these steps; what was wrong, or None."""
    top = tempfile.mkdtemp(prefix="venvd-model-", dir=where)
    session = house = None
    try:
        house = House(top, binary, shim)
        house.patience = patience
        house.start()
        session = Session(house)
        for step, values in steps:
            session.run(step, values)
            if say:
                say(f"{step} {json.dumps(values)}: {session.world.short()}")
        session.finish()
    except Exception as e:
        if say and house and house.daemon:
            say(house.daemon.log())
        return f"{type(e).__name__}: {e}"
    finally:
        if counts is not None and session:
            counts.update(session.counts)
        if house:
            house.destroy()
        shutil.rmtree(top, ignore_errors=True)
    return None


def shrink(steps, run, seconds=SHRINK):
    """Fewer steps that still fail, whatever they say then: halves, quarters, ..., single ones are left out."""
    end = time.monotonic() + seconds
    size = max(1, len(steps) // 2)
    while size:
        at = 0
        while at < len(steps):
            if time.monotonic() > end:
                return steps
            fewer = steps[:at] + steps[at + size:]
            if run(fewer):
                steps = fewer
            else:
                at += size
        size //= 2
    return steps


def work(arguments):
    """So many steps with one seed: what was counted, and the failure with its steps."""
    seed, runs, binary, shim, where = arguments
    Machine.binary, Machine.shim, Machine.where = binary, shim, where
    Machine.failure, Machine.counts = None, collections.Counter()
    machine = with_seed(seed)(type("Machine", (Machine,), {}))
    try:
        run_state_machine_as_test(machine, settings=settings(
            max_examples=runs, stateful_step_count=LENGTH, deadline=None, database=None, print_blob=False,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck)))
    except BaseException as e:
        if Machine.failure is None:
            Machine.failure = ([], f"{type(e).__name__}: {e}", "".join(traceback.format_exception(e)))
    return seed, dict(Machine.counts), Machine.failure


def steps_of(counts):
    return sum(counts[name] for name in RULES)


def same_kind(one, other):
    """Whether two failures begin with the same words: one that is made shorter is not to become another one."""
    def kind(text):
        return re.sub(r"'[^']*'|[0-9]", "", text or "")[:24]
    return kind(one) == kind(other)


def show(failure, build, shim, where, binary, seconds=SHRINK):
    """Prints what failed, as short as it gets, and keeps it."""
    steps, text, trace = failure
    print(f"model: {text}\n{trace}", flush=True)
    reproduced = replay(steps, binary, shim, where)
    if reproduced and seconds:
        steps = shrink(steps, lambda fewer: same_kind(reproduced, replay(fewer, binary, shim, where,
                                                                         patience=SHRINK_PATIENCE)), seconds)
        text = replay(steps, binary, shim, where) or text
    directory = build / "model"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"failure-{time.time_ns() // 10**6}.json"
    path.write_text(json.dumps({"what": text, "steps": steps}, indent=1) + "\n")
    for step in steps:
        print("   ", json.dumps(step))
    print(f"model: {text}\nmodel: {len(steps)} steps{'' if reproduced else ' (that passed when they were done again)'}; "
          f"again: tools/model.sh --replay {os.path.relpath(path, TOP)}", flush=True)


def repeats(failure, binary, shim, where):
    """Whether one of three more tries fails, too. What depends on the moment may need many more."""
    return any(replay(failure[0], binary, shim, where) for _ in range(AGAIN))


def run(seed, steps, jobs, binary, shim, where, until_failure=False):
    """So many steps, spread over jobs; what was counted, and the failures."""
    counts, failures, begun = collections.Counter(), [], 0
    with multiprocessing.Pool(jobs, maxtasksperchild=8) as pool:
        for _ in range(ROUNDS):     # hypothesis ends some runs early
            runs = -(-(steps - steps_of(counts)) // LENGTH)
            tasks = [(seed * 1000 + begun + i, min(PARTS, runs - i * PARTS), binary, shim, where)
                     for i in range(-(-runs // PARTS))]
            begun += len(tasks)
            for part, counted, failure in pool.imap_unordered(work, tasks):
                counts.update(counted)
                if failure:
                    failures.append((part, failure))
                    if until_failure or len(failures) >= 3:
                        pool.terminate()
                        return counts, failures
            if steps_of(counts) >= steps or failures:
                break
    return counts, failures


def bites(name, build, shim, where, seed, jobs):
    """Whether a daemon with a defect is found."""
    with tempfile.TemporaryDirectory(prefix="venvd-variant-") as directory:
        binary = variants.build(name, build, directory, {name: ("", *DEFECTS[name])})
        counts, failures = run(seed, LIMIT, jobs, binary, shim, where, until_failure=True)
    said = f"found: {failures[0][1][1]:.160}" if failures else "NOT FOUND"
    print(f"variant, {name}: {said} ({steps_of(counts)} steps)", flush=True)
    return bool(failures)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100000, help="0: only what has been found before is done again")
    parser.add_argument("--short", action="store_true", help="10,000 steps, and one variant; a failure that cannot be repeated is kept, and not counted")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--where", default=None, help="a directory for the roots; else in memory, where there is such a place")
    parser.add_argument("--replay", metavar="FILE", help="does the steps of a failure again")
    parser.add_argument("--no-variants", action="store_true")
    parser.add_argument("--no-shrinking", action="store_true", help="a failure is kept as it is")
    options = parser.parse_args()
    build = pathlib.Path(os.environ.get("VENVD_BUILD", TOP / "build")).resolve()
    shim, binary = house.build_shim(build), build / "venvd"
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    where = options.where or memory
    began = time.monotonic()
    if options.replay:
        wrong = replay(json.loads(pathlib.Path(options.replay).read_text())["steps"], binary, shim, where, say=print)
        print(f"model: {wrong or 'nothing is wrong'}")
        return 1 if wrong else 0
    seed = options.seed if options.seed is not None else time.time_ns() // 1000 % 10**9
    print(f"model: seed {seed}", flush=True)
    bad = 0
    counts = collections.Counter()
    for kept in sorted(HERE.glob("found/*.json")):
        if wrong := replay(json.loads(kept.read_text())["steps"], binary, shim, where, counts):
            print(f"model: found/{kept.name} again: {wrong}", flush=True)
            bad += 1
    steps = 10000 if options.short else options.steps
    more, failures = run(seed, steps, options.jobs, binary, shim, where) if steps else ({}, [])
    counts.update(more)
    for failing, failure in failures:
        print(f"model: seed {seed}, part {failing % 1000}:", flush=True)
        show(failure, build, shim, where, binary, 0 if options.no_shrinking else SHRINK)
        if options.short and not repeats(failure, binary, shim, where):
            print(f"model: {AGAIN} more tries were fine: it is kept, and not counted", flush=True)
            bad -= 1
    chosen = [] if options.no_variants else list(DEFECTS)
    if options.short and chosen:
        chosen = [chosen[seed % len(chosen)]]
    missed = [name for name in chosen if not bites(name, build, shim, where, seed, options.jobs)]
    print(", ".join(f"{v} {k}" for k, v in sorted(counts.items())))
    done = steps_of(counts)
    print(f"model: {done} steps, {bad + len(failures)} failures, seed {seed}, {time.monotonic() - began:.0f} s")
    return 1 if bad + len(failures) > 0 or missed or (done < steps and not failures) else 0


if __name__ == "__main__":
    sys.exit(main())
