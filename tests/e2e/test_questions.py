# SPDX-License-Identifier: MIT
# ruff: noqa: F401, F811 -- fixtures come from test_cli.py
"""venvctl does what it has asked about, and says what it has done: questions, dry runs, and what is called by hand."""
import shutil

from helpers import eventually
from test_cli import cli, terminal


def test_call_of_what_changes_something(cli, root):
    """It needs a daemon that does more than look."""
    for method in ("Rename", "Clone"):
        failed = cli("call", method, '{"name":"none","to":"x"}')
        assert failed.returncode == 3 and "NoSuchEnvironment" in failed.stderr, failed
        cli.good("shutdown", "--purge", "-y")
    assert cli("call", "Frob").returncode == 1 and not (root / ".venvd").exists()


def test_delete_of_one_that_is_missing(cli, root):
    """There is nothing to take back, and nobody is told so."""
    for name in ("a", "b", "c"):
        cli.create(name)
    for name in ("a", "b"):
        shutil.rmtree(root / name)
    eventually(lambda: cli.good("list", "-q", "--state", "missing").stdout == "a\nb\n")
    assert cli.good("delete", "a").stderr == "forgot 'a'; its directory was gone already\n"
    done = cli("delete", "-y", "b", "none", "c")
    assert done.returncode == 9 and "forgot 'b'" in done.stderr
    assert "moved 'c' to the trash\nundo: venvctl restore c\n" in done.stderr
    assert cli.names() == []


def test_dry_run_of_what_is_not_deleted(cli, root):
    cli.create("a")
    (root / "link").symlink_to("/usr")
    eventually(lambda: "link" in cli.names())
    done = cli("delete", "--dry-run", "a", "link")
    assert done.returncode == cli("delete", "link").returncode == 1
    assert done.stdout == "a\n" and "'link': it is not venvd's to delete: symbolic link" in done.stderr


def test_dry_run_of_what_lies_in_the_trash(cli, root):
    cli.create("a")
    cli.good("delete", "a")
    assert cli("delete", "--dry-run", "a").returncode == 3
    assert cli.good("delete", "--now", "--dry-run", "a").stdout == "a\n"
    assert cli.good("list", "--trash", "-q").stdout == "a\n"
    cli.good("delete", "--now", "-y", "a")
    assert cli("delete", "--now", "--dry-run", "a").returncode == 3


def test_what_came_while_the_question_stood(cli):
    """It is about those that were there, and 'yes' removes no other."""
    for name in ("a", "b"):
        cli.create(name)
    cli.good("delete", "a")
    asked = terminal(cli, "trash", "empty")
    asked.until("remove 1 environment for good? [y/N]")
    cli.good("delete", "b")
    asked.type("y\n")
    assert asked.end() == 0 and "removed 1 environment for good" in asked.text
    assert [row.split("\t")[0] for row in cli.good("trash", "list").stdout.splitlines()] == ["b"]


def test_what_came_before_a_purge(cli, root):
    cli.create("a")
    cli.create("b")
    cli.good("delete", "a")
    asked = terminal(cli, "shutdown", "--purge")
    asked.until("1 environment in the trash for good? [y/N]")
    cli.good("delete", "b")
    asked.type("y\n")
    asked.until("2 environments in the trash for good? [y/N]")
    asked.type("n\n")
    assert asked.end() == 1 and "nothing was removed" in asked.text
    assert len(cli.good("trash", "list").stdout.splitlines()) == 2
    asked = terminal(cli, "shutdown", "--purge")
    asked.until("[y/N]")
    asked.type("y\n")
    assert asked.end() == 0 and not (root / ".venvd").exists()
