/* SPDX-License-Identifier: MIT */
/*
 * Images and the pool's entries: making them ahead of any claim, and taking them away. An entry is made in the
 * stage, synced with all others of its order, and only then renamed into its bucket: being there means complete.
 * What fails or is stopped leaves nothing in the pool, and in the stage only what the daemon sweeps.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "clone.h"
#include "durable.h"
#include "known.h"
#include "orders.h"
#include "orders_do.h"
#include "paths.h"
#include "place.h"
#include "remove.h"
#include "talk.h"

struct filling {
	const char *image_key, *bucket, *copies;
	int mask, count, verify;
	enum clone_mode mode;
	struct image *image;
	int tree_fd, stage_fd, pool_fd, bucket_fd;
	struct model_answer answer;             /* with copies: where the executables go */
	struct durable durable;
	bool commits;                           /* durable_commits() of the stage */
	char entries[LIMIT_FILL_ENTRIES][PLACE_STAGE_NAME];
	int made;
	struct clone_result result;
};

static void filling_done(struct filling *w)
{
	image_free(w->image);
	cleanup_fd(&w->tree_fd);
	cleanup_fd(&w->stage_fd);
	cleanup_fd(&w->pool_fd);
	cleanup_fd(&w->bucket_fd);
	model_answer_done(&w->answer);
	durable_done(&w->durable);
}

int do_image(json_t *order, json_t **ret, struct failure *f)
{
	const char *python;
	int without_pip, probe_ms;
	json_t *caller_json = NULL;
	struct caller caller;
	talk_unpack(order, "{s:s, s:b, s:i, s?o}", "python", &python, "withoutPip", &without_pip, "probeMs",
	    &probe_ms, "caller", &caller_json);
	talk_positive(probe_ms);
	caller_init(&caller, caller_json);
	_cleanup_interpreter_ struct interpreter interpreter = { 0 };
	_cleanup_free_ char *before = NULL, *key = NULL, *delegate = NULL;
	if (known_ask(python, python, &caller, probe_ms, &interpreter, f) != 0 ||
	    probe_require_venv(&interpreter, !without_pip, f) < 0)
		return -1;
	before = image_key(&interpreter, !without_pip);
	bool fresh = before && !image_get(before);
	if (image_make(&interpreter, !without_pip, &caller, &key, &delegate, f) < 0)
		return -1;
	*ret = image_describe(key);
	if (!*ret)
		*ret = json_pack("{ss}", "image", key);
	if (fresh && strcmp(before, key) == 0)
		json_object_set_new(*ret, "fresh", json_true());
	return 0;
}

/* --- fill --- */

static int read_order(struct filling *w, json_t *order, struct failure *f)
{
	const char *link_mode;
	json_t *copies = NULL;
	talk_unpack(order, "{s:s, s:s, s:i, s?o, s:i, s:s, s:b}", "image", &w->image_key, "bucket", &w->bucket,
	    "umask", &w->mask, "copies", &copies, "count", &w->count, "linkMode", &link_mode, "verify",
	    &w->verify);
	w->copies = json_string_value(copies);
	int mode = clone_mode_from_name(link_mode);
	if (!place_component(w->image_key) || !place_component(w->bucket) || mode < 0)
		return failure_reason(f, ERROR_FAILED, "'%s' is no bucket that can be filled", w->bucket);
	w->mode = (enum clone_mode)mode;
	if (w->count > LIMIT_FILL_ENTRIES)
		w->count = LIMIT_FILL_ENTRIES;
	return 0;
}

static int open_places(struct filling *w, struct failure *f)
{
	w->stage_fd = place_state_dir(PATH_STAGE);
	w->pool_fd = place_state_dir(PATH_POOL);
	if (w->stage_fd < 0 || w->pool_fd < 0)
		return failure_errno(f, "cannot open the stage and the pool");
	place_mark_cache(w->pool_fd);
	if (mkdirat(w->pool_fd, w->bucket, 0700) < 0 && errno != EEXIST)
		return failure_errno(f, "cannot make the bucket '%s'", w->bucket);
	w->bucket_fd = place_open(w->pool_fd, w->bucket, O_RDONLY | O_DIRECTORY);
	if (w->bucket_fd < 0)
		return failure_errno(f, "cannot open the bucket '%s'", w->bucket);
	w->commits = durable_commits(w->stage_fd);
	return 0;
}

/* NULL, or what is wrong with the image; owned. */
static char *open_image(struct filling *w)
{
	w->image = image_load(w->image_key);
	if (!w->image)
		return xasprintf("its manifest cannot be read: %s", strerror(errno));
	w->tree_fd = image_open_tree(w->image_key);
	if (w->tree_fd < 0)
		return xasprintf("its files cannot be read: %s", strerror(errno));
	if (!w->image->model)
		return xstrdup("it is not for making environments");
	return image_check(w->image, w->tree_fd, w->verify);
}

static int find_executables(struct filling *w, struct failure *f)
{
	if (!w->copies || model_render_links(w->image->model, w->copies, true, &w->answer) == 0)
		return 0;
	return failure_reason(f, ERROR_FAILED, "what '%s' copies cannot be predicted", w->copies);
}

