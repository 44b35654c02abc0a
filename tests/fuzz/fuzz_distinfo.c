/* SPDX-License-Identifier: MIT */
/*
 * The reader of METADATA, PKG-INFO, direct_url.json and .egg-link (worker/distinfo.c), over real files in a directory of its own:
 * one of each. What is in RECORD is fuzz_moved's. The input is cut at 0xff: the name of a .dist-info, its METADATA, its
 * direct_url.json; the name of an .egg-info and its text; the name of an .egg-link and its text.
 *
 * Invariants: names, versions and URLs are of the forms that a line of a requirements file may have (written here
 * once more); no URL's authority holds a password; packages are in strict order of their names; a METADATA with a good
 * name is told; and JSON says the same before and after it was printed.
 */
#include <assert.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "distinfo.h"
#include "util.h"

#define PARTS 7
#define NAME_BYTES 230

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct part {
	const char *text;
	size_t len;
};

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/* The three entries, and their files. */
static struct {
	const char *suffix, *file;
	char name[NAME_BYTES + 16];
	int fd, url_fd;                 /* of the text; of direct_url.json */
} entries[] = {
	{ ".dist-info", "METADATA", "", -1, -1 }, { ".egg-info", NULL, "", -1, -1 }, { ".egg-link", NULL, "", -1, -1 },
};
static int tree = -1, site = -1;
static char *tree_path;

