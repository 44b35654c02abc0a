/* SPDX-License-Identifier: MIT */
/*
 * Cloning. clone_payload's loop decides how fast the pool refills: one call of the kernel for a linked file. Its
 * entries come parents first and mostly neighbours together, so both trees are walked by a stack of directory
 * descriptors, and no path is looked up from the top again.
 *
 * The image and the new tree are our own, below a directory that is 0700; still no link is followed in them.
 * Modes are given to the kernel as they shall be: the process's umask is 0 for the time of each function.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "clone.h"
#include "orders.h"
#include "place.h"

#define DEPTH_MAX 64
#define BLOCK 4096
#define EXECUTABLE_MODE 0755    /* of the interpreter's copies, whatever the umask (facts: venv-layout 1.5) */

static const char *const mode_names[] = { ORDER_LINK_MODES };

/* One directory of both trees. */
struct level {
	int from, to;           /* O_PATH */
	size_t length;          /* of its path, without a slash behind */
};

struct walk {
	mode_t mask;
	enum clone_mode wanted;
	enum clone_mode mode;   /* tried next: a file system that refused is not asked again */
	struct durable *durable;
	int64_t bytes;          /* of what was copied */
	size_t counts[ARRAY_LENGTH(mode_names)];
	const char *path;       /* of the deepest level; borrowed from the image */
	struct level levels[DEPTH_MAX];
	size_t depth;           /* levels[0] is the top, not ours to close */
};

int clone_mode_from_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_LENGTH(mode_names); i++)
		if (strcmp(mode_names[i], name) == 0)
			return (int)i;
	return -1;
}

const char *clone_mode_name(enum clone_mode mode)
{
	return mode_names[mode];
}

/* --- one file --- */

static int copy_data(int from, int to)
{
	char buffer[128 * 1024];
	for (;;) {
		ssize_t n = read(from, buffer, sizeof(buffer));
		if (n <= 0)
			return (int)n;
		if (fd_write_all(to, buffer, n) < 0)
			return -1;
	}
}

static bool reflink(int from, int to)
{
	return ioctl(to, FICLONE, from) == 0;
}

/* Takes fd. */
static void push(struct durable *d, int fd, bool written)
{
	if (d && written)
		durable_add(d, fd);
	else
		close(fd);
}

/* A copy with its own mode and the image's time, for a .pyc tells by it whether it is still right. With `shared`
 * its blocks are shared, or errno says that they cannot be and nothing is left. */
