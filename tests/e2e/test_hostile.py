# SPDX-License-Identifier: MIT
"""Names, prompts and roots that are programs: in bash, dash, zsh, fish and tcsh nothing of them is executed.

Each would make a file of its own, the canary, in the directory where all is done. A name is refused, or never read by a
shell; a prompt and a root that an activation script would execute are refused with one sentence; with all others the
scripts are sourced, the prompt is shown as an interactive shell shows it, and console scripts are run.
"""
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

import wire
from conftest import DEADLINE, VENVCTL, VarlinkError, interpreters

# C is the canary's name.
PAYLOADS = [
    "$(touch C)", "`touch C`", "${x:-$(touch C)}", "${x:-`touch C`}", "$((`touch C`))", "\\$(touch C)", "\\`touch C\\`",
    "\\\\$(touch C)", "'$(touch C)'", "\"$(touch C)\"", "'; touch C; '", "\"; touch C; \"", "; touch C", "| touch C", "& touch C",
    "&& touch C", "|| touch C", "\ntouch C\n", "\rtouch C", ">C", "> C", "<(touch C)", ">(touch C)", "{touch,C}", "!touch C", "!!",
    "!`touch C`", "!{touch C}", "%(touch C)", "%{$(touch C)%}", "%(!.`touch C`.)", "%n%m%s", "~", "~root", "*", "?", "[a]", "-e",
    "--help", "-", "--", "#", "# touch C", "a b", " a", "a ", "$IFS", "${IFS}touch${IFS}C", "$'\\x24(touch C)'", "\\044(touch C)",
    "\\140touch C\\140", "\\x24(touch C)", "\\u0024(touch C)", "(touch C)", "((touch C))", "{ touch C; }", "); touch C; (",
    "]; touch C; [", "'\"'\"'; touch C; '", "\\'; touch C; #", "\\\"; touch C; #", "\\'\"; touch C; #", "'; (touch C) '",
    "\x1b]0;$(touch C)\x07", "\x1b[31m", "\u202e$(touch C)", "__VENV_NAME__", "$PATH", "=ls", "^a^touch C^", "eval touch C", "a'b",
    "a\"b", "it's \"q\"", "$x", "a\\",
]
SHELLS = ["bash", "dash", "zsh", "fish", "tcsh"]
# By feature, as venvd tells them apart: since the end of 2024 activation scripts are quoted (CVE-2024-9287).
PYTHONS = {"quoted": wire.PYTHON, "unquoted": next((str(p) for p in interpreters() if p.name in ("python3.12", "python3.11")
                                                    and "quote_ps1" not in (pathlib.Path(p).parents[1] / "lib" / p.name /
                                                                            "venv/__init__.py").read_text()), None)}


@pytest.fixture
def place():
    """A short path: prompts and names have a bound."""
    with tempfile.TemporaryDirectory(prefix="h") as path:
        for name in ("cwd", "home"):
            os.mkdir(f"{path}/{name}")
        yield pathlib.Path(path)


def canary(text, number):
    return text.replace("touch C", f"touch c{number}").replace(">C", f">c{number}").replace("> C", f"> c{number}") \
               .replace("touch,C", f"touch,c{number}").replace("touch${IFS}C", f"touch${{IFS}}c{number}")


def executed(place, texts):
    """What made its canary."""
    there = {p.name for p in (place / "cwd").iterdir()}
    return {text for number, text in enumerate(texts) if f"c{number}" in there} | {n for n in there if n[1:] and not n[1:].isdigit()}


def environment(root, **more):
    home = next(p for p in root.parents if (p / "cwd").is_dir()) / "home"
    return {"PATH": f"{VENVCTL.parent}:/usr/bin:/bin", "HOME": str(home), "HISTFILE": "/dev/null", "VENVD_ROOT": str(root), "VENVD_AUTOSTART": "0",
            "TERM": "dumb", **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}, **more}


