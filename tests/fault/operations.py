# SPDX-License-Identifier: MIT
"""The operations: what there is before, and the call.

Owns what lies beside the root, TOP/elsewhere. What is made here is the same, byte by byte, each time.
"""
import base64
import hashlib
import json
import os
import shutil
import subprocess

from house import PYTHON, Violation
from helpers import rebuilt_python, tree

IN_PLACE = {"environment": {"SOURCE_DATE_EPOCH": "1700000000"}}
ASIDE = ".venvd-repair"


def create(daemon, name, **parameters):
    return daemon.call("Create", name=name, python=PYTHON, withoutPip=True, **parameters)["environment"]["id"]


def nothing(_house):
    return {}


def one(house):
    labels = {create(house.daemon, "a"): "a"}
    (house.root / "a/mine").write_text("precious\n")
    return labels


def one_protected(house):
    labels = one(house)
    house.daemon.call("Protect", name="a")
    return labels


def one_and_trash(house):
    """One that is there, and two of the same name in the trash."""
    labels = {}
    for label in ("first", "second"):
        labels[create(house.daemon, "b")] = label
        (house.root / "b/mine").write_text(label)
        house.daemon.call("Delete", name="b")
    return labels | one(house)


# --- elsewhere ---

def nothing_elsewhere(house):
    shutil.rmtree(house.elsewhere, ignore_errors=True)
    house.elsewhere.mkdir()
    return one(house)


def one_elsewhere(house):
    """One in the root, and one outside that nobody has told us of."""
    model = house.top / "model"
    if not model.exists():
        subprocess.run([PYTHON, "-m", "venv", "--without-pip", model], check=True)
    labels = nothing_elsewhere(house)
    shutil.copytree(model, house.elsewhere / "e", symlinks=True)
    return labels


def one_adopted(house):
    labels = one_elsewhere(house)
    adopted = house.daemon.call("Adopt", name="e", path=str(house.elsewhere / "e"))
    return labels | {adopted["environment"]["id"]: "e"}


def one_adopted_in_trash(house):
    labels = one_adopted(house)
    house.daemon.call("Delete", name="e")
    return labels


def one_made_elsewhere(house):
    labels = nothing_elsewhere(house)
    labels[create(house.daemon, "e", path=str(house.elsewhere / "e"))] = "e"
    (house.elsewhere / "e/mine").write_text("precious\n")
    return labels


# --- interpreters that are known by hand ---

def added(house):
    """Those that are, as the next worker reads it."""
    try:
        return json.loads((house.root / ".venvd/interpreters/added.json").read_text())
    except FileNotFoundError:
        return []


def none_added(house):
    for path in added(house):
        house.daemon.call("RemoveInterpreter", path=path)
    return one(house)


def one_added(house):
    labels = none_added(house)
    house.daemon.call("AddInterpreter", path=PYTHON)
    return labels


# --- to be repaired ---

def installed(top):
    """A package as pip leaves it: a script, a .pth and metadata that name the path, and hashes of them."""
    [site] = top.glob("lib/python3*/site-packages")
    info = site / "thing-1.0.dist-info"
    files = {top / "bin/thing": f"#!{top}/bin/python3\nimport thing\n", site / "thing.pth": f"{top}/source\n",
             site / "thing/__init__.py": "", info / "METADATA": "Name: thing\nVersion: 1.0\n",
             info / "direct_url.json": f'{{"url": "file://{top}/source"}}\n'}
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (top / "bin/thing").chmod(0o755)
    (info / "RECORD").touch()
    record(top)


def record(top):
    """Its RECORD, of what is there now."""
    [info] = top.glob("lib/python3*/site-packages/thing-1.0.dist-info")
    rows = []
    for path in (top / "bin/thing", info.parent / "thing.pth", info.parent / "thing/__init__.py", info / "METADATA",
                 info / "direct_url.json"):
        data = path.read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{os.path.relpath(path, info.parent)},sha256={digest},{len(data)}\n")
    (info / "RECORD").write_text("".join(rows) + "thing-1.0.dist-info/RECORD,,\n")


