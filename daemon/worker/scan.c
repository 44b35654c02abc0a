/* SPDX-License-Identifier: MIT */
/*
 * What lies in the root, in the trash and in the stage: names, so that a start does not depend on how
 * large the environments are. Environments are not even stat'ed; the records in the trash are read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "orders.h"
#include "orders_do.h"
#include "paths.h"
#include "place.h"
#include "talk.h"

#define SCAN_BATCH 512
#define TRASH_BATCH 64

/* A list that goes out as frames of at most so many. */
struct batch {
	const json_t *order;
	const char *frame, *key;
	size_t max;
	json_t *list;
	size_t total;
};

static void batch_send(struct batch *b)
{
	if (b->list)
		talk_frame(b->order, b->frame, json_pack("{so}", b->key, b->list));
	b->list = NULL;
}

static void batch_add(struct batch *b, json_t *item)
{
	if (!b->list)
		b->list = json_array();
	json_array_append_new(b->list, item);
	b->total++;
	if (json_array_size(b->list) >= b->max)
		batch_send(b);
}

/* NULL with errno; "" is the directory itself. */
static DIR *open_dir(int dir_fd, const char *name)
{
	int fd = *name ? place_open(dir_fd, name, O_RDONLY | O_DIRECTORY) :
	    openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

/* "dir", "link", or NULL for what is not listed. */
static const char *kind_of(int fd, const struct dirent *e)
{
	struct stat st;
	unsigned char type = e->d_type;
	if (type == DT_UNKNOWN && fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		type = IFTODT(st.st_mode);
	return type == DT_DIR ? "dir" : type == DT_LNK ? "link" : NULL;
}

static int scan_names(json_t *order, bool *ret_truncated, struct failure *f)
{
	DIR *dir = open_dir(WORKER_FD_ROOT, "");
	if (!dir)
		return failure_errno(f, "cannot read the root");
	struct batch b = { .order = order, .frame = "names", .key = "names", .max = SCAN_BATCH };
	for (struct dirent *e; (e = readdir(dir)) && !*ret_truncated;) {
		const char *kind = e->d_name[0] == '.' ? NULL : kind_of(dirfd(dir), e);
		if (!kind)
			continue;
		if (b.total >= LIMIT_ENVIRONMENTS)
			*ret_truncated = true;
		else
			batch_add(&b, json_pack("[oIs]", failure_text(e->d_name), (json_int_t)e->d_ino,
			    kind));
	}
	closedir(dir);
	batch_send(&b);
	return talk_gone() ? failure_gone(f) : 0;
}

static json_t *read_record(int entry_fd)
{
	_cleanup_text_ struct text data = { 0 };
	if (entry_fd < 0 || place_read(entry_fd, PATH_RECORD, LIMIT_CFG_BYTES, &data, NULL) < 0)
		return json_null();
	json_t *record = data.data ? json_loadb(data.data, data.len, 0, NULL) : NULL;
	if (json_is_object(record))
		return record;
	json_decref(record);
	return json_null();
}

static json_t *trash_entry(int trash_fd, const char *name)
{
	_cleanup_fd_ int fd = place_open(trash_fd, name, O_PATH | O_DIRECTORY);
	struct statx st;
	struct identity id = { 0 };
	bool tree = fd >= 0 && place_statx(fd, PATH_TREE, &st) == 0 && S_ISDIR(st.stx_mode);
	if (tree)
		id = place_identity(&st);
	return json_pack("{sosIsIsosb}", "entry", failure_text(name), "ino", (json_int_t)id.ino, "btime",
	    (json_int_t)id.btime_ns, "record", read_record(fd), "tree", tree);
}

static void scan_state(json_t *order, const char *name, struct batch *b)
{
	DIR *dir = open_dir(WORKER_FD_STATE, name);
	if (!dir)
		return;
	b->order = order;
	for (struct dirent *e; !talk_gone() && (e = readdir(dir));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		batch_add(b, strcmp(name, PATH_TRASH) == 0 ? trash_entry(dirfd(dir), e->d_name) :
		    failure_text(e->d_name));
	}
	closedir(dir);
	batch_send(b);
}

int do_scan(json_t *order, json_t **ret, struct failure *f)
{
	bool truncated = false;
	if (scan_names(order, &truncated, f) < 0)
		return -1;
	struct batch trash = { .frame = "trash", .key = "entries", .max = TRASH_BATCH };
	struct batch stage = { .frame = "stage", .key = "entries", .max = SCAN_BATCH };
	scan_state(order, PATH_TRASH, &trash);
	scan_state(order, PATH_STAGE, &stage);
	if (talk_gone())
		return failure_gone(f);
	if (truncated)
		*ret = json_pack("{sb}", "truncated", 1);
	return 0;
}
