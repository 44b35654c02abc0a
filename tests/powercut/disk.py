# SPDX-License-Identifier: MIT
"""File systems in files, and two ways to cut their power. Owns images, mounts and nothing else.

- shutdown: the file system is told to stop where it is (the ioctl of ext4 and xfs, without writing its log out). What
  it had handed to the device is there, all else is lost; the next mount replays the log.
- snapshot: the image lies on xfs and is reflinked, which is atomic; each copy is what a cut at that moment would have
  left. It works for every file system, and many times in one run.

What the device was given counts as kept, in the order given: a volatile cache of the device is not played.
"""
import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import struct
import subprocess

SHUTDOWN = 0x8004587D           # _IOR('X', 125, u32)
WITHOUT_LOG = 2                 # NOLOGFLUSH
FICLONE = 0x40049409

# kind -> how it is made, its size in MiB, how it is mounted
KINDS = {
    "ext4": (["mkfs.ext4", "-q", "-F"], 640, ["-t", "ext4"]),
    # Otherwise ext4 itself writes out some of what a program has forgotten to.
    "ext4-strict": (["mkfs.ext4", "-q", "-F"], 640, ["-t", "ext4", "-o", "noauto_da_alloc"]),
    "xfs": (["mkfs.xfs", "-q", "-f", "-m", "reflink=1"], 640, ["-t", "xfs"]),
    "btrfs": (["mkfs.btrfs", "-q", "-f"], 1024, ["-t", "btrfs"]),
}


class Unavailable(Exception):
    """Why there can be no such file system here, in words."""


def run(*words):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"{words[0]}: {(done.stderr or done.stdout).strip().splitlines()[-1:] or done.returncode}")


def place():
    """Where images lie: in memory if there is room, for then the machine's own disk does not set the pace."""
    memory = pathlib.Path("/dev/shm")
    with contextlib.suppress(OSError):
        if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= 4 << 30:
            return memory
    return pathlib.Path(os.environ.get("TMPDIR", "/var/tmp"))


class Disk:
    """One image, and the place where it is mounted."""

    def __init__(self, kind, top, image=None):
        self.kind, self.top = kind, pathlib.Path(top)
        self.image = image or self.top / f"{kind}.img"
        self.mount_point = self.top / "m"
        self.mount_point.mkdir(exist_ok=True)
        self.is_mounted = False

    def make(self):
        maker, mib, _ = KINDS[self.kind]
        with open(self.image, "wb") as f:
            f.truncate(mib << 20)
        run(*maker, self.image)

    def mount(self):
        run("mount", "-o", "loop", *KINDS[self.kind][2], self.image, self.mount_point)
        self.is_mounted = True

    def unmount(self):
        if self.is_mounted:
            run("umount", self.mount_point)
            self.is_mounted = False

    def cut(self):
        """Its power is off when this returns."""
        fd = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", WITHOUT_LOG))
        finally:
            os.close(fd)

    def copy(self, to):
        """The image once more; with the mounted one this is a power cut, if it shares its blocks."""
        with open(self.image, "rb") as source, open(to, "wb") as target:
            try:
                fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
            except OSError as e:
                if e.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL) or self.is_mounted:
                    raise
                copy_data(source.fileno(), target.fileno())


def copy_data(source, target):
    """What is a hole stays one."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end:
            data = os.pread(source, min(end - at, 4 << 20), at)
            os.pwrite(target, data, at)
            at += len(data)


@contextlib.contextmanager
def reflinked(top):
    """A directory in which copies of images share their blocks."""
    below = pathlib.Path(top) / "host"
    below.mkdir()
    host = Disk("xfs", below)
    with open(host.image, "wb") as f:
        f.truncate(16 << 30)
    run(*KINDS["xfs"][0], host.image)
    host.mount()
    try:
        yield host.mount_point
    finally:
        host.unmount()
