# SPDX-License-Identifier: MIT
"""Clients that others wrote: the `varlink` Python package, socat, netcat, and varlinkctl where it is."""
import json
import pathlib
import shutil
import subprocess
import sys

import pytest
import varlink

import wire
from conftest import DEADLINE, TOP


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(daemon, a short way to its socket, an interpreter)."""
    top = tmp_path_factory.mktemp("f")
    root = top / "r"
    for name in ("alpha", "beta"):
        wire.fake_environment(root, name)
    with wire.running(root) as daemon:
        yield daemon, daemon.socket_path, wire.fake_python(top / "python")


def run(command, **kwargs):
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, **kwargs)


def texts(output):
    """The JSON texts that a client printed one after the other."""
    decoder, found, output = json.JSONDecoder(), [], output.strip()
    while output:
        value, end = decoder.raw_decode(output)
        found.append(value)
        output = output[end:].strip()
    return found


# --- the Python package: its command ---

def cli(*words):
    return run([sys.executable, "-m", "varlink.cli", *words])


def test_python_info(place):
    done = cli("info", f"unix:{place[1]}")
    assert done.returncode == 0, done
    for words in ("Vendor: venvd", "Product: venvd", "Version: ", "URL: ", "io.venvd", "org.varlink.service"):
        assert words in done.stdout


@pytest.mark.parametrize("interface", ["io.venvd", "org.varlink.service"])
def test_python_help(place, interface):
    done = cli("help", f"unix:{place[1]}/{interface}")
    assert done.returncode == 0, done
    assert done.stdout.strip() == (TOP / "proto" / f"{interface}.varlink").read_text().strip()


def test_python_call(place):
    done = cli("call", f"unix:{place[1]}/io.venvd.List", "{}")
    assert [e["name"] for e in texts(done.stdout)[0]["environments"]] == ["alpha", "beta"]
    done = cli("call", f"unix:{place[1]}/io.venvd.Get", '{"name":"beta"}')
    assert texts(done.stdout)[0]["environment"]["name"] == "beta"
    done = cli("call", f"unix:{place[1]}/io.venvd.Status")
    assert texts(done.stdout)[0]["pid"] == place[0].pid


def test_python_call_more(place):
    done = cli("call", "-m", f"unix:{place[1]}/io.venvd.List", '{"fields":["state"]}')
    assert texts(done.stdout) == [{"environment": {"name": n, "state": "ready"}} for n in ("alpha", "beta")]
    done = cli("call", "-m", f"unix:{place[1]}/io.venvd.List", '{"glob":"none*"}')
    assert done.returncode == 0 and done.stderr == ""


def test_python_call_creates(place):
    arguments = json.dumps({"name": "made", "python": place[2], "withoutPip": True})
    said = texts(cli("call", "-m", f"unix:{place[1]}/io.venvd.Create", arguments).stdout)
    assert [s["stage"] for s in said[:-1]] == ["interpreter", "reserve", "build", "sync"]
    assert said[-1]["environment"]["state"] == "ready"
    done = cli("call", f"unix:{place[1]}/io.venvd.Create", arguments)
    assert "io.venvd.AlreadyExists" in done.stderr and "made" in done.stderr
    done = cli("call", f"unix:{place[1]}/io.venvd.Delete", '{"name":"made","now":true}')
    assert done.stderr == ""


@pytest.mark.parametrize(("method", "arguments", "words"), [
    ("io.venvd.Get", '{"name":"none"}', ["io.venvd.NoSuchEnvironment", "none"]),
    ("io.venvd.List", '{"bogus":1}', ["org.varlink.service.InvalidParameter", "bogus"]),
    ("io.venvd.Bogus", "{}", ["org.varlink.service.MethodNotFound", "io.venvd.Bogus"]),
    ("io.other.Bogus", "{}", ["org.varlink.service.InterfaceNotFound", "io.other"]),
])
def test_python_call_errors(place, method, arguments, words):
    done = cli("call", f"unix:{place[1]}/{method}", arguments)
    for word in words:
        assert word in done.stderr + done.stdout, done


# --- the Python package: its library ---

def test_python_library(place):
    daemon, path, python = place
    with varlink.Client.new_with_address(f"unix:{path}") as client:
        with client.open("org.varlink.service") as service:
            assert service.GetInfo()["interfaces"] == ["io.venvd", "org.varlink.service"]
        with client.open("io.venvd") as venvd:
            assert venvd.Status()["pid"] == daemon.pid
            assert venvd.Get(name="alpha")["environment"]["name"] == "alpha"
            assert venvd.Get("beta")["environment"]["name"] == "beta"
            rows = [r["environment"]["name"] for r in venvd.List(_more=True)]
            assert rows == ["alpha", "beta"]
            stages = list(venvd.Create("lib", python, True, _more=True))
            assert stages[-1]["environment"]["name"] == "lib"
            with pytest.raises(varlink.VarlinkError) as caught:
                venvd.Create("lib")
            assert caught.value.error() == "io.venvd.AlreadyExists"
            assert caught.value.parameters()["name"] == "lib"
            with pytest.raises(varlink.InvalidParameter):
                venvd.List(state="nope")
            venvd.Delete("lib", True, _oneway=True)
            wire.until(lambda: "lib" not in daemon.environments())


def test_python_scanner_and_ours_agree(place):
    """Two independent readers see the same methods, types and errors."""
    for name, ours in wire.INTERFACES.items():
        theirs = varlink.Interface((TOP / "proto" / f"{name}.varlink").read_text())
        kinds = {kind: {n for n, m in theirs.members.items() if type(m).__name__ == kind}
                 for kind in ("_Method", "_Alias", "_Error")}
        assert kinds == {"_Method": set(ours.methods), "_Alias": set(ours.types), "_Error": set(ours.errors)}


# --- shell one-liners ---

def needs(command):
    return pytest.mark.skipif(shutil.which(command) is None, reason=f"needs {command}")


SHELL = {
    "socat": """printf '{"method":"io.venvd.List","more":true}\\0' | socat -t5 - UNIX-CONNECT:"$S" | tr '\\0' '\\n'""",
    "socat-echo": """echo '{"method":"io.venvd.List","more":true}' | socat -t5 - UNIX-CONNECT:"$S" | tr '\\0' '\\n'""",
    "nc": """printf '{"method":"io.venvd.List","more":true}\\0' | nc -N -U "$S" | tr '\\0' '\\n'""",
    "nc-echo": """echo '{"method":"io.venvd.List","more":true}' | nc -N -U "$S" | tr '\\0' '\\n'""",
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name.split("-")[0])) for name in SHELL])
def test_one_liners(place, tmp_path, name):
    link = tmp_path / "s"                       # socket addresses are short, test directories are not
    link.symlink_to(place[1])
    done = run(["sh", "-c", f'cd "{tmp_path}" && S=s; {SHELL[name]}'])
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["parameters"]["environment"]["name"] for r in rows] == ["alpha", "beta"]
    assert [r.get("continues") for r in rows] == [True, None]


@needs("zsh")
def test_zsh_without_any_program(place, tmp_path):
    """The function of a prompt: zsh's own sockets, reading up to the NUL."""
    link = tmp_path / "s"
    link.symlink_to(place[1])
    script = """zmodload zsh/net/socket zsh/system && zsocket s && fd=$REPLY &&
        syswrite -o $fd '{"method":"io.venvd.Prompt","parameters":{"name":"alpha"}}'$'\\0' &&
        while sysread -i $fd -t 20 chunk; do buf+=$chunk; [[ $buf == *$'\\0' ]] && break; done; print -r -- "${buf%$'\\0'}" """
    done = run(["zsh", "-fc", script], cwd=tmp_path)
    assert json.loads(done.stdout)["parameters"]["name"] == "alpha", done


