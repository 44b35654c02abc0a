/* SPDX-License-Identifier: MIT */
/*
 * Images as they lie there: finding, reading, remembering, marking. What a claim needs is one small
 * file each, kept in memory and valid as long as one stat of it says so; the manifest is read only
 * to fill or to check. golden.c makes them. An image is complete as soon as it has its name: it
 * comes there by one rename.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "bounds.h"
#include "installation.h"
#include "manifest.h"
#include "orders.h"
#include "paths.h"
#include "place.h"
#include "remove.h"

#define FORM 1                          /* of model.json */
#define FILE_BYTES (16 * 1024 * 1024)   /* of either of its files */
#define TOUCH_US (3600LL * 1000000)

struct known_image {
	struct image image;
	int64_t ino;
	struct timespec mtime;
	int64_t asked;          /* a counter: which was asked for last */
	int64_t touched_us;
};

static struct known_image *known[LIMIT_IMAGES];
static int64_t questions;

static void clear(struct image *image)
{
	free(image->key);
	free(image->delegate);
	free(image->python);
	free(image->version);
	model_free(image->model);
	model_answer_done(&image->blank);
	free(image->entries);
	json_decref(image->json);
	*image = (struct image){ 0 };
}

void image_free(struct image *image)
{
	if (image)
		clear(image);
	free(image);
}

void image_question(const struct interpreter *i, struct model_question *ret, char **ret_real)
{
	const char *base = json_string_value(json_object_get(i->facts, "baseExecutable"));
	const char *executable = json_string_value(json_object_get(i->facts, "executable"));
	executable = executable && *executable ? executable : i->executable;
	*ret_real = xrealpath(executable);
	*ret = (struct model_question){
		.executable = executable, .base_executable = base && *base ? base : executable,
		.executable_real = *ret_real ? *ret_real : executable,
	};
}

