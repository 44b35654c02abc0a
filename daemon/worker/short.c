/* SPDX-License-Identifier: MIT */
/*
 * Short orders, in batches: everything that waits is done, then ONE fsync of the root makes all of it
 * durable, then all are answered. Each order can be given again after a crash: it looks first whether what
 * it should bring about is there already.
 *
 * Trash is in two steps, so that no tree lies in the trash without its record: the records of the whole
 * batch are written and synced before the first rename. Restore is the other way round: the record is
 * taken away only when the tree's return is on the disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "orders.h"
#include "orders_do.h"
#include "paths.h"
#include "place.h"
#include "talk.h"

struct short_order {
	json_t *order;          /* owned; the rest borrows from it */
	const char *op, *name, *entry;
	struct identity want;
	json_t *record;
	struct failure failure;
	bool done;              /* it was done before, or is refused: nothing to do any more */
	bool tidy;              /* after the sync: the entry's rest goes */
};

/* The directories that all of them work in; -1 where one could not be opened. */
struct places {
	int trash, stage;
};

static void read_order(struct short_order *s, json_t *order)
{
	json_int_t id, ino, btime;
	*s = (struct short_order){ .order = order };
	talk_unpack(order, "{s:I, s:s, s:s, s:s, s:I, s:I, s?o}", "id", &id, "op", &s->op, "name", &s->name,
	    "entry", &s->entry, "ino", &ino, "btime", &btime, "record", &s->record);
	s->want = (struct identity){ .ino = ino, .btime_ns = btime };
	if (!place_component(s->name) || !place_component(s->entry)) {
		failure_reason(&s->failure, ERROR_FAILED, "'%s' is no name", s->name);
		s->done = true;
	}
}

static void refuse(struct short_order *s, enum error_code code)
{
	failure_set(&s->failure, code, json_pack("{so}", "name", failure_text(s->name)));
	s->done = true;
}

static void refuse_errno(struct short_order *s, const char *what)
{
	failure_errno(&s->failure, "cannot %s '%s'", what, s->name);
	s->done = true;
}

static bool is_op(const struct short_order *s, const char *op)
{
	return !s->done && strcmp(s->op, op) == 0;
}

static void remove_entry(const struct places *p, const char *entry)
{
	_cleanup_fd_ int fd = place_open(p->trash, entry, O_PATH | O_DIRECTORY);
	if (fd >= 0)
		unlinkat(fd, PATH_RECORD, 0);
	unlinkat(p->trash, entry, AT_REMOVEDIR);
}

static int write_record(int entry_fd, const json_t *record)
{
	_cleanup_free_ char *text = json_dumps(record, JSON_COMPACT);
	_cleanup_fd_ int fd = openat(entry_fd, PATH_RECORD,
	    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || !text || fd_write_all(fd, text, strlen(text)) < 0 || fsync(fd) < 0)
		return -1;
	return 0;
}

/* trash, first step. */
static void prepare_trash(struct short_order *s, const struct places *p)
{
	if (mkdirat(p->trash, s->entry, 0700) < 0 && errno != EEXIST) {
		refuse_errno(s, "make a place in the trash for");
		return;
	}
	_cleanup_fd_ int fd = place_open(p->trash, s->entry, O_RDONLY | O_DIRECTORY);
	if (fd >= 0 && place_is(fd, PATH_TREE, s->want)) {
		s->done = true;
	} else if (!place_is(WORKER_FD_ROOT, s->name, s->want)) {
		remove_entry(p, s->entry);
		refuse(s, ERROR_NO_SUCH_ENVIRONMENT);
	} else if (fd < 0 || write_record(fd, s->record) < 0) {
		refuse_errno(s, "write the record of");
		remove_entry(p, s->entry);
	}
}

/* trash, second step. */
static void trash(struct short_order *s, const struct places *p)
{
	_cleanup_fd_ int fd = place_open(p->trash, s->entry, O_RDONLY | O_DIRECTORY);
	if (fd >= 0 && place_move_known(WORKER_FD_ROOT, s->name, fd, PATH_TREE, s->want, s->entry) == 0)
		return;
	if (errno == EXDEV) {
		_cleanup_free_ char *reason = xasprintf(
		    "this file system cannot move '%s' to the trash", s->name);
		failure_set(&s->failure, ERROR_UNSUPPORTED, json_pack("{soso}", "name",
		    failure_text(s->name), "reason", failure_text(reason)));
		s->done = true;
	} else if (errno == ENOENT || errno == ESTALE) {
		refuse(s, ERROR_NO_SUCH_ENVIRONMENT);
	} else {
		refuse_errno(s, "move to the trash");
	}
	remove_entry(p, s->entry);
}

static void restore(struct short_order *s, const struct places *p)
{
	_cleanup_fd_ int fd = place_open(p->trash, s->entry, O_RDONLY | O_DIRECTORY);
	s->tidy = true;
	if (fd < 0 || !place_is(fd, PATH_TREE, s->want)) {
		s->tidy = place_is(WORKER_FD_ROOT, s->name, s->want);
		if (!s->tidy)
			refuse(s, ERROR_NOT_IN_TRASH);
		return;
	}
	if (place_move(fd, PATH_TREE, WORKER_FD_ROOT, s->name) == 0)
		return;
	s->tidy = false;
	if (errno == EEXIST)
		refuse(s, ERROR_ALREADY_EXISTS);
	else
		refuse_errno(s, "restore");
}

static void discard(struct short_order *s, const struct places *p)
{
	if (!place_is(WORKER_FD_ROOT, s->name, s->want))
		return;
	if (place_move_known(WORKER_FD_ROOT, s->name, p->stage, s->entry, s->want, s->entry) < 0 &&
	    errno != ENOENT && errno != ESTALE)
		refuse_errno(s, "discard");
}

static void apply(struct short_order *s, const struct places *p)
{
	if (is_op(s, "trash"))
		trash(s, p);
	else if (is_op(s, "restore"))
		restore(s, p);
	else if (is_op(s, "discard"))
		discard(s, p);
	else if (!s->done)
		failure_reason(&s->failure, ERROR_FAILED, "unknown order '%s'", s->op);
}

static void finish(struct short_order *s, const struct places *p, int sync_errno)
{
	errno = sync_errno;
	if (sync_errno && s->failure.code == ERROR_NONE)
		failure_sync(&s->failure);
	if (s->tidy && !sync_errno)
		remove_entry(p, s->entry);
	if (s->failure.code != ERROR_NONE)
		talk_fail(s->order, &s->failure);
	else
		talk_answer(s->order, NULL);
	failure_done(&s->failure);
	json_decref(s->order);
}

void do_short(json_t **orders, size_t count)
{
	_cleanup_free_ struct short_order *all = xcalloc(count, sizeof(*all));
	_cleanup_fd_ int trash_fd = place_state_dir(PATH_TRASH);
	_cleanup_fd_ int stage_fd = place_state_dir(PATH_STAGE);
	struct places p = { .trash = trash_fd, .stage = stage_fd };
	for (size_t i = 0; i < count; i++) {
		read_order(&all[i], orders[i]);
		if (!all[i].done && (trash_fd < 0 || stage_fd < 0))
			refuse_errno(&all[i], "open the trash and the stage for");
		if (is_op(&all[i], "trash"))
			prepare_trash(&all[i], &p);
	}
	for (size_t i = 0; i < count; i++)
		apply(&all[i], &p);
	int sync_errno = fsync(WORKER_FD_ROOT) < 0 ? errno : 0;
	for (size_t i = 0; i < count; i++)
		finish(&all[i], &p, sync_errno);
}
