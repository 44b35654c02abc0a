# SPDX-License-Identifier: MIT
"""Many environments, by what each one more costs: processor time of a start, memory, looks. The figures for 100,000, and
wall-clock times, are tests/bench/hundred.py's. Daemons with a defect of each kind, built for the test alone, are caught.
"""
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

import pytest

import wire
from conftest import BUILD, TOP, VENVD, Daemon
from worker import order

sys.path.append(str(TOP / "tests" / "fault"))
import variants  # noqa: E402

FEW, MANY = 3000, 12000
STARTS = 3              # of which the one that was disturbed least counts
ROW_BYTES = 512         # of memory for a row, all in all
LIMIT_ENVIRONMENTS = 200000

# As in tests/fault/variants.py; the first word is the check that must fail.
DEFECTS = {
    "each name is looked for among all": (
        "processor", "daemon/entries.c", "\tsize_t at = (size_t)(hash ^ hash >> 32);\n", "\tsize_t at = hash & 0;\n"),
    "each row has words of its own": (
        "memory", "daemon/word.c",
        "\t\tatomic_fetch_add_explicit(&word_of(text)->owners, 1, memory_order_relaxed);\n\treturn text;\n",
        "\t\ttext = strdup(text);\n\treturn text;\n"),
    "marks are not believed": (
        "looks", "daemon/worker/inspect.c", "find_mark(fd) == mark &&", "find_mark(fd) == mark + 1 &&"),
}


def processor_ms(pid):
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def anonymous_bytes(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024


def at_rest(daemon):
    """Nothing is done in the background any more: no child, and no processor time between two looks."""
    before = [-1.0]

    def rests():
        busy = pathlib.Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text()
        then, before[0] = before[0], processor_ms(daemon.pid)
        return not busy and before[0] == then

    wire.until(rests)


def start_again(root, count, binary=VENVD):
    """Of a start on known environments: processor time until it is ready, memory then, processor time of the looks
    after it."""
    daemon = Daemon(root, binary=binary)
    try:
        assert daemon.said.startswith("ready "), daemon.log()
        ready, memory = processor_ms(daemon.pid), anonymous_bytes(daemon.pid)
        assert daemon.call("Status")["counts"]["ready"] == count
        at_rest(daemon)
        return ready, memory, processor_ms(daemon.pid) - ready
    finally:
        daemon.stop()           # what it has seen is in the catalog then
        os.unlink(daemon.log_path)


def least(root, count, binary):
    return [min(values) for values in zip(*(start_again(root, count, binary) for _ in range(STARTS)), strict=True)]


def without_marks(root):
    with sqlite3.connect(root / ".venvd" / "catalog.db") as catalog:
        catalog.execute("UPDATE environment SET looked = 0")
    catalog.close()


@pytest.fixture(scope="module")
def roots():
    """How many -> a root of so many, in memory where there is such a place; known, and no file of them new any more."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    base = pathlib.Path(tempfile.mkdtemp(dir=place, prefix="venvd-"))
    found = {0: base / "none", FEW: base / "few", MANY: base / "many"}
    try:
        for count, root in found.items():
            root.mkdir()
            if count:
                wire.fake_environments(root, count, "environment-{:06}")
            start_again(root, count)
        settled = time.time() - 2.5
        wire.until(lambda: max(root.stat().st_mtime for root in found.values()) < settled or time.time() - 2.5 > settled + 2.5)
        yield found
    finally:
        shutil.rmtree(base)


def judge(roots, binary, looks_of_all):
    """The checks that fail."""
    none, few, many = (least(roots[count], count, binary) for count in (0, FEW, MANY))
    growth = (many[0] - none[0]) / (few[0] - none[0])
    row_bytes = (many[1] - few[1]) / (MANY - FEW)
    looks = many[2] / looks_of_all
    print(f"a start on {MANY} costs {growth:.1f} times one on {FEW}; {row_bytes:.0f} bytes a row; "
          f"looks {looks:.2f} of those without marks")
    return {name for name, bad in (("processor", growth > 2 * MANY / FEW), ("memory", row_bytes > ROW_BYTES),
                                   ("looks", looks > 0.25)) if bad}


@pytest.mark.slow
@pytest.mark.skipif(wire.SANITIZED, reason="a sanitizer has a price of its own")
def test_what_one_more_environment_costs(roots):
    without_marks(roots[MANY])
    looks_of_all = start_again(roots[MANY], MANY)[2]
    start_again(roots[FEW], FEW)
    assert judge(roots, VENVD, looks_of_all) == set()


@pytest.mark.everywhere
@pytest.mark.skipif(wire.SANITIZED, reason="a sanitizer has a price of its own")
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_that_costs_is_caught(roots, tmp_path, defect):
    without_marks(roots[MANY])
    looks_of_all = start_again(roots[MANY], MANY)[2]
    start_again(roots[FEW], FEW)
    assert DEFECTS[defect][0] in judge(roots, variants.build(defect, BUILD, tmp_path, DEFECTS), looks_of_all)


@pytest.mark.slow
def test_more_directories_than_are_listed(start):
    """Nothing is concluded from half a look: what the catalog knows stays as it is, and is not called missing."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(dir=place, prefix="venvd-") as directory:
        root = pathlib.Path(directory) / "envs"
        wire.fake_environments(root, 3)
        assert start(root).stop() == 0
        subprocess.run(f"seq {LIMIT_ENVIRONMENTS - 3} | xargs mkdir", shell=True, cwd=root, check=True)
        answer, frames = order(root, "scan")
        assert "truncated" not in answer
        assert sum(f["names"].count("/") for f in frames if f["frame"] == "names") == LIMIT_ENVIRONMENTS
        (root / "env00001").rename(root / ".hidden")
        for name in ("one-more", "another"):
            os.mkdir(root / name)
        assert order(root, "scan")[0]["truncated"]
        daemon = start(root)
        assert daemon.said.startswith("ready ") and f"holds more than {LIMIT_ENVIRONMENTS} directories" in daemon.log()
        assert {e["state"] for e in daemon.environments().values()} == {"ready"} and len(daemon.environments()) == 3
        daemon.stop()
        subprocess.run(["rm", "-rf", root], check=True)         # shutil would take as long as all of this
