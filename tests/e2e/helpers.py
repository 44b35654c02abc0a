# SPDX-License-Identifier: MIT
"""What several end-to-end tests look with: trees, processes, mounts, terminals, rebuilt Pythons.

Nothing here knows venvd. Waiting is always for a descriptor or a process, with a deadline.
"""
import contextlib
import fcntl
import hashlib
import os
import pathlib
import pty
import select
import shutil
import stat
import subprocess
import termios
import time

import pytest

DEADLINE = 60

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# --- trees ---------------------------------------------------------------------------------------

def tree(top, mtimes=False, without=()):
    """relative name -> (kind, mode, link target or digest[, mtime]) of everything below top, and of top."""
    found = {}
    stack = [pathlib.Path(top)]
    while stack:
        path = stack.pop()
        st = path.lstat()
        if stat.S_ISLNK(st.st_mode):
            value = ("link", 0, os.readlink(path))
        elif stat.S_ISDIR(st.st_mode):
            value = ("dir", stat.S_IMODE(st.st_mode), "")
            stack += [child for child in path.iterdir() if child.name not in without]
        else:
            value = ("file", stat.S_IMODE(st.st_mode), hashlib.sha256(path.read_bytes()).hexdigest())
        if mtimes:
            value += (st.st_mtime_ns,)
        found[os.path.relpath(path, top)] = value
    return found


def differences(one, other):
    """What a failing comparison shows: a few lines, not two whole trees."""
    return [f"{name}: {one.get(name)} / {other.get(name)}"
            for name in sorted({*one, *other}) if one.get(name) != other.get(name)][:20]


# --- processes -----------------------------------------------------------------------------------

def wait_gone(pid, deadline=DEADLINE):
    """Waits until the process has ended (as a zombie, too)."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([fd], [], [], deadline)
        assert ready, f"process {pid} is still there"
    finally:
        os.close(fd)


def processes_with(text):
    """pid -> command line, of every live process that has text in its arguments."""
    found = {}
    for directory in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if os.fsencode(text) in words and int(directory.name) != os.getpid():
            found[int(directory.name)] = words.decode(errors="replace")
    return found


def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def held(pid):
    """Whether strace keeps this process at a call."""
    stat = pathlib.Path(f"/proc/{pid}/stat")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return {stat.read_text().rsplit(") ", 1)[1][0] for _ in range(20) if not time.sleep(0.01)} == {"t"}
    return False


class Signpost:
    """A fifo on which a child under test says where it is. Opened here before anybody writes."""

    def __init__(self, path):
        self.path = path
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def line(self, deadline=DEADLINE):
        end = time.monotonic() + deadline
        text = b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            assert ready, f"nobody came to {self.path}"
            text += os.read(self.fd, 4096)
        return text.decode().strip()

    def close(self):
        os.close(self.fd)


def eventually(condition, deadline=DEADLINE):
    """For what the daemon does after its answer: asks it again, as fast as it answers."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, "it has not come to pass"


# --- Pythons -------------------------------------------------------------------------------------

def rebuilt_python(python, top, ensurepip=None):
    """A real installation in a directory of its own, made of links to that of `python`; its ensurepip is missing,
    or is a package whose __main__ is this text."""
    real = pathlib.Path(os.path.realpath(python))
    prefix = real.parent.parent
    minor = real.name.removeprefix("python").rstrip("m")
    stdlib = prefix / "lib" / f"python{minor}"
    ours = pathlib.Path(top) / "lib" / stdlib.name
    ours.mkdir(parents=True)
    for entry in stdlib.iterdir():
        if entry.name not in ("ensurepip", "site-packages"):
            (ours / entry.name).symlink_to(entry)
    (ours / "site-packages").mkdir()
    if ensurepip is not None:
        (ours / "ensurepip").mkdir()
        (ours / "ensurepip" / "__init__.py").write_text("")
        (ours / "ensurepip" / "__main__.py").write_text(ensurepip)
    exe = pathlib.Path(top) / "bin" / f"python{minor}"
    exe.parent.mkdir()
    shutil.copy2(real, exe)
    return exe


# --- mounts --------------------------------------------------------------------------------------

def _mounts():
    """mount's number -> where it is"""
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[0]: line.split()[4].encode().decode("unicode_escape") for line in lines}


@contextlib.contextmanager
def mounted(target, *arguments):
    """mount ARGUMENTS TARGET for as long as the block lasts; skips the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    before = _mounts()
    done = subprocess.run(["mount", *arguments, str(target)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    ours = max(_mounts().items() - before.items(), key=lambda m: m[1] == str(target))[0]
    try:
        yield pathlib.Path(target)
    finally:    # wherever it is by now: who renames a directory takes the mounts below it along
        subprocess.run(["umount", "-l", _mounts()[ours]], check=True)


def without_venv_package(python, tmp, how="absent"):
    """What runs a command in a mount namespace where Debian's package python3-venv was never installed; or, how
    "empty", where only its directory is left, which the interpreter itself notices late."""
    stdlib = subprocess.run([python, "-c", "import ensurepip, os; print(os.path.dirname(ensurepip.__file__))"],
                            capture_output=True, text=True).stdout.strip()
    if not stdlib.startswith("/usr/lib/python3") or not os.path.exists("/etc/debian_version"):
        pytest.skip("not Debian's Python with its venv package")
    for name in ("upper", "work", "empty"):
        (tmp / name).mkdir()
    if how == "absent":
        os.mknod(tmp / "upper" / "ensurepip", stat.S_IFCHR, 0)
        top = os.path.dirname(stdlib)
        mount = ["mount", "-t", "overlay", "-o", f"lowerdir={top},upperdir={tmp}/upper,workdir={tmp}/work",
                 "none", top]
    else:
        mount = ["mount", "--bind", str(tmp / "empty"), stdlib]
    wrapper = ["unshare", "-m", "sh", "-c", f"{' '.join(mount)} && exec \"$@\"", "sh"]
    if subprocess.run([*wrapper, "true"], capture_output=True).returncode != 0:
        pytest.skip("cannot mount here")
    return wrapper


# --- terminals -----------------------------------------------------------------------------------

class Terminal:
    """A command on a pseudo-terminal of its own: what it shows, what is typed, how it ends."""

    def __init__(self, argv, env, cwd=None, stdout=None):
        self.master, slave = pty.openpty()
        self.shown = b""
        self.process = subprocess.Popen(
            argv, env=env, cwd=cwd, stdin=slave, stdout=slave if stdout is None else stdout, stderr=slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)

    def _more(self, end):
        ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
        assert ready, f"the terminal shows only {self.shown!r}"
        try:
            data = os.read(self.master, 65536)
        except OSError:         # EIO: nobody has the other side any more
            data = b""
        self.shown += data
        return data

    def until(self, text, deadline=DEADLINE):
        end = time.monotonic() + deadline
        while text.encode() not in self.shown:
            assert self._more(end), f"it ended, having shown only {self.shown!r}"

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self, deadline=DEADLINE):
        """Its exit status, once it has ended and everything was read."""
        end = time.monotonic() + deadline
        while self._more(end):
            pass
        os.close(self.master)
        return self.process.wait(deadline)

    @property
    def text(self):
        return self.shown.decode(errors="replace").replace("\r\n", "\n")
