# SPDX-License-Identifier: MIT
"""The cases: axes of options, prompts, paths, umasks, spellings of the interpreter, and refusals.

A case says how both sides are called, in a place that is made anew for each side. Cases in the root are
made by claim where the daemon can; those elsewhere (--path) are the interpreter's own work, and are held to it all
the same.
"""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

NO_PIP = "--without-pip"


@dataclass
class Case:
    axis: str
    label: str
    args: list = field(default_factory=list)  # venv's own; venvctl knows the same
    root: str = "root"  # a key of ROOTS: the case is the environment NAME below it
    place: object = None  # or elsewhere: (directory, spelling) -> what --path is given
    prepare: object = None  # elsewhere: what is there before either side comes
    umask: int = 0o022
    spelling: str = "itself"  # a key of SPELLINGS
    env: dict = field(default_factory=dict)
    times: int = 1  # made so often from one A: the first has to make an image
    short: bool = False  # also in 'make check'
    since: tuple = (3, 3)  # versions for which it means something
    refused: str = ""  # what venvd alone refuses, on purpose: words of what it says

    @property
    def pip(self):
        return NO_PIP not in self.args

    def __str__(self):
        words = [self.axis, self.label, *(["with pip"] if self.pip and self.axis != "refusals" else [])]
        return ": ".join(words[:2]) + "".join(", " + w for w in words[2:])


def sized(length):
    """A root so long that the environment's own python has a path of just so many bytes."""

    def make(scratch, exe_name, name):
        pad = length - len(os.fsencode(scratch)) - len(f"//{name}/bin/{exe_name}")
        parts = []
        while pad > 200:
            parts.append("x" * 120)
            pad -= 121
        return Path(scratch, *parts, "x" * pad)

    return make


def named(directory):
    return lambda scratch, exe_name, name: Path(scratch, directory)


def through_a_link(scratch, exe_name, name):
    (Path(scratch) / "real").mkdir(exist_ok=True)
    link = Path(scratch) / "link"
    if not link.is_symlink():
        link.symlink_to("real")
    return link / "root"


ROOTS = {
    "root": named("r"),
    "space": named("with space"),
    "quotes": named("it's $V ! {}"),
    "not ASCII": named("na\u00efve \u65e5\u672c \U0001f40d"),
    "__VENV_PROMPT__": named("__VENV_PROMPT__ __VENV_DIR__ __VENV_NAME__"),
    "%s": named("%s{0}%(a)s#&;"),
    "python of 124 bytes": sized(124),
    "python of 125 bytes": sized(125),
    "python of 128 bytes": sized(128),
    "python of 270 bytes": sized(270),
    "through a link": through_a_link,
    "a colon": named("co:lon"),
}


def itself(python, scratch, env):
    return str(python), env


def other_link(python, scratch, env):
    """The name without the minor version, where that is the same file."""
    short = Path(python).with_name("python3")
    return (str(short), env) if short.exists() and short.resolve() == Path(python).resolve() else None


def link_of_ones_own(python, scratch, env):
    link = Path(scratch) / "bin" / "my python3"
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(python)
    return str(link), env


def inside(kind, *options):
    """None where its own venv module cannot make the outer one: Debian's PyPy fails at --copies."""

    def spell(python, scratch, env):
        outer = Path(scratch) / kind
        if not outer.exists():
            subprocess.run([str(python), "-m", "venv", NO_PIP, *options, str(outer)], check=False, env=env)
        exe = outer / "bin" / "python"
        works = subprocess.run([str(exe), "-c", ""], check=False, env=env).returncode == 0 if exe.exists() else False
        return (str(exe), env) if works else None

    return spell


def on_path(python, scratch, env):
    directory = os.path.dirname(python)
    return os.path.basename(python), {**env, "PATH": f"{directory}:{env['PATH']}"}


