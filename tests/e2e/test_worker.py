# SPDX-License-Identifier: MIT
# ruff: noqa: F401, F811 -- fixtures come from worker.py
"""venvd-worker by itself, over a socketpair: short orders, removing, looking."""

import json
import os
import pathlib
import select
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time

import pytest

from helpers import tree
from worker import (
    SANITIZED,
    WORKER,
    Worker,
    _above,
    fake_env,
    identity,
    order,
    root,
    workers,
)

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


def test_an_empty_directory_makes_way(root, workers, tmp_path):
    """For what an interrupted recreate elsewhere gives back; one that holds something does not, nor does anything else."""
    path = tmp_path / "elsewhere"
    env = fake_env(path)
    me = identity(env)
    resident = workers("resident")
    resident.ask("trash", name="a", entry="a~1", record={}, path=str(path), **me)
    order = {"name": "a", "entry": "a~1", "path": str(path), "makeWay": True, **me}
    for occupy in (lambda: (path / "x").mkdir(parents=True), lambda: path.write_text(""), lambda: path.symlink_to(root)):
        occupy()
        answer, _ = resident.ask("restore", **order)
        assert answer["error"] == "io.venvd.AlreadyExists"
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    path.mkdir()
    answer, _ = resident.ask("restore", **order)
    assert "error" not in answer and identity(path) == me


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


@pytest.mark.slow
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


SWAPPER = """
import ctypes, os, sys
os.chdir(sys.argv[1])
rename, parent = ctypes.CDLL(None).renameat2, os.getppid()
print(flush=True)
while os.getppid() == parent:
    rename(-100, b"name", -100, b"other", 2)
"""


@pytest.mark.parametrize("op", ["trash", "discard", "purge-name"])
def test_another_takes_the_name_meanwhile(root, op):
    """Two directories change places all the time; only the one that was meant may go."""
    for i in range(40):
        for name in ("name", "other"):
            (root / name).mkdir(exist_ok=True)
        (root / "other/precious").write_text("")
        me = identity(root / "name")
        worker = Worker(root, "order" if op == "purge-name" else "resident")
        with subprocess.Popen([sys.executable, "-c", SWAPPER, root], stdout=subprocess.PIPE) as swapper:
            swapper.stdout.readline()
            worker.ask(op, name="name", entry=f"e~{i}", record={}, **me)
            swapper.kill()
        assert worker.close() == (0, "")
        found = [path for path in root.rglob("precious")]
        assert len(found) == 1 and ".venvd" not in found[0].parts, (i, found)
        for path in root.iterdir():
            if path.name != ".venvd":
                shutil.rmtree(path)


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


def scanned(frames):
    """name -> inode"""
    pairs = [entry.split(" ", 1) for frame in frames if frame["frame"] == "names"
             for entry in frame["names"].removesuffix("/").split("/")]
    return {name: int(ino) for ino, name in pairs}


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
    names = scanned(frames)
    assert sorted(names) == ["a", "b", "bad name", "link", "x\\xff"]
    assert names["a"] == (root / "a").stat().st_ino and names["link"] == (root / "link").lstat().st_ino
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


@pytest.mark.slow
def test_ten_thousand(root):
    first = fake_env(root / "e00000")
    for i in range(1, 10000):       # as cheap as they get: what is in them is linked
        path = f"{root}/e{i:05}"
        os.makedirs(path + "/bin")
        for name in ("pyvenv.cfg", "bin/python", "bin/python3"):
            os.link(first / name, f"{path}/{name}", follow_symlinks=False)
    worker = Worker(root)
    began = time.monotonic()
    _, frames = worker.ask("scan")
    names = list(scanned(frames))
    assert worker.close() == (0, "")
    worker = Worker(root)
    _, frames = worker.ask("inspect", names=names)
    took = time.monotonic() - began
    assert worker.close() == (0, "")
    found = collect(frames, "environments", "environments")
    assert len(found) == 10000 and {e["kind"] for e in found} == {"environment"}
    print(f"10,000 environments in {took:.3f} s")


@pytest.mark.parametrize("starting", [True, False])
def test_only_what_a_start_waits_for_is_not_nice(root, workers, starting):
    for number in range(2000):
        (root / f"{number:0200}").mkdir()       # more than the socket takes: it cannot end unheard
    worker = workers()
    worker.send("scan", **({"starting": True} if starting else {}))
    assert select.select([worker.ours], [], [], 60)[0]
    assert os.getpriority(os.PRIO_PROCESS, worker.process.pid) == min(19, os.nice(0) + (0 if starting else 10))
    worker.until_done()


# --- marks ---

