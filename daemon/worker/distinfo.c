/* SPDX-License-Identifier: MIT */
/*
 * Reading of what is installed. For each entry of a site-packages: *.dist-info and *.egg-info directories, *.egg-info
 * files, *.egg directories, and *.egg-link files (`pip install -e` of old). Of a METADATA or PKG-INFO only the head
 * is read, up to the first empty line.
 *
 * Everything here was written by whatever was installed: it is opened without following links, regular files alone
 * are read, and no more than a bound of each. A name or version that the packaging standards do not allow is not
 * passed on, because it ends up as a line of a requirements file; credentials in a URL are left out (PEP 610).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "bounds.h"
#include "distinfo.h"
#include "failure.h"
#include "inspect.h"
#include "orders.h"
#include "orders_do.h"
#include "paths.h"
#include "place.h"
#include "talk.h"

#define HEAD_BYTES (16 * 1024)          /* of a METADATA; its description comes after the head */
#define URL_FILE_BYTES (16 * 1024)      /* of a direct_url.json or .egg-link */
#define URL_BYTES 2048                  /* of one URL that is told */
#define WORD_BYTES 200                  /* of a name or version */
#define SITES_MAX 8                     /* directories of one environment that are read */
#define ENTRIES_MAX (16 * LIMIT_PACKAGES)       /* looked at in one of them */

struct found {
	char *name, *version, *url;     /* version and url may be NULL */
	char *key;                      /* the name as PEP 503 compares it */
	bool editable;
};

struct finding {
	struct found *all;
	size_t count;
	int error;                      /* why a directory could not be read; 0 */
};

static void found_done(struct found *p)
{
	free(p->name);
	free(p->version);
	free(p->url);
	free(p->key);
}

/* --- words --- */

static bool ends_in(const char *s, const char *suffix)
{
	size_t len = strlen(s), n = strlen(suffix);
	return len > n && strcmp(s + len - n, suffix) == 0;
}

static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* PEP 508: letters, digits, '.', '_' and '-', the first and the last one of the former two. */
static bool is_name(const char *s)
{
	size_t len = strlen(s);
	if (len == 0 || len > WORD_BYTES || !is_alphanumeric(s[0]) || !is_alphanumeric(s[len - 1]))
		return false;
	for (; *s; s++)
		if (!is_alphanumeric(*s) && !strchr("._-", *s))
			return false;
	return true;
}

/* PEP 440, and what was before it. */
static bool is_version(const char *s)
{
	size_t len = strlen(s);
	if (len == 0 || len > WORD_BYTES || !is_alphanumeric(s[0]))
		return false;
	for (; *s; s++)
		if (!is_alphanumeric(*s) && !strchr("._-+!", *s))
			return false;
	return true;
}

/* "Foo.Bar_baz" as "foo-bar-baz"; owned. */
static char *name_key(const char *name)
{
	char *key = xstrdup(name), *out = key;
	for (const char *s = name; *s; s++) {
		if (is_alphanumeric(*s))
			*out++ = *s >= 'A' && *s <= 'Z' ? *s - 'A' + 'a' : *s;
		else if (out > key && out[-1] != '-')
			*out++ = '-';
	}
	*out = '\0';
	return key;
}

/* --- URLs --- */

/* A copy without user and password. What only names the user of an ssh account is none: git@example.org. Owned. */
static char *url_without_secrets(const char *url)
{
	const char *scheme = strstr(url, "://");
	if (!scheme)
		return xstrdup(url);
	const char *start = scheme + 3;
	size_t authority = strcspn(start, "/?#"), user = authority;
	while (user > 0 && start[user - 1] != '@')
		user--;
	bool ssh = scheme - url >= 3 && strncmp(scheme - 3, "ssh", 3) == 0;
	if (user == 0 || (ssh && !memchr(start, ':', user)))
		return xstrdup(url);
	return xasprintf("%.*s%s", (int)(start - url), url, start + user);
}

/* One line of printable characters without blanks and those that RFC 3986 knows none of: in a requirements file a '\\' at
 * the end takes the next line in, and "${NAME}" is a variable of whoever installs it. */
static bool is_url(const char *s)
{
	size_t len = strlen(s);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] <= 0x20 || s[i] == 0x7f || strchr("\\{}<>\"^`|", s[i]))
			return false;
	return len > 0 && len <= URL_BYTES && strchr(s, ':') != NULL;
}

