/* SPDX-License-Identifier: MIT */
/* See source.h. Its path may be spelled in its files as the root's is now, or as it really is. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "orders.h"
#include "paths.h"
#include "source.h"
#include "talk.h"

void source_done(struct source *s)
{
	for (size_t i = 0; i < s->path_count; i++)
		free(s->paths[i]);
	if (s->fd >= 0)
		close(s->fd);
	if (s->parent_fd >= 0 && s->parent_fd != WORKER_FD_ROOT)
		close(s->parent_fd);
	*s = (struct source)SOURCE_NONE;
}

const char *source_base(const struct source *s)
{
	return strrchr(s->paths[0], '/') + 1;
}

static void add_path(struct source *s, const char *path)
{
	for (size_t i = 0; i < s->path_count; i++)
		if (strcmp(s->paths[i], path) == 0)
			return;
	if (s->path_count < SOURCE_PATHS)
		s->paths[s->path_count++] = xstrdup(path);
}

static int open_parent(struct source *s)
{
	if (s->path)
		return place_open_parent(s->path, &s->base);
	s->base = s->trash ? PATH_TREE : s->name;
	if (!s->trash)
		return WORKER_FD_ROOT;
	_cleanup_fd_ int trash = place_state_dir(PATH_TRASH);
	return trash < 0 ? -1 : place_open(trash, s->trash, O_RDONLY | O_DIRECTORY);
}

int source_open(struct source *s, json_t *order, struct failure *f)
{
	json_int_t ino, btime;
	json_t *paths, *path;
	size_t i;
	char real[PATH_MAX];
	talk_unpack(order, "{s:s, s:I, s:I, s:o, s?s, s?s}", "name", &s->name, "ino", &ino, "btime", &btime, "paths",
	    &paths, "trash", &s->trash, "location", &s->path);
	s->id = (struct identity){ .ino = ino, .btime_ns = btime };
	json_array_foreach(paths, i, path) {
		talk_absolute(json_string_value(path));
		add_path(s, json_string_value(path));
	}
	if (!place_component(s->name) || (s->trash && !place_component(s->trash)) || s->path_count == 0)
		return failure_reason(f, ERROR_FAILED, "'%s' is no name", s->name);
	s->parent_fd = open_parent(s);
	if (s->parent_fd >= 0)
		s->fd = place_open(s->parent_fd, s->base, O_RDONLY | O_DIRECTORY);
	if (s->fd < 0 || !place_is(s->fd, "", s->id)) {
		if (errno != ENOENT && errno != ESTALE && errno != ELOOP && errno != ENOTDIR)
			return failure_errno(f, "cannot open '%s'", s->name);
		return failure_set(f, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{so}", "name", failure_text(s->name)));
	}
	if (!s->trash && place_real(s->fd, real) > 0)
		add_path(s, real);
	return 0;
}
