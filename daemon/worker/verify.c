/* SPDX-License-Identifier: MIT */
/*
 * The proof of a model: two environments that the interpreter's own venv module made are read back,
 * and everything in them must be what was predicted, or be the same whatever an environment is
 * called. The first thing that is neither is told; its interpreter then keeps making its
 * environments itself.
 */
#include <string.h>

#include "bounds.h"
#include "paths.h"
#include "place.h"
#include "pytext.h"
#include "verify.h"

#define CONTENT_MAX (4 * 1024 * 1024)

static char *compare_mode(const struct tree_entry *e, const struct model_file *want, mode_t mask)
{
	mode_t mode = model_mode(want->mode, want->floor, want->exact_mode, mask);
	/* A directory in a set-group-id one is so itself. */
	mode_t have = e->st.st_mode & (S_ISDIR(e->st.st_mode) ? 01777 : 07777);
	return have == mode ? NULL : xasprintf("'%s' has mode %04o, not %04o", e->path, have, mode);
}

static char *compare_file(struct tree_entry *e, int fd, const struct model_file *want, mode_t mask)
{
	_cleanup_text_ struct text content = { 0 };
	if (!S_ISREG(e->st.st_mode))
		return xasprintf("'%s' is no regular file", e->path);
	if (place_read(fd, e->path, CONTENT_MAX, &content, NULL) < 0)
		return xasprintf("'%s' cannot be read", e->path);
	size_t i = 0;
	while (i < content.len && i < want->content.len && content.data[i] == want->content.data[i])
		i++;
	if (i < content.len || i < want->content.len)
		return xasprintf("'%s' is not as predicted from byte %zu on", e->path, i);
	e->predicted = true;
	return compare_mode(e, want, mask);
}

static char *compare_link(struct tree_entry *e, const struct model_link *want)
{
	if (!S_ISLNK(e->st.st_mode))
		return xasprintf("'%s' is no symbolic link", e->path);
	if (strcmp(e->target, want->target) != 0)
		return xasprintf("'%s' leads to '%s', not to '%s'", e->path, e->target, want->target);
	e->predicted = true;
	return NULL;
}

char *verify_answer(struct tree *t, int fd, const struct model_answer *answer, mode_t mask)
{
	char *why = NULL;
	for (size_t i = 0; !why && i < answer->file_count; i++) {
		struct tree_entry *e = tree_find(t, answer->files[i].path);
		why = e ? compare_file(e, fd, &answer->files[i], mask) :
		    xasprintf("'%s' is not there", answer->files[i].path);
	}
	for (size_t i = 0; !why && i < answer->link_count; i++) {
		struct tree_entry *e = tree_find(t, answer->links[i].path);
		why = e ? compare_link(e, &answer->links[i]) :
		    xasprintf("'%s' is not there", answer->links[i].path);
	}
	return why;
}

static bool ends_with(const char *s, const char *end)
{
	size_t len = strlen(s), n = strlen(end);
	return len >= n && strcmp(s + len - n, end) == 0;
}

char *verify_payload(const struct tree *t)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct tree_entry *e = &t->entries[i];
		if (!e->predicted && e->holds && !ends_with(e->path, ".pyc"))
			return xasprintf("'%s' holds the environment's path", e->path);
	}
	return NULL;
}

/* --- RECORD --- */

/* One row, "PATH,HASH,SIZE", relative to `site`. */
static char *check_row(struct tree *t, const char *record, const char *site, char *row)
{
	char *hash = strchr(row, ','), *size = hash ? strchr(hash + 1, ',') : NULL;
	if (!size || strchr(row, '"'))
		return xasprintf("'%s' has a row of an unknown form", record);
	*hash++ = *size++ = '\0';
	_cleanup_free_ char *joined = row[0] == '/' ? xstrdup(row) : xasprintf("/%s/%s", site, row);
	_cleanup_free_ char *path = path_absolute(joined);
	struct tree_entry *e = tree_find(t, path + 1);
	if (!e)
		return xasprintf("'%s' names '%s', which is not there", record, row);
	e->recorded = true;
	if (!*hash)
		return NULL;
	_cleanup_text_ struct text want = { 0 };
	text_adds(&want, "sha256=");
	pytext_base64(&want, e->digest, sizeof(e->digest));
	if (strcmp(hash, want.data) != 0 || strtoll(size, NULL, 10) != e->st.st_size)
		return xasprintf("'%s' tells another content of '%s'", record, row);
	return NULL;
}