def one_moved(house):
    """All of its files name another path, where nothing is."""
    labels = one(house)
    top, was = house.root / "a", house.top / "was/another/a"
    shutil.rmtree(house.top / "was", ignore_errors=True)
    installed(top)
    for path in [top / "pyvenv.cfg", *top.glob("bin/*"), *top.glob("lib/python3*/site-packages/**/*")]:
        if path.is_file() and not path.is_symlink() and str(top) in (text := path.read_text()):
            path.write_text(text.replace(str(top), str(was)))
    record(top)
    return labels


def one_copied(house):
    """And there it still is."""
    labels = one_moved(house)
    (house.top / "was/another").mkdir(parents=True)
    shutil.copytree(house.root / "a", house.top / "was/another/a", symlinks=True)
    return labels


def one_without_base(house):
    """Its Python has gone."""
    labels = one(house)
    top = house.root / "a"
    for name in ("python3", *(p.name for p in top.glob("bin/python3.*"))):
        (top / "bin" / name).unlink()
        (top / "bin" / name).symlink_to("/gone/bin/python3")
    text = (top / "pyvenv.cfg").read_text()
    (top / "pyvenv.cfg").write_text(text.replace("/usr/bin", "/gone/bin"))
    return labels


# --- by hand, while a daemon looks on ---

def rename_by_hand(house):
    if (house.root / "a").exists():
        (house.root / "a").rename(house.root / "c")
    return "c"


def put_by_hand(house):
    """What another tool has made, there in one moment."""
    if not (house.root / "m").exists():
        shutil.copytree(house.elsewhere / "e", house.root / ".m", symlinks=True)
        (house.root / ".m").rename(house.root / "m")
    return "m"


class Repaired:
    """Of an environment that is repaired in part: each file is wholly the old or the new one, and what is left is told."""

    def __init__(self, operation):
        self.kind = "interpreter" if "interpreter" in operation else "path"
        self.old = self.new = None

    @staticmethod
    def files(house):
        return {name: is_what for name, is_what in tree(house.root / "a").items() if name.partition("/")[0] != ASIDE}

    @staticmethod
    def diagnosis(house):
        return house.daemon.call("Diagnose", name="a").get("diagnosis", {}).get("findings", [])

    def check(self, house, done):
        now, findings = self.files(house), self.diagnosis(house)
        told = {f["kind"] for f in findings if f["repairable"]}
        if now.keys() != self.old.keys() or now.keys() != self.new.keys():
            raise Violation(f"its files: {sorted(now.keys() ^ self.old.keys())}, {sorted(now.keys() ^ self.new.keys())}")
        torn = {name for name in now if now[name] not in (self.old[name], self.new[name])}
        if torn:
            raise Violation(f"neither old nor new: {sorted(torn)}")
        left = sorted(name for name in now if now[name] != self.new[name])
        if left and (done or self.kind not in told):
            raise Violation(f"{'done, but ' if done else ''}{left} are the old ones, and it tells {findings}")
        if not left and self.kind in told:
            raise Violation(f"all is new, and it tells {findings}")
        if (house.root / "a" / ASIDE).exists() != ("remains" in told):
            raise Violation(f"'{ASIDE}' is {'' if (house.root / 'a' / ASIDE).exists() else 'not '}there, told is {findings}")


# --- with pip ---

# What ensurepip does, but of a pip that takes milliseconds: a package, its metadata, its scripts, its bytecode.
SMALL_PIP = r"""
import base64, compileall, hashlib, os, sys, sysconfig
site, scripts = sysconfig.get_path("purelib"), sysconfig.get_path("scripts")
files = {"pip/__init__.py": "__version__ = '1.0'\n", "pip/__main__.py": "print('pip 1.0')\n",
         "pip-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: pip\nVersion: 1.0\n",
         "pip-1.0.dist-info/INSTALLER": "pip\n"}
for name in ("pip", "pip3", "pip%d.%d" % sys.version_info[:2]):
    files[os.path.relpath(os.path.join(scripts, name), site)] = "#!%s\nimport pip.__main__\n" % sys.executable
record = ""
for name, text in files.items():
    path = os.path.join(site, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w") as f:
        f.write(text)
    os.replace(path + ".new", path)
    if os.path.dirname(path) == scripts:
        os.chmod(path, 0o755)
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    record += "%s,sha256=%s,%d\n" % (name, digest, len(text))
with open(os.path.join(site, "pip-1.0.dist-info/RECORD"), "w") as f:
    f.write(record + "pip-1.0.dist-info/RECORD,,\n")
compileall.compile_dir(os.path.join(site, "pip"), quiet=1)
"""


