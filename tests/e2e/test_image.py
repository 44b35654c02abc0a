# SPDX-License-Identifier: MIT
# ruff: noqa: F401, F811 -- fixtures come from worker.py
"""venvd-worker alone: images. What is made of each Python, what is proven before it is used, and what becomes
of a Python whose venv module does something else."""

import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import time

import pytest

from helpers import eventually, processes_with, rebuilt_python, wait_gone
from worker import CALLER, PYTHON, PYTHONS, Worker, order, root


def image_order(python=PYTHON, without_pip=True, caller=CALLER):
    return {"python": str(python), "withoutPip": without_pip, "probeMs": 10000, "caller": caller, "linkMode": "auto"}


def image(root, *args, **kwargs):
    answer, frames = order(root, "image", **image_order(*args, **kwargs))
    assert frames == []
    assert os.listdir(root / ".venvd/stage") == []
    return answer


def made(root, *args, **kwargs):
    answer = image(root, *args, **kwargs)
    assert "error" not in answer and "delegate" not in answer, answer
    return answer["image"]


def place(root, key):
    return root / ".venvd/images" / key


def rows(directory):
    """path -> the manifest's row"""
    return {row[1]: row for row in json.loads((directory / "manifest.json").read_text())["entries"]}


def detours(root):
    """Links in /tmp that lead into this root."""
    return [p for p in pathlib.Path("/tmp").glob("venvd-*/*")
            if p.is_symlink() and os.readlink(p).startswith(str(root))]


# --- what an image is ---

def check_image(directory, with_pip):
    """The manifest is what the tree holds, and the tree is what environments share."""
    manifest, tree = rows(directory), directory / "tree"
    there = {str(p.relative_to(tree)): p.lstat() for p in tree.rglob("*")}
    assert sorted(manifest) == sorted(there)
    seen = set()
    for path, (kind, _, mode, floor, exact, size, seconds, nanoseconds, ino, _) in manifest.items():
        st = there[path]
        assert os.path.dirname(path) in seen | {""}
        seen.add(path)
        assert ino == st.st_ino, path
        if kind:
            assert (size, seconds * 10**9 + nanoseconds) == (st.st_size, st.st_mtime_ns), path
        if stat.S_ISDIR(st.st_mode):
            assert (kind, mode, floor, exact) == (0, 0o777, 0, False), path
        elif stat.S_ISREG(st.st_mode):
            assert stat.S_IMODE(st.st_mode) == 0o444 and kind in (1, 2), path
            never = size == 0 or path.endswith((".pth", "/RECORD")) or not path.startswith("lib/")
            assert kind == (2 if never else 1), path
            assert mode == 0o644 if exact else mode == 0o666, path
        else:
            assert (kind, path) == (3, "lib64")
    for name in ("pyvenv.cfg", "bin/python", "bin/activate", "bin/pip", ".gitignore"):
        assert name not in manifest
    assert any(path.endswith("pip/__init__.py") for path in manifest) == with_pip
    model = json.loads((directory / "model.json").read_text())
    assert bool(model["model"]["scripts"]) == bool(model["model"]["records"]) == with_pip
    assert "delegate" not in model and model["bytes"] > 0


@pytest.mark.parametrize("python", PYTHONS)
def test_without_pip(root, python):
    key = made(root, python)
    assert re.fullmatch(r"cpython-3\.[0-9.]+-nopip-[0-9a-f]{16}", key)
    check_image(place(root, key), False)
    assert (root / ".venvd/images/CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d17278")
    assert sorted(os.listdir(root / ".venvd/images")) == sorted(["CACHEDIR.TAG", key])


@pytest.mark.parametrize("python", [PYTHON])
def test_with_pip(root, python):
    key = made(root, python, without_pip=False)
    check_image(place(root, key), True)
    before = place(root, key).stat().st_ino
    assert made(root, python, without_pip=False) == key and place(root, key).stat().st_ino == before


@pytest.mark.everywhere
@pytest.mark.parametrize("python", PYTHONS)
def test_with_pip_everywhere(root, python):
    check_image(place(root, made(root, python, without_pip=False)), True)


