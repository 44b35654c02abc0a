/* SPDX-License-Identifier: MIT */
/*
 * Short orders, in batches: everything that waits is done, then ONE fsync of the root makes all of it
 * durable, then all are answered. Each order but a claim can be given again after a crash: it looks first whether
 * what it should bring about is there already.
 *
 * A claim comes in two messages, and so in two batches: in the first an entry is taken and its files are begun, in
 * the second, after the daemon's "go", it is published. In a batch all new claims say `reserved` before any
 * file is written, so that the daemon commits all of them while we write, and wait for the disk. Restore takes its record away only when
 * the tree's return is on the disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "claim.h"
#include "durable.h"
#include "inuse.h"
#include "orders.h"
#include "orders_do.h"
#include "paths.h"
#include "remove.h"
#include "talk.h"

struct short_order {
	json_t *order;          /* owned, but a claim's; the rest borrows from it */
	const char *op;
	struct trashing what;   /* name, entry, identity, and for trash the record */
	struct claim *claim;    /* it is one, or a message to one */
	struct inuse *inuse;    /* it is a question about processes */
	struct failure failure;
	bool done;              /* it was done before, or is refused: nothing to do any more */
	bool known;             /* elsewhere: it is there, or was put into the trash beside it */
	bool tidy;              /* after the sync: the entry's rest goes */
};

static void refuse(struct short_order *s, enum error_code code)
{
	failure_set(&s->failure, code, json_pack("{so}", "name", failure_text(s->what.name)));
	s->done = true;
}

static void refuse_errno(struct short_order *s, const char *what)
{
	failure_errno(&s->failure, "cannot %s '%s'", what, s->what.name);
	s->done = true;
}

static bool is_op(const struct short_order *s, const char *op)
{
	return !s->done && strcmp(s->op, op) == 0;
}

/* One elsewhere whose surroundings are not there any more. */
static void parent_is_gone(struct short_order *s)
{
	if (strcmp(s->op, "discard") == 0)
		s->done = true;
	else if (strcmp(s->op, "trash") == 0 && errno != EACCES)
		refuse(s, ERROR_NO_SUCH_ENVIRONMENT);
	else
		refuse_errno(s, "open the directory that holds");
}

static bool in_its_trash(const struct trashing *w, const struct places *p)
{
	_cleanup_fd_ int fd = trash_open_entry(w, p);
	return fd >= 0 && place_is(fd, PATH_TREE, w->want);
}

/* Links among its parents count, so by now they may lead to another directory: nothing is made or taken away there. */
static void open_elsewhere(struct short_order *s, const char *path, const struct places *p)
{
	struct trashing *w = &s->what;
	bool trash = strcmp(s->op, "trash") == 0;
	w->parent_fd = place_open_parent(path, &w->base);
	if (w->parent_fd < 0) {
		w->base = NULL;                 /* nothing there is to be synced */
		parent_is_gone(s);
		return;
	}
	bool here = place_is(w->parent_fd, w->base, w->want);
	w->beside_fd = trash_open_beside(w->parent_fd, w->base, trash && here);
	s->known = here || in_its_trash(w, p);
	if (trash && !s->known)
		refuse(s, ERROR_NO_SUCH_ENVIRONMENT);
	else if (trash && w->beside_fd < 0)
		refuse_errno(s, "make a trash beside");
}

static void read_order(struct short_order *s, const struct places *p)
{
	json_int_t id, ino, btime;
	json_t *record = NULL;
	const char *path = NULL;
	talk_unpack(s->order, "{s:I, s:s, s:s, s:s, s:I, s:I, s?o, s?s}", "id", &id, "op", &s->op, "name",
	    &s->what.name, "entry", &s->what.entry, "ino", &ino, "btime", &btime, "record", &record,
	    "path", &path);
	s->what.want = (struct identity){ .ino = ino, .btime_ns = btime };
	s->what.record = record;
	if (!place_component(s->what.name) || !place_component(s->what.entry)) {
		failure_reason(&s->failure, ERROR_FAILED, "'%s' is no name", s->what.name);
		s->done = true;
	} else if (p->trash < 0 || p->stage < 0) {
		refuse_errno(s, "open the trash and the stage for");
	} else if (path) {
		open_elsewhere(s, path, p);
	}
}