def python_with_small_pip(house):
    exe = house.top / "python" / "bin" / os.path.basename(os.path.realpath(PYTHON))
    return exe if exe.exists() else rebuilt_python(PYTHON, house.top / "python", SMALL_PIP)


SEARCH = {"path": "/usr/bin:/bin"}

OPERATIONS = {
    "create": (nothing, "Create", {"name": "x", "python": PYTHON, "withoutPip": True}),
    "create in place": (nothing, "Create", {"name": "x", "python": PYTHON, "withoutPip": True, "caller": IN_PLACE}),
    "create --path": (nothing_elsewhere, "Create", {"name": "x", "path": "elsewhere/x", "python": PYTHON, "withoutPip": True}),
    "create --clear": (one, "Create", {"name": "a", "python": PYTHON, "withoutPip": True, "clear": True}),
    "create --upgrade": (one, "Create", {"name": "a", "python": PYTHON, "withoutPip": True, "upgrade": True}),
    "create --clear --path": (one_elsewhere, "Create", {"name": "e", "path": "elsewhere/e", "python": PYTHON, "withoutPip": True,
                                                        "clear": True}),
    "recreate": (one, "Recreate", {"name": "a"}),
    "recreate in place": (one, "Recreate", {"name": "a", "caller": IN_PLACE}),
    "recreate, elsewhere": (one_made_elsewhere, "Recreate", {"name": "e"}),
    "delete": (one, "Delete", {"name": "a"}),
    "delete --now": (one, "Delete", {"name": "a", "now": True}),
    "delete, elsewhere": (one_adopted, "Delete", {"name": "e"}),
    "delete --now, elsewhere": (one_adopted, "Delete", {"name": "e", "now": True}),
    "restore": (one_and_trash, "Restore", {"name": "b"}),
    "restore --as": (one_and_trash, "Restore", {"name": "b", "as": "c"}),
    "restore, elsewhere": (one_adopted_in_trash, "Restore", {"name": "e"}),
    "rename": (one, "Rename", {"name": "a", "to": "c"}),
    "rename, elsewhere": (one_adopted, "Rename", {"name": "e", "to": "c"}),
    "clone": (one, "Clone", {"name": "a", "to": "c"}),
    "clone, elsewhere": (one_adopted, "Clone", {"name": "e", "to": "c"}),
    "purge": (one_and_trash, "Delete", {"name": "b", "now": True}),
    "purge, elsewhere": (one_adopted_in_trash, "Delete", {"name": "e", "now": True}),
    "trash empty": (one_and_trash, "EmptyTrash", {}),
    "protect": (one, "Protect", {"name": "a"}),
    "unprotect": (one_protected, "Protect", {"name": "a", "protected": False}),
    "python add": (none_added, "AddInterpreter", {"path": PYTHON}),
    "python remove": (one_added, "RemoveInterpreter", {"path": PYTHON}),
    "adopt": (one_elsewhere, "Adopt", {"name": "e", "path": "elsewhere/e"}),
    "repair": (one_moved, "Repair", {"name": "a", "caller": SEARCH}),
    "repair, a copy": (one_copied, "Repair", {"name": "a", "caller": SEARCH}),
    "repair, its interpreter": (one_without_base, "Repair", {"name": "a", "caller": SEARCH}),
}
# With all that a root needs for its first environment made by the same call.
FIRST = {
    "first create": (nothing, "Create", {"name": "x", "python": PYTHON, "withoutPip": True}),
    "first create, with a small pip": (nothing, "Create", {"name": "x"}),
    "in place, with a small pip": (nothing, "Create", {"name": "x", "caller": IN_PLACE}),
    "first create, with pip": (nothing, "Create", {"name": "x", "python": PYTHON}),
    "in place, with pip": (nothing, "Create", {"name": "x", "python": PYTHON, "caller": IN_PLACE}),
}
# Nobody asks for these: they are done here, and then the name that they return is waited for.
BY_HAND = {
    "renamed by hand": (one, rename_by_hand, {}),
    "put there by hand": (one_elsewhere, put_by_hand, {}),
}
# Ends of the daemon that are operations themselves.
ENDS = {"shutdown --purge": (one_and_trash, "Shutdown", {"purge": True})}