def default(python, scratch, env):
    """No interpreter is named: the first python3 of PATH."""
    return (
        ("", {**env, "PATH": f"{os.path.dirname(python)}:{env['PATH']}"}) if other_link(python, scratch, env) else None
    )


def shim(python, scratch, env):
    root = Path(env["PYENV_ROOT"])
    version = Path(python).parent.parent
    path = root / "shims" / os.path.basename(python)
    if version.parent != root / "versions" or not path.exists():
        return None
    return str(path), {**env, "PYENV_VERSION": version.name}


SPELLINGS = {
    "itself": itself,
    "python3 beside it": other_link,
    "a link of one's own": link_of_ones_own,
    "inside an environment": inside("outer"),
    "inside one of copies": inside("outer copies", "--copies"),
    "a name on PATH": on_path,
    "none, the first on PATH": default,
    "a shim": shim,
}

PROMPTS = ["X", "it's $V ! %s", "na\u00efve \u2603 \U0001f40d", ".", "", "__VENV_NAME__", "\u202e\u00a0\u00ad"]
# A prompt is one line, and goes onto terminals; and no shell shall execute a part of it.
NO_PROMPTS = ["a\nb", "a\tb", "\x1b[31m", "\x7f"]
EXECUTED_PROMPTS = ["`x`", "$(x)", "${x}", "a\\"]


# --- what is there before ---


def junk(place, python, env):
    target = place / "env"
    (target / "old" / "deep").mkdir(parents=True)
    (target / "old" / "file").write_text("junk")
    (target / "pyvenv.cfg").write_text("home = /nowhere\n")
    (target / "link").symlink_to("/nonexistent")


def an_environment(place, python, env):
    subprocess.run([str(python), "-m", "venv", NO_PIP, str(place / "env")], check=True, env=env)


def one_with_more(place, python, env):
    an_environment(place, python, env)
    (place / "env" / "bin" / "mine").write_text("mine")
    (place / "env" / "bin" / "activate").write_text("changed\n")


def an_empty_directory(place, python, env):
    (place / "env").mkdir(mode=0o700)


def a_link_above(place, python, env):
    (place / "real").mkdir()
    (place / "link").symlink_to("real")


def a_file(place, python, env):
    (place / "env").write_text("a file\n")


def a_link(place, python, env):
    (place / "real").mkdir()
    (place / "env").symlink_to("real")


def a_dangling_link(place, python, env):
    (place / "env").symlink_to("nowhere")


def a_file_above(place, python, env):
    (place / "up").write_text("a file\n")


def at(spelling):
    """`spelling` below the case's own directory; a relative one is relative to it."""
    return lambda place: spelling.replace("PLACE", str(place))


HERE = at("PLACE/env")