/* Takes the message. */
static void begin(struct short_order *s, json_t *message, const struct places *p)
{
	const char *op = json_string_value(json_object_get(message, "op"));
	*s = (struct short_order){ .order = message };
	if (op && strcmp(op, "claim") == 0) {
		s->order = NULL;
		s->claim = claim_begin(message, p);
		s->done = true;
	} else if (!op && json_object_get(message, "go")) {
		s->claim = claim_told(message);
		s->op = "go";
		s->done = !s->claim;
	} else if (op && strcmp(op, "look") == 0) {
		talk_answer(message, json_pack("{so}", "found", scan_look(json_object_get(message, "names"))));
		s->done = true;
	} else if (op && strcmp(op, "inuse") == 0) {
		s->inuse = inuse_begin(message);
		s->done = true;
	} else {
		read_order(s, p);
	}
}

/* What comes before any rename. */
static void prepare(struct short_order *s, const struct places *p)
{
	if (s->claim && s->done)
		claim_write(s->claim);
	else if (is_op(s, "go"))
		claim_prepare(s->claim, p);
	else if (is_op(s, "trash"))
		s->done = trash_prepare(&s->what, p, &s->failure) != 0;
}

/* A directory that is empty may be what a killed worker has made for one to be built in, elsewhere, and of which nobody
 * heard. It holds nothing that could be lost. */
static bool makes_way(const struct short_order *s, int dir_fd, const char *name)
{
	int error = errno;
	bool gone = error == EEXIST && json_is_true(json_object_get(s->order, "makeWay")) && unlinkat(dir_fd, name, AT_REMOVEDIR) == 0;
	errno = error;
	return gone;
}

static void restore(struct short_order *s, const struct places *p)
{
	_cleanup_fd_ int fd = trash_open_entry(&s->what, p);
	const char *name;
	int to = trash_origin(&s->what, &name);
	s->tidy = true;
	if (fd < 0 || !place_is(fd, PATH_TREE, s->what.want)) {
		s->tidy = place_is(to, name, s->what.want);
		if (!s->tidy)
			refuse(s, ERROR_NOT_IN_TRASH);
		return;
	}
	do {
		if (place_move_known(fd, PATH_TREE, to, name, s->what.want, PATH_REST) == 0)
			return;
	} while (trash_more_room(&s->what) || makes_way(s, to, name));
	s->tidy = false;
	if (errno == EEXIST)
		refuse(s, ERROR_ALREADY_EXISTS);
	else if (errno == ESTALE)
		refuse(s, ERROR_NOT_IN_TRASH);
	else
		refuse_errno(s, "restore");
}

static void discard(struct short_order *s, const struct places *p)
{
	const struct trashing *w = &s->what;
	const char *name;
	int from = trash_origin(w, &name);
	do {
		if (!place_is(from, name, w->want) ||
		    place_move_known(from, name, p->stage, w->entry, w->want, w->entry) == 0 ||
		    errno == ENOENT || errno == ESTALE)
			return;
	} while (trash_more_room(w));
	/* Only after a crash: a worker takes what it has made elsewhere away itself. */
	if (errno == EXDEV && w->base) {
		_cleanup_removal_ struct removal removal = { .to_the_end = true };
		remove_in_place(&removal, from, name, w->want);
		if (!removal.kept)
			return;
	}
	refuse_errno(s, "discard");
}

/* Elsewhere: what may not be on the disk is taken back, for its row will say that it has not happened. Where that fails too, only
 * the next start can tell what is there. */
static void not_synced(struct short_order *s, const struct places *p)
{
	refuse_errno(s, "sync what holds");
	bool failed = strcmp(s->op, "trash") == 0 ? trash_undo(&s->what, p) < 0 :
	    strcmp(s->op, "restore") == 0 && trash_undo_restore(&s->what, p) < 0;
	s->tidy = false;
	if (!failed)
		durable_directory(s->what.parent_fd);
	else
		failure_sync(&s->failure);
}

