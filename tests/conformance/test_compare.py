# SPDX-License-Identifier: MIT
"""The comparison itself: it sees each kind of difference, and lets pass what may differ."""

import base64
import hashlib
import importlib.util
import marshal
import os
import shutil
import sys

import pytest

import compare

INTERPRETER = compare.Interpreter(sys.executable, (3, 11, 2), "cpython")
OLD = compare.Interpreter(sys.executable, (3, 10, 0), "cpython")
SITE = "lib/python3.11/site-packages"
SOURCE = "WORDS = 'a text'\ndef f(x):\n    return x in {1, 2, 3}\n"
PATH = "/where/it/will/be"


def write_pyc(top, path=PATH, source=SOURCE, mtime=None, change=lambda data: data):
    py = top / SITE / "m.py"
    mtime = int(py.stat().st_mtime) if mtime is None else mtime
    code = marshal.dumps(compile(source, f"{path}/{SITE}/m.py", "exec"))
    header = importlib.util.MAGIC_NUMBER + b"\0\0\0\0" + mtime.to_bytes(4, "little") + len(SOURCE).to_bytes(4, "little")
    (top / SITE / "__pycache__" / "m.cpython-311.pyc").write_bytes(change(header + code))


def make(top):
    (top / SITE / "__pycache__").mkdir(parents=True)
    (top / SITE / "p-1.dist-info").mkdir()
    (top / SITE / "m.py").write_text(SOURCE)
    write_pyc(top)
    digest = base64.urlsafe_b64encode(hashlib.sha256(SOURCE.encode()).digest()).rstrip(b"=").decode()
    (top / SITE / "p-1.dist-info/RECORD").write_text(f"m.py,sha256={digest},{len(SOURCE)}\np-1.dist-info/RECORD,,\n")
    (top / SITE / "p-1.dist-info/REQUESTED").write_text("")
    (top / "bin").mkdir()
    (top / "bin/pip").write_text("#!/x\n")
    (top / "bin/pip").chmod(0o755)
    (top / "lib64").symlink_to("lib")
    (top / "pyvenv.cfg").write_text("home = /usr/bin\n")
    return top


@pytest.fixture
def pair(tmp_path):
    return make(tmp_path / "a"), make(tmp_path / "b")


def differences(pair, interpreter=INTERPRETER):
    return compare.compare(interpreter, PATH, *pair).differences


def relink(path, target):
    path.unlink()
    path.symlink_to(target)


def link_from(path, top, mode):
    """As an entry of the pool is made: one more name of the image's file."""
    image = top.parent / "image"
    os.rename(path, image)
    image.chmod(mode)
    os.link(image, path)


DIFFERENT = {
    "a name is missing": lambda b: (b / "pyvenv.cfg").unlink(),
    "a name too many": lambda b: (b / "more").write_text(""),
    "a name that is no text": lambda b: open(os.fsencode(b) + b"/\xff", "wb").close(),
    "a byte": lambda b: (b / "pyvenv.cfg").write_text("home = /usr/bim\n"),
    "a length": lambda b: (b / "pyvenv.cfg").write_text("home = /usr/bin\n\n"),
    "a mode": lambda b: (b / "bin/pip").chmod(0o775),
    "a directory's mode": lambda b: (b / "bin").chmod(0o700),
    "its own mode": lambda b: b.chmod(0o700),
    "a link's target": lambda b: relink(b / "lib64", "lib/"),
    "a type": lambda b: ((b / "lib64").unlink(), shutil.copytree(b / "lib", b / "lib64")),
    "an empty file is linked": lambda b: link_from(b / SITE / "p-1.dist-info/REQUESTED", b, 0o444),
    "RECORD is linked": lambda b: link_from(b / SITE / "p-1.dist-info/RECORD", b, 0o444),
    "linked, and writable": lambda b: link_from(b / "pyvenv.cfg", b, 0o644),
    "read-only, and not linked": lambda b: (b / "pyvenv.cfg").chmod(0o444),
    "RECORD is wrong in both": lambda b: [(t / SITE / "m.py").write_text("other\n") for t in (b.parent / "a", b)],
    "a .pyc for another time": lambda b: write_pyc(b, mtime=12345),
    "a .pyc of other code": lambda b: write_pyc(b, source=SOURCE.replace("a text", "b text")),
    "a .pyc of another file": lambda b: write_pyc(b, change=lambda data: data.replace(b"/m.py", b"/n.py")),
    "a .pyc with other flags": lambda b: write_pyc(b, change=lambda data: data[:4] + b"\1" + data[5:]),
    "a .pyc that ends early": lambda b: write_pyc(b, change=lambda data: data[:-1]),
    "other code from elsewhere": lambda b: write_pyc(b, "/q", SOURCE.replace("2", "4")),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_is_seen(pair, what):
    assert differences(pair) == []
    DIFFERENT[what](pair[1])
    assert differences(pair) != []


@pytest.mark.parametrize("path", ["/q", "/" + "x" * 300, "/\u65e5\u672c", PATH + "/longer"])
def test_a_pyc_may_name_another_path(pair, path):
    write_pyc(pair[1], path)
    compared = compare.compare(INTERPRETER, PATH, *pair)
    assert compared.differences == [] and compared.allowed["pyc paths"] == 1


def test_linked_payload_is_read_only(pair):
    link_from(pair[1] / "bin/pip", pair[1], 0o555)
    compared = compare.compare(INTERPRETER, PATH, *pair)
    assert compared.differences == [] and compared.allowed["linked"] == 1


@pytest.mark.parametrize(("source", "same"), [(SOURCE.replace("{1, 2, 3}", "{3, 2, 1}"), True),
                                              (SOURCE.replace("{1, 2, 3}", "{1, 2}"), False),
                                              (SOURCE.replace("a text", "b text"), False)])  # fmt: skip
def test_old_pythons_may_reorder(pair, source, same):
    """Their own two runs do; the interpreter says whether the code is the same."""
    write_pyc(pair[1], "/q", source, change=lambda data: data)
    compared = compare.compare(OLD, PATH, *pair)
    assert (compared.differences == []) == same


def test_fingerprints_see_what_is_changed(pair):
    assert compare.fingerprint(pair[0]) == compare.fingerprint(pair[1])
    for number, change in enumerate(("a byte", "a mode", "a link's target", "a name too many")):
        other = make(pair[0].parent / f"c{number}")
        DIFFERENT[change](other)
        assert compare.fingerprint(other) != compare.fingerprint(pair[0]), change


def test_sentences():
    assert compare.error_sentence("x\nError: no such thing.\n") == "no such thing."
    assert compare.error_sentence("usage: venv\n") is None
