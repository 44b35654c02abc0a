/* SPDX-License-Identifier: MIT */
/* The files that decide what a Python's venv module writes. */
#ifndef VENVD_WORKER_INSTALLATION_H
#define VENVD_WORKER_INSTALLATION_H
#include <sys/stat.h>
#include "probe.h"

/* A digest of what they are (path, inode, size, mtime, ctime), by stat alone: 16 hexadecimal
 * digits and a NUL. Directories are listed again only when they have changed. false: it cannot
 * be read. */
bool installation_digest(const struct interpreter *, bool with_pip, char ret[17]);

/* The text of venv/__init__.py. -1 with errno. */
int installation_venv_text(const struct interpreter *, struct text *ret);

/* Calls take() for each template of an activation script: its name relative to bin, content,
 * mode. Ends with what it returns if that is not 0. -1 with errno. */
int installation_templates(const struct interpreter *,
    int (*take)(void *data, const char *name, const struct text *content, mode_t mode), void *data);
#endif
