# SPDX-License-Identifier: MIT
"""Daemons with one step of the crash protocol swapped or left out, each made for a test alone: the harness must catch them.

A variant is one replacement in one file of a copy of the sources; only that file is compiled again. One that does not fit
the sources any more is an error.
"""
import pathlib
import shutil
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]

# name -> (the operation that shows it, file, what stands there, what stands there instead)
VARIANTS = {
    "a delete without its row": (
        "delete", "daemon/method_delete.c",
        "\toperation_put_row(&d->op, row, removal_intent_on_disk, d);\n\tenvironment_free(row);\n",
        "\tenvironment_free(row);\n\tremoval_intent_on_disk(true, d);\n"),
    "a claim before its row": (
        "create", "daemon/creation.c",
        "\tif (intent == INTENT_CLAIM)\n\t\toperation_put(&c->op, creation_intent_on_disk, c);\n",
        "\tif (intent == INTENT_CLAIM)\n\t\tcreation_intent_on_disk(true, c);\n"),
    "a tree with its new name before its files": (
        "rename", "daemon/worker/rename.c",
        "\tif (exchange_all(&n, f) < 0 || publish(&n, f) < 0)\n",
        "\tif (publish(&n, f) < 0 || exchange_all(&n, f) < 0)\n"),
    "a repair that begins with what it is known by": (
        "repair, a copy", "daemon/worker/repair.c",
        "\treturn turn(a) - turn(b);\n",
        "\treturn turn(b) - turn(a);\n"),
    "a delete that stays done although it was taken back": (
        "delete, elsewhere", "daemon/seen.c",
        "\tif (env->intent == INTENT_DELETE || env->intent == INTENT_PURGE)\n",
        "\tif (env->intent == INTENT_PURGE)\n"),
    "a clone before its row": (
        "clone", "daemon/relocation.c",
        "\toperation_put(&m->op, relocation_row_on_disk, m);\n",
        "\trelocation_row_on_disk(true, m);\n"),
    "a restore before its request": (
        "restore", "daemon/method_delete.c",
        "\toperation_put_row(&b->op, row, restore_go, b);\n\tenvironment_free(row);\n"
        "\tindex_from_trash(v->index, env, STATE_CREATING);\n",
        "\tenvironment_free(row);\n\tindex_from_trash(v->index, env, STATE_CREATING);\n\trestore_go(true, b);\n"),
    "a purge elsewhere that is not taken back": (
        "purge, elsewhere", "daemon/worker/purge.c",
        "\tif (moved)\n\t\tplace_move(fd, PATH_REST, fd, PATH_TREE);\n",
        "\t(void)moved;\n"),
    "a catalog that can only be read": (
        "protect", "daemon/store.c",
        "\tint rc = sqlite3_exec(store->db, \"BEGIN IMMEDIATE; ROLLBACK\", NULL, NULL, NULL);\n",
        "\tint rc = SQLITE_OK;\n"),
}
# The part that shows it, if that is not the kills.
PART = {"a purge elsewhere that is not taken back": "errors", "a catalog that can only be read": "starts"}


# Nothing is wrong with this one: its log is brought into the catalog's file with each operation, not after a thousand pages.
SHORT_LOG = {"a short log": (None, "daemon/store.c", "#define CHECKPOINT_PAGES 1000 ", "#define CHECKPOINT_PAGES 4 ")}


def build(name, build_directory, where, table=VARIANTS):
    """Builds the variant of that table in `where`; its venvd."""
    _, file, old, new = table[name]
    where = pathlib.Path(where)
    for directory in ("proto", "daemon", "client", "schema", "tools"):
        shutil.copytree(TOP / directory, where / directory)
    (where / "tests/fuzz").mkdir(parents=True)
    for one in ("Makefile", "VERSION", "tests/fuzz/rules.mk"):
        if (TOP / one).exists():
            shutil.copy2(TOP / one, where / one)
    for directory in ("obj", "gen"):
        shutil.copytree(build_directory / directory, where / "build" / directory)
    for one in ("flags", "sources"):
        shutil.copy2(build_directory / one, where / "build" / one)
    text = (where / file).read_text()
    if text.count(old) != 1:
        raise SystemExit(f"variant '{name}' does not fit {file} any more")
    (where / file).write_text(text.replace(old, new))
    done = subprocess.run(["make", "-s", "build/venvd", "build/venvd-worker"], cwd=where, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"variant '{name}' cannot be built: {done.stderr[-2000:]}")
    return where / "build/venvd"
