# SPDX-License-Identifier: MIT
"""What an environment must be good for once it is there: pip, a wheel, an upgrade, four shells.

Everything is offline. Each check is a function of a Subject; it raises Wrong with what was seen, and may return a
remark.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

WHO = """
import json, os, sys
print(json.dumps([sys.prefix, sys.base_prefix, getattr(sys, "_base_executable", None), sys.executable,
                  sys.path, os.path.dirname(os.__file__)]))
"""
MODULE = "import sys\ndef main():\n    print('probe of', sys.prefix)\n"
POSIX = """
before=$PATH
. "$1/bin/activate"
[ "$VIRTUAL_ENV" = "$1" ] || { echo "VIRTUAL_ENV is $VIRTUAL_ENV"; exit 3; }
case $PATH in "$1/bin:"*) ;; *) echo "PATH is $PATH"; exit 4 ;; esac
[ "$(command -v python)" = "$1/bin/python" ] || { echo "python is $(command -v python)"; exit 5; }
deactivate
[ "$PATH" = "$before" ] || { echo "PATH stays $PATH"; exit 6; }
[ -z "${VIRTUAL_ENV+set}" ] || { echo "VIRTUAL_ENV stays"; exit 7; }
"""
FISH = """
set before $PATH
source $argv[1]/bin/activate.fish
test "$VIRTUAL_ENV" = $argv[1]; or begin; echo "VIRTUAL_ENV is $VIRTUAL_ENV"; exit 3; end
test $PATH[1] = $argv[1]/bin; or begin; echo "PATH is $PATH"; exit 4; end
test (command -v python) = $argv[1]/bin/python; or exit 5
deactivate
test (string join : $PATH) = (string join : $before); or begin; echo "PATH stays $PATH"; exit 6; end
set -q VIRTUAL_ENV; and begin; echo "VIRTUAL_ENV stays"; exit 7; end
exit 0
"""


class Wrong(Exception):
    """A check has failed; its text says what was seen."""


class Subject:
    """The environment `path`, made by venvd with `python`; `scratch` is the checks' own."""

    def __init__(self, path, python, env, scratch):
        self.path, self.python, self.env, self.scratch = Path(path), python, env, Path(scratch)
        self.exe = str(self.path / "bin" / "python")

    def run(self, *command, env=None):
        done = subprocess.run(
            list(map(str, command)),
            env={**self.env, **(env or {})},
            cwd=self.scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            shown = " ".join(str(word) for word in command if "\n" not in str(word))
            raise Wrong(f"{shown[-160:]}: exit {done.returncode}: {(done.stderr + done.stdout).strip()[-300:]}")
        return done.stdout

    def pip(self, *arguments):
        return self.run(self.exe, "-m", "pip", "--disable-pip-version-check", *arguments, env={"PIP_NO_INPUT": "1"})

    def pip_version(self):
        return self.pip("--version").split()[1]


def who(exe, env):
    """What an environment's Python knows of itself, to be compared with that of another at the same path."""
    if not os.path.exists(exe):
        return "is not there"
    done = subprocess.run([exe, "-c", WHO], env=env, cwd="/", capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else f"exit {done.returncode}: {done.stderr[-200:]}"


def wheel(directory):
    """A wheel with a module and a script, made by hand: nothing is fetched."""
    path = directory / "conformance_probe-1.0-py3-none-any.whl"
    info = "conformance_probe-1.0.dist-info"
    files = {
        "conformance_probe.py": MODULE,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: conformance-probe\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by-hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nconformance-probe = conformance_probe:main\n",
    }
    rows = []
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            data = text.encode()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            archive.writestr(name, data)
            rows.append(f"{name},sha256={digest},{len(data)}")
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,", ""]))
    return path


def pip_wheels(subject):
    """Where the interpreter keeps the pip that ensurepip installs."""
    text = (
        "import ensurepip, os, sysconfig; "
        "print(sysconfig.get_config_var('WHEEL_PKG_DIR') or ''); "
        "print(os.path.join(os.path.dirname(ensurepip.__file__), '_bundled')); print('/usr/share/python-wheels')"
    )
    for line in subject.run(subject.python, "-c", text).splitlines():
        if line and list(Path(line).glob("pip-*.whl")):
            return line
    raise Wrong("no wheel of pip is where ensurepip looks")


def check_pip(subject):
    subject.pip("check")


def check_wheel(subject):
    subject.pip("install", "--no-index", "--no-deps", wheel(subject.scratch))
    said = subject.run(subject.path / "bin" / "conformance-probe")
    if said != f"probe of {subject.path}\n":
        raise Wrong(f"the script of an installed wheel says {said!r}")
    subject.pip("uninstall", "-y", "conformance-probe")


def check_pip_upgrade(subject):
    before = subject.pip_version()
    subject.pip("install", "--upgrade", "--force-reinstall", "--no-index", "--find-links", pip_wheels(subject), "pip")
    if not re.fullmatch(r"[\d.]+", subject.pip_version()):
        raise Wrong(f"pip, which was {before}, is {subject.pip_version()}")
    subject.pip("check")


def check_venv_upgrade(subject):
    before = subject.pip_version()
    subject.run(subject.python, "-m", "venv", "--upgrade", subject.path)
    if subject.pip_version() != before:
        raise Wrong(f"pip was {before} and is {subject.pip_version()}")
    subject.pip("check")


def check_shells(subject):
    remarks = []
    for shell in ("bash", "dash", "zsh", "fish"):
        if shutil.which(shell) is None:
            remarks.append(f"no {shell}")
            continue
        if shell == "fish":
            subject.run(shell, "--no-config", "-c", FISH, subject.path)
            continue
        quiet = ["-f"] if shell == "zsh" else []
        try:
            subject.run(shell, *quiet, "-c", "set -eu\n" + POSIX, shell, subject.path)
        except Wrong as wrong:
            # The script is CPython's own, and was found to be so: old ones cannot bear 'set -u'.
            if "unbound" not in str(wrong) and "parameter not set" not in str(wrong):
                raise
            subject.run(shell, *quiet, "-c", "set -e\n" + POSIX, shell, subject.path)
            remarks.append(f"{shell} without -u")
    return ", ".join(remarks)


CHECKS = {
    "pip check": check_pip,
    "activation": check_shells,
    "a local wheel": check_wheel,
    "pip install --upgrade pip": check_pip_upgrade,
    "venv --upgrade": check_venv_upgrade,
}


def base_environment(home):
    """What a case's processes get, ours and the interpreter's alike."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    kept = {k: os.environ[k] for k in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS") if k in os.environ}
    pyenv = os.environ.get("PYENV_ROOT", str(Path(os.environ.get("HOME", "/")) / ".pyenv"))
    return {**kept, "PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "PYENV_ROOT": pyenv, "NO_COLOR": "1"}