def known(root, mark, name="a"):
    """What is found of one that had this mark, None if nothing is said of it."""
    _, frames = order(root, "inspect", names=[], known=f"{mark} {name}/")
    found = collect(frames, "environments", "environments")
    assert len(found) <= 1
    return found[0] if found else None


def settled(root, name="a"):
    """Its mark; a change just now has none yet."""
    end = time.monotonic() + 60
    while not (mark := inspect(root, name).get("looked")):
        assert time.monotonic() < end, "it gets no mark"
        time.sleep(0.05)
    return mark


def rewritten(env):
    """The same bytes and the same mtime, as a tool that means well leaves them."""
    cfg = env / "pyvenv.cfg"
    before = cfg.stat()
    cfg.write_bytes(cfg.read_bytes())
    os.utime(cfg, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "a file of the same times": rewritten,
    "a pip": lambda env: (env / "bin" / "pip").write_text(""),
    "a project": lambda env: (env / ".project").write_text("/src\n"),
    "rights": lambda env: env.chmod(0o700),
    "conda": lambda env: (env / "conda-meta").mkdir(),
    "no pyvenv.cfg": lambda env: (env / "pyvenv.cfg").unlink(),
    "another bin": lambda env: ((env / "bin").rename(env / "old"), shutil.copytree(env / "old", env / "bin", symlinks=True)),
    "another one": lambda env: (env.rename(env.parent / "old1"), shutil.copytree(env.parent / "old1", env, symlinks=True)),
    "a link": lambda env: (env.rename(env.parent / "old2"), env.symlink_to("old2")),
    "nothing": shutil.rmtree,
}


def test_a_mark_tells_that_something_has_changed(root):
    names = {change: f"e{number}" for number, change in enumerate(CHANGES)}
    for name in names.values():
        fake_env(root / name)
        assert "looked" not in inspect(root, name), "what is this new may change again at the same time"
    for change, name in names.items():
        mark = settled(root, name)
        assert known(root, mark, name) is None and known(root, mark, name) is None
        assert known(root, 0, name)["looked"] == mark and known(root, mark + 1, name)["kind"] == "environment"
        CHANGES[change](root / name)
        found = known(root, mark, name)
        assert found and "looked" not in found and found["name"] == name, change


def test_a_mark_does_not_hide_that_an_interpreter_is_gone(root, tmp_path):
    base = tmp_path / "python3"
    base.symlink_to("/usr/bin/python3")
    env = root / "a"
    (env / "bin").mkdir(parents=True)
    (env / "bin" / "python").symlink_to(base)
    (env / "pyvenv.cfg").write_text(f"home = {tmp_path}\n")
    mark = settled(root)
    base.unlink()
    assert known(root, mark)["broken"] and "looked" not in known(root, mark)
    base.symlink_to("/usr/bin/python3")
    assert known(root, mark) is None


def test_what_a_mark_cannot_tell_has_none(root):
    """A copied interpreter works without its base; one that is spelled elsewhere may lose its home alone."""
    for name, cfg in (("copied", "home = /usr/bin\n"), ("elsewhere", "home = /nowhere/else\n"), ("fits", "home = /usr/bin\n")):
        (root / name / "bin").mkdir(parents=True)
        (root / name / "pyvenv.cfg").write_text(cfg)
        if name == "copied":
            shutil.copy("/bin/true", root / name / "bin" / "python")
        else:
            (root / name / "bin" / "python").symlink_to("/usr/bin/python3")
    settled(root, "fits")
    assert "looked" not in inspect(root, "copied") and "looked" not in inspect(root, "elsewhere")


# --- a rename that does not come to its end -------------------------------------------------------------

@pytest.mark.parametrize("name", [b"plain", b"caf\xe9", "caf\u00e9".encode(), b"a\nb", b"\\x41", b"\x01\x7f\xc2\x80\xff"])
def test_settle_puts_files_of_any_name_back(root, workers, name):
    env = fake_env(root / "a")
    old = f"#!{root}/a/bin/python\n".encode()
    for directory in (b"bin", b"share/" + name):
        os.makedirs(os.path.join(os.fsencode(env), directory), exist_ok=True)
        with open(os.path.join(os.fsencode(env), directory, name), "wb") as file:
            file.write(old)
    before = tree(env)
    worker = workers()
    source = {"name": "a", "paths": [str(env)], **identity(env)}
    number = worker.send("rename", name="b", entry="b~2", path=str(root / "b"), source=source)
    reserved = worker.receive()
    assert reserved["frame"] == "reserved", reserved
    (root / "b").mkdir()
    worker.send_raw({"id": number, "go": True})
    assert worker.until_done()[0]["error"] == "io.venvd.AlreadyExists"
    assert tree(env) != before
    answer, _ = order(root, "settle", entry="b~2")
    assert not answer["renamed"] and tree(env) == before
