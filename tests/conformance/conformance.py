# SPDX-License-Identifier: MIT
"""Is what venvd makes what `python -m venv` makes? For every interpreter on this machine, over every axis.

For each case the interpreter's own `python -m venv ARGS P` makes A, which is moved aside; then `venvctl create`,
through a real daemon, makes B at the same path P, with the same umask, working directory and variables; then the two
are compared entry by entry (compare.py says what may differ). A table at the end counts. Whatever the daemon did not
make from an image but had the interpreter make is counted apart, so that nothing hides behind it. Exits 1 if anything
differs, with the first bytes that do.
"""

import argparse
import concurrent.futures
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import afterwards
import compare
from cases import ROOTS, SPELLINGS, cases

TOP = Path(__file__).resolve().parents[2]
BUILD = (TOP / os.environ.get("VENVD_BUILD", "build")).resolve()
OUTCOMES = ("equal", "differing", "refused", "skipped")
IN_PLACE = re.compile(r"python -m venv|virtualenv")
PROBE = "import sys, json, platform; print(json.dumps([sys.version_info[:3], sys.implementation.name, sys.version]))"


class Failure(Exception):
    """The daemon or a tool of ours does not do its part."""


# --- interpreters ---


def candidates():
    """Where Pythons lie, and those that this project speaks of, to be counted when they are absent."""
    home = Path(os.environ.get("HOME", "/"))
    pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv"))
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", home / ".local/share/uv/python"))
    found = [
        Path("/usr/bin/python3"),
        *Path("/usr/bin").glob("python3.*"),
        *Path("/usr/local/bin").glob("python3.*"),
        *pyenv.glob("versions/*/bin/python3.*"),
        *pyenv.glob("versions/*/bin/python2.*"),
        *pyenv.glob("versions/pypy*/bin/pypy3"),
        *uv.glob("*/bin/python3.*"),
        Path("/usr/bin/pypy3"),
        Path("/opt/conda/bin/python3"),
        home / "miniconda3/bin/python3",
    ]
    return [p for p in found if re.fullmatch(r"(python|pypy)[\d.]*t?", p.name) and os.access(p, os.X_OK)]


