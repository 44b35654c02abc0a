/* SPDX-License-Identifier: MIT */
/*
 * What lies in the root, in the trash, in the stage and in the pool: names, so that a start does not depend on how
 * large the environments are. Environments are not even stat'ed; the records in the trash are read.
 *
 * Nobody else works below the root while this runs, so what is only part of an image is a leftover: it goes to
 * the stage, and is listed there.
 *
 * What could not be read to its end is an error, never a shorter list: the daemon takes what is not
 * listed for gone.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "bounds.h"
#include "image.h"
#include "inspect.h"
#include "message.h"
#include "orders.h"
#include "orders_do.h"
#include "paths.h"
#include "place.h"
#include "talk.h"

#define SCAN_BATCH 512
#define SCAN_NAMES_BYTES 16384
#define TRASH_BATCH 64

/* A list that goes out as frames of at most so many. */
struct batch {
	const json_t *order;
	const char *frame, *key;
	size_t max;
	json_t *list;
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

/* DT_DIR, DT_LNK, or 0 for what is not listed. */
static unsigned char kind_of(int fd, const struct dirent *e)
{
	struct stat st;
	unsigned char type = e->d_type;
	if (type == DT_UNKNOWN && fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		type = IFTODT(st.st_mode);
	return type == DT_DIR || type == DT_LNK ? type : 0;
}

/* Where the inode that a directory lists is the one that a look at it gives: not so on overlayfs. */
static bool lists_inodes(int fd)
{
	struct statfs fs;
	return fstatfs(fd, &fs) == 0 && fs.f_type != OVERLAYFS_SUPER_MAGIC;
}

static ino_t inode_of(int fd, const struct dirent *e, bool listed)
{
	struct stat st;
	if (!listed && fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return st.st_ino;
	return e->d_ino;
}

/* "INO NAME/". One text for hundreds of names: each as a value of its own would be most of what a start takes. */
static void add_name(struct text *out, const char *name, ino_t ino)
{
	char digits[24];
	size_t at = sizeof(digits);
	const char *c = name;
	digits[--at] = ' ';
	do
		digits[--at] = (char)('0' + ino % 10);
	while ((ino /= 10) > 0);
	text_add(out, digits + at, sizeof(digits) - at);
	while (*c >= ' ' && *c < 0x7f)
		c++;
	_cleanup_free_ char *printable = *c ? text_printable(name) : NULL;
	text_adds(out, printable ? printable : name);
	text_add(out, "/", 1);
}

static void send_names(const json_t *order, struct text *names)
{
	if (names->len > 0)
		talk_frame(order, "names", json_pack("{ss}", "names", names->data));
	text_clear(names);
}

static int scan_names(json_t *order, bool *ret_truncated, struct failure *f)
{
	DIR *dir = open_dir(WORKER_FD_ROOT, "");
	if (!dir)
		return failure_errno(f, "cannot read the root");
	_cleanup_text_ struct text names = { 0 };
	size_t total = 0;
	bool listed = lists_inodes(dirfd(dir));
	int r = 0;
	for (struct dirent *e; !*ret_truncated && (e = place_next(dir, &r));) {
		if (e->d_name[0] == '.' || kind_of(dirfd(dir), e) == 0)
			continue;
		if (total++ >= LIMIT_ENVIRONMENTS)
			*ret_truncated = true;
		else
			add_name(&names, e->d_name, inode_of(dirfd(dir), e, listed));
		if (names.len >= SCAN_NAMES_BYTES)
			send_names(order, &names);
	}
	if (r < 0)
		failure_errno(f, "cannot read the root");
	closedir(dir);
	send_names(order, &names);
	return r < 0 ? -1 : talk_gone() ? failure_gone(f) : 0;
}

static json_t *read_record(int entry_fd)
{
	_cleanup_text_ struct text data = { 0 };
	if (entry_fd < 0 || place_read(entry_fd, PATH_RECORD, LIMIT_CFG_BYTES, &data, NULL) < 0)
		return json_null();
	/* A deeper one is none of ours, and the daemon could not read the frame that has it, nor what else is in that. */
	if (message_is_deeper(data.data, data.len, LIMIT_JSON_DEPTH))
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

/* A daemon that only looks has given us no such place. */
static bool has_state(void)
{
	struct stat state;
	return fstat(WORKER_FD_STATE, &state) < 0 || S_ISDIR(state.st_mode);
}

static int scan_state(json_t *order, const char *name, struct batch *b, struct failure *f)
{
	if (!has_state())
		return 0;
	DIR *dir = open_dir(WORKER_FD_STATE, name);
	if (!dir)
		return failure_errno(f, "cannot read '%s/%s'", PATH_STATE, name);
	b->order = order;
	int r = 0;
	for (struct dirent *e; !talk_gone() && (e = place_next(dir, &r));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		batch_add(b, strcmp(name, PATH_TRASH) == 0 ? trash_entry(dirfd(dir), e->d_name) :
		    failure_text(e->d_name));
	}
	if (r < 0)
		failure_errno(f, "cannot read '%s/%s'", PATH_STATE, name);
	closedir(dir);
	batch_send(b);
	return r;
}

/* --- the pool --- */

/* Calls each() for every directory in PATH_STATE/NAME; one that is not there is empty. */
static int each_directory(const char *name, void (*each)(json_t *list, int dir_fd, const char *name),
    json_t *list, struct failure *f)
{
	DIR *dir = open_dir(WORKER_FD_STATE, name);
	int r = 0;
	if (!dir && errno == ENOENT)
		return 0;
	if (!dir)
		return failure_errno(f, "cannot read '%s/%s'", PATH_STATE, name);
	for (struct dirent *e; !talk_gone() && (e = place_next(dir, &r));) {
		if (e->d_name[0] != '.' && kind_of(dirfd(dir), e) == DT_DIR)
			each(list, dirfd(dir), e->d_name);
	}
	if (r < 0)
		failure_errno(f, "cannot read '%s/%s'", PATH_STATE, name);
	closedir(dir);
	return r;
}

static void list_bucket(json_t *list, int pool_fd, const char *name)
{
	json_int_t entries = 0;
	int r;
	DIR *dir = open_dir(pool_fd, name);
	if (!dir)
		return;
	for (struct dirent *e; (e = place_next(dir, &r));)
		entries += e->d_name[0] != '.';
	closedir(dir);
	_cleanup_free_ char *image = xstrndup(name, strcspn(name, "~"));
	json_array_append_new(list, json_pack("{sosssI}", "bucket", failure_text(name), "image", image,
	    "entries", entries));
}

static void list_image(json_t *list, int images_fd, const char *name)
{
	json_t *image = image_describe(name);
	if (image) {
		json_array_append_new(list, image);
		return;
	}
	char entry[17];
	_cleanup_fd_ int stage = place_state_dir(PATH_STAGE);
	id_new(entry);
	if (stage >= 0)
		place_move(images_fd, name, stage, entry);
}

static int scan_pool(json_t *order, struct failure *f)
{
	if (!has_state())
		return 0;
	json_t *buckets = json_array(), *images = json_array();
	int r = 0;
	if (each_directory(PATH_POOL, list_bucket, buckets, f) < 0 ||
	    each_directory(PATH_IMAGES, list_image, images, f) < 0)
		r = -1;
	talk_frame(order, "pool", json_pack("{soso}", "buckets", buckets, "images", images));
	return r;
}

int do_scan(json_t *order, json_t **ret, struct failure *f)
{
	bool truncated = false;
	if (scan_names(order, &truncated, f) < 0)
		return -1;
	struct batch trash = { .frame = "trash", .key = "entries", .max = TRASH_BATCH };
	struct batch stage = { .frame = "stage", .key = "entries", .max = SCAN_BATCH };
	if (scan_pool(order, f) < 0 || scan_state(order, PATH_TRASH, &trash, f) < 0 ||
	    scan_state(order, PATH_STAGE, &stage, f) < 0)
		return -1;
	if (talk_gone())
		return failure_gone(f);
	if (truncated)
		*ret = json_pack("{sb}", "truncated", 1);
	return 0;
}

json_t *scan_look(const json_t *names)
{
	json_t *found = json_array(), *item;
	size_t i;
	json_array_foreach((json_t *)names, i, item) {
		const char *name = json_string_value(item);
		struct statx st;
		struct identity id = { 0 };
		_cleanup_free_ char *raw = name ? inspect_raw_name(name) : NULL;
		const char *tried[] = { name, raw };
		for (size_t k = 0; k < ARRAY_LENGTH(tried) && id.ino == 0; k++)
			if (tried[k] && place_component(tried[k]) && place_statx(WORKER_FD_ROOT, tried[k], &st) == 0 &&
			    (S_ISDIR(st.stx_mode) || S_ISLNK(st.stx_mode)))
				id = place_identity(&st);
		json_array_append_new(found, json_pack("[O, I, I]", item, (json_int_t)id.ino, (json_int_t)id.btime_ns));
	}
	return found;
}
