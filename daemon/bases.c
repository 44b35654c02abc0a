/* SPDX-License-Identifier: MIT */
/*
 * A directory that holds base interpreters has a watch of its own. One that is gone is waited for: the nearest directory above
 * it that is there is watched for the next component to come, until it is there again. The directories above one that is
 * there are only asked whether they are renamed or removed themselves, which makes no noise.
 *
 * One inode has one watch in the kernel, whoever asks for it: masks are added to, and a watch is taken away only when
 * nobody here, and not the root, has its number.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "bases.h"
#include "bounds.h"
#include "util.h"

#define WATCH_BASE (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF)
#define WATCH_ABOVE (IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF)
#define WATCH_SELF (IN_DELETE_SELF | IN_MOVE_SELF)

struct base {
	char *directory;
	int wd;                 /* -1: it is not there, ... */
	int above_wd;           /* ... and waited for in one above it; -1: not even that */
	size_t above_len;       /* of that one's path, in directory */
	bool dirty, used;
};

struct bases {
	int fd, root_wd;
	struct base all[LIMIT_WATCHED_BASES];
	size_t count;
};

static int add_watch(const struct bases *s, const char *directory, uint32_t mask)
{
	return inotify_add_watch(s->fd, directory, mask | IN_ONLYDIR | IN_MASK_ADD);
}

static void drop_watch(struct bases *s, int *wd)
{
	int old = *wd;
	*wd = -1;
	bool used = old < 0 || old == s->root_wd;
	for (size_t i = 0; i < s->count; i++)
		used = used || s->all[i].wd == old || s->all[i].above_wd == old;
	if (!used)
		inotify_rm_watch(s->fd, old);
}

/* The length of the next shorter path: /a of /a/b, / of /a; 0 for /. */
static size_t shorter(const char *path, size_t len)
{
	while (len > 1 && path[len - 1] != '/')
		len--;
	while (len > 1 && path[len - 1] == '/')
		len--;
	return len;
}

static void watch_all_above(const struct bases *s, const struct base *b)
{
	for (size_t len = shorter(b->directory, strlen(b->directory)); len > 1; len = shorter(b->directory, len)) {
		_cleanup_free_ char *above = xstrndup(b->directory, len);
		add_watch(s, above, WATCH_SELF);
	}
}

/* The nearest one above that is there. The component that is waited for may have come before the watch was: false then. */
static bool wait_above(const struct bases *s, struct base *b)
{
	size_t len = strlen(b->directory);
	while (len > 1) {
		size_t next = len;
		len = shorter(b->directory, len);
		_cleanup_free_ char *above = xstrndup(b->directory, len), *missing = xstrndup(b->directory, next);
		b->above_wd = add_watch(s, above, WATCH_ABOVE);
		b->above_len = len;
		if (b->above_wd >= 0)
			return access(missing, F_OK) != 0;
		if (errno != ENOENT && errno != ENOTDIR)
			return true;
	}
	return true;
}

/* True if it is there and watched. */
static bool base_watch(struct bases *s, struct base *b)
{
	if (b->wd >= 0)
		return true;
	for (size_t tries = 0; tries < PATH_MAX / 2; tries++) {         /* each gets one component further down */
		drop_watch(s, &b->above_wd);
		b->wd = add_watch(s, b->directory, WATCH_BASE);
		if (b->wd >= 0) {
			watch_all_above(s, b);
			return true;
		}
		if ((errno != ENOENT && errno != ENOTDIR) || wait_above(s, b))
			return false;
	}
	return false;
}

static struct base *base_of(const struct bases *s, const char *interpreter)
{
	const char *slash = interpreter != NULL ? strrchr(interpreter, '/') : NULL;
	for (size_t i = 0; slash != NULL && i < s->count; i++)
		if (strncmp(s->all[i].directory, interpreter, (size_t)(slash - interpreter)) == 0 &&
		    s->all[i].directory[slash - interpreter] == '\0')
			return (struct base *)&s->all[i];
	return NULL;
}