def test_one_image_for_all_spellings(root, tmp_path):
    (tmp_path / "my python").symlink_to(PYTHON)
    assert made(root) == made(root, os.path.realpath(PYTHON)) == made(root, tmp_path / "my python")
    assert len(os.listdir(root / ".venvd/images")) == 2


@pytest.mark.parametrize("name", ["a b", "it's \"q\" $x`y`", "é\u20ac", "a:b", os.fsdecode(b"no\xff8"), "x" * 90, "-p"])
def test_any_root(tmp_path, name):
    root = tmp_path / name
    for part in ("", ".venvd", ".venvd/stage", ".venvd/trash"):
        (root / part).mkdir()
    check_image(place(root, made(root)), False)
    assert detours(root) == []


def test_old_detours_are_swept(tmp_path):
    root = tmp_path / "a b"
    for part in ("", ".venvd", ".venvd/stage", ".venvd/trash"):
        (root / part).mkdir()
    shared = pathlib.Path(f"/tmp/venvd-{os.geteuid()}")
    shared.mkdir(mode=0o700, exist_ok=True)
    for name, age in (("old", 10000), ("new", 0)):
        link = shared / f"{tmp_path.name}-{name}"
        link.symlink_to(root / name)
        then = time.time() - age
        os.utime(link, (then, then), follow_symlinks=False)
    kept = [link]
    for pid, lives in ((os.getpid(), True), (1 << 22, False)):      # no process can have the second
        link = shared / f"w{pid}~{tmp_path.name}"
        link.symlink_to(root / "new")
        os.utime(link, (then - 10000, then - 10000), follow_symlinks=False)
        kept += [link] * lives
    made(root)
    assert sorted(detours(root)) == sorted(kept)
    for link in kept:
        link.unlink()


@pytest.mark.slow
def test_any_root_with_pip(tmp_path):
    """The scripts have their short form, and nothing knows of the detour."""
    root = tmp_path / "a b:c"
    for part in ("", ".venvd", ".venvd/stage", ".venvd/trash"):
        (root / part).mkdir()
    check_image(place(root, made(root, without_pip=False)), True)


def test_the_caller_changes_nothing(root):
    """Neither umask nor variables: what is made is for everybody."""
    variables = {"PIP_TARGET": "/nonexistent", "PYTHONOPTIMIZE": "2", "SOURCE_DATE_EPOCH": "1"}
    key = made(root, caller=CALLER | {"umask": 0o777, "cwd": "/nonexistent", "environment": variables})
    check_image(place(root, key), False)


# --- an installation of our own, to be changed ---

