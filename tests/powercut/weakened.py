# SPDX-License-Identifier: MIT
"""Daemons with a step left out that only a power cut tells from the real one, each made for a test alone.

That somebody waits for writes that were begun shows on no device that keeps what it was given, in that order: they come
before the log's. So what is left out here is their beginning.
"""
import variants

# name -> (where it shows, file, what stands there, what stands there instead)
VARIANTS = {
    "a claim whose files are not pushed out": (
        ["ext4", "xfs"], "daemon/worker/clone.c",
        "\tdurable_add(d, fd);\n\treturn 0;\n}\n\nint clone_blanks(",
        "\t(void)d;\n\tclose(fd);\n\treturn 0;\n}\n\nint clone_blanks("),
    "a batch without the sync of the root": (
        ["ext4", "xfs", "btrfs"], "daemon/worker/short.c",
        "sync && durable_directory(WORKER_FD_ROOT) < 0 ? errno : 0;",
        "sync && WORKER_FD_ROOT < 0 ? errno : 0;"),
    "a catalog with synchronous=OFF": (
        ["ext4"], "daemon/store.c", "PRAGMA synchronous = FULL;", "PRAGMA synchronous = OFF;"),
    "a catalog with synchronous=NORMAL": (
        ["ext4", "btrfs"], "daemon/store.c", "PRAGMA synchronous = FULL;", "PRAGMA synchronous = NORMAL;"),
    "a delete that does not wait for its record": (
        ["ext4"], "daemon/worker/trash.c",
        "\tdurable_add(&t->durable, fd);\n\tfd = -1;\n\treturn 0;",
        "\treturn 0;"),
    "a rename whose new files are not pushed out": (
        ["ext4"], "daemon/worker/rename.c",
        "\t\t\tdurable_add(&durable, fd);\n",
        "\t\t\tclose(fd);\n"),
    "a rename without the sync of the root": (
        ["ext4"], "daemon/worker/rename.c",
        "\t\tif (durable_directory(WORKER_FD_ROOT) < 0)\n\t\t\treturn failure_sync(f);\n\t\treturn 0;",
        "\t\treturn 0;"),
    "a clone that is not pushed out": (
        ["ext4"], "daemon/worker/duplicate.c",
        "\treturn durable_tree(d->dir_fd) < 0 ? failure_sync(f) : 0;",
        "\treturn 0;"),
    "a pool whose files are not pushed out": (
        ["xfs"], "daemon/worker/clone.c",
        "\tif (d && written)\n\t\tdurable_add(d, fd);\n\telse\n\t\tclose(fd);",
        "\t(void)d;\n\t(void)written;\n\tclose(fd);"),
    "a pool that is filled without a sync": (
        ["btrfs"], "daemon/worker/fill.c",
        "\tif (durable_wait(&w->durable) < 0 || durable_names(w->stage_fd) < 0) {",
        "\tif (w->stage_fd < 0) {"),
}
ALWAYS = ["a claim whose files are not pushed out"]
SERIES = {
    "ext4": ("ext4-strict", "shutdown", "hardlink"),
    "xfs": ("xfs", "shutdown", "hardlink"),
    "btrfs": ("btrfs", "snapshot", "hardlink"),
}


def where(name, only):
    """The series in which it must be caught."""
    return [SERIES[s] for s in VARIANTS[name][0] if not only or s in only]


def build(name, build_directory, directory):
    return variants.build(name, build_directory, directory, VARIANTS)
