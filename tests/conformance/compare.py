# SPDX-License-Identifier: MIT
"""Two environments, entry by entry: names as bytes, types, link targets, modes, content.

A is what an interpreter's own `python -m venv` made, B what venvd made at the same path. Only these
differences are allowed, and each is counted under its name, so that none grows unseen:

  times      the time of a .py in the header of its .pyc; it must be that .py's own
  pyc paths  the path that a .pyc says it was compiled from, in place of the environment's own
  marshal    a .pyc that holds the same code in other bytes: CPython up to 3.10 and PyPy do that by themselves
  linked     a hard-linked file is 0444 or 0555
"""

import base64
import csv
import hashlib
import os
import re
import stat
import subprocess
import zlib
from collections import Counter

# In the interpreter itself: which of these pairs of .pyc hold different code.
SAME_CODE = r"""
import marshal, sys
header, anywhere = int(sys.argv[1]), sys.argv[2] == "anywhere"
def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, type(same.__code__)):
        for name in dir(a):
            if name.startswith("co_") and name != "co_filename" and not callable(getattr(a, name)):
                if not same(getattr(a, name), getattr(b, name)):
                    return False
        tails = [anywhere and "x" or f.split("/site-packages/")[-1] for f in (a.co_filename, b.co_filename)]
        return tails[0] == tails[1]
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, frozenset):
        return len(a) == len(b) and sorted(map(repr, a)) == sorted(map(repr, b))
    return repr(a) == repr(b)
names = sys.stdin.buffer.read().split(b"\0")
for at in range(0, len(names) - 1, 2):
    code = []
    for name in names[at:at + 2]:
        with open(name, "rb") as file:
            code.append(marshal.loads(file.read()[header:]))
    sys.stdout.write("0" if same(*code) else "1")
"""


class Interpreter:
    """What the comparison must know of the Python that made both."""

    def __init__(self, path, version, implementation):
        self.path = path
        self.version = version
        self.header = 12 if version < (3, 7) else 16
        # Its own two runs differ in the order of frozensets, and PyPy's in flags.
        self.reorders = version < (3, 11) or implementation != "cpython"
        # pip 18 compiled in a temporary directory, of which each .pyc tells.
        self.compiled_elsewhere = version < (3, 7)


def walk(top):
    """relative name -> stat of everything below top, and of top itself as b"."; links are not followed."""
    found = {b".": os.lstat(top)}
    stack = [b""]
    while stack:
        directory = stack.pop()
        with os.scandir(os.path.join(top, directory)) as entries:
            for entry in entries:
                name = os.path.join(directory, entry.name)
                found[name] = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    stack.append(name)
    return found


def read(top, name):
    with open(os.path.join(top, name), "rb") as file:
        return file.read()


def source_of(pyc):
    """The .py whose bytecode this is, by name."""
    directory, name = os.path.split(pyc)
    if os.path.basename(directory) != b"__pycache__":
        return None
    return os.path.join(os.path.dirname(directory), name.split(b".")[0] + b".py")


def marshalled(data, at):
    """The string object of a marshal stream that begins at `at`: (text, where it ends), or None."""
    kind = data[at] & 0x7F
    if kind in b"zZ":
        begin, size = at + 2, data[at + 1]
    elif kind in b"aAut":
        begin, size = at + 5, int.from_bytes(data[at + 1 : at + 5], "little")
    else:
        return None
    return (data[begin : begin + size], begin + size) if begin + size <= len(data) else None


def same_but_for_its_path(a, b, path, tail):
    """The path that b's stream has where a has `path` + `tail`, if that is all that differs; else None."""
    at = a.find(path + tail)
    for before in (2, 5):
        mine = marshalled(a, at - before) if at >= before else None
        if mine and mine[0] == path + tail and b[: at - before] == a[: at - before]:
            theirs = marshalled(b, at - before)
            if theirs and theirs[0].endswith(tail) and b[theirs[1] :] == a[mine[1] :]:
                return theirs[0][: -len(tail)]
    return None


def hexdump(data, at):
    piece = data[max(0, at - 8) : at + 24]
    return f"{piece.hex(' ', 1)}  {piece!r}"


def first_difference(a, b):
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"{len(a)} and {len(b)} bytes, from offset {at}:\n      A {hexdump(a, at)}\n      B {hexdump(b, at)}"


