/* SPDX-License-Identifier: MIT */
/*
 * Another name for an environment, in the root or out of the trash. The tree itself is renamed; the files that name its
 * path change places with new ones, which have been written to the stage before.
 *
 *   stage/ENTRY/0,1,...        the new files, on the disk
 *   stage/ENTRY/journal.json   which file each of them is for, by inode; written last, on the disk
 *   "go"                       the row is on the disk
 *   each                       changes places (RENAME_EXCHANGE): whichever is in the stage is then the other one
 *   the tree                   gets its name, the root is synced
 *
 * So whatever happens, the journal and one look at each file say how to go back: the one that the journal knows by its
 * inode is taken out again. That is done (do_settle) when the tree has not got its new name, and it is exact: the old files
 * are the old ones themselves. What lies in the stage afterwards is of no more use.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "durable.h"
#include "inspect.h"
#include "moving.h"
#include "orders.h"
#include "orders_do.h"
#include "paths.h"
#include "place.h"
#include "source.h"
#include "talk.h"

#define JOURNAL "journal.json"
#define JOURNAL_BYTES (16 * 1024 * 1024)

struct renaming {
	json_t *order;
	const char *name, *entry, *path;        /* the new name, its absolute path; entry of the stage */
	struct source source;
	int journal_fd;                         /* stage/ENTRY */
	struct moving moving;
};

static void renaming_done(struct renaming *n)
{
	source_done(&n->source);
	cleanup_fd(&n->journal_fd);
	moving_done(&n->moving);
}

static const char *number(size_t i, char ret[24])
{
	snprintf(ret, 24, "%zu", i);
	return ret;
}

/* --- before --- */

/* A path is bytes, and JSON's strings are characters: each byte is the one of its number, and no path but that one. */
static json_t *path_json(const char *path)
{
	_cleanup_text_ struct text out = { 0 };
	for (const unsigned char *s = (const unsigned char *)path; *s; s++) {
		const unsigned char two[] = { 0xc0 | *s >> 6, 0x80 | (*s & 0x3f) };
		text_add(&out, *s < 0x80 ? s : two, *s < 0x80 ? 1 : 2);
	}
	return json_string(out.data ? out.data : "");
}

/* Owned; NULL if it is none. */
static char *path_of(const json_t *json)
{
	char *path = xstrdup(json_string_value(json)), *out = path;
	for (const unsigned char *s = (const unsigned char *)path; s && *s; s++) {
		bool two = (*s & 0xfc) == 0xc0 && (s[1] & 0xc0) == 0x80;
		*out++ = (char)(two ? s[0] << 6 | (s[1] & 0x3f) : *s);
		s += two;
	}
	if (out)
		*out = '\0';
	return path;
}