def probe(path):
    """(version, implementation) or why not."""
    done = subprocess.run([str(path), "-I", "-S", "-c", PROBE], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        return "has no venv module" if "Unknown option: -I" in done.stderr else "does not run"
    version, implementation, _ = json.loads(done.stdout)
    return tuple(version), implementation


def interpreters(wanted):
    """[(title, path, version, implementation)], {title: why it is left out}"""
    seen, found, left_out = set(), [], {}
    for path in [Path(w) for w in wanted if w.startswith("/")] or candidates():
        real = path.resolve()
        if real in seen:
            continue
        seen.add(real)
        said = probe(path)
        source = "pyenv" if "/versions/" in str(path) else "uv" if "/uv/" in str(path) else str(path.parent)
        if isinstance(said, str):
            left_out[f"{path.parent.parent.name if source == 'pyenv' else path}"] = said
            continue
        title = f"{'' if said[1] == 'cpython' else said[1] + ' '}{'.'.join(map(str, said[0]))} {source}"
        words = (str(path), title, ".".join(map(str, said[0])), ".".join(map(str, said[0][:2])))
        if not wanted or any(w in words for w in wanted):
            found.append((title, path, *said))
    minors = {(i[2][:2], i[3]) for i in found}
    for minor in [] if wanted else range(6, 15):
        if ((3, minor), "cpython") not in minors:
            left_out[f"CPython 3.{minor}"] = "is not on this machine"
    if not wanted and not any(i[3] == "pypy" for i in found):
        left_out["PyPy"] = "is not on this machine"
    return found, left_out


# --- the daemon ---


class Daemon:
    """A venvd on a root; its log is shown if it complains."""

    def __init__(self, root, env, *options):
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.env = root, env
        self.log = tempfile.NamedTemporaryFile(prefix="conformance-log-", delete=False)
        ready, say_ready = os.pipe()
        self.process = subprocess.Popen(
            [str(BUILD / "venvd"), "--root", str(root), "--ready-fd", str(say_ready), *options],
            pass_fds=[say_ready],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env={**env, "VENVD_CONFIG": "/dev/null"},
        )
        os.close(say_ready)
        with open(ready, "rb") as pipe:
            said = pipe.read().decode()
        if not said.startswith("ready"):
            raise Failure(f"venvd does not start on '{root}': {said}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        text = Path(self.log.name).read_text(errors="replace")
        os.unlink(self.log.name)
        return [line for line in text.splitlines() if "rror" in line or "quarantin" in line or "damaged" in line]

    def call(self, method, **parameters):
        """The answer's parameters, or None when there is no such answer."""
        directory = os.open(self.root / ".venvd", os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(120)
                s.connect(f"/proc/self/fd/{directory}/io.venvd")
                s.sendall(json.dumps({"method": "io.venvd." + method, "parameters": parameters}).encode() + b"\0")
                data = b""
                while not data.endswith(b"\0"):
                    more = s.recv(65536)
                    if not more:
                        return None
                    data += more
        finally:
            os.close(directory)
        answer = json.loads(data[:-1])
        return None if "error" in answer else answer.get("parameters", {})

    def venvctl(self, *arguments, env=None, cwd="/", umask=0o022):
        """(exit status, everything on stderr), which is a terminal, for only there the stages are told."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 4000, 0, 0))
        process = subprocess.Popen(
            [str(BUILD / "venvctl"), "--root", str(self.root), "--no-input", *arguments], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=slave, cwd=cwd, umask=umask,
            env={**(env or self.env), "VENVD_AUTOSTART": "0", "VENVD_CONFIG": "/dev/null", "TERM": "dumb"})  # fmt: skip
        os.close(slave)
        said = b""
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:
                data = b""
            if not data:
                break
            said += data
        os.close(master)
        return process.wait(), said.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")


# --- one interpreter ---


class Spot:
    """Where both sides of a case make theirs: in the root, or elsewhere in a directory of the case's own. A is moved
    aside before B is made at the same path."""

    def __init__(self, case, name, scratch, root, home):
        self.name, self.elsewhere = name, bool(case.place)
        self.place = scratch / f"place-{name}" if case.place else root
        self.target = case.place(self.place) if case.place else str(root / name)
        self.path = os.path.abspath(os.path.join(self.place, self.target))
        self.aside = scratch / f"a-{name}"
        # The name of the working directory is what '--prompt .' means.
        self.cwd = self.place if case.place else home

    def move_aside(self):
        what = self.place if self.elsewhere else self.path
        if os.path.lexists(what):
            os.rename(what, self.aside)

    def trees(self, made):
        """A and B. Of a refusal elsewhere all that lies around; of one in the root nothing must be left."""
        if self.elsewhere and not made:
            return self.aside, self.place
        if self.elsewhere:
            return self.aside / os.path.relpath(self.path, self.place), self.path
        if made or os.path.lexists(self.path):
            return self.aside, self.path
        return None

    def clean(self):
        shutil.rmtree(self.aside, ignore_errors=True)
        if self.elsewhere:
            shutil.rmtree(self.place, ignore_errors=True)


class Run:
    """All cases of one interpreter, and what came of them."""

    def __init__(self, title, path, version, implementation, scratch, short=False, first=True):
        self.title, self.path, self.short, self.first = title, path, short, first
        self.interpreter = compare.Interpreter(str(path), version, implementation)
        self.scratch = Path(tempfile.mkdtemp(prefix="", dir=scratch))
        self.home = self.scratch / "h"
        self.home.mkdir()
        self.env = afterwards.base_environment(self.home)
        self.counts = defaultdict(Counter)  # axis -> outcome -> cases
        self.allowed = Counter()
        self.report, self.reasons, self.in_place = [], Counter(), []
        self.delegated, self.images, self.number = None, set(), 0
        self.daemon, self.daemon_root, self.kept = None, None, None

    # - both sides -

    def spelled(self, case):
        """(how A is called, what -p is given, the environment), or None where this spelling does not exist."""
        spelling = SPELLINGS[case.spelling](self.path, self.scratch, self.env)
        if spelling is None:
            return None
        exe, env = spelling
        # Below the scratch directory: as root, an absolute path that is made up is really made.
        own = {"WHEELS": self.wheels, "CACHE": lambda: str(self.scratch / "pycache")}
        extra = {k: own[v]() if v in own else v for k, v in case.env.items()}
        return exe or "python3", ["-p", exe] if exe else [], {**env, **extra}

    def wheels(self):
        return afterwards.pip_wheels(afterwards.Subject(self.scratch, str(self.path), self.env, self.scratch))

    @staticmethod
    def make_a(case, exe, env, spot):
        # Found on the case's own PATH, as the shell would.
        program = exe if "/" in exe else shutil.which(exe, path=env["PATH"])
        done = subprocess.run(
            [program, "-m", "venv", *case.args, spot.target],
            cwd=spot.cwd,
            env=env,
            umask=case.umask,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        return done.returncode, done.stderr + done.stdout

    def make_b(self, case, spot, python, env):
        where = ["--path", spot.target] if case.place else []
        words = ["create", spot.name, *python, *where, *case.args]
        return self.daemon.venvctl(*words, env=env, cwd=spot.cwd, umask=case.umask)

    def serve(self, case, name):
        """The daemon of the case's root; that of the last root ends."""
        if case.root == self.daemon_root:
            return
        self.close()
        exe_name = os.path.basename(self.path)
        root = ROOTS[case.root](self.scratch, exe_name, name)
        # Roots of a few cases take no pool: what is made there is cloned directly. Nor does the short form's second
        # interpreter: with a pool its daemon would begin the image of the default one.
        pooled = case.root == "root" and (self.first or not self.short)
        options = [] if pooled else ["-o", "pool-entries=0"]
        self.daemon, self.daemon_root = Daemon(root, self.env, *options), case.root

    def close(self):
        if self.daemon is None:
            return
        self.ask()
        complaints = self.daemon.stop()
        if complaints:
            self.report.append("  the daemon's log says:\n    " + "\n    ".join(complaints[:5]))
        shutil.rmtree(self.daemon.root, ignore_errors=True)
        self.daemon = self.daemon_root = None

    def ask(self):
        """Whether this interpreter is delegated to, and what it was made from."""
        said = self.daemon.call("FindInterpreter", python=[str(self.path)]) or {}
        if said.get("interpreter", {}).get("state") == "delegate":
            self.delegated = said["interpreter"].get("problem") or "its venv is not predictable"
        for image in (self.daemon.call("Status") or {}).get("images") or []:
            if image.get("delegate"):
                self.delegated = image["delegate"]
            self.images.add(image["key"])

    # - one case -

    def case(self, case):
        self.number += 1
        if self.interpreter.version < case.since:
            return self.skip(case, "it has no such option")
        spelled = self.spelled(case)
        if spelled is None:
            return self.skip(case, "no such spelling here")
        # Long names make a long path longer: the same number of bytes each time.
        name = f"env{self.number:03d}"
        self.serve(case, name)
        spot = Spot(case, name, self.scratch, self.daemon.root, self.home)
        exe, python, env = spelled
        self.prepare(case, spot)
        status, said = self.make_a(case, exe, env, spot)
        knows = afterwards.who(f"{spot.path}/bin/python", env) if status == 0 else None
        spot.move_aside()
        self.side_b(case, spot, (status, said, knows), python, env)
        spot.clean()

    def prepare(self, case, spot):
        if case.place:
            spot.place.mkdir()
        if case.prepare:
            case.prepare(spot.place, self.path, self.env)

    def side_b(self, case, spot, a, python, env):
        times = min(case.times, 2) if self.short else case.times
        for turn in range(times):
            if case.place:
                self.prepare(case, spot)
            status, said = self.make_b(case, spot, python, env)
            option = re.search(r"unknown option '[^']*'", said)
            if status == 2 and option:
                return self.skip(case, "venvctl has " + option[0].replace("unknown", "no"))
            if case.refused:
                return self.refused_by_us(case, status, said, spot)
            if status == 0 and IN_PLACE.search(said):
                self.in_place.append(case)
            self.outcome(case, turn, *self.judge(spot, a, status, said, env))
            if turn + 1 < times:
                self.daemon.venvctl("delete", "--now", "-y", spot.name)

    def judge(self, spot, a, status, said, env):
        """(what is wrong, what was allowed)"""
        status_a, said_a, knows_a = a
        if status_a != 0 or status != 0:
            wrong = self.refused(status_a, said_a, status, said)
        elif not os.path.lexists(spot.path):
            wrong = ["is said to be created, and is not there"]
        else:
            knows_b = afterwards.who(f"{spot.path}/bin/python", env)
            wrong = [] if knows_a == knows_b else [f"its Python knows A {knows_a}, B {knows_b}"]
        pair = spot.trees(status_a == 0)
        if wrong or pair is None:
            return wrong, Counter()
        compared = compare.compare(self.interpreter, spot.path, *pair)
        return compared.differences, compared.allowed

    def refused_by_us(self, case, status, said, spot):
        if status == 1 and case.refused in said and not os.path.lexists(spot.path):
            self.counts[case.axis]["refused"] += 1
            self.reasons[f"refused by venvd alone: {case}"] += 1
        else:
            self.outcome(case, 0, [f"should be refused; exit {status}: {said.strip()}"], Counter())

    def refused(self, status_a, said_a, status, said):
        sentence = compare.error_sentence(said_a)
        if status_a == 0:
            return [f"venvctl create exits {status}: {said.strip()[-400:]}"]
        if status == 0:
            return [f"is made, but the interpreter refuses: {said_a.strip()[-300:]}"]
        # What no code of venv foresaw comes with the kernel's words; then the path must be named all the same.
        errno = re.fullmatch(r"\[Errno \d+\] [^:]+: '(.*)'", sentence or "")
        if errno and errno[1] in said and sentence not in said:
            self.reasons[f"refused in other words than '{sentence.split(':')[0]}'"] += 1
        elif sentence and sentence not in said:
            return [f"the refusal is not the interpreter's:\n      A {sentence}\n      B {said.strip()}"]
        return []

    def outcome(self, case, turn, wrong, allowed):
        self.counts[case.axis]["differing" if wrong else "equal"] += 1
        self.allowed.update(allowed)
        if wrong:
            again = f" (made {turn + 1} times)" if turn else ""
            more = [f"... and {len(wrong) - 4} more"] if len(wrong) > 4 else []
            self.report.append(
                "\n    ".join([f"  {self.title}, {case}{again}: {len(wrong)} differences", *wrong[:4], *more])
            )

    def skip(self, case, reason):
        self.counts[case.axis]["skipped"] += 1
        self.reasons[reason] += 1

    # - afterwards -

    def afterwards(self):
        """One environment with pip is used; another of the same image must not feel it."""
        self.serve(cases()[0], "used")
        for name in ("used", "quiet"):
            status, said = self.daemon.venvctl("create", name, "-p", str(self.path), env=self.env)
            if status != 0:
                self.counts["afterwards"]["differing"] += 1
                self.report.append(f"  {self.title}, afterwards: venvctl create exits {status}: {said.strip()[-300:]}")
                return
        quiet = self.daemon.root / "quiet"
        before = compare.fingerprint(quiet)
        subject = afterwards.Subject(self.daemon.root / "used", str(self.path), self.env, self.scratch)
        for label, check in afterwards.CHECKS.items():
            wrong = []
            try:
                remark = check(subject)
                if remark:
                    self.reasons[f"afterwards: {remark}"] += 1
            except afterwards.Wrong as e:
                wrong = [f"    {e}"]
            if not wrong and compare.fingerprint(quiet) != before:
                wrong = [f"    '{label}' in one environment has changed another"]
            self.counts["afterwards"]["differing" if wrong else "equal"] += 1
            if wrong:
                self.report.append("\n".join([f"  {self.title}, afterwards, {label}:", *wrong]))


def run_one(interpreter, scratch, axes, short, first, with_afterwards):
    run = Run(*interpreter, scratch, short, first)
    try:
        for case in cases():
            if (not short or case.short) and (not axes or case.axis in axes):
                run.case(case)
        if with_afterwards:
            run.afterwards()
        run.close()
    except Exception as e:  # of this interpreter alone: the others go on
        run.counts["broken off"]["differing"] += 1
        run.report.append(f"  {run.title}: broken off: {type(e).__name__}: {e}")
        if run.daemon:
            run.daemon.stop()
        if os.environ.get("CONFORMANCE_DEBUG"):
            raise
    shutil.rmtree(run.scratch, ignore_errors=True)
    return run


# --- the table ---


def in_place_by_design(case):
    """What a claim cannot make: the interpreter's own tool works on what is there, or writes other bytecode."""
    return bool(case.place) or case.axis in ("variables", "refusals") or "--upgrade-deps" in case.args


def table(runs, left_out, seconds):
    print(
        f"\n{'interpreter':<24} {'axis':<12} {'cases':>6} {'equal':>6} {'differing':>10} {'refused':>8} {'skipped':>8} {'delegated':>10} {'in place':>9}"
    )
    total = Counter()
    for run in runs:
        for axis, counts in run.counts.items():
            cases_of_it = sum(counts[o] for o in OUTCOMES)
            made = counts["equal"] + counts["differing"]
            delegated = made if run.delegated else 0
            in_place = sum(case.axis == axis for case in run.in_place)
            print(
                f"{run.title:<24} {axis:<12} {cases_of_it:>6} {counts['equal']:>6} {counts['differing']:>10} "
                f"{counts['refused']:>8} {counts['skipped']:>8} {delegated:>10} {in_place:>9}"
            )
            total.update(counts, delegated=delegated, in_place=in_place)
    print(
        f"{'all':<37} {sum(total[o] for o in OUTCOMES):>6} {total['equal']:>6} {total['differing']:>10} "
        f"{total['refused']:>8} {total['skipped']:>8} {total['delegated']:>10} {total['in_place']:>9}"
    )
    print()
    for run in runs:
        unforeseen = Counter(str(case) for case in run.in_place if not in_place_by_design(case))
        if run.delegated:
            print(f"delegated: {run.title}: {run.delegated}")
        elif unforeseen:
            names = ", ".join(list(unforeseen)[:3])
            print(
                f"{run.title}: {sum(unforeseen.values())} made in place that an image should have made: {names}"
                f"{' ...' if len(unforeseen) > 3 else ''}"
            )
    allowed = Counter()
    for run in runs:
        allowed.update(run.allowed)
    words = ", ".join(f"{what} {count:,}" for what, count in sorted(allowed.items()))
    print(f"differences that are allowed, in files: {words or 'none'}")
    skipped = Counter()
    for run in runs:
        skipped.update(run.reasons)
    for reason, count in sorted(skipped.items()):
        print(f"{reason}: {count}")
    for what, why in sorted(left_out.items()):
        print(f"left out: {what} {why}")
    print(f"{len(runs)} interpreters, {len(left_out)} left out, {seconds:.0f} s")
    return total


def choose(found, short):
    """For the short form: the system's, and one that somebody built, the newest of them that is stable here."""
    if not short or len(found) < 2:
        return found
    system = [i for i in found if str(i[1]).startswith("/usr/bin/")][:1]
    others = sorted((i for i in found if i not in system), key=lambda i: (i[2][:2] == (3, 12), i[2]))
    return [*system, *others[-1:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", default=[], help="only this one: a path, 3.12, 3.12.1, a title")
    parser.add_argument("--axis", action="append", default=[], help="only this axis, or 'afterwards'")
    parser.add_argument("--short", action="store_true", help="two interpreters, some cases of each axis")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="interpreters at a time")
    options = parser.parse_args()
    began = time.monotonic()
    found, left_out = interpreters(options.python)
    chosen = choose(found, options.short)
    if not chosen:
        print("no interpreter answers to this", file=sys.stderr)
        return 2
    scratch = tempfile.mkdtemp(prefix="vc-")
    said = threading.Lock()
    runs = []

    def one(number_and_interpreter):
        number, interpreter = number_and_interpreter
        wanted = not options.axis or "afterwards" in options.axis
        first = number == 0
        run = run_one(interpreter, scratch, options.axis, options.short, first, wanted and (first or not options.short))
        with said:
            equal, wrong = (sum(c[o] for c in run.counts.values()) for o in ("equal", "differing"))
            print(f"{run.title}: {equal} equal, {wrong} differing", flush=True)
            for text in run.report:
                print(text, flush=True)
        return run

    try:
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            runs = list(pool.map(one, enumerate(chosen)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    total = table(runs, left_out, time.monotonic() - began)
    return 1 if total["differing"] else 0


sys.exit(main())