char *image_key(const struct interpreter *i, bool with_pip)
{
	static const char allowed[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
	char digest[17];
	if (!i->facts || !installation_digest(i, with_pip, digest))
		return NULL;
	char *key = xasprintf("%.40s-%.40s-%s-%s", i->implementation, i->version,
	    with_pip ? "pip" : "nopip", digest);
	for (char *c = key; *c; c++)
		if (!strchr(allowed, *c) || (c == key && *c == '.'))
			*c = '_';
	return key;
}

/* A file of one image; NULL with errno. */
static json_t *read_json(const char *key, const char *name, struct stat *ret_st)
{
	_cleanup_free_ char *path = xasprintf(PATH_IMAGES "/%s/%s", key, name);
	_cleanup_text_ struct text text = { 0 };
	if (place_read(WORKER_FD_STATE, path, FILE_BYTES, &text, ret_st) < 0)
		return NULL;
	json_t *json = json_loadb(text.data, text.len, 0, NULL);
	if (!json)
		errno = EBADMSG;
	return json;
}

static bool read_model(const char *key, struct image *ret, struct stat *ret_st)
{
	json_auto_t *json = read_json(key, MANIFEST_MODEL, ret_st);
	const char *python, *version, *delegate = NULL;
	json_t *model = NULL;
	json_int_t bytes;
	int form;
	if (json_unpack(json, "{si, ss, ss, sI, s?s, s?o}", "form", &form, "python", &python, "version",
	    &version, "bytes", &bytes, "delegate", &delegate, "model", &model) < 0 || form != FORM)
		return false;
	*ret = (struct image){
		.key = xstrdup(key), .delegate = xstrdup(delegate), .bytes = bytes,
		.python = xstrdup(python), .version = xstrdup(version),
		.model = delegate || !model ? NULL : model_from_json(model),
	};
	if (ret->model)
		model_render_blank(ret->model, &ret->blank);
	if (ret->model || ret->delegate)
		return true;
	clear(ret);
	return false;
}

static void forget(struct known_image **place)
{
	if (*place)
		clear(&(*place)->image);
	free(*place);
	*place = NULL;
}

/* Where this one is, else an empty place, else that of the one that was not asked for longest. */
static struct known_image **find_place(const char *key)
{
	struct known_image **best = &known[0];
	for (size_t i = 0; i < LIMIT_IMAGES; i++) {
		if (known[i] && strcmp(known[i]->image.key, key) == 0)
			return &known[i];
		if (*best && (!known[i] || known[i]->asked < (*best)->asked))
			best = &known[i];
	}
	return best;
}

static struct known_image *get(const char *key)
{
	char path[NAME_MAX + 64];
	struct stat st;
	if (!place_component(key) ||
	    snprintf(path, sizeof(path), PATH_IMAGES "/%s/" MANIFEST_MODEL, key) >= (int)sizeof(path))
		return NULL;
	struct known_image **place = find_place(key), *k = *place;
	bool same = k && strcmp(k->image.key, key) == 0;
	if (fstatat(WORKER_FD_STATE, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (same)
			forget(place);
		return NULL;
	}
	if (same && k->ino == (int64_t)st.st_ino && k->mtime.tv_sec == st.st_mtim.tv_sec &&
	    k->mtime.tv_nsec == st.st_mtim.tv_nsec) {
		k->asked = ++questions;
		return k;
	}
	forget(place);
	struct image image;
	if (!read_model(key, &image, &st))
		return NULL;
	*place = xcalloc(1, sizeof(**place));
	**place = (struct known_image){
		.image = image, .ino = st.st_ino, .mtime = st.st_mtim, .asked = ++questions,
	};
	return *place;
}

const struct image *image_get(const char *key)
{
	struct known_image *k = get(key);
	return k ? &k->image : NULL;
}

struct image *image_load(const char *key)
{
	struct stat st;
	struct image *image = xcalloc(1, sizeof(*image));
	errno = EBADMSG;
	if (place_component(key) && read_model(key, image, &st)) {
		if (image->delegate)
			return image;
		json_t *manifest = read_json(key, MANIFEST_FILE, &st);
		if (manifest && manifest_read(image, manifest) == 0)
			return image;
		errno = manifest ? EBADMSG : errno;
	}
	int err = errno;
	image_free(image);
	errno = err;
	return NULL;
}

json_t *image_describe(const char *key)
{
	struct image image;
	struct stat st;
	if (!place_component(key) || !read_model(key, &image, &st))
		return NULL;
	_cleanup_free_ char *manifest = xasprintf(PATH_IMAGES "/%s/" MANIFEST_FILE, key);
	_cleanup_free_ char *used = xasprintf(PATH_IMAGES "/%s/" IMAGE_USED, key);
	json_t *description = NULL;
	if (image.delegate || faccessat(WORKER_FD_STATE, manifest, R_OK, 0) == 0) {
		/* Never marked: it is as old as its file. */
		fstatat(WORKER_FD_STATE, used, &st, AT_SYMLINK_NOFOLLOW);
		description = json_pack("{ss, sI, sI, ss, ss}", "image", key, "usedAt",
		    (json_int_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000, "bytes",
		    (json_int_t)image.bytes, "python", image.python, "version", image.version);
		if (description && image.delegate)
			json_object_set_new(description, "delegate", json_string(image.delegate));
	}
	clear(&image);
	return description;
}

int image_open_tree(const char *key)
{
	_cleanup_fd_ int images = place_open(WORKER_FD_STATE, PATH_IMAGES, O_RDONLY | O_DIRECTORY);
	_cleanup_fd_ int image = images < 0 ? -1 : place_open(images, key, O_RDONLY | O_DIRECTORY);
	return image < 0 ? -1 : place_open(image, MANIFEST_TREE, O_RDONLY | O_DIRECTORY);
}

/* Out of everybody's sight by one rename, then away. False with errno. */
static bool move_away(int dir_fd, const char *name, int stage_fd)
{
	_cleanup_removal_ struct removal removal = { 0 };
	char entry[PLACE_STAGE_NAME];
	place_stage_name(entry);
	if (place_move(dir_fd, name, stage_fd, entry) < 0)
		return false;
	remove_entry(&removal, stage_fd, entry);
	return true;
}

/* What was made from it shares its files, and its key will be another image's: it goes first, whatever becomes of us. */
static void move_entries_away(const char *key, int stage_fd)
{
	int fd = place_open(WORKER_FD_STATE, PATH_POOL, O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	size_t len = strlen(key);
	if (!dir) {
		cleanup_fd(&fd);
		return;
	}
	for (struct dirent *e; (e = readdir(dir));)
		if (strncmp(e->d_name, key, len) == 0 && e->d_name[len] == '~')
			move_away(fd, e->d_name, stage_fd);
	closedir(dir);
}

void image_quarantine(const char *key, const char *why)
{
	_cleanup_fd_ int images = place_open(WORKER_FD_STATE, PATH_IMAGES, O_RDONLY | O_DIRECTORY);
	_cleanup_fd_ int stage = place_state_dir(PATH_STAGE);
	_cleanup_free_ char *text = text_printable(why);
	bool open = images >= 0 && stage >= 0 && place_component(key);
	if (open)
		move_entries_away(key, stage);
	bool moved = open && move_away(images, key, stage);
	fprintf(stderr, "venvd-worker: image '%s' is damaged: %s; %s\n", key, text,
	    moved ? "it will be made again" : strerror(errno));
	struct known_image **place = find_place(key);
	if (*place && strcmp((*place)->image.key, key) == 0)
		forget(place);
}

void image_touch(const char *key)
{
	struct known_image *k = *find_place(key);
	struct stat st;
	/* Who has it from image_get() goes on using it: it is not looked at anew here. */
	if (!k || strcmp(k->image.key, key) != 0)
		k = get(key);
	if (!k || (k->touched_us && now_us() - k->touched_us < TOUCH_US))
		return;
	k->touched_us = now_us();
	_cleanup_free_ char *path = xasprintf(PATH_IMAGES "/%s/" IMAGE_USED, key);
	_cleanup_fd_ int fd = place_make(WORKER_FD_STATE, path, O_WRONLY | O_CREAT, 0600);
	if (fd >= 0 && fstat(fd, &st) == 0 && k->touched_us - st.st_mtim.tv_sec * 1000000LL >= TOUCH_US)
		futimens(fd, NULL);
}
