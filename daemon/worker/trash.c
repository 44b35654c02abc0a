/* SPDX-License-Identifier: MIT */
/*
 * The trash's side of orders. In two steps, so that no tree lies in the trash without its record: the records of
 * a whole batch are written and synced before the first rename. The root's sync is the caller's.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "orders.h"
#include "paths.h"
#include "trash.h"

int trash_origin(const struct trashing *t, const char **ret_name)
{
	*ret_name = t->base ? t->base : t->name;
	return t->base ? t->parent_fd : WORKER_FD_ROOT;
}

static int no_such_environment(const struct trashing *t, struct failure *f)
{
	return failure_set(f, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{so}", "name", failure_text(t->name)));
}

void trash_remove_entry(const struct places *p, const char *entry)
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

int trash_prepare(const struct trashing *t, const struct places *p, struct failure *f)
{
	if (mkdirat(p->trash, t->entry, 0700) < 0 && errno != EEXIST)
		return failure_errno(f, "cannot make a place in the trash for '%s'", t->name);
	_cleanup_fd_ int fd = place_open(p->trash, t->entry, O_RDONLY | O_DIRECTORY);
	if (fd >= 0 && place_is(fd, PATH_TREE, t->want))
		return 1;
	const char *name;
	int from = trash_origin(t, &name);
	if (!place_is(from, name, t->want))
		no_such_environment(t, f);
	else if (fd < 0 || write_record(fd, t->record) < 0)
		failure_errno(f, "cannot write the record of '%s'", t->name);
	else
		return 0;
	trash_remove_entry(p, t->entry);
	return -1;
}

int trash_move(const struct trashing *t, const struct places *p, struct failure *f)
{
	_cleanup_fd_ int fd = place_open(p->trash, t->entry, O_RDONLY | O_DIRECTORY);
	const char *name;
	int from = trash_origin(t, &name);
	if (fd >= 0 && place_move_known(from, name, fd, PATH_TREE, t->want, t->entry) == 0)
		return 0;
	if (errno == EXDEV && t->base) {
		_cleanup_free_ char *command = xasprintf("venvctl delete --now %s", t->name);
		failure_set(f, ERROR_UNSUPPORTED, json_pack("{sososo}", "name", failure_text(t->name),
		    "reason", failure_text("it is on another file system than the trash"), "command",
		    failure_text(command)));
	} else if (errno == EXDEV) {
		_cleanup_free_ char *reason = xasprintf(
		    "this file system cannot move '%s' to the trash", t->name);
		failure_set(f, ERROR_UNSUPPORTED, json_pack("{soso}", "name", failure_text(t->name),
		    "reason", failure_text(reason)));
	} else if (errno == ENOENT || errno == ESTALE) {
		no_such_environment(t, f);
	} else {
		failure_errno(f, "cannot move to the trash '%s'", t->name);
	}
	trash_remove_entry(p, t->entry);
	return -1;
}

int trash_undo(const struct trashing *t, const struct places *p)
{
	_cleanup_fd_ int fd = place_open(p->trash, t->entry, O_RDONLY | O_DIRECTORY);
	const char *name;
	int from = trash_origin(t, &name);
	if (fd < 0 || place_move(fd, PATH_TREE, from, name) < 0)
		return -1;
	trash_remove_entry(p, t->entry);
	return 0;
}
