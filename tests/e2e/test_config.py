# SPDX-License-Identifier: MIT
"""venvd.conf: where it is looked for, what wins over what, and each way in which one can be wrong."""
import os
import pathlib
import re
import subprocess
import threading

import pytest

from conftest import DEADLINE, TOP, VENVD
from helpers import needs_root

BOUNDS = {k: v for k, v in re.findall(r"#define (LIMIT_\w+)\s+\(?(\d+(?: \* \d+)*)\)?", (TOP / "proto/bounds.h").read_text())}
LARGEST = eval(BOUNDS["LIMIT_CONFIG_BYTES"])  # noqa: S307
MOST_DIRECTORIES = int(BOUNDS["LIMIT_CONFIG_DIRECTORIES"])
KEYS = {"connections", "first_byte_timeout", "frame_timeout", "idle_timeout", "stall_timeout", "create_timeout",
        "probe_timeout", "jobs_running", "jobs_queued", "trash_retention", "pool_entries", "pool_initial", "pool_mib",
        "image_retention", "link_mode", "python_directories", "python_preference"}


def run(*arguments, env=None, **kwargs):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("VENVD_", "XDG_"))}
    return subprocess.run([str(VENVD), *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE,
                          env={**environment, "VENVD_CONFIG": "/dev/null", **(env or {})}, errors="surrogateescape", **kwargs)


@pytest.fixture
def conf(tmp_path):
    """conf(text) -> the path of a venvd.conf with it."""
    path = tmp_path / "venvd.conf"

    def write(text):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def values(*arguments, **kwargs):
    """key -> (value, where it came from), as --print-config says."""
    done = run("--print-config", *arguments, **kwargs)
    assert done.returncode == 0 and done.stderr == "", done
    found, last = {}, None
    for line in done.stdout.splitlines():
        if line.startswith("    "):
            found[last] = (f"{found[last][0]}:{line.strip()}", found[last][1])
        else:
            last, value, origin = re.fullmatch(r"(\w+) += (.*?) +; (.+)", line).groups()
            found[last] = (value.strip(), origin)
    return found


def refusal(*arguments, **kwargs):
    """What --check-config says of something wrong."""
    done = run("--check-config", *arguments, **kwargs)
    assert done.returncode == 1 and done.stdout == "", done
    return done.stderr


# --- what it says ---

def test_every_key_and_where_it_is_from():
    found = values()
    assert set(found) == KEYS
    assert {origin for _, origin in found.values()} == {"default"}
    assert found["link_mode"][0] == "auto" and found["python_directories"][0] == "" and found["python_preference"][0] == "path"


def test_both_manual_pages_know_every_key():
    page = (TOP / "daemon/venvd.conf.5").read_text()
    assert KEYS == set(re.findall(r"^\.It Cm (\w+)", page, re.M)) & KEYS
    table = (TOP / "daemon/venvd.8").read_text()
    assert {k.replace("_", "-") for k in KEYS} <= set(re.findall(r"^\.It Cm ([\w-]+) Ta", table, re.M))


def test_every_key_can_be_set(conf):
    numbers = sorted(KEYS - {"link_mode", "python_directories", "python_preference"})
    text = "".join(f"{key} = {10 if key == 'jobs_running' else 1000}\n" for key in numbers)
    path = conf(text + "link_mode = hardlink\npython_directories = /opt/a:/opt//b/../c\npython_preference = managed\n")
    found = values("--config", path)
    for number, key in enumerate(numbers, 1):
        assert found[key] == ("10" if key == "jobs_running" else "1000", f"{path}:{number}")
    assert found["link_mode"][0] == "hardlink" and found["python_preference"][0] == "managed"
    assert found["python_directories"][0] == "/opt/a:/opt/c"
    assert run("--check-config", "--config", path).stdout == "ok\n"


def test_what_is_printed_can_be_read_again(conf, tmp_path):
    directories = ":".join(f"/opt/{'d' * 60}{n}" for n in range(9))
    path = conf("connections = 77\npython_directories =\n" + "".join(f"  {d}\n" for d in directories.split(":")))
    again = tmp_path / "again.conf"
    again.write_text(run("--print-config", "--config", path).stdout)
    first, second = values("--config", path), values("--config", again)
    assert {k: v[0] for k, v in first.items()} == {k: v[0] for k, v in second.items()}
    assert second["python_directories"][0] == directories and second["connections"][1].startswith(str(again))


@pytest.mark.parametrize("text", [
    "", "\n\n", "; a comment\n# another\n", "[venvd]\nconnections=9\n", "connections = 9 ; nine\n", "connections : 9\n",
    "connections = 9\r\n[venvd]\r\nlink_mode=copy\r\n", "\N{BYTE ORDER MARK}connections = 9\n", "  connections = 9\n",
    "connections = 9", "link-mode = copy\n", "python_directories =\n", f"# {'long ' * 100}\nconnections = 9\n"])
def test_what_is_right(conf, text):
    path = conf(text)
    assert run("--check-config", "--config", path).stdout == "ok\n"
    if "connections" in text:
        assert values("--config", path)["connections"][0] == "9"


# --- what wins ---

def test_the_users_file_and_xdg_config_home(tmp_path):
    home, other = tmp_path / "home", tmp_path / "other"
    for directory, number in ((home / ".config", 11), (other, 12)):
        (directory / "venvd").mkdir(parents=True)
        (directory / "venvd/venvd.conf").write_text(f"connections = {number}\n")
    env = {"HOME": str(home), "VENVD_CONFIG": ""}
    assert values(env=env)["connections"] == ("11", f"{home}/.config/venvd/venvd.conf:1")
    assert values(env={**env, "XDG_CONFIG_HOME": str(other)})["connections"] == ("12", f"{other}/venvd/venvd.conf:1")
    assert values(env={**env, "XDG_CONFIG_HOME": "relative"})["connections"][0] == "11"
    assert values(env={**env, "XDG_CONFIG_HOME": str(tmp_path / "none")})["connections"] == ("128", "default")
    (home / ".config/venvd/venvd.conf").write_text("conections = 11\n")
    assert refusal(env=env).startswith(f"error: {home}/.config/venvd/venvd.conf:1: unknown key 'conections'\n")


@needs_root
def test_the_users_file_is_over_the_systems(tmp_path):
    system, user = tmp_path / "etc", tmp_path / "user" / "venvd"
    system.mkdir()
    user.mkdir(parents=True)
    (system / "venvd.conf").write_text("connections = 11\nlink_mode = copy\npython_directories = /a\n")
    (user / "venvd.conf").write_text("connections = 12\npython_directories = /b\n")
    script = (f"mount -t tmpfs none /etc && ln -s {system} /etc/venvd && "
              f"exec {VENVD} -o idle-timeout=5000 --print-config")
    env = {k: v for k, v in os.environ.items() if k != "VENVD_CONFIG"}
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=DEADLINE,
                          env={**env, "HOME": "/nonexistent", "XDG_CONFIG_HOME": str(user.parent)})
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("cannot mount here")
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert lines["connections"][2] == "12" and lines["connections"][4] == f"{user}/venvd.conf:1"
    assert lines["link_mode"][2] == "copy" and lines["link_mode"][4] == "/etc/venvd/venvd.conf:2"
    assert lines["python_directories"][2] == "/b"
    assert lines["idle_timeout"][2] == "5000" and lines["idle_timeout"][4] == "-o"