def shell(name, lines, place, env):
    """The lines, as if they were typed: prompts are shown, and so expanded, after each of them."""
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    how = {"bash": ["--norc", "--noprofile", "-i"], "dash": ["-i"], "zsh": ["-f", "-i"], "fish": ["--no-config", "-i"],
           "tcsh": ["-f", "-i"]}[name]
    done = subprocess.run([name, *how], input="".join(line + "\n" for line in lines).encode(errors="surrogateescape"),
                          capture_output=True, cwd=place / "cwd", env=env, timeout=DEADLINE, start_new_session=True)
    return done.stdout + done.stderr


def quoted(path, name):
    """A path as that shell reads it."""
    text = str(path)
    if name == "fish":
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    text = "'" + text.replace("'", "'\\''") + "'"
    return text.replace("!", "\\!") if name == "tcsh" else text


def session(name, env_path, prompts=True):
    """Activates, shows prompts, leaves."""
    if name == "fish":
        script = quoted(f"{env_path}/bin/activate.fish", name)
        return [f"source {script}", "fish_prompt >/dev/null", "echo in:$VIRTUAL_ENV", "deactivate"]
    if name == "tcsh":
        return [f"source {quoted(f'{env_path}/bin/activate.csh', name)}", "echo in:$VIRTUAL_ENV:q", "deactivate"]
    lines = [f". {quoted(f'{env_path}/bin/activate', name)}", "echo in:$VIRTUAL_ENV"]
    if name == "bash":
        lines.append(': "${PS1@P}"')
    if name == "zsh":
        lines += ["print -P -- \"$PS1\" >/dev/null", "setopt PROMPT_SUBST", "print -P -- \"$PS1\" >/dev/null", ":", "unsetopt PROMPT_SUBST"]
    return [*lines, "deactivate"]


@pytest.mark.parametrize("python", PYTHONS)
def test_prompts(place, python):
    if PYTHONS[python] is None:
        pytest.skip("no such Python here")
    root = place / "r"
    made, refused = {}, []
    with wire.running(root) as daemon:
        for number, text in enumerate(PAYLOADS):
            try:
                daemon.call("Create", name=f"e{number}", python=PYTHONS[python], withoutPip=True, prompt=canary(text, number))
                made[number] = text
            except VarlinkError as e:
                assert e.name in ("InvalidParameter", "Unsupported"), e
                assert not (root / f"e{number}").exists()
                refused.append(text)
        bad = {}
        for name in SHELLS:
            lines = [line for number in made for line in session(name, root / f"e{number}")]
            said = shell(name, lines, place, environment(root))
            assert said.count(b"in:") >= len(made) // 2, said[-2000:]
            for text in executed(place, PAYLOADS):
                bad.setdefault(text, []).append(name)
            for path in (place / "cwd").iterdir():
                path.unlink()
    
    assert bad == {}


def all_shells(place, env, lines_of, texts, least):
    """In every shell: what makes its canary, and that at least so many were really activated."""
    bad = {}
    for name in SHELLS:
        said = shell(name, lines_of(name), place, env)
        assert said.count(b"in:/") >= least, (name, said[-3000:])
        for text in executed(place, texts):
            bad.setdefault(text, []).append(name)
        for path in (place / "cwd").iterdir():
            path.unlink()
    assert bad == {}


