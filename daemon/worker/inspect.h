/* SPDX-License-Identifier: MIT */
/* One directory: is it an environment, and what can be told of it. Writes nothing. */
#ifndef VENVD_WORKER_INSPECT_H
#define VENVD_WORKER_INSPECT_H
#include <jansson.h>

/* As `inspect` answers in proto/orders.h; owned. */
json_t *inspect_one(int root_fd, const char *name);
/* The same of an environment elsewhere: dir_fd/entry, known as name. */
json_t *inspect_elsewhere(int dir_fd, const char *entry, const char *name);

/* The name that a text with \xNN for bytes stands for; owned, NULL if there are none in it. */
char *inspect_raw_name(const char *printable);
#endif
