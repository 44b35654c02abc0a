/* SPDX-License-Identifier: MIT */
/* The directories of the root as somebody has just seen them: name and inode of each, found by either. */
#ifndef VENVD_ENTRIES_H
#define VENVD_ENTRIES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct entries;

struct entries *entries_new(void);
void entries_free(struct entries *);
void entries_clear(struct entries *);

/* Whether a directory of the root that is looked at can be called so, whoever says it. */
bool entries_fits(const char *name);
/* inode 0: nothing of this name is there. A name that comes again has the later inode; one that does not fit is not added. */
void entries_add(struct entries *, const char *name, int64_t ino);
/* What a scan says (orders.h): "INO NAME/INO NAME/". */
void entries_add_text(struct entries *, const char *text);
/* If it has this inode it is none any more; whether it had. */
bool entries_take(struct entries *, const char *name, int64_t ino);

size_t entries_count(const struct entries *);
int64_t entries_ino(const struct entries *, const char *name);          /* 0: there is none */
/* One of this inode; NULL. Borrowed until the next change. */
const char *entries_name(struct entries *, int64_t ino);
/* The next one at *at or behind it, in no order; NULL at the end. *at is 0 at first. */
const char *entries_next(const struct entries *, size_t *at);
#endif
