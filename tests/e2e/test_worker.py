# SPDX-License-Identifier: MIT
"""venvd-worker alone: every order of proto/orders.h over a socketpair, its errors, its repetition after
a crash, and the promises about trees, mounts, children and descriptors."""

import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]
WORKER = pathlib.Path(os.environ.get("VENVD_BUILD", REPO / "build")) / "venvd-worker"
SANITIZED = b"__asan_init" in WORKER.read_bytes() if WORKER.exists() else False
pytestmark = pytest.mark.skipif(not WORKER.exists(), reason="venvd-worker is not built")


def _pythons():
    """One real interpreter for each version that this machine has, python 3 only."""
    found = {}
    versions = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv")) / "versions"
    candidates = [pathlib.Path("/usr/bin/python3"), *sorted(versions.glob("3.*/bin/python3.[0-9]*"))]
    for path in candidates:
        if path.name.endswith("-config") or path.name.count(".") > 1 or not os.access(path, os.X_OK):
            continue
        if path.suffix.endswith(("m", "config", "gdb.py")) or not path.name[-1].isdigit():
            continue
        found.setdefault(path.resolve(), path)
    return [str(path) for path in found.values()]


PYTHONS = _pythons()
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else (PYTHONS or [sys.executable])[0]
CALLER = {"cwd": "/", "path": "/usr/bin:/bin", "umask": 0o022, "environment": {}}