static int copy_file(struct walk *w, const struct image_entry *e, const struct level *l, const char *name,
    bool shared)
{
	mode_t mode = model_mode(e->mode, e->floor, e->exact_mode, w->mask);
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, e->mtime };
	_cleanup_fd_ int from = e->size > 0 ? openat(l->from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (e->size > 0 && from < 0)
		return -1;
	int to = openat(l->to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (to < 0)
		return -1;
	int r = e->size == 0 ? 0 : shared ? (reflink(from, to) ? 0 : -1) : copy_data(from, to);
	if (r < 0 || futimens(to, times) < 0) {
		int err = errno;
		close(to);
		unlinkat(l->to, name, 0);
		errno = err;
		return -1;
	}
	if (!shared)
		w->bytes += (e->size + BLOCK - 1) / BLOCK * BLOCK;
	push(w->durable, to, !shared && e->size > 0);
	return 0;
}

/* Whether this file system, or this pair of them, cannot do it. */
static bool refused(void)
{
	return errno == EXDEV || errno == EPERM || errno == EOPNOTSUPP || errno == ENOTTY || errno == EINVAL ||
	    errno == ENOSYS;
}

static int place_payload(struct walk *w, const struct image_entry *e, const struct level *l, const char *name,
    enum clone_mode how)
{
	if (how == CLONE_HARDLINK)
		return linkat(l->from, name, l->to, name, 0);
	return copy_file(w, e, l, name, how == CLONE_REFLINK);
}

static int payload(struct walk *w, const struct image_entry *e, const struct level *l, const char *name)
{
	enum clone_mode how = w->mode;
	int r = place_payload(w, e, l, name, how);
	while (r < 0 && how != CLONE_COPY && (refused() || errno == EMLINK)) {
		bool for_all = errno != EMLINK;
		how = how == CLONE_REFLINK && w->wanted == CLONE_AUTO ? CLONE_HARDLINK : CLONE_COPY;
		if (for_all)
			w->mode = how;
		r = place_payload(w, e, l, name, how);
	}
	w->counts[how] += r == 0;
	return r;
}

/* --- the tree --- */

/* Whether the level is the directory of this path, or one above it. */
static bool leads_to(const struct walk *w, const struct level *l, const char *path, size_t directory)
{
	return l->length <= directory && memcmp(w->path, path, l->length) == 0 &&
	    (l->length == directory || path[l->length] == '/');
}

static void leave(struct walk *w)
{
	w->depth--;
	close(w->levels[w->depth].from);
	close(w->levels[w->depth].to);
}

static int descend(struct walk *w, const char *name, size_t length)
{
	const struct level *above = &w->levels[w->depth - 1];
	if (w->depth == DEPTH_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	int from = openat(above->from, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int to = from < 0 ? -1 : openat(above->to, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (to < 0) {
		int err = errno;
		cleanup_fd(&from);
		errno = err;
		return -1;
	}
	w->levels[w->depth++] = (struct level){ .from = from, .to = to, .length = length };
	return 0;
}

/* The level of the directory that this path is in. NULL with errno. */
static const struct level *enter(struct walk *w, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t directory = slash ? (size_t)(slash - path) : 0;
	while (w->depth > 1 && !leads_to(w, &w->levels[w->depth - 1], path, directory))
		leave(w);
	w->path = path;
	for (size_t at = w->levels[w->depth - 1].length; at < directory;) {
		size_t begin = at ? at + 1 : 0;
		at = begin + strcspn(path + begin, "/");
		_cleanup_free_ char *name = xstrndup(path + begin, at - begin);
		if (descend(w, name, at) < 0)
			return NULL;
	}
	return &w->levels[w->depth - 1];
}

static int make_entry(struct walk *w, const struct image_entry *e)
{
	const struct level *l = enter(w, e->path);
	const char *slash = strrchr(e->path, '/'), *name = slash ? slash + 1 : e->path;
	if (!l)
		return -1;
	switch (e->kind) {
	case IMAGE_DIRECTORY:
		return mkdirat(l->to, name, model_mode(e->mode, e->floor, e->exact_mode, w->mask));
	case IMAGE_LINK:
		return symlinkat(e->target, l->to, name);
	case IMAGE_PAYLOAD:
		return payload(w, e, l, name);
	default:
		return copy_file(w, e, l, name, false);
	}
}

/* What directories take: the rest was counted when it was copied. */
static int64_t directory_bytes(const struct image *image, int dir_fd)
{
	struct stat st;
	int64_t sum = fstat(dir_fd, &st) == 0 ? st.st_blocks * 512 : 0;
	for (size_t i = 0; i < image->count; i++)
		if (image->entries[i].kind == IMAGE_DIRECTORY &&
		    fstatat(dir_fd, image->entries[i].path, &st, AT_SYMLINK_NOFOLLOW) == 0)
			sum += st.st_blocks * 512;
	return sum;
}

static void tell(const struct walk *w, const struct image *image, int dir_fd, struct clone_result *ret)
{
	ret->how = CLONE_AUTO;
	for (size_t i = 0; i < ARRAY_LENGTH(w->counts); i++)
		if (w->counts[i] > w->counts[ret->how])
			ret->how = (enum clone_mode)i;
	ret->bytes = w->bytes + directory_bytes(image, dir_fd);
}

int clone_payload(const struct image *image, int tree_fd, int dir_fd, mode_t mask, enum clone_mode mode,
    struct durable *durable, struct clone_result *ret, struct failure *f)
{
	struct walk w = {
		.mask = mask, .wanted = mode, .mode = mode == CLONE_AUTO ? CLONE_REFLINK : mode,
		.durable = durable, .path = "", .levels = { { tree_fd, dir_fd, 0 } }, .depth = 1,
	};
	mode_t before = umask(0);
	int r = 0;
	for (size_t i = 0; i < image->count && r == 0; i++)
		if (make_entry(&w, &image->entries[i]) < 0)
			r = failure_errno(f, "cannot make '%s' from the image", image->entries[i].path);
	umask(before);
	while (w.depth > 1)
		leave(&w);
	if (r == 0 && ret)
		tell(&w, image, dir_fd, ret);
	return r;
}

/* --- what bears the path --- */

static int make_file(const struct model_file *file, int dir_fd, mode_t mask)
{
	return place_make(dir_fd, file->path, O_WRONLY | O_CREAT | O_EXCL,
	    model_mode(file->mode, file->floor, file->exact_mode, mask));
}

/* The blank of a file, to be written over; -1: it is to be made anew, and nothing is in its place. A power cut may have
 * brought an entry back with a file of another length (clone.h): that is no blank. */
static int open_blank(const struct model_file *file, const struct clone_change *c, int dir_fd)
{
	struct stat st;
	int fd = place_open(dir_fd, file->path, O_WRONLY);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size == (off_t)c->blank)
		return fd;
	if (fd >= 0) {
		close(fd);
		place_unlink(dir_fd, file->path);
	}
	return -1;
}

/* A file is written as a whole, or where it may differ from its blank. */
static int write_file(const struct model_file *file, const struct clone_change *c, int dir_fd, mode_t mask,
    struct durable *d)
{
	if (c->anew && place_unlink(dir_fd, file->path) < 0)
		return -1;
	int fd = c->blank > 0 && !c->anew ? open_blank(file, c, dir_fd) : -1;
	bool made = fd < 0;
	if (made)
		fd = make_file(file, dir_fd, mask);
	if (fd < 0)
		return -1;
	size_t from = made ? 0 : c->from, to = made ? file->content.len : c->to;
	while (from < to) {
		ssize_t n = pwrite(fd, file->content.data + from, to - from, (off_t)from);
		if (n < 0)
			break;
		from += (size_t)n;
	}
	if (from < to || (!made && c->blank > file->content.len &&
	    ftruncate(fd, (off_t)file->content.len) < 0)) {
		close(fd);
		return -1;
	}
	durable_add(d, fd);
	return 0;
}

int clone_blanks(const struct model_answer *blank, int dir_fd, mode_t mask, struct durable *d, int64_t *bytes,
    struct failure *f)
{
	mode_t before = umask(0);
	int r = 0;
	for (size_t i = 0; i < blank->file_count && r == 0; i++) {
		const struct model_file *file = &blank->files[i];
		if (file->content.len == 0)
			continue;
		int fd = make_file(file, dir_fd, mask);
		if (fd < 0 || fd_write_all(fd, file->content.data, file->content.len) < 0) {
			r = failure_errno(f, "cannot write '%s'", file->path);
			cleanup_fd(&fd);
		} else {
			*bytes += ((int64_t)file->content.len + BLOCK - 1) / BLOCK * BLOCK;
			push(d, fd, true);
		}
	}
	umask(before);
	return r;
}

static struct clone_change compare(const struct model_file *blank, const struct model_file *file)
{
	struct clone_change c = { .to = file->content.len, .blank = blank->content.len };
	if (file->head + file->tail == 0)
		return c;
	c.anew = c.to != c.blank;
	c.from = file->head;
	c.to -= file->tail;
	return c;
}

struct clone_change *clone_changes(const struct model_answer *answer, const struct model_answer *blank)
{
	struct clone_change *changes = xcalloc(answer->file_count + 1, sizeof(*changes));
	size_t found = 0;
	for (size_t i = 0; i < answer->file_count; i++) {
		const struct model_file *file = &answer->files[i];
		changes[i].to = file->content.len;
		for (size_t j = 0; j < blank->file_count; j++)
			if (strcmp(blank->files[j].path, file->path) == 0) {
				changes[i] = compare(&blank->files[j], file);
				found++;
				break;
			}
	}
	if (found == blank->file_count)
		return changes;
	free(changes);
	return NULL;
}

static int make_link(const struct model_link *link, int dir_fd)
{
	const char *name;
	_cleanup_fd_ int parent = place_parent(dir_fd, link->path, &name);
	return parent < 0 ? -1 : symlinkat(link->target, parent, name);
}

/* Each directory once: those of one are neighbours. */
static void add_directory(struct durable *d, int dir_fd, const char *path, char **last)
{
	const char *slash = strrchr(path, '/');
	char *name = slash ? xstrndup(path, slash - path) : xstrdup(".");
	if (!*last || strcmp(*last, name) != 0)
		durable_add_directory(d, dir_fd, name);
	free(*last);
	*last = name;
}

int clone_finish(const struct model_answer *answer, const struct clone_change *changes, bool copies, int dir_fd,
    mode_t mask, struct durable *d, struct failure *f)
{
	mode_t before = umask(0);
	size_t links = copies ? 0 : answer->link_count;
	_cleanup_free_ char *last = NULL;
	int r = 0;
	for (size_t i = 0; i < answer->file_count && r == 0; i++)
		if (write_file(&answer->files[i], &changes[i], dir_fd, mask, d) < 0)
			r = failure_errno(f, "cannot write '%s'", answer->files[i].path);
	for (size_t i = 0; i < links && r == 0; i++)
		if (make_link(&answer->links[i], dir_fd) < 0)
			r = failure_errno(f, "cannot make the link '%s'", answer->links[i].path);
	umask(before);
	for (size_t i = 0; i < answer->file_count && r == 0; i++)
		add_directory(d, dir_fd, answer->files[i].path, &last);
	for (size_t i = 0; i < links && r == 0; i++)
		add_directory(d, dir_fd, answer->links[i].path, &last);
	return r;
}

static int copy_executable(const struct model_link *link, int dir_fd, enum clone_mode mode, struct durable *d,
    int64_t *bytes)
{
	struct stat st;
	_cleanup_fd_ int from = open(link->target, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (from < 0 || fstat(from, &st) < 0)
		return -1;
	int to = place_make(dir_fd, link->path, O_WRONLY | O_CREAT | O_EXCL, EXECUTABLE_MODE);
	if (to < 0)
		return -1;
	bool shared = (mode == CLONE_AUTO || mode == CLONE_REFLINK) && reflink(from, to);
	if (!shared && copy_data(from, to) < 0) {
		close(to);
		return -1;
	}
	if (!shared)
		*bytes += (st.st_size + BLOCK - 1) / BLOCK * BLOCK;
	push(d, to, !shared);
	return 0;
}

int clone_executables(const struct model_answer *answer, int dir_fd, enum clone_mode mode, struct durable *d,
    int64_t *bytes, struct failure *f)
{
	mode_t before = umask(0);
	int r = 0;
	for (size_t i = 0; i < answer->link_count && r == 0; i++)
		if (copy_executable(&answer->links[i], dir_fd, mode, d, bytes) < 0)
			r = failure_errno(f, "cannot copy '%s'", answer->links[i].target);
	umask(before);
	return r;
}
