# SPDX-License-Identifier: MIT
"""Creating, a whole process each, beside `python -m venv`, virtualenv and uv: with pip and without."""

import os
import re
import shutil
import statistics
import subprocess
import time
from pathlib import Path

from common import BUILD, HOME, PYTHON, REPOSITORY, Client, Daemon, Failure, row, run_seconds, spread, wait_for_pool

PEERS = REPOSITORY / "build" / "benchenv" / "bin"
VENVCTL = str(BUILD / "venvctl")


def pythons():
    """title -> path, and the goal beside `python -m venv`: CPython 3.12 built by pyenv, and the system's."""
    found = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", HOME / ".pyenv"))
    built = sorted(
        pyenv.glob("versions/3.12.*/bin/python3.12"), key=lambda p: [int(n) for n in re.findall(r"\d+", p.parts[-3])]
    )
    if built:
        found[f"CPython {built[-1].parts[-3]} by pyenv"] = (str(built[-1]), 1000)
    version = subprocess.run(
        [PYTHON, "-c", "import platform; print(platform.python_version())"], capture_output=True, text=True, check=True
    ).stdout.strip()
    system = "Debian's" if Path("/etc/debian_version").exists() else "the system's"
    found[f"{system} Python {version}"] = (PYTHON, 800)
    return found


def said(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def versions():
    """What stands beside us."""
    uv = re.search(r"[\d.]+", said([str(PEERS / "uv"), "--version"]) if (PEERS / "uv").exists() else "")
    virtualenv = re.search(
        r"[\d.]+", said([str(PEERS / "virtualenv"), "--version"]) if (PEERS / "virtualenv").exists() else ""
    )
    return (
        f"venvd {(REPOSITORY / 'VERSION').read_text().strip()}, virtualenv {virtualenv[0] if virtualenv else 'not there'}, "
        f"uv {uv[0] if uv else 'not there'}, {', '.join(pythons())}"
    )


class Contest:
    """Who makes an environment, taking turns; each run makes a new directory, which is removed off the clock."""

    def __init__(self, daemon, root, python, with_pip):
        self.daemon, self.root, self.python, self.with_pip = daemon, root, python, with_pip
        self.number = 0
        self.ready = 1000000  # in the pool before each round, at worst
        self.directory = root.parent / "peers"
        self.directory.mkdir(exist_ok=True)
        flags = [] if with_pip else ["--without-pip"]
        self.commands = {
            "venvd": lambda name: [VENVCTL, "-q", "create", name, "-p", python, *flags],
            "venv": lambda name: [python, "-m", "venv", *flags, name],
        }
        if (PEERS / "virtualenv").exists():
            unseeded = [] if with_pip else ["--no-seed"]
            self.commands["virtualenv"] = lambda name: [str(PEERS / "virtualenv"), "-q", "-p", python, *unseeded, name]
        if (PEERS / "uv").exists():
            seed = ["--seed"] if with_pip else []
            self.commands["uv"] = lambda name: [str(PEERS / "uv"), "-q", "venv", *seed, "-p", python, name]

    def once(self, who):
        self.number += 1
        name = f"{who}{self.number}"
        target = name if who == "venvd" else str(self.directory / name)
        took = run_seconds(self.commands[who](target))
        if who != "venvd":
            shutil.rmtree(target)
        return took

    def run(self, rounds, turns):
        """who -> seconds; `turns` says how often each comes in a round. The first round does not count."""
        seconds = {who: [] for who in self.commands if turns.get(who)}
        for number in range(rounds + 1):
            # As a person would find it: what was taken has been filled up.
            self.ready = min(self.ready, wait_for_pool(self.daemon, turns["venvd"], 60) if number > 0 else self.ready)
            for who, list_of_it in seconds.items():
                os.sync()  # nobody waits for what another one has written
                for _ in range(turns[who]):
                    took = self.once(who)
                    if number > 0:
                        list_of_it.append(took)
        return seconds

    def check(self):
        """The last one of ours is one."""
        name = next(p for p in sorted(self.root.glob("venvd*")))
        if (name / "bin" / "pip").exists() != self.with_pip or not (name / "bin" / "python").exists():
            raise Failure(f"'{name}' is not what was asked for")


def compete(root, title, python, with_pip, rounds, turns, goals):
    with Daemon(root, "-o", "pool-initial=16") as daemon:
        contest = Contest(daemon, root, python, with_pip)
        seconds = contest.run(rounds, turns)
        contest.check()
    ours = seconds.pop("venvd")
    # A busy machine does not fill it: then this is no measurement of a claim.
    short_of = f", {contest.ready} ready" if contest.ready < turns["venvd"] else ""
    flag = "" if with_pip else " --without-pip"
    names = {
        "venv": f"python -m venv{flag}",
        "virtualenv": "virtualenv" + ("" if with_pip else " --no-seed"),
        "uv": "uv venv" + (" --seed" if with_pip else ""),
    }
    for who, theirs in seconds.items():
        ratio = statistics.median(theirs) / statistics.median(ours)
        goal = goals.get(who)
        row(
            f"`venvctl create{flag}`, {title}{short_of}",
            spread(ours) + " ms",
            f"`{names[who]}` {spread(theirs, digits=1)} ms",
            f"{ratio:,.{0 if ratio >= 10 else 1}f}x faster",
            *((f"at least {goal:,}x", ratio >= goal) if goal else ()),
        )


def measure_creation(root, short):
    for number, (title, (python, goal)) in enumerate(pythons().items()):
        if short:
            if python == PYTHON:
                compete(root, title, python, False, 2, {"venvd": 2, "venv": 1}, {})
            continue
        for with_pip in (True, False):
            part = root.parent / f"{number}{with_pip}" / "root"
            part.mkdir(parents=True)
            os.environ.update(VENVD_ROOT=str(part), HOME=str(root.parent))
            turns = {"venvd": 8, "venv": 1, "virtualenv": 2, "uv": 4}
            goals = {"venv": goal, "virtualenv": 150, "uv": 40} if with_pip else {"uv": 4}
            compete(part, title, python, with_pip, 9 if with_pip else 15, turns, goals)
            shutil.rmtree(part.parent, ignore_errors=True)


def measure_first(root, short):
    """The first environment of an interpreter that the daemon has never seen: it makes the image on the way."""
    if short:
        return
    for number, (title, (python, _)) in enumerate(pythons().items()):
        ours, theirs = [], []
        for turn in range(3):
            part = root.parent / f"{number}.{turn}" / "root"
            part.mkdir(parents=True)
            os.environ.update(VENVD_ROOT=str(part))
            # The default interpreter's is begun when the daemon starts; here it is asked for in that moment.
            with Daemon(part):
                ours.append(run_seconds([VENVCTL, "-q", "create", "first", "-p", python]))
                theirs.append(run_seconds([python, "-m", "venv", str(root.parent / "venv")]))
            shutil.rmtree(root.parent / "venv")
            shutil.rmtree(part.parent, ignore_errors=True)
        ratio = statistics.median(ours) / statistics.median(theirs)
        row(
            f"the first one, {title}",
            spread(ours, digits=0) + " ms",
            f"`python -m venv` {spread(theirs, digits=0)} ms",
            f"{ratio:.2f}x",
            "at most 1.1x",
            ratio <= 1.1,
        )


def settle(daemon, seconds=20):
    """Until the daemon has nothing to do."""
    end = time.monotonic() + seconds
    with Client(daemon.socket) as client:
        while time.monotonic() < end:
            status = client.call("Status")
            if status["jobsRunning"] == 0 and status["jobsQueued"] == 0:
                return
            time.sleep(0.05)