static int directory(int in, const char *name)
{
	mkdirat(in, name, 0700);
	int fd = openat(in, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(fd >= 0);
	return fd;
}

static void forget_tree(void)
{
	_cleanup_free_ char *command = xasprintf("rm -rf '%s'", tree_path);
	if (system(command) != 0)
		return;
	free(tree_path);
}

static void make_tree(void)
{
	tree_path = xasprintf("%s/venvd-fuzz-XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
	assert(mkdtemp(tree_path) != NULL);
	atexit(forget_tree);
	tree = open(tree_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int lib = directory(tree, "lib"), python = directory(lib, "python3.12");
	site = directory(python, "site-packages");
	for (size_t i = 0; i < ARRAY_LENGTH(entries); i++) {
		snprintf(entries[i].name, sizeof(entries[i].name), "%zu%s", i, entries[i].suffix);
		_cleanup_fd_ int own = entries[i].file != NULL ? directory(site, entries[i].name) : -1;
		const char *file = entries[i].file != NULL ? entries[i].file : entries[i].name;
		entries[i].fd = openat(own >= 0 ? own : site, file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		assert(entries[i].fd >= 0);
		if (own >= 0)
			entries[i].url_fd = openat(own, "direct_url.json", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	}
}

static void put(int fd, struct part p)
{
	if (ftruncate(fd, 0) != 0 || pwrite(fd, p.text, p.len, 0) != (ssize_t)p.len)
		abort();
}

/* A file's name may hold anything but two bytes; that of each entry begins with its number, so that no two are one. */
static void call_it(size_t i, struct part p)
{
	char name[NAME_BYTES + 16];
	size_t n = 0;
	for (size_t k = 0; k < p.len && n < NAME_BYTES; k++)
		if (p.text[k] != '\0' && p.text[k] != '/')
			name[n++] = p.text[k];
	snprintf(name + n, sizeof(name) - n, "%s", entries[i].suffix);
	for (size_t k = 0; k < ARRAY_LENGTH(entries); k++)
		if (k != i && strcmp(entries[k].name, name) == 0)
			return;
	if (strcmp(name, entries[i].name) != 0 && renameat(site, entries[i].name, site, name) == 0)
		memcpy(entries[i].name, name, sizeof(name));
}

static bool is_word(const char *s, const char *others)
{
	size_t len = strlen(s);
	for (size_t i = 0; i < len; i++)
		if (strchr(letters, s[i]) == NULL && strchr(others, s[i]) == NULL)
			return false;
	return len > 0 && len <= 200 && strchr(letters, s[0]) != NULL;
}

static bool is_name(const char *s)
{
	return is_word(s, "._-") && strchr(letters, s[strlen(s) - 1]) != NULL;
}

/* PEP 503. */
static char *key_of(const char *name)
{
	struct text key = { 0 };
	text_adds(&key, "");
	for (; *name != '\0'; name++) {
		char c = *name >= 'A' && *name <= 'Z' ? (char)(*name + 'a' - 'A') : *name;
		if (strchr("._-", c) == NULL)
			text_add(&key, &c, 1);
		else if (key.data[key.len - 1] != '-')
			text_add(&key, "-", 1);
	}
	return key.data;
}

static void check_url(const char *url)
{
	for (const unsigned char *p = (const unsigned char *)url; *p != '\0'; p++)
		assert(*p > 0x20 && *p != 0x7f);
	const char *scheme = strstr(url, "://");
	if (scheme == NULL)
		return;
	_cleanup_free_ char *authority = xstrndup(scheme + 3, strcspn(scheme + 3, "/?#"));
	char *at = strrchr(authority, '@');
	/* Without a path it may be that of a commit: https://host@0123. */
	if (at == NULL || scheme[3 + strlen(authority)] != '/')
		return;
	*at = '\0';
	assert(scheme - url >= 3 && strncmp(scheme - 3, "ssh", 3) == 0 && strchr(authority, ':') == NULL);
}

/* The value of the head's first "Name:", if it is a good name. */
static char *name_in(struct part p)
{
	size_t len = p.len < 16 * 1024 ? p.len : 16 * 1024;
	for (size_t at = 0, end; at < len; at = end + 1) {
		const char *newline = memchr(p.text + at, '\n', len - at);
		end = newline != NULL ? (size_t)(newline - p.text) : len;
		if (end == at || p.text[at] == '\r')
			return NULL;
		if (end - at < 5 || strncasecmp(p.text + at, "name:", 5) != 0)
			continue;
		size_t from = at + 5, to = end;
		while (from < to && strchr(" \t", p.text[from]) != NULL && p.text[from] != '\0')
			from++;
		while (to > from && strchr(" \t\r", p.text[to - 1]) != NULL && p.text[to - 1] != '\0')
			to--;
		char *name = memchr(p.text + from, '\0', to - from) != NULL ? NULL : xstrndup(p.text + from, to - from);
		if (name != NULL && is_name(name))
			return name;
		free(name);
		return NULL;
	}
	return NULL;
}

static void check(const json_t *packages, const char *expected)
{
	_cleanup_free_ char *before = xstrdup(""), *wanted = expected != NULL ? key_of(expected) : NULL;
	bool found = wanted == NULL;
	assert(json_array_size(packages) <= ARRAY_LENGTH(entries));
	for (size_t i = 0; i < json_array_size(packages); i++) {
		const json_t *package = json_array_get(packages, i);
		const json_t *version = json_object_get(package, "version"), *url = json_object_get(package, "directUrl");
		const json_t *editable = json_object_get(package, "editable");
		const char *name = json_string_value(json_object_get(package, "name"));
		assert(name != NULL && is_name(name));
		assert(version == NULL || is_word(json_string_value(version), "._-+!"));
		assert(editable == NULL || json_is_true(editable));
		assert(json_object_size(package) == 1u + (version != NULL) + (url != NULL) + (editable != NULL));
		if (url != NULL)
			check_url(json_string_value(url));
		char *key = key_of(name);
		assert(strcmp(before, key) < 0);
		found = found || strcmp(key, wanted) == 0;
		free(before);
		before = key;
	}
	assert(found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct part parts[PARTS] = { { NULL, 0 } };
	if (tree < 0)
		make_tree();
	for (size_t i = 0, at = 0; i < PARTS && at <= size; i++) {
		const uint8_t *end = at < size ? memchr(data + at, 0xff, size - at) : NULL;
		parts[i].text = (const char *)data + at;
		parts[i].len = end != NULL ? (size_t)(end - data) - at : size - at;
		at += parts[i].len + 1;
	}
	for (size_t i = 0; i < PARTS; i++)
		if (parts[i].text == NULL)
			parts[i].text = "";
	call_it(0, parts[0]);
	put(entries[0].fd, parts[1]);
	put(entries[0].url_fd, parts[2]);
	call_it(1, parts[3]);
	put(entries[1].fd, parts[4]);
	call_it(2, parts[5]);
	put(entries[2].fd, parts[6]);
	/* pip gives such names to what it is about to take away. */
	_cleanup_free_ char *expected = strchr("~-", entries[0].name[0]) == NULL ? name_in(parts[1]) : NULL;
	if (strcmp(entries[0].name, ".dist-info") == 0) {
		free(expected);                 /* no more than a suffix */
		expected = NULL;
	}
	json_t *packages = distinfo_read(tree);
	check(packages, expected);
	char *printed = json_dumps(packages, JSON_COMPACT);
	assert(printed != NULL);
	json_t *again = json_loads(printed, 0, NULL);
	assert(json_equal(packages, again));
	free(printed);
	json_decref(again);
	json_decref(packages);
	return 0;
}
