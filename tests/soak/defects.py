# SPDX-License-Identifier: MIT
"""Daemons with a defect, each made for a test alone: the part of the soak that is named must catch it."""
import variants

# name -> (the part that shows it, file, what stands there, what stands there instead)
DEFECTS = {
    "a descriptor is lost now and then": (
        "requests", "daemon/server.c",
        "\tclose(c->fd);\n\tbool only",
        "\tif (s->count != 3)\n\t\tclose(c->fd);\n\tbool only"),
    "200 bytes of each request are lost": (
        "requests", "daemon/request.c",
        "\trequest_free(r);\n}\n\nvoid request_reply",
        "\trequest_free(r);\n\tmemset(xmalloc(200), 1, 200);\n}\n\nvoid request_reply"),
    "the resident worker loses a descriptor with each delete": (
        "creations", "daemon/worker/trash.c",
        "\t_cleanup_fd_ int fd = trash_open_entry(t, p);\n\tif (fd >= 0 && place_is(fd, PATH_TREE, t->want))\n",
        "\tint fd = trash_open_entry(t, p);\n\tif (fd >= 0 && place_is(fd, PATH_TREE, t->want))\n"),
    "it goes on accepting when there is no descriptor": (
        "few", "daemon/server.c",
        "\tfor (size_t i = 0; i < s->listener_count; i++)\n\t\tevent_del(s->listeners[i].event);\n\tevent_add(s->pause",
        "\tevent_add(s->pause"),
    "who never reads has a mark of his own alone": (
        "hostile", "daemon/server.c",
        "> (c->server->unsent > LIMIT_OUTPUT_TOTAL ? 0 : LIMIT_OUTPUT_HIGH)", "> LIMIT_OUTPUT_HIGH"),
    "what a request has led to is not on the disk": (
        "restarts", "daemon/operation.c",
        "row, replay_success(op->replay, row->id), done", "row, (replay_success(op->replay, row->id), NULL), done"),
}


def build(name, build_directory, where):
    """Builds it in `where`; its venvd."""
    return variants.build(name, build_directory, where, DEFECTS)
