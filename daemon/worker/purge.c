/* SPDX-License-Identifier: MIT */
/*
 * The orders that remove for good. What is to go is first moved into the stage, and that move is on the
 * disk before the first unlink: after a crash there is a whole tree in its place or a rest in the stage
 * that nobody takes for an environment. The trash beside one elsewhere has no stage: there a tree gets another
 * name first, in its own entry.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "durable.h"
#include "orders.h"
#include "orders_do.h"
#include "paths.h"
#include "place.h"
#include "remove.h"
#include "reserve.h"
#include "talk.h"
#include "trash.h"

static int answer(struct removal *r, json_t **ret, struct failure *f)
{
	if (r->gone)
		return failure_gone(f);
	*ret = json_pack("{sI}", "removed", r->removed);
	json_object_set_new(*ret, "kept", r->kept ? json_incref(r->kept) : json_array());
	return 0;
}

static int check_entry(const char *entry, struct failure *f)
{
	if (place_component(entry))
		return 0;
	return failure_reason(f, ERROR_FAILED, "'%s' is no name of an entry", entry);
}

/* The rest of an earlier attempt under the same name makes way. What is no directory, or another one by now, stays. */
static int move_to_stage(struct removal *r, int from_fd, const char *name, int stage, const char *entry)
{
	struct statx st;
	if (place_statx(from_fd, name, &st) < 0)
		return -1;
	struct identity id = place_identity(&st);
	errno = ENOTDIR;
	if (!S_ISDIR(st.stx_mode))
		return -1;
	do {
		if (place_move_known(from_fd, name, stage, entry, id, entry) == 0)
			return 0;
	} while (reserve_spend(WORKER_FD_STATE));
	if (errno != EEXIST)
		return -1;
	remove_entry(r, stage, entry);
	return place_move_known(from_fd, name, stage, entry, id, entry);
}

/* What could not go at first may go now: somebody had a file busy, or memory was short. Once. */
static void remove_staged(struct removal *r, int stage, const char *entry)
{
	remove_entry(r, stage, entry);
	if (!r->kept || r->gone)
		return;
	json_decref(r->kept);
	r->kept = NULL;
	remove_entry(r, stage, entry);
}

static const char *entry_at(json_t *entries, size_t i)
{
	const char *entry = json_string_value(json_array_get(entries, i));
	return entry ? entry : "";
}

/* All of them into the stage, then one sync for all. */
static int empty_trash(struct removal *r, int stage, json_t *entries, struct failure *f)
{
	_cleanup_fd_ int trash = place_state_dir(PATH_TRASH);
	if (trash < 0)
		return failure_errno(f, "cannot open the trash");
	for (size_t i = 0; i < json_array_size(entries) && !r->gone; i++) {
		const char *entry = entry_at(entries, i);
		/* ENOENT: an earlier attempt has moved it already. */
		if (move_to_stage(r, trash, entry, stage, entry) < 0 && errno != ENOENT)
			return failure_errno(f, "cannot take '%s' out of the trash", entry);
	}
	if (durable_directory(WORKER_FD_ROOT) < 0 || durable_directory(trash) < 0 || durable_directory(stage) < 0)
		return failure_sync(f);
	return 0;
}

/* The tree of an entry is no tree of the trash any more, and that is on the disk; or it is as it was. */
static int give_up_tree(int fd)
{
	bool moved = place_move(fd, PATH_TREE, fd, PATH_REST) == 0;
	if (!moved && errno != ENOENT)
		return -1;
	if (durable_directory(fd) == 0)
		return 0;
	int err = errno;
	if (moved)
		place_move(fd, PATH_REST, fd, PATH_TREE);
	errno = err;
	return -1;
}

static bool remove_beside(struct removal *r, int beside, int fd, const char *entry)
{
	remove_contents(r, fd, NULL);
	return !r->gone && !r->kept && unlinkat(beside, entry, AT_REMOVEDIR) == 0;
}

/* An entry of the trash beside path, if it is there. */
static int empty_beside(struct removal *r, const char *path, const char *entry, struct failure *f)
{
	const char *base = "";
	_cleanup_fd_ int parent = place_open_parent(path, &base);
	_cleanup_fd_ int beside = parent < 0 ? -1 : trash_open_beside(parent, base, false);
	_cleanup_fd_ int fd = beside < 0 ? -1 : place_open(beside, entry, O_RDONLY | O_DIRECTORY);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0 || give_up_tree(fd) < 0)
		return failure_errno(f, "cannot take '%s' out of the trash beside '%s'", entry, path);
	bool removed = remove_beside(r, beside, fd, entry);
	if (!removed && !r->gone) {             /* once more, as in the stage */
		json_decref(r->kept);
		r->kept = NULL;
		removed = remove_beside(r, beside, fd, entry);
	}
	if (r->gone)
		return 0;
	if (!removed)
		return failure_reason(f, ERROR_FAILED, "cannot remove all of '%s' beside '%s': %s", entry, path,
		    r->kept ? json_string_value(json_array_get(r->kept, 0)) : strerror(errno));
	trash_leave_beside(parent, base);
	return 0;
}