def test_options_and_the_environment_are_over_files(conf):
    path = conf("connections = 11\npool_entries = 9\nlink_mode = copy\n")
    found = values("--config", path, "-o", "connections=12", "-o", "connections=13", "-o", "link_mode=reflink")
    assert found["connections"] == ("13", "-o") and found["link_mode"] == ("reflink", "-o")
    assert found["pool_entries"] == ("9", f"{path}:2")
    env = {"VENVD_CONFIG": str(path), "VENVD_POOL": "0"}
    assert values(env=env)["pool_entries"] == ("0", "$VENVD_POOL")
    assert values("-o", "pool-entries=5", env=env)["pool_entries"] == ("5", "-o")
    assert values(env={**env, "VENVD_POOL": "1"})["pool_entries"][0] == "9"


def test_config_replaces_both_and_is_over_the_variable(conf, tmp_path):
    (tmp_path / "home/.config/venvd").mkdir(parents=True)
    (tmp_path / "home/.config/venvd/venvd.conf").write_text("this is no configuration\n")
    other = tmp_path / "other.conf"
    other.write_text("connections = 3\n")
    env = {"HOME": str(tmp_path / "home"), "VENVD_CONFIG": str(conf("connections = 4\n"))}
    assert values(env=env)["connections"][0] == "4"
    assert values("--config", other, env=env)["connections"][0] == "3"
    assert values("--config", "other.conf", env=env, cwd=tmp_path)["connections"] == ("3", f"{other}:1")
    assert values(env={**env, "VENVD_CONFIG": "/dev/null"})["connections"] == ("128", "default")