bool bases_add(struct bases *s, const char *interpreter)
{
	const char *slash = interpreter != NULL && interpreter[0] == '/' ? strrchr(interpreter, '/') : NULL;
	if (slash == NULL || slash == interpreter || base_of(s, interpreter) != NULL)
		return true;
	if (s->count == ARRAY_LENGTH(s->all))
		return false;
	struct base *b = &s->all[s->count++];
	*b = (struct base){ .directory = xstrndup(interpreter, (size_t)(slash - interpreter)), .wd = -1, .above_wd = -1 };
	base_watch(s, b);
	return true;
}

void bases_use(struct bases *s, const char *interpreter)
{
	struct base *b = base_of(s, interpreter);
	if (b != NULL)
		b->used = true;
}

void bases_drop_unused(struct bases *s)
{
	for (size_t i = s->count; i-- > 0;) {
		struct base b = s->all[i];
		s->all[i].used = false;
		if (b.used)
			continue;
		s->all[i] = s->all[--s->count];
		drop_watch(s, &b.wd);
		drop_watch(s, &b.above_wd);
		free(b.directory);
	}
}

/* The directory itself: what came or went in it, or it has gone. */
static void heard_itself(struct bases *s, struct base *b, const struct inotify_event *e)
{
	/* A directory of programs sees others come and go. */
	if (e->len == 0 || strncmp(e->name, "py", 2) == 0)
		b->dirty = true;
	if (e->mask & IN_IGNORED)
		b->wd = -1;
	else if (e->mask & IN_MOVE_SELF)
		drop_watch(s, &b->wd);
	if (b->wd < 0)
		base_watch(s, b);
}

static bool is_waited_for(const struct base *b, const struct inotify_event *e)
{
	const char *next = b->directory + b->above_len;
	next += strspn(next, "/");
	size_t len = strcspn(next, "/");
	return e->len > 0 && strlen(e->name) == len && memcmp(e->name, next, len) == 0;
}

static void heard_above(struct bases *s, struct base *b, const struct inotify_event *e)
{
	if (e->mask & IN_IGNORED)
		b->above_wd = -1;
	if (((e->mask & (IN_IGNORED | WATCH_SELF)) || is_waited_for(b, e)) && base_watch(s, b))
		b->dirty = true;
}

void bases_heard(struct bases *s, const struct inotify_event *e)
{
	bool known = false;
	for (size_t i = 0; i < s->count; i++) {
		struct base *b = &s->all[i];
		if (b->wd == e->wd) {
			known = true;
			heard_itself(s, b, e);
		} else if (b->above_wd == e->wd) {
			known = true;
			heard_above(s, b, e);
		}
	}
	/* One further up has another name by now, or none. */
	for (size_t i = 0; !known && (e->mask & WATCH_SELF) && i < s->count; i++) {
		s->all[i].dirty = true;
		drop_watch(s, &s->all[i].wd);
		base_watch(s, &s->all[i]);
	}
}

bool bases_dirty(const struct bases *s)
{
	bool any = false;
	for (size_t i = 0; i < s->count; i++)
		any = any || s->all[i].dirty;
	return any;
}

bool bases_dirty_of(const struct bases *s, const char *interpreter)
{
	const struct base *b = base_of(s, interpreter);
	return b != NULL && b->dirty;
}

void bases_clean(struct bases *s)
{
	for (size_t i = 0; i < s->count; i++)
		s->all[i].dirty = false;
}

struct bases *bases_new(int inotify_fd, int root_wd)
{
	struct bases *s = xcalloc(1, sizeof(*s));
	s->fd = inotify_fd;
	s->root_wd = root_wd;
	return s;
}

void bases_free(struct bases *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->count; i++)
		free(s->all[i].directory);
	free(s);
}