class Worker:
    def __init__(self, root, mode="order", env=None):
        self.ours, theirs = socket.socketpair()
        root_fd = os.open(root, os.O_RDONLY)
        state_fd = os.open(root / ".venvd", os.O_RDONLY)
        lock_fd = os.open(root / ".venvd" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        # Above the targets, so that no dup2 overwrites a source.
        sources = [os.dup(fd) for fd in (theirs.fileno(), root_fd, state_fd, lock_fd)]
        sources = [_above(fd, 20) for fd in sources]

        def place():
            for target, source in enumerate(sources, 3):
                os.dup2(source, target, inheritable=True)

        self.process = subprocess.Popen(
            [WORKER, mode], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, preexec_fn=place, pass_fds=(3, 4, 5, 6, *sources), env=env)
        for fd in (root_fd, state_fd, lock_fd, *sources):
            os.close(fd)
        theirs.close()
        self.ours.settimeout(120)
        self.buffer = b""
        self.next_id = 0

    def send(self, op, **fields):
        self.next_id += 1
        self.send_raw({"id": self.next_id, "op": op, **fields})
        return self.next_id

    def send_raw(self, message):
        self.ours.sendall(json.dumps(message).encode() + b"\0")

    def receive(self):
        while b"\0" not in self.buffer:
            data = self.ours.recv(1 << 16)
            if not data:
                return None
            self.buffer += data
        frame, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(frame)

    def until_done(self):
        frames = []
        while True:
            message = self.receive()
            assert message is not None, self.process.stderr.read()
            if message.get("done"):
                return message, frames
            frames.append(message)

    def ask(self, op, **fields):
        self.send(op, **fields)
        return self.until_done()

    def close(self):
        self.ours.close()
        status = self.process.wait(30)
        errors = self.process.stderr.read().decode()
        self.process.stderr.close()
        return status, errors


def _above(fd, least):
    import fcntl
    new = fcntl.fcntl(fd, fcntl.F_DUPFD, least)
    os.close(fd)
    return new


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "root"
    for name in ("", ".venvd", ".venvd/stage", ".venvd/trash"):
        (path / name).mkdir()
    yield path
    subprocess.run(["chmod", "-R", "u+rwX", path], check=False)


@pytest.fixture
def workers(root):
    started = []

    def start(mode="order", **kwargs):
        started.append(Worker(root, mode, **kwargs))
        return started[-1]

    yield start
    for worker in started:
        status, errors = worker.close()
        assert status == 0 and errors == ""


def order(root, op, **fields):
    """One order in a worker of its own: answer and frames."""
    worker = Worker(root)
    answer, frames = worker.ask(op, **fields)
    assert worker.close() == (0, "")
    return answer, frames


_libc = ctypes.CDLL(None, use_errno=True)


class _Statx(ctypes.Structure):
    _fields_ = [("head", ctypes.c_ubyte * 80), ("sec", ctypes.c_int64), ("nsec", ctypes.c_uint32),
                ("rest", ctypes.c_ubyte * 164)]


def identity(path):
    """As the worker tells it: inode and birth time in ns."""
    buffer = _Statx()
    assert _libc.statx(-100, os.fsencode(path), 0x100, 0xfff, ctypes.byref(buffer)) == 0
    return {"ino": os.lstat(path).st_ino, "btime": buffer.sec * 10**9 + buffer.nsec}


def fake_env(path, cfg="home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n"):
    (path / "bin").mkdir(parents=True)
    (path / "pyvenv.cfg").write_text(cfg)
    (path / "bin/python").symlink_to("python3")
    (path / "bin/python3").symlink_to("/usr/bin/python3")
    return path


def create_order(root, name="e", **fields):
    return {"name": name, "entry": name + "~1", "root": str(root), "python": PYTHON,
            "withoutPip": True, "systemSitePackages": False, "prompt": None, "probeMs": 10000,
            "caller": CALLER} | fields


def create(root, go=True, **fields):
    worker = Worker(root)
    worker.send("create", **create_order(root, **fields))
    frames = []
    while True:
        message = worker.receive()
        frames.append(message)
        if message is None or message.get("done"):
            break
        if message.get("frame") == "reserved" and go:
            worker.send_raw({"id": 1, "go": True})
    assert worker.close() == (0, "")
    return frames[-1], frames[:-1]


def refused(root, error, **fields):
    answer, _ = create(root, **fields)
    assert answer.get("error") == "io.venvd." + error, answer
    assert sorted(os.listdir(root)) == [".venvd"]
    assert os.listdir(root / ".venvd/stage") == []
    return answer["parameters"]


# --- starting ---

def test_not_for_people():
    for arguments in ([], ["x"], ["order"], ["resident"]):
        run = subprocess.run([WORKER, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                             timeout=10, check=False)
        assert run.returncode in (1, 2)
        assert b"started by venvd" in run.stderr


def test_eof_ends_it(root, workers):
    workers("resident")
    workers("order")


@pytest.mark.parametrize("text", [b"x\0", b"[]\0", b'{"id":1}\0', b'{"id":1,"op":"nonsense"}\0'])
def test_nonsense_ends_it(root, text):
    worker = Worker(root)
    worker.ours.sendall(text)
    assert worker.receive() is None
    status, errors = worker.close()
    assert status == 1 and errors.startswith("venvd-worker: ")


# --- the resident ---

def test_trash_and_restore(root, workers):
    env = fake_env(root / "a")
    me, inode = identity(env), env.stat().st_ino
    resident = workers("resident")
    trash = {"name": "a", "entry": "a~1~2", "record": {"name": "a", "id": "x" * 16}, **me}
    for _ in range(2):
        answer, _ = resident.ask("trash", **trash)
        assert answer == {"id": answer["id"], "done": True}
        assert not env.exists()
        entry = root / ".venvd/trash/a~1~2"
        assert json.loads((entry / "record.json").read_text()) == trash["record"]
        assert (entry / "tree").stat().st_ino == inode
    restore = {"name": "a", "entry": "a~1~2", **me}
    for _ in range(2):
        answer, _ = resident.ask("restore", **restore)
        assert answer == {"id": answer["id"], "done": True}
        assert env.stat().st_ino == inode
        assert os.listdir(root / ".venvd/trash") == []


def test_trash_of_another_or_nothing(root, workers):
    env = fake_env(root / "a")
    resident = workers("resident")
    me = identity(env)
    for name, who in (("a", me | {"ino": me["ino"] + 1}), ("a", me | {"btime": 1}), ("b", me)):
        answer, _ = resident.ask("trash", name=name, entry="e~1", record={}, **who)
        assert answer["error"] == "io.venvd.NoSuchEnvironment"
        assert answer["parameters"] == {"name": name}
    assert os.listdir(root / ".venvd/trash") == []
    answer, _ = resident.ask("trash", name="a", entry="e~1", record={}, ino=me["ino"], btime=0)
    assert "error" not in answer


def test_restore_refusals(root, workers):
    env = fake_env(root / "a")
    me = identity(env)
    resident = workers("resident")
    answer, _ = resident.ask("restore", name="b", entry="b~1", **me)
    assert (answer["error"], answer["parameters"]) == ("io.venvd.NotInTrash", {"name": "b"})
    resident.ask("trash", name="a", entry="a~1", record={}, **me)
    for occupy in (lambda: env.mkdir(), lambda: env.write_text("")):
        occupy()
        answer, _ = resident.ask("restore", name="a", entry="a~1", **me)
        assert (answer["error"], answer["parameters"]) == ("io.venvd.AlreadyExists", {"name": "a"})
        assert (root / ".venvd/trash/a~1/tree/pyvenv.cfg").exists()
        env.rmdir() if env.is_dir() else env.unlink()


def test_discard(root, workers):
    resident = workers("resident")
    (root / "r").mkdir()
    me = identity(root / "r")
    for _ in range(2):
        answer, _ = resident.ask("discard", name="r", entry="r~1", **me)
        assert "error" not in answer
        assert os.listdir(root / ".venvd/stage") == ["r~1"]
    (root / "r").mkdir()
    resident.ask("discard", name="r", entry="r~1", **me)
    assert (root / "r").is_dir()


def test_names_stay_in_the_root(root, workers):
    resident = workers("resident")
    for name in ("..", "a/b", "", "."):
        for op in ("trash", "restore", "discard"):
            answer, _ = resident.ask(op, name=name, entry="x", record={}, ino=1, btime=0)
            assert answer["error"] == "io.venvd.Failed"
            answer, _ = resident.ask(op, name="x", entry=name, record={}, ino=1, btime=0)
            assert answer["error"] == "io.venvd.Failed"


def test_batch_is_one_sync(root, tmp_path):
    if not shutil.which("strace") or SANITIZED:
        pytest.skip("needs strace")
    for i in range(200):
        (root / f"n{i}").mkdir()
    worker = Worker(root, "resident")
    log = tmp_path / "log"
    tracer = subprocess.Popen(["strace", "-qq", "-o", log, "-e", "trace=fsync,recvfrom", "-p",
                               str(worker.process.pid)], stderr=subprocess.PIPE)
    try:
        for _ in range(500):
            if "TracerPid:\t0" not in pathlib.Path(
                    f"/proc/{worker.process.pid}/status").read_text():
                break
            if tracer.poll() is not None:
                pytest.skip("strace may not attach")
            time.sleep(0.01)
        worker.ours.sendall(b"".join(
            json.dumps({"id": i, "op": "discard", "name": f"n{i}", "entry": f"n{i}~",
                        **identity(root / f"n{i}")}).encode() + b"\0" for i in range(200)))
        assert sorted(worker.receive()["id"] for _ in range(200)) == list(range(200))
    finally:
        worker.close()
        tracer.wait(10)
    assert log.read_text().count("fsync(4)") <= 3


def test_read_only_tree_can_be_trashed(root, workers):
    env = fake_env(root / "a")
    env.chmod(0o555)
    me = identity(env)
    resident = workers("resident")
    resident.ask("trash", name="a", entry="a~1", record={}, **me)
    resident.ask("restore", name="a", entry="a~1", **me)
    assert stat.S_IMODE(env.stat().st_mode) == 0o555


# --- removing ---

def test_purge_of_the_trash(root):
    tree = root / ".venvd/trash/a~1/tree"
    (tree / "d/d/d").mkdir(parents=True)
    (tree / "d/f").write_text("")
    outside = root / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (tree / "d/link").symlink_to(outside)
    (tree / "d/d/dangling").symlink_to("nowhere")
    os.mkfifo(tree / "fifo")
    os.link(outside / "precious", tree / "hard")
    answer, _ = order(root, "purge", where="trash", entries=["a~1"])
    assert answer["kept"] == [] and answer["removed"] == 10
    assert os.listdir(root / ".venvd/trash") == os.listdir(root / ".venvd/stage") == []
    assert (outside / "precious").read_text() == "x"
    answer, _ = order(root, "purge", where="trash", entries=["a~1"])
    assert "error" not in answer


def test_purge_of_the_stage(root):
    for name in ("a", "b", ".c"):
        (root / ".venvd/stage" / name / "x/y").mkdir(parents=True)
    order(root, "purge", where="stage", entries=["a"])
    assert sorted(os.listdir(root / ".venvd/stage")) == [".c", "b"]
    order(root, "purge", where="stage", entries=os.listdir(root / ".venvd/stage"))
    assert os.listdir(root / ".venvd/stage") == []


def test_purge_of_locked_directories(root):
    tree = root / ".venvd/stage/a"
    for mode in (0o000, 0o500, 0o300, 0o600):
        inner = tree / f"m{mode:o}" / "in/in"
        inner.mkdir(parents=True)
        (inner / "f").write_text("")
        for path in (inner, inner.parent, inner.parent.parent):
            path.chmod(mode)
    tree.chmod(0)
    answer, _ = order(root, "purge", where="stage", entries=["a"])
    assert answer["kept"] == [] and os.listdir(root / ".venvd/stage") == []


def test_purge_as_a_user(root):
    """0000 and 0500 directories stop a user, not root."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root to become somebody else")
    tree = root / ".venvd/stage/a"
    for mode in (0o000, 0o500):
        (tree / f"m{mode:o}/in/in").mkdir(parents=True)
        (tree / f"m{mode:o}/in/in/f").write_text("")
    subprocess.run(["chown", "-R", "65534:65534", root], check=True)
    for mode in (0o000, 0o500):
        for part in ("in/in", "in", ""):
            (tree / f"m{mode:o}" / part).chmod(mode)
    me, him = socket.socketpair()
    fds = [os.open(root, os.O_RDONLY), os.open(root / ".venvd", os.O_RDONLY)]
    code = ("import os,sys;a,b,c,w=map(int,sys.argv[1:5])\n"
            "for t,s in ((3,a),(4,b),(5,c),(6,b)):os.dup2(s,t,inheritable=True)\n"
            "os.setgroups([]);os.setgid(65534);os.setuid(65534)\n"
            "os.execv(w,['venvd-worker','order'])")
    sources = [_above(fd, 20) for fd in (os.dup(him.fileno()), *fds)]
    worker_fd = _above(os.open(WORKER, os.O_RDONLY), 30)
    process = subprocess.Popen(
        [sys.executable, "-c", code.replace("map(int,sys.argv[1:5])", "map(int,sys.argv[1:5])")
         .replace("os.execv(w,", "os.execve(w,").replace("'order'])", "'order'],{})"),
         *map(str, sources), str(worker_fd)], pass_fds=(*sources, worker_fd))
    him.close()
    me.sendall(b'{"id":1,"op":"purge","where":"stage","entries":["a"]}\0')
    me.settimeout(30)
    answer = json.loads(me.recv(65536)[:-1])
    process.wait(10)
    for fd in (*sources, worker_fd):
        os.close(fd)
    me.close()
    assert answer["kept"] == [] and os.listdir(root / ".venvd/stage") == []


def _deep(path, depth):
    fd = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)


@pytest.fixture
def memory_root():
    """A root in memory where there is one: 50,000 directories on a busy disk take a minute."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = pathlib.Path(tempfile.mkdtemp(prefix="venvd-worker-", dir=base))
    for name in ("", "stage", "trash"):
        (path / ".venvd" / name).mkdir()
    yield path
    subprocess.run(["rm", "-rf", "--", path], check=True)


def test_depth_of_50000(memory_root):
    """Constant memory and descriptors: 40 descriptors and 64 MiB of address space are plenty."""
    root = memory_root
    (root / "deep").mkdir()
    _deep(root / "deep", 50000)
    me = identity(root / "deep")
    worker = Worker(root)
    import resource
    resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, (40, 40))
    if not SANITIZED:
        resource.prlimit(worker.process.pid, resource.RLIMIT_AS, (64 << 20, 64 << 20))
        resource.prlimit(worker.process.pid, resource.RLIMIT_STACK, (256 << 10, 256 << 10))
    answer, _ = worker.ask("purge-name", name="deep", entry="deep~1", **me)
    assert worker.close() == (0, "")
    assert answer["removed"] == 50002 and answer["kept"] == []
    assert sorted(os.listdir(root)) == [".venvd"]
    assert os.listdir(root / ".venvd/stage") == []


def test_wide_tree_with_hostile_names(root):
    tree = root / ".venvd/stage/a"
    for i in range(300):
        (tree / f".{i:x}").mkdir(parents=True)
        (tree / f".{i:x}" / "full").mkdir()
        (tree / f".{i:x}" / "full/f").write_text("")
        (tree / f".{i + 300:x}").write_text("")
    answer, _ = order(root, "purge", where="stage", entries=["a"])
    assert answer["kept"] == [] and os.listdir(root / ".venvd/stage") == []


def _mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


@pytest.mark.parametrize("where", ["mnt", "deep/er/mnt", ""])
def test_mounts_are_not_crossed(root, tmp_path, where):
    precious = tmp_path / "precious"
    (precious / "sub").mkdir(parents=True)
    (precious / "sub/file").write_text("x")
    tree = root / ".venvd/stage/a"
    (tree / where).mkdir(parents=True)
    (tree / "other").mkdir(exist_ok=True)
    (tree / "other/f").write_text("")
    if os.geteuid() != 0 or not _mount("--bind", precious, tree / where):
        pytest.skip("needs root and mount")
    try:
        answer, _ = order(root, "purge", where="stage", entries=["a"])
        assert len(answer["kept"]) >= 1 and "mount point" in " ".join(answer["kept"])
        assert (precious / "sub/file").read_text() == "x"
        assert where == "" or not (tree / "other").exists()
    finally:
        subprocess.run(f"grep -F {root}/ /proc/self/mounts | cut -d' ' -f2 | xargs -r umount",
                       shell=True, check=True)
    answer, _ = order(root, "purge", where="stage", entries=os.listdir(root / ".venvd/stage"))
    assert answer["kept"] == [] and (precious / "sub/file").exists()


def test_lower_layer_of_an_overlay(tmp_path):
    """A directory of a lower layer cannot be renamed: trash says so, purge-name removes it in place."""
    lower, upper, work, root = (tmp_path / n for n in ("lower", "upper", "work", "root"))
    for path in (lower, upper, work, root):
        path.mkdir()
    fake_env(lower / "a")
    _deep(lower / "a", 300)
    if os.geteuid() != 0 or not _mount("-t", "overlay", "overlay", "-o",
                                       f"lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=off",
                                       root):
        pytest.skip("needs root and overlayfs")
    try:
        for name in ("", "stage", "trash"):
            (root / ".venvd" / name).mkdir()
        me = identity(root / "a")
        resident = Worker(root, "resident")
        answer, _ = resident.ask("trash", name="a", entry="a~1", record={}, **me)
        assert resident.close() == (0, "")
        assert answer["error"] == "io.venvd.Unsupported" and answer["parameters"]["name"] == "a"
        assert os.listdir(root / ".venvd/trash") == []
        answer, _ = order(root, "purge-name", name="a", entry="a~1", **me)
        assert "error" not in answer and not (root / "a").exists()
        assert (lower / "a/pyvenv.cfg").exists()
    finally:
        subprocess.run(["umount", root], check=True)


def test_what_cannot_go_is_told(root):
    tree = root / ".venvd/stage/a"
    (tree / "d").mkdir(parents=True)
    (tree / "d/fixed").write_text("")
    (tree / "d/loose").write_text("")
    if os.geteuid() != 0 or subprocess.run(["chattr", "+i", tree / "d/fixed"], check=False,
                                           stderr=subprocess.DEVNULL).returncode:
        pytest.skip("needs root and chattr")
    try:
        answer, _ = order(root, "purge", where="stage", entries=["a"])
        assert answer["kept"] == ["'fixed': Operation not permitted"]
        assert not (tree / "d/loose").exists()
    finally:
        for path in root.rglob("fixed"):
            subprocess.run(["chattr", "-i", path], check=True)


def test_purge_name(root):
    env = fake_env(root / "a")
    me = identity(env)
    answer, _ = order(root, "purge-name", name="a", entry="a~1", **(me | {"ino": 1}))
    assert answer["error"] == "io.venvd.NoSuchEnvironment" and env.exists()
    (root / ".venvd/stage/a~1/rest").mkdir(parents=True)
    answer, _ = order(root, "purge-name", name="a", entry="a~1", **me)
    assert "error" not in answer and not env.exists()
    assert os.listdir(root / ".venvd/stage") == []


def test_purge_state(root):
    fake_env(root / "keep")
    fake_env(root / ".venvd/trash/a~1/tree")
    (root / ".venvd/catalog.db").write_text("")
    answer, _ = order(root, "purge-state")
    assert "error" not in answer
    assert os.listdir(root) == ["keep"] and (root / "keep/bin/python").exists()


# --- looking ---

def collect(frames, kind, key):
    return [item for frame in frames if frame["frame"] == kind for item in frame[key]]


def test_scan(root):
    for name in ("a", "b", "bad name"):
        (root / name).mkdir()
    os.mkdir(os.fsencode(root) + b"/x\xff")
    (root / ".hidden").mkdir()
    (root / "file").write_text("")
    (root / "link").symlink_to("a")
    tree = fake_env(root / ".venvd/trash/a~1~2/tree")
    (tree.parent / "record.json").write_text('{"name":"a"}')
    (root / ".venvd/trash/broken").mkdir()
    (root / ".venvd/trash/broken/record.json").write_text('{"name":')
    (root / ".venvd/stage/s~1").mkdir()
    answer, frames = order(root, "scan")
    assert answer == {"id": 1, "done": True}
    names = collect(frames, "names", "names")
    assert sorted((n, k) for n, _, k in names) == [
        ("a", "dir"), ("b", "dir"), ("bad name", "dir"), ("link", "link"), ("x\\xff", "dir")]
    assert {n: i for n, i, _ in names}["a"] == (root / "a").stat().st_ino
    trash = {entry["entry"]: entry for entry in collect(frames, "trash", "entries")}
    assert trash["a~1~2"] == {"entry": "a~1~2", "record": {"name": "a"}, "tree": True,
                              **identity(tree)}
    assert trash["broken"] == {"entry": "broken", "record": None, "tree": False, "ino": 0, "btime": 0}
    assert collect(frames, "stage", "entries") == ["s~1"]


def inspect(root, *names):
    _, frames = order(root, "inspect", names=list(names))
    found = {e["name"]: e for e in collect(frames, "environments", "environments")}
    return found[names[0]] if len(names) == 1 else found


def test_inspect_kinds(root):
    fake_env(root / "good")
    fake_env(root / "bad name")
    os.mkdir(os.fsencode(root) + b"/x\xff")
    (root / "plain").mkdir()
    (root / "conda/conda-meta").mkdir(parents=True)
    (root / "file").write_text("")
    (root / "link").symlink_to("good")
    found = inspect(root, "good", "bad name", "x\\xff", "plain", "conda", "file", "link", "none", "..",
                    "a/b", "")
    kinds = {name: item["kind"] for name, item in found.items()}
    assert kinds == {"good": "environment", "bad name": "foreign", "x\\xff": "other", "plain": "other",
                     "conda": "foreign", "file": "other", "link": "foreign", "none": "absent",
                     "..": "absent", "a/b": "absent", "": "absent"}
    assert found["link"]["problem"] == "symbolic link"
    assert found["conda"]["creator"] == "conda"
    assert found["bad name"]["problem"].startswith("unfit name")
    good = found["good"]
    created = good.pop("createdAt")
    assert abs(created / 1e6 - time.time()) < 60
    assert good == {"name": "good", "kind": "environment", "creator": "venv", "version": "3.11.2",
                    "implementation": "cpython", "systemSitePackages": False, "pip": False,
                    "interpreter": "/usr/bin/python3", "executable": "bin/python",
                    **identity(root / "good")}


def test_inspect_of_another_owner(root):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    fake_env(root / "a")
    os.chown(root / "a", 65534, 65534)
    found = inspect(root, "a")
    assert found["kind"] == "foreign" and "another user" in found["problem"]


def test_inspect_broken(root):
    gone = fake_env(root / "gone")
    (gone / "bin/python3").unlink()
    (gone / "bin/python3").symlink_to("/nowhere/bin/python3.9")
    fake_env(root / "home", "home = /nowhere/bin\nversion = 3.11.2\n")
    bare = fake_env(root / "bare")
    shutil.rmtree(bare / "bin")
    (fake_env(root / "large") / "pyvenv.cfg").write_text("#" * 70000)
    found = inspect(root, "gone", "home", "bare", "large")
    assert all(e["kind"] == "environment" and e["broken"] is True for e in found.values())
    assert found["gone"]["problem"] == "its interpreter '/nowhere/bin/python3.9' is gone"
    assert found["home"]["problem"] == "the directory of its interpreter, '/nowhere/bin', is gone"
    assert found["bare"]["problem"] == "it has no bin/python"
    assert "larger" in found["large"]["problem"]


def test_inspect_is_not_trapped(root):
    """A FIFO, a device, a directory or a link named pyvenv.cfg is none."""
    for name in ("fifo", "directory", "link", "device"):
        (root / name).mkdir()
    os.mkfifo(root / "fifo/pyvenv.cfg")
    os.mkfifo(root / "fifo/.project")
    (root / "directory/pyvenv.cfg").mkdir()
    (root / "link/pyvenv.cfg").symlink_to("/etc/passwd")
    names = ["fifo", "directory", "link"]
    if os.geteuid() == 0:
        os.mknod(root / "device/pyvenv.cfg", stat.S_IFCHR | 0o600, os.makedev(5, 0))
        names.append("device")
    assert {e["kind"] for e in inspect(root, *names).values()} == {"other"}


def test_inspect_bytes(root):
    env = fake_env(root / "a")
    (env / "pyvenv.cfg").write_bytes(b"home = /usr/bin\nprompt = \xff\x1b[31m\nversion=3.1\x00x\n")
    (env / ".project").write_bytes(b"/p/\xc3\xa9\xff\nrest")
    found = inspect(root, "a")
    assert found["prompt"] == "\\xff\\x1b[31m" and found["project"] == "/p/\u00e9\\xff"
    assert found["version"] == "3.1"


def test_inspect_python2_virtualenv(root):
    """virtualenv before 20 left no pyvenv.cfg."""
    env = root / "old"
    (env / "bin").mkdir(parents=True)
    (env / "lib/python2.7").mkdir(parents=True)
    shutil.copy("/bin/true", env / "bin/python")
    (env / "bin/activate").write_text("")
    (env / "bin/pip").write_text("")
    (env / "lib/python2.7/orig-prefix.txt").write_text("/usr")
    (env / "lib/python2.7/no-global-site-packages.txt").write_text("")
    found = inspect(root, "old")
    assert found["kind"] == "environment" and "broken" not in found
    assert (found["creator"], found["version"], found["interpreter"], found["pip"],
            found["systemSitePackages"]) == ("virtualenv", "2.7", "/usr/bin/python2.7", True, False)


def test_ten_thousand(root):
    for i in range(10000):
        fake_env(root / f"e{i:05}")
    worker = Worker(root)
    began = time.monotonic()
    _, frames = worker.ask("scan")
    names = [n for n, _, _ in collect(frames, "names", "names")]
    assert worker.close() == (0, "")
    worker = Worker(root)
    _, frames = worker.ask("inspect", names=names)
    took = time.monotonic() - began
    assert worker.close() == (0, "")
    found = collect(frames, "environments", "environments")
    assert len(found) == 10000 and {e["kind"] for e in found} == {"environment"}
    print(f"10,000 environments in {took:.3f} s")
    assert SANITIZED or took < 5


# --- creating ---

def test_create(root):
    answer, frames = create(root)
    assert [f.get("stage", f["frame"]) for f in frames] == [
        "interpreter", "reserve", "reserved", "build", "sync"]
    reserved = frames[2]
    assert reserved["interpreter"]["path"] == PYTHON
    assert reserved["reason"] == "named by its path"
    env = answer["environment"]
    assert (env["ino"], env["btime"]) == (reserved["ino"], reserved["btime"])
    assert identity(root / "e") == {"ino": env["ino"], "btime": env["btime"]}
    assert env["kind"] == "environment" and env["creator"] == "venv" and env["interpreter"] == PYTHON
    subprocess.run([root / "e/bin/python", "-c", "import sys; assert sys.prefix != sys.base_prefix"],
                   check=True)
    assert os.listdir(root / ".venvd/stage") == []


def test_create_waits_for_go(root):
    worker = Worker(root)
    worker.send("create", **create_order(root))
    while worker.receive()["frame"] != "reserved":
        pass
    assert not (root / "e").exists() and os.listdir(root / ".venvd/stage") == ["e~1"]
    assert worker.close() == (0, "")
    assert not (root / "e").exists() and os.listdir(root / ".venvd/stage") == []


def test_create_over_something(root):
    (root / "e").mkdir()
    answer, frames = create(root)
    assert answer["error"] == "io.venvd.AlreadyExists" and answer["parameters"] == {"name": "e"}
    (root / "e").rmdir()
    worker = Worker(root)
    worker.send("create", **create_order(root))
    while worker.receive()["frame"] != "reserved":
        pass
    (root / "e").mkdir()
    worker.send_raw({"id": 1, "go": True})
    answer, _ = worker.until_done()
    worker.close()
    assert answer["error"] == "io.venvd.AlreadyExists"
    assert os.listdir(root / "e") == []


def _tree(path):
    """Everything but times: names, kinds, modes, link targets, bytes; a .pyc's times are left out."""
    found = {}
    for directory, folders, files in os.walk(path):
        for name in folders + files:
            full = os.path.join(directory, name)
            st = os.lstat(full)
            key, mode = os.path.relpath(full, path), oct(st.st_mode)
            if stat.S_ISLNK(st.st_mode):
                found[key] = (mode, os.readlink(full))
            elif stat.S_ISREG(st.st_mode):
                data = pathlib.Path(full).read_bytes()
                found[key] = (mode, data[:4] if name.endswith(".pyc") else data)
            else:
                found[key] = (mode, None)
    found["."] = oct(os.lstat(path).st_mode)
    return found


CASES = [
    {"withoutPip": True}, {"withoutPip": True, "prompt": "it's \"q\" $V \u00e9"},
    {"withoutPip": True, "prompt": "-x"}, {"withoutPip": True, "prompt": "."},
    {"withoutPip": True, "systemSitePackages": True}, {"withoutPip": True, "prompt": ""},
]


@pytest.mark.parametrize("python", PYTHONS, ids=lambda p: "-".join(pathlib.Path(p).parts[-3::2]))
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_create_is_what_venv_makes(root, tmp_path, python, mask):
    """Byte for byte and mode for mode, at the same path."""
    cwd = tmp_path / "some where"
    cwd.mkdir()
    for options in CASES if mask == 0o022 else CASES[:1]:
        caller = {"cwd": str(cwd), "path": "/usr/bin:/bin", "umask": mask, "environment": {}}
        answer, _ = create(root, python=python, caller=caller, **options)
        assert "error" not in answer, answer
        ours = _tree(root / "e")
        shutil.rmtree(root / "e")
        arguments = ["--system-site-packages"] * options.get("systemSitePackages", False)
        arguments += ["--without-pip"]
        arguments += [f"--prompt={options['prompt']}"] if "prompt" in options else []
        subprocess.run([python, "-m", "venv", *arguments, root / "e"], check=True, umask=mask, cwd=cwd,
                       env={"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], "LC_ALL": "C.UTF-8"})
        assert ours == _tree(root / "e"), options
        shutil.rmtree(root / "e")


def test_create_with_pip_is_what_venv_makes(root):
    answer, _ = create(root, withoutPip=False)
    if answer.get("error") == "io.venvd.NoEnsurepip":
        pytest.skip("no ensurepip here")
    assert answer["environment"]["pip"] is True
    ours = _tree(root / "e")
    shutil.rmtree(root / "e")
    subprocess.run([PYTHON, "-m", "venv", root / "e"], check=True, umask=0o022)
    assert ours == _tree(root / "e")


def test_create_passes_listed_variables_only(root, tmp_path):
    fake = script(tmp_path, "env > {0}/env; umask >> {0}/env; pwd >> {0}/env; exit 3")
    caller = {"cwd": str(tmp_path), "path": "/x:/usr/bin:/bin", "umask": 0o027,
              "environment": {"PIP_INDEX_URL": "u", "http_proxy": "p", "EVIL": "x", "LD_PRELOAD": "y",
                              "PYTHONOPTIMIZE": "1"}}
    create(root, python=str(fake), caller=caller)
    text = (tmp_path / "env").read_text().splitlines()
    variables = {line.split("=")[0] for line in text if "=" in line} - {"PWD", "SHLVL", "_", "OLDPWD"}
    assert variables == {"PATH", "HOME", "LC_ALL", "PIP_INDEX_URL", "http_proxy", "PYTHONOPTIMIZE"}
    assert "PATH=/x:/usr/bin:/bin" in text and "0027" in text and str(tmp_path) in text


# --- interpreters that are none ---

def script(directory, body, name="fake-python"):
    path = directory / name
    path.write_text("#!/bin/sh\n" + body.format(directory) + "\n")
    path.chmod(0o755)
    return path


def test_interpreter_is_a_directory(root, tmp_path):
    why = refused(root, "InterpreterFailed", python=str(tmp_path))
    assert why == {"interpreter": str(tmp_path), "reason": "is a directory"}


def test_interpreter_is_not_executable(root, tmp_path):
    path = script(tmp_path, "")
    path.chmod(0o644)
    assert refused(root, "InterpreterFailed", python=str(path))["reason"] == "is not executable"


def test_interpreter_is_no_program(root, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\x01\x02")
    path.chmod(0o755)
    reason = refused(root, "InterpreterFailed", python=str(path))["reason"]
    assert reason == "cannot be executed: Exec format error"


def test_interpreter_exits_3(root, tmp_path):
    why = refused(root, "InterpreterFailed", python=str(script(tmp_path, "echo oh dear >&2; exit 3")))
    assert why["reason"] == "exited with status 3" and why["output"] == "oh dear\n"


def test_interpreter_is_killed(root, tmp_path):
    why = refused(root, "InterpreterFailed", python=str(script(tmp_path, "kill -SEGV $$")))
    assert why["reason"].startswith("was killed by signal 11")


def test_interpreter_prints_rubbish(root, tmp_path):
    path = script(tmp_path, r"head -c 300000 /dev/zero | tr '\0' 'x'; printf '\n\377\033[1mend\n[1,2]\n'")
    why = refused(root, "InterpreterFailed", python=str(path))
    assert why["reason"] == "is no Python: its answer makes no sense"
    assert len(why["output"]) <= 8 * 1024 + 20 and why["output"].endswith("\\xff\\x1b[1mend\n[1,2]\n")


def test_interpreter_hangs(root, tmp_path):
    path = script(tmp_path, "setsid sleep 1234.5 & sleep 1234.5")
    began = time.monotonic()
    why = refused(root, "InterpreterFailed", python=str(path), probeMs=300)
    assert why["reason"] == "gave no answer within 0.3 seconds"
    assert time.monotonic() - began < 10
    assert not running("1234.5")


def test_interpreter_never_stops_writing(root, tmp_path):
    path = script(tmp_path, "exec yes")
    why = refused(root, "InterpreterFailed", python=str(path), probeMs=300)
    assert "no answer" in why["reason"] and len(why["output"]) <= 8 * 1024


def running(word):
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if word in (entry / "cmdline").read_bytes().decode(errors="replace").split("\0"):
                    return True
            except OSError:
                continue
    return False


def test_interpreter_does_not_exist(root):
    for spec in ("/nowhere/python", "no-such-python", "4.7", "3.4.99", "", ".", "./python"):
        why = refused(root, "NoSuchInterpreter", python=spec)
        assert why["interpreter"] == spec and why["reason"]


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_interpreter_that_everybody_could_change(root, tmp_path, mode):
    inner = tmp_path / "open/inner"
    inner.mkdir(parents=True)
    (inner / "python").symlink_to(PYTHON)
    (tmp_path / "open").chmod(mode)
    (tmp_path / "way").symlink_to("open/inner/python")
    for path in (inner / "python", tmp_path / "way"):
        answer, _ = create(root, python=str(path), go=True)
        if mode == 0o777:
            assert answer["error"] == "io.venvd.UnsafeInterpreter", answer
            assert "written by everybody" in answer["parameters"]["reason"]
            assert answer["parameters"]["interpreter"] == str(path)
        else:
            assert "error" not in answer
            shutil.rmtree(root / "e")


def test_python2_is_refused(root, tmp_path):
    real = sorted((pathlib.Path.home() / ".pyenv/versions").glob("2.7*/bin/python2.7"))
    if not real:
        pytest.skip("no Python 2 here")
    why = refused(root, "Unsupported", python=str(real[0]))
    assert "is Python 2.7." in why["reason"] and "no venv module" in why["reason"]


def test_no_ensurepip(root, tmp_path):
    """An interpreter that has no ensurepip, and one that finds out late, as Debian's does."""
    fake = fake_interpreter(tmp_path, PYTHON)
    why = refused(root, "NoEnsurepip", python=str(fake), withoutPip=False)
    assert why["interpreter"] == str(fake) and why["version"].startswith("3.") and "package" not in why


def fake_interpreter(directory, real):
    """Not a script, or it would be taken for a shim: a copy of /bin/sh cannot be one either, so a small
    program is compiled."""
    compiler = shutil.which("cc") or pytest.skip("no compiler")
    source, path = directory / "fake.c", directory / "fake-python"
    source.write_text(
        '#include <stdio.h>\n#include <string.h>\n#include <unistd.h>\n'
        'int main(int c, char **v) {\n'
        ' if (c > 3 && !strcmp(v[2], "-S")) puts("noise\\n[1,[3,11,2,\\"final\\",0],\\"cpython\\",\\"\\",'
        'true,false]\\nmore");\n'
        f' else execv("{real}", v);\n return 0; }}\n')
    subprocess.run([compiler, "-o", path, source], check=True)
    return path


def test_nothing_made(root, tmp_path):
    """venv says that all is well and has made nothing."""
    fake = fake_interpreter(tmp_path, "/bin/true")
    answer, _ = create(root, python=str(fake))
    assert answer["error"] == "io.venvd.InterpreterFailed"
    assert answer["parameters"]["reason"] == "its venv module made no environment"


def test_build_fails(root, tmp_path):
    fake = fake_interpreter(tmp_path, "/bin/false")
    answer, _ = create(root, python=str(fake))
    assert answer["error"] == "io.venvd.InterpreterFailed"
    assert answer["parameters"]["reason"] == "its venv module exited with status 1"
    late = tmp_path / "late"
    late.mkdir()
    debian = script(late, "echo 'The virtual environment was not created successfully because ensurepip is "
                          "not available.  On Debian/Ubuntu systems: apt install python3.11-venv'; exit 1",
                    "debian")
    answer, _ = create(root, name="f", python=str(fake_interpreter(late, debian)))
    assert answer["error"] == "io.venvd.NoEnsurepip"
    full = script(late, "echo 'OSError: [Errno 28] No space left on device'; exit 1", "full")
    answer, _ = create(root, name="g", python=str(fake_interpreter(late, full)))
    assert answer["error"] == "io.venvd.NoSpace"


# --- which interpreter ---

def chosen(root, python, **caller):
    worker = Worker(root)
    worker.send("create", **create_order(root, python=python, caller=CALLER | caller))
    while True:
        message = worker.receive()
        if message.get("done"):
            break
        if message.get("frame") == "reserved":
            message = message["interpreter"] | {"reason": message["reason"]}
            break
    assert worker.close() == (0, "")
    return message


def test_default_passes_over_shims_and_environments(root, tmp_path):
    env, shims, real = tmp_path / "env", tmp_path / "shims", tmp_path / "real"
    for path in (shims, real):
        path.mkdir()
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", env], check=True)
    script(shims, f'exec {PYTHON} "$@"', "python3")
    (real / "python3").symlink_to(PYTHON)
    path = f".::{shims}:{env}/bin:{real}:/usr/bin"
    found = chosen(root, None, path=path)
    assert found["path"] == f"{real}/python3" and found["reason"] == "first python3 on PATH"
    found = chosen(root, None, path=f"{env}/bin:{shims}")
    assert found["path"] == os.path.realpath(PYTHON) or found["path"] == PYTHON
    assert found["reason"] == f"only python3 on PATH, behind the shim '{shims}/python3'"
    assert chosen(root, None, path=f"{env}/bin")["error"] == "io.venvd.NoSuchInterpreter"


def test_names_and_relative_paths(root, tmp_path):
    (tmp_path / "my-python").symlink_to(PYTHON)
    found = chosen(root, "my-python", path=f"/nowhere:{tmp_path}")
    assert found["path"] == f"{tmp_path}/my-python" and found["source"] == "PATH"
    found = chosen(root, "./my-python", cwd=str(tmp_path))
    assert found["path"] == f"{tmp_path}/my-python"
    found = chosen(root, f"{tmp_path.name}/my-python", cwd=str(tmp_path.parent))
    assert found["path"] == f"{tmp_path}/my-python"


def test_interpreter_of_an_environment_is_taken_when_named(root, tmp_path):
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    found = chosen(root, f"{tmp_path}/env/bin/python")
    assert found["path"] == f"{tmp_path}/env/bin/python"


def test_versions(root, tmp_path):
    version = subprocess.run([PYTHON, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"],
                             check=True, capture_output=True, text=True).stdout.strip()
    minor = version.rsplit(".", 1)[0]
    empty = {"environment": {"PYENV_ROOT": str(tmp_path)}}
    for spec in ("3", minor, version):
        found = chosen(root, spec, path="/usr/bin", **empty)
        assert found["version"] == version, spec
    assert chosen(root, minor + ".99", path="/usr/bin", **empty)["error"] == "io.venvd.NoSuchInterpreter"
    # pyenv's, the newest first
    for name in ("3.9.9", "3.10.1"):
        (tmp_path / f"versions/{name}/bin").mkdir(parents=True)
        fake_interpreter(tmp_path / f"versions/{name}/bin", PYTHON).rename(
            tmp_path / f"versions/{name}/bin/python3.11")
    if minor != "3.11":
        assert chosen(root, "3.11.2", path="/nowhere", **empty)["path"] == (
            f"{tmp_path}/versions/3.10.1/bin/python3.11")


def test_broken_candidates_of_a_version(root, tmp_path):
    """They are passed over, but told if nothing else is found."""
    script(tmp_path, "echo broken; exit 3", "python3.77")
    answer = chosen(root, "3.77", path=str(tmp_path))
    assert answer["error"] == "io.venvd.InterpreterFailed"
    assert answer["parameters"]["output"] == "broken\n"


def test_pyenv_shim(root, tmp_path):
    pyenv = pathlib.Path.home() / ".pyenv"
    versions = sorted(p.name for p in (pyenv / "versions").glob("3.*")) if pyenv.exists() else []
    if not versions or not (pyenv / "shims/python3").exists():
        pytest.skip("no pyenv here")
    (tmp_path / ".python-version").write_text(versions[0] + "\n")
    found = chosen(root, str(pyenv / "shims/python3"), cwd=str(tmp_path),
                   path=f"{pyenv}/shims:{pyenv}/bin:/usr/bin:/bin", environment={"PYENV_ROOT": str(pyenv)})
    assert found["path"].startswith(f"{pyenv}/versions/{versions[0]}/bin/python"), found
    assert found["version"] == versions[0]


def test_list_of_interpreters(root, tmp_path):
    (tmp_path / "python3").symlink_to(PYTHON)
    script(tmp_path, "", "python3.5")
    (tmp_path / "python3.6").write_bytes(b"\1")
    (tmp_path / "python3.6").chmod(0o755)
    _, frames = order(root, "interpreters", caller=CALLER | {"path": str(tmp_path)}, probeMs=10000)
    found = [f["interpreter"] for f in frames]
    paths = [i["path"] for i in found]
    assert paths[0] == f"{tmp_path}/python3" and "problem" not in found[0]
    assert f"{tmp_path}/python3.5" not in paths
    bad = found[paths.index(f"{tmp_path}/python3.6")]
    assert "Exec format" in bad["problem"]
    assert len({os.path.realpath(p) for p in paths}) == len(paths)
    assert any(i["version"].startswith("2.7") and "no venv module" in i["problem"] for i in found
               if i.get("version", "").startswith("2"))or not any(
        i.get("version", "").startswith("2") for i in found)


# --- the end of the daemon ---

def alive(pid_file):
    """Whether the sleep that wrote its id there still runs; ids are used again, so its words count too."""
    try:
        words = pathlib.Path(f"/proc/{int(pid_file.read_text())}/cmdline").read_bytes()
    except OSError:
        return False
    return words == b"sleep\0" + b"4321.5\0"


@pytest.mark.parametrize("how", ["close", "half-close", "SIGTERM"])
def test_end_in_the_middle_of_a_build(root, tmp_path, how):
    """The child, its children and one that made a session of its own are gone when the worker is."""
    # Each process writes down its own id: what outlives the worker is ended by that id and no other.
    hang = script(tmp_path, "setsid sh -c 'echo $$ > {0}/session; exec sleep 4321.5' & "
                            "sleep 4321.5 & echo $! > {0}/group\n"
                            "while [ ! -s {0}/session ]; do sleep 0.01; done; touch {0}/here; "
                            "exec sleep 4321.5", "hang")
    fake = fake_interpreter(tmp_path, hang)
    worker = Worker(root)
    worker.send("create", **create_order(root, python=str(fake)))
    while worker.receive()["frame"] != "reserved":
        pass
    worker.send_raw({"id": 1, "go": True})
    deadline = time.monotonic() + 20
    while not (tmp_path / "here").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if how == "half-close":
        worker.ours.shutdown(socket.SHUT_WR)
        assert worker.process.wait(10) == 0
    elif how == "SIGTERM":
        worker.process.send_signal(signal.SIGTERM)
        worker.process.wait(10)
    status, _ = worker.close()
    assert status == (1 if how == "SIGTERM" else 0)
    assert not alive(tmp_path / "group")
    if how != "SIGTERM":
        assert not alive(tmp_path / "session")
    elif alive(tmp_path / "session"):
        os.kill(int((tmp_path / "session").read_text()), signal.SIGKILL)
    assert (root / "e").is_dir()


def test_child_dies_with_its_worker(root, tmp_path):
    hang = script(tmp_path, "touch {0}/here; exec sleep 2345.5", "hang")
    fake = fake_interpreter(tmp_path, hang)
    worker = Worker(root)
    worker.send("create", **create_order(root, python=str(fake)))
    while worker.receive()["frame"] != "reserved":
        pass
    worker.send_raw({"id": 1, "go": True})
    deadline = time.monotonic() + 20
    while not (tmp_path / "here").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker.process.kill()
    worker.process.wait(10)
    worker.close()
    while running("2345.5"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_child_gets_nothing_of_ours(root, tmp_path):
    hang = script(tmp_path, "ls -l /proc/self/fd > {0}/fds; cat /proc/self/status > {0}/status; exit 3", "h")
    create(root, python=str(hang))
    fds = [line.split()[-3:] for line in (tmp_path / "fds").read_text().splitlines() if "->" in line]
    numbers = {fd[0]: fd[2] for fd in fds}
    assert numbers["0"] == "/dev/null" and numbers["2"].startswith("pipe:")
    assert set(numbers) <= {"0", "1", "2", "3"} and numbers.get("3", "/proc").startswith("/proc")
    status = dict(line.split(":\t", 1) for line in (tmp_path / "status").read_text().splitlines()
                  if ":\t" in line)
    assert int(status["SigIgn"], 16) == 0 and int(status["SigBlk"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_order_is_nice(root, tmp_path):
    path = script(tmp_path, "nice > {0}/nice; exit 3")
    create(root, python=str(path))
    assert int((tmp_path / "nice").read_text()) >= 10