# --- what is wrong ---

WRONG = {
    "unknown key": ("link_mode = copy\n\nlink_mod = copy\n", 3, "unknown key 'link_mod'", "did you mean 'link_mode'?"),
    "unknown key, nothing close": ("colour = blue\n", 1, "unknown key 'colour'", "man venvd.conf"),
    "a number too large": ("connections = 4097\n", 1, "'4097' is not a value for 'connections': it takes 1 to 4096", None),
    "no number": ("connections = many\n", 1, "'many' is not a value for 'connections'", None),
    "half a number": ("connections = 5 # five\n", 1, "'5 # five' is not a value for 'connections'", None),
    "no value": ("connections =\n", 1, "'' is not a value for 'connections'", None),
    "a mode": ("link_mode = symlink\n", 1, "it takes one of auto, reflink, hardlink, copy", None),
    "a preference": ("python_preference = system\n", 1, "it takes one of path, managed", None),
    "a relative directory": ("python_directories = /a:b\n", 1, "'b' is not a directory for 'python_directories'", None),
    "an empty directory": ("python_directories = /a::/b\n", 1, "'' is not a directory for 'python_directories'", None),
    "a home directory": ("python_directories = ~/p\n", 1, "'~/p' is not a directory for 'python_directories'", None),
    "no UTF-8": (b"python_directories = /a\xff\n", 1, "absolute paths in UTF-8", None),
    "too many directories": ("python_directories =\n" + "  /a\n" * (MOST_DIRECTORIES + 1), MOST_DIRECTORIES + 2,
                             f"more than {MOST_DIRECTORIES} python_directories", None),
    "no pair": ("connections = 5\nconnections\n", 2, "neither 'key = value' nor '[venvd]'", None),
    "a section that does not end": ("[venvd\nconnections = 5\n", 1, "neither 'key = value' nor '[venvd]'", None),
    "the first of two": ("nonsense\nlink_mod = copy\n", 1, "neither 'key = value' nor '[venvd]'", None),
    "a section": ("[venv]\nconnections = 5\n", 2, "'connections' is in the unknown section [venv]", "keys stand in"),
    "twice": ("connections = 5\n[venvd]\n\nconnections = 5\n", 4, "'connections' is set again, first in line 1", None),
    "twice, spelt otherwise": ("link-mode = copy\nlink_mode = auto\n", 2, "'link_mode' is set again, first in line 1", None),
    "a line that goes on": ("connections = 5\n link_mode = copy\n", 2,
                            "goes on with 'connections', which has one line", "begin the line with its key"),
    "a key below a list": ("python_directories = /a\n link_mode = copy\n", 2, "'link_mode = copy' is not a directory", None),
    "a long line": ("python_directories = /" + "x" * 200 + "\n", 1, "the line has more than", "python_directories goes on"),
    "a long line of junk": ("#\n" + "x" * 5000, 2, "the line has more than", None),
    "a byte order mark in the middle": ("connections = 5\n\N{BYTE ORDER MARK}idle_timeout = 500\n", 2, "a byte order mark", None),
    "NUL": (b"connections = 5\nlink_mode = co\0py\n", 2, "a NUL byte", None),
    "what a terminal would obey": (b"\x1b[31m = 5\n", 1, "unknown key '\\x1b[31m'", None),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_with_its_line(conf, what):
    text, line, sentence, hint = WRONG[what]
    path = conf(text)
    said = refusal("--config", path)
    assert said.startswith(f"error: {path}:{line}: ") and sentence in said.splitlines()[0], said
    assert said.replace("\n", "").isprintable(), said
    if hint:
        assert said.splitlines()[1].startswith("hint: " + hint), said


def test_files_that_cannot_be_read(conf, tmp_path):
    assert refusal("--config", tmp_path / "none") == f"error: {tmp_path}/none: No such file or directory\n"
    assert "No such file" in refusal(env={"VENVD_CONFIG": str(tmp_path / "none")})
    assert refusal("--config", tmp_path) == f"error: {tmp_path}: not a regular file\n"
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in refusal("--config", tmp_path / "fifo")
    assert "not a regular file" in refusal("--config", "/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    assert "symbolic links" in refusal("--config", tmp_path / "loop")
    os.mkdir(tmp_path / "venvd")
    (tmp_path / "venvd/venvd.conf").symlink_to(tmp_path / "nowhere")
    assert run("--check-config", env={"VENVD_CONFIG": "", "XDG_CONFIG_HOME": str(tmp_path)}).returncode == 0


def test_a_file_that_is_too_large(conf):
    line = "# " + "x" * 61 + "\n"
    assert run("--check-config", "--config", conf(line * (LARGEST // 64))).stdout == "ok\n"
    path = conf(line * (LARGEST // 64) + "\n")
    assert refusal("--config", path) == f"error: {path}: larger than {LARGEST} bytes\n"


def test_a_file_that_everybody_can_write(conf):
    path = conf("connections = 5\n")
    path.chmod(0o646)
    assert refusal("--config", path) == f"error: {path}: everybody could change it\nhint: chmod o-w '{path}'\n"
    path.chmod(0o664)
    assert run("--check-config", "--config", path).stdout == "ok\n"


@needs_root
def test_a_file_of_somebody_else(conf):
    path = conf("connections = 5\n")
    os.chown(path, 65534, -1)
    assert "belongs to somebody else" in refusal("--config", path)


@needs_root
def test_a_file_that_may_not_be_read(conf, tmp_path):
    path = conf("connections = 5\n")
    path.chmod(0o600)
    program = tmp_path / "venvd"
    program.write_bytes(VENVD.read_bytes())
    program.chmod(0o755)
    for directory in [tmp_path, *tmp_path.parents]:
        if directory.stat().st_uid == os.geteuid() and not directory.stat().st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o001)
    done = subprocess.run([str(program), "--check-config", "--config", str(path)], capture_output=True, text=True,
                          user=65534, group=65534, extra_groups=[], timeout=DEADLINE, cwd="/",
                          env={"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")})
    assert done.returncode == 1 and done.stderr == f"error: {path}: Permission denied\n"


# --- who hears of it ---

@pytest.fixture
def used(root):
    """A root that has had a daemon, so that a command which only reads starts one."""
    (root / ".venvd").mkdir(parents=True, mode=0o700)
    return root


def test_the_daemon_does_not_start_with_a_wrong_one(conf, root):
    path = conf("connections = 0\n")
    done = run("--config", path, "--root", root)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {path}:1: ")
    assert not root.exists()


def test_a_client_that_starts_a_daemon_shows_it(conf, venvctl, used):
    path = conf("link_mod = copy\n")
    done = venvctl("status", env={"VENVD_CONFIG": path.name}, cwd=path.parent)
    assert done.returncode == 6
    assert f"error: {path}:1: unknown key 'link_mod'" in done.stderr and "hint: did you mean 'link_mode'?" in done.stderr
    path.write_text("connections = 7\n")
    done = venvctl("status", "--json", env={"VENVD_CONFIG": path.name}, cwd=path.parent)
    assert done.returncode == 0 and re.search(r'"connectionsMax": ?7\b', done.stdout), done


def test_a_started_daemon_reads_its_users_own(venvctl, used):
    where = venvctl.home / ".config/venvd"
    where.mkdir(parents=True)
    (where / "venvd.conf").write_text("connections = 9\n")
    done = venvctl("status", "--json", env={"VENVD_CONFIG": ""})
    assert re.search(r'"connectionsMax": ?9\b', done.stdout), done


def test_a_started_daemon_keeps_the_variables(venvctl, used, tmp_path):
    done = venvctl("status", "--json", env={"VENVD_POOL": "0", "XDG_CONFIG_HOME": str(tmp_path), "VENVD_CONFIG": "/dev/null"})
    pid = int(re.search(r'"pid": ?(\d+)', done.stdout)[1])
    variables = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"VENVD_POOL=0" in variables and b"VENVD_CONFIG=/dev/null" in variables
    assert b"XDG_CONFIG_HOME=" + os.fsencode(tmp_path) in variables
    assert b"HOME=" + os.fsencode(venvctl.home) in variables


def test_looking_needs_no_configuration(conf, venvctl, root):
    root.mkdir()
    done = venvctl("list", env={"VENVD_CONFIG": str(conf("nonsense\n"))})
    assert done.returncode == 0 and done.stderr == "", done


def test_who_waits_on_the_pipe_hears_of_a_wrong_option(root):
    read, write = os.pipe()
    said = []
    reader = threading.Thread(target=lambda: said.append(os.fdopen(read, "rb").read()))
    reader.start()
    process = subprocess.Popen([str(VENVD), "--ready-fd", str(write), "--root", str(root), "-o", "link-mode=x"],
                               pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    assert process.wait(DEADLINE) == 2
    reader.join(DEADLINE)
    assert said[0].startswith(b"error: 'x' is not a value for 'link_mode'"), said
