/* SPDX-License-Identifier: MIT */
/*
 * The texts of an environment that is moved or copied: what names its old path names the new one (facts:
 * venv-layout 6.1). Works on memory alone; which files these are is moving.c's.
 */
#ifndef VENVD_WORKER_MOVED_H
#define VENVD_WORKER_MOVED_H
#include <sha256.h>
#include "util.h"

struct moved;

/* from: the old path as it may be spelled; to: the new one; all absolute, no slash at the end. from_name and to_name are
 * what prompts show of an environment that was given none; NULL where it was given one. */
struct moved *moved_new(const char *const *from, size_t from_count, const char *to, const char *from_name,
    const char *to_name);
void moved_free(struct moved *);

/* Each appends to out what becomes of the text, and returns whether that is another one. */
bool moved_text(const struct moved *, const char *text, size_t len, struct text *out);
/* With a shebang, which is written as pip writes one of the new length. */
bool moved_script(const struct moved *, const char *text, size_t len, struct text *out);
/* The program that a script's shebang names, in any of the forms in which tools write one; owned, NULL without one. */
char *moved_program(const char *text, size_t len);
/* An activation script, or pyvenv.cfg: the prompt, too. */
bool moved_activate(const struct moved *, const char *text, size_t len, struct text *out);
bool moved_cfg(const struct moved *, const char *text, size_t len, struct text *out);

/* What a row of a RECORD says of its file by now; false if it stays as it is. path: as in the row. */
typedef bool moved_row_fn(void *arg, const char *path, unsigned char ret_digest[SHA256_DIGEST_LENGTH],
    size_t *ret_size);
bool moved_record(const struct moved *, const char *text, size_t len, moved_row_fn *row, void *arg,
    struct text *out);

/* Whether a link's target is the old path or below it; out is then the new target. */
bool moved_link(const struct moved *, const char *target, struct text *out);
#endif