class Comparison:
    """compare() fills it: `differences` is a list of sentences, `allowed` a Counter."""

    def __init__(self, interpreter, path, a, b):
        self.interpreter, self.path = interpreter, os.fsencode(path)
        self.a, self.b = os.fsencode(a), os.fsencode(b)
        self.in_a, self.in_b = walk(self.a), walk(self.b)
        self.differences, self.allowed = [], Counter()
        self.other_code = []

    def differ(self, name, what):
        self.differences.append(f"{os.fsdecode(name)}: {what}")

    def run(self):
        for name in sorted({*self.in_a, *self.in_b}):
            if name not in self.in_b:
                self.differ(name, "is in A alone")
            elif name not in self.in_a:
                self.differ(name, "is in B alone")
            else:
                self.entry(name)
        self.ask_for_code()
        self.records()
        return self

    def entry(self, name):
        a, b = self.in_a[name], self.in_b[name]
        if stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode):
            self.differ(name, f"is {stat.filemode(a.st_mode)} and {stat.filemode(b.st_mode)}")
            return
        if stat.S_ISLNK(a.st_mode):
            targets = [os.readlink(os.path.join(top, name)) for top in (self.a, self.b)]
            if targets[0] != targets[1]:
                self.differ(name, f"leads to {targets[0]!r} and {targets[1]!r}")
            return
        self.mode(name, a, b)
        if stat.S_ISREG(a.st_mode):
            self.content(name)

    def mode(self, name, a, b):
        modes = [stat.S_IMODE(s.st_mode) for s in (a, b)]
        linked = stat.S_ISREG(b.st_mode) and b.st_nlink > 1
        if linked and (b.st_size == 0 or name.endswith((b".pth", b"/RECORD"))):
            self.differ(name, "is linked, and must not be")
        if linked and modes[1] == (0o555 if modes[0] & 0o111 else 0o444):
            self.allowed["linked"] += 1
        elif linked or modes[0] != modes[1]:
            self.differ(name, f"has mode {modes[0]:04o} and {modes[1]:04o}{', linked' if linked else ''}")

    def content(self, name):
        a, b = read(self.a, name), read(self.b, name)
        if not name.endswith(b".pyc"):
            if a != b:
                self.differ(name, first_difference(a, b))
            return
        a, b = self.header(name, a, self.a, self.in_a), self.header(name, b, self.b, self.in_b)
        if a == b:
            return
        source = source_of(name)
        elsewhere = source and same_but_for_its_path(a, b, self.path, b"/" + source)
        if elsewhere:
            self.allowed["pyc paths"] += 1
        elif self.interpreter.reorders:
            self.other_code.append((name, a, b))
        else:
            self.differ(name, first_difference(a, b))

    def header(self, name, data, top, entries):
        """The .pyc without the time in its header, which must be that of its .py; B is held to that."""
        at = self.interpreter.header - 8
        source = source_of(name)
        if (self.interpreter.header == 16 and data[4:8] != b"\0\0\0\0") or source not in entries:
            return data
        st = entries[source]
        says = (int.from_bytes(data[at : at + 4], "little"), int.from_bytes(data[at + 4 : at + 8], "little"))
        if says != (int(st.st_mtime) & 0xFFFFFFFF, st.st_size & 0xFFFFFFFF) and top == self.b:
            self.differ(name, f"is for a .py of time and size {says}, which has {int(st.st_mtime)}, {st.st_size}")
        if top == self.a:
            self.allowed["times"] += 1
        return data[:at] + b"\0\0\0\0" + data[at + 4 :]

    def ask_for_code(self):
        """Asks the interpreter whether the bytes that differ are the same code."""
        if not self.other_code:
            return
        names = b"".join(os.path.join(top, name) + b"\0" for name, _, _ in self.other_code for top in (self.a, self.b))
        where = "anywhere" if self.interpreter.compiled_elsewhere else "here"
        done = subprocess.run(
            [self.interpreter.path, "-I", "-S", "-B", "-c", SAME_CODE, str(self.interpreter.header), where],
            input=names, capture_output=True, check=False)  # fmt: skip
        said = done.stdout.decode()
        for at, (name, a, b) in enumerate(self.other_code):
            if said[at : at + 1] == "0":
                self.allowed["marshal"] += 1
            else:
                self.differ(name, first_difference(a, b) + done.stderr.decode()[-300:])

    def records(self):
        """Each RECORD of B tells the truth about its files."""
        for name in self.in_b:
            if not name.endswith(b".dist-info/RECORD"):
                continue
            base = os.path.dirname(os.path.dirname(name))
            for file, digest, size in csv.reader(read(self.b, name).decode().splitlines()):
                target = os.path.normpath(os.path.join(base, os.fsencode(file)))
                if target.startswith(b"../"):  # its bytecode lies elsewhere
                    continue
                if target not in self.in_b:
                    self.differ(name, f"names '{file}', which is not there")
                elif digest:
                    data = read(self.b, target)
                    kind, _, wanted = digest.partition("=")
                    real = base64.urlsafe_b64encode(hashlib.new(kind, data).digest()).rstrip(b"=").decode()
                    if (wanted, int(size)) != (real, len(data)):
                        self.differ(name, f"is wrong about '{file}'")


def compare(interpreter, path, a, b):
    return Comparison(interpreter, path, a, b).run()


def fingerprint(top):
    """A number that changes when a name, type, mode, link or byte below top does; times do not count."""
    top = os.fsencode(top)
    total = 0
    for name, st in sorted(walk(top).items()):
        extra = os.readlink(os.path.join(top, name)) if stat.S_ISLNK(st.st_mode) else b""
        if stat.S_ISREG(st.st_mode):
            extra = read(top, name)
        total = zlib.crc32(extra, zlib.crc32(b"%s %o" % (name, st.st_mode), total))
    return total


def error_sentence(text):
    """What `python -m venv` says after "Error: ", or None."""
    found = re.search(r"^Error: (.+)", text, re.M)
    return found[1].strip() if found else None
