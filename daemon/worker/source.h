/* SPDX-License-Identifier: MIT */
/* The environment that an order copies or renames: in the root, in its trash, or elsewhere. */
#ifndef VENVD_WORKER_SOURCE_H
#define VENVD_WORKER_SOURCE_H
#include <jansson.h>
#include "failure.h"
#include "place.h"

#define SOURCE_PATHS 3

struct source {
	const char *name, *trash, *path;        /* borrowed: its name; its entry in the trash, or NULL; its own path, or NULL */
	struct identity id;
	int parent_fd;          /* what it lies in ... */
	const char *base;       /* ... under this name; borrowed */
	int fd;
	char *paths[SOURCE_PATHS];      /* of its own, as they may be spelled in its files */
	size_t path_count;
};
#define SOURCE_NONE { .parent_fd = -1, .fd = -1 }

/* Opens it: {name, ino, btime, paths:[absolute,...], trash: ENTRY|absent, location: absolute path|absent}, borrowed.
 * -1: NoSuchEnvironment, if it is not there, or is another. */
int source_open(struct source *, json_t *, struct failure *);
void source_done(struct source *);

static inline const char *const *source_paths(const struct source *s)
{
	return (const char *const *)s->paths;
}
/* The last component of its path: what it is called in a prompt. */
const char *source_base(const struct source *);
#endif
