/* SPDX-License-Identifier: MIT */
/*
 * Trust in a path. Walks it as the kernel does, one component at a time by descriptor, so that the
 * directories that symbolic links lead through are judged as well as those that were spelled out: none may
 * be writable by everybody unless it is sticky, nor may the file at the end. Who owns them is not our
 * business: the caller could run the file anyway.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "trust.h"
#include "util.h"

#define LINKS_MAX 40            /* as the kernel's */

struct walk {
	int fd;                 /* the directory it has come to */
	char *rest;             /* what is still to go, owned */
	int links;
	struct stat at;         /* of fd */
	struct stat st;         /* of the last component */
};

static bool open_to_all(const struct stat *st)
{
	return (st->st_mode & S_IWOTH) && !(S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX));
}

static void move_to(struct walk *w, int fd)
{
	close(w->fd);
	w->fd = fd;
}

static int move_to_root(struct walk *w)
{
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	move_to(w, fd);
	return fstat(fd, &w->at);
}

/* The link that fd is: its target goes before the rest of the path. */
static int follow(struct walk *w, int fd)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(fd, "", target, sizeof(target) - 1);
	if (n < 0)
		return -1;
	if (++w->links > LINKS_MAX || strlen(w->rest) + n > 16 * PATH_MAX) {
		errno = ELOOP;
		return -1;
	}
	target[n] = '\0';
	char *rest = xasprintf("%s/%s", target, w->rest);
	free(w->rest);
	w->rest = rest;
	return target[0] == '/' ? move_to_root(w) : 0;
}

/* Takes the first component off the rest; owned, NULL if there is none left. */
static char *next_component(struct walk *w)
{
	size_t skip = strspn(w->rest, "/");
	size_t n = strcspn(w->rest + skip, "/");
	if (n == 0)
		return NULL;
	char *component = xstrndup(w->rest + skip, n);
	memmove(w->rest, w->rest + skip + n, strlen(w->rest + skip + n) + 1);
	return component;
}

static int step(struct walk *w, const char *component)
{
	int fd = openat(w->fd, component, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int r = fstat(fd, &w->st);
	if (r == 0 && !S_ISLNK(w->st.st_mode)) {
		move_to(w, fd);
		w->at = w->st;
		return 0;
	}
	if (r == 0)
		r = follow(w, fd);
	int err = errno;
	close(fd);
	errno = err;
	return r;
}

static int walk_all(struct walk *w, char **ret_unsafe)
{
	for (;;) {
		_cleanup_free_ char *component = next_component(w);
		if (!component)
			return 0;
		/* The directory in which the name is looked up decides who could put another there. */
		struct stat dir = w->at;
		if (step(w, component) < 0)
			return -1;
		bool link = S_ISLNK(w->st.st_mode);
		if (open_to_all(&dir))
			*ret_unsafe = xasprintf("the directory that holds '%s' can be written by everybody",
			    component);
		else if (!link && open_to_all(&w->st))
			*ret_unsafe = xasprintf("'%s' can be written by everybody", component);
		if (*ret_unsafe)
			return -1;
	}
}

int trust_check(const char *path, struct stat *ret, char **ret_unsafe)
{
	struct walk w = { .fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), .rest = xstrdup(path) };
	*ret_unsafe = NULL;
	int r = w.fd < 0 || fstat(w.fd, &w.at) < 0 ? -1 : 0;
	w.st = w.at;
	r = r < 0 ? -1 : walk_all(&w, ret_unsafe);
	int err = errno;
	*ret = w.st;
	if (w.fd >= 0)
		close(w.fd);
	free(w.rest);
	errno = err;
	return r;
}