/* A path as a file: URL; owned, NULL if it is none that could be told. */
static char *url_of_path(const char *path)
{
	if (path[0] != '/' || strlen(path) > URL_BYTES / 3)
		return NULL;
	struct text out = { 0 };
	text_adds(&out, "file://");
	for (const char *s = path; *s; s++) {
		if (is_alphanumeric(*s) || strchr("/._-~+", *s))
			text_add(&out, s, 1);
		else
			text_addf(&out, "%%%02X", (unsigned char)*s);
	}
	return out.data;
}

static const char *member(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* Nothing that would be read as another part of the URL. */
static bool is_plain(const char *s, const char *others)
{
	for (; *s; s++)
		if (!is_alphanumeric(*s) && !strchr(others, *s))
			return false;
	return true;
}

/* What a direct_url.json says, as `pip freeze` writes it: VCS+URL@COMMIT#subdirectory=... Owned, or NULL. */
static char *url_of_record(const json_t *record)
{
	const char *url = member(record, "url"), *part = member(record, "subdirectory");
	const json_t *vcs = json_object_get(record, "vcs_info");
	const char *tool = member(vcs, "vcs"), *commit = member(vcs, "commit_id");
	const char *hash = member(json_object_get(record, "archive_info"), "hash");
	if (!url || !*url || (tool && !is_plain(tool, "")) || (tool && commit && !is_plain(commit, "._-+")))
		return NULL;
	_cleanup_free_ char *bare = url_without_secrets(url);
	struct text out = { 0 };
	if (tool && *tool)
		text_addf(&out, "%s+", tool);
	text_adds(&out, bare);
	if (tool && commit && *commit)
		text_addf(&out, "@%s", commit);
	if (hash && *hash)
		text_addf(&out, "#%s", hash);
	if (part && *part)
		text_addf(&out, "%ssubdirectory=%s", hash && *hash ? "&" : "#", part);
	if (is_url(out.data))
		return out.data;
	text_done(&out);
	return NULL;
}

/* --- files --- */

/* As place_read, but of a longer file its beginning. */
static int read_head(int dir_fd, const char *name, struct text *ret)
{
	char buf[HEAD_BYTES];
	struct stat st;
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return -1;
	_cleanup_fd_ int fd = place_open(dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -1;
	ssize_t n = pread(fd, buf, sizeof(buf), 0);
	if (n < 0)
		return -1;
	text_add(ret, buf, n);
	return 0;
}

/* The value of a line "Key: value" of the head, stripped; owned, NULL if there is none or it holds a NUL. */
static char *head_value(const struct text *head, const char *key)
{
	size_t key_len = strlen(key);
	const char *line = head->data, *end = head->data + head->len;
	while (line < end && *line != '\n' && *line != '\r') {
		const char *newline = memchr(line, '\n', end - line);
		const char *stop = newline ? newline : end;
		if ((size_t)(stop - line) > key_len && strncasecmp(line, key, key_len) == 0 &&
		    line[key_len] == ':') {
			const char *s = line + key_len + 1;
			while (s < stop && (*s == ' ' || *s == '\t'))
				s++;
			while (stop > s && (stop[-1] == ' ' || stop[-1] == '\t' || stop[-1] == '\r'))
				stop--;
			return memchr(s, '\0', stop - s) ? NULL : xstrndup(s, stop - s);
		}
		line = newline ? newline + 1 : end;
	}
	return NULL;
}

/* "foo_bar-1.0.dist-info": what the name of the entry says, where the file in it says nothing. */
static void guess_from_entry(const char *entry, struct found *p)
{
	_cleanup_free_ char *stem = xstrndup(entry, strrchr(entry, '.') - entry);
	char *dash = strchr(stem, '-');
	if (dash)
		*dash++ = '\0';
	if (!p->name)
		p->name = xstrdup(stem);
	if (!p->version && dash) {
		/* Of an egg: "1.0-py2.7". */
		char *python = strstr(dash, "-py");
		if (python)
			*python = '\0';
		p->version = xstrdup(dash);
	}
}

static void read_metadata(int dir_fd, const char *name, struct found *p)
{
	_cleanup_text_ struct text head = { 0 };
	if (read_head(dir_fd, name, &head) < 0 || !head.data)
		return;
	p->name = head_value(&head, "Name");
	p->version = head_value(&head, "Version");
}

static void read_direct_url(int dir_fd, struct found *p)
{
	_cleanup_text_ struct text data = { 0 };
	if (place_read(dir_fd, "direct_url.json", URL_FILE_BYTES, &data, NULL) < 0 || !data.data)
		return;
	/* jansson's own limit of depth holds; what is not JSON is passed over. */
	json_auto_t *record = json_loadb(data.data, data.len, 0, NULL);
	p->url = url_of_record(record);
	p->editable = json_is_true(json_object_get(json_object_get(record, "dir_info"), "editable"));
}

static void read_egg_link(int dir_fd, const char *name, struct found *p)
{
	_cleanup_text_ struct text data = { 0 };
	if (place_read(dir_fd, name, URL_FILE_BYTES, &data, NULL) < 0 || !data.data)
		return;
	data.data[strcspn(data.data, "\r\n")] = '\0';
	p->url = url_of_path(data.data);
	p->editable = p->url != NULL;
}

/* --- directories --- */

/* Takes *p. */
static void keep(struct finding *f, struct found *p)
{
	if (p->version && !is_version(p->version)) {
		free(p->version);
		p->version = NULL;
	}
	if (!p->name || !is_name(p->name) || f->count == LIMIT_PACKAGES) {
		found_done(p);
		return;
	}
	p->key = name_key(p->name);
	if ((f->count & (f->count - 1)) == 0)
		f->all = xreallocarray(f->all, f->count ? 2 * f->count : 1, sizeof(*f->all));
	f->all[f->count++] = *p;
}

static void read_entry(void *arg, int site, const char *entry)
{
	struct finding *f = arg;
	static const struct {
		const char *suffix, *file;
	} kinds[] = {
		{ ".dist-info", "METADATA" }, { ".egg-info", "PKG-INFO" }, { ".egg", "EGG-INFO/PKG-INFO" },
	};
	struct found p = { 0 };
	/* pip gives what it is about to replace such a name. */
	if (entry[0] == '~' || entry[0] == '-')
		return;
	if (ends_in(entry, ".egg-link")) {
		read_egg_link(site, entry, &p);
		if (p.editable)
			guess_from_entry(entry, &p);
		keep(f, &p);
		return;
	}
	size_t i = 0;
	while (i < ARRAY_LENGTH(kinds) && !ends_in(entry, kinds[i].suffix))
		i++;
	if (i == ARRAY_LENGTH(kinds))
		return;
	_cleanup_fd_ int dir = place_open(site, entry, O_RDONLY | O_DIRECTORY);
	if (dir >= 0) {
		read_metadata(dir, kinds[i].file, &p);
		read_direct_url(dir, &p);
	} else if (errno != ENOTDIR || i != 1) {
		return;                 /* a link, or a zipped egg, which has its name only */
	} else {
		read_metadata(site, entry, &p);
		if (!p.name) {
			found_done(&p);
			return;
		}
	}
	guess_from_entry(entry, &p);
	keep(f, &p);
}

/* What is not there, or a link, has nothing in it; all else is trouble. */
static bool is_absent(void)
{
	return errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
}

/* Calls for each entry's name; takes fd, as it was just opened. -1 with errno if it cannot be read to its end. */
static int each_entry(int fd, size_t max, void (*call)(void *arg, int, const char *), void *arg)
{
	if (fd < 0)
		return is_absent() ? 0 : -1;
	DIR *dir = fdopendir(fd);
	int r = 0;
	if (!dir) {
		cleanup_fd(&fd);
		return -1;
	}
	for (struct dirent *e; max > 0 && (e = place_next(dir, &r)); max--)
		if (place_component(e->d_name))
			call(arg, fd, e->d_name);
	int err = errno;
	closedir(dir);
	errno = err;
	return r;
}

struct sites {
	distinfo_site_fn *call;
	void *arg;
	const char *lib;        /* "lib" or "lib64" */
	int error;
};

/* lib/python3.12 and the like. */
static void open_python(void *arg, int lib, const char *name)
{
	struct sites *s = arg;
	if (strncmp(name, "python", 6) != 0 && strncmp(name, "pypy", 4) != 0 && strncmp(name, "graalpy", 7) != 0)
		return;
	_cleanup_fd_ int python = place_open(lib, name, O_PATH | O_DIRECTORY);
	int site = python < 0 ? -1 : place_open(python, "site-packages", O_RDONLY | O_DIRECTORY);
	if (site < 0) {
		s->error = is_absent() ? s->error : errno;
		return;
	}
	_cleanup_free_ char *path = xasprintf("%s/%s/site-packages", s->lib, name);
	s->call(s->arg, site, path);
}

int distinfo_sites(int env_fd, distinfo_site_fn *call, void *arg)
{
	/* lib64 is a link to lib, but where a distribution keeps the two apart. PyPy 2 has neither. */
	static const char *const libs[] = { "lib", "lib64" };
	struct sites s = { .call = call, .arg = arg };
	for (size_t i = 0; i < ARRAY_LENGTH(libs); i++) {
		s.lib = libs[i];
		if (each_entry(place_open(env_fd, libs[i], O_RDONLY | O_DIRECTORY), SITES_MAX * 32, open_python, &s) < 0)
			s.error = errno;
	}
	int site = place_open(env_fd, "site-packages", O_RDONLY | O_DIRECTORY);
	if (site >= 0)
		call(arg, site, "site-packages");
	else if (!is_absent())
		s.error = errno;
	errno = s.error;
	return s.error ? -1 : 0;
}

static void read_site(void *arg, int fd, const char *path)
{
	struct finding *f = arg;
	(void)path;
	if (each_entry(fd, ENTRIES_MAX, read_entry, f) < 0)
		f->error = errno;
}

static int compare(const void *a, const void *b)
{
	const struct found *x = a, *y = b;
	int r = strcmp(x->key, y->key);
	/* The one that says most comes first, and is the one that is told. */
	if (r == 0)
		r = y->editable - x->editable;
	if (r == 0)
		r = (y->url != NULL) - (x->url != NULL);
	return r ? r : (y->version != NULL) - (x->version != NULL);
}

static json_t *to_json(const struct found *p)
{
	json_t *package = json_pack("{ss}", "name", p->name);
	if (p->version)
		json_object_set_new(package, "version", json_string(p->version));
	if (p->url)
		json_object_set_new(package, "directUrl", failure_text(p->url));
	if (p->editable)
		json_object_set_new(package, "editable", json_true());
	return package;
}

json_t *distinfo_read(int env_fd)
{
	struct finding f = { 0 };
	if (distinfo_sites(env_fd, read_site, &f) < 0)
		f.error = errno;
	if (f.count > 0)
		qsort(f.all, f.count, sizeof(*f.all), compare);
	json_t *packages = json_array();
	for (size_t i = 0; i < f.count; i++)
		if (i == 0 || strcmp(f.all[i].key, f.all[i - 1].key) != 0)
			json_array_append_new(packages, to_json(&f.all[i]));
	for (size_t i = 0; i < f.count; i++)
		found_done(&f.all[i]);
	free(f.all);
	errno = f.error;
	if (f.error) {
		json_decref(packages);
		return NULL;
	}
	return packages;
}

/* --- the order --- */

static int open_trashed(const char *entry)
{
	_cleanup_fd_ int trash = place_open(WORKER_FD_STATE, PATH_TRASH, O_PATH | O_DIRECTORY);
	_cleanup_fd_ int in = trash < 0 ? -1 : place_open(trash, entry, O_PATH | O_DIRECTORY);
	return in < 0 ? -1 : place_open(in, PATH_TREE, O_RDONLY | O_DIRECTORY);
}

int do_packages(json_t *order, json_t **ret, struct failure *f)
{
	const char *name = NULL, *entry = NULL, *path = NULL;
	talk_unpack(order, "{s?s, s?s, s?s}", "name", &name, "trash", &entry, "path", &path);
	const char *what = path ? path : entry ? entry : name;
	if (!what || (!path && !place_component(what)))
		return failure_reason(f, ERROR_FAILED, "'%s' is no name", what ? what : "");
	_cleanup_fd_ int env = path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) :
	    entry ? open_trashed(entry) : place_open(WORKER_FD_ROOT, name, O_RDONLY | O_DIRECTORY);
	if (env < 0)
		return failure_errno(f, "cannot look into '%s'", what);
	json_t *packages = distinfo_read(env);
	if (!packages)
		return failure_errno(f, "cannot read what is installed in '%s'", what);
	*ret = json_pack("{so}", "packages", packages);
	return 0;
}
