/* SPDX-License-Identifier: MIT */
/*
 * A second environment of an existing one: copied into the stage, made to fit its own path there, published by one
 * rename. The first one is only read, and may be in use.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "copy.h"
#include "durable.h"
#include "inspect.h"
#include "moving.h"
#include "orders.h"
#include "orders_do.h"
#include "paths.h"
#include "place.h"
#include "source.h"
#include "talk.h"

struct duplicate {
	json_t *order;
	const char *name, *entry, *path, *link_mode;
	struct source source;
	int stage_fd, dir_fd;
	struct identity id;
};

static void duplicate_done(struct duplicate *d)
{
	source_done(&d->source);
	cleanup_fd(&d->dir_fd);
	cleanup_fd(&d->stage_fd);
}

/* The copy, complete and on the disk, at its place in the stage. */
static int make_copy(struct duplicate *d, struct failure *f)
{
	_cleanup_moving_ struct moving moving = { 0 };
	struct statx st;
	talk_progress(d->order, "copy");
	d->stage_fd = place_state_dir(PATH_STAGE);
	if (d->stage_fd < 0 || mkdirat(d->stage_fd, d->entry, 0700) < 0)
		return failure_errno(f, "cannot make a directory for '%s'", d->name);
	d->dir_fd = place_open(d->stage_fd, d->entry, O_RDONLY | O_DIRECTORY);
	if (d->dir_fd < 0 || place_statx(d->dir_fd, "", &st) < 0)
		return failure_errno(f, "cannot open the directory for '%s'", d->name);
	d->id = place_identity(&st);
	/* Who wants nothing shared means what he copies, too. */
	bool copy = strcmp(d->link_mode, "copy") == 0, reflink = strcmp(d->link_mode, "reflink") == 0;
	if (copy_tree(d->source.fd, d->dir_fd, !copy && !reflink, !copy, f) < 0)
		return -1;
	struct moving_question question = {
		.tree_fd = d->dir_fd, .from = source_paths(&d->source), .from_count = d->source.path_count,
		.to = d->path, .from_name = source_base(&d->source), .to_name = d->name,
	};
	if (moving_scan(&question, &moving, f) < 0 || moving_apply(&moving, d->dir_fd, f) < 0)
		return -1;
	talk_progress(d->order, "sync");
	return durable_tree(d->dir_fd) < 0 ? failure_sync(f) : 0;
}

static int publish(const struct duplicate *d, json_t **ret, struct failure *f)
{
	if (place_move_known(d->stage_fd, d->entry, WORKER_FD_ROOT, d->name, d->id, d->entry) < 0) {
		if (errno == EEXIST)
			return failure_set(f, ERROR_ALREADY_EXISTS, json_pack("{so}", "name", failure_text(d->name)));
		return failure_errno(f, "cannot publish '%s'", d->name);
	}
	if (durable_directory(WORKER_FD_ROOT) < 0)
		return failure_sync(f);
	*ret = json_pack("{so}", "environment", inspect_one(WORKER_FD_ROOT, d->name));
	return 0;
}

int do_clone(json_t *order, json_t **ret, struct failure *f)
{
	__attribute__((cleanup(duplicate_done))) struct duplicate d = {
		.order = order, .source = SOURCE_NONE, .stage_fd = -1, .dir_fd = -1, .link_mode = "auto",
	};
	json_int_t id;
	const char *op;
	json_t *source;
	talk_unpack(order, "{s:I, s:s, s:s, s:s, s:s, s:o, s?s}", "id", &id, "op", &op, "name", &d.name, "entry",
	    &d.entry, "path", &d.path, "source", &source, "linkMode", &d.link_mode);
	if (!place_component(d.name) || !place_component(d.entry))
		return failure_reason(f, ERROR_FAILED, "'%s' is no name", d.name);
	if (source_open(&d.source, source, f) < 0 || make_copy(&d, f) < 0)
		return -1;
	json_t *reserved = json_pack("{sI, sI}", "ino", (json_int_t)d.id.ino, "btime", (json_int_t)d.id.btime_ns);
	if (talk_reserved(order, reserved, f) < 0)
		return -1;
	return publish(&d, ret, f);
}