static void apply(struct short_order *s, const struct places *p)
{
	if (is_op(s, "go"))
		claim_publish(s->claim, p);
	else if (is_op(s, "trash"))
		s->done = trash_move(&s->what, p, &s->failure) < 0;
	else if (is_op(s, "restore"))
		restore(s, p);
	else if (is_op(s, "discard"))
		discard(s, p);
	else if (!s->done)
		failure_reason(&s->failure, ERROR_FAILED, "unknown order '%s'", s->op);
	/* The one sync is the root's. */
	if (s->what.base && durable_directory(s->what.parent_fd) < 0 && s->failure.code == ERROR_NONE)
		not_synced(s, p);
}

/* Whether it may have changed the root, now or before a crash, and must not be answered before a sync. */
static bool needs_sync(const struct short_order *s)
{
	return s->claim ? claim_published(s->claim) : s->op != NULL && strcmp(s->op, "go") != 0;
}

static void finish(struct short_order *s, const struct places *p, int sync_errno)
{
	if (s->claim) {
		if (claim_is_over(s->claim))
			claim_finish(s->claim, sync_errno);
		else
			claim_wait(s->claim);
	} else if (s->order && s->op && strcmp(s->op, "go") != 0) {
		errno = sync_errno;
		if (sync_errno && s->failure.code == ERROR_NONE)
			failure_sync(&s->failure);
		bool left = s->tidy && !sync_errno && !trash_remove_entry(&s->what, p);
		if (s->what.base && s->known)
			trash_leave_beside(s->what.parent_fd, s->what.base);
		if (s->failure.code != ERROR_NONE)
			talk_fail(s->order, &s->failure);
		else
			talk_answer(s->order, left ? json_pack("{sb}", "left", 1) : NULL);
	}
	if (s->what.base) {
		cleanup_fd(&s->what.beside_fd);
		cleanup_fd(&s->what.parent_fd);
	}
	durable_done(&s->what.durable);
	failure_done(&s->failure);
	json_decref(s->order);
}

/* What these ask has nothing to do with the disk, so their answers do not wait for it. */
static void look_what_runs(struct short_order *all, size_t count)
{
	_cleanup_free_ struct inuse **questions = xcalloc(count, sizeof(struct inuse *));
	size_t n = 0;
	for (size_t i = 0; i < count; i++)
		if (all[i].inuse)
			questions[n++] = all[i].inuse;
	if (n > 0)
		inuse_look(questions, n);
	for (size_t i = 0; i < count; i++)
		if (all[i].inuse)
			talk_answer(all[i].order, inuse_end(all[i].inuse));
}

void do_short(json_t **orders, size_t count)
{
	_cleanup_free_ struct short_order *all = xcalloc(count, sizeof(*all));
	_cleanup_fd_ int trash_fd = place_state_dir(PATH_TRASH);
	_cleanup_fd_ int stage_fd = place_state_dir(PATH_STAGE);
	_cleanup_fd_ int pool_fd = place_state_dir(PATH_POOL);
	const struct places p = { .trash = trash_fd, .stage = stage_fd, .pool = pool_fd };
	bool sync = false;
	for (size_t i = 0; i < count; i++)
		begin(&all[i], orders[i], &p);
	look_what_runs(all, count);
	for (size_t i = 0; i < count; i++)
		prepare(&all[i], &p);
	for (size_t i = 0; i < count; i++) {
		apply(&all[i], &p);
		sync = sync || needs_sync(&all[i]);
	}
	int sync_errno = sync && durable_directory(WORKER_FD_ROOT) < 0 ? errno : 0;
	for (size_t i = 0; i < count; i++)
		finish(&all[i], &p, sync_errno);
}

void do_meanwhile(void)
{
	if (!claim_waits())
		return;
	_cleanup_fd_ int stage_fd = place_state_dir(PATH_STAGE);
	const struct places p = { .trash = -1, .stage = stage_fd, .pool = -1 };
	if (stage_fd >= 0)
		claim_settle_waiting(&p);
}