static char *check_record(struct tree *t, int fd, const char *record, const char *site)
{
	_cleanup_text_ struct text content = { 0 };
	if (place_read(fd, record, CONTENT_MAX, &content, NULL) < 0)
		return xasprintf("'%s' cannot be read", record);
	char *why = NULL, *rest = content.data;
	for (char *row; !why && (row = strsep(&rest, "\r\n"));)
		if (*row)
			why = check_row(t, record, site, row);
	return why;
}

char *verify_records(struct tree *t, int fd)
{
	char *why = NULL;
	for (size_t i = 0; !why && i < t->count; i++) {
		const char *path = t->entries[i].path;
		if (!ends_with(path, ".dist-info/RECORD") || !S_ISREG(t->entries[i].st.st_mode))
			continue;
		_cleanup_free_ char *site = xstrndup(path, strlen(path) - strlen("/RECORD"));
		char *slash = strrchr(site, '/');
		if (!slash)
			continue;
		*slash = '\0';
		why = check_record(t, fd, path, site);
	}
	for (size_t i = 0; !why && i < t->count; i++) {
		const struct tree_entry *e = &t->entries[i];
		if (S_ISREG(e->st.st_mode) && !e->recorded && strstr(e->path, "/site-packages/"))
			why = xasprintf("'%s' is in no RECORD", e->path);
	}
	return why;
}

/* --- modes, and what is the same everywhere --- */

bool verify_mode(const struct tree_entry *e, const struct model_file *exact, size_t exact_count,
    struct model_file *ret)
{
	*ret = (struct model_file){ .mode = 0777 };
	mode_t mode = e->st.st_mode & 07777;
	if (S_ISLNK(e->st.st_mode))
		return true;
	if (S_ISDIR(e->st.st_mode))
		return (mode & 01777) == 0700;
	for (size_t i = 0; i < exact_count; i++)
		if (strcmp(exact[i].path, e->path) == 0) {
			*ret = (struct model_file){ .mode = exact[i].mode, .exact_mode = true };
			return mode == ret->mode;
		}
	/* What the umask has not taken from group and others was put there afterwards, for all
	 * three. */
	mode_t others = mode & 7;
	ret->floor = others * 0111;
	ret->mode = mode == 0700 ? 0777 : 0666 | ret->floor;
	return model_mode(ret->mode, ret->floor, false, 077) == mode;
}

static char *compare_entry(const struct tree_entry *have, mode_t mask, const struct tree_entry *other,
    const struct model_file *exact, size_t exact_count)
{
	struct model_file mode;
	if (!other || (have->st.st_mode & S_IFMT) != (other->st.st_mode & S_IFMT))
		return xasprintf("'%s' is made for some environments only", have->path);
	if (S_ISLNK(have->st.st_mode))
		return strcmp(have->target, other->target) == 0 ? NULL :
		    xasprintf("'%s' leads somewhere else in each environment", have->path);
	if (S_ISREG(have->st.st_mode) && memcmp(have->digest, other->digest, sizeof(have->digest)) != 0)
		return xasprintf("'%s' is another one in each environment", have->path);
	if (!verify_mode(other, exact, exact_count, &mode))
		return xasprintf("'%s' has mode %04o under the umask 077", other->path,
		    other->st.st_mode & 07777);
	return compare_mode(have, &mode, mask);
}

char *verify_subset(const struct tree *some, mode_t some_mask, const struct tree *all,
    const struct model_file *exact, size_t exact_count)
{
	char *why = NULL;
	for (size_t i = 0; !why && i < some->count; i++) {
		const struct tree_entry *e = &some->entries[i];
		if (!e->predicted)
			why = compare_entry(e, some_mask, tree_find(all, e->path), exact, exact_count);
	}
	return why;
}