static int write_files(struct renaming *n, json_t *files)
{
	_cleanup_durable_ struct durable durable = { 0 };
	char text[24];
	struct stat st;
	for (size_t i = 0; i < n->moving.count; i++) {
		const struct moving_file *file = &n->moving.files[i];
		int fd;
		if (moving_make(file, n->journal_fd, number(i, text), &fd) < 0)
			return -1;
		if (fd >= 0)
			durable_add(&durable, fd);
		if (fstatat(n->journal_fd, text, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -1;
		json_array_append_new(files, json_pack("[o, I]", path_json(file->path), (json_int_t)st.st_ino));
	}
	return durable_wait(&durable);
}

/* The files first, and only then what gives them a meaning. */
static int write_journal(struct renaming *n, struct failure *f)
{
	json_auto_t *journal = json_pack("{ss, ss, ss*, sI, sI, s[]}", "from", n->source.name, "to", n->name, "trash",
	    n->source.trash, "ino", (json_int_t)n->source.id.ino, "btime", (json_int_t)n->source.id.btime_ns, "files");
	_cleanup_fd_ int stage = place_state_dir(PATH_STAGE);
	if (stage < 0 || mkdirat(stage, n->entry, 0700) < 0)
		return failure_errno(f, "cannot make a directory for the new files of '%s'", n->source.name);
	n->journal_fd = place_open(stage, n->entry, O_RDONLY | O_DIRECTORY);
	if (n->journal_fd < 0 || write_files(n, json_object_get(journal, "files")) < 0)
		return failure_errno(f, "cannot write the new files of '%s'", n->source.name);
	_cleanup_free_ char *text = json_dumps(journal, JSON_COMPACT);
	if (text && strlen(text) > JOURNAL_BYTES)
		return failure_reason(f, ERROR_UNSUPPORTED, "it is too large to be moved: the paths of its files are too long");
	_cleanup_fd_ int fd = openat(n->journal_fd, JOURNAL, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || !text || fd_write_all(fd, text, strlen(text)) < 0)
		return failure_errno(f, "cannot write the new files of '%s'", n->source.name);
	if (fsync(fd) < 0 || durable_names(n->journal_fd) < 0 || durable_directory(stage) < 0)
		return failure_sync(f);
	return 0;
}

/* --- changing places --- */

static int exchange(int journal_fd, size_t i, int parent, const char *name)
{
	char text[24];
	return renameat2(journal_fd, number(i, text), parent, name, RENAME_EXCHANGE);
}

static int changed(const struct moving_file *file, struct failure *f)
{
	return failure_reason(f, ERROR_FAILED, "'%s' in it was changed by somebody meanwhile", file->path);
}

static int exchange_all(struct renaming *n, struct failure *f)
{
	for (size_t i = 0; i < n->moving.count; i++) {
		const struct moving_file *file = &n->moving.files[i];
		const char *name;
		struct stat st;
		_cleanup_fd_ int parent = place_parent(n->source.fd, file->path, &name);
		if (parent < 0 || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != file->ino ||
		    st.st_mtim.tv_sec != file->mtime.tv_sec || st.st_mtim.tv_nsec != file->mtime.tv_nsec)
			return changed(file, f);
		if (exchange(n->journal_fd, i, parent, name) == 0)
			continue;
		if (errno == EINVAL)
			return failure_reason(f, ERROR_UNSUPPORTED, "this file system cannot exchange files");
		return failure_errno(f, "cannot replace '%s'", file->path);
	}
	return 0;
}

/* Every new file that is in the tree comes out of it, and the old one goes in. */
static int exchange_back(int tree_fd, int journal_fd, const json_t *files)
{
	size_t i;
	json_t *row;
	json_array_foreach(files, i, row) {
		_cleanup_free_ char *path = path_of(json_array_get(row, 0));
		const char *name;
		json_int_t ino = json_integer_value(json_array_get(row, 1));
		struct stat st;
		_cleanup_fd_ int parent = path ? place_parent(tree_fd, path, &name) : -1;
		if (parent < 0 || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (json_int_t)st.st_ino != ino)
			continue;
		if (exchange(journal_fd, i, parent, name) < 0)
			return -1;
	}
	return 0;
}

static int publish(struct renaming *n, struct failure *f)
{
	/* With one journal for all, what came before the rename is on the disk before it. */
	if (!durable_commits(WORKER_FD_ROOT) && syncfs(WORKER_FD_ROOT) < 0)
		return failure_sync(f);
	if (place_move_known(n->source.parent_fd, n->source.base, WORKER_FD_ROOT, n->name, n->source.id,
	    n->entry) == 0) {
		if (durable_directory(WORKER_FD_ROOT) < 0)
			return failure_sync(f);
		return 0;
	}
	if (errno == EEXIST)
		return failure_set(f, ERROR_ALREADY_EXISTS, json_pack("{so}", "name", failure_text(n->name)));
	if (errno == ENOENT || errno == ESTALE)
		return failure_set(f, ERROR_NO_SUCH_ENVIRONMENT, json_pack("{so}", "name",
		    failure_text(n->source.name)));
	return failure_errno(f, "cannot rename '%s'", n->source.name);
}

/* The old record says what was in the trash; it is not there any more. */
static bool leave_trash(const struct source *s)
{
	_cleanup_fd_ int trash = s->trash ? place_state_dir(PATH_TRASH) : -1;
	if (!s->trash)
		return true;
	unlinkat(s->parent_fd, PATH_RECORD, 0);
	return trash >= 0 && unlinkat(trash, s->trash, AT_REMOVEDIR) == 0;
}

int do_rename(json_t *order, json_t **ret, struct failure *f)
{
	__attribute__((cleanup(renaming_done))) struct renaming n = {
		.order = order, .source = SOURCE_NONE, .journal_fd = -1,
	};
	json_int_t id;
	const char *op;
	json_t *source;
	talk_unpack(order, "{s:I, s:s, s:s, s:s, s:s, s:o}", "id", &id, "op", &op, "name", &n.name, "entry",
	    &n.entry, "path", &n.path, "source", &source);
	if (!place_component(n.name) || !place_component(n.entry))
		return failure_reason(f, ERROR_FAILED, "'%s' is no name", n.name);
	if (source_open(&n.source, source, f) < 0)
		return -1;
	struct moving_question question = {
		.tree_fd = n.source.fd, .from = source_paths(&n.source), .from_count = n.source.path_count,
		.to = n.path, .from_name = source_base(&n.source), .to_name = n.name,
	};
	struct statx st;
	if (place_statx(WORKER_FD_ROOT, n.name, &st) == 0)
		return failure_set(f, ERROR_ALREADY_EXISTS, json_pack("{so}", "name", failure_text(n.name)));
	if (moving_scan(&question, &n.moving, f) < 0 || write_journal(&n, f) < 0 ||
	    talk_reserved(order, json_object(), f) < 0)
		return -1;
	/* From here on whatever goes wrong is settled by the daemon's next order. */
	if (exchange_all(&n, f) < 0 || publish(&n, f) < 0)
		return -1;
	bool left = !leave_trash(&n.source);
	*ret = json_pack("{so, sb}", "environment", inspect_one(WORKER_FD_ROOT, n.name), "left", left);
	return 0;
}

/* --- afterwards --- */

static int read_journal(int journal_fd, json_t **ret)
{
	_cleanup_text_ struct text text = { 0 };
	if (place_read(journal_fd, JOURNAL, JOURNAL_BYTES, &text, NULL) < 0)
		return -1;
	*ret = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
	errno = EINVAL;
	return *ret ? 0 : -1;
}

/* In the root, or in its entry of the trash. -1: it is not where it was. */
static int open_origin(const char *from, const char *trash, struct identity id)
{
	_cleanup_fd_ int trash_fd = trash ? place_state_dir(PATH_TRASH) : -1;
	_cleanup_fd_ int entry_fd = trash && trash_fd >= 0 ? place_open(trash_fd, trash, O_RDONLY | O_DIRECTORY) : -1;
	int parent = trash ? entry_fd : WORKER_FD_ROOT;
	const char *name = trash ? PATH_TREE : from;
	if (parent < 0 || !place_is(parent, name, id))
		return -1;
	return place_open(parent, name, O_RDONLY | O_DIRECTORY);
}

int do_settle(json_t *order, json_t **ret, struct failure *f)
{
	json_int_t id, ino, btime;
	const char *op, *entry, *from, *to, *trash = NULL;
	json_auto_t *journal = NULL;
	json_t *files;
	talk_unpack(order, "{s:I, s:s, s:s}", "id", &id, "op", &op, "entry", &entry);
	_cleanup_fd_ int stage = place_state_dir(PATH_STAGE);
	_cleanup_fd_ int journal_fd = stage < 0 || !place_component(entry) ? -1 :
	    place_open(stage, entry, O_RDONLY | O_DIRECTORY);
	/* Without a journal nothing has changed its place. */
	if (journal_fd < 0 || read_journal(journal_fd, &journal) < 0 ||
	    json_unpack(journal, "{s:s, s:s, s?s, s:I, s:I, s:o}", "from", &from, "to", &to, "trash", &trash, "ino", &ino,
	    "btime", &btime, "files", &files) < 0 || !place_component(from) || !place_component(to) ||
	    (trash && !place_component(trash))) {
		*ret = json_pack("{sb}", "renamed", 0);
		return 0;
	}
	struct identity tree = { .ino = ino, .btime_ns = btime };
	bool renamed = place_is(WORKER_FD_ROOT, to, tree);
	_cleanup_fd_ int fd = renamed ? -1 : open_origin(from, trash, tree);
	if (fd >= 0 && exchange_back(fd, journal_fd, files) < 0)
		return failure_errno(f, "cannot put the files of '%s' back", from);
	if ((fd >= 0 && syncfs(WORKER_FD_ROOT) < 0) || durable_directory(WORKER_FD_ROOT) < 0)
		return failure_sync(f);
	*ret = json_pack("{sb, ss, ss, ss*, sI, sI}", "renamed", renamed, "from", from, "to", to, "trash", trash, "ino", ino,
	    "btime", btime);
	return 0;
}