# --- systemd's ---

def varlinkctl(*words):
    return run(["varlinkctl", *words])


@needs("varlinkctl")
def test_varlinkctl(place):
    address = f"unix:{place[1]}"
    for words in (["info", address], ["list-interfaces", address], ["introspect", address, "io.venvd"],
                  ["introspect", address, "org.varlink.service"]):
        assert varlinkctl(*words).returncode == 0, words
    assert "io.venvd" in varlinkctl("list-interfaces", address).stdout
    got = varlinkctl("call", address, "io.venvd.Get", '{"name":"alpha"}')
    assert json.loads(got.stdout)["environment"]["name"] == "alpha"
    rows = varlinkctl("call", "--more", address, "io.venvd.List", "{}").stdout.split("\x1e")
    assert [json.loads(r)["environment"]["name"] for r in rows if r.strip()] == ["alpha", "beta"]
    failed = varlinkctl("call", address, "io.venvd.Get", '{"name":"none"}')
    assert failed.returncode != 0 and "io.venvd.NoSuchEnvironment" in failed.stderr


@needs("varlinkctl")
@pytest.mark.parametrize("name", ["io.venvd", "org.varlink.service"])
def test_varlinkctl_takes_the_descriptions(name):
    assert varlinkctl("validate-idl", str(pathlib.Path(TOP) / "proto" / f"{name}.varlink")).returncode == 0