static int make_one(struct filling *w, struct failure *f)
{
	char *entry = w->entries[w->made];
	place_stage_name(entry);
	mode_t before = umask(0);
	int r = mkdirat(w->stage_fd, entry, 0777 & ~(mode_t)w->mask);
	umask(before);
	if (r < 0)
		return failure_errno(f, "cannot make a directory for the pool");
	w->made++;
	_cleanup_fd_ int dir_fd = place_open(w->stage_fd, entry, O_RDONLY | O_DIRECTORY);
	struct durable *durable = w->commits ? &w->durable : NULL;
	struct clone_result *result = w->made == 1 ? &w->result : NULL;
	int64_t bytes = 0;
	if (dir_fd < 0)
		return failure_errno(f, "cannot open a directory for the pool");
	if (clone_payload(w->image, w->tree_fd, dir_fd, w->mask, w->mode, durable, result, f) < 0 ||
	    clone_blanks(&w->image->blank, dir_fd, w->mask, durable, &bytes, f) < 0 ||
	    (w->copies && clone_executables(&w->answer, dir_fd, w->mode, durable, &bytes, f) < 0))
		return -1;
	w->result.bytes += result ? bytes : 0;
	return 0;
}

static int make_all(struct filling *w, struct failure *f)
{
	while (w->made < w->count) {
		if (talk_gone())
			return failure_gone(f);
		if (make_one(w, f) < 0)
			return -1;
	}
	if (durable_wait(&w->durable) < 0 || durable_names(w->stage_fd) < 0) {
		bool full = errno == ENOSPC || errno == EDQUOT;
		return full ? failure_errno(f, "cannot write to the pool") : failure_sync(f);
	}
	return talk_gone() ? failure_gone(f) : 0;
}

static int publish(struct filling *w, struct failure *f)
{
	for (int i = 0; i < w->made; i++)
		if (place_move(w->stage_fd, w->entries[i], w->bucket_fd, strchr(w->entries[i], '~') + 1) < 0)
			return failure_errno(f, "cannot move an entry into the pool");
	return durable_directory(w->bucket_fd) < 0 || durable_directory(w->pool_fd) < 0 ? failure_sync(f) : 0;
}

static void take_back(struct filling *w)
{
	_cleanup_removal_ struct removal r = { 0 };
	for (int i = 0; i < w->made && !r.gone; i++)
		remove_entry(&r, w->stage_fd, w->entries[i]);
}

int do_fill(json_t *order, json_t **ret, struct failure *f)
{
	__attribute__((cleanup(filling_done))) struct filling w = {
		.tree_fd = -1, .stage_fd = -1, .pool_fd = -1, .bucket_fd = -1,
	};
	if (read_order(&w, order, f) < 0)
		return -1;
	_cleanup_free_ char *damage = open_image(&w);
	if (damage) {
		image_quarantine(w.image_key, damage);
		*ret = json_pack("{so}", "damaged", failure_text(damage));
		return 0;
	}
	if (open_places(&w, f) < 0 || find_executables(&w, f) < 0)
		return -1;
	if (make_all(&w, f) < 0 || publish(&w, f) < 0) {
		take_back(&w);
		return -1;
	}
	*ret = json_pack("{sisI}", "made", w.made, "bytes", (json_int_t)w.result.bytes);
	if (w.result.how != CLONE_AUTO)
		json_object_set_new(*ret, "how", json_string(clone_mode_name(w.result.how)));
	return 0;
}

/* --- evict --- */

struct eviction {
	int stage_fd, pool_fd;
	struct removal removal;
};

static void eviction_done(struct eviction *e)
{
	cleanup_fd(&e->stage_fd);
	cleanup_fd(&e->pool_fd);
	remove_done(&e->removal);
}

/* Out of everybody's sight by one rename, then away. Not there: somebody else has it. */
static void evict_one(struct eviction *e, int dir_fd, const char *name)
{
	char entry[PLACE_STAGE_NAME];
	place_stage_name(entry);
	if (place_move(dir_fd, name, e->stage_fd, entry) == 0)
		remove_entry(&e->removal, e->stage_fd, entry);
}

static void evict_bucket(struct eviction *e, const char *bucket, json_int_t keep)
{
	int fd = place_open(e->pool_fd, bucket, O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		cleanup_fd(&fd);
		return;
	}
	json_int_t seen = 0;
	for (struct dirent *d; !e->removal.gone && (d = readdir(dir));)
		if (d->d_name[0] != '.' && ++seen > keep)
			evict_one(e, fd, d->d_name);
	closedir(dir);
	if (keep == 0)
		unlinkat(e->pool_fd, bucket, AT_REMOVEDIR);
}

static void evict_buckets(struct eviction *e, const json_t *buckets)
{
	json_t *item;
	size_t i;
	json_array_foreach(buckets, i, item) {
		const char *bucket;
		json_int_t keep;
		talk_unpack(item, "{s:s, s:I}", "bucket", &bucket, "keep", &keep);
		if (place_component(bucket) && !e->removal.gone)
			evict_bucket(e, bucket, keep);
	}
}

static void evict_images(struct eviction *e, const json_t *images)
{
	_cleanup_fd_ int fd = place_open(WORKER_FD_STATE, PATH_IMAGES, O_RDONLY | O_DIRECTORY);
	json_t *item;
	size_t i;
	json_array_foreach(images, i, item) {
		const char *key = json_string_value(item);
		if (fd >= 0 && key && place_component(key) && !e->removal.gone)
			evict_one(e, fd, key);
	}
}

int do_evict(json_t *order, json_t **ret, struct failure *f)
{
	json_t *buckets, *images;
	talk_unpack(order, "{s:o, s:o}", "buckets", &buckets, "images", &images);
	__attribute__((cleanup(eviction_done))) struct eviction e = {
		.stage_fd = place_state_dir(PATH_STAGE), .pool_fd = place_state_dir(PATH_POOL),
	};
	if (e.stage_fd < 0 || e.pool_fd < 0)
		return failure_errno(f, "cannot open the stage and the pool");
	evict_buckets(&e, buckets);
	evict_images(&e, images);
	if (e.removal.gone)
		return failure_gone(f);
	*ret = json_pack("{sI}", "removed", e.removal.removed);
	return 0;
}