def cases():
    all_of_them = [
        Case("options", "none", times=3, short=True),
        Case("options", "none", [NO_PIP], times=2, short=True),
        Case("options", "--system-site-packages", [NO_PIP, "--system-site-packages"], short=True),
        Case("options", "--system-site-packages", ["--system-site-packages"]),
        Case("options", "--copies", [NO_PIP, "--copies"], short=True),
        Case("options", "--copies", ["--copies"], times=2),
        Case("options", "--symlinks", [NO_PIP, "--symlinks"]),
        Case("options", "--without-scm-ignore-files", [NO_PIP, "--without-scm-ignore-files"], short=True),
        Case("options", "all of them", ["--copies", "--system-site-packages", "--prompt", "P"]),
        Case(
            "options",
            "--upgrade-deps",
            ["--upgrade-deps"],
            env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "WHEELS"},
            since=(3, 9),
        ),
        *(
            Case("prompts", repr(prompt), [NO_PIP, "--prompt", prompt], short=prompt in PROMPTS[1:5])
            for prompt in PROMPTS
        ),
        *(
            Case(
                "prompts",
                repr(prompt),
                [NO_PIP, "--prompt", prompt],
                refused="does not take this value of 'prompt'",
                short=prompt == "a\nb",
            )
            for prompt in NO_PROMPTS
        ),
        *(
            Case(
                "prompts",
                repr(prompt),
                [NO_PIP, "--prompt", prompt],
                refused="a shell would execute a part of the prompt",
                short=prompt == "`x`",
            )
            for prompt in EXECUTED_PROMPTS
        ),
        *(
            Case("paths", root, [NO_PIP], root, short=root in ("quotes", "not ASCII", "__VENV_PROMPT__"))
            for root in ROOTS
            if root not in ("root", "a colon")
        ),
        *(
            Case("paths", root, [], root)
            for root in ("not ASCII", "python of 124 bytes", "python of 125 bytes", "python of 270 bytes")
        ),
        *(
            Case("umasks", f"{umask:03o}", [NO_PIP], umask=umask, short=umask == 0o077)
            for umask in (0o002, 0o027, 0o077, 0)
        ),
        *(Case("umasks", f"{umask:03o}", [], umask=umask) for umask in (0o002, 0o077)),
        *(
            Case("spellings", spelling, [NO_PIP], spelling=spelling, short=number in (2, 3, 6))
            for number, spelling in enumerate(SPELLINGS)
            if spelling != "itself"
        ),
        Case("spellings", "a link of one's own", [], spelling="a link of one's own"),
        Case("variables", "SOURCE_DATE_EPOCH", env={"SOURCE_DATE_EPOCH": "1600000000"}),
        Case("variables", "PYTHONOPTIMIZE", env={"PYTHONOPTIMIZE": "1"}),
        Case("variables", "PYTHONPYCACHEPREFIX", env={"PYTHONPYCACHEPREFIX": "CACHE"}),
        Case("elsewhere", "a new directory", [NO_PIP], place=HERE, short=True),
        Case("elsewhere", "a new directory", [], place=HERE),
        Case("elsewhere", "missing parents", [NO_PIP], place=at("PLACE/up/down/env")),
        Case("elsewhere", "relative", [NO_PIP], place=at("up/../env")),
        Case("elsewhere", "a slash at the end", [NO_PIP], place=at("PLACE/env/")),
        Case("elsewhere", "through a link", [NO_PIP], place=at("PLACE/link/env"), prepare=a_link_above),
        Case("elsewhere", "an empty directory", [NO_PIP], place=HERE, prepare=an_empty_directory),
        Case("elsewhere", "what is there stays", [NO_PIP], place=HERE, prepare=junk),
        Case("elsewhere", "an environment again", [NO_PIP], place=HERE, prepare=one_with_more),
        Case("elsewhere", "--clear", [NO_PIP, "--clear"], place=HERE, prepare=junk, short=True),
        Case("elsewhere", "--clear of nothing", [NO_PIP, "--clear"], place=HERE),
        Case("elsewhere", "--upgrade", [NO_PIP, "--upgrade"], place=HERE, prepare=one_with_more, short=True),
        Case("elsewhere", "not ASCII", [NO_PIP], place=at("PLACE/na\u00efve ' \u65e5")),
        Case("refusals", "a colon in the path", [NO_PIP], "a colon"),
        Case("refusals", "a colon elsewhere", [NO_PIP], place=at("PLACE/co:lon"), short=True),
        Case("refusals", "a file is there", [NO_PIP], place=HERE, prepare=a_file, short=True),
        Case("refusals", "a link is there", [NO_PIP], place=HERE, prepare=a_link),
        Case("refusals", "a dangling link is there", [NO_PIP], place=HERE, prepare=a_dangling_link),
        Case("refusals", "a file above", [NO_PIP], place=at("PLACE/up/env"), prepare=a_file_above),
        Case(
            "refusals",
            "--clear with --upgrade",
            [NO_PIP, "--clear", "--upgrade"],
            place=HERE,
            prepare=an_environment,
            short=True,
        ),
    ]
    # Environments of one root share its daemon and its images.
    return sorted(all_of_them, key=lambda case: list(ROOTS).index(case.root))