@pytest.mark.parametrize("python", PYTHONS)
def test_paths(place, python):
    """The path of an environment is in its scripts; --path brings any. What is not refused can be activated everywhere."""
    if PYTHONS[python] is None:
        pytest.skip("no such Python here")
    texts = [t for t in PAYLOADS if "/" not in t and t not in ("~", "-", "--", "*", "?", "a ", " a", "!!", "~root")][::1 if python == "quoted" else 2]
    made, refused = [], []
    with wire.running(place / "r") as daemon:
        for number, text in enumerate(texts):
            path = place / canary(text, number) / "env"
            try:
                daemon.call("Create", name=f"e{number}", python=PYTHONS[python], withoutPip=True, path=str(path))
                made.append(path)
            except VarlinkError as e:
                assert "PATH separator" in e.parameters["reason"] or "would execute" in e.parameters["reason"], e
                assert not path.parent.exists()
                refused.append(text)
        # In a csh that somebody types into, a '!' stands for an earlier line, quoted or not, and ends what is read.
        made.sort(key=lambda p: "!" in str(p))
        all_shells(place, environment(place / "r"), lambda name: [line for path in made for line in session(name, path)], texts,
                   len(made) // 2)
    assert len(made) >= len(texts) // 3, refused


def test_a_directory_that_would_be_the_prompt(place):
    """'--prompt .' and an environment without a prompt elsewhere take a directory's name."""
    with wire.running(place / "r") as daemon:
        for text in ("$(touch c0)", "`touch c0`", "a\\"):
            directory = place / text
            directory.mkdir()
            for options in ({"name": "a", "prompt": ".", "caller": {"cwd": str(directory)}}, {"name": "a", "path": str(directory)}):
                with pytest.raises(VarlinkError) as refused:
                    daemon.call("Create", python=wire.PYTHON, withoutPip=True, **options)
                assert refused.value.name == "Unsupported" and repr(text)[1:-1].replace("\\\\", "\\") in refused.value.parameters["reason"]
            assert list(directory.iterdir()) == [] and not (place / "r/a").exists()
            done = subprocess.run([VENVCTL, "create", "a", "-p", wire.PYTHON, "--prompt", text], capture_output=True, text=True,
                                  env=environment(place / "r"), timeout=DEADLINE)
            assert done.returncode == 1 and "would execute" in done.stderr and "hint:" not in done.stderr


ROOTS = ["$(touch c0)", "`touch c0`", "'; touch c0; '", "\"; touch c0; \"", "; touch c0", "a b", "!touch c0", "%n ~ *", "-e", "\\'; touch c0; #",
         os.fsdecode(b"\xff;touch c0"), "\x1b[31m", "a\ntouch c0\nb", "(touch c0)"]


@pytest.mark.parametrize("number", range(len(ROOTS)))
def test_roots(place, number):
    """All that venvctl offers a shell, in a root with such a name: activate, run, path, prompt, scripts."""
    root = place / ROOTS[number]
    with wire.running(root) as daemon:
        wire.fake_environment(root, "adopted", prompt="$(touch c0)`touch c0`\\$(touch c0)%(!.`touch c0`.)")
        try:
            daemon.call("Create", name="a", python=wire.PYTHON, withoutPip=True)
            made = True
            script = root / "a/bin/a-script"
            script.write_text(f"#!{wire.PYTHON}\nprint('in:/script')\n")
            script.chmod(0o755)
        except VarlinkError as e:
            made = False
            assert e.name in ("Unsupported", "Failed", "InterpreterFailed") and not (root / "a").exists(), e
        env = environment(root, VIRTUAL_ENV=str(root / "adopted"), **({"VENVD_ROOT": os.fspath(root)}))

        def lines(name):
            name_of = "a" if made else "adopted"
            activate = {"fish": f"venvctl activate {name_of} | source", "tcsh": f"eval `venvctl activate {name_of}:q`"}
            activate["tcsh"] = f"venvctl activate {name_of} > ../line; source ../line"
            shown = {"fish": "function fish_prompt; venvctl prompt; end; fish_prompt", "tcsh": "set prompt = \"`venvctl prompt`\""}
            return [shown.get(name, "PS1='$(venvctl prompt) '"), *(["setopt PROMPT_SUBST", "print -P -- \"$PS1\""] if name == "zsh" else []), ":",
                    f"venvctl run {name_of} echo in:/run", f"venvctl path {name_of}", "venvctl list", "venvctl prompt adopted",
                    *(["venvctl run a a-script", activate.get(name, f'eval "$(venvctl activate {name_of})"'), "a-script", "deactivate"] if made else [])]

        # fish gives an invalid byte on as another character; csh looks for what a '!' may mean, and gives up.
        all_shells(place, env, lines, [""], 0 if number in (6, 10) else 1 + made)


NAMES = [p for p in PAYLOADS if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", p)]


@pytest.mark.slow
def test_names(place):
    """No environment is called so; whoever tries, or has such a directory in the root, executes nothing."""
    root = place / "r"
    with wire.running(root) as daemon:
        for number, text in enumerate(NAMES):
            if text not in ("-", "--", "-e", "--help"):
                (root / canary(text, number)).mkdir(exist_ok=True)
                shutil.copytree(wire.fake_environment(place, f"fake{number}"), root / canary(text, number), symlinks=True, dirs_exist_ok=True)
            with pytest.raises(VarlinkError) as refused:
                daemon.call("Create", name=canary(text, number), python=wire.PYTHON)
            assert refused.value.name == "InvalidName"

        def of_one(name, number, text):
            word = f" -- {quoted(canary(text, number).translate({10: ' ', 13: ' '}), name)}"
            activate = {"fish": f"venvctl activate{word} | source", "tcsh": f"venvctl activate{word} > ../line; source ../line"}
            return [f"venvctl path{word}", f"venvctl prompt{word}", f"venvctl run{word} true",
                    activate.get(name, f'(eval "$(venvctl activate{word})")')]

        for name in SHELLS:
            each = [of_one(name, number, text) for number, text in enumerate(NAMES)]
            # csh reads nothing more after an error.
            for lines in each if name == "tcsh" else [list(itertools.chain(*each))]:
                shell(name, [*lines, "venvctl list"], place, environment(root))
            assert executed(place, NAMES) == set(), name


@pytest.mark.slow
def test_console_scripts_of_a_hostile_path(place):
    """pip's own, with the interpreter's path in their first lines, between double quotes where it has a blank."""
    with wire.running(place / "r") as daemon:
        for text in ("a $(touch c0)", "a `touch c0`", "a\" touch c0 \"", "a ${x:=`touch c0`}"):
            with pytest.raises(VarlinkError) as refused:
                daemon.call("Create", name="e", python=wire.PYTHON, path=str(place / text / "env"))
            assert "would execute a part of the path" in refused.value.parameters["reason"] and not (place / text).exists()
        path = place / "a '; touch c0; ' (touch c0) & touch c0 #"
        daemon.call("Create", name="e", python=wire.PYTHON, path=str(path / "env"))
        for name in SHELLS:
            lines = [*session(name, path / "env")[:-1], "pip --version", "pip3 --version", f"{quoted(path / 'env/bin/pip', name)} --version"]
            said = shell(name, lines, place, environment(place / "r"))
            assert said.count(b"pip 2") >= 3, said
        assert executed(place, [""]) == set()


@pytest.mark.parametrize("directory", ["e\tx", "a" * 100 + "&c0&b", "a" * 100 + "|c0", "a" * 100 + ">c0", "a" * 100 + ";c0"])
def test_paths_that_a_first_line_cannot_hold(place, directory):
    """It ends at a tab; and of one that is too long a shell is the reader, to which pip gives it without quotes."""
    with wire.running(place / "r") as daemon:
        for name, path in (("e", place / directory / "env"), ("f", place / directory)):
            with pytest.raises(VarlinkError) as refused:
                daemon.call("Create", name=name, python=wire.PYTHON, path=str(path))
            assert "would execute a part of the path" in refused.value.parameters["reason"] and not (place / directory).exists()
        if "&" in directory:
            short = place / directory.lstrip("a") / "env"
            daemon.call("Create", name="g", python=wire.PYTHON, path=str(short))
            assert b"pip 2" in shell("bash", [f"{quoted(short / 'bin/pip', 'bash')} --version"], place, environment(place / "r"))