@pytest.fixture
def installation(tmp_path):
    """A Python whose standard library is a directory of links, but for what makes environments."""
    ask = "import json, os, sys; print(json.dumps([os.path.realpath(sys.executable), os.path.dirname(os.__file__)]))"
    real, stdlib = json.loads(subprocess.check_output([PYTHON, "-I", "-c", ask]))
    top = tmp_path / "installation"
    lib = top / "lib" / os.path.basename(stdlib)
    (top / "bin").mkdir(parents=True)
    lib.mkdir(parents=True)
    for name in os.listdir(stdlib):
        if name in ("venv", "ensurepip"):
            shutil.copytree(os.path.join(stdlib, name), lib / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif name != "site-packages":
            (lib / name).symlink_to(os.path.join(stdlib, name))
    python = top / "bin" / os.path.basename(real)
    shutil.copy2(real, python)
    said = subprocess.check_output([python, "-I", "-S", "-c", "import os; print(os.__file__)"], text=True)
    if not said.startswith(str(lib)):
        pytest.skip("this Python finds its library by its compiled-in path")
    return python, lib


def change(path, old, new):
    """A second later, by its own time: bytecode goes by those."""
    text, before = path.read_text(), path.stat().st_mtime_ns
    assert old in text
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_installation_of_our_own(root, installation):
    check_image(place(root, made(root, installation[0])), False)


ODD = {
    "a byte of pyvenv.cfg": ("'home = %s\\n'", "'home =  %s\\n'", r"'pyvenv\.cfg' is not as predicted from byte \d+ on"),
    "a key more": ("f.write('home = %s\\n' %", "f.write('vendor = us\\n'); f.write('home = %s\\n' %",
                   r"'pyvenv\.cfg' is not as predicted from byte 0 on"),
    "a name in bin": ("('python', 'python3',", "('python', 'python4',", r"'bin/python3' is not there"),
    "another prompt": ("self.prompt is not None else", "not None is self.prompt and 0 else",
                       r"'bin/activate[.a-z]*' is not as predicted"),
    "the path in a file": ("    def post_setup(self, context):", "    def post_setup(self, context):\n"
                           "        open(context.bin_path + '/own', 'w').write(context.env_dir)\n        return\n"
                           "    def _post_setup(self, context):", r"'bin/own' holds the environment's path"),
    "an odd mode": ("    def post_setup(self, context):", "    def post_setup(self, context):\n"
                    "        os.chmod(context.cfg_path, 0o640)\n        return\n"
                    "    def _post_setup(self, context):", r"'pyvenv\.cfg' has mode 0640, not 0600"),
    "an odd mode of its own": ("    def post_setup(self, context):", "    def post_setup(self, context):\n"
                               "        p = context.bin_path + '/own'\n        open(p, 'w').write('x')\n"
                               "        os.chmod(p, 0o4750)\n        return\n"
                               "    def _post_setup(self, context):", r"'bin/own' has an odd name or mode"),
    "a pipe": ("    def post_setup(self, context):", "    def post_setup(self, context):\n"
               "        os.mkfifo(context.bin_path + '/own')\n        return\n"
               "    def _post_setup(self, context):", r"'bin/own' is nothing that can be copied"),
    "nothing at all": ("        builder.create(d)", "        pass", r"its venv module made nothing"),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_not_predicted_is_delegated(root, installation, what):
    python, lib = installation
    old, new, reason = ODD[what]
    change(lib / "venv/__init__.py", old, new)
    answer = image(root, python)
    assert re.match(reason, answer["delegate"]), answer
    directory = place(root, answer["image"])
    assert json.loads((directory / "model.json").read_text())["delegate"] == answer["delegate"]
    assert not (directory / "tree").exists() and not (directory / "manifest.json").exists()
    before = directory.stat().st_ino
    assert answer.pop("fresh") and image(root, python) == answer and directory.stat().st_ino == before


def test_a_detour_that_is_taken_away(tmp_path, installation):
    """Nothing is said of the interpreter then, and nothing remembered."""
    python, lib = installation
    root = tmp_path / "a b"
    for part in ("", ".venvd", ".venvd/stage", ".venvd/trash"):
        (root / part).mkdir()
    change(lib / "venv/__init__.py", "        builder.create(d)", "        os.unlink(os.path.dirname(d)); builder.create(d)")
    answer = image(root, python)
    detour = re.match("'(/tmp/venvd-.*)' was taken away", answer["parameters"]["reason"])[1]
    assert not os.path.lexists(detour)
    assert [p.name for p in (root / ".venvd/images").iterdir()] == ["CACHEDIR.TAG"]
    change(lib / "venv/__init__.py", "        os.unlink(os.path.dirname(d)); builder.create(d)", "        builder.create(d)")
    check_image(place(root, made(root, python)), False)


def test_odd_templates_are_delegated(root, installation):
    python, lib = installation
    (lib / "venv/scripts/common/activate.new").write_bytes(b"__VENV_DIR__ \xff")
    assert image(root, python)["delegate"] == "the template 'activate.new' is no UTF-8 text"


def test_more_templates_are_predicted(root, installation):
    python, lib = installation
    (lib / "venv/scripts/common/sub").mkdir()
    (lib / "venv/scripts/common/sub/x.sh").write_text("__VENV_DIR__ __VENV_PROMPT__ __VENV_PYTHON__")
    (lib / "venv/scripts/posix/plain").write_text("the same for all")
    (lib / "venv/scripts/posix/plain").chmod(0o751)
    (lib / "venv/scripts/nt").mkdir(exist_ok=True)
    (lib / "venv/scripts/nt/not.bat").write_text("__VENV_DIR__")
    manifest = rows(place(root, made(root, python)))
    assert "bin/sub" in manifest and "bin/sub/x.sh" not in manifest and "bin/not.bat" not in manifest
    assert manifest["bin/plain"][2:5] == [0o751, 0, True]


def test_a_venv_module_that_fails(root, installation):
    python, lib = installation
    change(lib / "venv/__init__.py", "        builder.create(d)", "        sys.exit('out of order')")
    answer = image(root, python)
    assert answer["error"] == "io.venvd.InterpreterFailed" and "out of order" in answer["parameters"]["output"]
    assert os.listdir(root / ".venvd/images") == ["CACHEDIR.TAG"]


def test_an_installation_that_changes_meanwhile(root, installation):
    python, lib = installation
    change(lib / "venv/__init__.py", "        builder.create(d)", "        builder.create(d); open(__file__, 'a').write('#')")
    answer = image(root, python)
    assert answer["error"] == "io.venvd.Failed" and "changed while" in answer["parameters"]["reason"]


# --- keys ---

def test_what_makes_another_image(root, installation):
    python, lib = installation
    seen = [made(root, python)]

    def changed():
        seen.append(made(root, python))
        return seen[-1] not in seen[:-1]

    assert not changed()
    os.utime(lib / "venv/scripts/common/activate")
    assert changed()
    (lib / "venv/scripts/common/new").write_text("x")
    assert changed()
    os.utime(lib / "venv/__init__.py")
    assert changed()
    os.utime(python)
    assert changed()
    (lib / "README").write_text("x")
    (lib / "site-packages").mkdir()
    os.utime(lib / "ensurepip/__init__.py")
    assert not changed()        # without pip it is all the same


def test_other_wheels_make_another_image(root, installation):
    """They are used, too: a wheel of our own, in the place of the real ones."""
    python, lib = installation
    bundled = lib / "ensurepip/_bundled"
    bundled.mkdir(exist_ok=True)
    (lib / "ensurepip/__init__.py").write_text(
        "import os, pathlib, sys\n"
        "wheels = sorted(os.listdir(os.path.dirname(__file__) + '/_bundled'))\n"
        "def _main():\n"
        "    site = next(pathlib.Path(sys.prefix).glob('lib/*/site-packages'))\n"
        "    (site / 'x-1.dist-info').mkdir()\n"
        "    (site / 'x.py').write_text(repr(wheels))\n"
        "    (site / 'x-1.dist-info/RECORD').write_text('x.py,,\\nx-1.dist-info/RECORD,,\\n')\n")
    (lib / "ensurepip/__main__.py").write_text("import ensurepip; ensurepip._main()\n")
    (bundled / "x-1.whl").write_text("")
    first = made(root, python, without_pip=False)
    (bundled / "x-2.whl").write_text("")
    second = made(root, python, without_pip=False)
    assert first != second
    found = next(place(root, second).glob("tree/lib/*/site-packages/x.py"))
    assert found.read_text() == "['x-1.whl', 'x-2.whl']"
    # Another size: within one second Python itself takes its bytecode for right.
    change(lib / "ensurepip/__init__.py", "'x.py,,", "'yy.py,,")
    answer = image(root, python, without_pip=False)
    assert answer["delegate"].endswith("RECORD' names 'yy.py', which is not there")
    change(lib / "ensurepip/__init__.py", "'yy.py,,\\n", "'")
    assert image(root, python, without_pip=False)["delegate"].endswith("x.py' is in no RECORD")


# --- tampering ---

TAMPERING = {
    "mode": lambda p: p.chmod(0o644),
    "link": lambda p: [p.parents[1].joinpath("lib64").unlink(), p.parents[1].joinpath("lib64").symlink_to("bin")],
    "kind": lambda p: [p.unlink(), p.mkdir()],
    "size": lambda p: [p.chmod(0o600), p.write_text("x")],
    "twin": lambda p: [shutil.copy2(p, str(p) + "~"), os.rename(str(p) + "~", p)],
    "model": lambda p: p.parents[2].joinpath("model.json").write_text("{}"),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_found(root, how):
    key = made(root)
    directory = place(root, key)
    victim = next(p for p in sorted((directory / "tree/bin").iterdir()))
    TAMPERING[how](victim)
    worker = Worker(root)
    answer, _ = worker.ask("fill", image=key, bucket=key + "~022", umask=0o22, copies=None, count=1, linkMode="auto",
                           verify=False)
    status, words = worker.close()
    assert answer["damaged"] and status == 0, answer
    assert f"image '{key}' is damaged" in words
    assert not directory.exists()
    shutil.rmtree(root / ".venvd/stage")
    (root / ".venvd/stage").mkdir()
    check_image(place(root, made(root)), False)


@pytest.mark.parametrize("words", ["", "{", "{}", "[]", '{"form": 1}'])
def test_a_model_that_cannot_be_read(root, words):
    """Nothing is filled from it, so that it is noticed here."""
    key = made(root)
    (place(root, key) / "model.json").write_text(words)
    worker = Worker(root)
    answer, _ = worker.ask("image", **image_order())
    status, said = worker.close()
    assert answer["image"] == key and status == 0 and f"image '{key}' is damaged" in said
    check_image(place(root, key), False)


# --- ends ---

def test_a_daemon_that_goes_away(root, installation):
    """In the middle: nothing stays but the empty directory of images."""
    python, lib = installation
    change(lib / "venv/__init__.py", "        builder.create(d)",
           f"        builder.create(d)\n        for i in range(2000): open(os.path.join(d, f'f{{i}}'), 'w').close()\n"
           f"        open({str(root / 'begun')!r}, 'w').close(); sys.stdin = open({str(root / 'fifo')!r})")
    os.mkfifo(root / "fifo")
    os.mkfifo(root / "begun")
    worker = Worker(root)
    worker.send("image", **image_order(python))
    (root / "begun").read_text()
    assert worker.close() == (0, "")
    assert os.listdir(root / ".venvd/stage") == []
    assert os.listdir(root / ".venvd/images") == ["CACHEDIR.TAG"]
    assert not processes_with(str(python))


def test_one_is_made_once(root):
    """A second order for a key that is being made waits, and takes what it finds then."""
    import fcntl
    key = made(root)
    aside = root / "aside"
    place(root, key).rename(aside)
    held = root / f".venvd/stage/{key}.lock"
    worker = Worker(root)
    with open(held, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        worker.send("image", **image_order())
        eventually(lambda: any("->" in line and f" {worker.process.pid} " in line
                               for line in pathlib.Path("/proc/locks").read_text().splitlines()))
        aside.rename(place(root, key))
        before = place(root, key).stat().st_ino
    answer, _ = worker.until_done()
    assert worker.close() == (0, "")
    assert answer["image"] == key and place(root, key).stat().st_ino == before
    assert os.listdir(root / ".venvd/stage") == []
    assert sorted(os.listdir(root / ".venvd/images")) == sorted(["CACHEDIR.TAG", key])


# --- what the first caller brings along ---

def with_variable(python, top, text):
    """An installation whose venv module first does `text`, which may look at SSL_CERT_FILE."""
    exe = rebuilt_python(python, top)
    venv = next(exe.parents[1].glob("lib/python3*")) / "venv"
    real = os.path.realpath(venv)
    venv.unlink()
    shutil.copytree(real, venv)
    main = venv / "__main__.py"
    main.write_text(f"import os, sys\nvariable = os.environ.get('SSL_CERT_FILE')\n{text}\n" + main.read_text())
    return exe


CALLER_WITH = CALLER | {"environment": {"SSL_CERT_FILE": "/x"}}


def test_an_image_has_nothing_of_its_first_caller(root, tmp_path):
    """One whose variables disturb its venv module does not make it unfit for everybody."""
    python = with_variable(PYTHONS[-1], tmp_path / "python",
                           "if variable: open(os.path.join(sys.argv[-1] + '.odd'), 'w').close(); sys.exit(1)")
    made(root, python, caller=CALLER_WITH)


def test_an_interpreter_that_needs_a_variable(root, tmp_path):
    python = with_variable(PYTHONS[-1], tmp_path / "python", "if not variable: sys.exit('no variable')")
    answer = image(root, python)
    assert answer["error"] == "io.venvd.InterpreterFailed" and "no variable" in answer["parameters"]["output"]
    made(root, python, caller=CALLER_WITH)