/* Everything in the stage whose name begins so: what a worker that was killed has left. */
static int sweep(struct removal *r, int stage, const char *prefix, struct failure *f)
{
	int own = openat(stage, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	const struct dirent *d;
	if (!dir) {
		cleanup_fd(&own);
		return failure_errno(f, "cannot read the stage");
	}
	while (!r->gone && (d = readdir(dir)))
		if (strncmp(d->d_name, prefix, strlen(prefix)) == 0)
			remove_entry(r, stage, d->d_name);
	closedir(dir);
	return 0;
}

int do_purge(json_t *order, json_t **ret, struct failure *f)
{
	const char *where, *path = NULL, *prefix = NULL;
	json_t *entries;
	talk_unpack(order, "{s:s, s:o, s?s, s?s}", "where", &where, "entries", &entries, "path", &path, "prefix",
	    &prefix);
	_cleanup_removal_ struct removal r = { 0 };
	_cleanup_fd_ int stage = place_state_dir(PATH_STAGE);
	if (stage < 0)
		return failure_errno(f, "cannot open the stage");
	for (size_t i = 0; i < json_array_size(entries); i++)
		if (check_entry(entry_at(entries, i), f) < 0)
			return -1;
	if (path)
		return empty_beside(&r, path, entry_at(entries, 0), f) < 0 ? -1 : answer(&r, ret, f);
	if (prefix && sweep(&r, stage, prefix, f) < 0)
		return -1;
	if (strcmp(where, "trash") == 0 && empty_trash(&r, stage, entries, f) < 0)
		return -1;
	for (size_t i = 0; i < json_array_size(entries) && !r.gone; i++)
		remove_staged(&r, stage, entry_at(entries, i));
	return answer(&r, ret, f);
}

static int no_such_environment(const char *name, struct failure *f)
{
	return failure_set(f, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{so}", "name", failure_text(name)));
}

/* What 'delete --now' is about: `base` in from_fd, the root or where it is elsewhere. */
struct doomed {
	const char *name, *entry, *base;
	int from_fd, own_fd;    /* own_fd: from_fd if it must be closed, else -1 */
	struct identity want;
};

static void doomed_done(struct doomed *d)
{
	cleanup_fd(&d->own_fd);
}

static int read_doomed(json_t *order, struct doomed *d, struct failure *f)
{
	json_int_t ino, btime;
	const char *path = NULL;
	talk_unpack(order, "{s:s, s:s, s:I, s:I, s?s}", "name", &d->name, "entry", &d->entry, "ino", &ino,
	    "btime", &btime, "path", &path);
	d->want = (struct identity){ .ino = ino, .btime_ns = btime };
	d->base = d->name;
	d->from_fd = WORKER_FD_ROOT;
	if (check_entry(d->entry, f) < 0 || check_entry(d->name, f) < 0)
		return -1;
	if (!path)
		return 0;
	d->from_fd = d->own_fd = place_open_parent(path, &d->base);
	if (d->from_fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? no_such_environment(d->name, f) :
		    failure_errno(f, "cannot open the directory that holds '%s'", d->name);
	return 0;
}

/* Where the file system cannot rename it. */
static int purge_in_place(struct removal *r, const struct doomed *d, json_t **ret, struct failure *f)
{
	remove_in_place(r, d->from_fd, d->base, d->want);
	if (durable_directory(d->from_fd) < 0)
		return d->own_fd < 0 ? failure_sync(f) : failure_errno(f, "cannot sync what held '%s'", d->name);
	if (!r->gone && r->kept)
		return failure_reason(f, ERROR_FAILED, "cannot remove all of '%s': %s", d->name,
		    json_string_value(json_array_get(r->kept, 0)));
	return answer(r, ret, f);
}

/* It gives room back, and so may take some that was kept. */
static int move_doomed(const struct doomed *d, int stage)
{
	int r;
	do {
		r = place_move_known(d->from_fd, d->base, stage, d->entry, d->want, d->entry);
	} while (r < 0 && reserve_spend(WORKER_FD_STATE));
	return r;
}

int do_purge_name(json_t *order, json_t **ret, struct failure *f)
{
	__attribute__((cleanup(doomed_done))) struct doomed d = { .own_fd = -1 };
	_cleanup_removal_ struct removal r = { 0 };
	_cleanup_fd_ int stage = place_state_dir(PATH_STAGE);
	if (stage < 0)
		return failure_errno(f, "cannot open the stage");
	if (read_doomed(order, &d, f) < 0)
		return -1;
	/* Repeated after a crash: it may be on its way already, else the rest of an earlier attempt makes way. */
	bool here = place_is(d.from_fd, d.base, d.want);
	if (!here && !place_is(stage, d.entry, d.want))
		return no_such_environment(d.name, f);
	if (here) {
		struct statx rest;
		if (place_statx(stage, d.entry, &rest) == 0)
			remove_entry(&r, stage, d.entry);
		if (move_doomed(&d, stage) < 0) {
			if (errno == EXDEV)
				return purge_in_place(&r, &d, ret, f);
			if (errno == ENOENT || errno == ESTALE)
				return no_such_environment(d.name, f);
			return failure_errno(f, "cannot move '%s' out of its place", d.name);
		}
		if (durable_directory(WORKER_FD_ROOT) < 0 || durable_directory(stage) < 0)
			return failure_sync(f);
	}
	remove_staged(&r, stage, d.entry);
	return answer(&r, ret, f);
}

int do_purge_state(json_t *order, json_t **ret, struct failure *f)
{
	(void)order;
	_cleanup_removal_ struct removal r = { 0 };
	remove_contents(&r, WORKER_FD_STATE, PATH_LOCK);
	if (r.gone)
		return failure_gone(f);
	if (json_array_size(r.kept) > 0)
		return failure_reason(f, ERROR_FAILED, "cannot remove %s",
		    json_string_value(json_array_get(r.kept, 0)));
	if (unlinkat(WORKER_FD_STATE, PATH_LOCK, 0) < 0 && errno != ENOENT)
		return failure_errno(f, "cannot remove '%s/%s'", PATH_STATE, PATH_LOCK);
	if (unlinkat(WORKER_FD_ROOT, PATH_STATE, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return failure_errno(f, "cannot remove '%s'", PATH_STATE);
	(void)ret;
	return 0;
}
